"""Against a real Redis, sync and asyncio: what is repeated, what is not, and what passes the guard by."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio

from shoal import BreakerOpenError, DeadlineExceededError, Guard, deadline
from shoal.guard import Backoff, BreakerSettings, classify_redis
from shoal.integrations.redis import guarded

Eventually = Callable[[Callable[[], object]], Any]


def guard(**settings: Any) -> Guard:
    return Guard(
        "cache",
        **{"timeout": 2.0, "classify": classify_redis, "backoff": Backoff(initial=0.001, maximum=0.01), **settings},
    )


@contextmanager
def client(port: int, guard: Guard, **settings: Any) -> Iterator[redis.Redis]:
    timeouts = {"socket_timeout": guard.timeout, "socket_connect_timeout": guard.timeout}
    with redis.Redis(port=port, **{"decode_responses": True, **timeouts, **settings}) as made:
        yield guarded(made, guard=guard)


@asynccontextmanager
async def async_client(port: int, guard: Guard, **settings: Any) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(port=port, **{"decode_responses": True, **settings}) as made:
        yield guarded(made, guard=guard)


REPEATED = pytest.mark.parametrize(
    ("command", "repeated"),
    [
        pytest.param(["SET", "key", "1"], True, id="SET"),
        pytest.param(["DEL", "key"], True, id="DEL"),
        pytest.param(["SET", "key", "1", "NX"], False, id="SET NX"),
        pytest.param(["INCR", "key"], False, id="INCR"),
        pytest.param(["LPUSH", "list", "1"], False, id="LPUSH"),
        pytest.param(["EVAL", "return redis.call('INCR', 'key')", "0"], False, id="EVAL"),
    ],
)


class TestSync:
    def test_the_client_itself_is_returned_and_each_command_is_a_call(self, redis_server: Any) -> None:
        policies = guard()
        with redis.Redis(port=redis_server.port, socket_timeout=1.0, socket_connect_timeout=1.0) as given:
            cache = guarded(given, guard=policies)

            assert cache is given
            assert cache.set("key", "value") is True
            assert cache.get("key") == b"value"
            assert cache.incr("count") == 1

        assert (policies.counters.calls_success, policies.counters.attempts) == (3, 3)

    def test_a_redis_that_says_no_works_and_is_not_asked_again(self, redis_server: Any) -> None:
        policies = guard()
        with client(redis_server.port, policies) as cache:
            cache.set("key", "text")

            with pytest.raises(redis.ResponseError, match="not an integer"):
                cache.incr("key")
            with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                cache.lpush("key", "1")

        assert policies.counters.attempts_ok == policies.counters.attempts == 3

    @pytest.mark.parametrize("command", [["GET", "key"], ["INCR", "key"]], ids=lambda command: command[0])
    def test_a_redis_that_is_away_is_tried_again_whatever_the_command(
        self, closed_port: int, command: list[str]
    ) -> None:
        """A refused connection carried nothing. redis-py's own ten retries are off, or there would be more of them."""
        policies = guard(attempts=3)
        with client(closed_port, policies) as cache:
            began = time.monotonic()
            with pytest.raises(redis.ConnectionError, match="refused"):
                cache.execute_command(*command)

        assert time.monotonic() - began < 0.5
        assert policies.counters.attempts == 3
        assert policies.counters.retries_by_error["connect"] == 2
        assert policies.counters.calls_exhausted == 1

    def test_a_guard_that_repeats_no_writes_sees_that_nothing_was_sent(self, closed_port: int) -> None:
        policies = guard(attempts=2, idempotent=False)
        with client(closed_port, policies) as cache, pytest.raises(redis.ConnectionError):
            cache.incr("key")

        assert policies.counters.attempts == 2

    def test_an_open_breaker_keeps_commands_from_redis(self, closed_port: int) -> None:
        policies = guard(attempts=1, breaker=BreakerSettings(consecutive=2, consecutive_over=0.0))
        with client(closed_port, policies) as cache:
            for expected in (redis.ConnectionError, redis.ConnectionError, BreakerOpenError):
                with pytest.raises(expected):
                    cache.get("key")

    @REPEATED
    async def test_a_command_whose_answer_was_lost_is_repeated_only_if_it_may_happen_twice(
        self, redis_server: Any, eventually: Eventually, command: list[str], repeated: bool
    ) -> None:
        policies = guard(timeout=20.0)
        with client(redis_server.port, policies) as cache:
            with redis_server.writes_paused():
                task = asyncio.create_task(asyncio.to_thread(cache.execute_command, *command))
                await eventually(lambda: redis_server.clients(command[0].lower()))
                redis_server.kill(redis_server.clients(command[0].lower())[0])
                await eventually(lambda: task.done() or policies.counters.retries)

            if repeated:
                await task
            else:
                with pytest.raises(redis.ConnectionError):
                    await task

        assert policies.counters.retries == (1 if repeated else 0)
        assert policies.counters.calls_non_retryable == (0 if repeated else 1)

    @pytest.mark.parametrize(("command", "attempts"), [("get", 2), ("incr", 1)])
    def test_a_redis_that_does_not_answer_ends_at_the_socket_timeout(
        self, redis_server: Any, command: str, attempts: int
    ) -> None:
        policies = guard(timeout=0.2, attempts=2)
        with client(redis_server.port, policies) as cache:
            cache.ping()
            with redis_server.frozen():
                began = time.monotonic()
                with pytest.raises(redis.TimeoutError):
                    getattr(cache, command)("key")
                assert time.monotonic() - began < 1.0

            assert policies.counters.attempts_timeout == attempts
            assert policies.counters.calls_timeout == 1
            assert cache.ping()

    def test_a_pipeline_is_one_call(self, redis_server: Any) -> None:
        policies = guard()
        with client(redis_server.port, policies) as cache:
            assert cache.pipeline().set("a", 1).incr("a").get("a").execute() == [True, 2, "2"]
            with cache.pipeline(transaction=False) as pipeline:
                pipeline.incr("a")
                assert pipeline.execute() == [3]
                assert pipeline.execute() == []

        assert policies.counters.calls == 2

    @pytest.mark.parametrize(
        ("commands", "repeated"),
        [
            pytest.param([["SET", "a", "1"], ["GET", "a"]], True, id="all may happen twice"),
            pytest.param([["SET", "a", "1"], ["INCR", "a"]], False, id="one may not"),
        ],
    )
    async def test_a_pipeline_is_repeated_as_a_whole_if_all_of_it_may_happen_twice(
        self, redis_server: Any, eventually: Eventually, commands: list[list[str]], repeated: bool
    ) -> None:
        policies = guard(timeout=20.0)
        with client(redis_server.port, policies) as cache, cache.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            with redis_server.writes_paused():
                task = asyncio.create_task(asyncio.to_thread(pipeline.execute))
                await eventually(lambda: redis_server.clients("set"))
                redis_server.kill(redis_server.clients("set")[0])
                await eventually(lambda: task.done() or policies.counters.retries)

            if repeated:
                assert await task == [True, "1"]
            else:
                with pytest.raises(redis.ConnectionError):
                    await task

        assert policies.counters.retries == (1 if repeated else 0)

    def test_a_transaction_that_watches_is_guarded_and_still_loses_to_others(self, redis_server: Any) -> None:
        policies = guard()
        with client(redis_server.port, policies) as cache, redis_server.admin() as other:
            with cache.pipeline() as pipeline:
                pipeline.watch("key")
                other.set("key", "changed")
                pipeline.multi()
                pipeline.set("key", "mine")
                with pytest.raises(redis.WatchError):
                    pipeline.execute()

            assert cache.get("key") == "changed"
        assert policies.counters.attempts_ok == policies.counters.attempts == 3

    def test_a_transaction_that_has_lost_its_watch_is_not_repeated(self, redis_server: Any) -> None:
        policies = guard()
        with client(redis_server.port, policies) as cache:
            with cache.pipeline() as pipeline:
                pipeline.watch("key")
                redis_server.kill(redis_server.clients("watch")[0])
                pipeline.multi()
                pipeline.set("key", "mine")
                with pytest.raises(redis.WatchError):
                    pipeline.execute()

            assert cache.get("key") is None
        assert policies.counters.retries == 0

    def test_scripts_and_locks_work_through_the_guard(self, redis_server: Any) -> None:
        policies = guard()
        with client(redis_server.port, policies) as cache:
            double = cache.register_script("return 2 * tonumber(ARGV[1])")
            with cache.lock("lock", timeout=5.0):
                assert double(args=[21]) == 42
            with cache.pipeline() as pipeline:
                double(args=[4], client=pipeline)
                assert pipeline.execute() == [8]

        assert policies.counters.final_failures == 0

    def test_commands_that_wait_pass_by_the_guard(self, redis_server: Any) -> None:
        policies = guard()
        with client(redis_server.port, policies) as cache:
            cache.lpush("list", "item")
            counted = policies.counters.calls

            assert list(cache.blpop(["list"], timeout=1)) == ["list", "item"]
            assert not cache.xread({"stream": "$"}, block=1)
            assert policies.counters.calls == counted

            cache.xread({"stream": "0"})
            assert policies.counters.calls == counted + 1

    def test_publish_is_guarded_and_pubsub_is_not(self, redis_server: Any) -> None:
        policies = guard()
        with client(redis_server.port, policies) as cache, cache.pubsub() as subscription:
            subscription.subscribe("news")
            assert subscription.get_message(timeout=1.0)["type"] == "subscribe"
            cache.publish("news", "hello")
            assert subscription.get_message(timeout=1.0)["data"] == "hello"

        assert policies.counters.calls == 1

    def test_many_threads_may_use_one_client(self, redis_server: Any) -> None:
        policies = guard()
        with client(redis_server.port, policies) as cache:
            threads = [threading.Thread(target=cache.incr, args=["count"]) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert cache.get("count") == "8"

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [
            pytest.param({}, r"socket_timeout is 5\b", id="redis-py's default"),
            pytest.param({"socket_timeout": None}, "socket_timeout is None", id="for ever"),
            pytest.param(
                {"socket_timeout": 0.1, "socket_connect_timeout": 3}, "socket_connect_timeout is 3", id="connecting"
            ),
        ],
    )
    def test_timeouts_longer_than_the_guards_are_refused(self, settings: dict[str, Any], expected: str) -> None:
        with redis.Redis(**settings) as given, pytest.raises(ValueError, match=f"{expected}.*at most the 0.5 s"):
            guarded(given, guard=guard(timeout=0.5))

    def test_a_pool_that_waits_for_longer_than_the_guard_allows_is_refused(self) -> None:
        pool = redis.BlockingConnectionPool(timeout=20, socket_timeout=0.1, socket_connect_timeout=0.1)
        with pool, pytest.raises(ValueError, match=r"timeout is 20.*BlockingConnectionPool\(timeout=\)"):
            guarded(redis.Redis(connection_pool=pool), guard=guard(timeout=0.5))

    def test_a_unix_socket_needs_no_connect_timeout(self) -> None:
        with redis.Redis(unix_socket_path="/nowhere", socket_timeout=0.1) as given:
            assert guarded(given, guard=guard(timeout=0.5)) is given

    def test_a_second_guard_is_refused(self) -> None:
        with redis.Redis(socket_timeout=0.1, socket_connect_timeout=0.1) as given:
            guarded(given, guard=guard())
            with pytest.raises(ValueError, match="guarded already"):
                guarded(given, guard=guard())

    @pytest.mark.parametrize("make", [lambda: "redis://", lambda: redis.Redis().pipeline()], ids=["text", "pipeline"])
    def test_what_is_no_client_is_refused(self, make: Callable[[], Any]) -> None:
        with pytest.raises(TypeError, match=r"must be a redis\.Redis or redis\.asyncio\.Redis"):
            guarded(make(), guard=guard())


