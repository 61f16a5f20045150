"""What can be written after `shoal lab`."""

from __future__ import annotations

import argparse
from pathlib import Path

from shoal_lab.ladder import LADDER, STEPS, Step

DEFAULT_LADDER = "deep,shallow,guarded"


def parser() -> argparse.ArgumentParser:
    """The parser of `shoal lab`."""
    top = argparse.ArgumentParser(
        prog="shoal lab",
        description="Run a payment company, break it on purpose, and see what its customers saw.",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")

    run = commands.add_parser(
        "run",
        help="run a scenario under some steps of the ladder of remedies",
        description="Run SCENARIO once under each step of the ladder, everything else equal, and print a verdict.",
        epilog="steps of the ladder: " + "; ".join(f"{step.name}: {step.adds}" for step in LADDER),
    )
    run.add_argument("scenario", metavar="SCENARIO", help="a name from `shoal lab list`, or a .toml file")
    run.add_argument(
        "--ladder",
        metavar="STEPS",
        type=steps,
        default=steps(DEFAULT_LADDER),
        help=f"steps to run, with commas between, or `all` (default: {DEFAULT_LADDER})",
    )
    run.add_argument("--kafka", metavar="HOST:PORT", help="a Kafka to use (default: an in-memory broker)")
    run.add_argument(
        "--dsn",
        help="a PostgreSQL to use, as a role that may create databases (default: one of our own)",
    )
    run.add_argument(
        "--rate",
        metavar="N",
        type=positive,
        help="requests per second in all, divided among the journeys as the scenario says",
    )
    run.add_argument("--seed", metavar="N", type=int, default=1, help="who comes when (default: 1)")
    run.add_argument(
        "--time-scale",
        metavar="N",
        type=time_scale,
        default=10.0,
        help="platform seconds in one real second, from 1 to 100 (default: 10); probe periods, back-offs and the "
        "phases of the scenario run faster by it, calls and their timeouts do not",
    )
    run.add_argument("--port", metavar="N", type=port, help="port of the edge, to look at it meanwhile (default: any)")
    run.add_argument("--out", metavar="DIR", type=Path, help="write run.json, index.html and chart.png here")
    run.add_argument("--format", choices=("text", "json"), default="text", help="what to print (default: text)")
    run.add_argument("--keep", action="store_true", help="keep the logs of all processes, and say where they are")

    listing = commands.add_parser("list", help="the scenarios and the steps of the ladder")
    listing.add_argument("--format", choices=("text", "json"), default="text")
    return top


def steps(text: str) -> tuple[Step, ...]:
    """The steps named in *text*, in its order."""
    if text == "all":
        return LADDER
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in STEPS]
    if unknown or not names:
        what = f"no such step: {', '.join(unknown)}" if unknown else "no step named"
        raise argparse.ArgumentTypeError(f"{what}; there are {', '.join(STEPS)}, or all")
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"each step once, got {text}")
    return tuple(STEPS[name] for name in names)


def positive(text: str) -> float:
    """A number above 0 and at most 500: a lab, not a load test."""
    return _number(text, above=0.0, most=500.0)


def time_scale(text: str) -> float:
    """A number from 1 to 100."""
    value = _number(text, above=0.0, most=100.0)
    if value < 1:
        raise argparse.ArgumentTypeError(f"needs a number from 1 to 100, got {text}")
    return value


def _number(text: str, *, above: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not above < value <= most:
        raise argparse.ArgumentTypeError(f"needs a number above {above:g} and at most {most:g}, got {text}")
    return value


def port(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"needs a port from 1 to 65535, got {text}")
    return int(text)
