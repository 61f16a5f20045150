"""Tells the person at the terminal what is going on, on stderr; a line per event where there is no terminal."""

from __future__ import annotations

import textwrap
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

_INDENT = len("   0.0 s  ")


class Progress:
    """A bar for the phase that is running, and a line for what has happened."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Something worth a line of its own has happened."""
        first, *rest = textwrap.wrap(text, max(20, self._console.width - _INDENT)) or [""]
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/dim]  {escape(first)}", highlight=False)
        for line in rest:
            self._console.print(" " * _INDENT + escape(line), highlight=False)

    def doing(self, text: str, *, seconds: float | None = None) -> None:
        """What is going on from now on, and how long it will take if that is known."""
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(text, total=seconds)

    def advance(self, seconds: float) -> None:
        """Some of it is done."""
        if self._task is not None:
            self._bars.advance(self._task, seconds)
