"""The declaration of a service, and its running."""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import Literal, Self, TypedDict, Unpack

from shoal._clock import SYSTEM_CLOCK, Clock
from shoal.errors import DeclarationError
from shoal.guard import (
    Backoff,
    BreakerSettings,
    BudgetSettings,
    Classifier,
    Guard,
    SheddingSettings,
    StaleAnswers,
    Transition,
    deadline,
)
from shoal.health import CheckRunner, Heartbeat, LoopWatch, ProbeAnswer, ProbeServer, StartupGate
from shoal.metrics import Registry

from .deep import DeepReadiness
from .dependency import Dependency, classifier_for
from .exposed import expose
from .journey import Journey, RouteTable
from .measures import Measures
from .outcome import CAUSES
from .probes import Probes
from .requests import InFlight, JourneyRequest
from .route import Route
from .state import State

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class GuardOptions(TypedDict, total=False):
    """What `Service.dependency` hands to the dependency's `shoal.Guard`; the defaults are the guard's."""

    deadline: float | None
    attempts: int
    idempotent: bool
    backoff: Backoff
    budget: BudgetSettings | None
    breaker: BreakerSettings | None
    limit: int | None
    shedding: SheddingSettings | None
    classify: Classifier
    stale: StaleAnswers | None
    shadow: bool
    on_transition: Callable[[str, Transition], None]


