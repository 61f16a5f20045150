"""One call of a check, from which nothing escapes: no exception, no hang, no exit of the process."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading

from .checks import Check, CheckFunction
from .words import in_a_few_words


class CheckFailedError(Exception):
    """A check said no without an exception of its own."""


class CheckCall:
    """A call of *check*, begun on the running loop when this is made."""

    __slots__ = ("_task", "_thread")

    def __init__(self, check: Check) -> None:
        self._thread: threading.Thread | None = None
        self._task = asyncio.create_task(self._ask(check.function), name=f"shoal check {check.name}")

    async def outcome(self, *, timeout: float) -> str | None:
        """Why the check failed, in a few words, or `None` when it succeeded; at the latest after *timeout* seconds."""
        try:
            await asyncio.wait({self._task}, timeout=timeout)
        finally:
            # Told to stop and not waited for: it may take its time, or refuse.
            self.abandon()
        if not self._task.done():
            return f"no answer within {timeout:g} s"
        if self._task.cancelled():
            return "was cancelled"
        failure = self._task.exception()
        return None if failure is None else in_a_few_words(failure)

    @property
    def hanging(self) -> bool:
        """Whether it still runs, though its outcome may be decided."""
        return not self._task.done() or (self._thread is not None and self._thread.is_alive())

    def abandon(self) -> None:
        """Tell it to stop, if it still runs."""
        if not self._task.done():
            self._task.cancel()
            self._task.add_done_callback(_look_at)

    async def _ask(self, function: CheckFunction) -> None:
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
        try:
            result = function() if is_async else await self._in_a_thread(function)
            if inspect.isawaitable(result):
                result = await result
        except (Exception, asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            # asyncio lets a SystemExit out of a task end the whole loop.
            raise CheckFailedError(f"raised {type(error).__name__}") from error
        if result is False:
            raise CheckFailedError("returned False")

    async def _in_a_thread(self, function: CheckFunction) -> object:
        # Not a thread of the loop's pool: a check that never returns must not take a worker from the application. And a
        # daemon, so that it does not keep the process from ending either.
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()

        def settle(result: object, error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

        def run() -> None:
            result: object = None
            failure: BaseException | None = None
            try:
                result = function()
            except Exception as error:  # noqa: BLE001  raised where it is waited for
                failure = error
            except BaseException as error:  # noqa: BLE001  an exit from a thread that is not the main one means nothing
                failure = CheckFailedError(f"raised {type(error).__name__}")
            # The loop may be closed by the time a hanging call returns.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, failure)

        self._thread = threading.Thread(target=run, name="shoal-check", daemon=True)
        self._thread.start()
        return await done


def _look_at(task: asyncio.Task[None]) -> None:
    # Otherwise asyncio reports an exception that nobody retrieved.
    if not task.cancelled():
        task.exception()
