"""One replica: an operating-system process, supervised with the kubelet's probe semantics."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from shoal.kubernetes import (
    Conditions,
    Observation,
    PodState,
    ProbeResult,
    ProbeType,
    ProbeWorker,
    RestartBackoff,
    endpoint_conditions,
)
from shoal_lab.errors import PlatformError
from shoal_lab.record import EventKind

from ._container import Container
from ._probing import run_worker
from .janitor import Janitor
from .ports import reserve
from .prober import ProbeReport, http_probe
from .process import Process
from .template import PodIdentity, Template

__all__ = ["PATHS", "Pod", "PodIdentity", "Record", "Template"]

PATHS: Final[Mapping[ProbeType, str]] = {
    ProbeType.STARTUP: "/startupz",
    ProbeType.LIVENESS: "/livez",
    ProbeType.READINESS: "/readyz",
}
Record = Callable[[EventKind, str, str, str], None]
"""Called with what happened, the service, the pod and a detail."""


class Pod:
    """One replica of a service: a process that is probed, restarted with back-off, and ended with grace.

    Its two addresses are reserved for as long as the pod exists, so they survive restarts and refuse connections
    while nothing listens. Platform durations (periods, delays, back-off, grace) are divided by *time_scale*; the
    probes' timeouts are not. *phase* says how many platform seconds a probe of a given period waits before its
    first look. *on_change* is called, with the pod, after any change of `ready`, `started`, `deleting`,
    `gone` or `restarts`.
    """

    def __init__(
        self,
        template: Template,
        *,
        ordinal: int,
        janitor: Janitor,
        run_dir: Path,
        record: Record,
        on_change: Callable[["Pod"], None] = lambda _pod: None,
        time_scale: float = 10.0,
        phase: Callable[[float], float] = lambda _period: 0.0,
    ) -> None:
        if time_scale <= 0:
            raise ValueError(f"time_scale must be above 0, got {time_scale}")
        self.template = template
        self.ready = False
        """All that runs has started and its readiness probe succeeds: the pod's Ready condition."""
        self.started = False
        """The process runs and its startup probe has succeeded, or it has none."""
        self.deleting = False
        self.restarts = 0
        self.failure: str | None = None
        """Why the pod ended before it had ever started; nothing is to be expected of it."""
        self._app = reserve()
        self._probed = reserve()
        self.identity = PodIdentity(
            service=template.service,
            ordinal=ordinal,
            revision=template.revision,
            app_address=self._app.address,
            probe_address=self._probed.address,
        )
        self._janitor = janitor
        self._log = run_dir / f"{template.service}-{ordinal}.log"
        self._record = record
        self._on_change = on_change
        self._time_scale = time_scale
        self._phase = phase
        self._workers = {kind: ProbeWorker(kind, probe) for kind, probe in template.probes}
        self._reports: dict[ProbeType, ProbeReport] = {}
        self._triggers = {kind: asyncio.Event() for kind in self._workers}
        self._backoff = RestartBackoff(base=10.0 / time_scale, cap=300.0 / time_scale)
        self._container: Container | None = None
        self._ever_started = False
        self._spawned = asyncio.Event()
        self._gone = asyncio.Event()
        self._lifecycle: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        """Service and ordinal, such as `wallet/0`."""
        return self.identity.name

    @property
    def revision(self) -> str:
        """The revision of the template it was made from."""
        return self.template.revision

    @property
    def app_address(self) -> tuple[str, int]:
        """Where it serves requests."""
        return self.identity.app_address

    @property
    def probe_address(self) -> tuple[str, int]:
        """Where it answers probes."""
        return self.identity.probe_address

    @property
    def pid(self) -> int | None:
        """Process id, `None` while no process runs."""
        container = self._container
        return container.process.pid if container is not None and container.running else None

    @property
    def gone(self) -> bool:
        """It was deleted, and nothing of it is left."""
        return self._gone.is_set()

    @property
    def state(self) -> PodState:
        """What a rollout is planned by."""
        return PodState(name=self.name, revision=self.revision, ready=self.ready, terminating=self.deleting)

    @property
    def conditions(self) -> Conditions:
        """The conditions of its endpoint."""
        return endpoint_conditions(pod_ready=self.ready, deleting=self.deleting)

    @property
    def why_not_ready(self) -> str:
        """What keeps it from being ready, for people; empty if it is."""
        if self.ready:
            return ""
        if self.pid is None:
            return "no process runs"
        kind = ProbeType.READINESS if self.started else ProbeType.STARTUP
        report = self._reports.get(kind)
        return f"no {kind} probe was made yet" if report is None else f"{kind} probe: {report}"

    async def start(self) -> None:
        """Begin to probe and to run the process; returns when it runs.

        Raises `PlatformError` if it cannot be executed; the pod goes on trying, with back-off, until `delete`.
        """
        argv, env = self.template.command(self.identity)
        for kind, worker in self._workers.items():
            self._tasks.append(asyncio.create_task(self._probe(worker), name=f"{kind} probe of {self.name}"))
        self._lifecycle = asyncio.create_task(self._live(argv, env), name=f"lifecycle of {self.name}")
        self._tasks.append(self._lifecycle)
        await self._spawned.wait()
        if self.failure is not None and self.pid is None:
            raise PlatformError(self.failure)

    async def delete(self, *, at_once: bool = False) -> None:
        """End the pod for good: its endpoint first; its process after the pre-stop pause, by SIGTERM, then SIGKILL.

        Returns when it is gone. *at_once* leaves out all but SIGKILL, and so does a caller that is cancelled meanwhile.
        Raises what went wrong in the background, if anything did.
        """
        if self.deleting:
            await self._gone.wait()
            return
        self.deleting = True
        results: list[BaseException | None] = []
        try:
            self._on_change(self)
            if self._container is not None and self._container.running and not at_once:
                await self._stop(self._container, grace=self.template.grace)
        finally:
            if self._container is not None:
                self._container.process.kill()
            for task in self._tasks:
                task.cancel()
            results = await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._container is not None:
                await self._container.process.wait()
            self._app.close()
            self._probed.close()
            self._spawned.set()
            self._gone.set()
            self._sync()
            self._on_change(self)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def kill(self) -> None:
        """SIGKILL to the process and all it started, as when its node fails. Nothing happens if none runs."""
        if self._container is not None and self._container.running:
            self._record("killed", self.template.service, self.name, "SIGKILL")
            self._container.process.kill()

    def send_line(self, text: str) -> None:
        """Tell the process something on its standard input. Raises `PlatformError` if none runs."""
        if self._container is None or not self._container.running:
            raise PlatformError(f"{self.name}: no process runs, so it cannot be told {text!r}")
        self._container.process.send_line(text)

    async def _live(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Run the process again and again."""
        loop = asyncio.get_running_loop()
        why = ""
        while True:
            killed = False
            try:
                process = await Process.start(
                    argv, name=self.name, log=self._log, janitor=self._janitor, env=env, stdin=True
                )
            except PlatformError as error:
                why = self.failure = str(error)
                self._spawned.set()
                self._on_change(self)
            else:
                killed, why = await self._live_once(process, why)
            if self.deleting:
                return
            now = loop.time()
            await asyncio.sleep(self._backoff.ended(now, killed=killed) - now)

    async def _live_once(self, process: Process, why: str) -> tuple[bool, str]:
        """See one container through. Says whether the supervisor ended it, and why it ended."""
        restarted = self._container is not None
        number = self.restarts + restarted
        container = Container(id=str(number), process=process, started_at=asyncio.get_running_loop().time())
        self._container = container
        self._reports.clear()
        self._spawned.set()
        if restarted:
            self.restarts = number
            self._record("restart", self.template.service, self.name, why)
            self._on_change(self)
        self._sync()
        await process.wait()
        if not self._ever_started and not self.deleting:
            self.failure = f"{self.name} ended before it had started: {container.end}"
            if tail := process.log_tail():
                self.failure += f"; it last said:\n{tail}"
            self._on_change(self)
        self._sync()
        return bool(container.killed_for), container.end

    async def _probe(self, worker: ProbeWorker) -> None:
        kind, probe = worker.probe_type, worker.probe
        host, port = self.probe_address
        url = f"http://{host}:{port}{PATHS[kind]}"
        await run_worker(
            worker,
            period=probe.period / self._time_scale,
            first_after=self._phase(probe.period) / self._time_scale,
            look=self._look,
            probe=lambda: http_probe(url, timeout=probe.timeout),
            trigger=self._triggers[kind],
            after=self._after,
        )

    def _look(self) -> Observation:
        container = self._container
        if container is None:
            return Observation(container_id="", state="waiting", deleting=self.deleting)
        return Observation(
            container_id=container.id,
            state="running" if container.running else "terminated",
            started=self.started,
            age=(asyncio.get_running_loop().time() - container.started_at) * self._time_scale,
            deleting=self.deleting,
        )

    def _after(self, worker: ProbeWorker, report: ProbeReport | None) -> None:
        """A worker has looked: see what changed, and end the container if its fate is decided."""
        kind = worker.probe_type
        if report is not None:
            self._reports[kind] = report
        words = f"{kind} probe: {self._reports[kind]}" if kind in self._reports else ""
        self._sync(words)
        container = self._container
        if (
            container is not None
            and container.running
            and not container.killed_for
            and not self.deleting
            and kind is not ProbeType.READINESS
            and worker.on_hold
            and self._holds(kind, ProbeResult.FAILURE)
        ):
            container.killed_for = words
            self._record("killed", self.template.service, self.name, words)
            grace = self.template.grace if worker.probe.termination_grace is None else worker.probe.termination_grace
            self._tasks.append(asyncio.create_task(self._stop(container, grace=grace)))

    def _holds(self, kind: ProbeType, result: ProbeResult) -> bool:
        """Whether *result* is held to be true of the container there is now, not of one before it."""
        worker, container = self._workers.get(kind), self._container
        if worker is None or container is None:
            return worker is None and result is ProbeResult.SUCCESS
        return worker.container_id == container.id and worker.result is result

    def _sync(self, probed: str = "") -> None:
        """Derive the pod's conditions from its container and the probes' results, and tell if they changed.

        *probed* is what a probe has just said, if one was made.
        """
        running = self._container is not None and self._container.running
        started = running and self._holds(ProbeType.STARTUP, ProbeResult.SUCCESS)
        ready = started and self._holds(ProbeType.READINESS, ProbeResult.SUCCESS)
        if (started, ready) == (self.started, self.ready):
            return
        if started and not self.started:
            self._ever_started, self.failure = True, None
            self._record("started", self.template.service, self.name, "")
        if ready != self.ready:
            why = "" if ready or self._container is None else self._container.end or probed
            self._record("ready" if ready else "unready", self.template.service, self.name, why)
        self.started, self.ready = started, ready
        if started and not ready and ProbeType.READINESS in self._triggers:
            self._triggers[ProbeType.READINESS].set()
        self._on_change(self)

    async def _stop(self, container: Container, *, grace: float) -> None:
        """Durations in platform seconds."""
        pre_stop = self.template.pre_stop
        await container.stop(grace=grace / self._time_scale, pre_stop=pre_stop / self._time_scale)
