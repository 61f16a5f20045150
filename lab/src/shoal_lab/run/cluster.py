"""The company deployed for one step: databases filled, load balancer, network, and a Deployment per service."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from shoal.kubernetes import Probe, Probes
from shoal_lab.company import seed
from shoal_lab.company.manifest import DATABASES, Dependency, Workload
from shoal_lab.company.settings import PodSettings
from shoal_lab.ladder import Step
from shoal_lab.load import PASSWORD, all_names
from shoal_lab.platform import (
    Address,
    Deployment,
    Envoy,
    Janitor,
    Kafka,
    Pod,
    PodIdentity,
    Postgres,
    Reservation,
    Route,
    Template,
    dsn_via,
    reserve,
)
from shoal_lab.run.counters import Life
from shoal_lab.run.network import Network
from shoal_lab.run.plan import deployed, existing
from shoal_lab.run.recorder import Recorder
from shoal_lab.run.settings import Settings
from shoal_lab.scenario import Edge, Rollout, Scenario

# The kubelet's defaults, as most manifests leave them; startup asks often, so that a pod is up when it is up.
PROBES = Probes(
    startup=Probe(period=1, failure_threshold=600),
    readiness=Probe(),
    liveness=Probe(),
)
GRACE = 30.0
START_WITHIN = 90.0
"""Real seconds for all pods to become ready; on 2 idle cores it takes 8."""


class Cluster:
    """Everything that runs for one step. Use as `async with`; what it starts ends with it."""

    def __init__(
        self,
        step: Step,
        scenario: Scenario,
        settings: Settings,
        *,
        postgres: Postgres,
        kafka: Kafka,
        janitor: Janitor,
        run_dir: Path,
        recorder: Recorder,
        consumer_group: str,
    ) -> None:
        self._step = step
        self._scenario = scenario
        self._settings = settings
        self._postgres = postgres
        self._kafka = kafka
        self._janitor = janitor
        self._run_dir = run_dir / step.name
        self._recorder = recorder
        self._consumer_group = consumer_group
        self._company = deployed(step)
        self._stack = AsyncExitStack()
        self._dsns: dict[str, str] = {}
        self._deployments: dict[str, Deployment] = {}
        self._nowhere: Reservation = reserve()
        self.network = Network(seed=settings.seed)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self._stack.callback(self._nowhere.close)
        await self._fill_databases()
        self.envoy = await Envoy.start(
            run_dir=self._run_dir,
            janitor=self._janitor,
            services=list(self._company),
            routes=[Route(path, workload.service) for workload in self._company.values() for path in workload.routes],
            edge_port=self._settings.edge_port,
        )
        self._stack.push_async_callback(self.envoy.stop)
        self._stack.push_async_callback(self.network.close)
        await self.network.connect(self._company.values(), self._address_of, spare=3 if self._scenario.rollouts else 0)
        for workload in self._company.values():
            deployment = Deployment(
                workload.service,
                replicas=workload.replicas,
                template=self._template(workload, revision="1"),
                time_scale=self._settings.time_scale,
                janitor=self._janitor,
                run_dir=self._run_dir,
                record=self._recorder.event,
                on_endpoints=self._on_endpoints,
            )
            self._deployments[workload.service] = deployment
        self._stack.push_async_callback(self._stop_deployments)
        await asyncio.gather(*(deployment.start() for deployment in self._deployments.values()))
        await asyncio.gather(*(deployment.wait_ready(START_WITHIN) for deployment in self._deployments.values()))

    async def _stop_deployments(self) -> None:
        await asyncio.gather(*(deployment.stop() for deployment in self._deployments.values()))

    async def _fill_databases(self) -> None:
        customers = all_names(self._scenario.customers)
        # One after another: each CREATE DATABASE copies the same template, and PostgreSQL lets one do so at a time.
        for service in DATABASES:
            dsn = await self._postgres.create_database(f"{self._step.name}_{service}".replace("-", "_"))
            await seed.seed(service, dsn, customers, password=PASSWORD)
            self._dsns[service] = dsn

    def _address_of(self, dependency: Dependency) -> Address:
        if dependency.protocol == "tcp":
            return self._postgres.address
        if dependency.protocol == "kafka":
            host, _, port = self._kafka.bootstrap.partition(",")[0].rpartition(":")
            return host, int(port)
        return self.envoy.service_address(dependency.to)

    def _template(self, workload: Workload, *, revision: str, broken: str = "") -> Template:
        def command(identity: PodIdentity) -> tuple[Sequence[str], Mapping[str, str]]:
            addresses = dict(self.network.addresses(workload.service, identity.ordinal))
            if broken:
                addresses[broken] = self._nowhere.address
            settings = PodSettings(
                service=workload.service,
                pod=identity.name,
                app_port=identity.app_address[1],
                probe_port=identity.probe_address[1],
                remedies=self._step.remedies,
                targets={d.name: self._target(d, addresses[d.name]) for d in workload.dependencies},
                time_scale=self._settings.time_scale,
                consumer_group=self._consumer_group,
            )
            return [sys.executable, "-m", "shoal_lab.company.pod"], {**_environment(), **settings.to_environment()}

        return Template(service=workload.service, command=command, probes=PROBES, grace=GRACE, revision=revision)

    def _target(self, dependency: Dependency, address: Address) -> str:
        host, port = address
        if dependency.protocol == "tcp":
            return dsn_via(self._dsns[dependency.to], host, port)
        return f"{host}:{port}" if dependency.protocol == "kafka" else f"http://{host}:{port}"

    def _on_endpoints(self, service: str, addresses: Sequence[Address]) -> None:
        self._recorder.ready(service, len(addresses))
        self.envoy.set_endpoints(service, addresses)

    async def watch(self) -> None:
        """Raise PlatformError, perhaps in a group, as soon as Envoy or a PostgreSQL of our own dies."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.envoy.watch())
            tasks.create_task(self._postgres.watch())

    def lives(self) -> Iterator[Life]:
        """Every pod process there is now."""
        for service, deployment in self._deployments.items():
            for pod in deployment.pods:
                if pod.pid is not None:
                    yield Life(service, pod.name, pod.pid, pod.probe_address)

    def pod(self, service: str, replica: int) -> Pod | None:
        """One replica, or `None` if it is gone."""
        name = f"{service}/{replica}"
        return next((pod for pod in self._deployments[service].pods if pod.name == name), None)

    def existing(self, edges: Sequence[Edge]) -> list[Edge]:
        """Those of *edges* that there are under this step."""
        return existing(edges, self._company)

    def replicas(self) -> dict[str, int]:
        """Replicas wanted of each service."""
        return {workload.service: workload.replicas for workload in self._company.values()}

    async def roll_out(self, rollout: Rollout) -> None:
        """Begin to roll out a version whose address of a dependency is wrong."""
        for edge in self.existing(rollout.edges):
            workload = self._company[edge.caller]
            await self._deployments[edge.caller].roll_out(
                self._template(workload, revision="2", broken=edge.dependency)
            )

    async def roll_back(self, rollout: Rollout) -> None:
        """Begin to roll out the version before."""
        for edge in self.existing(rollout.edges):
            await self._deployments[edge.caller].roll_back()


def _environment() -> dict[str, str]:
    """Ours, without what would slow a pod's start: caches of compiled modules are welcome there."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
