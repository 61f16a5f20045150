"""A guarded block: for calls that do not fit into one function."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Self

from shoal.errors import DeadlineExceededError

from .deadlines import UNTIL
from .pipeline import Pipeline


class Block:
    """One attempt, made by the code of a `with` or `async with` block. Made by `Guard.call`, for one use.

    What the block raises is judged as a function's exception would be, unless the block says otherwise with `ok`,
    `fail` or `ignore`. Nothing is ever repeated. An `async with` block is cancelled after the guard's timeout, which
    the caller sees as DeadlineExceededError; unlike a function it cannot be let go, so the caller waits until the
    block has cleaned up. A plain block has to watch `remaining` itself.
    """

    __slots__ = ("_began", "_failure", "_given", "_pipeline", "_ticket", "_timeout", "_verdict")

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._ticket: int | None = None
        self._began = 0.0
        self._given = 0.0
        self._timeout: asyncio.Timeout | None = None
        self._verdict: str | None = None
        self._failure: Exception | None = None

    def remaining(self) -> float:
        """Seconds this block still has, never negative: what to hand to a client's timeout."""
        return max(0.0, self._began + self._given - self._pipeline.now())

    def ok(self) -> None:
        """Whatever the block raises, the dependency has answered in time."""
        self._verdict = "ok"

    def ignore(self) -> None:
        """Whatever the block does says nothing about the dependency."""
        self._verdict = "ignore"

    def fail(self, reason: str) -> None:
        """The dependency has failed, even if the block raises nothing; *reason* is for people."""
        self._verdict = "fail"
        self._failure = _ReportedError(reason)

    def __enter__(self) -> Self:
        if self._ticket is not None:
            raise RuntimeError(f"a block of {self._pipeline.name} is for one use; write guard.call() again")
        pipeline = self._pipeline
        self._began = now = pipeline.now()
        left = UNTIL.get() - now
        self._ticket = pipeline.begin(now)
        # A shadow lets even late calls through.
        self._given = min(pipeline.timeout, pipeline.limit, left if left > 0 else math.inf)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pipeline, ticket = self._pipeline, self._ticket
        assert ticket is not None
        now = pipeline.now()
        if self._verdict == "ignore" or (error is not None and not isinstance(error, Exception)):
            pipeline.cancelled(ticket, attempt=1)
            return
        failure = self._failure or error
        if self._verdict == "ok" or failure is None:
            pipeline.succeeded(ticket, attempt=1, took=now - self._began, now=now)
            return
        assert isinstance(failure, Exception)
        until = self._began + self._given
        pipeline.failed(ticket, failure, attempt=1, began=self._began, until=until, now=now, repeats=False)

    async def __aenter__(self) -> Self:
        self.__enter__()
        if self._given < math.inf:
            self._timeout = asyncio.timeout(self._given)
            try:
                await self._timeout.__aenter__()
            except BaseException:
                assert self._ticket is not None
                self._pipeline.cancelled(self._ticket, attempt=1)
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timeout is not None:
            try:
                await self._timeout.__aexit__(kind, error, traceback)
            except TimeoutError:
                late = DeadlineExceededError(self._pipeline.name, timeout=self._given)
                self.__exit__(type(late), late, None)
                raise late from None
        self.__exit__(kind, error, traceback)


class _ReportedError(Exception):
    """What `Block.fail` was told; nobody but the guard sees it."""
