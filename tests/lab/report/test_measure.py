"""The figures of synthetic steps, reckoned by hand from when requests came and what was answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shoal_lab.record import JourneyCount, Sample, StepRecord
from shoal_lab.report import Report, build_report
from shoal_lab.report.journeys import quantile, series
from shoal_lab.report.measure import step_report
from shoal_lab.scenario import Scenario

Make = Callable[..., Report]
MadeStep = Callable[[str], StepRecord]


@pytest.fixture(scope="module")
def deep(made_report: Make) -> Report:
    return made_report("deep", "shallow", "guarded")


def test_a_cascade_takes_down_the_journey_that_needs_nobody(deep: Report) -> None:
    """Fees go on for 2.6 s of the fault's 20 s, and come back 2.2 s after the repair."""
    journeys = deep["steps"]["deep"]["journeys"]

    assert journeys["view-balance"]["availability"] == {"before": 1.0, "during": 0.0, "after": 256 / 300}
    assert journeys["lock-account"]["availability"] == {"before": 1.0, "during": 0.0, "after": 102 / 120}
    assert journeys["fees"]["availability"] == {"before": 1.0, "during": 0.13, "after": 128 / 150}


def test_an_outage_runs_from_the_first_request_nobody_answered_to_the_next_that_was(deep: Report) -> None:
    """The last fees answered were due at 12.50 s, the next failure at 12.55 s, the next success at 32.20 s."""
    step = deep["steps"]["deep"]

    assert step["time_to_total_outage_s"] == 2.55
    assert step["seconds_of_total_outage"] == 19.65
    assert step["time_to_recover_s"] == 2.2
    assert step["journeys"]["view-balance"]["time_to_outage_s"] == 0.0
    assert step["journeys"]["fees"]["time_to_outage_s"] == 2.6
    assert step["journeys"]["fees"]["seconds_of_outage"] == 19.6
    assert step["journeys"]["fees"]["time_to_recover_s"] == 2.2


def test_without_a_cascade_there_is_no_total_outage(deep: Report) -> None:
    step = deep["steps"]["shallow"]

    assert step["time_to_total_outage_s"] is None
    assert step["seconds_of_total_outage"] == 0
    assert step["time_to_recover_s"] == 0.5
    assert step["journeys"]["fees"]["availability"]["during"] == 1.0
    assert step["journeys"]["fees"]["time_to_recover_s"] == 0.0


def test_pods_see_only_what_reaches_them(deep: Report) -> None:
    """Of the deep step's requests during the fault, those of its first 2.6 s reached a pod."""
    deep_view = deep["steps"]["deep"]["journeys"]["view-balance"]
    shallow_view = deep["steps"]["shallow"]["journeys"]["view-balance"]

    assert (deep_view["sent"]["during"], deep_view["seen_by_pods"]["during"]) == (400, 52)
    assert (shallow_view["sent"]["during"], shallow_view["seen_by_pods"]["during"]) == (400, 400)
    assert shallow_view["outcomes"]["during"] == {"ok": 0, "degraded": 0, "failed": 400, "shed": 0, "client_error": 0}
    assert shallow_view["causes"]["during"] == {"auth": 400}
    assert shallow_view["causes"]["before"] == {}


def test_a_timeout_counts_with_all_the_time_it_took(deep: Report) -> None:
    shallow = deep["steps"]["shallow"]["journeys"]["view-balance"]

    assert shallow["p99_s"] == {"before": 0.012, "during": 5.0, "after": 0.52}
    assert shallow["p50_s"]["during"] == 0.52


def test_endpoints_are_measured_from_the_start_on(deep: Report) -> None:
    """What came before the start counts as its first value; the fewest are those from the fault on."""
    wallet = deep["steps"]["deep"]["services"]["wallet"]

    assert wallet["ready"] == [(0.0, 3), (12.1, 1), (12.6, 0), (32.2, 1), (32.6, 3)]
    assert wallet["min_ready"] == 0
    assert wallet["seconds_without_endpoints"] == 19.6
    assert deep["steps"]["guarded"]["services"]["wallet"]["min_ready"] == 2
    assert deep["steps"]["guarded"]["services"]["wallet"]["restarts"] == 1


def test_retries_are_counted_per_call_while_the_fault_lasts(deep: Report) -> None:
    assert deep["steps"]["guarded"]["retries_per_call"] == 0.1
    assert deep["steps"]["deep"]["retries_per_call"] == 0.0
    assert deep["steps"]["deep"]["dependencies"]["wallet"]["auth"]["during"] == {
        "calls": 560,
        "attempts": 560,
        "retries": 0,
        "failures": 560,
    }


def test_the_series_covers_the_whole_step_in_half_seconds(deep: Report) -> None:
    fees = deep["steps"]["deep"]["journeys"]["fees"]["series"]

    assert len(fees["t"]) == len(fees["availability"]) == len(fees["p99_s"]) == 90
    assert fees["t"][:3] == [0.0, 0.5, 1.0]
    # 12.5 s to 13.0 s: one of five was served.
    assert fees["availability"][24:27] == [1.0, 0.2, 0.0]


def test_the_document_is_json_and_the_same_each_time(made_report: Make) -> None:
    first, second = made_report("deep", "split"), made_report("deep", "split")

    assert json.dumps(first) == json.dumps(second)
    assert list(json.loads(json.dumps(first))["steps"]) == ["deep", "split"]


