"""Against a real PostgreSQL, sync and async: what is repeated, what is not, and in what state connections end."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Self

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from shoal import DeadlineExceededError, Guard, deadline
from shoal.guard import Backoff, classify_dbapi
from shoal.integrations.psycopg import AsyncGuardedConnections, GuardedConnections

Eventually = Callable[[Callable[[], object]], Any]


def guard(**settings: Any) -> Guard:
    return Guard(
        "database",
        **{"timeout": 2.0, "classify": classify_dbapi, "backoff": Backoff(initial=0.001, maximum=0.01), **settings},
    )


class OneConnection:
    """The smallest pool: one connection, made again when it was closed, with autocommit as some set it."""

    def __init__(self, dsn: str) -> None:
        self._connect = partial(psycopg.connect, dsn, autocommit=True)
        self.idle: list[psycopg.Connection] = []
        self.timeouts: list[float | None] = []

    @contextmanager
    def connection(self, timeout: float | None = None) -> Iterator[psycopg.Connection]:
        self.timeouts.append(timeout)
        connection = self.idle.pop() if self.idle else self._connect()
        try:
            yield connection
        finally:
            if not connection.closed:
                self.idle.append(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.idle:
            connection.close()


class OneAsyncConnection:
    """The smallest async pool."""

    def __init__(self, dsn: str) -> None:
        self._connect = partial(psycopg.AsyncConnection.connect, dsn)
        self.idle: list[psycopg.AsyncConnection] = []

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[psycopg.AsyncConnection]:
        connection = self.idle.pop() if self.idle else await self._connect()
        try:
            yield connection
        finally:
            if not connection.closed:
                self.idle.append(connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self.idle:
            await connection.close()


def insert(connection: Any, number: int) -> Any:
    """The cursor, or what to await for it."""
    return connection.execute("INSERT INTO item VALUES (%s)", [number])


class TestSync:
    def test_a_unit_of_work_is_one_transaction_and_one_call(self, database: Any) -> None:
        def two(connection: Any, first: int, second: int) -> int:
            insert(connection, first)
            return int(insert(connection, second).rowcount)

        guarded = GuardedConnections(partial(psycopg.connect, database.dsn), guard=guard())

        count = guarded.run(two, 1, 2)

        assert count == 1
        assert database.items() == 2
        assert (guarded.guard.counters.calls_success, guarded.guard.counters.attempts) == (1, 1)

    def test_a_pool_lends_the_connection_and_gets_it_back(self, database: Any) -> None:
        with OneConnection(database.dsn) as pool:
            guarded = GuardedConnections(pool, guard=guard())

            guarded.run(insert, 1)
            guarded.run(insert, 2)

            assert [connection.info.transaction_status for connection in pool.idle] == [TransactionStatus.IDLE]
            assert all(0 < (timeout or 0) <= 2.0 for timeout in pool.timeouts)
        assert database.items() == 2

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            pytest.param("INSERT INTO item VALUES (1)", psycopg.errors.UniqueViolation, id="unique violation"),
            pytest.param("SELEC 1", psycopg.errors.SyntaxError, id="syntax error"),
        ],
    )
    def test_a_database_that_says_no_works_and_is_not_asked_again(
        self, database: Any, query: str, expected: type[Exception]
    ) -> None:
        def work(connection: Any) -> None:
            insert(connection, 2)
            connection.execute(query)

        database.ask("INSERT INTO item VALUES (1)")
        with OneConnection(database.dsn) as pool:
            guarded = GuardedConnections(pool, guard=guard())

            with pytest.raises(expected):
                guarded.run(work)

            assert guarded.guard.counters.attempts_ok == guarded.guard.counters.attempts == 1
            assert guarded.guard.health().error_rate == 0.0
            assert [connection.info.transaction_status for connection in pool.idle] == [TransactionStatus.IDLE]
        assert database.items() == 1

    @pytest.mark.parametrize("idempotent", [True, False])
    def test_a_database_that_is_away_is_tried_again_whatever_the_work(self, nowhere: Any, idempotent: bool) -> None:
        """Without a connection nothing can have happened."""
        guarded = GuardedConnections(partial(psycopg.connect, nowhere.dsn), guard=guard(attempts=3))

        with pytest.raises(psycopg.OperationalError, match="refused"):
            guarded.run(insert, 1, idempotent=idempotent)

        assert guarded.guard.counters.attempts == 3
        assert guarded.guard.counters.calls_exhausted == 1

    def test_the_server_ends_a_slow_statement_in_time(self, database: Any) -> None:
        def sleep(connection: Any) -> None:
            connection.execute("SELECT pg_sleep(30)")

        with OneConnection(database.dsn) as pool:
            guarded = GuardedConnections(pool, guard=guard(timeout=0.2, attempts=2))

            began = time.monotonic()
            with pytest.raises(psycopg.errors.QueryCanceled):
                guarded.run(sleep)

            assert 0.3 <= time.monotonic() - began < 1.5
            assert guarded.guard.counters.attempts == 2
            assert guarded.guard.counters.final_failures == 1
            assert [connection.info.transaction_status for connection in pool.idle] == [TransactionStatus.IDLE]

    @pytest.mark.parametrize("idempotent", [True, False])
    def test_a_connection_lost_in_the_middle_is_repeated_only_for_what_may_happen_twice(
        self, database: Any, idempotent: bool
    ) -> None:
        def lose_the_first(connection: Any) -> int:
            runs.append(connection.info.backend_pid)
            if len(runs) == 1:
                database.terminate(runs[0])
            insert(connection, 1)
            return len(runs)

        runs: list[int] = []
        with OneConnection(database.dsn) as pool:
            guarded = GuardedConnections(pool, guard=guard())

            if idempotent:
                assert guarded.run(lose_the_first) == 2
            else:
                with pytest.raises(psycopg.OperationalError):
                    guarded.run(lose_the_first, idempotent=False)

            assert all(connection.info.backend_pid != runs[0] for connection in pool.idle)
        assert len(runs) == (2 if idempotent else 1)
        assert guarded.guard.counters.retries == (1 if idempotent else 0)
        assert guarded.guard.counters.calls_non_retryable == (0 if idempotent else 1)
        assert database.items() == (1 if idempotent else 0)

    def test_a_commit_whose_answer_is_lost_is_not_repeated(self, database: Any) -> None:
        """The one moment at which nobody knows what has happened."""

        def lose_the_commit(connection: Any) -> None:
            nonlocal runs
            runs += 1
            insert(connection, runs)
            database.terminate(connection.info.backend_pid)

        runs = 0
        guarded = GuardedConnections(partial(psycopg.connect, database.dsn), guard=guard())

        with pytest.raises(psycopg.OperationalError):
            guarded.run(lose_the_commit, idempotent=False)

        assert runs == 1
        assert guarded.guard.counters.calls_non_retryable == 1

    def test_a_statement_that_is_still_under_way_does_not_go_back_to_the_pool(self, database: Any) -> None:
        def leave_it(connection: Any) -> None:
            connection.pgconn.send_query(b"SELECT pg_sleep(30)")
            raise RuntimeError

        with OneConnection(database.dsn) as pool:
            guarded = GuardedConnections(pool, guard=guard(attempts=1))

            with pytest.raises(RuntimeError):
                guarded.run(leave_it)

            assert pool.idle == []

    def test_a_deadline_shortens_what_the_server_allows(self, database: Any) -> None:
        def limit(connection: Any) -> str:
            return str(connection.execute("SHOW statement_timeout").fetchone()[0])

        with OneConnection(database.dsn) as pool:
            guarded = GuardedConnections(pool, guard=guard(timeout=20.0))

            without = guarded.run(limit)
            with deadline(5.0):
                within = guarded.run(limit)

            assert (without, within) == ("18s", "4700ms")
            assert limit(pool.idle[0]) == "0"

    @pytest.mark.parametrize(("timeout", "expected"), [(0.5, 2), (4.5, 4)])
    def test_connecting_has_the_remaining_time_or_what_psycopg_has_at_least(
        self, database: Any, timeout: float, expected: int
    ) -> None:
        def parameters(connection: Any) -> dict[str, str]:
            found: dict[str, str] = connection.info.get_parameters()
            return found

        guarded = GuardedConnections(partial(psycopg.connect, database.dsn), guard=guard(timeout=timeout))

        assert guarded.run(parameters)["connect_timeout"] == str(expected)

    def test_work_may_choose_its_isolation_level(self, database: Any) -> None:
        def level(connection: Any) -> str:
            connection.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            return str(connection.execute("SHOW transaction_isolation").fetchone()[0])

        guarded = GuardedConnections(partial(psycopg.connect, database.dsn), guard=guard())

        assert guarded.run(level) == "serializable"

    def test_a_guard_may_leave_the_time_to_the_client(self, database: Any) -> None:
        guarded = GuardedConnections(partial(psycopg.connect, database.dsn), guard=guard(timeout=math.inf))

        guarded.run(insert, 1)

        assert database.items() == 1

    @pytest.mark.parametrize("helper", [GuardedConnections, AsyncGuardedConnections])
    def test_what_is_no_source_of_connections_is_refused(self, helper: Any) -> None:
        with pytest.raises(TypeError, match=r"source must be a pool.*got a str"):
            helper("postgresql://localhost", guard=guard())


class TestAsync:
    async def test_a_unit_of_work_is_one_transaction_and_one_call(self, database: Any) -> None:
        async def two(connection: Any, first: int, second: int) -> int:
            await insert(connection, first)
            return int((await insert(connection, second)).rowcount)

        guarded = AsyncGuardedConnections(partial(psycopg.AsyncConnection.connect, database.dsn), guard=guard())

        count = await guarded.run(two, 1, 2)

        assert count == 1
        assert database.items() == 2
        assert (guarded.guard.counters.calls_success, guarded.guard.counters.attempts) == (1, 1)

    async def test_a_database_that_says_no_works_and_is_not_asked_again(self, database: Any) -> None:
        async def twice(connection: Any) -> None:
            await insert(connection, 1)
            await insert(connection, 1)

        async with OneAsyncConnection(database.dsn) as pool:
            guarded = AsyncGuardedConnections(pool, guard=guard())

            with pytest.raises(psycopg.errors.UniqueViolation):
                await guarded.run(twice)

            assert guarded.guard.counters.attempts_ok == guarded.guard.counters.attempts == 1
            assert [connection.info.transaction_status for connection in pool.idle] == [TransactionStatus.IDLE]
        assert database.items() == 0

    @pytest.mark.parametrize("idempotent", [True, False])
    async def test_a_database_that_is_away_is_tried_again_whatever_the_work(
        self, nowhere: Any, idempotent: bool
    ) -> None:
        connect = partial(psycopg.AsyncConnection.connect, nowhere.dsn)
        guarded = AsyncGuardedConnections(connect, guard=guard(attempts=3))

        with pytest.raises(psycopg.OperationalError, match="refused"):
            await guarded.run(insert, 1, idempotent=idempotent)

        assert guarded.guard.counters.attempts == 3
        assert guarded.guard.counters.calls_exhausted == 1

    async def test_the_server_ends_a_slow_statement_before_the_guard_has_to(self, database: Any) -> None:
        """So nothing has to be cancelled, and the connection serves the next one at once."""

        async def sleep(connection: Any) -> None:
            pids.append(connection.info.backend_pid)
            await connection.execute("SELECT pg_sleep(30)")

        pids: list[int] = []
        async with OneAsyncConnection(database.dsn) as pool:
            guarded = AsyncGuardedConnections(pool, guard=guard(timeout=0.4, attempts=1))

            began = time.monotonic()
            with pytest.raises(psycopg.errors.QueryCanceled):
                await guarded.run(sleep)
            took = time.monotonic() - began

            assert 0.3 <= took < 1.0
            assert guarded.guard.counters.orphans == 0
            assert [connection.info.backend_pid for connection in pool.idle] == pids

    async def test_a_server_that_has_frozen_is_let_go_at_the_deadline(
        self, database: Any, eventually: Eventually
    ) -> None:
        async def ask(connection: Any) -> None:
            pids.append(connection.info.backend_pid)
            frozen.set()
            await thawing.wait()
            await connection.execute("SELECT 1")

        pids: list[int] = []
        frozen, thawing = asyncio.Event(), asyncio.Event()
        async with OneAsyncConnection(database.dsn) as pool:
            guarded = AsyncGuardedConnections(pool, guard=guard(timeout=0.3, attempts=1))
            task = asyncio.create_task(guarded.run(ask))
            await frozen.wait()
            with database.frozen(pids[0]):
                thawing.set()
                began = time.monotonic()

                with pytest.raises(DeadlineExceededError):
                    await task

                assert time.monotonic() - began < 1.0
                assert guarded.guard.counters.orphans == 1
            await eventually(lambda: guarded.guard.in_flight == 0)

            assert all(connection.info.transaction_status is TransactionStatus.IDLE for connection in pool.idle)
            await guarded.run(insert, 1)
        assert database.items() == 1

    @pytest.mark.parametrize("idempotent", [True, False])
    async def test_a_connection_lost_in_the_middle_is_repeated_only_for_what_may_happen_twice(
        self, database: Any, idempotent: bool
    ) -> None:
        async def lose_the_first(connection: Any) -> int:
            runs.append(connection.info.backend_pid)
            if len(runs) == 1:
                await asyncio.to_thread(database.terminate, runs[0])
            await insert(connection, 1)
            return len(runs)

        runs: list[int] = []
        async with OneAsyncConnection(database.dsn) as pool:
            guarded = AsyncGuardedConnections(pool, guard=guard())

            if idempotent:
                assert await guarded.run(lose_the_first) == 2
            else:
                with pytest.raises(psycopg.OperationalError):
                    await guarded.run(lose_the_first, idempotent=False)

        assert len(runs) == (2 if idempotent else 1)
        assert guarded.guard.counters.calls_non_retryable == (0 if idempotent else 1)
        assert database.items() == (1 if idempotent else 0)

    @pytest.mark.parametrize(("idempotent", "runs"), [(True, 2), (False, 1)])
    async def test_work_that_the_guard_cut_is_begun_again_only_if_it_may_happen_twice(
        self, database: Any, idempotent: bool, runs: int
    ) -> None:
        async def hang(connection: Any) -> None:
            nonlocal begun
            begun += 1
            await asyncio.Event().wait()

        begun = 0
        connect = partial(psycopg.AsyncConnection.connect, database.dsn)
        guarded = AsyncGuardedConnections(connect, guard=guard(timeout=0.2, attempts=2))

        with pytest.raises(DeadlineExceededError):
            await guarded.run(hang, idempotent=idempotent)

        assert begun == runs
        assert guarded.guard.counters.attempts_timeout == runs

    async def test_cancelling_the_caller_gives_the_connection_back(self, database: Any, eventually: Eventually) -> None:
        async def work(connection: Any) -> None:
            pids.append(connection.info.backend_pid)
            await insert(connection, 1)
            await connection.execute("SELECT pg_sleep(30)")

        pids: list[int] = []
        async with OneAsyncConnection(database.dsn) as pool:
            guarded = AsyncGuardedConnections(pool, guard=guard(timeout=20.0))
            task = asyncio.create_task(guarded.run(work))
            await eventually(lambda: database.is_asleep(pids))

            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            await eventually(lambda: guarded.guard.in_flight == 0)
            assert [connection.info.transaction_status for connection in pool.idle] == [TransactionStatus.IDLE]
            await guarded.run(insert, 2)
        assert database.items() == 1

    async def test_a_deadline_shortens_what_the_server_allows(self, database: Any) -> None:
        async def limit(connection: Any) -> str:
            return str((await (await connection.execute("SHOW statement_timeout")).fetchone())[0])

        guarded = AsyncGuardedConnections(
            partial(psycopg.AsyncConnection.connect, database.dsn), guard=guard(timeout=20.0)
        )

        without = await guarded.run(limit)
        with deadline(5.0):
            within = await guarded.run(limit)

        assert (without, within) == ("18s", "4700ms")
