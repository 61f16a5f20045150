"""asyncpg: units of work on connections of a pool, guarded as a whole. Made for asyncpg 0.30 and newer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, TypeVarTuple

import asyncpg

from shoal.guard import Guard

from ._once import Begin, arun
from ._postgres import TimeLeft, statement_timeout, time_left

__all__ = ["GuardedPool"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class GuardedPool:
    """A pool whose connections are used under *guard*: one attempt is to get a connection, and to do the work on it.

    What is guarded, and repeated, is a *unit of work*: an async function that is handed a connection inside a
    transaction. `fetch`, `fetchrow`, `fetchval` and `execute` are for single statements. All of it has
    `guard.remaining()` seconds, the waiting for a connection included. In a unit of work the server itself ends a
    statement a little earlier than that, whatever the session's `statement_timeout`. The pool gets its connection back
    however an attempt ends; one whose state is in doubt is closed first.

    Give the guard `classify=shoal.guard.classify_dbapi`, or a unique violation would count against the database::

        guard = Guard("database", timeout=0.5, classify=classify_dbapi)
        database = GuardedPool(await asyncpg.create_pool(dsn), guard=guard)


        async def lock(connection: asyncpg.Connection, account: int) -> None:
            await connection.execute("UPDATE account SET locked = true WHERE id = $1", account)


        await database.run(lock, 42)

    A serialization failure (40001) or deadlock (40P01) is an answer of a healthy database, so no guard repeats it; the
    transaction has been rolled back, and may be run again. For another isolation level let the work begin with
    `SET TRANSACTION ISOLATION LEVEL SERIALIZABLE`. *pool* stays yours, to close as well.
    """

    __slots__ = ("guard", "pool")

    def __init__(self, pool: asyncpg.Pool, *, guard: Guard) -> None:
        self.pool = pool
        self.guard = guard

    async def run(
        self, work: Callable[[asyncpg.Connection, *Ts], Awaitable[T]], *args: *Ts, idempotent: bool = True
    ) -> T:
        """Await `work(connection, *args)` in a transaction, which is committed when it returns.

        *idempotent*: False for work that must not happen twice: no failure is repeated once there was a connection, and
        all attempts together have the guard's timeout. True leaves it to the guard. Raises what *work* or asyncpg
        raised last, DeadlineExceededError, or CallRejectedError.
        """

        async def attempt(begin: Begin) -> T:
            left = time_left(self.guard)
            async with self._connection(begin, left) as connection:
                transaction = connection.transaction()
                await transaction.start()
                try:
                    await connection.execute(statement_timeout(left()))
                    result = await work(connection, *args)
                except BaseException:
                    await _roll_back(connection, transaction, within=self.guard.timeout)
                    raise
                await transaction.commit()
                return result

        return await arun(self.guard, attempt, idempotent=idempotent)

    async def fetch(self, query: str, *args: object, idempotent: bool = True) -> list[Any]:
        """All rows of one statement; see `run` for *idempotent* and for what is raised."""
        rows: list[Any] = await self._single("fetch", query, args, idempotent=idempotent)
        return rows

    async def fetchrow(self, query: str, *args: object, idempotent: bool = True) -> Any:
        """The first row of one statement, or None; see `run` for *idempotent* and for what is raised."""
        return await self._single("fetchrow", query, args, idempotent=idempotent)

    async def fetchval(self, query: str, *args: object, idempotent: bool = True) -> Any:
        """The first value of the first row of one statement; see `run` for *idempotent* and for what is raised."""
        return await self._single("fetchval", query, args, idempotent=idempotent)

    async def execute(self, query: str, *args: object, idempotent: bool = True) -> str:
        """Carry out one statement and return its tag, as in `UPDATE 1`.

        See `run` for what is raised, and for *idempotent*: of an INSERT it has to be False, unless it may happen twice.
        """
        tag: str = await self._single("execute", query, args, idempotent=idempotent)
        return tag

    async def _single(self, method: str, query: str, args: tuple[object, ...], *, idempotent: bool) -> Any:
        async def attempt(begin: Begin) -> Any:
            left = time_left(self.guard)
            async with self._connection(begin, left) as connection:
                return await getattr(connection, method)(query, *args, timeout=left())

        return await arun(self.guard, attempt, idempotent=idempotent)

    @asynccontextmanager
    async def _connection(self, begin: Begin, left: TimeLeft) -> AsyncIterator[Any]:
        # The timeout bounds what giving back does as well: a reset, and the end of a cancelled statement.
        async with self.pool.acquire(timeout=left()) as connection:
            begin()
            yield connection


async def _roll_back(connection: Any, transaction: Any, *, within: float) -> None:
    # asyncpg would wait for a server that has frozen for as long as TCP does, and the guard's orphan with it.
    try:
        async with asyncio.timeout(within):
            await transaction.rollback()
    except Exception:  # noqa: BLE001 -- the failure that is being handled is the one to tell of
        connection.terminate()
