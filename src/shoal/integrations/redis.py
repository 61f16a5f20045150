"""redis-py, sync and asyncio: every command and every pipeline of a client, guarded. For redis 5.2 and newer."""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import MaxConnectionsError, RedisError
from redis.retry import Retry

from shoal.guard import Guard

from ._once import Begin, arun, run

__all__ = ["guarded"]

T = TypeVar("T")
Client = TypeVar("Client", redis.Redis, redis.asyncio.Redis)

_READS = """
    BITCOUNT BITFIELD_RO BITPOS DBSIZE DUMP ECHO EVALSHA_RO EVAL_RO EXISTS EXPIRETIME FCALL_RO GEODIST GEOHASH GEOPOS
    GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETRANGE HEXISTS HGET HGETALL HKEYS HLEN HMGET HPTTL
    HRANDFIELD HSCAN HSTRLEN HTTL HVALS INFO KEYS LASTSAVE LCS LINDEX LLEN LPOS LRANGE MGET OBJECT PEXPIRETIME PFCOUNT
    PING PTTL RANDOMKEY SCAN SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS SMISMEMBER SORT_RO SRANDMEMBER SSCAN
    STRLEN SUNION TIME TTL TYPE XINFO XLEN XPENDING XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD
    ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE
    ZREVRANK ZSCAN ZSCORE ZUNION
"""
# The second time they change nothing more. As with HTTP's DELETE the answer may be another one: DEL deleted 1, and
# answers 0.
_IDEMPOTENT_WRITES = """
    DEL EXPIRE EXPIREAT GETEX HDEL HMSET HSET LSET MSET PEXPIRE PEXPIREAT PFADD PSETEX SADD SET SETBIT SETEX SETRANGE
    SREM TOUCH UNLINK ZADD ZREM
"""
_REPEATABLE = frozenset(f"{_READS} {_IDEMPOTENT_WRITES}".split())
# But not with one of these: the answer is what counts (who got the lock?), or the effect adds up.
_CONDITIONAL = frozenset({"EXPIRE", "EXPIREAT", "PEXPIRE", "PEXPIREAT", "SET", "ZADD"})
_CONDITIONS = frozenset({"NX", "XX", "GT", "LT", "GET", "INCR", "IFEQ", "IFNE", "IFDEQ", "IFDNE"})

# Made to wait for what may not come: no guard's timeout fits, and nobody is to blame for the wait.
_WAITING = frozenset(
    {
        *("BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN"),
        *("MONITOR", "PSUBSCRIBE", "SSUBSCRIBE", "SUBSCRIBE", "WAIT", "WAITAOF"),
    }
)
_WAITING_WITH_BLOCK = frozenset({"XREAD", "XREADGROUP"})


def guarded(client: Client, *, guard: Guard) -> Client:
    """Put all commands of *client* under *guard*, those of its pipelines too, and return the client itself.

    * A pipeline is one call: `execute` sends all of it, and repeats all of it or nothing.
    * redis-py's own retries (10 by default) are switched off, for the client's whole pool: the innermost retries would
      win, and know of no budget.
    * Only what may happen twice is repeated: reads, and writes such as SET and DEL that are the same the second time.
      INCR, LPUSH, SET with NX, scripts and everything unknown are repeated only if they were never sent, and with
      asyncio within the guard's timeout for all attempts together.
    * Commands that wait (BLPOP, XREAD with BLOCK, WAIT, ...) and `pubsub()` pass by the guard. Give them a client of
      their own: a socket_timeout that suits the guard would cut their wait short.

    Sync commands cannot be cut from outside: raises ValueError if *client* may wait for longer than the guard's timeout
    (`socket_timeout`, `socket_connect_timeout`, `timeout` of a BlockingConnectionPool). Raises TypeError for what is no
    `redis.Redis` or `redis.asyncio.Redis`, such as a cluster client, ValueError for a client that is guarded already.
    The commands raise what redis-py raises, or DeadlineExceededError (asyncio) or CallRejectedError.

    Give the guard `classify=shoal.guard.classify_redis`, or WRONGTYPE would count against Redis.

    >>> guard = Guard("cache", timeout=0.2)
    >>> cache = guarded(redis.Redis(socket_timeout=0.2, socket_connect_timeout=0.2), guard=guard)
    >>> guarded(redis.Redis(socket_timeout=None), guard=guard)
    Traceback (most recent call last):
    ValueError: socket_timeout is None, and a sync command cannot be cut from outside: give redis.Redis(socket_timeout=)
    at most the 0.2 s of guard 'cache'
    """
    given: object = client
    if not isinstance(given, redis.Redis | redis.asyncio.Redis) or isinstance(given, Pipeline | AsyncPipeline):
        raise TypeError(f"client must be a redis.Redis or redis.asyncio.Redis, got a {type(client).__name__}")
    if "execute_command" in vars(client):
        raise ValueError(f"the client is guarded already, so guard {guard.name!r} would be a second one around it")
    # On the instance, where redis-py's own methods and helpers, such as locks, look for them first. A client of another
    # class would have to share the pool, which the first one closes when it is collected.
    if isinstance(client, redis.Redis):
        _check_timeouts(client, guard)
        client.set_retry(Retry(NoBackoff(), 0))
        vars(client)["execute_command"] = partial(_execute, guard, client)
        vars(client)["pipeline"] = partial(_pipeline, guard, client)
    else:
        client.set_retry(AsyncRetry(NoBackoff(), 0))
        vars(client)["execute_command"] = partial(_aexecute, guard, client)
        vars(client)["pipeline"] = partial(_apipeline, guard, client)
    return client


