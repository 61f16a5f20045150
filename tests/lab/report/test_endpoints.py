"""Ready endpoints as steps in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from shoal_lab.record import Event, ReadyCount, StepRecord
from shoal_lab.report.endpoints import service_report

# The synthetic step: fault at 10 s, end at 45 s.


@pytest.mark.parametrize(
    ("readings", "steps", "fewest", "without"),
    [
        pytest.param([(-2.0, 0), (-1.0, 3)], [(0.0, 3)], 3, 0.0, id="the last before the start is the start's"),
        pytest.param([(0.0, 3), (4.0, 0), (6.5, 3)], [(0.0, 3), (4.0, 0), (6.5, 3)], 3, 2.5, id="before the fault"),
        pytest.param([(0.0, 3), (9.0, 1), (12.0, 3)], [(0.0, 3), (9.0, 1), (12.0, 3)], 1, 0.0, id="across the fault"),
        pytest.param([(0.0, 3), (40.0, 0)], [(0.0, 3), (40.0, 0)], 0, 5.0, id="gone at the end"),
        pytest.param([(0.0, 3), (20.0, 3)], [(0.0, 3)], 3, 0.0, id="no change is no step"),
        pytest.param([(0.0, 3), (20.0, 1), (20.0, 3)], [(0.0, 3)], 3, 0.0, id="nobody saw two at one moment"),
        pytest.param([(0.0, 3), (46.0, 0)], [(0.0, 3)], 3, 0.0, id="what comes after the end does not count"),
        pytest.param([], [], None, 0.0, id="not watched"),
    ],
)
def test_endpoints_as_steps(
    make_plain: Callable[..., StepRecord],
    made_step: Callable[[str], StepRecord],
    readings: list[tuple[float, int]],
    steps: list[tuple[float, int]],
    fewest: int | None,
    without: float,
) -> None:
    record = replace(made_step("split"), ready={"wallet": [ReadyCount(*reading) for reading in readings]})

    service = service_report(record, "wallet")

    assert service["ready"] == steps
    assert service["min_ready"] == fewest
    assert service["seconds_without_endpoints"] == without


def test_restarts_are_those_of_the_service_since_the_start(made_step: Callable[[str], StepRecord]) -> None:
    events = [
        Event(-1.0, "restart", "wallet", "wallet/0"),
        Event(12.0, "restart", "wallet", "wallet/0"),
        Event(14.0, "restart", "wallet", "wallet/2"),
        Event(14.0, "restart", "auth", "auth/0"),
        Event(15.0, "killed", "wallet", "wallet/0"),
    ]

    assert service_report(replace(made_step("split"), events=events), "wallet")["restarts"] == 2
