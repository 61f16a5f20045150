"""A dependency as it was declared: where it is, its guard, its check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from shoal.errors import DeclarationError
from shoal.guard import (
    Classifier,
    Guard,
    classify_dbapi,
    classify_default,
    classify_grpc,
    classify_kafka,
    classify_redis,
)
from shoal.health import Check, CheckFunction, CheckReading, public_target

_CLASSIFIERS: Mapping[str, Classifier] = {
    **dict.fromkeys(("postgres", "postgresql", "mysql", "mariadb", "oracle", "mssql", "sqlite"), classify_dbapi),
    **dict.fromkeys(("redis", "rediss", "valkey", "valkeys"), classify_redis),
    **dict.fromkeys(("grpc", "grpcs"), classify_grpc),
    "kafka": classify_kafka,
}

Checked = TypeVar("Checked", bound=CheckFunction)


class Dependency:
    """Something the service calls. Made by `Service.dependency`.

    *guard* goes around every call to it; `check` declares how to test it in the background. *links* say where its own
    health document is.
    """

    __slots__ = ("_before_check", "checked", "guard", "links", "name", "reading", "required_to_start", "target")

    def __init__(
        self,
        name: str,
        *,
        target: str,
        required_to_start: bool,
        guard: Guard,
        links: Mapping[str, str] | None,
        before_check: Callable[[], None],
    ) -> None:
        self.name = name
        self.target = target
        """As declared, credentials included; `public_target` of shoal.health is what may be shown."""
        self.required_to_start = required_to_start
        self.guard = guard
        self.links: Mapping[str, str] = _own_document(target) if links is None else dict(links)
        self.checked: Check | None = None
        """The check that was declared, if any."""
        self.reading: CheckReading | None = None
        """What it said, once the service runs."""
        self._before_check = before_check

    def check(
        self,
        *,
        every: float = 10.0,
        timeout: float = 1.0,
        failures_before_down: int = 3,
        successes_before_up: int = 1,
    ) -> Callable[[Checked], Checked]:
        """Declare the decorated function as the check of this dependency; the function itself stays as it is.

        It takes nothing and raises, or returns False, when the dependency does not work; it may be a coroutine
        function. It runs in the background, every *every* seconds, and only where no calls tell the same; *timeout*
        seconds are allowed. Use a connection of its own. Raises DeclarationError for a second check, and while the
        service runs.
        """

        def declare(function: Checked) -> Checked:
            self._before_check()
            if self.checked is not None:
                raise DeclarationError(f"{self.name} has a check already; test everything it needs in one function")
            self.checked = Check(
                name=self.name,
                function=function,
                every=every,
                timeout=timeout,
                failures_before_down=failures_before_down,
                successes_before_up=successes_before_up,
                needed=lambda: not self._told_by_calls(within=every),
            )
            return function

        return declare

    def _told_by_calls(self, *, within: float) -> bool:
        # A check that never succeeded may be what the startup gate waits for, whatever the calls say.
        if self.reading is None or not self.reading.successes:
            return False
        age = self.guard.health().age
        return age is not None and age <= within

    def __repr__(self) -> str:
        return f"Dependency({self.name!r}, target={public_target(self.target)!r})"


def classifier_for(target: str) -> Classifier:
    """How the errors of clients for such a target are to be read.

    >>> classifier_for("postgres://wallet-db/wallet").__name__, classifier_for("http://auth").__name__
    ('classify_dbapi', 'classify_default')
    """
    return _CLASSIFIERS.get(urlsplit(target).scheme.lower().partition("+")[0], classify_default)


def _own_document(target: str) -> Mapping[str, str]:
    parts = urlsplit(public_target(target))
    return {"self": f"{parts.scheme}://{parts.netloc}/health"} if parts.scheme in {"http", "https"} else {}
