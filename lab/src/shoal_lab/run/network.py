"""The network of one step: a fault proxy on every edge of every replica."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack

from shoal_lab.company.manifest import Dependency, Workload
from shoal_lab.faults import Fault, FaultProxy
from shoal_lab.scenario import Edge, EdgeFault

Address = tuple[str, int]


class Network:
    """Proxies by caller, replica and dependency; made before the pods, since a pod is told their addresses."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._proxies: dict[tuple[str, int, str], FaultProxy] = {}
        self._held = AsyncExitStack()

    async def connect(
        self, company: Iterable[Workload], address_of: Callable[[Dependency], Address], *, spare: int
    ) -> None:
        """Put a proxy on each edge; *spare* replicas more per service have theirs ready for a rollout."""
        for workload in company:
            for replica in range(workload.replicas + spare):
                for dependency in workload.dependencies:
                    name = f"{workload.service}/{replica} -> {dependency.name}"
                    proxy = FaultProxy(
                        name,
                        address_of(dependency),
                        protocol=dependency.protocol,
                        rng=random.Random(f"{self._seed} {name}"),
                    )
                    await proxy.start()
                    self._held.push_async_callback(proxy.stop)
                    self._proxies[workload.service, replica, dependency.name] = proxy

    def addresses(self, service: str, replica: int) -> Mapping[str, Address]:
        """Where a replica reaches each of its dependencies."""
        return {
            dependency: proxy.address
            for (caller, number, dependency), proxy in self._proxies.items()
            if (caller, number) == (service, replica)
        }

    def begin(self, fault: EdgeFault) -> None:
        """Break the edges that *fault* names."""
        for proxy in self._on(fault.edges):
            proxy.inject(Fault(kind=fault.kind, latency=fault.latency, share=fault.share))

    def end(self, fault: EdgeFault) -> None:
        """Repair them."""
        for proxy in self._on(fault.edges):
            proxy.clear()

    def _on(self, edges: Iterable[Edge]) -> list[FaultProxy]:
        return [
            proxy
            for (caller, replica, dependency), proxy in self._proxies.items()
            if any(
                (edge.caller, edge.dependency) == (caller, dependency) and edge.replica in (None, replica)
                for edge in edges
            )
        ]

    async def close(self) -> None:
        """Stop all proxies."""
        async with asyncio.timeout(10.0):
            await self._held.aclose()
