"""Deployments of real processes; platform time runs fifty times as fast as ours."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from shoal.kubernetes import Probe, Probes, RolloutStrategy
from shoal_lab.errors import PlatformError
from shoal_lab.platform.deployment import Deployment
from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.pod import Pod, PodIdentity, Template

Eventually = Callable[..., Awaitable[None]]
Make = Callable[..., Deployment]

PROBES = Probes(startup=Probe(period=1, timeout=5, failure_threshold=1000), readiness=Probe(period=1, timeout=5))
SCALE = 50.0


class Balancer:
    """What a load balancer was told of one service."""

    def __init__(self) -> None:
        self.told: list[list[tuple[str, int]]] = []

    def __call__(self, service: str, addresses: list[tuple[str, int]]) -> None:
        assert service == "wallet"
        self.told.append(addresses)


@pytest.fixture
def balancer() -> Balancer:
    return Balancer()


@pytest.fixture
async def make(janitor: Janitor, tmp_path: Path, recorded: Any, web: Any, balancer: Balancer) -> AsyncIterator[Make]:
    """Makes deployments of `wallet` and stops them in the end."""
    made: list[Deployment] = []

    def make_deployment(
        replicas: int = 3, *, command: Any = None, probes: Probes = PROBES, **options: Any
    ) -> Deployment:
        made.append(
            Deployment(
                "wallet",
                replicas=replicas,
                template=Template(service="wallet", command=command or web.command, probes=probes, revision="v1"),
                janitor=janitor,
                run_dir=tmp_path / "run",
                record=recorded,
                on_endpoints=balancer,
                time_scale=SCALE,
                **options,
            )
        )
        return made[-1]

    yield make_deployment
    for deployment in made:
        await deployment.stop()
    assert web.processes() == set()


def revision(web: Any, name: str, **options: Any) -> Template:
    return Template(service="wallet", command=web.command, probes=PROBES, revision=name, **options)


def names(pods: Sequence[Pod]) -> list[str]:
    return [pod.name for pod in pods]


async def test_replicas_are_brought_up_and_their_endpoints_told(make: Make, recorded: Any, balancer: Balancer) -> None:
    deployment = make(3)

    await deployment.start()
    await deployment.wait_ready(20.0)

    assert names(deployment.pods) == ["wallet/0", "wallet/1", "wallet/2"]
    assert deployment.ready_addresses() == [pod.app_address for pod in deployment.pods]
    assert [len(addresses) for addresses in balancer.told] == [1, 2, 3]
    assert balancer.told[-1] == deployment.ready_addresses()
    assert recorded.kinds("wallet/1") == ["started", "ready"]
    assert recorded.kinds() == []


async def test_a_killed_pod_leaves_the_load_balancer_and_comes_back_at_its_address(
    make: Make, balancer: Balancer, eventually: Eventually
) -> None:
    deployment = make(2)
    await deployment.start()
    await deployment.wait_ready(20.0)
    before = deployment.ready_addresses()

    deployment.pods[0].kill()
    await eventually(lambda: len(deployment.ready_addresses()) == 1)
    await deployment.wait_ready(20.0)

    assert deployment.ready_addresses() == before
    assert balancer.told[-2:] == [before[1:], before]


async def test_a_service_whose_pods_are_all_unready_has_no_endpoints(
    make: Make, web: Any, balancer: Balancer, eventually: Eventually
) -> None:
    """There is no falling back to pods that are merely unready: the article's outage."""
    deployment = make(2)
    await deployment.start()
    await deployment.wait_ready(20.0)

    web.answers(readyz=500)
    await eventually(lambda: deployment.ready_addresses() == [])

    assert balancer.told[-1] == []
    assert all(pod.started and pod.restarts == 0 for pod in deployment.pods)


async def test_a_pod_somebody_deleted_is_replaced(make: Make, eventually: Eventually) -> None:
    deployment = make(2)
    await deployment.start()
    await deployment.wait_ready(20.0)

    await deployment.pods[0].delete()
    await deployment.wait_ready(20.0)

    assert len(deployment.pods) == len(deployment.ready_addresses()) == 2


