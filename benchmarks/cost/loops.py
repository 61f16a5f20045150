"""The calls that are guarded, and the loops that make them many times."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

# Makes so many calls. What it returns, if anything, is to be awaited.
Loop: TypeAlias = Callable[[int], Awaitable[None] | None]
Rejections: TypeAlias = tuple[type[BaseException], ...]


def nothing() -> int:
    """The least a call can do."""
    return 1


async def nothing_async() -> int:
    """The least an async call can do: it returns without ever having waited."""
    return 1


async def one_wait() -> int:
    """What a real call does: it suspends, and a callback of the event loop wakes it."""
    loop = asyncio.get_running_loop()
    answered = loop.create_future()
    loop.call_soon(answered.set_result, 1)
    return int(await answered)


def refuse() -> int:
    """A dependency that is down."""
    raise ConnectionRefusedError


async def refuse_async() -> int:
    """A dependency that is down."""
    raise ConnectionRefusedError


def calling(fn: Callable[..., Any], *args: Any) -> Loop:
    """Calls one function."""
    if args:
        # For methods that take the function; a closure around them would be timed, too.
        (argument,) = args

        def loop_with_argument(calls: int) -> None:
            for _ in range(calls):
                fn(argument)

        return loop_with_argument

    def loop(calls: int) -> None:
        for _ in range(calls):
            fn()

    return loop


def awaiting(fn: Callable[[], Awaitable[Any]]) -> Loop:
    """Awaits one function."""

    async def loop(calls: int) -> None:
        for _ in range(calls):
            await fn()

    return loop


def calling_many(functions: Sequence[Callable[[], Any]]) -> Loop:
    """Calls one after another."""

    def loop(calls: int) -> None:
        for fn in itertools.islice(itertools.cycle(functions), calls):
            fn()

    return loop


def rejected(open_one: Callable[[], Callable[[], Any]], rejections: Rejections) -> Loop:
    """Calls a function whose breaker *open_one* has opened, anew each time: a peer's rejections get dearer with age."""

    def loop(calls: int) -> None:
        fn = open_one()
        for _ in range(calls):
            try:
                fn()
            except rejections:
                continue
            raise AssertionError("called, though the breaker should be open")

    return loop


def rejected_async(open_one: Callable[[], Awaitable[Callable[[], Awaitable[Any]]]], rejections: Rejections) -> Loop:
    """Awaits a function whose breaker *open_one* has opened, as in `rejected`."""

    async def loop(calls: int) -> None:
        fn = await open_one()
        for _ in range(calls):
            try:
                await fn()
            except rejections:
                continue
            raise AssertionError("called, though the breaker should be open")

    return loop


def under_asyncio_timeout(fn: Callable[[], Awaitable[Any]]) -> Loop:
    """What the standard library asks for a deadline alone."""

    async def loop(calls: int) -> None:
        for _ in range(calls):
            async with asyncio.timeout(1.0):
                await fn()

    return loop
