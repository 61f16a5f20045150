"""Drives a probe worker in real time: when it looks (K1, K3, K15), and the probes it asks for."""

import asyncio
from collections.abc import Awaitable, Callable

from shoal.kubernetes import Decision, Observation, ProbeWorker

from .prober import ProbeReport


class Ticker:
    """Ticks every *period* seconds like Go's: one tick waits for a slow reader, more are dropped, the phase is kept."""

    def __init__(self, period: float, *, now: float) -> None:
        self._period = period
        self.next = now + period

    def read(self, now: float) -> None:
        """The tick that was due has been taken."""
        # A timer may fire a clock tick early.
        self.next += self._period * (1 + max(0.0, now - self.next) // self._period)

    def reset(self, now: float) -> None:
        """Begin a new period, forgetting a tick that waits."""
        self.next = now + self._period


async def run_worker(
    worker: ProbeWorker,
    *,
    period: float,
    first_after: float,
    look: Callable[[], Observation],
    probe: Callable[[], Awaitable[ProbeReport]],
    trigger: asyncio.Event,
    after: Callable[[ProbeWorker, ProbeReport | None], None],
) -> None:
    """Look after *first_after* seconds, then every *period* seconds and whenever *trigger* is set, until it ends.

    *probe* is awaited, so there are never two at a time. *after* is called after each look, with the report of the
    probe if there was one. A *trigger* begins a new period, as every status update of a container that is not ready
    does in the kubelet.
    """
    loop = asyncio.get_running_loop()
    await asyncio.sleep(first_after)
    ticker = Ticker(period, now=loop.time())
    while (decision := worker.observe(look())) is not Decision.STOP:
        report = None
        if decision is Decision.PROBE:
            report = await probe()
            worker.record(report.outcome)
        after(worker, report)
        try:
            async with asyncio.timeout_at(ticker.next):
                await trigger.wait()
        except TimeoutError:
            ticker.read(loop.time())
        else:
            trigger.clear()
            ticker.reset(loop.time())
    after(worker, None)
