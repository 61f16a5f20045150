"""Against a real PostgreSQL: what is repeated, what is not, and that the pool always gets its connections back."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from shoal import BreakerOpenError, DeadlineExceededError, Guard, deadline
from shoal.guard import Backoff, BreakerSettings, classify_dbapi
from shoal.integrations.asyncpg import GuardedPool
from shoal.testing import ManualClock

Eventually = Callable[[Callable[[], object]], Any]


def guard(**settings: Any) -> Guard:
    return Guard(
        "database",
        **{"timeout": 2.0, "classify": classify_dbapi, "backoff": Backoff(initial=0.001, maximum=0.01), **settings},
    )


@asynccontextmanager
async def pool(dsn: str, *, size: int = 1) -> AsyncIterator[asyncpg.Pool]:
    made = await asyncpg.create_pool(dsn, min_size=0, max_size=size)
    try:
        yield made
    finally:
        made.terminate()


async def all_connections_work(pool: asyncpg.Pool) -> bool:
    """Whether as many as the pool may have can be used at once."""
    connections = [await pool.acquire(timeout=2.0) for _ in range(pool.get_max_size())]
    answers = [await connection.fetchval("SELECT 1") for connection in connections]
    for connection in connections:
        await pool.release(connection)
    return answers == [1] * len(connections)


async def insert(connection: Any, number: int) -> str:
    return str(await connection.execute("INSERT INTO item VALUES ($1)", number))


async def test_a_unit_of_work_is_one_transaction_and_one_call(database: Any) -> None:
    async def two(connection: Any, first: int, second: int) -> str:
        await insert(connection, first)
        return await insert(connection, second)

    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard())

        tag = await guarded.run(two, 1, 2)

    assert tag == "INSERT 0 1"
    assert database.items() == 2
    assert (guarded.guard.counters.calls_success, guarded.guard.counters.attempts) == (1, 1)


async def test_single_statements_are_calls_too(database: Any) -> None:
    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard())

        assert await guarded.execute("INSERT INTO item VALUES ($1), ($2)", 1, 2, idempotent=False) == "INSERT 0 2"
        assert [row["id"] for row in await guarded.fetch("SELECT id FROM item ORDER BY id")] == [1, 2]
        assert (await guarded.fetchrow("SELECT id FROM item WHERE id = $1", 2))["id"] == 2
        assert await guarded.fetchval("SELECT count(*) FROM item") == 2

    assert guarded.guard.counters.calls_success == 4


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("INSERT INTO item VALUES (1)", asyncpg.UniqueViolationError, id="unique violation"),
        pytest.param("SELEC 1", asyncpg.PostgresSyntaxError, id="syntax error"),
    ],
)
async def test_a_database_that_says_no_works_and_is_not_asked_again(
    database: Any, query: str, expected: type[Exception]
) -> None:
    database.ask("INSERT INTO item VALUES (1)")
    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard())

        async def work(connection: Any) -> None:
            await insert(connection, 2)
            await connection.execute(query)

        with pytest.raises(expected):
            await guarded.run(work)

        assert guarded.guard.counters.attempts_ok == guarded.guard.counters.attempts == 1
        assert guarded.guard.health().error_rate == 0.0
        assert database.items() == 1
        assert await all_connections_work(connections)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_database_that_is_away_is_tried_again_whatever_the_work(nowhere: Any, idempotent: bool) -> None:
    """Without a connection nothing can have happened."""
    async with pool(nowhere.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard(attempts=3))

        with pytest.raises(ConnectionRefusedError):
            await guarded.run(insert, 1, idempotent=idempotent)

    assert guarded.guard.counters.attempts == 3
    assert guarded.guard.counters.calls_exhausted == 1


async def test_an_open_breaker_asks_the_pool_for_nothing(nowhere: Any) -> None:
    async with pool(nowhere.dsn) as connections:
        guarded = GuardedPool(
            connections, guard=guard(attempts=1, breaker=BreakerSettings(consecutive=2, consecutive_over=0.0))
        )

        for expected in (ConnectionRefusedError, ConnectionRefusedError, BreakerOpenError):
            with pytest.raises(expected):
                await guarded.fetchval("SELECT 1")


async def test_the_server_ends_a_slow_statement_before_the_guard_has_to(database: Any) -> None:
    """So the connection is in a known state, and serves the next one at once."""

    async def sleep(connection: Any) -> None:
        pids.append(await connection.fetchval("SELECT pg_backend_pid()"))
        await connection.execute("SELECT pg_sleep(30)")

    pids: list[int] = []
    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard(timeout=0.4, attempts=1))

        began = time.monotonic()
        with pytest.raises(asyncpg.QueryCanceledError):
            await guarded.run(sleep)
        took = time.monotonic() - began

        assert 0.3 <= took < 1.0
        assert guarded.guard.counters.final_failures == 1
        assert guarded.guard.counters.orphans == 0
        assert await guarded.fetchval("SELECT pg_backend_pid()") == pids[0]


async def test_a_slow_single_statement_ends_in_time(database: Any) -> None:
    async with pool(database.dsn, size=2) as connections:
        guarded = GuardedPool(connections, guard=guard(timeout=0.2, attempts=1))

        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await guarded.execute("SELECT pg_sleep(30)")

        assert time.monotonic() - began < 1.0
        assert guarded.guard.counters.calls_timeout == 1
        assert await all_connections_work(connections)


async def test_a_connection_that_freezes_is_let_go_and_replaced(database: Any) -> None:
    """While it is still frozen: it could be the network, and last for as long as TCP is patient."""

    async def ask(connection: Any) -> None:
        pids.append(await connection.fetchval("SELECT pg_backend_pid()"))
        begun.set()
        await frozen.wait()
        await connection.execute("SELECT 1")

    pids: list[int] = []
    begun, frozen = asyncio.Event(), asyncio.Event()
    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard(timeout=0.3, attempts=1))
        task = asyncio.create_task(guarded.run(ask))
        await begun.wait()

        with database.frozen(pids[0]):
            frozen.set()
            began = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                await task
            assert time.monotonic() - began < 1.0

            assert await all_connections_work(connections)


async def test_a_connection_that_froze_while_idle_is_let_go_and_replaced(database: Any) -> None:
    async def pid(connection: Any) -> int:
        return int(await connection.fetchval("SELECT pg_backend_pid()"))

    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard(timeout=0.2, attempts=1))

        with database.frozen(await guarded.run(pid)):
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                await guarded.run(pid)
            assert time.monotonic() - began < 1.0

            assert await all_connections_work(connections)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_connection_lost_in_the_middle_is_repeated_only_for_what_may_happen_twice(
    database: Any, idempotent: bool
) -> None:
    async def lose_the_first(connection: Any) -> int:
        runs.append(await connection.fetchval("SELECT pg_backend_pid()"))
        if len(runs) == 1:
            await asyncio.to_thread(database.terminate, runs[0])
        await insert(connection, 1)
        return len(runs)

    runs: list[int] = []
    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard())

        if idempotent:
            assert await guarded.run(lose_the_first) == 2
        else:
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await guarded.run(lose_the_first, idempotent=False)

        assert len(runs) == (2 if idempotent else 1)
        assert guarded.guard.counters.retries == (1 if idempotent else 0)
        assert guarded.guard.counters.calls_non_retryable == (0 if idempotent else 1)
        assert await all_connections_work(connections)
    assert database.items() == (1 if idempotent else 0)


@pytest.mark.parametrize(("idempotent", "runs"), [(True, 2), (False, 1)])
async def test_work_that_the_guard_cut_is_begun_again_only_if_it_may_happen_twice(
    database: Any, idempotent: bool, runs: int
) -> None:
    """The guard's own error is not one that the work could have marked."""

    async def hang(connection: Any) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    begun = 0
    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard(timeout=0.1, attempts=2))

        with pytest.raises(DeadlineExceededError):
            await guarded.run(hang, idempotent=idempotent)

        assert begun == runs
        assert guarded.guard.counters.attempts_timeout == runs
        assert guarded.guard.counters.calls_timeout == 1
        assert await all_connections_work(connections)


