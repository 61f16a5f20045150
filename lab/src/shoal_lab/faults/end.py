"""One socket of a link, as asyncio's transport: when it may read, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import IntFlag
from typing import Protocol, cast

# On, 0 seconds: closing sends RST instead of FIN, and what is unsent is dropped.
_LINGER_0 = struct.pack("ii", 1, 0)


def reset_on_close(sock: socket.socket) -> None:
    """Let the peer read "connection reset" when *sock* is closed, whatever was going on."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)


class Hold(IntFlag):
    """Why an end does not read."""

    OPENING = 1
    FROZEN = 2
    PEER_FULL = 4
    """The other end's socket takes no more."""
    LINE_FULL = 8
    ENDED = 16
    """End of stream was read; never lifted, since asyncio would read it again."""


class Owner(Protocol):
    """Whom an end reports to."""

    def received(self, end: End, data: bytes) -> None:
        """Bytes came."""

    def ended(self, end: End) -> None:
        """The peer will send no more."""

    def full(self, end: End) -> None:
        """Stop writing for now."""

    def roomy(self, end: End) -> None:
        """Writing may go on."""

    def lost(self, end: End, error: Exception | None) -> None:
        """The socket is closed."""


class End(asyncio.Protocol):
    """Reads only while no reason to hold remains. It starts held, until the other end is there too."""

    __slots__ = ("_finished", "_held", "_owner", "_transport", "is_lost")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._held = Hold.OPENING
        self._finished = False
        self.is_lost = False

    @property
    def is_connected(self) -> bool:
        """Whether there is, or was, a socket."""
        return self._transport is not None

    def hold(self, reason: Hold) -> None:
        """Stop reading, for one reason more."""
        if not self._held and self._transport is not None:
            self._transport.pause_reading()
        self._held |= reason

    def release(self, reason: Hold) -> None:
        """That reason is gone; reads again if it was the last one."""
        if self._held & reason:
            self._held &= ~reason
            if not self._held and self._transport is not None:
                self._transport.resume_reading()

    @property
    def has_ended(self) -> bool:
        """Whether the peer said that it sends no more."""
        return bool(self._held & Hold.ENDED)

    @property
    def has_finished(self) -> bool:
        """Whether the peer was told that we send no more."""
        return self._finished

    def write(self, data: bytes) -> None:
        """Send, or drop if there is nobody any more."""
        if self._transport is not None and not self._finished and not self._transport.is_closing():
            self._transport.write(data)

    def finish(self) -> None:
        """Send no more: the peer reads end of stream, and may go on sending itself."""
        if not self._finished:
            self._finished = True
            if self._transport is not None and not self._transport.is_closing():
                # The peer may have gone a moment ago; asyncio tells so by connection_lost, in its next turn.
                with contextlib.suppress(OSError):
                    self._transport.write_eof()

    def close(self) -> None:
        """Close when everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close at once; the peer reads "connection reset"."""
        if self._transport is not None and not self.is_lost:
            reset_on_close(self._transport.get_extra_info("socket"))
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._held:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._owner.received(self, data)

    def eof_received(self) -> bool:
        self.hold(Hold.ENDED)
        self._owner.ended(self)
        return True  # what the other end still sends goes on to flow

    def pause_writing(self) -> None:
        self._owner.full(self)

    def resume_writing(self) -> None:
        self._owner.roomy(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._owner.lost(self, exc)
