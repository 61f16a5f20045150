"""One small trace per rule of the kubelet's probe worker. The recorded ones are in test_conformance.py."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shoal.kubernetes import Decision, Observation, Probe, ProbeOutcome, ProbeResult, ProbeType, ProbeWorker

STARTUP, LIVENESS, READINESS = ProbeType
SUCCESS, WARNING, FAILURE, UNKNOWN, ERROR = ProbeOutcome

RUNNING = Observation(container_id="a", state="running", started=True)
STARTING = replace(RUNNING, started=False)
WAITING = replace(RUNNING, state="waiting")
TERMINATED = replace(RUNNING, state="terminated")


def feed(worker: ProbeWorker, seen: Observation | None, outcomes: Iterable[ProbeOutcome]) -> None:
    for outcome in outcomes:
        assert worker.observe(seen) is Decision.PROBE
        worker.record(outcome)


def never() -> ProbeOutcome:
    raise AssertionError("no probe may be made now")


@pytest.mark.parametrize(
    "seen", [None, replace(RUNNING, container_id="", state="waiting")], ids=["no status", "no container yet"]
)
def test_k4_without_a_container_there_is_nothing_to_probe(seen: Observation | None) -> None:
    worker = ProbeWorker(READINESS, Probe())

    assert worker.step(seen, never)
    assert worker.result is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_k4_the_worker_of_a_finished_pod_ends(phase: Literal["Succeeded", "Failed"]) -> None:
    assert not ProbeWorker(READINESS, Probe()).step(replace(RUNNING, phase=phase), never)


@pytest.mark.parametrize(
    ("probe_type", "initial"),
    [(STARTUP, ProbeResult.UNKNOWN), (LIVENESS, ProbeResult.SUCCESS), (READINESS, ProbeResult.FAILURE)],
)
def test_k5_a_new_container_starts_from_the_initial_value(probe_type: ProbeType, initial: ProbeResult) -> None:
    worker = ProbeWorker(probe_type, Probe(initial_delay=1))

    worker.step(RUNNING, never)

    assert worker.result is initial


def test_k5_a_restart_takes_readiness_away_but_not_the_run_of_successes() -> None:
    """So that one success of the new container may be enough, whatever the threshold."""
    worker = ProbeWorker(READINESS, Probe(success_threshold=3))
    feed(worker, RUNNING, [SUCCESS] * 3)

    restarted = replace(RUNNING, container_id="b", started=False)
    worker.step(restarted, never)
    after_the_restart = worker.result
    feed(worker, replace(restarted, started=True), [SUCCESS])

    assert after_the_restart is ProbeResult.FAILURE
    assert worker.result is ProbeResult.SUCCESS
    assert worker.run == 4


def test_k5_a_container_older_than_the_kubelet_has_no_initial_value() -> None:
    worker = ProbeWorker(READINESS, Probe(initial_delay=60))

    worker.step(replace(RUNNING, predates_kubelet=True, age=11.0), never)

    assert worker.result is None


def test_k6_nothing_is_probed_on_hold_until_there_is_a_new_container() -> None:
    worker = ProbeWorker(LIVENESS, Probe(failure_threshold=1))
    feed(worker, RUNNING, [FAILURE])

    for seen in (RUNNING, TERMINATED, replace(RUNNING, deleting=True)):
        assert worker.step(seen, never)
        assert worker.result is ProbeResult.FAILURE

    feed(worker, replace(RUNNING, container_id="b"), [SUCCESS])
    assert not worker.on_hold


@pytest.mark.parametrize("probe_type", list(ProbeType))
@pytest.mark.parametrize("seen", [WAITING, TERMINATED], ids=["waiting", "terminated"])
def test_k7_a_container_that_does_not_run_fails(probe_type: ProbeType, seen: Observation) -> None:
    worker = ProbeWorker(probe_type, Probe())

    assert worker.step(seen, never)
    assert worker.result is ProbeResult.FAILURE


def test_k7_a_worker_ends_with_a_container_that_is_never_restarted() -> None:
    worker = ProbeWorker(READINESS, Probe(), restart_policy="Never")

    assert worker.step(WAITING, never)
    assert not worker.step(TERMINATED, never)


@pytest.mark.parametrize("probe_type", [STARTUP, LIVENESS])
def test_k8_a_pod_being_deleted_is_no_longer_tested_for_life(probe_type: ProbeType) -> None:
    worker = ProbeWorker(probe_type, Probe())

    assert not worker.step(replace(RUNNING, deleting=True), never)
    assert worker.result is ProbeResult.SUCCESS


def test_k8_readiness_goes_on_while_a_pod_is_being_deleted() -> None:
    worker = ProbeWorker(READINESS, Probe())

    feed(worker, replace(RUNNING, deleting=True), [SUCCESS])

    assert worker.result is ProbeResult.SUCCESS


@pytest.mark.parametrize(
    ("age", "decision"), [(9.99, Decision.WAIT), (10.0, Decision.PROBE)], ids=["not yet", "at last"]
)
def test_k9_the_initial_delay_is_counted_in_whole_seconds(age: float, decision: Decision) -> None:
    assert ProbeWorker(READINESS, Probe(initial_delay=10)).observe(replace(RUNNING, age=age)) is decision


@pytest.mark.parametrize(
    ("probe_type", "started", "decision"),
    [
        (STARTUP, False, Decision.PROBE),
        (STARTUP, None, Decision.PROBE),
        (STARTUP, True, Decision.WAIT),
        (LIVENESS, False, Decision.WAIT),
        (LIVENESS, None, Decision.WAIT),
        (LIVENESS, True, Decision.PROBE),
        (READINESS, False, Decision.WAIT),
        (READINESS, None, Decision.WAIT),
        (READINESS, True, Decision.PROBE),
    ],
)
def test_k10_only_startup_is_probed_before_a_container_has_started_and_never_after(
    probe_type: ProbeType, started: bool | None, decision: Decision
) -> None:
    assert ProbeWorker(probe_type, Probe()).observe(replace(RUNNING, started=started)) is decision


@pytest.mark.parametrize(
    ("outcomes", "calls", "run"),
    [([ERROR] * 3, 3, 1), ([ERROR, FAILURE], 2, 2), ([FAILURE], 1, 2)],
    ids=["thrown away", "second try", "a failure is an answer"],
)
def test_k11_an_error_of_the_prober_is_tried_thrice_and_then_forgotten(
    outcomes: list[ProbeOutcome], calls: int, run: int
) -> None:
    worker = ProbeWorker(READINESS, Probe(failure_threshold=3))
    feed(worker, RUNNING, [FAILURE])
    answers = iter(outcomes)

    worker.step(RUNNING, lambda: next(answers))

    assert len(outcomes) - len(list(answers)) == calls
    assert worker.run == run
    assert not worker.record(ERROR)


@pytest.mark.parametrize(
    ("outcome", "result"), [(WARNING, ProbeResult.SUCCESS), (UNKNOWN, ProbeResult.FAILURE)], ids=str
)
def test_k11_a_warning_is_a_success_and_not_knowing_is_a_failure(outcome: ProbeOutcome, result: ProbeResult) -> None:
    worker = ProbeWorker(READINESS, Probe(failure_threshold=1))
    feed(worker, RUNNING, [FAILURE if result is ProbeResult.SUCCESS else SUCCESS])

    feed(worker, RUNNING, [outcome])

    assert worker.result is result


def test_k12_one_success_ends_a_run_of_failures() -> None:
    worker = ProbeWorker(READINESS, Probe(failure_threshold=3))
    feed(worker, RUNNING, [SUCCESS, FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE])
    after_two = worker.result
    feed(worker, RUNNING, [FAILURE])

    assert after_two is ProbeResult.SUCCESS
    assert worker.result is ProbeResult.FAILURE


def test_k13_a_liveness_failure_decides_the_fate_of_its_container() -> None:
    worker = ProbeWorker(LIVENESS, Probe(failure_threshold=2))

    feed(worker, RUNNING, [FAILURE, FAILURE])

    assert worker.result is ProbeResult.FAILURE
    assert worker.on_hold
    assert worker.run == 0


def test_k13_a_liveness_success_does_not() -> None:
    worker = ProbeWorker(LIVENESS, Probe())

    feed(worker, RUNNING, [SUCCESS, SUCCESS])

    assert not worker.on_hold
    assert worker.run == 2


@pytest.mark.parametrize(("outcome", "result"), [(SUCCESS, ProbeResult.SUCCESS), (FAILURE, ProbeResult.FAILURE)])
def test_k13_startup_is_decided_once_either_way(outcome: ProbeOutcome, result: ProbeResult) -> None:
    worker = ProbeWorker(STARTUP, Probe(failure_threshold=1))

    feed(worker, STARTING, [outcome])

    assert worker.result is result
    assert worker.on_hold
    assert worker.run == 0


def test_settings_the_api_would_reject_make_no_worker() -> None:
    with pytest.raises(ValueError, match="success_threshold must be 1 for a liveness probe"):
        ProbeWorker(LIVENESS, Probe(success_threshold=2))


OBSERVATIONS = st.one_of(
    st.none(),
    st.builds(
        Observation,
        container_id=st.sampled_from(["", "a", "b", "c"]),
        state=st.sampled_from(["waiting", "running", "running", "running", "terminated"]),
        started=st.sampled_from([None, False, True]),
        age=st.floats(0, 30),
        deleting=st.sampled_from([False, False, False, True]),
    ),
)


class AnyLife(RuleBasedStateMachine):
    """Whatever a worker sees and whatever its probes answer, these hold."""

    @initialize(
        probe_type=st.sampled_from(ProbeType),
        failures=st.integers(1, 4),
        successes=st.integers(1, 3),
        delay=st.sampled_from([0, 10]),
    )
    def make(self, probe_type: ProbeType, failures: int, successes: int, delay: int) -> None:
        probe = Probe(
            initial_delay=delay,
            failure_threshold=failures,
            success_threshold=successes if probe_type is READINESS else 1,
        )
        self.worker = ProbeWorker(probe_type, probe)
        self.counted: list[bool] = []
        """Every outcome that counted, as good or bad."""

    @rule(seen=OBSERVATIONS, outcome=st.sampled_from(ProbeOutcome))
    def look(self, seen: Observation | None, outcome: ProbeOutcome) -> None:
        held = self.worker.on_hold and (seen is None or seen.container_id in ("", self.worker.container_id))
        same_container = seen is not None and seen.container_id == self.worker.container_id
        before = self.worker.result
        calls: list[ProbeOutcome] = []

        def probe() -> ProbeOutcome:
            calls.append(outcome)
            return outcome

        self.worker.step(seen, probe)

        if calls:
            assert not held
            assert seen is not None
            assert seen.state == "running"
            assert seen.age >= self.worker.probe.initial_delay
            assert len(calls) == (3 if outcome is ERROR else 1)
            if outcome is not ERROR:
                self.counted.append(outcome in (SUCCESS, WARNING))
        if calls and same_container and self.worker.result is not before:
            good = self.worker.result is ProbeResult.SUCCESS
            threshold = self.worker.probe.success_threshold if good else self.worker.probe.failure_threshold
            assert self.counted[-threshold:] == [good] * threshold

    @invariant()
    def only_what_is_decided_is_on_hold(self) -> None:
        if self.worker.on_hold:
            assert self.worker.probe_type is not READINESS
            assert self.worker.run == 0

    @invariant()
    def a_run_is_never_longer_than_what_was_counted(self) -> None:
        assert self.worker.run <= len(self.counted)


TestAnyLife = AnyLife.TestCase


@given(st.lists(st.sampled_from([SUCCESS, FAILURE]), max_size=40), st.integers(1, 5), st.integers(1, 3))
def test_readiness_flips_only_after_a_threshold_of_equal_outcomes(
    outcomes: list[ProbeOutcome], failures: int, successes: int
) -> None:
    """An outage shorter than (failure_threshold - 1) periods takes nobody out of the load balancer."""
    worker = ProbeWorker(READINESS, Probe(failure_threshold=failures, success_threshold=successes))
    for index, outcome in enumerate(outcomes, start=1):
        before = worker.result or ProbeResult.FAILURE
        feed(worker, RUNNING, [outcome])
        threshold = successes if outcome is SUCCESS else failures
        enough = outcomes[max(0, index - threshold) : index] == [outcome] * threshold
        assert worker.result == (outcome.value if enough else before)
