"""One scenario with one library, in a process of its own: `python -m benchmarks.scenarios.one shoal a1`.

Whatever hangs in it goes when the process does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings

from benchmarks.libraries import load

from .catalogue import SCENARIOS
from .clocks import WALL_CLOCK
from .scenario import Verdict


def run_here(module: str, name: str) -> Verdict:
    """The verdict; an exception that a scenario did not expect is one, too."""
    try:
        return SCENARIOS[name].run(load(module))
    except Exception as error:
        return Verdict(False, f"{type(error).__name__}: {error}")  # noqa: FBT003 -- what it is is its name


def main() -> None:
    module, name = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    if name == "e":
        # Before the library is imported, which may keep what it finds.
        WALL_CLOCK.hang_up()
    result = run_here(module, name)
    sys.stdout.write(json.dumps({"ok": result.ok, "words": result.words}))
    sys.stdout.flush()
    # Threads that hang would hold a normal exit up.
    os._exit(0)


if __name__ == "__main__":
    main()