async def test_a_rolling_update_replaces_every_pod_and_the_service_never_has_fewer_endpoints_than_it_may(
    make: Make, web: Any, recorded: Any, balancer: Balancer, eventually: Eventually
) -> None:
    deployment = make(3)
    await deployment.start()
    await deployment.wait_ready(20.0)
    del balancer.told[:]

    await deployment.roll_out(revision(web, "v2"))
    await eventually(lambda: deployment.status == "complete", within=20.0)
    await eventually(lambda: len(deployment.pods) == 3)

    assert {pod.revision for pod in deployment.pods} == {"v2"}
    assert len(deployment.ready_addresses()) == 3
    assert min(len(addresses) for addresses in balancer.told) >= 3
    assert max(len(addresses) for addresses in balancer.told) <= 4
    assert "wallet/3" in {event[2] for event in recorded}, "the surge pod has the next free ordinal"
    assert {pod.identity.ordinal for pod in deployment.pods} <= {0, 1, 2, 3, 4}
    assert [event for event in recorded if not event[2]] == [
        ("rollout", "wallet", "", "revision v1 -> v2"),
        ("rollout-complete", "wallet", "", "revision v2"),
    ]


async def test_a_rollout_that_cannot_work_stalls_beside_the_old_pods_and_can_be_rolled_back(
    make: Make, web: Any, recorded: Any, eventually: Eventually
) -> None:
    deployment = make(3, strategy=RolloutStrategy(progress_deadline=75.0))
    await deployment.start()
    await deployment.wait_ready(20.0)
    old = [pod.pid for pod in deployment.pods]

    web.answers(v2={"readyz": 503})
    await deployment.roll_out(revision(web, "v2"))
    await eventually(lambda: deployment.status == "stalled", within=20.0)

    assert [pod.pid for pod in deployment.pods[:3]] == old
    assert [pod.revision for pod in deployment.pods[3:]] == ["v2"]
    assert len(deployment.ready_addresses()) == 3

    await deployment.roll_back()
    await eventually(lambda: deployment.status == "complete")
    await eventually(lambda: len(deployment.pods) == 3)

    assert [pod.pid for pod in deployment.pods] == old
    assert [event for event in recorded if not event[2]] == [
        ("rollout", "wallet", "", "revision v1 -> v2"),
        ("rollout-stalled", "wallet", "", "revision v2: 0 of 1 new pods ready, 3 old pods left"),
        ("rollout", "wallet", "", "revision v2 -> v1"),
        ("rollout-complete", "wallet", "", "revision v1"),
    ]


async def test_a_rollout_while_everything_is_unready_deletes_old_pods_and_stalls(
    make: Make, web: Any, eventually: Eventually
) -> None:
    """A deep readiness probe that is down during a rollout costs old pods for nothing."""
    deployment = make(4, strategy=RolloutStrategy(progress_deadline=75.0))
    await deployment.start()
    await deployment.wait_ready(20.0)
    web.answers(readyz=500)
    await eventually(lambda: deployment.ready_addresses() == [])

    await deployment.roll_out(revision(web, "v2"))
    await eventually(lambda: deployment.status == "stalled", within=20.0)

    assert sorted(pod.revision for pod in deployment.pods) == ["v1", "v1", "v1", "v2", "v2"]


async def test_a_rollout_on_the_heels_of_another_wins(make: Make, web: Any, eventually: Eventually) -> None:
    deployment = make(2)
    await deployment.start()
    await deployment.wait_ready(20.0)

    await deployment.roll_out(revision(web, "v2"))
    await deployment.roll_out(revision(web, "v3"))
    await eventually(lambda: deployment.status == "complete" and len(deployment.pods) == 2, within=20.0)

    assert {pod.revision for pod in deployment.pods} == {"v3"}


async def test_what_cannot_be_rolled_out_is_refused(make: Make, web: Any) -> None:
    deployment = make(1)
    with pytest.raises(PlatformError, match="wallet is not running"):
        await deployment.roll_out(revision(web, "v2"))

    await deployment.start()

    with pytest.raises(PlatformError, match="wallet is at revision v1 already"):
        await deployment.roll_out(revision(web, "v1"))
    with pytest.raises(PlatformError, match="wallet has only had revision v1"):
        await deployment.roll_back()
    await deployment.stop()
    with pytest.raises(PlatformError, match="wallet is not running"):
        await deployment.roll_out(revision(web, "v2"))


async def test_a_pod_that_ends_before_it_has_started_is_named_with_its_status_and_last_words(
    make: Make, web: Any
) -> None:
    web.answers(exit=3)
    deployment = make(1)
    await deployment.start()

    with pytest.raises(PlatformError) as caught:
        await deployment.wait_ready(20.0)

    assert (
        str(caught.value) == "wallet/0 ended before it had started: it exited with status 3; it last said:\nno database"
    )