class TestAsync:
    async def test_the_client_itself_is_returned_and_each_command_is_a_call(self, redis_server: Any) -> None:
        policies = guard()
        async with redis.asyncio.Redis(port=redis_server.port) as given:
            cache = guarded(given, guard=policies)

            assert cache is given
            assert await cache.set("key", "value") is True
            assert await cache.get("key") == b"value"

        assert (policies.counters.calls_success, policies.counters.attempts) == (2, 2)

    @pytest.mark.parametrize("command", [["GET", "key"], ["INCR", "key"]], ids=lambda command: command[0])
    async def test_a_redis_that_is_away_is_tried_again_whatever_the_command(
        self, closed_port: int, command: list[str]
    ) -> None:
        policies = guard(attempts=3)
        async with async_client(closed_port, policies) as cache:
            began = time.monotonic()
            with pytest.raises(redis.ConnectionError):
                await cache.execute_command(*command)

        assert time.monotonic() - began < 0.5
        assert policies.counters.attempts == 3
        assert policies.counters.retries_by_error["connect"] == 2

    @REPEATED
    async def test_a_command_whose_answer_was_lost_is_repeated_only_if_it_may_happen_twice(
        self, redis_server: Any, eventually: Eventually, command: list[str], repeated: bool
    ) -> None:
        policies = guard(timeout=20.0)
        async with async_client(redis_server.port, policies) as cache:
            with redis_server.writes_paused():
                task = asyncio.create_task(cache.execute_command(*command))
                await eventually(lambda: redis_server.clients(command[0].lower()))
                redis_server.kill(redis_server.clients(command[0].lower())[0])
                await eventually(lambda: task.done() or policies.counters.retries)

            if repeated:
                await task
            else:
                with pytest.raises(redis.ConnectionError):
                    await task

        assert policies.counters.retries == (1 if repeated else 0)

    @pytest.mark.parametrize(("command", "attempts"), [("get", 2), ("incr", 1)])
    async def test_the_guard_ends_a_command_that_gets_no_answer(
        self, redis_server: Any, eventually: Eventually, command: str, attempts: int
    ) -> None:
        """Its own error is not one that the command could have marked, and INCR must not be sent twice for it."""
        policies = guard(timeout=0.2, attempts=2)
        async with async_client(redis_server.port, policies) as cache:
            await cache.ping()
            with redis_server.frozen():
                began = time.monotonic()
                with pytest.raises(DeadlineExceededError):
                    await getattr(cache, command)("key")
                assert time.monotonic() - began < 1.0

            await eventually(lambda: policies.in_flight == 0)
            assert policies.counters.attempts_timeout == attempts
            assert await cache.get("key") == ("1" if command == "incr" else None)

    async def test_a_deadline_ends_a_command_earlier(self, redis_server: Any) -> None:
        policies = guard(timeout=20.0, attempts=1)
        async with async_client(redis_server.port, policies) as cache:
            await cache.ping()
            with redis_server.frozen(), deadline(0.2):
                began = time.monotonic()
                with pytest.raises(DeadlineExceededError):
                    await cache.get("key")
                assert time.monotonic() - began < 1.0

    async def test_cancelling_the_caller_gives_the_connection_back(
        self, redis_server: Any, eventually: Eventually
    ) -> None:
        policies = guard(timeout=20.0)
        async with async_client(redis_server.port, policies, max_connections=1) as cache:
            await cache.ping()
            with redis_server.frozen():
                task = asyncio.create_task(cache.get("key"))
                await eventually(lambda: policies.in_flight)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

            assert await cache.ping()
        assert policies.counters.calls_cancelled == 1

    async def test_a_pipeline_is_one_call(self, redis_server: Any) -> None:
        policies = guard()
        async with async_client(redis_server.port, policies) as cache, cache.pipeline() as pipeline:
            assert await pipeline.set("a", 1).incr("a").get("a").execute() == [True, 2, "2"]
            assert await pipeline.execute() == []

        assert policies.counters.calls == 1

    async def test_a_pipeline_that_the_guard_has_let_go_of_does_not_disturb_the_next_attempt(
        self, redis_server: Any, eventually: Eventually
    ) -> None:
        """Both have the same commands, and the first empties its list when it ends."""
        policies = guard(timeout=0.3, attempts=2)
        async with async_client(redis_server.port, policies, socket_timeout=0.8) as cache:
            await cache.ping()
            async with cache.pipeline() as pipeline:
                pipeline.set("a", 1).get("a")
                with redis_server.frozen():
                    task = asyncio.create_task(pipeline.execute())
                    await eventually(lambda: policies.counters.retries)

                assert await task == [True, "1"]

    async def test_a_transaction_that_watches_is_guarded_and_still_loses_to_others(self, redis_server: Any) -> None:
        policies = guard()
        async with async_client(redis_server.port, policies) as cache:
            async with cache.pipeline() as pipeline:
                await pipeline.watch("key")
                with redis_server.admin() as other:
                    other.set("key", "changed")
                pipeline.multi()
                pipeline.set("key", "mine")
                with pytest.raises(redis.WatchError):
                    await pipeline.execute()

            assert await cache.get("key") == "changed"
        assert policies.counters.attempts_ok == policies.counters.attempts == 3

    async def test_commands_that_wait_pass_by_the_guard(self, redis_server: Any) -> None:
        policies = guard(timeout=0.1)
        async with async_client(redis_server.port, policies) as cache:
            assert await cache.blpop(["list"], timeout=0.3) is None

        assert policies.counters.calls == 0
