"""SQLAlchemy 2, Engine and AsyncEngine: units of work on connections of an engine, guarded as a whole."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple

from sqlalchemy import Connection, Engine, QueuePool, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shoal.guard import Guard, deadline, remaining

from ._once import Begin, arun, run
from ._postgres import statement_timeout, time_left

__all__ = ["AsyncGuardedEngine", "GuardedEngine"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Of these drivers the connect_timeout is that of libpq.
_LIBPQ = frozenset({"psycopg", "psycopg2"})


class GuardedEngine:
    """An engine whose connections are used under *guard*: one attempt is to get one, and to do the work on it.

    What is guarded, and repeated, is a *unit of work*: a function that is handed a `Connection` inside a transaction.
    With the ORM, `with Session(connection) as session:` is its first line; leave the commit to the engine.

    A sync call cannot be cut from outside. On PostgreSQL the server is told to end each statement of the unit a little
    before `guard.remaining()` is over, whatever the session's `statement_timeout`: keep units short, since several
    statements may each take that long. psycopg and psycopg2 get a `connect_timeout` to match, in whole seconds. For
    other databases give the driver its timeouts in `connect_args`. The wait for a connection can only be bounded by
    `create_engine(pool_timeout=...)`: raises ValueError if that is more than the guard's timeout.

    Give the guard `classify=shoal.guard.classify_dbapi`, or a unique violation would count against the database::

        guard = Guard("database", timeout=0.5, classify=classify_dbapi)
        database = GuardedEngine(create_engine(url, pool_timeout=0.5), guard=guard)


        def lock(connection: Connection, account: int) -> None:
            connection.execute(update(accounts).where(accounts.c.id == account).values(locked=True))


        database.run(lock, 42)

    A serialization failure (40001) or deadlock (40P01) is an answer of a healthy database, so no guard repeats it; the
    transaction has been rolled back, and may be run again. For another isolation level hand over
    `engine.execution_options(isolation_level="SERIALIZABLE")`.

    >>> from sqlalchemy import create_engine, text
    >>> engine = create_engine("sqlite://")
    >>> database = GuardedEngine(engine, guard=Guard("database", timeout=0.5))
    >>> database.run(lambda connection: connection.execute(text("SELECT 1")).scalar())
    1
    >>> engine.dispose()
    """

    __slots__ = ("engine", "guard")

    def __init__(self, engine: Engine, *, guard: Guard) -> None:
        if isinstance(engine.pool, QueuePool):
            waits: float | None = engine.pool.timeout()
            if (math.inf if waits is None else waits) > guard.timeout:
                raise ValueError(
                    f"pool_timeout is {waits}, and a sync wait for a connection cannot be cut from outside: give "
                    f"create_engine(pool_timeout=) at most the {guard.timeout} s of guard {guard.name!r}"
                )
        if engine.dialect.driver in _LIBPQ:
            event.listen(engine, "do_connect", _connect_in_time)
        self.engine = engine
        self.guard = guard

    def run(self, work: Callable[[Connection, *Ts], T], *args: *Ts, idempotent: bool = True) -> T:
        """Return `work(connection, *args)`, called in a transaction, which is committed when it returns.

        *idempotent*: False for work that must not happen twice: no failure is repeated once there was a connection.
        True leaves it to the guard. Raises what *work* or SQLAlchemy raised last, or CallRejectedError.
        """

        def attempt(begin: Begin) -> T:
            left = time_left(self.guard)
            with deadline(left()), self.engine.begin() as connection:
                begin()
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(statement_timeout(left()))
                return work(connection, *args)

        return run(self.guard, attempt, idempotent=idempotent)


class AsyncGuardedEngine:
    """An async engine whose connections are used under *guard*: one attempt is to get one, and to do the work on it.

    What is guarded, and repeated, is a *unit of work*: an async function that is handed an `AsyncConnection` inside a
    transaction. With the ORM, `async with AsyncSession(connection) as session:` is its first line; leave the commit to
    the engine. See `GuardedEngine` for the guard's classifier, and for isolation levels.

    The guard ends attempts at its timeout, whatever they wait for; SQLAlchemy then closes a connection that was in the
    middle of something. On PostgreSQL the server ends a statement itself a little earlier, which saves the connection.
    """

    __slots__ = ("engine", "guard")

    def __init__(self, engine: AsyncEngine, *, guard: Guard) -> None:
        self.engine = engine
        self.guard = guard

    async def run(self, work: Callable[[AsyncConnection, *Ts], Awaitable[T]], *args: *Ts, idempotent: bool = True) -> T:
        """Await `work(connection, *args)` in a transaction, which is committed when it returns.

        *idempotent*: False for work that must not happen twice: no failure is repeated once there was a connection, and
        all attempts together have the guard's timeout. True leaves it to the guard. Raises what *work* or SQLAlchemy
        raised last, DeadlineExceededError, or CallRejectedError.
        """

        async def attempt(begin: Begin) -> T:
            left = time_left(self.guard)
            async with self.engine.begin() as connection:
                begin()
                if connection.dialect.name == "postgresql":
                    await connection.exec_driver_sql(statement_timeout(left()))
                return await work(connection, *args)

        return await arun(self.guard, attempt, idempotent=idempotent)


def _connect_in_time(_dialect: Any, _record: Any, _arguments: list[Any], parameters: dict[str, Any]) -> None:
    left = remaining()
    if left < math.inf:
        # 0 would be no limit at all.
        seconds = max(1, int(left))
        parameters["connect_timeout"] = min(seconds, int(parameters.get("connect_timeout") or seconds))
