"""Liveness is about this process alone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from shoal.health import Heartbeat, Liveness, LoopWatch, Readiness, Symptom
from shoal.testing import ManualClock


class TestHeartbeat:
    def test_a_beat_in_time_keeps_it_alive(self) -> None:
        clock = ManualClock()
        heartbeat = Heartbeat("consumer", stalled_after=5.0, clock=clock)

        for _ in range(10):
            clock.advance(5.0)
            assert not heartbeat.stalled
            heartbeat.beat()

    def test_silence_is_a_fatal_symptom_that_names_the_worker(self) -> None:
        clock, liveness = ManualClock(), Liveness()
        liveness.add(Heartbeat("consumer", stalled_after=5.0, clock=clock))
        liveness.add(Heartbeat("outbox", stalled_after=60.0, clock=clock))

        clock.advance(5.1)

        assert list(liveness.symptoms()) == [Symptom("heartbeat consumer silent for 5.1 s, more than 5 s", fatal=True)]

    def test_a_worker_that_never_began_is_silent_too(self) -> None:
        clock = ManualClock(now=1000.0)
        heartbeat = Heartbeat("consumer", stalled_after=5.0, clock=clock)
        clock.advance(6.0)

        assert heartbeat.stalled

    def test_it_recovers_with_the_next_beat(self) -> None:
        clock = ManualClock()
        heartbeat = Heartbeat("consumer", stalled_after=5.0, clock=clock)
        clock.advance(60.0)
        heartbeat.beat()

        assert not heartbeat.stalled

    def test_a_name_is_given_once(self) -> None:
        liveness = Liveness()
        liveness.add(Heartbeat("consumer", stalled_after=5.0))

        with pytest.raises(ValueError, match="there is a heartbeat consumer already"):
            liveness.add(Heartbeat("consumer", stalled_after=1.0))

    def test_no_patience_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match="heartbeat consumer: stalled_after must be above 0 seconds, got 0"):
            Heartbeat("consumer", stalled_after=0)


class TestReadiness:
    @pytest.mark.parametrize(
        ("steps", "ready", "reason"),
        [
            pytest.param([], False, "not started", id="at first"),
            pytest.param(["started"], True, None, id="started"),
            pytest.param(["started", "drain"], False, "draining", id="draining"),
            pytest.param(["drain"], False, "draining", id="draining before the start"),
            pytest.param(["drain", "started"], False, "draining", id="a start does not end draining"),
            pytest.param(["started", "drain", "resume"], True, None, id="resumed"),
        ],
    )
    def test_it_is_two_flags_and_nothing_else(self, steps: list[str], ready: bool, reason: str | None) -> None:
        readiness = Readiness()
        for step in steps:
            getattr(readiness, step)()

        assert (readiness.ready, readiness.reason) == (ready, reason)


def block_the_loop(began: threading.Event, release: threading.Event) -> None:
    began.set()
    release.wait(10)


def sleep_on_the_loop(began: threading.Event, release: threading.Event) -> None:
    began.set()
    while not release.is_set():
        time.sleep(0.01)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def turn(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(5)


@contextlib.contextmanager
def watching(loop: asyncio.AbstractEventLoop, watch: LoopWatch) -> Iterator[None]:
    running = asyncio.run_coroutine_threadsafe(watch.run(), loop)
    turn(loop)
    yield
    running.cancel()
    turn(loop)


@contextlib.contextmanager
def standing_still(
    loop: asyncio.AbstractEventLoop, block: Callable[[threading.Event, threading.Event], None] = block_the_loop
) -> Iterator[None]:
    began, release = threading.Event(), threading.Event()
    loop.call_soon_threadsafe(block, began, release)
    assert began.wait(5)
    yield
    release.set()


class TestLoopWatch:
    def test_a_loop_that_turns_has_no_symptom(self, loop: asyncio.AbstractEventLoop) -> None:
        watch = LoopWatch(clock=ManualClock())

        with watching(loop, watch):
            assert watch.symptom() is None

    def test_a_loop_that_is_not_watched_has_none_either(self, loop: asyncio.AbstractEventLoop) -> None:
        clock = ManualClock()
        watch = LoopWatch(clock=clock)
        clock.advance(100.0)
        before = watch.symptom()
        with watching(loop, watch):
            pass
        clock.advance(100.0)

        assert (before, watch.symptom()) == (None, None)

    @pytest.mark.parametrize(
        ("seconds", "fatal"),
        [(1.1, False), (10.0, False), (10.1, True)],
        ids=["reported early", "not fatal yet", "fatal"],
    )
    def test_a_stall_is_reported_with_its_place_and_fatal_only_later(
        self, loop: asyncio.AbstractEventLoop, seconds: float, fatal: bool
    ) -> None:
        clock = ManualClock()
        watch = LoopWatch(fail_after=10.0, clock=clock)

        with watching(loop, watch), standing_still(loop):
            clock.advance(seconds)
            symptom = watch.symptom()

        line = block_the_loop.__code__.co_firstlineno + 2
        text = f"event loop stalled for {seconds:.1f} s at {__file__}:{line} in block_the_loop"
        assert symptom == Symptom(text, fatal=fatal)

    def test_a_busy_moment_is_not_reported(self, loop: asyncio.AbstractEventLoop) -> None:
        clock = ManualClock()
        watch = LoopWatch(clock=clock)

        with watching(loop, watch), standing_still(loop):
            clock.advance(0.9)
            assert watch.symptom() is None

    def test_a_loop_that_waits_for_work_is_not_stalled_however_late_it_is(
        self, loop: asyncio.AbstractEventLoop
    ) -> None:
        """So it looks after the process was suspended for a while."""
        clock = ManualClock()
        watch = LoopWatch(clock=clock)

        with watching(loop, watch):
            clock.advance(100.0)
            # It may be making a turn at this moment; soon it rests.
            patience = time.monotonic() + 5
            while watch.symptom() is not None and time.monotonic() < patience:
                time.sleep(0.001)
            assert watch.symptom() is None

    def test_a_short_patience_is_kept_though_reports_usually_wait(self, loop: asyncio.AbstractEventLoop) -> None:
        clock = ManualClock()
        watch = LoopWatch(fail_after=0.5, clock=clock)

        with watching(loop, watch), standing_still(loop):
            clock.advance(0.6)
            symptom = watch.symptom()

        assert symptom is not None
        assert symptom.fatal

    def test_the_function_that_sleeps_is_named_also_inside_a_coroutine(self, loop: asyncio.AbstractEventLoop) -> None:
        clock = ManualClock()
        watch = LoopWatch(clock=clock)
        release = threading.Event()

        async def handler(began: threading.Event) -> None:
            sleep_on_the_loop(began, release)

        with watching(loop, watch):
            began = threading.Event()
            blocked = asyncio.run_coroutine_threadsafe(handler(began), loop)
            assert began.wait(5)
            clock.advance(2.0)
            symptom = watch.symptom()
            release.set()
            blocked.result(5)

        assert symptom is not None
        assert symptom.text.endswith("in sleep_on_the_loop")

    def test_whoever_started_the_loop_is_not_blamed(self) -> None:
        """A C function called by the loop leaves no frame; the next one that is no library's is this test's own."""
        clock = ManualClock()
        watch = LoopWatch(clock=clock)
        seen: list[Symptom | None] = []
        began, release = threading.Event(), threading.Event()

        def look() -> None:
            began.wait(5)
            clock.advance(2.0)
            seen.append(watch.symptom())
            release.set()

        async def main() -> None:
            task = asyncio.create_task(watch.run())
            await asyncio.sleep(0)
            loop = asyncio.get_running_loop()
            loop.call_soon(began.set)
            loop.call_soon(release.wait, 10)
            await asyncio.sleep(0)
            task.cancel()

        looking = threading.Thread(target=look)
        looking.start()
        asyncio.run(main())
        looking.join()

        assert seen[0] is not None
        assert "event loop stalled for 2.0 s at " in seen[0].text
        assert __file__ not in seen[0].text

    def test_no_patience_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match="above 0"):
            LoopWatch(fail_after=0)
