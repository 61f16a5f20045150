"""The command line: parse, call, print, exit code. No logic lives here.

Exit codes of every command: 0 clean, 1 shoal failed, 2 usage, 3 nothing to examine, 10 found something.
"""

from shoal.cli.main import main

__all__ = ["main"]
