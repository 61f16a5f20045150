"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import shoal_lab.report

MODULES = sorted(module.name for module in pkgutil.iter_modules(shoal_lab.report.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(f"shoal_lab.report.{name}")

    assert doctest.testmod(module).failed == 0


def test_the_front_door_is_what_it_was() -> None:
    assert shoal_lab.report.__all__ == ["Report", "build_report", "print_text", "write_chart", "write_page"]
