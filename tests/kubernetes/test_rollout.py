from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.kubernetes import PodState, RolloutPlan, RolloutProgress, RolloutStrategy, plan_rollout


def pods(revision: str, count: int, *, ready: bool = True, first: int = 0) -> list[PodState]:
    return [PodState(name=f"wallet/{first + i}", revision=revision, ready=ready) for i in range(count)]


def roll(
    state: list[PodState], *, revision: str, replicas: int, new_ones_get_ready: bool, strategy: RolloutStrategy
) -> tuple[list[PodState], int]:
    """Take steps until none is left; also the fewest ready pods on the way."""
    fewest = sum(pod.ready for pod in state)
    for number in range(100):
        plan = plan_rollout(state, revision=revision, replicas=replicas, strategy=strategy)
        if plan == RolloutPlan(create=0, delete=()):
            return state, fewest
        state = [pod for pod in state if pod.name not in plan.delete]
        fewest = min(fewest, sum(pod.ready for pod in state))
        state += pods(revision, plan.create, ready=False, first=1000 + 100 * number)
        surge, _ = strategy.limits(replicas)
        assert len(state) <= max(replicas + surge, len(state) - plan.create)
        if new_ones_get_ready:
            state = [replace(pod, ready=True) if pod.revision == revision else pod for pod in state]
    raise AssertionError("a rollout has to come to an end")


@pytest.mark.parametrize(
    ("strategy", "replicas", "limits"),
    [
        (RolloutStrategy(), 1, (1, 0)),
        (RolloutStrategy(), 3, (1, 0)),
        (RolloutStrategy(), 4, (1, 1)),
        (RolloutStrategy(), 5, (2, 1)),
        (RolloutStrategy(), 10, (3, 2)),
        (RolloutStrategy(max_surge=0, max_unavailable="25%"), 3, (0, 1)),
        (RolloutStrategy(max_surge=0, max_unavailable=0), 3, (0, 1)),
        (RolloutStrategy(max_surge=2, max_unavailable=1), 3, (2, 1)),
        (RolloutStrategy(max_surge="150%", max_unavailable="100%"), 3, (5, 3)),
    ],
)
def test_shares_are_rounded_in_favour_of_the_service(
    strategy: RolloutStrategy, replicas: int, limits: tuple[int, int]
) -> None:
    assert strategy.limits(replicas) == limits


@pytest.mark.parametrize("value", [-1, "25", "-25%", "a quarter", "2.5%", "%", ""])
def test_what_is_neither_pods_nor_a_percentage_is_rejected(value: int | str) -> None:
    with pytest.raises(ValueError, match="max_surge must be a number of pods"):
        RolloutStrategy(max_surge=value)
    with pytest.raises(ValueError, match="max_unavailable must be a number of pods"):
        RolloutStrategy(max_unavailable=value)


def test_more_than_all_pods_cannot_be_unavailable() -> None:
    with pytest.raises(ValueError, match="max_unavailable must be at most 100%, got 101%"):
        RolloutStrategy(max_unavailable="101%")


def test_a_deadline_of_nothing_is_rejected() -> None:
    with pytest.raises(ValueError, match="progress_deadline must be above 0 seconds, got 0"):
        RolloutStrategy(progress_deadline=0)


def test_a_new_deployment_creates_all_its_pods_at_once() -> None:
    assert plan_rollout([], revision="1", replicas=3) == RolloutPlan(create=3, delete=())


def test_a_deployment_at_rest_stays_at_rest() -> None:
    assert plan_rollout(pods("1", 3), revision="1", replicas=3) == RolloutPlan(create=0, delete=())


def test_a_deleted_pod_is_replaced_at_once() -> None:
    state = [replace(pod, terminating=pod.name == "wallet/1") for pod in pods("1", 3)]

    assert plan_rollout(state, revision="1", replicas=3) == RolloutPlan(create=1, delete=())


def test_a_pod_too_many_goes_and_the_one_that_is_not_ready_first() -> None:
    state = [*pods("1", 1, ready=False), *pods("1", 3, first=1)]

    assert plan_rollout(state, revision="1", replicas=3) == RolloutPlan(create=0, delete=("wallet/0",))
    assert plan_rollout(pods("1", 4), revision="1", replicas=3) == RolloutPlan(create=0, delete=("wallet/3",))


