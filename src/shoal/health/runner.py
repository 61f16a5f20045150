"""Runs the checks in the background, so that probes and documents answer from memory."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable

from shoal._clock import SYSTEM_CLOCK, Clock

from .call import CheckCall
from .checks import Check
from .reading import CheckReading

log = logging.getLogger(__name__)

# Until a check has succeeded once, somebody may be waiting for it: it is asked this soon again, then ever later.
_EAGER = 0.25
_JITTER = 0.2


class CheckRunner:
    """All checks of a service, each at its own pace.

    `readings` has one `CheckReading` per check by name, from the start. The first sample is taken at once. A check that
    hangs, leaks or raises whatever it likes delays no other; while one of its calls hangs it is not called again.
    *on_result* hears of each result: the check's name, and the error in a few words or `None`.
    """

    def __init__(
        self,
        checks: Iterable[Check],
        *,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        on_result: Callable[[str, str | None], None] | None = None,
    ) -> None:
        self._checks = {check.name: check for check in checks}
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311  spreads load, keeps no secret
        self._on_result = on_result
        self._calls: dict[str, CheckCall] = {}
        self.readings = {
            name: CheckReading(
                stale_after=check.stale_after,
                failures_before_down=check.failures_before_down,
                successes_before_up=check.successes_before_up,
            )
            for name, check in self._checks.items()
        }

    async def run(self) -> None:
        """Sample until cancelled; calls that are under way then are cancelled too, and not waited for."""
        await asyncio.gather(*(self._keep_sampling(check) for check in self._checks.values()))

    async def sample(self, name: str) -> None:
        """Run one check now and record what came of it. Raises KeyError for a name that was not given."""
        check, reading = self._checks[name], self.readings[name]
        began = self._clock.now()
        error = await self._outcome(check)
        now = self._clock.now()
        if error is None:
            reading.succeeded(now=now, took=now - began)
        else:
            reading.failed(error, now=now, took=now - began)
        if self._on_result is not None:
            self._on_result(name, error)

    def pause(self, name: str) -> float:
        """Seconds until the check is due again: its period, sooner while it has never succeeded; never exact."""
        check, reading = self._checks[name], self.readings[name]
        pause = check.every
        if not reading.successes:
            # The exponent has a bound because an outage may have none.
            pause = min(pause, _EAGER * 2 ** min(max(reading.failures - 1, 0), 10))
        return pause * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    async def _keep_sampling(self, check: Check) -> None:
        while True:
            try:
                if check.needed():
                    await self.sample(check.name)
            except Exception:
                log.exception("check %s could not be run; it is tried again", check.name)
            await asyncio.sleep(self.pause(check.name))

    async def _outcome(self, check: Check) -> str | None:
        previous = self._calls.get(check.name)
        if previous is not None and previous.hanging:
            return f"no answer within {check.timeout:g} s, and the call still hangs"
        call = self._calls[check.name] = CheckCall(check)
        return await call.outcome(timeout=check.timeout)
