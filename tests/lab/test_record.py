"""Which phase a request belongs to."""

from __future__ import annotations

import pytest

from shoal_lab.record import Phase, Sample, StepRecord

RECORD = StepRecord(
    step="deep", started=0.0, fault_at=10.0, repair_at=20.0, ended=30.0, samples=(), events=(), replicas={}, ready={}
)


@pytest.mark.parametrize(
    ("at", "latency", "phase"),
    [
        pytest.param(5.0, 1.0, "before", id="over before the fault"),
        pytest.param(9.5, 1.0, "during", id="in flight when the fault struck"),
        pytest.param(10.0, 0.1, "during", id="due as it struck"),
        pytest.param(19.5, 1.0, "during", id="in flight at the repair"),
        pytest.param(20.0, 0.1, "after", id="due at the repair"),
        pytest.param(9.0, 20.0, "during", id="from before the fault to after the repair"),
    ],
)
def test_the_fault_has_what_it_struck_in_flight(at: float, latency: float, phase: Phase) -> None:
    assert RECORD.phase_of_sample(Sample("fees", at, latency, 200)) == phase


def test_the_bounds_of_the_phases_meet() -> None:
    assert RECORD.bounds("before") == (0.0, 10.0)
    assert RECORD.bounds("during") == (10.0, 20.0)
    assert RECORD.bounds("after") == (20.0, 30.0)