def _check_timeouts(client: redis.Redis, guard: Guard) -> None:
    settings = dict(client.connection_pool.connection_kwargs)
    limits = {"socket_timeout": settings.get("socket_timeout")}
    if "path" not in settings:
        limits["socket_connect_timeout"] = settings.get("socket_connect_timeout")
    if isinstance(client.connection_pool, redis.BlockingConnectionPool):
        limits["timeout"] = client.connection_pool.timeout
    for name, seconds in limits.items():
        if (math.inf if seconds is None else seconds) > guard.timeout:
            where = "BlockingConnectionPool" if name == "timeout" else "Redis"
            raise ValueError(
                f"{name} is {seconds}, and a sync command cannot be cut from outside: give redis.{where}({name}=) at "
                f"most the {guard.timeout} s of guard {guard.name!r}"
            )


def _execute(guard: Guard, client: redis.Redis, *args: Any, **options: Any) -> Any:
    send = partial(type(client).execute_command, client, *args, **options)
    return send() if _waits(args) else _run(guard, send, repeatable=_is_repeatable(args))


async def _aexecute(guard: Guard, client: redis.asyncio.Redis, *args: Any, **options: Any) -> Any:
    send = partial(type(client).execute_command, client, *args, **options)
    return await (send() if _waits(args) else _arun(guard, send, repeatable=_is_repeatable(args)))


def _pipeline(guard: Guard, client: redis.Redis, *args: Any, **options: Any) -> Pipeline:
    made = type(client).pipeline(client, *args, **options)
    pipeline = _GuardedPipeline(made.connection_pool, made.response_callbacks, made.transaction, made.shard_hint)
    pipeline.guard = guard
    return pipeline


def _apipeline(guard: Guard, client: redis.asyncio.Redis, *args: Any, **options: Any) -> AsyncPipeline:
    made = type(client).pipeline(client, *args, **options)
    pipeline = _AsyncGuardedPipeline(
        made.connection_pool, made.response_callbacks, made.is_transaction, made.shard_hint
    )
    pipeline.guard = guard
    return pipeline


class _GuardedPipeline(Pipeline):
    guard: Guard

    def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 -- as in redis-py
        if not self.command_stack and not self.watching:
            return super().execute(raise_on_error)
        if self.watching:
            return _run(self.guard, partial(super().execute, raise_on_error), repeatable=False)

        def send() -> list[Any]:
            # One for each attempt, because executing it empties it.
            copy = Pipeline(self.connection_pool, self.response_callbacks, self.transaction, self.shard_hint)
            _fill(copy, self)
            return copy.execute(raise_on_error)

        try:
            return _run(self.guard, send, repeatable=all(_is_repeatable(args) for args, _ in self.command_stack))
        finally:
            self.reset()

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        # Never repeated once sent: a transaction that has lost its WATCH has to begin anew.
        return _run(self.guard, partial(super().immediate_execute_command, *args, **options), repeatable=False)


class _AsyncGuardedPipeline(AsyncPipeline):
    guard: Guard

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 -- as in redis-py
        if not self.command_stack and not self.watching:
            return await super().execute(raise_on_error)
        if self.watching:
            return await _arun(self.guard, partial(super().execute, raise_on_error), repeatable=False)

        async def send() -> list[Any]:
            # One for each attempt: one that the guard has let go of may still be cleaning up.
            copy = AsyncPipeline(self.connection_pool, self.response_callbacks, self.is_transaction, self.shard_hint)
            _fill(copy, self)
            return await copy.execute(raise_on_error)

        try:
            return await _arun(self.guard, send, repeatable=all(_is_repeatable(args) for args, _ in self.command_stack))
        finally:
            await self.aclose()

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        # Never repeated once sent: a transaction that has lost its WATCH has to begin anew.
        return await _arun(self.guard, partial(super().immediate_execute_command, *args, **options), repeatable=False)


def _fill(copy: Any, original: Any) -> None:
    copy.command_stack = original.command_stack
    copy.scripts = original.scripts
    copy.explicit_transaction = original.explicit_transaction


def _run(guard: Guard, send: Callable[[], T], *, repeatable: bool) -> T:
    def attempt(begin: Begin) -> T:
        begin()
        try:
            return send()
        except RedisError as error:
            _name_cause(error)
            raise

    return run(guard, attempt, idempotent=repeatable, spared=_never_sent)


async def _arun(guard: Guard, send: Callable[[], Awaitable[T]], *, repeatable: bool) -> T:
    async def attempt(begin: Begin) -> T:
        begin()
        try:
            return await send()
        except RedisError as error:
            _name_cause(error)
            raise

    return await arun(guard, attempt, idempotent=repeatable, spared=_never_sent)


def _name_cause(error: RedisError) -> None:
    """redis-py raises its errors while it handles the socket's, but not from them; guards look for causes."""
    if error.__cause__ is None and isinstance(error.__context__, OSError):
        error.__cause__ = error.__context__


def _never_sent(error: Exception) -> bool:
    return isinstance(error, MaxConnectionsError) or isinstance(
        error.__cause__, ConnectionRefusedError | socket.gaierror
    )


def _is_repeatable(args: tuple[Any, ...]) -> bool:
    name = _word(args[0])
    return name in _REPEATABLE and not (name in _CONDITIONAL and any(_word(arg) in _CONDITIONS for arg in args[2:]))


def _waits(args: tuple[Any, ...]) -> bool:
    name = _word(args[0])
    return name in _WAITING or (name in _WAITING_WITH_BLOCK and any(_word(arg) == "BLOCK" for arg in args[1:]))


def _word(arg: Any) -> str:
    """The first word in capitals: `OBJECT` of `OBJECT ENCODING`; nothing of what is no text."""
    if isinstance(arg, bytes):
        arg = arg[:64].decode("latin-1")
    return arg[:64].split(" ", 1)[0].upper() if isinstance(arg, str) else ""
