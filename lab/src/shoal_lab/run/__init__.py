"""Performs a scenario: starts the real parts, deploys the company step by step, breaks it, measures."""

from shoal_lab.run.lab import run
from shoal_lab.run.settings import Progress, Result, Settings

__all__ = ["Progress", "Result", "Settings", "run"]
