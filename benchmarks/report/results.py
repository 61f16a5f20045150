"""The tables that are kept in the repository, to be compared with those of the next change."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from benchmarks.libraries import Library

from .machine import machine, versions

RESULTS = Path(__file__).resolve().parent.parent / "results"

_NOTE = "<!-- Written by `make bench BENCH=--write`. -->"


def page(title: str, body: str, libraries: Iterable[Library]) -> str:
    """A whole page: what it is about, what it was made on and with, the tables."""
    return f"{_NOTE}\n\n# {title}\n\n{machine()}\\\n{versions(libraries)}\n\n{body}\n"


def write(name: str, text: str, *, into: Path = RESULTS) -> Path:
    """Keep a page under its name; a Python version has one of its own where figures depend on it."""
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"{name}.md"
    path.write_text(text, encoding="utf-8")
    return path


def interpreter() -> str:
    """The part of a name that says which Python, such as `cpython-3.11`."""
    return f"{platform.python_implementation().lower()}-{'.'.join(platform.python_version_tuple()[:2])}"
