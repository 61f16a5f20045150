"""`shoal lab`: starts the lab, which is a distribution of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence


def run_lab(arguments: Sequence[str]) -> int:
    """Hand *arguments* to the lab and return its exit code, or 1 if the lab is not installed."""
    try:
        lab = importlib.import_module("shoal_lab.cli")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "shoal_lab":
            print(
                f"shoal lab: the lab is installed without {error.name}; run: pip install --upgrade 'shoal[lab]'",
                file=sys.stderr,
            )
            return 1
        print("shoal lab: the lab is a package of its own; run: pip install 'shoal[lab]'", file=sys.stderr)
        return 1
    code: int = lab.main(arguments)
    return code
