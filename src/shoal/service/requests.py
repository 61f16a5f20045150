"""One request of a journey: admitted or shed, and counted at its end."""

from __future__ import annotations

from shoal._clock import Clock
from shoal._events import begin_trail, end_trail

from .journey import Journey
from .measures import Measures
from .outcome import DEADLINE, OVERLOAD, Outcome, judge


class InFlight:
    """How many requests are being served, of at most how many."""

    __slots__ = ("limit", "now")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.now = 0


class JourneyRequest:
    """A request that `Service.begin` has let in, or not: when `shed` answer 503, when `late` 504, and do no more.

    Otherwise `end` must be called, once, in the context that called `begin`.
    """

    __slots__ = ("_began", "_clock", "_in_flight", "_measures", "_token", "_trail", "journey", "late", "shed")

    def __init__(
        self, journey: Journey, *, in_flight: InFlight, measures: Measures, clock: Clock, timeout: float | None
    ) -> None:
        self.journey = journey
        self.late = timeout is not None and timeout <= 0
        """Whether nobody waits for the answer any more."""
        self._in_flight = in_flight
        self._measures = measures
        self._clock = clock
        self.shed = not self.late and in_flight.limit is not None and in_flight.now >= in_flight.limit
        if self.late:
            measures.request(journey.name, "failed", DEADLINE, seconds=None)
            return
        if self.shed:
            measures.request(journey.name, "shed", OVERLOAD, seconds=None)
            return
        in_flight.now += 1
        self._began = clock.now()
        self._trail, self._token = begin_trail()

    @property
    def must_not_be_repeated(self) -> bool:
        """Whether it failed by a dependency that was asked again already: a retry of the caller's would be too many."""
        return any(dependency in self._trail.retried for dependency in self._trail.failed)

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
