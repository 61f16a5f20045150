"""e: somebody sets the clock on the wall."""

from __future__ import annotations

import asyncio
import datetime as dt
import time

from benchmarks.libraries import Library, Settings

from .scenario import (
    BREAKER,
    NOT_APPLICABLE,
    Scenario,
    Verdict,
    async_way,
    in_a_loop,
    reaches,
    reaches_async,
    sync_way,
    trip,
    trip_async,
    verdict,
)

HOUR = 3600.0


class WallClock:
    """Stands in for `time.time` and `datetime.now` of everything imported after it was hung up.

    The monotonic clock goes on as it is, as it would.
    """

    def __init__(self) -> None:
        self.wrong_by = 0.0

    def hang_up(self) -> None:
        """Replace what the standard library offers, for this process."""
        clock, right = self, time.time

        class Shifted(dt.datetime):
            @classmethod
            def now(cls, tz: dt.tzinfo | None = None) -> Shifted:
                return cls.fromtimestamp(right() + clock.wrong_by, tz)

            @classmethod
            def utcnow(cls) -> Shifted:
                return cls.now(dt.UTC).replace(tzinfo=None)

        time.time = lambda: right() + clock.wrong_by
        dt.datetime = Shifted  # type: ignore[misc]


WALL_CLOCK = WallClock()


async def e(library: Library) -> Verdict:
    back = await _set_by(library, -HOUR)
    forward = await _set_by(library, HOUR)
    if back is None or forward is None:
        return NOT_APPLICABLE
    (_, reached_later), (reached_at_once, _) = back, forward
    wrong = []
    if not reached_later:
        wrong.append("open an hour too long")
    if reached_at_once:
        wrong.append("not at all")
    return verdict(", or ".join(wrong) or "ok", ok=not wrong)


async def _set_by(library: Library, seconds: float) -> tuple[bool, bool] | None:
    """Whether a call gets through at once after the clock was set, and after the pause."""
    settings = Settings()
    way, waited = sync_way(library, BREAKER, settings), async_way(library, BREAKER, settings)
    if way is not None:
        trip(way, settings)
    elif waited is not None:
        await trip_async(waited, settings)
    else:
        return None
    WALL_CLOCK.wrong_by += seconds
    answers = []
    for pause in (0.0, settings.open_for + 0.05):
        await asyncio.sleep(pause)
        if way is not None:
            answers.append(reaches(way))
        elif waited is not None:
            answers.append(await reaches_async(waited))
    WALL_CLOCK.wrong_by -= seconds
    return answers[0], answers[1]


SCENARIOS = (
    Scenario(
        name="e",
        situation="the wall clock is set back, or forward, by an hour while the breaker is open",
        correct="no effect",
        run=in_a_loop(e),
    ),
)
