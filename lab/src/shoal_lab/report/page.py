"""The page: one HTML file with everything in it, to open from a disk, send by mail or keep with a release."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .answers import served
from .chart import COLOURS
from .comparison import comparison, services_compared
from .picture import inline_svg
from .rerun import command_lines, time_note
from .shape import Answer, JourneyReport, Report, StepReport
from .units import capital, count, percent, seconds, visible
from .verdict import Grade, grade, verdicts

_MARKS: dict[Grade, str] = {"fine": "✓", "hurt": "▲", "failed": "✗"}
_ABREAST = 3
"""Steps beside each other in a chart: more would be too small to read."""
_DESK_COLUMN = 3.5
_PHONE_COLUMN = 2.2
"""Inches of a step's column: the whole chart then fills 1160 and 330 pixels with letters of 10 pixels and more."""


def write_page(report: Report, path: Path) -> None:
    """Write the page of *report* to *path*: one file without scripts, which loads nothing from anywhere."""
    path.write_text(render_page(report), encoding="utf-8")


def render_page(report: Report) -> str:
    """The page of *report* as HTML. Whatever customers read is shown, never obeyed."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    steps = list(report["steps"])
    environment.filters |= {show.__name__: show for show in (capital, count, percent, seconds, visible)}
    return environment.get_template("page.html.j2").render(
        report=report,
        marks=_MARKS,
        when=_date(report["when"]),
        time_note=time_note(report),
        command="\n".join(command_lines(report, 72)),
        verdicts=verdicts(report),
        blocks=comparison(report),
        service_blocks=services_compared(report),
        desk_charts=[_drawn(report, steps[at : at + _ABREAST], _DESK_COLUMN) for at in range(0, len(steps), _ABREAST)],
        phone_charts=[_drawn(report, [step], _PHONE_COLUMN) for step in steps],
        chart_colours=COLOURS,
        answers={name: _answers(step) for name, step in report["steps"].items()},
        blindness={name: _blindness(step) for name, step in report["steps"].items()},
    )


@dataclass(frozen=True, slots=True)
class _Chart:
    """A chart, and what it shows in words."""

    svg: Markup
    words: str


def _drawn(report: Report, steps: list[str], column: float) -> _Chart:
    words = "; ".join(f"{verdict.step}: {verdict.headline}" for verdict in verdicts(report) if verdict.step in steps)
    svg = inline_svg(report, steps, column=column)
    return _Chart(Markup(svg), words)  # noqa: S704 - our own drawing; matplotlib escapes the texts in it


@dataclass(frozen=True, slots=True)
class _Answers:
    """What one journey's customers read, failures first."""

    failures: list[Answer]
    good: list[Answer]


def _answers(step: StepReport) -> dict[str, _Answers]:
    return {
        name: _Answers(
            failures=[answer for answer in journey["answers"] if not served(answer)],
            good=[answer for answer in journey["answers"] if served(answer)],
        )
        for name, journey in step["journeys"].items()
    }


@dataclass(frozen=True, slots=True)
class _Seen:
    """Requests sent and seen during the fault; *share* is `None` where it cannot be told."""

    sent: int
    seen: int | None
    share: float | None
    grade: Grade | None
    width: int
    """Of the bar, in percent."""


def _blindness(step: StepReport) -> dict[str, _Seen]:
    return {name: _seen(journey) for name, journey in step["journeys"].items()}


def _seen(journey: JourneyReport) -> _Seen:
    sent, seen = journey["sent"]["during"], journey["seen_by_pods"]["during"]
    # Counters are read a moment after a phase has ended, and may have seen a request more than were due in it.
    share = None if seen is None or not sent else min(1.0, seen / sent)
    verdict: Grade | None = None if share is None else "fine" if share >= 0.9 else grade(share)
    return _Seen(sent, seen, share, verdict, int((share or 0.0) * 100))


def _date(when: str) -> str:
    moment = datetime.fromisoformat(when)
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()
