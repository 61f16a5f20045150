"""Checks in the background: none can hurt another, the loop, or the process."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Callable

import pytest

from shoal.health import Check, CheckRunner
from shoal.testing import ManualClock


def refuse() -> None:
    raise ConnectionRefusedError


async def arefuse() -> None:
    raise ConnectionRefusedError


async def fine() -> None:
    """Works."""


def says_false() -> bool:
    return False


async def exits() -> None:
    raise SystemExit(1)


def exits_in_a_thread() -> None:
    raise SystemExit(1)


class OddError(BaseException):
    """As some frameworks raise to unwind everything."""


async def unwinds() -> None:
    raise OddError


async def cancels_itself() -> None:
    raise asyncio.CancelledError


class CallableObject:
    async def __call__(self) -> None:
        raise ConnectionRefusedError


async def sample(function: Callable[[], object], *, timeout: float = 5.0) -> CheckRunner:
    runner = CheckRunner([Check(name="it", function=function, timeout=timeout)])
    await runner.sample("it")
    return runner


class TestOneSample:
    @pytest.mark.parametrize(
        ("function", "error"),
        [
            pytest.param(fine, None, id="coroutine that returns"),
            pytest.param(lambda: None, None, id="function that returns"),
            pytest.param(lambda: fine(), None, id="function that returns a coroutine"),  # noqa: PLW0108  the subject
            pytest.param(lambda: True, None, id="true"),
            pytest.param(says_false, "CheckFailedError: returned False", id="false"),
            pytest.param(refuse, "refused", id="function that raises"),
            pytest.param(arefuse, "refused", id="coroutine that raises"),
            pytest.param(CallableObject(), "refused", id="object with an async call"),
            pytest.param(exits, "CheckFailedError: raised SystemExit", id="coroutine that exits"),
            pytest.param(exits_in_a_thread, "CheckFailedError: raised SystemExit", id="function that exits"),
            pytest.param(unwinds, "CheckFailedError: raised OddError", id="base exception"),
            pytest.param(cancels_itself, "was cancelled", id="cancels itself"),
        ],
    )
    async def test_whatever_a_check_does_is_a_result(self, function: Callable[[], object], error: str | None) -> None:
        runner = await sample(function)

        assert runner.readings["it"].error == error
        assert runner.readings["it"].status(now=runner.readings["it"].at or 0.0) == ("up" if error is None else "down")

    async def test_a_plain_function_does_not_run_on_the_loop(self) -> None:
        threads: list[int] = []
        await sample(lambda: threads.append(threading.get_ident()))

        assert threads != [threading.get_ident()]

    async def test_a_coroutine_that_hangs_is_given_up_after_its_timeout(self) -> None:
        runner = await sample(asyncio.Event().wait, timeout=0.02)

        assert runner.readings["it"].error == "no answer within 0.02 s"

    async def test_a_coroutine_that_refuses_to_be_cancelled_is_given_up_all_the_same(self) -> None:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        runner = await sample(stubborn, timeout=0.02)
        await runner.sample("it")

        assert runner.readings["it"].error == "no answer within 0.02 s, and the call still hangs"
        release.set()

    async def test_a_thread_that_hangs_is_not_joined_by_a_second(self) -> None:
        release = threading.Event()
        began: list[int] = []

        def hang() -> None:
            began.append(1)
            release.wait(10)

        runner = await sample(hang, timeout=0.02)
        await runner.sample("it")
        await runner.sample("it")

        assert len(began) == 1
        assert runner.readings["it"].failures == 3
        release.set()

    async def test_after_a_hang_is_over_the_check_runs_again(self) -> None:
        release = threading.Event()
        runner = await sample(lambda: release.wait(10), timeout=0.02)
        release.set()
        while runner.readings["it"].error is not None:
            await asyncio.sleep(0)
            await runner.sample("it")

        assert runner.readings["it"].successes == 1

    async def test_a_late_failure_is_nobodys_unretrieved_exception(self, caplog: pytest.LogCaptureFixture) -> None:
        async def fails_when_cancelled() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ValueError("late") from None

        await sample(fails_when_cancelled, timeout=0.01)
        await asyncio.sleep(0)
        gc.collect()

        assert caplog.text == ""

    async def test_it_is_timed_by_the_clock_it_was_given(self) -> None:
        clock = ManualClock(now=100.0)

        async def takes_two_seconds() -> None:
            clock.advance(2.0)

        runner = CheckRunner([Check(name="it", function=takes_two_seconds)], clock=clock)
        await runner.sample("it")

        assert (runner.readings["it"].took, runner.readings["it"].at) == (2.0, 102.0)

    async def test_the_settings_of_a_check_are_those_of_its_reading(self) -> None:
        """One failure after a success is enough here."""
        clock = ManualClock()
        results = iter([None, ConnectionRefusedError()])

        async def once() -> None:
            if (error := next(results)) is not None:
                raise error

        check = Check(name="it", function=once, every=1.0, timeout=1.0, failures_before_down=1)
        runner = CheckRunner([check], clock=clock)
        await runner.sample("it")
        await runner.sample("it")

        assert runner.readings["it"].status(now=0.0) == "down"
        assert runner.readings["it"].freshness(now=4.1) == "stale"


class TestManyInTheBackground:
    async def test_the_first_sample_is_taken_at_once(self) -> None:
        sampled = asyncio.Event()

        async def check() -> None:
            sampled.set()

        running = asyncio.create_task(CheckRunner([Check(name="it", function=check, every=3600.0)]).run())
        await asyncio.wait_for(sampled.wait(), timeout=5)
        running.cancel()

    async def test_none_delays_another(self) -> None:
        """One hangs, one refuses to be cancelled, one exits, one has a broken condition; the last is asked on."""
        often = asyncio.Event()
        count = 0
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        async def good() -> None:
            nonlocal count
            count += 1
            if count == 5:
                often.set()

        runner = CheckRunner(
            [
                Check(name="hangs", function=asyncio.Event().wait, every=0.01, timeout=0.01),
                Check(name="stubborn", function=stubborn, every=0.01, timeout=0.01),
                Check(name="exits", function=exits, every=0.01),
                Check(name="condition", function=fine, every=0.01, needed=lambda: 1 // 0 == 0),
                Check(name="good", function=good, every=0.01),
            ]
        )
        running = asyncio.create_task(runner.run())
        await asyncio.wait_for(often.wait(), timeout=5)

        assert not running.done()
        running.cancel()
        release.set()

    async def test_a_check_nobody_needs_is_not_run(self) -> None:
        needed = False
        asked = asyncio.Event()
        sampled = asyncio.Event()

        def is_needed() -> bool:
            asked.set()
            return needed

        async def check() -> None:
            sampled.set()

        runner = CheckRunner([Check(name="it", function=check, every=0.01, needed=is_needed)])
        running = asyncio.create_task(runner.run())
        await asyncio.wait_for(asked.wait(), timeout=5)

        assert runner.readings["it"].at is None
        needed = True
        await asyncio.wait_for(sampled.wait(), timeout=5)
        running.cancel()

    async def test_whoever_listens_hears_every_result(self) -> None:
        heard: list[tuple[str, str | None]] = []
        runner = CheckRunner(
            [Check(name="good", function=fine), Check(name="bad", function=refuse)],
            on_result=lambda name, error: heard.append((name, error)),
        )
        await runner.sample("good")
        await runner.sample("bad")

        assert heard == [("good", None), ("bad", "refused")]

    async def test_when_it_ends_its_calls_end_too(self) -> None:
        ended = asyncio.Event()
        began = asyncio.Event()

        async def check() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        running = asyncio.create_task(CheckRunner([Check(name="it", function=check, timeout=60.0)]).run())
        await asyncio.wait_for(began.wait(), timeout=5)
        running.cancel()

        await asyncio.wait_for(ended.wait(), timeout=5)

    async def test_without_checks_there_is_nothing_to_do(self) -> None:
        await asyncio.wait_for(CheckRunner([]).run(), timeout=5)


class TestPace:
    @pytest.mark.parametrize(
        ("failures", "pause"),
        [(0, 0.25), (1, 0.25), (2, 0.5), (3, 1.0), (5, 4.0), (6, 5.0), (1000, 5.0)],
        ids=str,
    )
    def test_until_it_has_succeeded_once_a_check_is_asked_sooner(self, failures: int, pause: float) -> None:
        runner = CheckRunner([Check(name="it", function=fine, every=5.0)], rng=random.Random(1))
        for _ in range(failures):
            runner.readings["it"].failed("refused", now=0.0, took=0.0)

        pauses = [runner.pause("it") for _ in range(100)]

        assert all(pause * 0.8 <= p <= pause * 1.2 for p in pauses)

    def test_afterwards_it_keeps_its_period_also_when_it_fails(self) -> None:
        runner = CheckRunner([Check(name="it", function=fine, every=5.0)])
        runner.readings["it"].succeeded(now=0.0, took=0.0)
        runner.readings["it"].failed("refused", now=0.0, took=0.0)

        assert runner.pause("it") >= 4.0

    def test_pods_that_start_together_do_not_stay_together(self) -> None:
        runners = [CheckRunner([Check(name="it", function=fine, every=5.0)]) for _ in range(20)]

        assert len({runner.pause("it") for runner in runners}) > 10

    @pytest.mark.parametrize(("every", "timeout"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
    def test_durations_are_above_zero(self, every: float, timeout: float) -> None:
        with pytest.raises(ValueError, match=f"check it: every and timeout must be above 0 seconds, got {every}"):
            Check(name="it", function=fine, every=every, timeout=timeout)
