"""psycopg 3, sync and async: units of work on connections of a pool, or new ones, guarded as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar, TypeVarTuple

import psycopg
from psycopg.pq import TransactionStatus

from shoal.guard import Guard, deadline

from ._once import Begin, arun, run
from ._postgres import statement_timeout, time_left

__all__ = ["AsyncConnect", "AsyncGuardedConnections", "AsyncPool", "Connect", "GuardedConnections", "Pool"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Connect: TypeAlias = Callable[..., psycopg.Connection[Any]]
"""Makes a connection, given `connect_timeout` in whole seconds: `functools.partial(psycopg.connect, dsn)`."""
AsyncConnect: TypeAlias = Callable[..., Awaitable[psycopg.AsyncConnection[Any]]]
"""Makes a connection: `functools.partial(psycopg.AsyncConnection.connect, dsn)`."""


class Pool(Protocol):
    """What lends connections, such as `psycopg_pool.ConnectionPool`."""

    def connection(self, timeout: float | None = None) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend one for the length of a `with` block, within *timeout* seconds."""


class AsyncPool(Protocol):
    """What lends connections, such as `psycopg_pool.AsyncConnectionPool`."""

    def connection(self, timeout: float | None = None) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Lend one for the length of an `async with` block, within *timeout* seconds."""


class GuardedConnections:
    """Connections that are used under *guard*: one attempt is to get a connection, and to do the work on it.

    What is guarded, and repeated, is a *unit of work*: a function that is handed a connection inside a transaction.
    *source* is a pool, or a function that connects; then each attempt has a connection of its own, closed at its end.

    A sync call cannot be cut from outside, so the server is told to end each statement of the unit a little before
    `guard.remaining()` is over, whatever the session's `statement_timeout`: keep units short, since several statements
    may each take that long. A server that has frozen, or is cut off, ends nothing: give the DSN `tcp_user_timeout` and
    `keepalives_idle`. Connecting is bounded by `connect_timeout`, of which psycopg allows no less than 2 s.

    Give the guard `classify=shoal.guard.classify_dbapi`, or a unique violation would count against the database::

        guard = Guard("database", timeout=0.5, classify=classify_dbapi)
        database = GuardedConnections(functools.partial(psycopg.connect, dsn), guard=guard)


        def lock(connection: psycopg.Connection, account: int) -> None:
            connection.execute("UPDATE account SET locked = true WHERE id = %s", [account])


        database.run(lock, 42)

    A serialization failure (40001) or deadlock (40P01) is an answer of a healthy database, so no guard repeats it; the
    transaction has been rolled back, and may be run again. For another isolation level let the work begin with
    `SET TRANSACTION ISOLATION LEVEL SERIALIZABLE`.
    """

    __slots__ = ("_source", "guard")

    def __init__(self, source: Pool | Connect, *, guard: Guard) -> None:
        _check(source)
        self._source = source
        self.guard = guard

    def run(self, work: Callable[[psycopg.Connection[Any], *Ts], T], *args: *Ts, idempotent: bool = True) -> T:
        """Return `work(connection, *args)`, called in a transaction, which is committed when it returns.

        *idempotent*: False for work that must not happen twice: no failure is repeated once there was a connection.
        True leaves it to the guard. Raises what *work* or psycopg raised last, or CallRejectedError.
        """

        def attempt(begin: Begin) -> T:
            left = time_left(self.guard)
            with deadline(left()), self._connection(left()) as connection:
                begin()
                try:
                    with connection.transaction():
                        connection.execute(statement_timeout(left()), prepare=False)
                        return work(connection, *args)
                finally:
                    if _in_doubt(connection):
                        connection.close()

        return run(self.guard, attempt, idempotent=idempotent)

    @contextmanager
    def _connection(self, seconds: float) -> Iterator[psycopg.Connection[Any]]:
        source = self._source
        if callable(source):
            with source(connect_timeout=_connect_timeout(seconds)) as connection:
                yield connection
        else:
            with source.connection(timeout=seconds) as connection:
                yield connection


class AsyncGuardedConnections:
    """Async connections that are used under *guard*: one attempt is to get one, and to do the work on it.

    What is guarded, and repeated, is a *unit of work*: an async function that is handed a connection inside a
    transaction. *source* is a pool, or an async function that connects, as for `GuardedConnections`, which says how to
    set up the guard.

    The server is told to end each statement a little before `guard.remaining()` is over, so that as a rule neither the
    guard nor psycopg has to cancel anything. Where the guard does, it lets go at once, while psycopg goes on for up to
    10 s to make the server stop; until then the attempt is one of the guard's orphans. A connection whose state is in
    doubt after that is closed before the pool gets it back.
    """

    __slots__ = ("_source", "guard")

    def __init__(self, source: AsyncPool | AsyncConnect, *, guard: Guard) -> None:
        _check(source)
        self._source = source
        self.guard = guard

    async def run(
        self,
        work: Callable[[psycopg.AsyncConnection[Any], *Ts], Awaitable[T]],
        *args: *Ts,
        idempotent: bool = True,
    ) -> T:
        """Await `work(connection, *args)` in a transaction, which is committed when it returns.

        *idempotent*: False for work that must not happen twice: no failure is repeated once there was a connection, and
        all attempts together have the guard's timeout. True leaves it to the guard. Raises what *work* or psycopg
        raised last, DeadlineExceededError, or CallRejectedError.
        """

        async def attempt(begin: Begin) -> T:
            left = time_left(self.guard)
            async with self._connection(left()) as connection:
                begin()
                try:
                    async with connection.transaction():
                        await connection.execute(statement_timeout(left()), prepare=False)
                        return await work(connection, *args)
                finally:
                    if _in_doubt(connection):
                        await connection.close()

        return await arun(self.guard, attempt, idempotent=idempotent)

    @asynccontextmanager
    async def _connection(self, seconds: float) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        source = self._source
        if callable(source):
            async with await source(connect_timeout=_connect_timeout(seconds)) as connection:
                yield connection
        else:
            async with source.connection(timeout=seconds) as connection:
                yield connection


def _check(source: object) -> None:
    if not callable(source) and not callable(getattr(source, "connection", None)):
        raise TypeError(
            f"source must be a pool, whose .connection() lends connections, or a function that connects, such as "
            f"functools.partial(psycopg.connect, dsn); got a {type(source).__name__}"
        )


def _connect_timeout(seconds: float) -> int:
    return max(2, int(seconds))


def _in_doubt(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether a statement may still be under way: a pool would wait for it, or hand it to whoever comes next."""
    return connection.info.transaction_status in (TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN)
