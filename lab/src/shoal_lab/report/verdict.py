"""The verdict in words: what each way of doing readiness did to customers. Read from the JSON document alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from .outage import WELL
from .shape import JourneyReport, Report, StepReport
from .units import capital, count, listed, number_of, percent, seconds

Grade = Literal["fine", "hurt", "failed"]

HALF = 0.5
"""Below this share a journey has failed rather than been hurt."""
SLOW = 1.0
"""Seconds a customer waits before calling it slow (Nielsen, "Response times: the 3 important limits")."""

AT_ONCE = 0.05
"""Seconds that are not worth a figure: the next request may not have been due before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One step's verdict: a grade, one sentence to remember, and the sentences that explain it."""

    step: str
    grade: Grade
    headline: str
    details: tuple[str, ...]


def grade(share: float | None) -> Grade | None:
    """How good a share of served requests is: `fine` from 99 %, `hurt` from 50 %, else `failed`.

    >>> grade(1.0), grade(0.985), grade(0.2), grade(None)
    ('fine', 'hurt', 'failed', None)
    """
    if share is None:
        return None
    if share >= WELL:
        return "fine"
    return "hurt" if share >= HALF else "failed"


def slow(journey: JourneyReport) -> bool:
    """Customers noticed: the p99 during the fault was above `SLOW` seconds and thrice what it had been before."""
    before, during = journey["p99_s"]["before"], journey["p99_s"]["during"]
    return during is not None and during > SLOW and during > 3 * (before or 0.0)


def served_during(step: StepReport) -> float | None:
    """Share of all requests, of every journey together, that were served while the fault lasted."""
    sent = sum(journey["sent"]["during"] for journey in step["journeys"].values())
    ok = sum(round((j["availability"]["during"] or 0.0) * j["sent"]["during"]) for j in step["journeys"].values())
    return ok / sent if sent else None


def sent_and_seen(step: StepReport) -> tuple[int, int | None]:
    """Requests customers sent while the fault lasted, and how many of them a pod's counter saw (`None`: not read)."""
    journeys = step["journeys"].values()
    seen = [journey["seen_by_pods"]["during"] for journey in journeys]
    sent = sum(journey["sent"]["during"] for journey in journeys)
    return sent, (None if None in seen else sum(number or 0 for number in seen))


def verdicts(report: Report) -> list[Verdict]:
    """The verdict on every step, in the order of the document."""
    return [
        Verdict(step=name, grade=step_grade(step), headline=_headline(report, name), details=_details(step))
        for name, step in report["steps"].items()
    ]


def step_grade(step: StepReport) -> Grade:
    """`fine` if every journey was and none slow, `failed` if all failed or everything was dark at once, else `hurt`."""
    grades = {grade(journey["availability"]["during"]) for journey in step["journeys"].values()} - {None}
    if step["time_to_total_outage_s"] is not None or grades == {"failed"}:
        return "failed"
    unharmed = grades <= {"fine"} and not any(slow(journey) for journey in step["journeys"].values())
    return "fine" if unharmed else "hurt"


def _headline(report: Report, name: str) -> str:
    step = report["steps"][name]
    after = step["time_to_total_outage_s"]
    if after is None:
        return _journey_by_journey(step)
    moment = f"{seconds(after)} after" if after >= AT_ONCE else "as soon as"
    sentence = f"everything dark {moment} {report['fault']}, for {seconds(step['seconds_of_total_outage'])}"
    spared = _spared_elsewhere(report, name)
    return f"{sentence}; {listed(spared)} too" if spared else sentence


def _spared_elsewhere(report: Report, name: str) -> list[str]:
    """Journeys that had no need to go dark: under every step of this run that did not go dark whole, they went on.

    Empty when that is true of all of them: then it says nothing about one of them.
    """
    others = [step for step in report["steps"].values() if step["time_to_total_outage_s"] is None]
    journeys = list(report["steps"][name]["journeys"])
    spared = [
        journey for journey in journeys if others and all(_went_on(step["journeys"].get(journey)) for step in others)
    ]
    return spared if len(spared) < len(journeys) else []


