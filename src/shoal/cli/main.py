"""`shoal`: finds the command and hands it the rest of the line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from shoal import __version__
from shoal.cli.lab import run_lab

DESCRIPTION = "Readiness done right: shallow probes, guarded calls, incidents that name their cause."


def main(argv: Sequence[str] | None = None) -> int:
    """Run `shoal` with *argv* (default: the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["lab"]:
        return run_lab(arguments[1:])
    parser = argparse.ArgumentParser(prog="shoal", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"shoal {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # Each command parses its own arguments; this entry is what `shoal --help` shows.
    commands.add_parser("lab", help="run the payment company, break it, and see what its customers saw", add_help=False)
    parser.parse_args(arguments)
    return 2