def test_an_empty_phase_has_no_availability(made_step: MadeStep) -> None:
    """Nobody came before the fault: nothing is known, so nothing can be said to have recovered."""
    record = made_step("shallow")
    record = replace(record, samples=[sample for sample in record.samples if sample.at >= record.fault_at])

    step = step_report(record)

    fees = step["journeys"]["fees"]
    assert fees["availability"] == {"before": None, "during": 1.0, "after": 1.0}
    assert fees["p99_s"]["before"] is None
    assert fees["sent"]["before"] == 0
    assert fees["series"]["availability"][:20] == [None] * 20
    assert step["time_to_recover_s"] is None


def test_a_step_without_any_request_still_has_its_journeys(made_step: MadeStep) -> None:
    step = step_report(replace(made_step("deep"), samples=[], journeys=[]), journeys=["fees"])

    assert step["journeys"]["fees"]["availability"] == {"before": None, "during": None, "after": None}
    assert step["journeys"]["fees"]["answers"] == []
    assert step["time_to_total_outage_s"] is None
    assert step["time_to_recover_s"] is None


def test_counters_that_were_never_read_are_not_counters_that_stood_still(made_step: MadeStep) -> None:
    step = step_report(replace(made_step("deep"), journeys=[]))

    assert step["journeys"]["fees"]["seen_by_pods"] == {"before": None, "during": None, "after": None}


def test_a_journey_between_services_is_not_a_customers(made_step: MadeStep) -> None:
    """Auth counts `introspect`, which wallet asked for; no customer did."""
    record = made_step("shallow")
    counts = [*record.journeys, JourneyCount("during", "introspect", "failed", "database", 7)]

    step = step_report(replace(record, journeys=counts))

    assert list(step["journeys"]) == ["fees", "lock-account", "view-balance"]


def test_all_failing_from_the_start_is_dark_at_once_and_never_recovers(
    make_plain: Callable[..., StepRecord],
) -> None:
    record = make_plain("deep", lambda journey, at: Sample(journey, at, 0.01, None, error="refused"))

    step = step_report(record)

    assert step["time_to_total_outage_s"] == 0.0
    assert step["seconds_of_total_outage"] == 35.0
    assert step["time_to_recover_s"] is None
    assert step["journeys"]["fees"]["answers"] == [
        {"status": None, "body": "(no answer: refused)", "characters": 20, "count": 450}
    ]


def test_one_journey_alone_is_enough_for_a_report(made_report: Make, made_step: MadeStep, scenario: Scenario) -> None:
    record = made_step("deep")
    record = replace(record, samples=[sample for sample in record.samples if sample.journey == "fees"])

    report = made_report(record, scenario=replace(scenario, rates={"fees": 10.0}))

    step = report["steps"]["deep"]
    assert list(step["journeys"]) == ["fees"]
    assert step["time_to_total_outage_s"] == step["journeys"]["fees"]["time_to_outage_s"] == 2.6


def test_no_call_at_all_has_no_ratio_of_retries(made_step: MadeStep) -> None:
    assert step_report(replace(made_step("deep"), dependencies=[]))["retries_per_call"] is None


def test_text_from_a_file_is_one_line(made_report: Make, scenario: Scenario) -> None:
    report = made_report("deep", scenario=replace(scenario, story="\nTwo\nlines.\n"))

    assert report["story"] == "Two lines."


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        pytest.param([], 0.99, None, id="nothing sent"),
        pytest.param([1.0], 0.5, 1.0, id="a single wait"),
        pytest.param([4.0, 1.0, 3.0, 2.0], 0.5, 2.0, id="median of four is the second"),
        pytest.param([float(wait) for wait in range(1, 101)], 0.99, 99.0, id="p99 of a hundred is the 99th"),
        pytest.param([float(wait) for wait in range(1, 102)], 0.99, 100.0, id="p99 of a hundred and one is the 100th"),
    ],
)
def test_quantiles_are_nearest_rank(samples: list[float], share: float, expected: float | None) -> None:
    assert quantile([Sample("fees", 0.0, wait, 200) for wait in samples], share) == expected


def test_the_last_bin_of_a_series_may_be_short() -> None:
    binned = series([Sample("fees", 1.2, 0.1, 200)], started=0.0, ended=1.3)

    assert binned == {"t": [0.0, 0.5, 1.0], "availability": [None, None, 1.0], "p99_s": [None, None, 0.1]}


def test_no_record_is_no_report(scenario: Scenario) -> None:
    with pytest.raises(ValueError, match="needs at least one step"):
        build_report([], scenario, seed=1, time_scale=10, parts={}, when=datetime.now(UTC))


def test_two_records_of_one_step_are_refused(made_report: Make) -> None:
    with pytest.raises(ValueError, match="different steps, got deep, deep"):
        made_report("deep", "deep")


def test_a_moment_without_a_time_zone_is_refused(made_step: MadeStep, scenario: Scenario) -> None:
    naive = datetime(2026, 11, 24, 15, 4)  # noqa: DTZ001 - the mistake under test
    with pytest.raises(ValueError, match="must know its time zone"):
        build_report([made_step("deep")], scenario, seed=1, time_scale=10, parts={}, when=naive)
