"""Pods with real processes and real probes; platform time runs fifty times as fast as ours."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from shoal.kubernetes import Probe, Probes
from shoal_lab.errors import PlatformError
from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.pod import Pod, PodIdentity, Template

Eventually = Callable[..., Awaitable[None]]
Make = Callable[..., Pod]

EVERY_SECOND = Probe(period=1, timeout=5)
PATIENT = Probe(period=1, timeout=5, failure_threshold=1000)
ALL = Probes(startup=PATIENT, liveness=EVERY_SECOND, readiness=EVERY_SECOND)


@pytest.fixture
async def make(janitor: Janitor, tmp_path: Path, recorded: Any, web: Any) -> AsyncIterator[Make]:
    """Makes pods `wallet/0`, `wallet/1`, ... and deletes them in the end."""
    pods: list[Pod] = []

    def make_pod(
        probes: Probes = ALL,
        *,
        command: Any = None,
        on_change: Callable[[Pod], None] = lambda _pod: None,
        phase: float = 0.0,
        grace: float = 1500.0,
        **template: Any,
    ) -> Pod:
        pods.append(
            Pod(
                Template(service="wallet", command=command or web.command, probes=probes, grace=grace, **template),
                ordinal=len(pods),
                janitor=janitor,
                run_dir=tmp_path / "run",
                record=recorded,
                on_change=on_change,
                time_scale=50.0,
                phase=lambda _period: phase,
            )
        )
        return pods[-1]

    yield make_pod
    await asyncio.gather(*(pod.delete(at_once=True) for pod in pods))
    assert web.processes() == set()


def log_of(tmp_path: Path, pod: str = "wallet-0") -> list[str]:
    return (tmp_path / "run" / f"{pod}.log").read_text().splitlines()


def can_connect(address: tuple[str, int]) -> bool:
    with socket.socket() as client:
        return client.connect_ex(address) == 0


async def test_a_pod_starts_and_gets_ready(make: Make, recorded: Any, eventually: Eventually) -> None:
    pod = make()
    assert not can_connect(pod.app_address)

    await pod.start()
    await eventually(lambda: pod.ready)

    assert (pod.name, pod.revision, pod.started, pod.restarts, pod.why_not_ready) == ("wallet/0", "1", True, 0, "")
    assert can_connect(pod.app_address)
    assert can_connect(pod.probe_address)
    assert recorded == [("started", "wallet", "wallet/0", ""), ("ready", "wallet", "wallet/0", "")]


async def test_a_pod_without_probes_is_ready_as_soon_as_it_runs(make: Make) -> None:
    pod = make(Probes())

    await pod.start()

    assert pod.ready


async def test_nothing_but_startup_is_probed_before_a_pod_has_started(
    make: Make, web: Any, tmp_path: Path, eventually: Eventually
) -> None:
    web.answers(startupz=503)
    pod = make()

    await pod.start()
    await eventually(lambda: log_of(tmp_path).count("/startupz") >= 5)
    assert set(log_of(tmp_path)) == {"/startupz"}
    assert pod.why_not_ready == "startup probe: HTTP probe failed with statuscode: 503: auth is away"

    web.answers()
    await eventually(lambda: pod.ready and log_of(tmp_path).count("/livez") >= 5)
    since = log_of(tmp_path)[log_of(tmp_path).index("/readyz") :]
    assert "/startupz" not in since


async def test_a_pod_is_probed_for_readiness_at_once_when_it_has_started(make: Make, eventually: Eventually) -> None:
    """And not a period later, which would be 12 s here."""
    pod = make(Probes(startup=PATIENT, readiness=Probe(period=600, timeout=5)))

    await pod.start()

    await eventually(lambda: pod.ready, within=6.0)


async def test_a_probe_can_begin_out_of_step(make: Make, eventually: Eventually) -> None:
    pod = make(Probes(readiness=EVERY_SECOND), phase=20.0)

    began = time.monotonic()
    await pod.start()
    await eventually(lambda: pod.ready)

    assert time.monotonic() - began >= 20.0 / 50.0


async def test_a_pod_that_fails_its_readiness_probe_leaves_and_comes_back(
    make: Make, web: Any, recorded: Any, eventually: Eventually
) -> None:
    pod = make()
    await pod.start()
    await eventually(lambda: pod.ready)
    pid = pod.pid

    web.answers(readyz=503)
    await eventually(lambda: not pod.ready)
    assert pod.started
    assert pod.why_not_ready == "readiness probe: HTTP probe failed with statuscode: 503: auth is away"
    web.answers()
    await eventually(lambda: pod.ready)

    assert pod.pid == pid
    assert recorded[2:] == [
        ("unready", "wallet", "wallet/0", "readiness probe: HTTP probe failed with statuscode: 503: auth is away"),
        ("ready", "wallet", "wallet/0", ""),
    ]


async def test_a_pod_that_fails_its_liveness_probe_is_restarted_at_the_same_address(
    make: Make, web: Any, recorded: Any, tmp_path: Path, eventually: Eventually
) -> None:
    changes: list[tuple[bool, int]] = []
    pod = make(
        # Readiness asks seldom, so that it does not notice the end before the supervisor does.
        Probes(startup=PATIENT, liveness=EVERY_SECOND, readiness=Probe(period=60, timeout=5)),
        on_change=lambda pod: changes.append((pod.ready, pod.restarts)),
    )
    await pod.start()
    await eventually(lambda: pod.ready)
    before = (pod.pid, pod.app_address)

    web.answers(livez=500)
    await eventually(lambda: "SIGTERM" in log_of(tmp_path))
    web.answers()
    await eventually(lambda: pod.ready and pod.restarts == 1)

    assert pod.pid != before[0]
    assert pod.app_address == before[1]
    why = "liveness probe: HTTP probe failed with statuscode: 500: auth is away"
    assert recorded[2:] == [
        ("killed", "wallet", "wallet/0", why),
        ("unready", "wallet", "wallet/0", why),
        ("restart", "wallet", "wallet/0", why),
        ("started", "wallet", "wallet/0", ""),
        ("ready", "wallet", "wallet/0", ""),
    ]
    assert changes.index((False, 1)) < changes.index((True, 1))


async def test_the_second_liveness_failure_in_a_row_restarts_at_once_too(
    make: Make, web: Any, recorded: Any, eventually: Eventually
) -> None:
    """The kubelet decides by the end of the process before, and there is no back-off yet."""
    web.answers(livez=500)
    pod = make(Probes(startup=PATIENT, liveness=EVERY_SECOND))
    await pod.start()

    await eventually(lambda: pod.restarts == 2)

    ends, starts = recorded.moments("unready"), recorded.moments("restart")
    assert starts[1] - ends[1] < 0.2, "10 s of platform time"


async def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace(
    make: Make, web: Any, recorded: Any, tmp_path: Path, eventually: Eventually
) -> None:
    pod = make(Probes(startup=PATIENT, liveness=Probe(period=1, timeout=5, termination_grace=1)))
    await pod.start()
    await eventually(lambda: "/livez" in log_of(tmp_path))

    web.answers(livez=500, sigterm="ignore")
    await eventually(lambda: "SIGTERM" in log_of(tmp_path))
    began = time.monotonic()
    await eventually(lambda: pod.restarts == 1)

    assert time.monotonic() - began >= 0.4, "half a second of real time is the least a process gets"


async def test_a_pod_that_fails_its_startup_probe_is_restarted(
    make: Make, web: Any, recorded: Any, eventually: Eventually
) -> None:
    web.answers(startupz=503)
    # The first look comes before the container runs, the next ones when Python may not be up yet.
    pod = make(Probes(startup=Probe(period=1, timeout=5, failure_threshold=60)))
    await pod.start()

    await eventually(lambda: pod.restarts >= 1)

    assert not pod.started
    assert pod.failure is not None
    assert pod.failure.startswith("wallet/0 ended before it had started: startup probe: HTTP probe failed with")
    web.answers()
    await eventually(lambda: pod.started)
    assert pod.failure is None


async def test_a_pod_whose_process_dies_is_restarted_later_each_time(
    make: Make, recorded: Any, eventually: Eventually
) -> None:
    pod = make(Probes(startup=PATIENT))
    await pod.start()

    for restarts in (1, 2, 3):
        await eventually(lambda: pod.ready)
        pod.send_line("7")
        await eventually(lambda restarts=restarts: pod.restarts == restarts)

    ends, starts = recorded.moments("unready"), recorded.moments("restart")
    waits = [start - end for start, end in zip(starts, ends, strict=True)]
    assert waits[0] < 0.2 <= waits[1] < 0.4 <= waits[2], "none, 10 s and 20 s of platform time"
    assert [event for event in recorded if event[0] == "restart"] == [
        ("restart", "wallet", "wallet/0", "it exited with status 7")
    ] * 3


async def test_a_killed_pod_leaves_at_once_and_is_restarted(make: Make, recorded: Any, eventually: Eventually) -> None:
    pod = make()
    await pod.start()
    await eventually(lambda: pod.ready)

    pod.kill()
    await eventually(lambda: pod.restarts == 1 and pod.ready)

    assert recorded[2:5] == [
        ("killed", "wallet", "wallet/0", "SIGKILL"),
        ("unready", "wallet", "wallet/0", "it was ended by SIGKILL"),
        ("restart", "wallet", "wallet/0", "it was ended by SIGKILL"),
    ]


async def test_a_restarted_pod_is_not_ready_before_its_new_process_was_asked(
    make: Make, tmp_path: Path, eventually: Eventually
) -> None:
    """Not even when the worker has not looked in between, so that it still holds the old process to be ready."""
    asked_when_ready: list[int] = []

    def on_change(pod: Pod) -> None:
        if pod.ready:
            asked_when_ready.append(log_of(tmp_path).count("/readyz"))

    pod = make(Probes(readiness=Probe(period=20, timeout=5)), on_change=on_change)
    await pod.start()
    await eventually(lambda: pod.ready)

    pod.kill()
    await eventually(lambda: pod.restarts == 1 and pod.ready)

    assert asked_when_ready == [1, 2]


async def test_a_deleted_pod_loses_its_endpoint_before_it_gets_sigterm(
    make: Make, web: Any, tmp_path: Path, eventually: Eventually
) -> None:
    changes: list[tuple[bool, bool, bool]] = []
    pod = make(on_change=lambda pod: changes.append((pod.conditions.ready, pod.conditions.serving, pod.gone)))
    await pod.start()
    await eventually(lambda: pod.ready)
    web.answers(sigterm="linger")
    del changes[:]

    await pod.delete()

    assert changes == [(False, True, False), (False, False, False), (False, False, True)]
    log = log_of(tmp_path)
    assert "SIGTERM" in log
    assert "/readyz" in log[log.index("SIGTERM") :], "readiness goes on while it leaves"
    assert log[log.index("SIGTERM") :].count("/livez") <= 1, "one may have been under way"
    assert pod.restarts == 0
    assert pod.gone
    assert not can_connect(pod.app_address)
    await pod.delete()


async def test_a_pause_before_sigterm_lets_others_notice(make: Make, tmp_path: Path, eventually: Eventually) -> None:
    pod = make(pre_stop=15.0)
    await pod.start()
    await eventually(lambda: pod.ready)

    began = time.monotonic()
    deletion = asyncio.create_task(pod.delete())
    await asyncio.sleep(0)
    assert pod.deleting
    assert can_connect(pod.app_address)
    await deletion

    assert time.monotonic() - began >= 15.0 / 50.0
    assert "SIGTERM" in log_of(tmp_path)


async def test_a_process_that_ends_during_the_pause_cuts_it_short(make: Make, eventually: Eventually) -> None:
    pod = make(pre_stop=1500.0)
    await pod.start()
    await eventually(lambda: pod.ready)

    deletion = asyncio.create_task(pod.delete())
    await asyncio.sleep(0)
    pod.kill()

    await asyncio.wait_for(deletion, 10.0)


async def test_a_cancelled_deletion_kills_at_once(make: Make, web: Any, eventually: Eventually) -> None:
    pod = make()
    await pod.start()
    await eventually(lambda: pod.ready)
    web.answers(sigterm="ignore")

    deletion = asyncio.create_task(pod.delete())
    other = asyncio.create_task(pod.delete())
    await asyncio.sleep(0.05)
    deletion.cancel()
    await asyncio.gather(deletion, other, return_exceptions=True)

    assert deletion.cancelled()
    assert pod.gone
    assert web.processes() == set()


@pytest.mark.parametrize("steps", range(6))
async def test_a_pod_deleted_while_it_is_being_started_leaves_nothing(make: Make, web: Any, steps: int) -> None:
    pod = make()
    starting = asyncio.create_task(pod.start())
    for _ in range(steps):
        await asyncio.sleep(0)

    await pod.delete(at_once=True)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)

    assert web.processes() == set()


async def test_a_pod_deleted_while_it_waits_to_be_restarted_goes_at_once(make: Make, eventually: Eventually) -> None:
    pod = make(Probes())
    await pod.start()
    for restarts in (1, 2):
        pod.kill()
        await eventually(lambda restarts=restarts: pod.restarts == restarts)
    pod.kill()
    await eventually(lambda: pod.why_not_ready == "no process runs")

    await asyncio.wait_for(pod.delete(), 5.0)

    assert pod.restarts == 2


async def test_a_pod_that_exits_before_it_has_started_says_so(make: Make, web: Any, eventually: Eventually) -> None:
    web.answers(exit=3)
    pod = make()

    await pod.start()
    await eventually(lambda: pod.failure)

    assert pod.failure == "wallet/0 ended before it had started: it exited with status 3; it last said:\nno database"


async def test_a_program_that_cannot_be_executed_is_an_error(make: Make) -> None:
    def missing(_identity: PodIdentity) -> tuple[Sequence[str], Mapping[str, str]]:
        return ["/nonexistent/wallet"], {}

    pod = make(command=missing)

    with pytest.raises(PlatformError, match="wallet/0: cannot run /nonexistent/wallet: No such file or directory"):
        await pod.start()


async def test_nothing_can_be_said_to_a_pod_without_a_process(make: Make) -> None:
    pod = make()

    with pytest.raises(PlatformError, match="wallet/0: no process runs, so it cannot be told 'block-loop'"):
        pod.send_line("block-loop")
    pod.kill()


async def test_a_pod_knows_who_it_is(make: Make, tmp_path: Path, eventually: Eventually) -> None:
    def command(identity: PodIdentity) -> tuple[Sequence[str], Mapping[str, str]]:
        words = [identity.name, identity.service, identity.revision, str(identity.ordinal)]
        return [sys.executable, "-I", "-S", "-c", "import os; print(os.environ['ME'])"], {"ME": " ".join(words)}

    pod = make(Probes(), command=command, revision="7")
    await pod.start()

    await eventually(lambda: log_of(tmp_path) and log_of(tmp_path)[0] == "wallet/0 wallet 7 0")


@pytest.mark.parametrize("pre_stop", [-1.0, 31.0])
def test_a_pause_that_does_not_fit_into_the_grace_is_rejected(pre_stop: float, web: Any) -> None:
    with pytest.raises(ValueError, match="pre_stop must be at least 0 and at most grace"):
        Template(service="wallet", command=web.command, probes=Probes(), grace=30.0, pre_stop=pre_stop)


async def test_a_clock_that_stands_still_is_rejected(janitor: Janitor, tmp_path: Path, recorded: Any, web: Any) -> None:
    template = Template(service="wallet", command=web.command, probes=Probes())

    with pytest.raises(ValueError, match="time_scale must be above 0, got 0"):
        Pod(template, ordinal=0, janitor=janitor, run_dir=tmp_path, record=recorded, time_scale=0)
