"""One request of a journey: admitted or shed, and counted at its end."""

from __future__ import annotations

from shoal._clock import Clock
from shoal._events import begin_trail, end_trail

from .journey import Journey
from .measures import Measures
from .outcome import OVERLOAD, Outcome, judge


class InFlight:
    """How many requests are being served, of at most how many."""

    __slots__ = ("limit", "now")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.now = 0


class JourneyRequest:
    """A request that `Service.begin` has let in, or not: when `shed`, answer 503 and do no more.

    Otherwise `end` must be called, once, in the context that called `begin`.
    """

    __slots__ = ("_began", "_clock", "_in_flight", "_measures", "_token", "_trail", "journey", "shed")

    def __init__(self, journey: Journey, *, in_flight: InFlight, measures: Measures, clock: Clock) -> None:
        self.journey = journey
        self._in_flight = in_flight
        self._measures = measures
        self._clock = clock
        self.shed = in_flight.limit is not None and in_flight.now >= in_flight.limit
        if self.shed:
            measures.request(journey.name, "shed", OVERLOAD, seconds=None)
            return
        in_flight.now += 1
        self._began = clock.now()
        self._trail, self._token = begin_trail()

    def end(self, *, status: int | None, error: BaseException | None = None) -> tuple[Outcome, str]:
        """Count it: *status* is what was sent, if anything was, *error* what the application raised.

        Returns the outcome and its cause.
        """
        end_trail(self._token)
        self._in_flight.now -= 1
        outcome, cause = judge(
            status=status,
            error=error,
            trail=self._trail,
            needs=[dependency.name for dependency in self.journey.needs],
            better_with=[dependency.name for dependency in self.journey.better_with],
        )
        self._measures.request(self.journey.name, outcome, cause, seconds=self._clock.now() - self._began)
        return outcome, cause
