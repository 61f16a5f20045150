"""From what the runs left behind to the JSON document of the run. Pure: the same records give the same document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from shoal_lab.ladder import STEPS
from shoal_lab.record import Phase, StepRecord
from shoal_lab.scenario.model import Scenario

from .endpoints import service_report
from .fault import fault_in_words
from .journeys import by_phase, journey_report
from .outage import WELL, dark_stretches, time_to_recover
from .shape import SCHEMA_VERSION, Calls, EventReport, Report, StepReport


def build_report(
    records: Sequence[StepRecord],
    scenario: Scenario,
    *,
    seed: int,
    time_scale: float,
    parts: Mapping[str, str],
    when: datetime,
    options: Sequence[str] = (),
) -> Report:
    """The JSON document of one run (see `schemas/lab-run.schema.json`): plain dicts, lists, strings and numbers.

    *records* are the steps in the order they are to be shown. *time_scale* says how many seconds of a cluster pass in
    one wall second. *options* are further words of the command line, for those who want to run it again. *parts* names
    what really ran (`{"postgresql": "15.9"}`). *when* must know its time zone.
    Raises ValueError when there is no record, when two are of one step, or when *when* is naive.
    """
    names = [record.step for record in records]
    if not names:
        raise ValueError("records is empty: a report needs at least one step")
    if len(set(names)) < len(names):
        raise ValueError(f"records must be of different steps, got {', '.join(names)}")
    if when.tzinfo is None:
        raise ValueError(f"when must know its time zone, got {when.isoformat()}; use datetime.now(UTC)")
    return Report(
        schema_version=SCHEMA_VERSION,
        scenario=scenario.name,
        title=" ".join(scenario.title.split()),
        story=" ".join(scenario.story.split()),
        fault=fault_in_words(scenario, services={service for record in records for service in record.replicas}),
        when=when.isoformat(timespec="seconds"),
        time_scale=time_scale,
        seed=seed,
        source=scenario.source or scenario.name,
        options=list(options),
        parts=dict(parts),
        steps={record.step: step_report(record, journeys=tuple(scenario.rates)) for record in records},
    )


def step_report(record: StepRecord, *, journeys: Sequence[str] = ()) -> StepReport:
    """One step's object of the document.

    *journeys* are the customers' journeys in the order to show them; any other with a sample follows. A journey only
    pods know (a service's own, asked by another service) is not a customer's and is left out.

    * `time_to_total_outage_s`: from the fault to the beginning of the first stretch of at least one second in which
      every request of every journey failed, `None` if that never happened; `seconds_of_total_outage`: how long all
      such stretches lasted together (see `dark_stretches`).
    * `time_to_recover_s`: from the repair to the first moment from which every journey that was at 99 % or more
      before the fault was so again over the following two seconds (see `time_to_recover`).
    * `retries_per_call`: over every call of every service during the fault; `None` when there was none.
    """
    names = tuple(dict.fromkeys([*journeys, *sorted({sample.journey for sample in record.samples})]))
    reports = {name: journey_report(record, name) for name in names}
    dark = dark_stretches(record.samples, since=record.fault_at, until=record.ended)
    well_before = [name for name, report in reports.items() if (report["availability"]["before"] or 0.0) >= WELL]
    recovered = time_to_recover(record.samples, well_before, repair=record.repair_at, ended=record.ended)
    step = STEPS.get(record.step)
    return StepReport(
        adds=step.adds if step else "",
        fault_at_s=round(record.fault_at, 3),
        repair_at_s=round(record.repair_at, 3),
        ended_s=round(record.ended, 3),
        journeys=reports,
        services={service: service_report(record, service) for service in record.replicas},
        dependencies=_dependencies(record),
        time_to_total_outage_s=round(dark[0][0] - record.fault_at, 3) if dark else None,
        seconds_of_total_outage=round(sum(end - start for start, end in dark), 3),
        time_to_recover_s=None if recovered is None else round(recovered, 3),
        retries_per_call=_retries_per_call(record),
        consumer_lag=dict(record.consumer_lag),
        events=[
            EventReport(
                t=round(event.at, 3), kind=event.kind, service=event.service, pod=event.pod, detail=event.detail
            )
            for event in sorted(record.events, key=lambda event: event.at)
        ],
    )


def _dependencies(record: StepRecord) -> dict[str, dict[str, dict[Phase, Calls]]]:
    """Per service and dependency; counts of one phase are added up, a phase without any counts as none."""
    found: dict[str, dict[str, dict[Phase, Calls]]] = {}
    for count in record.dependencies:
        phases = found.setdefault(count.service, {}).setdefault(count.dependency, by_phase(_no_calls))
        calls = phases[count.phase]
        calls["calls"] += count.calls
        calls["attempts"] += count.attempts
        calls["retries"] += count.retries
        calls["failures"] += count.failures
    return found


def _no_calls(_: Phase) -> Calls:
    return Calls(calls=0, attempts=0, retries=0, failures=0)


def _retries_per_call(record: StepRecord) -> float | None:
    during = [count for count in record.dependencies if count.phase == "during"]
    calls = sum(count.calls for count in during)
    return round(sum(count.retries for count in during) / calls, 4) if calls else None