class Service:
    """A service, declared once: its dependencies, its journeys, its workers. The rest is derived.

    *readiness* is `shallow` (started and not draining; held back at the start until required dependencies have answered
    once, at most *startup_budget* seconds) or `deep`, which is there to be seen failing (`shoal.health.deep_answer`).
    *limit* is how many requests of journeys are served at the same time; above it they are shed. *stall_fails_after* is
    how many seconds the event loop may stand still before liveness fails. Raises DeclarationError for settings that
    cannot work.

    >>> service = Service("wallet")
    >>> auth = service.dependency("auth", target="http://auth", timeout=0.5, attempts=3)
    >>> journey = service.journey("view-balance", routes=["GET /balance"], needs=[auth])
    >>> service.answer("/readyz").body
    b'{"ready": false, "reason": "not started"}\\n'
    """

    def __init__(
        self,
        name: str,
        *,
        version: str | None = None,
        readiness: Literal["shallow", "deep"] = "shallow",
        startup_budget: float = 60.0,
        limit: int | None = None,
        stall_fails_after: float = 10.0,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        _check_name("service", name)
        if readiness not in {"shallow", "deep"}:
            raise DeclarationError(f'{name}: readiness must be "shallow" or "deep", got {readiness!r}')
        if startup_budget < 0 or stall_fails_after <= 0 or (limit is not None and limit < 1):
            raise DeclarationError(
                f"{name}: startup_budget must be 0 or more, stall_fails_after above 0, limit at least 1 or None; "
                f"got {startup_budget}, {stall_fails_after} and {limit}"
            )
        self.name = name
        self.version = version
        self.registry = Registry()
        """The metrics; families of your own may be added."""
        self._startup_budget = startup_budget
        self._clock = clock
        self._rng = rng
        self._in_flight = InFlight(limit)
        self._routes = RouteTable()
        self._state = State(
            name=name, version=version, clock=clock, loop_watch=LoopWatch(fail_after=stall_fails_after, clock=clock)
        )
        self._measures = Measures(self.registry)
        self._deep = DeepReadiness(self._state) if readiness == "deep" else None
        self._probes = Probes(self._state, registry=self.registry, measures=self._measures, deep=self._deep)
        expose(self.registry, self._state, ready=self._probes.ready)

    def dependency(
        self,
        name: str,
        *,
        target: str,
        required_to_start: bool = False,
        timeout: float = 0.5,
        links: Mapping[str, str] | None = None,
        **guard: Unpack[GuardOptions],
    ) -> Dependency:
        """Declare something the service calls, with one guard for all calls to it.

        *target* says where it is, as a URL; credentials in it are never shown. *required_to_start* holds readiness back
        until its check has succeeded once. *timeout*, in seconds for each attempt, and the options that follow are the
        guard's; unless *classify* is given, errors are read as clients for such a target raise them. *links* says where
        its own health document is; `/health` of an HTTP target unless said otherwise. Raises DeclarationError for a
        name that is taken or not usable, and ValueError as the guard does.
        """
        _check_name("dependency", name)
        if name in CAUSES:
            raise DeclarationError(f"dependency {name}: {', '.join(CAUSES)} are causes of another kind; rename it")
        if name in self._state.dependencies:
            raise DeclarationError(f"dependency {name} is declared already; share the object that came back")
        if required_to_start:
            self._must_not_run(f"dependency {name}, required to start,")
        guard.setdefault("classify", classifier_for(target))
        dependency = Dependency(
            name,
            target=target,
            required_to_start=required_to_start,
            guard=Guard(name, timeout=timeout, clock=self._clock, rng=self._rng, **guard),
            links=links,
            before_check=lambda: self._must_not_run(f"the check of {name}"),
        )
        self._state.dependencies[name] = dependency
        return dependency

    def journey(
        self,
        name: str,
        *,
        routes: Iterable[str],
        needs: Iterable[Dependency],
        better_with: Iterable[Dependency] = (),
    ) -> Journey:
        """Declare something a user does: the routes that serve it, such as "GET /accounts/{id}", and what it takes.

        Without one of *needs* it fails; without one of *better_with* it is answered, but not in full. Raises
        DeclarationError for names and routes that are taken and for dependencies of another service.
        """
        _check_name("journey", name)
        if name in self._state.journeys:
            raise DeclarationError(f"journey {name} is declared already; give all its routes at once")
        journey = Journey(
            name=name,
            routes=tuple(Route.parse(route) for route in routes),
            needs=tuple(needs),
            better_with=tuple(better_with),
        )
        seen: set[str] = set()
        for dependency in (*journey.needs, *journey.better_with):
            if self._state.dependencies.get(dependency.name) is not dependency:
                raise DeclarationError(f"journey {name}: {dependency.name} is not a dependency of {self.name}")
            if dependency.name in seen:
                raise DeclarationError(f"journey {name} names {dependency.name} twice; keep it in one of the lists")
            seen.add(dependency.name)
        self._routes.add(journey)
        self._measures.declare(journey)
        self._state.journeys[name] = journey
        return journey

    def heartbeat(self, name: str, *, stalled_after: float) -> Heartbeat:
        """Declare a worker that calls `beat` at each of its turns; silent for too long, it fails liveness.

        *stalled_after* is in seconds: choose more than the longest turn can take, since the container is restarted.
        Raises DeclarationError for a name that is taken and a time that is not above 0.
        """
        _check_name("heartbeat", name)
        try:
            heartbeat = Heartbeat(name, stalled_after=stalled_after, clock=self._clock)
            self._state.liveness.add(heartbeat)
        except ValueError as error:
            raise DeclarationError(str(error)) from error
        return heartbeat

    @asynccontextmanager
    async def running(
        self, *, host: str = "0.0.0.0", port: int = 8081, sock: socket.socket | None = None
    ) -> AsyncIterator[Self]:
        """Run the checks, watch the event loop, and answer probes on a port and a thread of their own.

        *sock*, a bound socket, goes before *host* and *port* and is closed at the end. At the end the service says that
        it drains, and stops answering. Raises OSError when the port cannot be had, DeclarationError when the
        declaration cannot work, and RuntimeError when the service runs already.
        """
        state = self._state
        if state.loop is not None:
            raise RuntimeError(f"{self.name} is running already; leave that running() first")
        gate = state.gate or StartupGate(self._required_to_start(), budget=self._startup_budget)
        server = ProbeServer(self._probes.answer_without_waiting, host=host, port=port, sock=sock, clock=self._clock)
        with self._answering(server):
            self._come_up(gate)
            tasks = [
                asyncio.create_task(state.loop_watch.run(), name="shoal loop watch"),
                asyncio.create_task(self._runner(gate).run(), name="shoal checks"),
            ]
            try:
                yield self
            finally:
                self.drain()
                state.loop = None
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def drain(self) -> None:
        """Say on the readiness probe that the service is leaving; requests are served as before. For any thread."""
        self._state.readiness.drain()

    def answer(self, path: str) -> ProbeAnswer | None:
        """The answer to a probe of *path*, which may have a query; `None` when there is no such probe.

        `/livez`, `/readyz`, `/startupz`, `/health` and `/metrics`, from memory. Only deep readiness asks the
        dependencies, on the service's loop, and waits for at most about 0.9 s; on the loop's own thread it raises
        RuntimeError, use `aanswer` there.
        """
        return self._probes.answer(path)

    async def aanswer(self, path: str) -> ProbeAnswer | None:
        """`answer` for callers on an event loop: deep readiness does not block it."""
        return await self._probes.aanswer(path)

    def begin(self, method: str, path: str, *, timeout: float | None = None) -> JourneyRequest | None:
        """For integrations: a request arrived, whose sender waits *timeout* seconds, None if it did not say.

        `None` when it belongs to no journey and is not counted.
        """
        journey = self._routes.find(method, path)
        if journey is None:
            return None
        return JourneyRequest(
            journey, in_flight=self._in_flight, measures=self._measures, clock=self._clock, timeout=timeout
        )

    def deadline(self, timeout: float | None) -> AbstractContextManager[None]:
        """For integrations: what is done inside serves a request whose sender waits *timeout* seconds, or for ever."""
        return nullcontext() if timeout is None else deadline(timeout, clock=self._clock)

    @contextmanager
    def _answering(self, server: ProbeServer) -> Iterator[None]:
        server.start()
        try:
            yield
        finally:
            server.stop()
            if self._deep is not None:
                self._deep.close()

    def _come_up(self, gate: StartupGate) -> None:
        state = self._state
        state.loop = asyncio.get_running_loop()
        state.gate = gate
        state.readiness.resume()
        for heartbeat in state.liveness.heartbeats:
            # Imports and warming up do not count as silence.
            heartbeat.beat()
        gate.open(self._clock.now())

    def _runner(self, gate: StartupGate) -> CheckRunner:
        def on_result(name: str, error: str | None) -> None:
            if error is None:
                gate.answered(name)
            else:
                gate.failed(name, error)

        runner = CheckRunner(self._state.checks(), clock=self._clock, rng=self._rng, on_result=on_result)
        for name, reading in runner.readings.items():
            self._state.dependencies[name].reading = reading
        return runner

    def _required_to_start(self) -> list[str]:
        required = [d for d in self._state.dependencies.values() if d.required_to_start]
        for dependency in required:
            if dependency.checked is None:
                raise DeclarationError(
                    f"dependency {dependency.name} is required to start but has no check that could tell; "
                    f"declare one with @{dependency.name}.check()"
                )
        return [dependency.name for dependency in required]

    def _must_not_run(self, what: str) -> None:
        if self._state.loop is not None:
            raise DeclarationError(f"{what} comes too late: {self.name} runs; declare it before service.running()")


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise DeclarationError(f"the name of a {what} is letters, digits, dots, dashes, underscores; got {name!r}")
