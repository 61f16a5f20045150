"""The startup gate: a new pod stays out of service until what it requires to start has answered once."""

from __future__ import annotations

from collections.abc import Iterable


class StartupGate:
    """Decides when a new pod may be ready. Deep at start, shallow in service.

    It opens when every name in *required* has answered once, or when *budget* seconds are over: then the outage is not
    this pod's alone, and holding back helps nobody. Once open it never closes. It holds readiness back and never fails
    the startup probe, which would restart the container. Time comes in as seconds on a monotonic clock, counted from
    the first question. Raises ValueError for a negative budget.

    >>> gate = StartupGate(["database"], budget=60.0)
    >>> gate.failed("database", "refused")
    >>> gate.open(now=100.0), gate.open(now=112.0), gate.reason
    (False, False, 'starting: waiting for database (refused), 12 s of 60 s')
    >>> gate.answered("database")
    >>> gate.open(now=113.0), gate.reason
    (True, None)
    """

    __slots__ = ("_began", "_errors", "_now", "_open", "_waiting", "budget")

    def __init__(self, required: Iterable[str], *, budget: float) -> None:
        if budget < 0:
            raise ValueError(f"budget must be 0 or more seconds, got {budget}")
        self.budget = budget
        # A dict for its order: the reason names them as they were declared.
        self._waiting: dict[str, None] = dict.fromkeys(required)
        self._errors: dict[str, str] = {}
        self._began: float | None = None
        self._now = 0.0
        self._open = False

    def answered(self, name: str) -> None:
        """*name* worked once. Other names than the required ones change nothing."""
        self._waiting.pop(name, None)

    def failed(self, name: str, error: str) -> None:
        """*name* did not work; *error* will be part of the reason."""
        self._errors[name] = error

    def open(self, now: float) -> bool:
        """Whether the pod may be ready; the first call starts the budget."""
        if self._began is None:
            self._began = now
        self._now = now
        if not self._open:
            self._open = not self._waiting or now - self._began >= self.budget
        return self._open

    @property
    def missing(self) -> tuple[str, ...]:
        """What has not answered yet; on an open gate, what the pod started without and has not seen since."""
        return tuple(self._waiting)

    @property
    def degraded(self) -> bool:
        """Whether it opened because the budget was over, and something is missing still."""
        return self._open and bool(self._waiting)

    @property
    def reason(self) -> str | None:
        """Why it is closed, or open without everything, as of the last `open`; `None` when all have answered."""
        # One copy: the checks report on another thread than probes ask on.
        missing = self.missing
        if not missing:
            return None
        if self._open:
            return f"started without {', '.join(missing)}: no answer within {self.budget:g} s"
        waiting = ", ".join(f"{name} ({self._errors.get(name, 'not yet sampled')})" for name in missing)
        waited = 0.0 if self._began is None else self._now - self._began
        return f"starting: waiting for {waiting}, {waited:.0f} s of {self.budget:g} s"
