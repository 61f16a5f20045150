"""What the tests of guards share: a clock, guards that never really sleep, and an event loop whose time jumps."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from shoal.guard import Guard
from shoal.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0, wall=1_800_000_000.0)


@pytest.fixture
def make_guard(clock: ManualClock) -> Callable[..., Guard]:
    """Guards on the manual clock; their waits move it, and every draw of jitter is reproducible."""

    async def async_sleep(seconds: float) -> None:
        clock.advance(seconds)
        await asyncio.sleep(0)

    def make(name: str = "auth", **settings: Any) -> Guard:
        defaults: dict[str, Any] = {
            "timeout": 1.0,
            "clock": clock,
            "rng": random.Random(7),
            "sleep": clock.advance,
            "async_sleep": async_sleep,
        }
        return Guard(name, **(defaults | settings))

    return make


class _JumpingSelector(selectors.DefaultSelector):
    """Where a real one would wait for a timer, the time is simply there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "the loop would wait for ever: nothing is scheduled"
            self.now += timeout
        return events


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def jump(self, seconds: float) -> None:
        self._jumping.now += seconds


@pytest.fixture
def jumping() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine on a loop whose time passes only when there is nothing else to do: hours take no time."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
            runner.run(main)

    return run


@pytest.fixture
def stall() -> Callable[[float], None]:
    """Makes the running jumping loop late, as a handler does that computes for so many seconds."""

    def stall(seconds: float) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _JumpingLoop)
        loop.jump(seconds)

    return stall


class _LoopClock:
    def now(self) -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            # A guard is made before the loop runs, whose time begins at 0.
            return 0.0

    def wall(self) -> float:
        return 1_800_000_000.0 + self.now()


@pytest.fixture
def loop_clock() -> _LoopClock:
    """A clock that shows the time of the running loop, for guards on a jumping one."""
    return _LoopClock()