async def test_work_that_was_cut_is_not_begun_again_even_by_a_guard_whose_clock_has_stopped(database: Any) -> None:
    """No clock is trusted with it: this guard believes that there is time left for another attempt."""

    async def hang(connection: Any) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    begun = 0
    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard(timeout=0.1, attempts=3, clock=ManualClock()))

        with pytest.raises(DeadlineExceededError):
            await guarded.run(hang, idempotent=False)

    assert begun == 1


async def test_an_outer_guard_does_not_begin_it_again_either(database: Any) -> None:
    """Also around an inner guard that never repeats, and so leaves repeating to others."""

    async def hang(connection: Any) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    begun = 0
    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard(timeout=0.1, attempts=1))
        outer = Guard("transfer", timeout=5.0, attempts=3, backoff=Backoff(initial=0.001, maximum=0.01))

        with pytest.raises(DeadlineExceededError):
            await outer.arun(lambda: guarded.run(hang, idempotent=False))

    assert begun == 1


async def test_cancelling_the_caller_gives_the_connection_back(database: Any, eventually: Eventually) -> None:
    async def work(connection: Any) -> None:
        pids.append(await connection.fetchval("SELECT pg_backend_pid()"))
        await insert(connection, 1)
        await connection.execute("SELECT pg_sleep(30)")

    pids: list[int] = []
    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard(timeout=20.0))
        task = asyncio.create_task(guarded.run(work))
        await eventually(lambda: database.is_asleep(pids))

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await eventually(lambda: guarded.guard.in_flight == 0)
        assert await all_connections_work(connections)
        assert guarded.guard.counters.calls_cancelled == 1
    assert database.items() == 0


async def test_a_deadline_shortens_what_the_server_allows(database: Any) -> None:
    async def limit(connection: Any) -> str:
        return str(await connection.fetchval("SHOW statement_timeout"))

    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard(timeout=20.0))

        without = await guarded.run(limit)
        with deadline(5.0):
            within = await guarded.run(limit)

        assert (without, within) == ("18s", "4700ms")
        assert await connections.fetchval("SHOW statement_timeout") == "0"


async def test_the_wait_for_a_connection_counts(database: Any) -> None:
    async with pool(database.dsn) as connections, connections.acquire():
        guarded = GuardedPool(connections, guard=guard(timeout=0.1, attempts=2))

        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await guarded.run(insert, 1)

        assert time.monotonic() - began < 1.0
        assert guarded.guard.counters.attempts_timeout == 2


async def test_work_may_choose_its_isolation_level(database: Any) -> None:
    async def level(connection: Any) -> str:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        return str(await connection.fetchval("SHOW transaction_isolation"))

    async with pool(database.dsn) as connections:
        assert await GuardedPool(connections, guard=guard()).run(level) == "serializable"


async def test_a_guard_may_leave_the_time_to_the_client(database: Any) -> None:
    async with pool(database.dsn) as connections:
        guarded = GuardedPool(connections, guard=guard(timeout=math.inf))

        await guarded.run(insert, 1)
        assert await guarded.fetchval("SELECT count(*) FROM item") == 1
