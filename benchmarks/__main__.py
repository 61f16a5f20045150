"""`python -m benchmarks [cost] [scenarios] [--write]`: what `make bench` runs for each Python it finds."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import warnings
from collections.abc import Sequence

from .cost import run as cost_run
from .cost.timing import Effort
from .libraries import MODULES, installed
from .report.machine import python
from .report.results import interpreter, page, write
from .scenarios import report as scenarios_report
from .scenarios import run as scenarios_run


def progress(words: str) -> None:
    """Say what is going on, beside the results."""
    print(words, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Costs and scenarios of guarded calls.")
    parser.add_argument("what", nargs="*", metavar="cost | scenarios", help="what to run; both by default")
    parser.add_argument("--rounds", type=int, default=Effort().rounds, help="rounds of each loop (default %(default)s)")
    parser.add_argument("--write", action="store_true", help="keep the tables in benchmarks/results")
    options = parser.parse_args(arguments)
    if unknown := set(options.what) - {"cost", "scenarios"}:
        parser.error(f"neither cost nor scenarios: {', '.join(sorted(unknown))}")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    # Neither what peers log about failures nor what they are told about the future of Python is of interest here.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    libraries = installed()
    for module in MODULES:
        if module not in libraries:
            progress(f"not installed, left out: {module}")

    if not options.what or "cost" in options.what:
        body = asyncio.run(cost_run.run(libraries, Effort(rounds=options.rounds), progress=progress))
        text = page(f"What a guarded call costs, {python()}", body, libraries.values())
        print(text)
        if options.write:
            progress(f"written: {write(f'guard-{interpreter()}', text)}")
    if not options.what or "scenarios" in options.what:
        results = scenarios_run.run_all(list(libraries), progress=progress)
        text = page("What is known to go wrong", scenarios_report.body(libraries, results), libraries.values())
        print(text)
        if options.write:
            progress(f"written: {write('scenarios', text)}")


if __name__ == "__main__":
    main()
