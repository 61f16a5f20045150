"""Whether threads of this interpreter run Python code at the same time."""

from __future__ import annotations

import sys
from collections.abc import Callable


def gil_is_off() -> bool:
    """Then every step of a guard takes its lock, which costs 0.1 to 0.2 us a call.

    Under the GIL the steps on the hot path are safe without: none calls anything between reading a number and writing
    it back, and the interpreter switches threads only at calls and backward jumps.
    """
    is_enabled: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return is_enabled is not None and not is_enabled()