def test_three_replicas_are_replaced_one_by_one_without_missing_any() -> None:
    final, fewest = roll(pods("1", 3), revision="2", replicas=3, new_ones_get_ready=True, strategy=RolloutStrategy())

    assert [pod.revision for pod in final] == ["2", "2", "2"]
    assert fewest == 3


def test_an_old_pod_goes_only_when_a_new_one_is_ready() -> None:
    state = [*pods("1", 3), *pods("2", 1, ready=False, first=3)]
    assert plan_rollout(state, revision="2", replicas=3) == RolloutPlan(create=0, delete=())

    state = [*pods("1", 3), *pods("2", 1, first=3)]
    assert plan_rollout(state, revision="2", replicas=3) == RolloutPlan(create=0, delete=("wallet/0",))


def test_old_pods_that_are_not_ready_go_first() -> None:
    state = [*pods("1", 3), *pods("1", 1, ready=False, first=3)]

    assert plan_rollout(state, revision="2", replicas=4) == RolloutPlan(create=1, delete=("wallet/3",))


@pytest.mark.parametrize("old_ready", [True, False], ids=["old ones serve", "old ones are unready too"])
@pytest.mark.parametrize(("replicas", "old", "new"), [(3, 3, 1), (4, 3, 2), (10, 8, 5)])
def test_a_rollout_that_cannot_work_stops_with_most_old_pods_in_place(
    old_ready: bool, replicas: int, old: int, new: int
) -> None:
    """replicas - maxUnavailable old ones and maxSurge + maxUnavailable new ones, as in a real cluster."""
    final, _ = roll(
        pods("1", replicas, ready=old_ready),
        revision="2",
        replicas=replicas,
        new_ones_get_ready=False,
        strategy=RolloutStrategy(),
    )

    assert [pod.revision for pod in final].count("1") == old
    assert [pod.revision for pod in final].count("2") == new


def test_a_roll_back_is_a_rollout_to_the_old_revision() -> None:
    stalled = [*pods("1", 3), *pods("2", 2, ready=False, first=3)]

    plan = plan_rollout(stalled, revision="1", replicas=4)

    assert plan == RolloutPlan(create=0, delete=("wallet/3", "wallet/4"))


STRATEGIES = st.builds(
    RolloutStrategy,
    max_surge=st.one_of(st.integers(0, 4), st.sampled_from(["0%", "25%", "100%"])),
    max_unavailable=st.one_of(st.integers(0, 4), st.sampled_from(["0%", "25%", "100%"])),
)


@given(st.integers(1, 12), STRATEGIES, st.booleans())
def test_a_rollout_never_takes_more_than_it_may_and_ends_if_it_can(
    replicas: int, strategy: RolloutStrategy, works: bool
) -> None:
    final, fewest = roll(
        pods("1", replicas), revision="2", replicas=replicas, new_ones_get_ready=works, strategy=strategy
    )

    assert fewest >= replicas - strategy.limits(replicas)[1]
    if works:
        assert [pod.revision for pod in final] == ["2"] * replicas


def test_a_rollout_is_complete_when_every_pod_is_new_and_ready() -> None:
    progress = RolloutProgress(revision="2", replicas=2, deadline=600.0, now=0.0)

    assert progress.observe(pods("1", 2), now=0.0) == "progressing"
    assert progress.observe([*pods("1", 1), *pods("2", 2, first=2)], now=1.0) == "progressing"
    assert progress.observe(pods("2", 2, ready=False), now=2.0) == "progressing"
    assert progress.observe(pods("2", 2), now=3.0) == "complete"


def test_a_pod_on_its_way_out_does_not_keep_a_rollout_open() -> None:
    progress = RolloutProgress(revision="2", replicas=2, deadline=600.0, now=0.0)
    leaving = [replace(pod, terminating=True) for pod in pods("1", 2)]

    assert progress.observe([*leaving, *pods("2", 2, first=2)], now=0.0) == "complete"


def test_a_rollout_without_progress_stalls_and_any_progress_restarts_the_clock() -> None:
    progress = RolloutProgress(revision="2", replicas=3, deadline=600.0, now=0.0)
    stuck = [*pods("1", 3), *pods("2", 1, ready=False, first=3)]

    assert progress.observe(stuck, now=0.0) == "progressing"
    assert progress.observe(stuck, now=600.0) == "progressing"
    assert progress.observe(stuck, now=600.1) == "stalled"
    moving = [*pods("1", 3), *pods("2", 1, first=3)]
    assert progress.observe(moving, now=700.0) == "progressing"
    assert progress.observe(moving, now=1301.0) == "stalled"
