"""Every scenario with every library, each in a process that is ended when it takes too long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from .catalogue import SCENARIOS
from .scenario import Verdict

ROOT = Path(__file__).resolve().parent.parent.parent

# The longest scenario that ends by itself takes 6 s.
LIMIT = 15.0

Results: TypeAlias = dict[tuple[str, str], Verdict]


def run_apart(module: str, name: str, *, limit: float = LIMIT) -> Verdict:
    """The verdict of one scenario in a process of its own; to be still running after *limit* seconds is one, too."""
    command = [sys.executable, "-m", "benchmarks.scenarios.one", module, name]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return Verdict(ok=False, words="hangs")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        return Verdict(ok=False, words=last)
    return Verdict(ok=answer["ok"], words=answer["words"])


def run_all(
    modules: Sequence[str], names: Sequence[str] = tuple(SCENARIOS), *, progress: Callable[[str], None] = lambda _: None
) -> Results:
    """The verdicts by library and scenario. Most of the time they wait, so as many run at once as there are cores."""
    pairs = [(module, name) for name in names for module in modules]
    results: Results = {}
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for pair, result in zip(pairs, pool.map(lambda pair: run_apart(*pair), pairs), strict=True):
            results[pair] = result
            progress(f"{pair[1]} {pair[0]}: {result.words}")
    return results
