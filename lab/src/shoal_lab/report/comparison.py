"""The side-by-side table: one column a step, one row a figure. The terminal and the page both draw this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shoal_lab.record import PHASES, Phase

from .shape import JourneyReport, Report, ServiceReport, StepReport
from .units import NOTHING, count, percent, seconds
from .verdict import AT_ONCE, Grade, grade, served_during, slow

Quantile = Literal["p50_s", "p99_s"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure, and how good it is; `None` where it is neither good nor bad."""

    text: str
    grade: Grade | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of every step. *head* opens a block of rows; *weak* rows are context, not the point."""

    head: str
    label: str
    cells: tuple[Cell, ...]
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that belong together; *alike* if their figures are of one unit and so stand under each other."""

    title: str
    rows: tuple[Row, ...]
    alike: bool = True


def comparison(report: Report) -> list[Block]:
    """The blocks of the table, each row with one cell a step, in the order of `report["steps"]`."""
    steps = list(report["steps"].values())
    journeys = list(dict.fromkeys(name for step in steps for name in step["journeys"]))
    services = list(dict.fromkeys(name for step in steps for name in step["services"]))
    return [
        Block("Requests served", (*_served(steps, journeys), _row("all", "during", steps, _all_served))),
        Block("p50: half of the customers waited no longer", _waits(steps, journeys, "p50_s")),
        Block("p99: 99 of 100 customers waited no longer", _waits(steps, journeys, "p99_s")),
        Block("Fewest endpoints in the load balancer, from the fault on", _of_services(steps, services, _fewest)),
        Block(
            "The platform, and what it cost",
            (
                _row("pods restarted", "", steps, _restarts),
                _row("events not consumed", "", steps, _lag),
                _row("retries per call", "", steps, _retries),
                _row("all dark after", "", steps, _dark_after),
                _row("all dark for", "", steps, _dark_for),
                _row("well again after", "", steps, _well_after),
            ),
            alike=False,
        ),
    ]


def services_compared(report: Report) -> list[Block]:
    """What the platform made of each service's pods, step by step."""
    steps = list(report["steps"].values())
    services = list(dict.fromkeys(name for step in steps for name in step["services"]))
    return [
        Block("Time without a single endpoint, over the whole run", _of_services(steps, services, _without_endpoints)),
        Block("Pods restarted", _of_services(steps, services, _restarted)),
    ]


def _row(
    head: str, label: str, steps: list[StepReport], cell: Callable[[StepReport], Cell], *, weak: bool = False
) -> Row:
    return Row(head, label, tuple(cell(step) for step in steps), weak)


def _served(steps: list[StepReport], journeys: list[str]) -> list[Row]:
    rows: list[Row] = []
    for name in journeys:
        for phase in PHASES:
            shares = [
                step["journeys"][name]["availability"][phase] if name in step["journeys"] else None for step in steps
            ]
            during = phase == "during"
            cells = tuple(Cell(percent(share), grade(share) if during else None) for share in shares)
            rows.append(Row(name if phase == PHASES[0] else "", phase, cells, weak=not during))
    return rows


def _all_served(step: StepReport) -> Cell:
    share = served_during(step)
    return Cell(percent(share), grade(share))


def _waits(steps: list[StepReport], journeys: list[str], quantile: Quantile) -> tuple[Row, ...]:
    def wait(name: str, phase: Phase) -> Callable[[StepReport], Cell]:
        return lambda step: (
            _wait(step["journeys"][name], quantile, phase) if name in step["journeys"] else Cell(NOTHING)
        )

    return tuple(
        _row(name if phase == PHASES[0] else "", phase, steps, wait(name, phase), weak=phase != "during")
        for name in journeys
        for phase in PHASES
    )


def _wait(journey: JourneyReport, quantile: Quantile, phase: Phase) -> Cell:
    hurts = quantile == "p99_s" and phase == "during" and slow(journey)
    return Cell(seconds(journey[quantile][phase]), "hurt" if hurts else None)


def _of_services(steps: list[StepReport], services: list[str], of: Callable[[ServiceReport], Cell]) -> tuple[Row, ...]:
    def cell(name: str) -> Callable[[StepReport], Cell]:
        return lambda step: of(step["services"][name]) if name in step["services"] else Cell(NOTHING)

    return tuple(_row(name, "", steps, cell(name)) for name in services)


def _fewest(service: ServiceReport) -> Cell:
    ready, wanted = service["min_ready"], service["replicas"]
    if ready is None:
        return Cell(NOTHING)
    verdict: Grade = "failed" if ready == 0 else "fine" if ready >= wanted else "hurt"
    return Cell(f"{ready} of {wanted}", verdict)


def _without_endpoints(service: ServiceReport) -> Cell:
    missing = service["seconds_without_endpoints"]
    return Cell(seconds(missing), "failed" if missing else None)


def _restarted(service: ServiceReport) -> Cell:
    return Cell(count(service["restarts"]), "hurt" if service["restarts"] else None)


def _restarts(step: StepReport) -> Cell:
    restarts = sum(service["restarts"] for service in step["services"].values())
    return Cell(count(restarts), "hurt" if restarts else None)


def _retries(step: StepReport) -> Cell:
    retries = step["retries_per_call"]
    return Cell(NOTHING if retries is None else f"{retries:.2f}")


def _lag(step: StepReport) -> Cell:
    lag = step["consumer_lag"].get("during")
    return Cell(NOTHING if lag is None else count(lag))


def _dark_after(step: StepReport) -> Cell:
    after = step["time_to_total_outage_s"]
    return Cell("never", "fine") if after is None else Cell(seconds(after), "failed")


def _dark_for(step: StepReport) -> Cell:
    return Cell(seconds(step["seconds_of_total_outage"])) if step["seconds_of_total_outage"] else Cell(NOTHING)


def _well_after(step: StepReport) -> Cell:
    after = step["time_to_recover_s"]
    if after is None:
        return Cell("not yet", "failed")
    return Cell(seconds(after) if after >= AT_ONCE else "at once")
