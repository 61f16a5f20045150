"""The libraries compared, one module each: how to guard a function with it the way its documentation recommends."""

from __future__ import annotations

import importlib

from .library import Call, Decorator, Library, Make, NotFoundError, Settings

__all__ = ["MODULES", "Call", "Decorator", "Library", "Make", "NotFoundError", "Settings", "installed", "load"]

MODULES = (
    "shoal",
    "stamina",
    "tenacity",
    "pybreaker",
    "circuitbreaker",
    "stamina_circuitbreaker",
    "purgatory",
    "aiobreaker",
    "hyx",
    "aioresilience",
    "pyresilience",
    "interlock",
    "cashews",
)


def load(module: str) -> Library:
    """The library that a module of this package describes. Raises ImportError if it is not installed."""
    library = importlib.import_module(f"{__name__}.{module}").LIBRARY
    assert isinstance(library, Library)
    return library


def installed() -> dict[str, Library]:
    """The libraries that can be imported here, by module."""
    found = {}
    for module in MODULES:
        try:
            found[module] = load(module)
        except ImportError:
            continue
    return found
