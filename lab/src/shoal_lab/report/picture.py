"""The chart as a file, and as SVG inside a page. The same document gives the same bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from .chart import COLOURS, figure
from .shape import Report

_FONT = "'DejaVu Sans', sans-serif"
_DOTS_PER_INCH = 200


def write_chart(report: Report, path: Path) -> None:
    """Write the chart of *report* to *path*, which ends in `.png` (at twice the usual resolution) or `.svg`.

    Raises ValueError for any other ending.
    """
    kind = path.suffix.lower()
    if kind not in {".png", ".svg"}:
        raise ValueError(f"path must end in .png or .svg, got {path}")
    path.write_bytes(
        _render(report, list(report["steps"]), kind[1:], titled=True, column=_column(len(report["steps"])))
    )


def inline_svg(report: Report, steps: Sequence[str], *, column: float) -> str:
    """The chart of some *steps*, each *column* inches wide, as an SVG element that scales with its page.

    Its colours are CSS variables (`--chart-ink` and so on, see `chart.COLOURS`) and its font is the page's, so that it
    follows the page from light to dark. It refers to nothing outside itself.
    """
    svg = _render(report, steps, "svg", titled=False, column=column).decode()
    opening, _, inside = svg[svg.index("<svg") :].partition(">")
    opening = re.sub(r' (?:xmlns(?::xlink)?|version|width|height)="[^"]*"', "", opening)
    # matplotlib's style element speaks of every element of the page, not of its own.
    inside = re.sub(r"<style[^>]*>.*?</style>", "", inside, flags=re.DOTALL)
    # Two charts on one page would share these names; nothing refers to them.
    inside = re.sub(r'<g id="[^"]*"', "<g", inside)
    for role, colour in COLOURS.items():
        inside = inside.replace(colour, f"var(--chart-{role}, {colour})")
    return f"{opening}>{inside.replace(_FONT, 'var(--sans, sans-serif)')}"


def _render(report: Report, steps: Sequence[str], kind: str, *, titled: bool, column: float) -> bytes:
    target = io.BytesIO()
    with (
        mpl.rc_context(
            {
                # Carried by matplotlib itself, so that the layout is the same on every machine.
                "font.family": "sans-serif",
                "font.sans-serif": ["DejaVu Sans"],
                # A "$" in the name of a scenario is a dollar, not a formula.
                "text.parse_math": False,
                "svg.fonttype": "none",
                # The salt names clip paths; charts of different steps on one page must not share them.
                "svg.hashsalt": f"shoal {' '.join(steps)} {column}",
            }
        ),
        warnings.catch_warnings(),
    ):
        # A name in a script this font lacks is drawn as boxes in the PNG; in the SVG the reader's own font has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawing = figure(report, steps, column=column, titled=titled)
        nothing = {"Software": None} if kind == "png" else dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(target, format=kind, dpi=_DOTS_PER_INCH, metadata=nothing)
    return target.getvalue()


def _column(steps: int) -> float:
    """Inches for each column: three fill a desktop's page, six still have room for a sentence."""
    return max(2.3, min(4.5, 10.5 / steps))
