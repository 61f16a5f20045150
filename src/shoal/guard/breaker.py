"""Whether a dependency may be called at all, judged by what calls to it returned."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .window import Window

BreakerState: TypeAlias = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerSettings:
    """When a breaker opens, for how long, and what closes it again. All durations in seconds.

    It opens when at least *failure_ratio* of at least *minimum_calls* attempts of the last *window* seconds failed, or
    after *consecutive* failures without a success between them that span at least *consecutive_over* seconds (so that
    a burst of one instant proves nothing). It stays open for *open_for* seconds, doubled for each time it opens again
    before closing, up to *longest_open*; half of that is jitter. Then it lends out *trials* trial calls; with
    *successes_to_close* successes it closes, with so many failures that these cannot be reached it opens again. One
    not heard of for *lease* seconds (default: *open_for* or the guard's timeout, whichever is longer) is lent again.

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


class Breaker:
    """Decides who may call. Not thread-safe by itself: Guard owns it.

    Whoever is admitted gets a ticket and reports with it. A ticket from before a change of state proves nothing about
    the state after it (App-vNext/Polly#217), so late reports change nothing.

    >>> breaker = Breaker(BreakerSettings(consecutive=1, consecutive_over=0.0), rng=random.Random(1))
    >>> breaker.failed(breaker.admit(0.0), 0.0)
    >>> breaker.state, breaker.admit(1.0)
    ('open', None)
    """

    __slots__ = (
        "_failures",
        "_lease",
        "_leases",
        "_next_pause",
        "_opens_at",
        "_rng",
        "_serial",
        "_settings",
        "_streak",
        "_streak_began",
        "_successes",
        "closed_ticket",
        "state",
        "transitions",
        "window",
    )

    def __init__(self, settings: BreakerSettings | None = None, *, rng: random.Random, timeout: float = 0.0) -> None:
        self._settings = settings = settings or BreakerSettings()
        self._rng = rng
        self._lease = max(settings.open_for, timeout) if settings.lease is None else settings.lease
        self.window = Window(seconds=settings.window, buckets=settings.buckets)
        self.transitions: dict[BreakerState, int] = {"closed": 0, "open": 0, "half-open": 0}
        self.state: BreakerState
        # What all are admitted with while the breaker is closed; None otherwise. One attribute, so that a thread can
        # test and take it in one step.
        self.closed_ticket: int | None
        self._serial = 0
        self._opens_at = 0.0
        # When each trial that is out must be back.
        self._leases: dict[int, float]
        self._successes: int
        self._failures: int
        self._next_pause: float
        self._streak: int
        self._streak_began: float
        self._become_closed()

    def admit(self, now: float) -> int | None:
        """A ticket for one attempt at time *now*, or None: the dependency must not be contacted."""
        if self.closed_ticket is not None:
            return self.closed_ticket
        if self.state == "open":
            if now < self._opens_at:
                return None
            self._become_half_open()
        for ticket in [ticket for ticket, ends in self._leases.items() if ends <= now]:
            del self._leases[ticket]
        if len(self._leases) + self._successes + self._failures >= self._settings.trials:
            return None
        self._serial += 1
        self._leases[self._serial] = now + self._lease
        return self._serial

    def succeeded(self, ticket: int, now: float) -> None:
        """The attempt with this ticket got a timely answer."""
        if ticket == self.closed_ticket:
            window = self.window
            if now >= window.ends:
                window.advance(now)
            window.first[window.at] += 1
            self._streak = 0
        elif self._leases.pop(ticket, None) is not None:
            self._successes += 1
            if self._successes >= self._settings.successes_to_close:
                self.transitions["closed"] += 1
                self._become_closed()
                # The trials are all that is known of the time since; a health of "unknown" would be untrue.
                self.window.advance(now)
                self.window.first[self.window.at] += self._settings.successes_to_close

    def failed(self, ticket: int, now: float) -> None:
        """The attempt with this ticket failed."""
        if ticket == self.closed_ticket:
            self.window.advance(now)
            self.window.second[self.window.at] += 1
            if self._streak == 0:
                self._streak_began = now
            self._streak += 1
            if self._too_many(now):
                self._become_open(now)
        elif self._leases.pop(ticket, None) is not None:
            self._failures += 1
            if self._failures > self._settings.trials - self._settings.successes_to_close:
                self._become_open(now)

    def abandoned(self, ticket: int) -> None:
        """The attempt with this ticket ended without a verdict: cancelled, or the caller's own mistake.

        Without this the breaker would stay half-open until the lease ends.
        """
        self._leases.pop(ticket, None)

    def retry_after(self, now: float) -> float:
        """Seconds until another attempt may be admitted, if nothing is heard of those that are out."""
        if self.state == "open":
            return max(0.0, self._opens_at - now)
        # One loop in C over floats: no other thread changes the leases meanwhile, so a rejection needs no lock.
        return max(0.0, min(self._leases.values(), default=now) - now)

    def _too_many(self, now: float) -> bool:
        settings = self._settings
        if self._streak >= settings.consecutive and now - self._streak_began >= settings.consecutive_over:
            return True
        good, bad = self.window.totals(now)
        return good + bad >= settings.minimum_calls and bad >= settings.failure_ratio * (good + bad)

    def _become_open(self, now: float) -> None:
        pause = self._next_pause
        self._next_pause = min(self._settings.longest_open, 2 * pause)
        # Equal jitter: half of the pause is certain, so that a crowd of pods neither returns at once nor too early.
        self._opens_at = now + pause / 2 + self._rng.random() * pause / 2
        self._leases = {}
        self.closed_ticket = None
        self.state = "open"
        self.transitions["open"] += 1

    def _become_half_open(self) -> None:
        self._leases = {}
        self._successes = self._failures = 0
        self.state = "half-open"
        self.transitions["half-open"] += 1

    def _become_closed(self) -> None:
        self._leases = {}
        self._successes = self._failures = 0
        self._next_pause = self._settings.open_for
        self._streak = 0
        self._streak_began = 0.0
        self.window.clear()
        self._serial += 1
        self.state = "closed"
        # Last: whoever sees it sees the rest closed as well.
        self.closed_ticket = self._serial
