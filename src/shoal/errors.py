"""
ShoalError
├─ CallRejectedError      the dependency was not contacted
│  ├─ BreakerOpenError
│  ├─ BulkheadFullError
│  ├─ CallShedError
│  └─ TooLateError        also a TimeoutError
├─ DeadlineExceededError  the dependency did not answer in time; also a TimeoutError
└─ DeclarationError       the service is declared in a way that cannot work; also a ValueError
"""

from __future__ import annotations


class ShoalError(Exception):
    """Everything shoal raises itself. A dependency's own exceptions are never replaced."""


class CallRejectedError(ShoalError):
    """The dependency was not contacted.

    *retry_after* is the number of seconds until another call may be let through, or `None` if not known.
    """

    # Rejections must stay cheap when they are many: no chain of initialisers, and words only for those who read them.
    def __init__(self, dependency: str, *, retry_after: float | None = None) -> None:
        self.dependency = dependency
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.dependency}: not called"

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.__dict__)


class BreakerOpenError(CallRejectedError):
    """The dependency failed too often; calls are rejected until a trial call succeeds."""

    def __str__(self) -> str:
        when = "once the trial calls have ended" if not self.retry_after else f"in {self.retry_after:.1f} s"
        return f"{self.dependency}: breaker is open, next trial call {when}"


class BulkheadFullError(CallRejectedError):
    """As many calls as allowed are in flight already."""

    def __init__(self, dependency: str, *, limit: int) -> None:
        self.dependency = dependency
        self.retry_after = None
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.dependency}: {self.limit} calls are in flight, the limit; raise limit= or shorten timeout="


class CallShedError(CallRejectedError):
    """The dependency answers too few calls; this one was left out so that it can recover."""

    def __init__(self, dependency: str, *, share: float) -> None:
        self.dependency = dependency
        self.retry_after = None
        self.share = share
        """The share of calls that were being left out, 0 to 1."""

    def __str__(self) -> str:
        return f"{self.dependency}: shed, like {self.share:.0%} of the calls to it, since it answers too few of them"


class TooLateError(CallRejectedError, TimeoutError):
    """The caller's deadline had passed before the call was made."""

    def __init__(self, dependency: str, *, late: float) -> None:
        self.dependency = dependency
        self.retry_after = None
        self.late = late
        """Seconds since the deadline."""

    def __str__(self) -> str:
        return f"{self.dependency}: not called, the deadline passed {self.late:.3f} s ago"


class DeadlineExceededError(ShoalError, TimeoutError):
    """The dependency did not answer within *timeout* seconds."""

    def __init__(self, dependency: str, *, timeout: float) -> None:
        super().__init__(f"{dependency}: no answer within {timeout:.3g} s")
        self.dependency = dependency
        self.timeout = timeout


class DeclarationError(ShoalError, ValueError):
    """The declaration of a service cannot work; the message says which part and what would."""


def _again(kind: type[CallRejectedError], facts: dict[str, object]) -> CallRejectedError:
    error = kind.__new__(kind)
    error.__dict__.update(facts)
    return error
