"""Against a real PostgreSQL, with psycopg and asyncpg: what is repeated, what is not, what the engine's pool keeps."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, exc, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from shoal import DeadlineExceededError, Guard, deadline
from shoal.guard import Backoff, classify_dbapi
from shoal.integrations.sqlalchemy import AsyncGuardedEngine, GuardedEngine

Eventually = Callable[[Callable[[], object]], Any]

ASYNC_DRIVERS = pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)


def guard(**settings: Any) -> Guard:
    return Guard(
        "database",
        **{"timeout": 2.0, "classify": classify_dbapi, "backoff": Backoff(initial=0.001, maximum=0.01), **settings},
    )


def url(database: Any, driver: str) -> str:
    return f"postgresql+{driver}://postgres@{database.host}:{database.port}/postgres"


@contextmanager
def engine(database: Any, **settings: Any) -> Iterator[Engine]:
    made = create_engine(url(database, "psycopg"), pool_size=1, max_overflow=0, **{"pool_timeout": 0.2, **settings})
    try:
        yield made
    finally:
        made.dispose()


@asynccontextmanager
async def async_engine(database: Any, driver: str) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(url(database, driver), pool_size=1, max_overflow=0)
    try:
        yield made
    finally:
        await made.dispose()


def insert(connection: Any, number: int) -> Any:
    """The result, or what to await for it."""
    return connection.execute(text("INSERT INTO item VALUES (:number)"), {"number": number})


def pid(connection: Any) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


async def apid(connection: Any) -> int:
    return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())


def connect_timeout(connection: Any) -> str | None:
    """What libpq was given for this connection."""
    parameters: dict[str, str] = connection.connection.dbapi_connection.info.get_parameters()
    return parameters.get("connect_timeout")


class TestSync:
    def test_a_unit_of_work_is_one_transaction_and_one_call(self, database: Any) -> None:
        def two(connection: Any, first: int, second: int) -> int:
            insert(connection, first)
            return int(insert(connection, second).rowcount)

        with engine(database) as connections:
            guarded = GuardedEngine(connections, guard=guard())

            count = guarded.run(two, 1, 2)

        assert count == 1
        assert database.items() == 2
        assert (guarded.guard.counters.calls_success, guarded.guard.counters.attempts) == (1, 1)

    def test_a_session_can_be_the_unit_of_work(self, database: Any) -> None:
        def work(connection: Any) -> None:
            with Session(connection) as session:
                session.add(Item(id=7))
                session.commit()

        with engine(database) as connections:
            GuardedEngine(connections, guard=guard()).run(work)

        assert database.items() == 1

    def test_a_database_that_says_no_works_and_is_not_asked_again(self, database: Any) -> None:
        def twice(connection: Any) -> None:
            insert(connection, 1)
            insert(connection, 1)

        with engine(database) as connections:
            guarded = GuardedEngine(connections, guard=guard())

            with pytest.raises(exc.IntegrityError):
                guarded.run(twice)
            with pytest.raises(exc.ProgrammingError):
                guarded.run(lambda connection: connection.execute(text("SELEC 1")))

            assert guarded.guard.counters.attempts_ok == guarded.guard.counters.attempts == 2
            assert guarded.guard.health().error_rate == 0.0
            guarded.run(insert, 1)
        assert database.items() == 1

    @pytest.mark.parametrize("idempotent", [True, False])
    def test_a_database_that_is_away_is_tried_again_whatever_the_work(self, nowhere: Any, idempotent: bool) -> None:
        """Without a connection nothing can have happened."""
        with engine(nowhere) as connections:
            guarded = GuardedEngine(connections, guard=guard(attempts=3))

            with pytest.raises(exc.OperationalError, match="refused"):
                guarded.run(insert, 1, idempotent=idempotent)

        assert guarded.guard.counters.attempts == 3
        assert guarded.guard.counters.calls_exhausted == 1

    def test_the_server_ends_a_slow_statement_in_time(self, database: Any) -> None:
        def sleep(connection: Any) -> None:
            pids.append(pid(connection))
            connection.execute(text("SELECT pg_sleep(30)"))

        pids: list[int] = []
        with engine(database) as connections:
            guarded = GuardedEngine(connections, guard=guard(timeout=0.3, attempts=1))

            began = time.monotonic()
            with pytest.raises(exc.OperationalError, match="statement timeout"):
                guarded.run(sleep)

            assert 0.2 <= time.monotonic() - began < 1.0
            assert guarded.guard.counters.final_failures == 1
            assert guarded.run(pid) == pids[0]

    @pytest.mark.parametrize("idempotent", [True, False])
    def test_a_connection_lost_in_the_middle_is_repeated_only_for_what_may_happen_twice(
        self, database: Any, idempotent: bool
    ) -> None:
        def lose_the_first(connection: Any) -> int:
            runs.append(pid(connection))
            if len(runs) == 1:
                database.terminate(runs[0])
            insert(connection, 1)
            return len(runs)

        runs: list[int] = []
        with engine(database) as connections:
            guarded = GuardedEngine(connections, guard=guard())

            if idempotent:
                assert guarded.run(lose_the_first) == 2
            else:
                with pytest.raises(exc.OperationalError):
                    guarded.run(lose_the_first, idempotent=False)

            assert guarded.run(pid) != runs[0]
        assert len(runs) == (2 if idempotent else 1)
        assert guarded.guard.counters.retries == (1 if idempotent else 0)
        assert guarded.guard.counters.calls_non_retryable == (0 if idempotent else 1)
        assert database.items() == (1 if idempotent else 0)

    def test_a_commit_whose_answer_is_lost_is_not_repeated(self, database: Any) -> None:
        """The one moment at which nobody knows what has happened."""

        def lose_the_commit(connection: Any) -> None:
            runs.append(pid(connection))
            insert(connection, len(runs))
            database.terminate(runs[-1])

        runs: list[int] = []
        with engine(database) as connections:
            guarded = GuardedEngine(connections, guard=guard())

            with pytest.raises(exc.OperationalError):
                guarded.run(lose_the_commit, idempotent=False)

        assert len(runs) == 1

    def test_a_deadline_shortens_what_the_server_allows(self, database: Any) -> None:
        def limit(connection: Any) -> str:
            return str(connection.execute(text("SHOW statement_timeout")).scalar_one())

        with engine(database) as connections:
            guarded = GuardedEngine(connections, guard=guard(timeout=20.0))

            without = guarded.run(limit)
            with deadline(5.0):
                within = guarded.run(limit)

            assert (without, within) == ("18s", "4700ms")
            with connections.connect() as connection:
                assert limit(connection) == "0"

    def test_connecting_has_the_remaining_time(self, database: Any) -> None:
        with engine(database) as connections:
            guarded = GuardedEngine(connections, guard=guard(timeout=20.0))
            with deadline(7.9):
                assert guarded.run(connect_timeout) == "7"

    def test_an_own_connect_timeout_that_is_shorter_stays(self, database: Any) -> None:
        with engine(database, connect_args={"connect_timeout": 3}) as connections:
            assert GuardedEngine(connections, guard=guard(timeout=20.0)).run(connect_timeout) == "3"

    def test_connections_that_nobody_guards_are_made_as_ever(self, database: Any) -> None:
        with engine(database) as connections:
            GuardedEngine(connections, guard=guard())
            with connections.connect() as connection:
                assert connect_timeout(connection) is None

    def test_a_pool_that_waits_for_longer_than_the_guard_allows_is_refused(self, database: Any) -> None:
        """SQLAlchemy waits 30 s for a connection unless it is told otherwise."""
        expected = r"pool_timeout is 30.*at most the 0\.5 s of guard 'database'"
        with engine(database, pool_timeout=30) as connections, pytest.raises(ValueError, match=expected):
            GuardedEngine(connections, guard=guard(timeout=0.5))

    def test_a_guard_may_leave_the_time_to_the_client(self, database: Any) -> None:
        with engine(database, pool_timeout=30) as connections:
            GuardedEngine(connections, guard=guard(timeout=math.inf)).run(insert, 1)

        assert database.items() == 1

    def test_the_wait_for_a_connection_counts(self, database: Any) -> None:
        with engine(database, pool_timeout=0.1) as connections, connections.connect():
            guarded = GuardedEngine(connections, guard=guard(timeout=0.2, attempts=2))

            with pytest.raises(exc.TimeoutError):
                guarded.run(insert, 1, idempotent=False)

        assert guarded.guard.counters.attempts == 2


class TestAsync:
    @ASYNC_DRIVERS
    async def test_a_unit_of_work_is_one_transaction_and_one_call(self, database: Any, driver: str) -> None:
        async def two(connection: Any, first: int, second: int) -> int:
            await insert(connection, first)
            return int((await insert(connection, second)).rowcount)

        async with async_engine(database, driver) as connections:
            guarded = AsyncGuardedEngine(connections, guard=guard())

            count = await guarded.run(two, 1, 2)

        assert count == 1
        assert database.items() == 2
        assert (guarded.guard.counters.calls_success, guarded.guard.counters.attempts) == (1, 1)

    async def test_a_session_can_be_the_unit_of_work(self, database: Any) -> None:
        async def work(connection: Any) -> None:
            async with AsyncSession(connection) as session:
                session.add(Item(id=7))
                await session.commit()

        async with async_engine(database, "asyncpg") as connections:
            await AsyncGuardedEngine(connections, guard=guard()).run(work)

        assert database.items() == 1

    @ASYNC_DRIVERS
    async def test_a_database_that_says_no_works_and_is_not_asked_again(self, database: Any, driver: str) -> None:
        async def twice(connection: Any) -> None:
            await insert(connection, 1)
            await insert(connection, 1)

        async with async_engine(database, driver) as connections:
            guarded = AsyncGuardedEngine(connections, guard=guard())

            with pytest.raises(exc.IntegrityError):
                await guarded.run(twice)

            assert guarded.guard.counters.attempts_ok == guarded.guard.counters.attempts == 1
            await guarded.run(insert, 1)
        assert database.items() == 1

    @ASYNC_DRIVERS
    @pytest.mark.parametrize("idempotent", [True, False])
    async def test_a_database_that_is_away_is_tried_again_whatever_the_work(
        self, nowhere: Any, driver: str, idempotent: bool
    ) -> None:
        async with async_engine(nowhere, driver) as connections:
            guarded = AsyncGuardedEngine(connections, guard=guard(attempts=3))

            with pytest.raises((exc.OperationalError, ConnectionRefusedError)):
                await guarded.run(insert, 1, idempotent=idempotent)

        assert guarded.guard.counters.attempts == 3
        assert guarded.guard.counters.calls_exhausted == 1

    @ASYNC_DRIVERS
    async def test_the_server_ends_a_slow_statement_before_the_guard_has_to(self, database: Any, driver: str) -> None:
        async def sleep(connection: Any) -> None:
            pids.append(await apid(connection))
            await connection.execute(text("SELECT pg_sleep(30)"))

        pids: list[int] = []
        async with async_engine(database, driver) as connections:
            guarded = AsyncGuardedEngine(connections, guard=guard(timeout=0.5, attempts=1))

            began = time.monotonic()
            with pytest.raises(exc.DBAPIError, match="statement timeout"):
                await guarded.run(sleep)

            assert 0.3 <= time.monotonic() - began < 1.0
            assert guarded.guard.counters.orphans == 0
            assert await guarded.run(apid) == pids[0]

    @ASYNC_DRIVERS
    @pytest.mark.parametrize("idempotent", [True, False])
    async def test_a_connection_lost_in_the_middle_is_repeated_only_for_what_may_happen_twice(
        self, database: Any, driver: str, idempotent: bool
    ) -> None:
        async def lose_the_first(connection: Any) -> int:
            runs.append(await apid(connection))
            if len(runs) == 1:
                await asyncio.to_thread(database.terminate, runs[0])
            await insert(connection, 1)
            return len(runs)

        runs: list[int] = []
        async with async_engine(database, driver) as connections:
            guarded = AsyncGuardedEngine(connections, guard=guard())

            if idempotent:
                assert await guarded.run(lose_the_first) == 2
            else:
                with pytest.raises(exc.DBAPIError):
                    await guarded.run(lose_the_first, idempotent=False)

            assert await guarded.run(apid) != runs[0]
        assert len(runs) == (2 if idempotent else 1)
        assert guarded.guard.counters.calls_non_retryable == (0 if idempotent else 1)
        assert database.items() == (1 if idempotent else 0)

    @ASYNC_DRIVERS
    @pytest.mark.parametrize(("idempotent", "runs"), [(True, 2), (False, 1)])
    async def test_work_that_the_guard_cut_is_begun_again_only_if_it_may_happen_twice(
        self, database: Any, driver: str, idempotent: bool, runs: int, eventually: Eventually
    ) -> None:
        async def hang(connection: Any) -> None:
            nonlocal begun
            begun += 1
            await asyncio.Event().wait()

        begun = 0
        async with async_engine(database, driver) as connections:
            guarded = AsyncGuardedEngine(connections, guard=guard(timeout=0.3, attempts=2))

            with pytest.raises(DeadlineExceededError):
                await guarded.run(hang, idempotent=idempotent)

            assert begun == runs
            assert guarded.guard.counters.attempts_timeout == runs
            await eventually(lambda: guarded.guard.in_flight == 0)
            await guarded.run(insert, 1)
        assert database.items() == 1

    @ASYNC_DRIVERS
    async def test_cancelling_the_caller_gives_the_connection_back(
        self, database: Any, driver: str, eventually: Eventually
    ) -> None:
        async def work(connection: Any) -> None:
            pids.append(await apid(connection))
            await insert(connection, 1)
            await connection.execute(text("SELECT pg_sleep(30)"))

        pids: list[int] = []
        async with async_engine(database, driver) as connections:
            guarded = AsyncGuardedEngine(connections, guard=guard(timeout=20.0))
            task = asyncio.create_task(guarded.run(work))
            await eventually(lambda: database.is_asleep(pids))

            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            await eventually(lambda: guarded.guard.in_flight == 0)
            assert connections.sync_engine.pool.checkedout() == 0
            await guarded.run(insert, 2)
        assert database.items() == 1

    @ASYNC_DRIVERS
    async def test_a_deadline_shortens_what_the_server_allows(self, database: Any, driver: str) -> None:
        async def limit(connection: Any) -> str:
            return str((await connection.execute(text("SHOW statement_timeout"))).scalar_one())

        async with async_engine(database, driver) as connections:
            guarded = AsyncGuardedEngine(connections, guard=guard(timeout=20.0))

            without = await guarded.run(limit)
            with deadline(5.0):
                within = await guarded.run(limit)

        assert (without, within) == ("18s", "4700ms")
