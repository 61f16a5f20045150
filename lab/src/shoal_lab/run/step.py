"""One step of the ladder: deploy the company, send customers, break it, repair it, read the counters."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

import aiohttp

from shoal_lab.errors import LabError, PlatformError
from shoal_lab.load import JOURNEYS, Customers, LoadGenerator, fetch_tokens, schedule
from shoal_lab.record import PHASES, EventKind, Phase, Sample, StepRecord
from shoal_lab.run.cluster import Cluster
from shoal_lab.run.counters import PodCounters, Series, by_phase, dependency_counts, journey_counts
from shoal_lab.run.lag import LagMeter
from shoal_lab.run.plan import Action, Timetable, rates
from shoal_lab.run.recorder import Recorder
from shoal_lab.run.settings import Progress, Settings
from shoal_lab.scenario import EdgeFault, PodFault, Scenario

READ_EVERY = 1.0
"""Seconds between two readings of the pods' counters, so that little is lost with a pod that dies."""
LATE = 0.1
"""Seconds: a generator that is later than this measures the machine, and says so."""


class StepRun:
    """Plays a timetable against a running cluster, and measures."""

    def __init__(
        self,
        cluster: Cluster,
        scenario: Scenario,
        settings: Settings,
        table: Timetable,
        recorder: Recorder,
        progress: Progress,
        meter: LagMeter,
    ) -> None:
        self._cluster = cluster
        self._scenario = scenario
        self._settings = settings
        self._table = table
        self._recorder = recorder
        self._progress = progress
        self._meter = meter
        self._readings: list[Counter[Series]] = []
        self._lag: dict[Phase, int] = {}

    async def play(self, step: str) -> StepRecord:
        """Send the customers and do to the company what the timetable says."""
        customers = Customers(
            known=self._scenario.customers, newcomers=self._scenario.newcomers, seed=self._settings.seed
        )
        arrivals = customers.assign(
            schedule(rates(self._scenario, self._settings.rate), self._table.end, seed=self._settings.seed)
        )
        host, port = self._cluster.envoy.edge_address
        edge = f"http://{host}:{port}"
        names = sorted({arrival.customer for arrival in arrivals if arrival.customer})
        tokens = await fetch_tokens(edge, names)
        async with aiohttp.ClientSession() as session:
            counters = PodCounters(session)
            generator = LoadGenerator(edge, tokens)
            self._recorder.begin()
            try:
                async with asyncio.TaskGroup() as tasks:
                    watch = tasks.create_task(self._cluster.watch())
                    load = tasks.create_task(generator.run(arrivals, start=self._recorder.zero))
                    script = tasks.create_task(self._perform())
                    reading = tasks.create_task(self._read(counters))
                    await asyncio.gather(load, script, reading)
                    watch.cancel()
            except BaseExceptionGroup as group:
                raise _first(group) from None
        if generator.lateness.p99 > LATE:
            self._progress.note(
                f"this machine is busy: 1 % of requests were sent {generator.lateness.p99:.2f} s late or more"
            )
        self._recorder.end()
        return self._record(step, load.result())

    async def _perform(self) -> None:
        for action in self._table.actions:
            await self._sleep_until(action.at)
            await self._do(action)

    async def _do(self, action: Action) -> None:
        fault, begins = action.fault, action.what == "begin"
        what: EventKind = "fault" if begins else "repair"
        if isinstance(fault, EdgeFault):
            (self._cluster.network.begin if begins else self._cluster.network.end)(fault)
            for edge in self._cluster.existing(fault.edges):
                pod = "" if edge.replica is None else f"{edge.caller}/{edge.replica}"
                self._recorder.event(what, edge.caller, pod, f"-> {edge.dependency} {fault.kind}")
        elif isinstance(fault, PodFault):
            self._recorder.event(what, fault.service, f"{fault.service}/{fault.replica}", fault.action)
            self._do_to_pod(fault, begins=begins)
        else:
            for edge in self._cluster.existing(fault.edges):
                self._recorder.event(what, edge.caller, detail="rollout" if begins else "rollback")
            await (self._cluster.roll_out if begins else self._cluster.roll_back)(fault)

    def _do_to_pod(self, fault: PodFault, *, begins: bool) -> None:
        pod = self._cluster.pod(fault.service, fault.replica)
        if pod is None:
            return
        # A pod that has restarted meanwhile, or is just dying, has nothing to be told.
        with contextlib.suppress(PlatformError):
            if fault.action == "kill" and begins:
                pod.kill()
            elif fault.action == "block-loop" and begins:
                lasts = fault.lasts if fault.lasts is not None else self._scenario.phases.during - fault.at
                pod.send_line(f"block-loop {self._settings.wall(lasts)}")
            elif fault.action == "stop-consumer":
                pod.send_line("stop-consumer" if begins else "resume-consumer")

    async def _read(self, counters: PodCounters) -> None:
        """Read the pods' counters again and again, and keep what they say at the bounds of the phases."""
        bounds = [0.0, self._table.fault_at, self._table.repair_at, self._table.end]
        for number, bound in enumerate(bounds):
            while (left := bound - self._recorder.now()) > 0:
                await asyncio.sleep(min(READ_EVERY, left))
                self._progress.advance(min(READ_EVERY, left))
                await counters.read(self._cluster.lives())
            await counters.read(self._cluster.lives())
            self._readings.append(counters.totals())
            if number:
                self._lag[PHASES[number - 1]] = await self._meter.read()
            if number < len(PHASES):
                self._progress.doing(PHASES[number], seconds=bounds[number + 1] - bound)

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self._recorder.now()))

    def _record(self, step: str, samples: list[Sample]) -> StepRecord:
        phases = by_phase(self._readings)
        return StepRecord(
            step=step,
            started=0.0,
            fault_at=self._table.fault_at,
            repair_at=self._table.repair_at,
            ended=self._table.end,
            samples=samples,
            events=self._recorder.events(),
            replicas=self._cluster.replicas(),
            ready=self._recorder.ready_counts(),
            journeys=journey_counts(phases, JOURNEYS),
            dependencies=dependency_counts(phases),
            consumer_lag=self._lag,
        )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first, since one line is to be said about it; a LabError if there is one."""
    errors = list(_leaves(group))
    return next((error for error in errors if isinstance(error, LabError)), errors[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
