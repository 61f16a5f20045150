"""Journeys: what a user does, the routes that serve it, the dependencies it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shoal.errors import DeclarationError

from .dependency import Dependency
from .outcome import DEADLINE, NONE, OVERLOAD, SELF
from .route import Route


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Journey:
    """Something a user does. Made by `Service.journey`.

    Without one of *needs* it fails; without one of *better_with* it is answered, but not in full.
    """

    name: str
    routes: tuple[Route, ...]
    needs: tuple[Dependency, ...]
    better_with: tuple[Dependency, ...] = ()

    def outcomes(self) -> Iterator[tuple[str, str, str]]:
        """Every journey, outcome and cause that a request of it can be counted under."""
        dependencies = [dependency.name for dependency in (*self.needs, *self.better_with)]
        yield self.name, "ok", NONE
        yield self.name, "client_error", NONE
        yield self.name, "shed", OVERLOAD
        for cause in dependencies:
            yield self.name, "degraded", cause
        for cause in (*dependencies, SELF, DEADLINE):
            yield self.name, "failed", cause


class RouteTable:
    """Finds the journey of a request."""

    __slots__ = ("_exact", "_patterns")

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], Journey] = {}
        self._patterns: list[tuple[Route, Journey]] = []

    def add(self, journey: Journey) -> None:
        """Take in its routes. Raises DeclarationError when one belongs to another journey already."""
        known = {(route.method, route.path): other for route, other in self._patterns} | self._exact
        for route in journey.routes:
            other = known.get((route.method, route.path))
            if other is not None:
                raise DeclarationError(
                    f"journey {journey.name}: {route} belongs to {other.name}; a route serves one journey"
                )
        for route in journey.routes:
            if route.pattern is None:
                self._exact[route.method, route.path] = journey
            else:
                self._patterns.append((route, journey))

    def find(self, method: str, path: str) -> Journey | None:
        """The journey served by this request: a literal path first, then patterns in the order of their declaration."""
        # Frameworks answer HEAD with the handler of GET.
        method = "GET" if method == "HEAD" else method
        journey = self._exact.get((method, path))
        if journey is not None:
            return journey
        return next((found for route, found in self._patterns if route.method == method and route.matches(path)), None)
