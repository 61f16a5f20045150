"""Whether calling something gives something to await."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def is_async(fn: Callable[..., Any]) -> bool:
    """For functions, partials, methods and objects with `__call__`. Raises TypeError for a generator."""
    candidates = (fn, getattr(fn, "__call__", None))  # noqa: B004 -- the method itself is wanted, not whether there is one
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in candidates):
        raise TypeError(f"{fn!r} is a generator; guard the call that opens the stream, not the stream")
    return any(inspect.iscoroutinefunction(one) for one in candidates)
