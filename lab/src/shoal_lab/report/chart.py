"""The chart: a column for each step, a row for each journey, and below them the endpoints of every service.

One rule for the eye: red is what was missing, be it answers customers did not get or endpoints that were not there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import nan

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .rerun import time_note
from .shape import JourneyReport, Report, ServiceReport, StepReport
from .units import capital, percent, seconds, visible
from .verdict import Grade, Verdict, grade, slow, verdicts

INK, MUTED, LINE, PAPER = "#1c2430", "#5d6775", "#c9ced6", "#ffffff"
MISSING, MISSING_INK, SHADE, FINE_INK, HURT_INK = "#e58c80", "#b3261e", "#eef0f3", "#1b6e4a", "#8a5a00"

COLOURS = {
    "ink": INK,
    "muted": MUTED,
    "line": LINE,
    "paper": PAPER,
    "missing": MISSING,
    "failed": MISSING_INK,
    "shade": SHADE,
    "fine": FINE_INK,
    "hurt": HURT_INK,
}
"""Every colour of the chart by its role, so that a page may replace them (see `picture.inline_svg`)."""

_GRADE_INK: dict[Grade, str] = {"fine": FINE_INK, "hurt": HURT_INK, "failed": MISSING_INK}
_MARKS: dict[Grade, str] = {"fine": "✓", "hurt": "▲", "failed": "✗"}

# Inches. The figure is laid out from these, not stretched into a given size, so that text never meets text.
_LEFT, _RIGHT, _GAP, _BOTTOM = 1.1, 0.15, 0.24, 0.5
_HEAD, _HEAD_LINE, _TITLE = 0.88, 0.165, 0.72
_ROW, _ROW_GAP, _LANE, _LANES_HEAD = 0.9, 0.34, 0.3, 0.12
_LANE_FILL = 0.72
_ABOVE = 1.06
"""Where texts above a panel stand, in panels."""
_LABEL = 13
"""Characters of a name that fit into the left margin; a longer one is broken at its hyphens."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything stands, in inches from the lower left."""

    column: float
    columns: int
    rows: int
    lanes: int
    head_lines: int
    titled: bool

    @property
    def width(self) -> float:
        return _LEFT + self.columns * self.column + (self.columns - 1) * _GAP + _RIGHT

    @property
    def height(self) -> float:
        return self.top + _HEAD + self.head_lines * _HEAD_LINE + (_TITLE if self.titled else 0.0)

    @property
    def top(self) -> float:
        return _BOTTOM + self.lanes * _LANE + _LANES_HEAD + self.rows * (_ROW + _ROW_GAP)

    def rect(self, column: int, bottom: float, height: float) -> tuple[float, float, float, float]:
        left = _LEFT + column * (self.column + _GAP)
        return left / self.width, bottom / self.height, self.column / self.width, height / self.height

    def row(self, column: int, row: int) -> tuple[float, float, float, float]:
        return self.rect(column, self.top - (row + 1) * (_ROW + _ROW_GAP) + _ROW_GAP, _ROW)

    def endpoints(self, column: int) -> tuple[float, float, float, float]:
        return self.rect(column, _BOTTOM, self.lanes * _LANE)


def figure(report: Report, steps: Sequence[str], *, column: float, titled: bool) -> Figure:
    """Draw *steps* of a report side by side, each *column* inches wide.

    *titled* adds what a page says around the chart: the scenario's name, and each step's verdict.
    """
    journeys = list(dict.fromkeys(name for step in steps for name in report["steps"][step]["journeys"]))
    services = list(dict.fromkeys(name for step in steps for name in report["steps"][step]["services"]))
    found = {verdict.step: verdict for verdict in verdicts(report)}
    heads = {step: _wrapped(found[step].headline, column) if titled else [] for step in steps}
    layout = _Layout(
        column=column,
        columns=len(steps),
        rows=len(journeys),
        lanes=len(services),
        head_lines=max(len(lines) for lines in heads.values()),
        titled=titled,
    )
    drawing = Figure(figsize=(layout.width, layout.height), facecolor=PAPER)
    for index, name in enumerate(steps):
        step = report["steps"][name]
        _head(drawing, layout, index, found[name], heads[name])
        for row, journey in enumerate(journeys):
            axes = drawing.add_axes(layout.row(index, row))
            _frame(axes, step)
            _journey(axes, step, step["journeys"].get(journey), title=journey if index == 0 else "")
            if row == 0:
                _moments(axes, step)
        axes = drawing.add_axes(layout.endpoints(index))
        _frame(axes, step)
        _endpoints(axes, step, services, titled=index == 0)
        _clock(axes)
    if titled:
        _title(drawing, layout, report)
    return drawing


