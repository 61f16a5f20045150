import asyncio
import time

import pytest

from shoal.kubernetes import Observation, Probe, ProbeOutcome, ProbeType, ProbeWorker
from shoal_lab.platform._probing import Ticker, run_worker
from shoal_lab.platform.prober import ProbeReport

RUNNING = Observation(container_id="a", state="running", started=True)
FINE = ProbeReport(ProbeOutcome.SUCCESS, "HTTP 200")


@pytest.mark.parametrize(
    ("read_at", "then"),
    [(10.0, 20.0), (9.999, 20.0), (13.0, 20.0), (19.0, 20.0), (20.0, 30.0), (47.0, 50.0)],
    ids=["in time", "a timer that fires early", "late", "very late", "one dropped", "three dropped"],
)
def test_a_slow_reader_keeps_the_phase_and_loses_all_ticks_but_one(read_at: float, then: float) -> None:
    ticker = Ticker(10.0, now=0.0)

    ticker.read(read_at)

    assert ticker.next == then


def test_a_reset_begins_a_new_period() -> None:
    ticker = Ticker(10.0, now=0.0)

    ticker.reset(7.0)

    assert ticker.next == 17.0


class Run:
    """A readiness worker that is driven, and the moments of its probes."""

    def __init__(self, *, period: float, takes: float = 0.0, first_after: float = 0.0) -> None:
        self.seen = RUNNING
        self.probes: list[float] = []
        self.reports: list[ProbeReport | None] = []
        self.trigger = asyncio.Event()
        self.at_once = 0
        self.most_at_once = 0
        self._probed = asyncio.Event()
        self._takes = takes
        self._began = time.monotonic()
        self.task = asyncio.create_task(
            run_worker(
                ProbeWorker(ProbeType.READINESS, Probe()),
                period=period,
                first_after=first_after,
                look=lambda: self.seen,
                probe=self._probe,
                trigger=self.trigger,
                after=lambda _worker, report: self.reports.append(report),
            )
        )

    async def _probe(self) -> ProbeReport:
        self.probes.append(time.monotonic() - self._began)
        self._probed.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self._takes)
        self.at_once -= 1
        return FINE

    async def until(self, probes: int) -> None:
        """Wait until so many probes were made, then end."""
        while len(self.probes) < probes:
            self._probed.clear()
            await asyncio.wait_for(self._probed.wait(), 10.0)
        self.task.cancel()


async def test_the_first_probe_is_made_at_once_and_the_next_after_a_period() -> None:
    run = Run(period=0.2)

    await run.until(2)

    assert run.probes[0] < 0.15
    assert run.probes[1] >= 0.2


async def test_a_worker_can_begin_out_of_step() -> None:
    run = Run(period=0.01, first_after=0.2)

    await run.until(1)

    assert run.probes[0] >= 0.2


async def test_a_probe_that_takes_longer_than_a_period_is_followed_at_once_and_never_overlaps() -> None:
    run = Run(period=0.02, takes=0.05)

    await run.until(5)

    assert run.most_at_once == 1
    assert run.probes[4] - run.probes[0] >= 4 * 0.05


async def test_a_trigger_probes_at_once_and_begins_a_new_period() -> None:
    run = Run(period=0.3)
    await asyncio.sleep(0.15)

    run.trigger.set()
    await run.until(3)

    assert run.probes[1] < 0.29
    assert run.probes[2] - run.probes[1] >= 0.3


async def test_a_worker_that_ends_is_heard_a_last_time() -> None:
    run = Run(period=0.01)
    await asyncio.sleep(0.03)

    run.seen = Observation(container_id="a", state="terminated", phase="Failed")
    await asyncio.wait_for(run.task, 5.0)

    assert run.reports[0] is FINE
    assert run.reports[-1] is None
