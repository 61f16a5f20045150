"""Deep readiness, asked from whatever thread: the dependencies are called on the service's own loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

from shoal.health import DEEP_TIMEOUT, ProbeAnswer, available_answer, deep_answer

from .state import State

# Each waits for one probe; more than a few at once are somebody's mistake and may queue.
_WAITING_AT_ONCE = 4


class DeepReadiness:
    """The article's endpoint for one service. See `shoal.health.deep_answer` for what it will do to you."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._waiting: ThreadPoolExecutor | None = None
        self.passed = False
        """What it said last."""

    async def aanswer(self) -> ProbeAnswer:
        """Ask on the running loop."""
        return self._remember(await deep_answer(self._state.checks()))

    def answer(self) -> ProbeAnswer:
        """Ask from another thread, and wait at most 0.9 s: what has not answered by then is not available.

        Raises RuntimeError on the loop's own thread, which would wait for itself.
        """
        loop = self._state.loop
        if loop is None or loop is _running_loop():
            raise RuntimeError("deep readiness would wait for the loop it runs on; use `await service.aanswer(path)`")
        checks = self._state.checks()
        asked = asyncio.run_coroutine_threadsafe(deep_answer(checks), loop)
        try:
            # A little longer than the dependencies get, so that their answers arrive in time.
            return self._remember(asked.result(timeout=DEEP_TIMEOUT + 0.05))
        except TimeoutError:
            asked.cancel()
            return self._remember(available_answer({check.name: False for check in checks}))

    def answer_later(self) -> Future[ProbeAnswer]:
        """The same without waiting, for the probe thread: liveness is answered meanwhile."""
        if self._waiting is None:
            self._waiting = ThreadPoolExecutor(_WAITING_AT_ONCE, thread_name_prefix="shoal-deep")
        return self._waiting.submit(self.answer)

    def close(self) -> None:
        """Let go of the threads."""
        if self._waiting is not None:
            self._waiting.shutdown(wait=False, cancel_futures=True)
            self._waiting = None

    def _remember(self, answer: ProbeAnswer) -> ProbeAnswer:
        self.passed = answer.status == 200
        return answer


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