def _frame(axes: Axes, step: StepReport) -> None:
    axes.set_facecolor(PAPER)
    axes.set_xlim(-step["fault_at_s"], step["ended_s"] - step["fault_at_s"])
    axes.axvspan(0, step["repair_at_s"] - step["fault_at_s"], facecolor=SHADE, edgecolor="none", zorder=0)
    axes.tick_params(length=0, labelsize=8, labelcolor=MUTED, pad=3)
    axes.tick_params(axis="x", labelbottom=False)
    axes.spines[["left", "right", "top", "bottom"]].set_visible(False)


def _wrapped(sentence: str, column: float) -> list[str]:
    # 15.5 characters an inch is what the font's wider letters come to at this size.
    return textwrap.wrap(visible(sentence), int(column * 15.5), break_on_hyphens=False)


def _head(drawing: Figure, layout: _Layout, column: int, verdict: Verdict, lines: Sequence[str]) -> None:
    left, top, _, _ = layout.rect(column, layout.top, 0.0)
    line = _HEAD_LINE / layout.height
    base = top + 0.4 / layout.height + layout.head_lines * line
    for number, text in enumerate(lines, start=1):
        drawing.text(left, base - number * line, text, fontsize=8.5, color=MUTED, va="bottom")
    name = f"{_MARKS[verdict.grade]} {visible(verdict.step)}"
    drawing.text(
        left, base + line / 3, name, fontsize=13, fontweight="bold", color=_GRADE_INK[verdict.grade], va="bottom"
    )


def _moments(axes: Axes, step: StepReport) -> None:
    for at, text in ((0.0, "fault"), (step["repair_at_s"] - step["fault_at_s"], "repair")):
        axes.text(at, _ABOVE + 0.2, text, fontsize=7.5, color=MUTED, va="bottom", transform=axes.get_xaxis_transform())


def _journey(axes: Axes, step: StepReport, journey: JourneyReport | None, *, title: str) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 1], ["0 %", "100 %"] if title else ["", ""])
    axes.axhline(0, color=LINE, linewidth=0.8, zorder=1, clip_on=False)
    if title:
        _label(axes, title, 0.5)
    if journey is None:
        axes.text(0, 0.5, "not in this step", fontsize=8, color=MUTED, va="center")
        return
    series = journey["series"]
    edges = [t - step["fault_at_s"] for t in [*series["t"], step["ended_s"]]]
    shares = [nan if share is None else share for share in series["availability"]]
    axes.stairs(shares, edges, baseline=1.0, fill=True, facecolor=MISSING, edgecolor="none", linewidth=0, zorder=2)
    axes.stairs(shares, edges, baseline=None, color=INK, linewidth=1.3, zorder=3, clip_on=False)
    _figures(axes, journey)


def _figures(axes: Axes, journey: JourneyReport) -> None:
    """The figures of the fault's time, above the panel, where they hide nothing."""
    share, p99 = journey["availability"]["during"], journey["p99_s"]["during"]
    verdict = grade(share)
    served = "nothing sent" if share is None else f"{percent(share)} served"
    colour = _GRADE_INK[verdict] if verdict else MUTED
    above = axes.get_xaxis_transform()
    axes.text(0, _ABOVE, served, fontsize=9.5, fontweight="bold", color=colour, va="bottom", transform=above)
    if p99 is not None:
        colour = HURT_INK if slow(journey) else MUTED
        text = f"p99 {seconds(p99)}"
        axes.text(1, _ABOVE, text, fontsize=8, color=colour, ha="right", va="bottom", transform=axes.transAxes)


