"""What stands between the two ends of a link and reads along."""

from __future__ import annotations

from typing import Protocol

from shoal_lab.errors import LabError


class Outlets(Protocol):
    """Where a wire sends; a link is one."""

    def to_target(self, data: bytes) -> None:
        """Send to the target."""

    def to_caller(self, data: bytes) -> None:
        """Send to the caller."""

    def finish_caller(self) -> None:
        """Tell the caller that no more will come."""


class Wire(Protocol):
    """Takes what comes from either side, and decides what goes to which outlet.

    Each method may raise `LabError` when it has lost the thread; the connection is then reset.
    """

    def from_caller(self, data: bytes) -> None:
        """Bytes came from the caller."""

    def from_target(self, data: bytes) -> None:
        """Bytes came from the target."""

    def caller_ended(self) -> None:
        """The caller sends no more: pass on what was kept back."""


class Plain:
    """A wire that reads nothing and passes everything on."""

    __slots__ = ("from_caller", "from_target")

    def __init__(self, outlets: Outlets) -> None:
        self.from_caller = outlets.to_target
        self.from_target = outlets.to_caller

    def caller_ended(self) -> None:
        """Nothing was kept back."""


class UnreadableError(LabError):
    """The bytes on this wire do not follow its protocol."""
