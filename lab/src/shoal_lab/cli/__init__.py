"""`shoal lab`: parse, call, print, exit code. No logic lives here."""

from shoal_lab.cli.main import main

__all__ = ["main"]
