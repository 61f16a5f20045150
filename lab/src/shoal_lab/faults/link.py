"""One connection of a caller, and the one made for it to the target: bytes flow, halt, are late, or end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from shoal_lab.errors import LabError

from .counters import Counters
from .delay_line import DelayLine
from .end import End, Hold
from .fault import Fault
from .wire import Outlets, Wire

logger = logging.getLogger(__name__)

# Room for 5 MB answers to be late by the latency and no more; beyond it the target waits.
LINE_LIMIT = 8 * 2**20


class Link:
    """Two ends. *on_closed* is called when both are gone."""

    def __init__(
        self, *, wire: Callable[[Outlets], Wire], counters: Counters, on_closed: Callable[[Link], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.caller = End(self)
        self.target = End(self)
        self._counters = counters
        self._on_closed = on_closed
        self._line = DelayLine()
        self._timer: asyncio.TimerHandle | None = None
        self._latency = 0.0
        self._frozen = False
        self._wire = wire(self)

    def start(self) -> None:
        """Both ends are connected: let it flow."""
        self.caller.release(Hold.OPENING)
        self.target.release(Hold.OPENING)

    def suffer(self, fault: Fault | None) -> None:
        """Begin, change or (None) end a fault: `down` resets, `hang` freezes, `slow` delays. `errors` is the wire's."""
        kind = fault.kind if fault else None
        if kind == "down":
            self.reset()
            return
        self._freeze(frozen=kind == "hang")
        if kind != "hang":
            self._latency = fault.latency if fault and kind == "slow" else 0.0
            if not self._latency:
                self._line.hasten()
            self._move()

    def reset(self) -> None:
        """Both peers read "connection reset"."""
        self._line.clear()
        self.caller.reset()
        self.target.reset()

    # What the wire does.

    def to_target(self, data: bytes) -> None:
        """Send to the target."""
        self.target.write(data)

    def to_caller(self, data: bytes) -> None:
        """Send to the caller, late if the edge is slow."""
        if not self._latency:  # and so the line is empty
            self.caller.write(data)
            return
        self._delay(data)
        if self._line.size > LINE_LIMIT:
            self.target.hold(Hold.LINE_FULL)

    def finish_caller(self) -> None:
        """Tell the caller that no more will come, after what is on its way."""
        if self._latency:
            self._delay(None)
        else:
            self._finish_caller()

    # What the ends report.

    def received(self, end: End, data: bytes) -> None:
        """Hand bytes to the wire."""
        try:
            if end is self.caller:
                self._counters.bytes_from_caller += len(data)
                self._wire.from_caller(data)
            else:
                self._counters.bytes_from_target += len(data)
                self._wire.from_target(data)
        except LabError as error:
            self._give_up(error)

    def ended(self, end: End) -> None:
        """Pass the end of a stream on; the other direction goes on."""
        if end is self.target:
            self.finish_caller()
            return
        try:
            self._wire.caller_ended()
        except LabError as error:
            self._give_up(error)
        self.target.finish()
        self._close_if_done()

    def full(self, end: End) -> None:
        """An end takes no more: stop reading from the other."""
        self._other(end).hold(Hold.PEER_FULL)

    def roomy(self, end: End) -> None:
        """Read from the other again."""
        self._other(end).release(Hold.PEER_FULL)

    def lost(self, end: End, error: Exception | None) -> None:
        """One end is gone: so is the other, in the same way."""
        other = self._other(end)
        if other.is_lost:
            self._line.clear()
            self._rearm()
            self._on_closed(self)
        elif error is not None:
            other.reset()
        else:
            other.close()

    def _other(self, end: End) -> End:
        return self.target if end is self.caller else self.caller

    def _give_up(self, error: LabError) -> None:
        self._counters.unreadable += 1
        logger.warning("%s", error)
        self.reset()

    def _finish_caller(self) -> None:
        self.caller.finish()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if all(end.has_ended and end.has_finished for end in (self.caller, self.target)):
            self.caller.close()
            self.target.close()

    def _freeze(self, *, frozen: bool) -> None:
        self._frozen = frozen
        for end in (self.caller, self.target):
            if frozen:
                end.hold(Hold.FROZEN)
            else:
                end.release(Hold.FROZEN)

    # The delay line.

    def _delay(self, chunk: bytes | None) -> None:
        self._line.put(chunk, due=self._loop.time() + self._latency)
        if self._timer is None:
            self._rearm()

    def _move(self) -> None:
        """Send what is due. A caller that does not read holds the target, so that the line bounds what waits here."""
        now = self._loop.time()
        while not self._frozen and self._line.ready(now=now):
            chunk = self._line.take()
            if chunk is None:
                self._finish_caller()
            else:
                self.caller.write(chunk)
        if self._line.size <= LINE_LIMIT // 2:
            self.target.release(Hold.LINE_FULL)
        self._rearm()

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._line and not self._frozen:
            self._timer = self._loop.call_at(self._line.due, self._move)
