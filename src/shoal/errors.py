"""
ShoalError
├─ CallRejectedError      the dependency was not contacted
│  ├─ BreakerOpenError
│  └─ BulkheadFullError
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

    def __init__(self, message: str, *, dependency: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.dependency = dependency
        self.retry_after = retry_after


class BreakerOpenError(CallRejectedError):
    """The dependency failed too often; calls are rejected until a trial call succeeds."""

    def __init__(self, dependency: str, *, retry_after: float) -> None:
        super().__init__(
            f"{dependency}: breaker is open, next trial call in {retry_after:.1f} s",
            dependency=dependency,
            retry_after=retry_after,
        )


class BulkheadFullError(CallRejectedError):
    """As many calls as allowed are in flight already."""

    def __init__(self, dependency: str, *, limit: int) -> None:
        super().__init__(
            f"{dependency}: {limit} calls are in flight, the limit; raise limit= or shorten timeout=",
            dependency=dependency,
            retry_after=None,
        )
        self.limit = limit


class DeadlineExceededError(ShoalError, TimeoutError):
    """The dependency did not answer within *timeout* seconds."""

    def __init__(self, dependency: str, *, timeout: float) -> None:
        super().__init__(f"{dependency}: no answer within {timeout:g} s")
        self.dependency = dependency
        self.timeout = timeout


class DeclarationError(ShoalError, ValueError):
    """The declaration of a service cannot work; the message says which part and what would."""
