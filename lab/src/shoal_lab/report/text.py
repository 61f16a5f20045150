"""The verdict in a terminal of 80 columns. Colour repeats what words and marks say, so nothing is lost without it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .answers import STALE, same_kind_together, served
from .comparison import Block, Cell, Row, comparison
from .rerun import command_lines, time_note
from .shape import Answer, Report, StepReport
from .units import NOTHING, capital, count, percent, visible
from .verdict import Grade, sent_and_seen, verdicts

_STYLES: dict[Grade, str] = {"fine": "green", "hurt": "yellow", "failed": "bold red"}
_MARKS: dict[Grade, str] = {"fine": "✓", "hurt": "▲", "failed": "✗"}
_PLAIN_MARKS: dict[Grade, str] = {"fine": "+", "hurt": "!", "failed": "x"}

_LABELS = 20
"""Columns for the labels of the table; the steps share the rest."""
_BAR = 24
_LINES_OF_A_BODY = 3
_KINDS_SHOWN = 4


def print_text(report: Report, console: Console) -> None:
    """Print the verdict on *report* to *console*.

    Made for 80 columns and never wider than the console. Without colour (`NO_COLOR`, not a terminal) the marks and
    words stand alone; where the encoding has no such characters, plain ones take their place.
    """
    _Page(console).print(report)


class _Page:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = min(console.width, 100)
        self._unicode = console.encoding.lower().startswith("utf")
        self._times = "\N{MULTIPLICATION SIGN}" if self._unicode else "x"
        self._marks = _MARKS if self._unicode else _PLAIN_MARKS

    def print(self, report: Report) -> None:
        self._line(Text(visible(capital(report["title"])), style="bold"))
        self._wrapped(Text(), Text(visible(report["story"]), style="dim"))
        self._wrapped(Text(), Text(f"{report['scenario']}, seed {report['seed']}. {time_note(report)}", style="dim"))
        self._verdicts(report)
        self._table(report)
        self._blindness(report)
        self._answers(report)
        self._heading("Again")
        for line in command_lines(report, self._width - 2):
            self._line(Text(f"  {line}"))

    # Sections

    def _verdicts(self, report: Report) -> None:
        self._line(Text())
        for verdict in verdicts(report):
            mark = self._mark(verdict.grade)
            step = Text(verdict.step, style="bold")
            self._wrapped(Text.assemble(mark, " "), Text.assemble(step, ": ", visible(verdict.headline)))
            self._wrapped(Text("    "), Text(visible(" ".join(verdict.details)), style="dim"))

    def _table(self, report: Report) -> None:
        steps = list(report["steps"])
        width = min(14, (self._width - _LABELS) // len(steps))
        header = self._grid(width, len(steps))
        header.add_row("", *(Text(_broken(step, width - 1), style="bold") for step in steps))
        self._line(Text())
        self._console.print(header)
        for number, block in enumerate(comparison(report)):
            if number:
                self._line(Text())
            self._block(block, width)

    def _block(self, block: Block, width: int) -> None:
        self._line(Text(block.title, style="underline"))
        labels = max((len(row.head) for row in block.rows if row.label), default=0)
        figures = max(len(cell.text) for row in block.rows for cell in row.cells) if block.alike else 0
        grid = self._grid(width, len(block.rows[0].cells))
        for row in block.rows:
            grid.add_row(self._label(row, labels), *(self._cell(cell, figures, weak=row.weak) for cell in row.cells))
        self._console.print(grid)

    def _blindness(self, report: Report) -> None:
        self._heading("Requests sent while the fault lasted, and those a pod's counter saw")
        for name, step in report["steps"].items():
            self._line(self._bar(name, step))

    def _answers(self, report: Report) -> None:
        self._heading("What customers read, word for word")
        for name, step in report["steps"].items():
            self._line(Text(f"  {name}", style="bold"))
            kinds = same_kind_together(answer for journey in step["journeys"].values() for answer in journey["answers"])
            failures = [answer for answer in kinds if not served(answer)]
            stale = [answer for answer in kinds if served(answer) and STALE.search(answer["body"])]
            for answer in failures[:_KINDS_SHOWN]:
                self._answer(answer, lines=_LINES_OF_A_BODY)
            self._left_out(failures[_KINDS_SHOWN:], "other failures")
            for answer in stale:
                self._answer(answer, lines=1)
            self._left_out(
                [answer for answer in kinds if served(answer) and answer not in stale], "what they asked for"
            )

    # Pieces

    def _bar(self, name: str, step: StepReport) -> Text:
        sent, seen = sent_and_seen(step)
        head = f"  {name:<15} "
        if seen is None:
            return Text(f"{head}{count(sent)} sent, no counter could be read")
        if not sent:
            return Text(f"{head}nothing sent")
        share = min(1.0, seen / sent)
        verdict: Grade = "fine" if share >= 0.9 else "hurt" if share >= 0.5 else "failed"
        full, empty = ("━", "·") if self._unicode else ("#", ".")
        filled = max(int(share * _BAR), 1 if seen else 0)
        return Text.assemble(
            head,
            (full * filled, _STYLES[verdict]),
            (empty * (_BAR - filled), "dim"),
            f"  {count(seen)} of {count(sent)}, ",
            (f"{self._marks[verdict]} {percent(share)}", _STYLES[verdict]),
        )

    def _answer(self, answer: Answer, *, lines: int) -> None:
        status = "none" if answer["status"] is None else str(answer["status"])
        good = served(answer)
        prefix = Text.assemble(
            f"  {count(answer['count']):>7} {self._times} ",
            (f"{status:<5}", "green" if good else "red"),
        )
        self._wrapped(prefix, Text(visible(answer["body"]) or "(empty)", style="dim" if good else ""), lines=lines)

    def _left_out(self, answers: list[Answer], what: str) -> None:
        if answers:
            total = sum(answer["count"] for answer in answers)
            self._line(Text(f"  {count(total):>7} {self._times} {what}", style="dim"))

    def _label(self, row: Row, labels: int) -> Text:
        text = f" {row.head:<{labels}} {row.label}" if row.label else f" {row.head}"
        return Text(text, style="dim" if row.weak and not row.head else "")

    def _cell(self, cell: Cell, figures: int, *, weak: bool) -> Text:
        if cell.grade is None:
            text = cell.text if self._unicode else cell.text.replace(NOTHING, "-")
            return Text(text, style="dim" if weak else "")
        return Text(f"{self._marks[cell.grade]} {cell.text:>{figures}}", style=_STYLES[cell.grade])

    def _mark(self, verdict: Grade) -> Text:
        return Text(self._marks[verdict], style=_STYLES[verdict])

    def _grid(self, width: int, steps: int) -> Table:
        grid = Table.grid(padding=0)
        grid.add_column(width=_LABELS, no_wrap=True)
        for _ in range(steps):
            grid.add_column(width=width, justify="right")
        return grid

    def _heading(self, title: str) -> None:
        self._line(Text())
        self._line(Text(title, style="bold"))

    def _line(self, text: Text) -> None:
        self._console.print(self._writable(text), no_wrap=True, overflow="ellipsis", crop=True)

    def _wrapped(self, prefix: Text, body: Text, *, lines: int | None = None) -> None:
        """Print *body* under a hanging indent as wide as *prefix*, in at most so many *lines*."""
        indent = prefix.cell_len
        wrapped = list(self._writable(body).wrap(self._console, self._width - indent))
        for number, line in enumerate(wrapped[:lines]):
            line.rstrip()
            if number + 1 == lines and len(wrapped) > lines:
                line.truncate(self._width - indent - 2)
                line.append(" …" if self._unicode else " >")
            self._console.print(Text.assemble(prefix if number == 0 else " " * indent, line), crop=True)

    def _writable(self, text: Text) -> Text:
        """The same text, with what the console's encoding cannot write spelled out."""
        encoding = self._console.encoding
        plain = text.plain.encode(encoding, "backslashreplace").decode(encoding)
        return text if plain == text.plain else Text(plain, style=text.style)


def _broken(name: str, width: int) -> str:
    """A step's name, broken at its hyphen if the column is too narrow for it."""
    return name if len(name) <= width else name.replace("-", "\n")