def _endpoints(axes: Axes, step: StepReport, services: Sequence[str], *, titled: bool) -> None:
    axes.set_ylim(-len(services) + 1 - (1 - _LANE_FILL) / 2, 1 - (1 - _LANE_FILL) / 2)
    axes.set_yticks([])
    for lane, name in enumerate(services):
        if name in step["services"]:
            _lane(axes, step, step["services"][name], base=-lane)
        if titled:
            _label(axes, name, -lane + _LANE_FILL / 2, small=True)
    if titled:
        axes.text(0, 1.03, "endpoints in the load balancer", fontsize=8, color=MUTED, transform=axes.transAxes)
    restarts = [event for event in step["events"] if event["kind"] == "restart" and event["service"] in services]
    for event in restarts:
        y = -services.index(event["service"]) + _LANE_FILL / 2
        axes.plot([event["t"] - step["fault_at_s"]], [y], "o", color=INK, markeredgecolor=PAPER, markersize=5, zorder=5)
    if restarts:
        last = restarts[-1]
        y = -services.index(last["service"]) + _LANE_FILL / 2
        _beside(axes, "restart" if len(restarts) == 1 else "restarts", last["t"] - step["fault_at_s"], y)


def _beside(axes: Axes, text: str, at: float, y: float) -> None:
    axes.annotate(
        text, (at, y), xytext=(5, -0.5), textcoords="offset points", fontsize=7, color=INK, va="center", zorder=6
    )


def _lane(axes: Axes, step: StepReport, service: ServiceReport, *, base: float) -> None:
    axes.axhline(base, color=LINE, linewidth=0.8, zorder=1)
    wanted = max([service["replicas"], 1, *(ready for _, ready in service["ready"])])
    spans = list(pairwise([*service["ready"], (step["ended_s"], 0)]))
    if not spans:
        return
    edges = [at - step["fault_at_s"] for (at, _), _ in spans] + [step["ended_s"] - step["fault_at_s"]]
    levels = [base + _LANE_FILL * ready / wanted for (_, ready), _ in spans]
    full = base + _LANE_FILL * min(service["replicas"], wanted) / wanted
    missing = [min(level, full) for level in levels]
    axes.stairs(missing, edges, baseline=full, fill=True, facecolor=MISSING, edgecolor="none", linewidth=0, zorder=2)
    axes.stairs(levels, edges, baseline=None, color=INK, linewidth=1.1, zorder=3)


def _label(axes: Axes, text: str, y: float, *, small: bool = False) -> None:
    axes.annotate(
        visible(text) if len(text) <= _LABEL else visible(text).replace("-", "-\n"),
        (0, y),
        xycoords=("axes fraction", "data"),
        xytext=(-6, 0),
        textcoords="offset points",
        fontsize=8 if small else 9,
        fontweight="normal" if small else "bold",
        color=MUTED if small else INK,
        ha="right",
        va="center",
        annotation_clip=False,
    )


def _clock(axes: Axes) -> None:
    axes.tick_params(axis="x", labelbottom=True)
    start, end = axes.get_xlim()
    axes.set_xticks(
        [tick for tick in MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(0, end) if 0 <= tick <= end]
    )
    axes.set_xlim(start, end)
    axes.set_xlabel("seconds after the fault", fontsize=8, color=MUTED, labelpad=3)


def _title(drawing: Figure, layout: _Layout, report: Report) -> None:
    left, top = 0.15 / layout.width, 1 - 0.12 / layout.height
    drawing.text(left, top, visible(capital(report["title"])), fontsize=15, fontweight="bold", color=INK, va="top")
    note = f"Requests served in each half second, and ready endpoints; red is what was missing. {time_note(report)}"
    drawing.text(left, top - 0.31 / layout.height, note, fontsize=8.5, color=MUTED, va="top")
