"""What is read elsewhere at each scrape: guards, checks, readiness, the declaration. Nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from shoal.guard import BreakerState, Guard
from shoal.health import Check, CheckReading
from shoal.metrics import Family, Registry

from .dependency import Dependency
from .journey import Journey
from .state import State

_CALLS = ("success", "success_after_retry", "exhausted", "non_retryable", "timeout", "rejected", "cancelled")
_ATTEMPTS = ("ok", "error", "timeout")
_STATES: Mapping[str, BreakerState] = {"closed": "closed", "open": "open", "half_open": "half-open"}

_Row = tuple[tuple[str, ...], float]


def _each(name: str, text: str) -> Family:
    return Family(name, "counter" if name.endswith("_total") else "gauge", text, ("dependency",))


def _by(label: str, name: str, text: str) -> Family:
    return Family(name, "counter" if name.endswith("_total") else "gauge", text, ("dependency", label))


_OF_A_GUARD: tuple[tuple[Family, Callable[[Guard], float | None]], ...] = (
    (
        _each("shoal_dependency_backoff_seconds_total", "Time spent waiting between attempts."),
        lambda guard: guard.counters.backoff_seconds,
    ),
    (
        _each("shoal_dependency_retries_denied_total", "Retries that the budget did not pay for."),
        lambda guard: guard.counters.retries_denied,
    ),
    (
        _each("shoal_dependency_stale_answers_total", "Calls answered with an earlier answer."),
        lambda guard: guard.counters.stale_served,
    ),
    (
        _each("shoal_dependency_fallback_answers_total", "Calls answered with what was declared for that case."),
        lambda guard: guard.counters.fallback_served,
    ),
    (
        _each("shoal_dependency_orphans_total", "Attempts that went on when their time was over."),
        lambda guard: guard.counters.orphans,
    ),
    (_each("shoal_dependency_inflight", "Attempts in flight."), lambda guard: guard.in_flight),
    (
        _each("shoal_dependency_inflight_limit", "Attempts allowed in flight; missing where any number is."),
        lambda guard: guard.limit,
    ),
    (
        _each("shoal_retry_budget_remaining_ratio", "Share of the retry budget that is left."),
        lambda guard: guard.budget_remaining,
    ),
)

_OF_A_GUARD_BY_LABEL: tuple[tuple[Family, Callable[[Guard], Mapping[str, float]]], ...] = (
    (
        _by("outcome", "shoal_dependency_calls_total", "Calls by how they ended, retries included."),
        lambda guard: {outcome: getattr(guard.counters, f"calls_{outcome}") for outcome in _CALLS},
    ),
    (
        _by("outcome", "shoal_dependency_attempts_total", "Single tries by how they ended."),
        lambda guard: {outcome: getattr(guard.counters, f"attempts_{outcome}") for outcome in _ATTEMPTS},
    ),
    (
        _by("reason", "shoal_dependency_rejections_total", "Calls that were not made, by why."),
        lambda guard: {str(reason): count for reason, count in guard.counters.rejected_by.items()},
    ),
    (
        _by("reason", "shoal_dependency_shadow_rejections_total", "Calls that a guard in shadow would not have made."),
        lambda guard: {str(reason): count for reason, count in guard.counters.shadow_rejected_by.items()},
    ),
    (
        _by("error_type", "shoal_dependency_retries_total", "Retries scheduled, by the error that asked for them."),
        lambda guard: {str(kind): count for kind, count in guard.counters.retries_by_error.items()},
    ),
    (
        _by("state", "shoal_breaker_state", "1 for the state the breaker is in."),
        lambda guard: {label: guard.breaker_state == state for label, state in _STATES.items()},
    ),
    (
        _by("to", "shoal_breaker_transitions_total", "Changes of the breaker's state, by the new one."),
        lambda guard: {label: guard.counters.breaker_transitions[state] for label, state in _STATES.items()},
    ),
)

_READY = Family("shoal_ready", "gauge", "1 while readiness passes.", ("workload",))
_EDGES = Family(
    "shoal_journey_dependency_info",
    "gauge",
    "Which journey needs which dependency (hard), or is better with it (soft).",
    ("journey", "dependency", "criticality"),
)
_CHECK_UP = Family("shoal_check_up", "gauge", "1 while the check is up; it gates nothing.", ("check", "kind"))
_CHECK_RESULTS = Family("shoal_check_results_total", "counter", "Runs of the check.", ("check", "result"))
_CHECK_SUCCESS = Family(
    "shoal_check_last_success_timestamp_seconds",
    "gauge",
    "When the check last succeeded, in seconds since 1970; missing until it has.",
    ("check",),
)


def expose(registry: Registry, state: State, *, ready: Callable[[], bool]) -> None:
    """Register the sources; dependencies and journeys declared later are included."""
    clock, dependencies = state.clock, state.dependencies
    registry.source(_READY, lambda: [((state.name,), ready())])
    registry.source(_EDGES, lambda: _edges(state.journeys))
    for family, read in _OF_A_GUARD:
        registry.source(family, _one_row_each(dependencies, read))
    for family, read_all in _OF_A_GUARD_BY_LABEL:
        registry.source(family, _rows_each(dependencies, read_all))
    registry.source(_CHECK_UP, lambda: _check_up(dependencies, now=clock.now()))
    registry.source(_CHECK_RESULTS, lambda: _check_results(dependencies))
    registry.source(_CHECK_SUCCESS, lambda: _check_success(dependencies, ahead=clock.wall() - clock.now()))


def _edges(journeys: Mapping[str, Journey]) -> Iterator[_Row]:
    for journey in list(journeys.values()):
        for criticality, dependencies in (("hard", journey.needs), ("soft", journey.better_with)):
            for dependency in dependencies:
                yield (journey.name, dependency.name, criticality), 1


def _one_row_each(
    dependencies: Mapping[str, Dependency], read: Callable[[Guard], float | None]
) -> Callable[[], Iterator[_Row]]:
    def rows() -> Iterator[_Row]:
        for dependency in list(dependencies.values()):
            if (number := read(dependency.guard)) is not None:
                yield (dependency.name,), number

    return rows


def _rows_each(
    dependencies: Mapping[str, Dependency], read: Callable[[Guard], Mapping[str, float]]
) -> Callable[[], Iterator[_Row]]:
    def rows() -> Iterator[_Row]:
        for dependency in list(dependencies.values()):
            for label, number in read(dependency.guard).items():
                yield (dependency.name, label), number

    return rows


def _checked(dependencies: Mapping[str, Dependency]) -> Iterator[tuple[Check, CheckReading | None]]:
    for dependency in list(dependencies.values()):
        if dependency.checked is not None:
            yield dependency.checked, dependency.reading


def _check_up(dependencies: Mapping[str, Dependency], *, now: float) -> Iterator[_Row]:
    for check, reading in _checked(dependencies):
        yield (check.name, check.kind), reading is not None and reading.status(now=now) == "up"


def _check_results(dependencies: Mapping[str, Dependency]) -> Iterator[_Row]:
    for check, reading in _checked(dependencies):
        yield (check.name, "pass"), 0 if reading is None else reading.successes
        yield (check.name, "fail"), 0 if reading is None else reading.failures


def _check_success(dependencies: Mapping[str, Dependency], *, ahead: float) -> Iterator[_Row]:
    # *ahead* turns a moment on the monotonic clock into one on the wall clock.
    for check, reading in _checked(dependencies):
        if reading is not None and reading.last_success_at is not None:
            yield (check.name,), reading.last_success_at + ahead
