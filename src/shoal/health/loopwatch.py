"""Watches the event loop from outside: since when it stands still, and in which line."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
from types import FrameType

from shoal._clock import SYSTEM_CLOCK, Clock

from .liveness import Heartbeat, Symptom

# Four wake-ups a second; a stall is told from a busy moment by REPORT_AFTER, so more would show nothing new.
INTERVAL = 0.25
REPORT_AFTER = 1.0

_STDLIB = sysconfig.get_path("stdlib")
_LOOP = frozenset({"_run", "_run_once", "run_forever", "run_until_complete", "run"})


class LoopWatch:
    """A heartbeat that the event loop beats itself, to be read from another thread.

    A loop that stands still is reported after one second, with the file, line and function it stands in; it is
    *fatal* only after *fail_after* seconds, since a long turn can be legitimate and a restart is not free. While C code
    holds the GIL no thread of this process can look, so such a stall is seen only when it is over. Raises ValueError
    unless *fail_after* is above 0.
    """

    __slots__ = ("_heartbeat", "_thread")

    def __init__(self, *, fail_after: float = 10.0, clock: Clock = SYSTEM_CLOCK) -> None:
        self._heartbeat = Heartbeat("event loop", stalled_after=fail_after, clock=clock)
        self._thread: int | None = None

    async def run(self) -> None:
        """Beat on the running loop until cancelled."""
        self._thread = threading.get_ident()
        try:
            while True:
                self._heartbeat.beat()
                await asyncio.sleep(INTERVAL)
        finally:
            self._thread = None

    def symptom(self) -> Symptom | None:
        """The stall, if there is one now; `None` too while no loop is being watched."""
        thread, age = self._thread, self._heartbeat.age
        if thread is None or age <= min(REPORT_AFTER, self._heartbeat.stalled_after):
            return None
        frame = sys._current_frames().get(thread)
        if frame is not None and _waits_for_work(frame):
            # Late, but not stuck: the process was suspended, or other threads would not let go of the GIL.
            return None
        text = f"event loop stalled for {age:.1f} s" + ("" if frame is None else f" at {_place(frame)}")
        return Symptom(text, fatal=age > self._heartbeat.stalled_after)


def _place(innermost: FrameType) -> str:
    # The innermost frame outside the standard library: who slept, rather than the place in which sleeping is done.
    frame: FrameType | None = innermost
    while frame is not None and _is_stdlib(frame):
        # Below the loop's own frames is whoever started it, and that is not who blocks it.
        frame = None if _is_loop(frame) else frame.f_back
    found = frame or innermost
    return f"{found.f_code.co_filename}:{found.f_lineno} in {found.f_code.co_qualname}"


def _waits_for_work(frame: FrameType) -> bool:
    caller = frame.f_back
    return frame.f_code.co_name == "select" and caller is not None and caller.f_code.co_name == "_run_once"


def _is_stdlib(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith("<frozen") or (name.startswith(_STDLIB) and "site-packages" not in name)


def _is_loop(frame: FrameType) -> bool:
    return frame.f_code.co_name in _LOOP and "asyncio" in frame.f_code.co_filename
