"""Whether a dependency may be called at all, judged by what calls to it returned."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .cells import Cells
from .transition import BreakerState, Transition
from .window import Window


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerSettings:
    """When a breaker opens, for how long, and what closes it again. All durations in seconds.

    It opens when at least *failure_ratio* of at least *minimum_calls* attempts of the last *window* seconds failed, or
    after *consecutive* failures without a success between them that span at least *consecutive_over* seconds (so that
    a burst of one instant proves nothing). With *slow_after* set, also when *slow_ratio* of at least *minimum_calls*
    attempts took that many seconds or more, whatever came of them. It stays open for *open_for* seconds, doubled for
    each time it opens again before closing, up to *longest_open*; half of that is jitter. Then it lends out *trials*
    trial calls; with *successes_to_close* successes it closes, with so many failures that these cannot be reached it
    opens again. One not heard of for *lease* seconds (default: *open_for* or the guard's timeout, whichever is longer)
    is lent again.

    Sources: 30 s and a ratio from Finagle, Polly and Envoy; a time window because a count window holds on to old
    successes for minutes at low traffic; three trials because one is too few (App-vNext/Polly#2381); leases because a
    trial that never reports leaves a breaker half-open for ever (resilience4j#935). Raises ValueError, saying which
    value is wrong and what would do.
    """

    window: float = 30.0
    buckets: int = 10
    failure_ratio: float = 0.5
    minimum_calls: int = 20
    consecutive: int = 10
    consecutive_over: float = 1.0
    slow_after: float | None = None
    slow_ratio: float = 0.8
    open_for: float = 5.0
    longest_open: float = 60.0
    trials: int = 3
    successes_to_close: int = 2
    lease: float | None = None

    def __post_init__(self) -> None:
        if not self.window > 0 or self.buckets < 1:
            raise ValueError(f"window must be above 0 seconds in 1 bucket or more, got {self.window}, {self.buckets}")
        if not 0 < self.failure_ratio <= 1:
            raise ValueError(f"failure_ratio must be above 0 and at most 1, got {self.failure_ratio}")
        if self.minimum_calls < 1 or self.consecutive < 1 or not self.consecutive_over >= 0:
            raise ValueError(
                f"minimum_calls and consecutive must be at least 1 and consecutive_over at least 0 seconds, "
                f"got {self.minimum_calls}, {self.consecutive} and {self.consecutive_over}"
            )
        if self.slow_after is not None and not self.slow_after > 0:
            raise ValueError(f"slow_after must be above 0 seconds, or None, got {self.slow_after}")
        if not 0 < self.slow_ratio <= 1:
            raise ValueError(f"slow_ratio must be above 0 and at most 1, got {self.slow_ratio}")
        if not 0 < self.open_for <= self.longest_open:
            raise ValueError(
                f"open_for must be above 0 and at most longest_open, got {self.open_for} and {self.longest_open}"
            )
        if not 1 <= self.successes_to_close <= self.trials:
            raise ValueError(
                f"successes_to_close must be at least 1 and at most trials, "
                f"got {self.successes_to_close} of {self.trials}"
            )
        if self.lease is not None and not self.lease > 0:
            raise ValueError(f"lease must be above 0 seconds, or None, got {self.lease}")


_NONE: Any = MappingProxyType({})


class Breaker:
    """Decides who may call. Not thread-safe by itself: Guard owns it.

    Whoever is admitted gets a ticket and reports with it. A ticket from before a change of state proves nothing about
    the state after it (App-vNext/Polly#217), so late reports change nothing. Answers are counted in the cells, by the
    drivers themselves as long as all goes well; *news* are the changes of state that nobody has been told of yet.

    >>> breaker = Breaker(BreakerSettings(consecutive=1, consecutive_over=0.0), Cells(), rng=random.Random(1))
    >>> breaker.failed(breaker.admit(0.0), 0.0)
    >>> breaker.state, breaker.admit(1.0)
    ('open', None)
    """

    __slots__ = (
        "_answered_at_failure",
        "_cells",
        "_failed",
        "_failures",
        "_lease",
        "_leases",
        "_next_pause",
        "_rng",
        "_serial",
        "_settings",
        "_slow",
        "_streak",
        "_streak_began",
        "_successes",
        "changes",
        "closed_ticket",
        "news",
        "opens_at",
        "since",
        "state",
        "window",
    )

    def __init__(
        self, settings: BreakerSettings, cells: Cells, *, rng: random.Random, timeout: float = 0.0, now: float = 0.0
    ) -> None:
        self._settings = settings
        self._cells = cells
        self._rng = rng
        self._failed = 0
        self._slow = 0
        self._lease = max(settings.open_for, timeout) if settings.lease is None else settings.lease
        self.window = Window(seconds=settings.window, buckets=settings.buckets, series=len(self._counts))
        self.state: BreakerState = "closed"
        self.since = now
        """When it came to be in this state."""
        # Guards are many and most of their breakers never open: what those do not need is one and the same for all.
        self.changes: Mapping[BreakerState, int] = _NONE
        """How often it came to be in each state."""
        self.news: tuple[Transition, ...] = ()
        # What all are admitted with while the breaker is closed; None otherwise.
        self.closed_ticket: int | None = 1
        self._serial = 1
        self.opens_at = 0.0
        """While it is open: when trials begin."""
        # When each trial that is out must be back.
        self._leases: dict[int, float] = _NONE
        self._successes = 0
        self._failures = 0
        self._next_pause = settings.open_for
        self._streak = 0
        self._streak_began = 0.0
        self._answered_at_failure = 0

    def admit(self, now: float) -> int | None:
        """A ticket for one attempt at time *now*, or None: the dependency must not be contacted."""
        if self.closed_ticket is not None:
            return self.closed_ticket
        if self.state == "open":
            if now < self.opens_at:
                return None
            self._become_half_open(now)
        for ticket in [ticket for ticket, ends in self._leases.items() if ends <= now]:
            del self._leases[ticket]
        if len(self._leases) + self._successes + self._failures >= self._settings.trials:
            return None
        self._serial += 1
        self._leases[self._serial] = now + self._lease
        return self._serial

    def succeeded(self, ticket: int, now: float, *, took: float = 0.0) -> bool:
        """The attempt with this ticket got an answer after *took* seconds. Whether that counts here."""
        settings = self._settings
        slow = settings.slow_after is not None and took >= settings.slow_after
        if ticket == self.closed_ticket:
            self.advance(now)
            self._cells.answer(took)
            if slow:
                self._slow += 1
                self._judge(now)
            return True
        if ticket not in self._leases:
            return False
        del self._leases[ticket]
        self._cells.answer(took)
        if slow:
            self._trial_failed(now, "a trial call was slow")
        else:
            self._successes += 1
            if self._successes >= settings.successes_to_close:
                self._become_closed(now)
        return True

    def failed(self, ticket: int, now: float, *, took: float = 0.0) -> None:
        """The attempt with this ticket failed after *took* seconds."""
        if ticket == self.closed_ticket:
            self.advance(now)
            self._failed += 1
            if self._settings.slow_after is not None and took >= self._settings.slow_after:
                self._slow += 1
            if self._streak == 0 or self._cells.answered != self._answered_at_failure:
                self._streak = 0
                self._streak_began = now
                self._answered_at_failure = self._cells.answered
            self._streak += 1
            self._judge(now)
        elif ticket in self._leases:
            del self._leases[ticket]
            self._trial_failed(now, "a trial call failed")

    def abandoned(self, ticket: int) -> None:
        """The attempt with this ticket ended without a verdict: cancelled, or the caller's own mistake.

        Without this the breaker would stay half-open until the lease ends.
        """
        if ticket in self._leases:
            del self._leases[ticket]

    def advance(self, now: float) -> None:
        """Move the window on, before more is counted."""
        self.window.advance(now, *self._counts)

    def recent(self, now: float) -> tuple[int, int, int]:
        """How many attempts of the window were answered, how many failed, and how many of all were slow."""
        good, bad, *slow = self.window.since(now, *self._counts)
        return good, bad, slow[0] if slow else 0

    def heard_of(self, now: float, *, seconds: float) -> int:
        """How many attempts of the last so many seconds were answered or failed, as far back as the window goes."""
        good, bad, *_ = self.window.since(now, *self._counts, seconds=seconds)
        return good + bad

    def retry_after(self, now: float) -> float:
        """Seconds until another attempt may be admitted, if nothing is heard of those that are out."""
        if self.state == "open":
            return max(0.0, self.opens_at - now)
        return max(0.0, min(self._leases.values(), default=now) - now)

    @property
    def _counts(self) -> tuple[int, ...]:
        counts = (self._cells.answered, self._failed)
        return counts if self._settings.slow_after is None else (*counts, self._slow)

    def _judge(self, now: float) -> None:
        settings = self._settings
        if self._streak >= settings.consecutive and now - self._streak_began >= settings.consecutive_over:
            self._become_open(now, f"{self._streak} attempts in a row failed")
            return
        good, bad, slow = self.recent(now)
        calls = good + bad
        if calls < settings.minimum_calls:
            return
        if bad >= settings.failure_ratio * calls:
            self._become_open(now, f"{bad} of {calls} attempts in {settings.window:g} s failed")
        elif settings.slow_after is not None and slow >= settings.slow_ratio * calls:
            reason = f"{slow} of {calls} attempts in {settings.window:g} s took {settings.slow_after:g} s or more"
            self._become_open(now, reason)

    def _trial_failed(self, now: float, reason: str) -> None:
        self._failures += 1
        if self._failures > self._settings.trials - self._settings.successes_to_close:
            self._become_open(now, reason)

    def _become_open(self, now: float, reason: str) -> None:
        jitter = self._rng.random()
        if self.state == "open":
            # Whatever ran in the middle of that, a finaliser that called the same dependency, has opened it.
            return
        pause = self._next_pause
        self._next_pause = min(self._settings.longest_open, 2 * pause)
        # Equal jitter: half of the pause is certain, so that a crowd of pods neither returns at once nor too early.
        self.opens_at = now + pause / 2 + jitter * pause / 2
        self._leases = _NONE
        self.closed_ticket = None
        self._enter("open", now, reason)

    def _become_half_open(self, now: float) -> None:
        self._leases = {}
        self._successes = self._failures = 0
        self._enter("half-open", now, "the pause is over")

    def _become_closed(self, now: float) -> None:
        trials, self._leases = self._successes, _NONE
        self._next_pause = self._settings.open_for
        self._streak = 0
        # The trials are all that is known of the time since; without them health would be "unknown", which is untrue.
        answered, *others = self._counts
        self.window.restart(now, answered - trials, *others)
        self._serial += 1
        self._enter("closed", now, f"{trials} trial calls were answered")
        # Last: whoever sees it sees the rest closed as well.
        self.closed_ticket = self._serial

    def _enter(self, state: BreakerState, now: float, reason: str) -> None:
        lasted = max(0.0, now - self.since)
        self.news = (*self.news, Transition(before=self.state, after=state, at=now, lasted=lasted, reason=reason))
        self.changes = {**self.changes, state: self.changes.get(state, 0) + 1}
        self.state = state
        self.since = now