def _went_on(journey: JourneyReport | None) -> bool:
    return journey is not None and grade(journey["availability"]["during"]) == "fine"


def _journey_by_journey(step: StepReport) -> str:
    dark: list[str] = []
    hurt: list[str] = []
    limping: list[str] = []
    fine: list[str] = []
    for name, journey in step["journeys"].items():
        share = journey["availability"]["during"]
        if share is None:
            continue
        stale = _degraded_share(journey)
        of_it = f", {'all' if stale == 1 else percent(stale)} of that degraded" if stale >= 1 - WELL else ""
        if journey["seconds_of_outage"] >= HALF * (step["repair_at_s"] - step["fault_at_s"]) > 0:
            dark.append(name)
        elif grade(share) != "fine":
            hurt.append(f"{name} {percent(share)} served{of_it}")
        elif of_it or slow(journey):
            but_slowly = f", p99 {seconds(journey['p99_s']['during'])}" if slow(journey) else ""
            limping.append(f"{name} went on{of_it}{but_slowly}")
        else:
            fine.append(name)
    if not (dark or hurt or limping):
        return "every journey went on" if fine else "no customer asked for anything during the fault"
    longest = max((step["journeys"][name]["seconds_of_outage"] for name in dark), default=0.0)
    up_to = "up to " if len(dark) > 1 else ""
    broken = [*([f"{listed(dark)} dark for {up_to}{seconds(longest)}"] if dark else []), *hurt]
    well = [*limping, *([f"{listed(fine)} went on"] if fine else [])]
    return "; ".join([*broken, *well])


def _degraded_share(journey: JourneyReport) -> float:
    outcomes = journey["outcomes"]["during"]
    degraded = outcomes.get("degraded", 0)
    served = outcomes.get("ok", 0) + degraded
    return degraded / served if served else 0.0


def _details(step: StepReport) -> tuple[str, ...]:
    found = (_endpoints(step), _restarts(step), _counted(step), _recovery(step))
    return tuple(f"{capital(sentence)}." for sentence in found if sentence)


def _endpoints(step: StepReport) -> str:
    services = step["services"]
    empty = [name for name, service in services.items() if service["min_ready"] == 0]
    if empty:
        longest = max(services[name]["seconds_without_endpoints"] for name in empty)
        up_to = "up to " if len(empty) > 1 else ""
        return f"no endpoint left of {listed(empty)} for {up_to}{seconds(longest)}"
    fewer = [
        f"{name} {service['min_ready']} of {service['replicas']}"
        for name, service in services.items()
        if service["min_ready"] is not None and service["min_ready"] < service["replicas"]
    ]
    if fewer:
        return f"fewest endpoints: {listed(fewer)}"
    return "every service kept all its endpoints" if services else ""


def _restarts(step: StepReport) -> str:
    restarts = sum(service["restarts"] for service in step["services"].values())
    return f"{number_of(restarts, 'restart')} of pods" if restarts else ""


def _counted(step: StepReport) -> str:
    sent, seen = sent_and_seen(step)
    if not sent or seen is None:
        return ""
    if seen < 0.9 * sent:
        return f"the pods saw {count(seen)} of {count(sent)} requests: for the rest no counter moved"
    causes: Counter[str] = Counter()
    for journey in step["journeys"].values():
        causes.update(journey["causes"]["during"])
    if not causes:
        return ""
    (cause, most), *_ = causes.most_common(1)
    share = "all" if most == causes.total() else percent(most / causes.total())
    return f"the pods counted {number_of(causes.total(), 'failure')}, {share} of them put down to {cause}"


def _recovery(step: StepReport) -> str:
    if all(grade(journey["availability"]["during"]) in {"fine", None} for journey in step["journeys"].values()):
        return ""
    after = step["time_to_recover_s"]
    if after is None:
        return "not well again before the run ended"
    return f"all well again {seconds(after) if after >= AT_ONCE else 'at once'} after the repair"
