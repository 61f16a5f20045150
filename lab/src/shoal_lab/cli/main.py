"""`shoal lab`: runs what was asked for and turns every ending into one line and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from shoal_lab.cli.arguments import parser
from shoal_lab.cli.progress import Progress
from shoal_lab.errors import LabError, UsageError
from shoal_lab.ladder import LADDER
from shoal_lab.scenario import Scenario, built_in_names, load

if TYPE_CHECKING:
    from shoal_lab.run import Result, Settings

INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str]) -> int:
    """Run `shoal lab` with *argv* and return its exit code."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.command == "list":
            _list(arguments.format)
        else:
            _run(arguments)
    except LabError as error:
        print(f"shoal lab: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("shoal lab: interrupted; everything it started is stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone; let the interpreter's last flush go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _run(arguments: argparse.Namespace) -> None:
    scenario = load(arguments.scenario)
    if arguments.out is not None:
        _make_directory(arguments.out)
    # Drawing and serving take most of a second to import, which help, lists and mistakes need not wait for.
    from shoal_lab.report import build_report, print_text, write_chart, write_page
    from shoal_lab.run import Settings

    settings = Settings(
        steps=arguments.ladder,
        dsn=arguments.dsn,
        kafka=arguments.kafka,
        rate=arguments.rate,
        seed=arguments.seed,
        time_scale=arguments.time_scale,
        edge_port=arguments.port,
        keep=arguments.keep,
    )
    with Progress(Console(stderr=True)) as progress:
        result = asyncio.run(_until_told(scenario, settings, progress))
    report = build_report(
        result.records,
        scenario,
        seed=settings.seed,
        time_scale=settings.time_scale,
        parts=result.parts,
        when=datetime.now(UTC),
        options=_further_options(arguments),
    )
    if arguments.out is not None:
        (arguments.out / "run.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        write_page(report, arguments.out / "index.html")
        write_chart(report, arguments.out / "chart.png")
    if arguments.format == "json":
        print(json.dumps(report, indent=1))
    else:
        print_text(report, Console())
    sys.stdout.flush()
    if arguments.out is not None:
        print(f"written: {arguments.out}/index.html, chart.png and run.json", file=sys.stderr)


async def _until_told(scenario: Scenario, settings: Settings, progress: Progress) -> Result:
    """Run; SIGTERM and a closed terminal end it as Ctrl-C does."""
    from shoal_lab.run import run

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signal.raise_signal, signal.SIGINT)
    return await run(scenario, settings, progress)


def _further_options(arguments: argparse.Namespace) -> list[str]:
    """What else shaped the run. A DSN may hold a password, so only that there was one is said."""
    words: list[str] = []
    if arguments.rate is not None:
        words += ["--rate", f"{arguments.rate:g}"]
    if arguments.kafka is not None:
        words += ["--kafka", arguments.kafka]
    if arguments.dsn is not None:
        words += ["--dsn", "DSN"]
    return words


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / "run.json"
        probe.touch()
    except OSError as error:
        raise UsageError(f"--out {path}: cannot be written to: {error.strerror}; choose another directory") from None


def _list(form: str) -> None:
    scenarios = [load(name) for name in built_in_names()]
    if form == "json":
        listing = {
            "scenarios": [{"name": s.name, "title": s.title, "story": s.story} for s in scenarios],
            "steps": [{"name": step.name, "adds": step.adds} for step in LADDER],
        }
        print(json.dumps(listing, indent=1))
        return
    console = Console()
    for title, rows in (
        ("scenarios", [(s.name, s.title) for s in scenarios]),
        ("steps of the ladder, each on top of the one before", [(step.name, step.adds) for step in LADDER]),
    ):
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2, 0, 0)
        )
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print()
