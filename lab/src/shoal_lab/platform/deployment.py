"""A number of replicas kept up, their endpoints told to whoever balances the load, and rolling updates."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from shoal.kubernetes import PodState, RolloutProgress, RolloutStatus, RolloutStrategy, plan_rollout, usable_endpoints
from shoal_lab.errors import PlatformError

from .janitor import Janitor
from .pod import Pod, Record
from .template import Template

OnEndpoints = Callable[[str, list[tuple[str, int]]], None]
"""Called with the service and the addresses that get new connections from now on."""


class Deployment:
    """Keeps *replicas* pods of a template running, and replaces them step by step when it gets another template.

    Stands for the deployment controller, the endpoint controller and the kubelets of the nodes the pods run on. Their
    nodes have been up for long: the first probe of a pod comes at once, and pods made together are probed in step (K1).
    With *rng* the kubelets start with the deployment: a probe whose period is longer than they have been up begins at a
    random moment within it (K2).

    Durations of the template and of *strategy* are platform seconds, divided by *time_scale*. *record* hears what
    happens; *on_endpoints* is called on each change of the addresses that get traffic.
    """

    def __init__(
        self,
        service: str,
        *,
        replicas: int,
        template: Template,
        janitor: Janitor,
        run_dir: Path,
        record: Record,
        on_endpoints: OnEndpoints = lambda _service, _addresses: None,
        time_scale: float = 10.0,
        strategy: RolloutStrategy | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if replicas < 0:
            raise ValueError(f"replicas must be at least 0, got {replicas}")
        self.service = service
        self.replicas = replicas
        self.template = template
        self._previous: Template | None = None
        self._strategy = strategy or RolloutStrategy()
        self._janitor = janitor
        self._run_dir = run_dir
        self._record = record
        self._on_endpoints = on_endpoints
        self._time_scale = time_scale
        self._rng = rng
        self._began = asyncio.get_running_loop().time()
        self._pods: list[Pod] = []
        self._addresses: list[tuple[str, int]] = []
        self._progress: RolloutProgress | None = None
        self._status: RolloutStatus = "complete"
        self._changed = asyncio.Event()
        self._control: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._stopping = False

    @property
    def pods(self) -> list[Pod]:
        """All pods there are, the oldest first; those being deleted are among them until they are gone."""
        return list(self._pods)

    @property
    def status(self) -> RolloutStatus:
        """How the latest rolling update is getting on; `complete` if there was none."""
        return self._status

    def ready_addresses(self) -> list[tuple[str, int]]:
        """The addresses that get new connections: ready pods; if there are none, leaving ones that still serve."""
        return usable_endpoints((pod.app_address, pod.conditions) for pod in self._pods)

    async def start(self) -> None:
        """Create the pods; returns when their processes run, ready or not.

        Raises `PlatformError` if one cannot be executed. Call `stop` whatever happened.
        """
        self._reconcile()
        self._control = asyncio.create_task(self._keep(), name=f"deployment {self.service}")
        self._control.add_done_callback(self._done)
        await asyncio.gather(*self._tasks)
        for pod in self._pods:
            if pod.failure is not None:
                raise PlatformError(pod.failure)

    async def wait_ready(self, timeout: float) -> None:
        """Wait until all replicas of the current revision are ready, at most *timeout* real seconds.

        Raises `PlatformError` as soon as a pod has ended before it had started, with its exit status and its last
        words; and when the time is over, with what keeps each pod from being ready.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self._all_ready():
                    await self._changed.wait()
        except TimeoutError:
            waiting = [pod for pod in self._pods if not pod.ready]
            reasons = "; ".join(f"{pod.name}: {pod.why_not_ready}" for pod in waiting)
            raise PlatformError(
                f"{self.service}: {len(self._pods) - len(waiting)} of {self.replicas} pods ready after {timeout:g} s"
                + (f"; {reasons}" if reasons else "")
            ) from None

    async def roll_out(self, template: Template) -> None:
        """Begin to replace every pod by one of *template*; returns at once.

        How it goes is told to *record*: `rollout`, then `rollout-complete`, or `rollout-stalled` when there was no
        progress for the strategy's progress deadline. Nothing rolls back by itself. Raises `PlatformError` if the
        template is of the revision there is, or the deployment was stopped.
        """
        if self._stopping or self._control is None:
            raise PlatformError(f"{self.service} is not running, so nothing can be rolled out")
        if template.revision == self.template.revision:
            raise PlatformError(
                f"{self.service} is at revision {template.revision} already; a new template needs a new revision"
            )
        self._previous, self.template = self.template, template
        self._progress = RolloutProgress(
            revision=template.revision,
            replicas=self.replicas,
            deadline=self._strategy.progress_deadline,
            now=self._platform_time(),
        )
        self._status = "progressing"
        self._record("rollout", self.service, "", f"revision {self._previous.revision} -> {template.revision}")
        self._reconcile()
        self._notify()

    async def roll_back(self) -> None:
        """Begin to roll out the template before the current one. Raises `PlatformError` if there was none."""
        if self._previous is None:
            raise PlatformError(f"{self.service} has only had revision {self.template.revision}, nothing to go back to")
        await self.roll_out(self._previous)

    async def stop(self) -> None:
        """Delete all pods, each with its grace; returns when they are gone. May be called in any state, and again.

        A caller that is cancelled meanwhile has them killed at once. Raises what went wrong in the background, if
        anything did.
        """
        self._stopping = True
        if self._control is not None:
            self._control.cancel()
        deletions = [asyncio.create_task(pod.delete()) for pod in self._pods]
        running = [task for task in (self._control, *self._tasks) if task is not None]
        try:
            # Cancelled, it cancels all of them, those that were under way already too, and still waits for their end.
            results = await asyncio.gather(*deletions, *running, return_exceptions=True)
        except asyncio.CancelledError:
            # A task that is cancelled before its first step never takes it.
            await asyncio.gather(*(pod.delete(at_once=True) for pod in self._pods), return_exceptions=True)
            raise
        self._control = None
        for error in (self._error, *results):
            if isinstance(error, Exception):
                self._error = None
                raise error

    async def _keep(self) -> None:
        """Bring what is to what is wanted, whenever something changed."""
        while True:
            changed = self._changed
            self._reconcile()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_stalled()):
                    await changed.wait()

    def _reconcile(self) -> None:
        states = [pod.state for pod in self._pods]
        plan = plan_rollout(states, revision=self.template.revision, replicas=self.replicas, strategy=self._strategy)
        by_name = {pod.name: pod for pod in self._pods}
        for _ in range(plan.create):
            self._create()
        for name in plan.delete:
            self._spawn(by_name[name].delete())
        self._judge_rollout()

    def _judge_rollout(self) -> None:
        if self._progress is None:
            return
        status = self._progress.observe(self._states(), now=self._platform_time())
        if status == self._status:
            return
        self._status = status
        if status == "complete":
            self._progress = None
            self._record("rollout-complete", self.service, "", f"revision {self.template.revision}")
        elif status == "stalled":
            new = [pod for pod in self._pods if pod.revision == self.template.revision and not pod.deleting]
            old = sum(not pod.deleting for pod in self._pods) - len(new)
            self._record(
                "rollout-stalled",
                self.service,
                "",
                f"revision {self.template.revision}: {sum(pod.ready for pod in new)} of {len(new)} new pods ready, "
                f"{old} old pods left",
            )

    def _until_stalled(self) -> float | None:
        """Real seconds until a rollout that does not move counts as stalled, `None` if none may."""
        if self._progress is None or self._status == "stalled":
            return None
        return max(0.0, self._progress.stalls_after - self._platform_time()) / self._time_scale

    def _create(self) -> None:
        taken = {pod.identity.ordinal for pod in self._pods}
        pod = Pod(
            self.template,
            ordinal=next(ordinal for ordinal in range(len(taken) + 1) if ordinal not in taken),
            janitor=self._janitor,
            run_dir=self._run_dir,
            record=self._record,
            on_change=self._pod_changed,
            time_scale=self._time_scale,
            phase=self._phase,
        )
        self._pods.append(pod)
        self._spawn(_begin(pod))

    def _states(self) -> list[PodState]:
        return [pod.state for pod in self._pods]

    def _phase(self, period: float) -> float:
        if self._rng is None or period <= self._platform_time():
            return 0.0
        return self._rng.uniform(0.0, period)

    def _platform_time(self) -> float:
        return (asyncio.get_running_loop().time() - self._began) * self._time_scale

    def _all_ready(self) -> bool:
        if self._error is not None:
            raise self._error
        wanted = [pod for pod in self._pods if pod.revision == self.template.revision and not pod.deleting]
        for pod in wanted:
            if pod.failure is not None:
                raise PlatformError(pod.failure)
        return sum(pod.ready for pod in wanted) >= self.replicas

    def _pod_changed(self, pod: Pod) -> None:
        if pod.gone:
            self._pods.remove(pod)
        self._publish()
        self._notify()

    def _publish(self) -> None:
        addresses = self.ready_addresses()
        if addresses != self._addresses:
            self._addresses = addresses
            self._on_endpoints(self.service, list(addresses))

    def _notify(self) -> None:
        """Wake everybody who waits for a change, and let them wait for the next."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
            self._notify()


async def _begin(pod: Pod) -> None:
    """The pod itself says what is wrong if it cannot be executed, and tries again."""
    with contextlib.suppress(PlatformError):
        await pod.start()