async def test_pods_that_do_not_get_ready_in_time_say_why(make: Make, web: Any, eventually: Eventually) -> None:
    web.answers(readyz=503)
    deployment = make(1)
    await deployment.start()
    await eventually(lambda: "503" in deployment.pods[0].why_not_ready)

    with pytest.raises(PlatformError) as caught:
        await deployment.wait_ready(0.05)

    assert str(caught.value) == (
        "wallet: 0 of 1 pods ready after 0.05 s; "
        "wallet/0: readiness probe: HTTP probe failed with statuscode: 503: auth is away"
    )


async def test_a_program_that_cannot_be_executed_is_an_error_at_the_start(make: Make) -> None:
    def missing(_identity: PodIdentity) -> tuple[Sequence[str], Mapping[str, str]]:
        return ["/nonexistent/wallet"], {}

    deployment = make(2, command=missing)

    with pytest.raises(PlatformError, match="wallet/0: cannot run /nonexistent/wallet: No such file or directory"):
        await deployment.start()


async def test_what_goes_wrong_in_the_background_is_not_lost(make: Make) -> None:
    def broken(identity: PodIdentity) -> tuple[Sequence[str], Mapping[str, str]]:
        raise KeyError(identity.ordinal)

    deployment = make(1, command=broken)

    with pytest.raises(KeyError):
        await deployment.start()
    with pytest.raises(KeyError):
        await deployment.wait_ready(5.0)
    with pytest.raises(KeyError):
        await deployment.stop()


async def test_stopping_tells_the_load_balancer_and_leaves_nothing(make: Make, web: Any, balancer: Balancer) -> None:
    deployment = make(2)
    await deployment.start()
    await deployment.wait_ready(20.0)

    await deployment.stop()
    await deployment.stop()

    assert balancer.told[-1] == []
    assert deployment.pods == []
    assert web.processes() == set()


@pytest.mark.parametrize("steps", range(8))
async def test_stopping_in_the_midst_of_a_start_leaves_nothing(make: Make, web: Any, steps: int) -> None:
    deployment = make(2)
    starting = asyncio.create_task(deployment.start())
    for _ in range(steps):
        await asyncio.sleep(0)
    starting.cancel()

    await deployment.stop()
    await asyncio.gather(starting, return_exceptions=True)

    assert web.processes() == set()


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 20])
async def test_a_stop_that_is_cancelled_kills_at_once(make: Make, web: Any, steps: int) -> None:
    deployment = make(2)
    await deployment.start()
    await deployment.wait_ready(20.0)
    web.answers(sigterm="ignore")

    stopping = asyncio.create_task(deployment.stop())
    for _ in range(steps):
        await asyncio.sleep(0)
    began = time.monotonic()
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)

    assert stopping.cancelled()
    assert time.monotonic() - began < 0.5, "the grace is 0.6 s"
    assert web.processes() == set()


async def test_stopping_in_the_midst_of_a_rollout_leaves_nothing(make: Make, web: Any, eventually: Eventually) -> None:
    deployment = make(3)
    await deployment.start()
    await deployment.wait_ready(20.0)
    web.answers(sigterm="linger")
    await deployment.roll_out(revision(web, "v2"))
    await eventually(lambda: any(pod.deleting for pod in deployment.pods), within=20.0)

    await deployment.stop()

    assert web.processes() == set()


async def test_pods_started_together_with_the_kubelet_are_not_probed_in_step(make: Make, recorded: Any) -> None:
    deployment = make(3, probes=Probes(readiness=Probe(period=60, timeout=5)), rng=random.Random(7))

    await deployment.start()
    await deployment.wait_ready(20.0)

    ready = recorded.moments("ready")
    assert max(ready) - min(ready) >= 0.15, "in step they would be ready within a few milliseconds"


async def test_pods_made_together_on_nodes_that_are_up_are_probed_in_step(make: Make, recorded: Any) -> None:
    deployment = make(3, probes=Probes(readiness=Probe(period=100, timeout=5)))

    await deployment.start()
    await deployment.wait_ready(20.0)

    ready = recorded.moments("ready")
    assert max(ready) - min(ready) < 0.5 * 100 / SCALE, "in step they are ready within a part of the period"


async def test_a_negative_number_of_replicas_is_rejected(make: Make) -> None:
    with pytest.raises(ValueError, match="replicas must be at least 0, got -1"):
        make(-1)


async def test_no_replicas_are_ready_at_once(make: Make) -> None:
    deployment = make(0)
    await deployment.start()
    await deployment.wait_ready(1.0)

    assert deployment.ready_addresses() == []
