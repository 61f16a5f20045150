"""The proxy on one edge of one replica."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Literal

from .counters import Counters
from .fault import Fault
from .gate import Address, Gate
from .http import HttpWire
from .kafka import KafkaWire
from .wire import Outlets, Plain, Wire

Protocol = Literal["tcp", "http", "kafka"]


class FaultProxy:
    """Stands between a caller and its dependency on 127.0.0.1, and loses it the dependency when told to.

    `name` is the edge in messages ("wallet/0 -> auth"), `target` where the dependency is. *rng* decides which requests
    suffer from `errors`. Faults take effect at once (connections are reset on the event loop's next turn); call this
    class on the loop's own thread only.

    On a `kafka` edge the brokers' addresses in answers are replaced by more ports of this proxy, so that the fault
    covers all brokers; *target* is one of them to begin with.
    """

    def __init__(self, name: str, target: Address, *, protocol: Protocol, rng: random.Random) -> None:
        self.name = name
        self.target = target
        self.protocol = protocol
        self.counters = Counters()
        self._rng = rng
        self._fault: Fault | None = None
        self._running = False
        self._gates: dict[Address, Gate] = {target: self._gate(target)}

    @property
    def fault(self) -> Fault | None:
        """What the edge suffers from now; None if it is sound."""
        return self._fault

    @property
    def address(self) -> Address:
        """Where the caller connects to. Known from the first `start` on, and never another; RuntimeError before."""
        return self._gates[self.target].address

    @property
    def port(self) -> int:
        """The port of `address`."""
        return self.address[1]

    @property
    def connections(self) -> int:
        """Connections that stand now."""
        return sum(gate.connections for gate in self._gates.values())

    async def start(self) -> None:
        """Listen (unless the edge is down). Raises `PlatformError` if a port cannot be had."""
        self._running = True
        for gate in self._gates.values():
            gate.start(self._fault)

    async def stop(self) -> None:
        """Reset all connections and give the ports back. Waits for no peer. May be called again, and start too."""
        self._running = False
        for gate in self._gates.values():
            gate.close()
        for gate in self._gates.values():
            await gate.wait_closed()

    def inject(self, fault: Fault) -> None:
        """Break the edge; a fault already there is replaced. Raises ValueError for `errors` on an edge not HTTP."""
        if fault.kind == "errors" and self.protocol != "http":
            raise ValueError(f"{self.name}: errors can be injected on http edges only, this one is {self.protocol}")
        self._suffer(fault)

    def clear(self) -> None:
        """Repair the edge."""
        self._suffer(None)

    def _suffer(self, fault: Fault | None) -> None:
        self._fault = fault
        for gate in self._gates.values():
            gate.suffer(fault)

    def _gate(self, target: Address) -> Gate:
        return Gate(target, wire=self._wire(), counters=self.counters)

    def _wire(self) -> Callable[[Outlets], Wire]:
        if self.protocol == "http":
            return partial(HttpWire, refuses=self._refuses, counters=self.counters)
        if self.protocol == "kafka":
            return partial(KafkaWire, via=self._via)
        return Plain

    def _refuses(self) -> bool:
        fault = self._fault
        return fault is not None and fault.kind == "errors" and self._rng.random() < fault.share

    def _via(self, broker: Address) -> Address:
        """The address on this edge that stands for a broker's."""
        if broker not in self._gates:
            gate = self._gate(broker)
            if self._running:
                gate.start(self._fault)
            self._gates[broker] = gate
        return self._gates[broker].address
