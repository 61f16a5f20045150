"""Looking at exceptions of other people's: anything may be missing, and anything may raise."""

from __future__ import annotations

from contextlib import suppress


def peek(holder: object, name: str) -> object:
    """An attribute or None, also when it is a property that raises (httpx: `.request` of an error without one)."""
    with suppress(Exception):
        return getattr(holder, name, None)
    return None


def ask(holder: object, name: str) -> object:
    """What a method returns, or None, also when it raises."""
    method = peek(holder, name)
    with suppress(Exception):
        return method() if callable(method) else None
    return None


def first_argument(error: BaseException) -> object:
    """What an exception was made with, or None."""
    args = peek(error, "args")
    return args[0] if isinstance(args, tuple) and args else None
