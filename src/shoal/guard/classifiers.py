"""What the exceptions of gRPC, of SQL drivers, of Kafka clients and of Redis clients say about the dependency.

None of those libraries is imported: their errors are told by status codes and by the names of their classes. All of
these look through `raise ... from ...`, as `error_type` does, and leave to `classify_default` what they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from .outcome import Outcome, classify_default, retry_after
from .peek import ask, first_argument, peek

_OK, _FAIL, _THROTTLE, _NEUTRAL = Outcome.OK, Outcome.FAIL, Outcome.THROTTLE, Outcome.NEUTRAL

# What one error says, without what it was raised from; None if it says nothing to this test.
_Test: TypeAlias = Callable[[BaseException], Outcome | None]

# Wrappers go two or three deep; a longer chain is somebody's loop.
_DEEPEST_CAUSE = 8


def _table(**names: Iterable[str | int] | str) -> dict[str | int, Outcome]:
    return {
        name: Outcome[outcome]
        for outcome, group in names.items()
        for name in (group.split() if isinstance(group, str) else group)
    }


# By gRPC's own description of the codes. UNKNOWN is what a Python server answers when its handler raised. ABORTED tells
# the caller to repeat the whole transaction, which one repeated call does not do.
_GRPC_CODES = _table(
    FAIL="UNAVAILABLE DEADLINE_EXCEEDED INTERNAL UNKNOWN DATA_LOSS",
    THROTTLE="RESOURCE_EXHAUSTED",
    OK="NOT_FOUND INVALID_ARGUMENT ALREADY_EXISTS PERMISSION_DENIED UNAUTHENTICATED FAILED_PRECONDITION OUT_OF_RANGE"
    " ABORTED UNIMPLEMENTED",
    NEUTRAL="CANCELLED",
)
_GRPC_NAMES = _table(NEUTRAL="grpc.FutureCancelledError grpc.UsageError")


def classify_grpc(error: Exception) -> Outcome:
    """Tell a gRPC server that fails from one that says no.

    FAIL for `UNAVAILABLE`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNKNOWN`, `DATA_LOSS`; THROTTLE for `RESOURCE_EXHAUSTED`,
    and for any of the former when the server has said how long to wait (pushback is no failure, gRPC A6); NEUTRAL for
    `CANCELLED` and for a request that could not be serialized; OK for all other codes, `ABORTED` among them: only the
    owner of the transaction can repeat it.

    >>> class RpcError(Exception):
    ...     def code(self):
    ...         return __import__("types").SimpleNamespace(name="NOT_FOUND")
    >>> classify_grpc(RpcError())
    <Outcome.OK: 'ok'>
    """
    return _first(error, _grpc_code, _named(_GRPC_NAMES))


def _grpc_code(error: BaseException) -> Outcome | None:
    name = peek(ask(error, "code"), "name")
    outcome = _GRPC_CODES.get(name) if isinstance(name, str) else None
    if outcome is _FAIL or outcome is _THROTTLE:
        # These two are codes that the client gives itself, for messages that never left or were not let in.
        details = ask(error, "details")
        if details == "Exception serializing request!":
            return _NEUTRAL
        if isinstance(details, str) and "essage larger than max" in details:
            return _OK
    if outcome is _FAIL and retry_after(error, wall=0.0) is not None:
        return _THROTTLE
    return outcome


# Classes of SQLSTATE, and single states that differ from their class. PostgreSQL's and the standard's; MySQL's agree.
#
# A login that is refused (28, 3D) is a FAIL, unlike a permission that a statement lacks (42501): the credentials are
# this service's own, and without a connection the database serves it nothing. 40001 and 40P01, serialization and
# deadlock, must be repeated as a whole transaction by its owner; 40003 does not know whether it has committed. 25006 is
# a write on what has become a replica; 25P03 and 25P04 have closed the connection. A full disk (53100) does not pass.
_SQLSTATES = _table(
    FAIL="08 28 3D 57 58 F0 HV XX 25006 25P03 25P04 40003 53100",
    THROTTLE="53",
    OK="02 20 21 22 23 24 25 26 27 2B 2D 2F 34 38 39 3B 3F 40 42 44 54 55 P0",
    NEUTRAL="0A",
)

# Primary result codes of SQLite. ERROR is bad SQL, which Python calls an OperationalError; BUSY and LOCKED are held by
# somebody else; INTERRUPT was asked for.
_SQLITE_CODES = _table(OK=[1, 23], THROTTLE=[5, 6], NEUTRAL=[9])

# PEP 249, then what drivers, pools and mappers put beside it. SQLAlchemyError is what is left when nothing was sent.
_DBAPI_NAMES = _table(
    FAIL="OperationalError InterfaceError InternalError sqlalchemy.DBAPIError sqlalchemy.DisconnectionError",
    OK="IntegrityError DataError ProgrammingError sqlalchemy.NoResultFound sqlalchemy.MultipleResultsFound"
    " sqlalchemy.StaleDataError django.ObjectDoesNotExist django.MultipleObjectsReturned",
    THROTTLE="sqlalchemy.TimeoutError psycopg_pool.PoolTimeout psycopg_pool.TooManyRequests",
    NEUTRAL="NotSupportedError sqlalchemy.SQLAlchemyError psycopg_pool.PoolClosed asyncpg.ClientConfigurationError"
    " asyncpg.UnsupportedClientFeatureError asyncpg.UnsupportedServerFeatureError",
)


def classify_dbapi(error: Exception) -> Outcome:
    """Tell a database that fails from one that says no, for PEP 249 drivers, asyncpg, SQLAlchemy and Django.

    The SQLSTATE decides where there is one, also inside of what SQLAlchemy and Django wrap: connections, shutdowns,
    cancelled statements (57014, a statement timeout) and system errors are FAIL; too few resources (53) THROTTLE;
    data, constraints, syntax, locks, and transactions to be repeated as a whole (40001, 40P01) OK. Else the names of
    PEP 249: `OperationalError`, `InterfaceError`, `InternalError` are FAIL, `IntegrityError`, `DataError`,
    `ProgrammingError` OK, `NotSupportedError` NEUTRAL.

    A pool that has no connection left is THROTTLE: the database was not asked, so this is no proof against it; but
    pools mostly run dry because the database is slow, so it is asked less and stays the cause of the failure.

    >>> import sqlite3
    >>> classify_dbapi(sqlite3.IntegrityError("UNIQUE constraint failed: user.name"))
    <Outcome.OK: 'ok'>
    """
    return _first(error, _disconnected, _sqlstate, _sqlite_code, _named(_DBAPI_NAMES))


def _disconnected(error: BaseException) -> Outcome | None:
    # SQLAlchemy's dialects know many more ways to say so than there are states.
    return _FAIL if peek(error, "connection_invalidated") is True else None


def _sqlstate(error: BaseException) -> Outcome | None:
    for attribute in ("sqlstate", "pgcode"):
        state = peek(error, attribute)
        if isinstance(state, str) and len(state) == 5:
            return _SQLSTATES.get(state) or _SQLSTATES.get(state[:2])
    return None


def _sqlite_code(error: BaseException) -> Outcome | None:
    code = peek(error, "sqlite_errorcode")
    # Extended codes keep the primary one in their lowest byte.
    return _SQLITE_CODES.get(code & 0xFF) if isinstance(code, int) else None


# Kafka's protocol has one numbering for all clients; below -1 the numbers are librdkafka's own. Of the brokers' codes
# that are not listed, those that the client calls retriable are FAIL and all others OK; librdkafka's own are FAIL.
# Failed logins (33, 34, 58, -169) are FAIL as with databases, and a topic that may not be used (29) is OK.
_KAFKA_CODES = _table(
    FAIL=[-1, *range(5, 10), *range(13, 17), 19, 20, 33, 34, 41, 56, 58, 72, 74, 75, 77, 78, 80, 83, 129],
    THROTTLE=[89, -184],
    # Unknown topics are retriable, because they may be about to be created; mostly they are misspelt.
    OK=[3, 100, -138, -139, -140, -168, -179, -188, -190, -191],
    # The client was misused, is being closed, or was too slow to poll.
    NEUTRAL=[*range(-163, -158), *range(-178, -169), -186, -197, -141, -142, -143, -145, -147, -151, -152, -154, -165],
)
_KAFKA_NAMES = _table(
    THROTTLE="BufferError aiokafka.QuotaViolationError aiokafka.TooManyInFlightRequests",
    OK="aiokafka.RecordTooLargeError aiokafka.NoOffsetForPartitionError aiokafka.CommitFailedError"
    " aiokafka.ProducerFenced",
    NEUTRAL="aiokafka.ProducerClosed aiokafka.ConsumerStoppedError aiokafka.IllegalStateError"
    " aiokafka.IllegalArgumentError aiokafka.IllegalOperation aiokafka.KafkaConfigurationError"
    " aiokafka.UnsupportedCodecError aiokafka.Cancelled",
    FAIL="aiokafka.KafkaError",
)


def classify_kafka(error: Exception) -> Outcome:
    """Tell brokers that fail from brokers that say no, for confluent-kafka and aiokafka.

    FAIL: transport, time-outs, leaders and coordinators that are missing, too few replicas, failed logins, fatal
    errors, and what the client calls retriable. OK: messages too large or invalid, topics unknown or not authorized,
    and whatever else the broker answers. THROTTLE: an exceeded quota, and a full local queue (`BufferError` of
    `produce()`): it is full because the brokers are slow. NEUTRAL: misuse, serialization, a client that was closed.

    >>> classify_kafka(BufferError("Local: Queue full"))
    <Outcome.THROTTLE: 'throttle'>
    """
    return _first(error, _kafka_code, _named(_KAFKA_NAMES))


def _kafka_code(error: BaseException) -> Outcome | None:
    lineage = _lineage(error)
    if "confluent_kafka.KafkaException" in lineage or "cimpl.KafkaException" in lineage:
        inner = first_argument(error)
        code, fatal, retriable = (ask(inner, name) for name in ("code", "fatal", "retriable"))
    elif "aiokafka.KafkaError" in lineage:
        code, fatal, retriable = peek(error, "errno"), False, peek(error, "retriable")
    else:
        return None
    if not isinstance(code, int):
        return None
    outcome = _KAFKA_CODES.get(code)
    if outcome is None or fatal is True:
        return _FAIL if fatal is True or retriable is True or code < 0 else _OK
    return outcome


# Logins are FAIL as with databases. A full memory is THROTTLE: reads still work, and keys expire. What `ResponseError`
# leaves is a command that was understood and refused.
_REDIS_NAMES = _table(
    FAIL="redis.ConnectionError redis.TimeoutError redis.InvalidResponse redis.ReadOnlyError redis.TryAgainError"
    " redis.AskError redis.ClusterError redis.RedisClusterException",
    THROTTLE="redis.MaxConnectionsError redis.OutOfMemoryError",
    OK="redis.ResponseError redis.WatchError redis.LockError",
    NEUTRAL="redis.DataError redis.PubSubError redis.CrossSlotTransactionError redis.InvalidPipelineStack"
    " redis.ChildDeadlockedError redis.IncorrectPolicyType",
)

# First words of answers that redis-py has no class for: it cannot save, lacks replicas, or is held up by a script.
_REDIS_WORDS = _table(FAIL="MISCONF NOREPLICAS BUSY UNKILLABLE")


def classify_redis(error: Exception) -> Outcome:
    """Tell a Redis that fails from one that says no.

    FAIL: connections (a refused login is one), time-outs, loading, a replica that must not be written to, a cluster
    that is down or moving. THROTTLE: memory is full, or there are too many connections, by the server's count or the
    pool's. OK: commands refused, scripts not there, a watched key that changed, a lock that somebody else holds.
    NEUTRAL: values of a wrong type and other misuse, which never reached the server.

    >>> class WatchError(Exception):
    ...     __module__ = "redis.exceptions"
    >>> classify_redis(WatchError())
    <Outcome.OK: 'ok'>
    """
    return _first(error, _redis_words, _named(_REDIS_NAMES))


def _redis_words(error: BaseException) -> Outcome | None:
    message = first_argument(error)
    if not isinstance(message, str) or "redis.RedisError" not in _lineage(error):
        return None
    return _THROTTLE if message == "max number of clients reached" else _REDIS_WORDS.get(message.partition(" ")[0])


def _first(error: Exception, *tests: _Test) -> Outcome:
    """What the first test makes of the error or, failing that, of what it was raised from; then the second test, ..."""
    links = _links(error)
    for test in tests:
        for link in links:
            outcome = test(link)
            if outcome is not None:
                return outcome
    return classify_default(error)


def _links(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: object = error
    while isinstance(link, BaseException) and len(links) < _DEEPEST_CAUSE:
        links.append(link)
        # SQLAlchemy keeps the driver's error here; the cause may be one further in, of the driver's driver.
        wrapped = peek(link, "orig")
        link = wrapped if isinstance(wrapped, BaseException) else link.__cause__
    return links


def _named(outcomes: Mapping[str | int, Outcome]) -> _Test:
    """A test by the names of the error's class and its bases, the nearest first, with their package or without."""

    def test(error: BaseException) -> Outcome | None:
        for name in _lineage(error):
            outcome = outcomes.get(name) or outcomes.get(name.rpartition(".")[2])
            if outcome is not None:
                return outcome
        return None

    return test


def _lineage(error: BaseException) -> list[str]:
    """The names of the error's class and its bases, the nearest first, each with its top-level package."""
    return [f"{str(kind.__module__).partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__]
