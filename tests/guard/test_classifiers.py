"""What real exceptions of gRPC, SQL drivers, Kafka and Redis clients say about the dependency."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import aiokafka.errors
import asyncpg
import confluent_kafka
import grpc
import grpc.aio
import psycopg
import psycopg.errors
import pytest
import redis.exceptions
import sqlalchemy
import sqlalchemy.exc
import sqlalchemy.orm
import sqlalchemy.orm.exc
from confluent_kafka.error import ValueSerializationError
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi

from shoal.errors import BreakerOpenError, DeadlineExceededError
from shoal.guard import Guard, Outcome, classify_default
from shoal.guard.classifiers import classify_dbapi, classify_grpc, classify_kafka, classify_redis

OK, FAIL, THROTTLE, NEUTRAL = Outcome.OK, Outcome.FAIL, Outcome.THROTTLE, Outcome.NEUTRAL
CLASSIFIERS = [classify_grpc, classify_dbapi, classify_kafka, classify_redis]

# By the name of a class of another library, which need not be installed.
LookAlike = type[Exception]


def look_alike(module: str, name: str, *bases: type[Exception]) -> LookAlike:
    return type(name, bases or (Exception,), {"__module__": module})


def raised(fn: Callable[[], object]) -> Exception:
    try:
        fn()
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


def caused_by(cause: BaseException, error: Exception) -> Exception:
    error.__cause__ = cause
    return error


class TestGrpc:
    @staticmethod
    def error(code: grpc.StatusCode, details: str = "") -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)

    @pytest.mark.parametrize(
        ("code", "outcome"),
        [
            ("UNAVAILABLE", FAIL),
            ("DEADLINE_EXCEEDED", FAIL),
            ("INTERNAL", FAIL),
            ("UNKNOWN", FAIL),
            ("DATA_LOSS", FAIL),
            ("RESOURCE_EXHAUSTED", THROTTLE),
            ("NOT_FOUND", OK),
            ("INVALID_ARGUMENT", OK),
            ("ALREADY_EXISTS", OK),
            ("PERMISSION_DENIED", OK),
            ("UNAUTHENTICATED", OK),
            ("FAILED_PRECONDITION", OK),
            ("OUT_OF_RANGE", OK),
            ("ABORTED", OK),
            ("UNIMPLEMENTED", OK),
            ("CANCELLED", NEUTRAL),
        ],
    )
    def test_the_status_code_decides(self, code: str, outcome: Outcome) -> None:
        assert classify_grpc(self.error(grpc.StatusCode[code])) is outcome

    def test_a_server_that_says_how_long_to_wait_is_no_failure(self) -> None:
        pushed_back, refused = self.error(grpc.StatusCode.UNAVAILABLE), self.error(grpc.StatusCode.NOT_FOUND)
        pushed_back.retry_after = refused.retry_after = 0.2

        assert classify_grpc(pushed_back) is THROTTLE
        assert classify_grpc(refused) is OK

    def test_a_server_that_is_not_there_fails(self) -> None:
        with grpc.insecure_channel("127.0.0.1:1") as channel:
            error = raised(lambda: channel.unary_unary("/ledger/Read")(b"", timeout=5))

        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert classify_grpc(error) is FAIL

    def test_a_request_that_cannot_be_serialized_is_the_callers_own_mistake(self) -> None:
        def serialize(request: object) -> bytes:
            raise TypeError("not a message")

        with grpc.insecure_channel("127.0.0.1:1") as channel:
            error = raised(lambda: channel.unary_unary("/ledger/Read", request_serializer=serialize)(None))

        assert error.code() is grpc.StatusCode.INTERNAL
        assert classify_grpc(error) is NEUTRAL

    @pytest.mark.parametrize(
        "details",
        [
            "CLIENT: Sent message larger than max (9 vs. 1)",
            "SERVER: Received message larger than max (9 vs. 1)",
            "Received message larger than max (9 vs. 1)",
        ],
    )
    def test_a_message_that_is_too_large_does_not_ask_for_patience(self, details: str) -> None:
        assert classify_grpc(self.error(grpc.StatusCode.RESOURCE_EXHAUSTED, details)) is OK

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            pytest.param(grpc.FutureTimeoutError(), FAIL, id="a-future-that-took-too-long"),
            pytest.param(grpc.FutureCancelledError(), NEUTRAL, id="a-future-that-was-cancelled"),
            pytest.param(grpc.aio.UsageError("x"), NEUTRAL, id="misuse"),
            pytest.param(grpc.RpcError(), FAIL, id="an-error-without-a-code"),
        ],
    )
    def test_errors_without_a_code_are_told_by_their_class(self, error: Exception, outcome: Outcome) -> None:
        assert classify_grpc(error) is outcome

    def test_the_status_is_found_in_what_a_client_library_wraps(self) -> None:
        error = caused_by(self.error(grpc.StatusCode.NOT_FOUND), RuntimeError("the client library's own class"))

        assert classify_grpc(error) is OK


# Class, or single state, by what psycopg and asyncpg have a class for. What is absent has no verdict by state.
STATES = {
    FAIL: "08000 08001 08003 08006 08P01 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030 XX000 XX001 F0000 HV000"
    " 28000 28P01 3D000 25006 25P03 25P04 40003 53100",
    THROTTLE: "53000 53200 53300 53400",
    OK: "22001 22003 22012 23502 23503 23505 23514 23P01 40001 40P01 42501 42601 42703 42P01 21000 25P02 26000"
    " 3F000 44000 54001 55P03 55006 P0001 02000",
    NEUTRAL: "0A000",
}
BY_STATE = [pytest.param(state, outcome, id=state) for outcome, states in STATES.items() for state in states.split()]


class TestDbapi:
    @pytest.mark.parametrize(("state", "outcome"), BY_STATE)
    def test_the_sqlstate_decides_for_psycopg(self, state: str, outcome: Outcome) -> None:
        assert classify_dbapi(psycopg.errors.lookup(state)("x")) is outcome

    @pytest.mark.parametrize(("state", "outcome"), BY_STATE)
    def test_the_sqlstate_decides_for_asyncpg(self, state: str, outcome: Outcome) -> None:
        error = asyncpg.PostgresError.new({"C": state, "M": "x", "S": "ERROR"})

        assert error.sqlstate == state
        assert classify_dbapi(error) is outcome

    @pytest.mark.parametrize(("state", "outcome"), BY_STATE)
    def test_the_sqlstate_is_found_inside_of_what_sqlalchemy_wraps(self, state: str, outcome: Outcome) -> None:
        inner = asyncpg.PostgresError.new({"C": state, "M": "x", "S": "ERROR"})
        adapted = AsyncAdapt_asyncpg_dbapi.Error("x", inner)
        # SQLAlchemy calls nearly everything from asyncpg a DBAPIError or a ProgrammingError.
        wrapped = sqlalchemy.exc.ProgrammingError("SELECT 1", {}, adapted)

        assert classify_dbapi(wrapped) is outcome

    def test_the_sqlstate_is_found_inside_of_what_django_wraps(self) -> None:
        wrapper = look_alike("django.db.utils", "OperationalError")

        assert classify_dbapi(caused_by(psycopg.errors.DeadlockDetected("x"), wrapper("x"))) is OK
        assert classify_dbapi(wrapper("x")) is FAIL

    def test_the_sqlstate_of_psycopg2_has_another_name(self) -> None:
        error = look_alike("psycopg2.errors", "QueryCanceledError", sqlite3.OperationalError)("x")
        error.pgcode = "40P01"

        assert classify_dbapi(error) is OK

    @pytest.mark.parametrize("library", [sqlite3, psycopg, sqlalchemy.exc], ids=["sqlite3", "psycopg", "sqlalchemy"])
    @pytest.mark.parametrize(
        ("name", "outcome"),
        [
            ("OperationalError", FAIL),
            ("InterfaceError", FAIL),
            ("InternalError", FAIL),
            ("DatabaseError", FAIL),
            ("IntegrityError", OK),
            ("DataError", OK),
            ("ProgrammingError", OK),
            ("NotSupportedError", NEUTRAL),
        ],
    )
    def test_without_a_state_the_names_of_pep_249_decide(self, library: object, name: str, outcome: Outcome) -> None:
        kind = getattr(library, name)
        error = kind("SELECT 1", {}, RuntimeError("x")) if library is sqlalchemy.exc else kind("x")

        assert classify_dbapi(error) is outcome

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            pytest.param(asyncpg.InterfaceError("connection is closed"), FAIL, id="interface"),
            pytest.param(asyncpg.InternalClientError("x"), FAIL, id="internal-client"),
            pytest.param(asyncpg.ConnectionDoesNotExistError("x"), FAIL, id="connection-lost"),
            pytest.param(asyncpg.TooManyConnectionsError("x"), THROTTLE, id="too-many-connections"),
            pytest.param(asyncpg.DataError("invalid input for query argument $1"), OK, id="argument"),
            pytest.param(asyncpg.UniqueViolationError("x"), OK, id="unique"),
            pytest.param(asyncpg.QueryCanceledError("x"), FAIL, id="statement-timeout"),
            pytest.param(asyncpg.exceptions.UnsupportedServerFeatureError("x"), NEUTRAL, id="unsupported"),
        ],
    )
    def test_asyncpg_has_few_of_those_names(self, error: Exception, outcome: Outcome) -> None:
        assert classify_dbapi(error) is outcome

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            pytest.param(psycopg.errors.ConnectionTimeout("x"), FAIL, id="connect-timeout"),
            pytest.param(psycopg.errors.PipelineAborted("x"), FAIL, id="pipeline"),
            pytest.param(look_alike("psycopg_pool", "PoolTimeout", psycopg.OperationalError)(), THROTTLE, id="pool"),
            pytest.param(look_alike("psycopg_pool", "PoolClosed", psycopg.OperationalError)(), NEUTRAL, id="closed"),
        ],
    )
    def test_psycopg_and_its_pool(self, error: Exception, outcome: Outcome) -> None:
        assert classify_dbapi(error) is outcome

    def test_a_lost_connection_fails_whatever_the_driver_calls_it(self) -> None:
        error = sqlalchemy.exc.ProgrammingError("SELECT 1", {}, psycopg.ProgrammingError("x"))
        assert classify_dbapi(error) is OK

        error.connection_invalidated = True

        assert classify_dbapi(error) is FAIL


class TestSqlite:
    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(tmp_path / "ledger", isolation_level=None)
        connection.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")
        yield connection
        connection.close()

    @pytest.mark.parametrize(
        ("statement", "outcome"),
        [
            pytest.param("SELEKT 1", OK, id="syntax"),
            pytest.param("SELECT * FROM nothing", OK, id="no-such-table"),
            pytest.param("INSERT INTO account VALUES (1, NULL)", OK, id="not-null"),
        ],
    )
    def test_bad_sql_is_an_operational_error_and_yet_no_failure(
        self, database: sqlite3.Connection, statement: str, outcome: Outcome
    ) -> None:
        assert classify_dbapi(raised(lambda: database.execute(statement))) is outcome

    def test_a_locked_database_asks_for_patience(self, database: sqlite3.Connection, tmp_path: Path) -> None:
        database.execute("BEGIN EXCLUSIVE")
        other = sqlite3.connect(tmp_path / "ledger", timeout=0.0, isolation_level=None)

        error = raised(lambda: other.execute("SELECT * FROM account"))
        other.close()

        assert classify_dbapi(error) is THROTTLE

    def test_an_interrupted_statement_says_nothing(self, database: sqlite3.Connection) -> None:
        database.set_progress_handler(lambda: 1, 1)

        assert classify_dbapi(raised(lambda: database.execute("SELECT count(*) FROM account"))) is NEUTRAL

    def test_what_is_no_database_fails(self, tmp_path: Path) -> None:
        (tmp_path / "garbage").write_bytes(b"garbage" * 1000)
        garbage, nowhere = sqlite3.connect(tmp_path / "garbage"), tmp_path / "no" / "such" / "directory"

        assert classify_dbapi(raised(lambda: garbage.execute("SELECT * FROM account"))) is FAIL
        assert classify_dbapi(raised(lambda: sqlite3.connect(nowhere))) is FAIL
        garbage.close()


class TestSqlalchemy:
    @pytest.fixture
    def engine(self) -> Iterator[sqlalchemy.Engine]:
        engine = sqlalchemy.create_engine(
            "sqlite://", poolclass=sqlalchemy.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01
        )
        yield engine
        engine.dispose()

    def test_a_pool_without_a_free_connection_asks_for_patience(self, engine: sqlalchemy.Engine) -> None:
        with engine.connect():
            error = raised(engine.connect)

        assert isinstance(error, sqlalchemy.exc.TimeoutError)
        assert classify_dbapi(error) is THROTTLE

    @pytest.mark.parametrize(
        ("statement", "parameters", "outcome"),
        [
            pytest.param("SELECT * FROM nothing", {}, OK, id="no-such-table"),
            pytest.param("SELECT :x", {}, NEUTRAL, id="a-parameter-is-missing"),
            pytest.param("SELECT :x", {"x": object()}, OK, id="a-parameter-of-no-type"),
        ],
    )
    def test_what_the_statement_got_wrong_is_no_failure(
        self, engine: sqlalchemy.Engine, statement: str, parameters: dict[str, object], outcome: Outcome
    ) -> None:
        with engine.connect() as connection:
            error = raised(lambda: connection.execute(sqlalchemy.text(statement), parameters))

        assert classify_dbapi(error) is outcome

    @pytest.mark.parametrize("count", [0, 2])
    def test_no_row_and_too_many_rows_are_answers(self, engine: sqlalchemy.Engine, count: int) -> None:
        rows = sqlalchemy.text("SELECT 1 WHERE :count > 0 UNION ALL SELECT 2 WHERE :count > 1")
        with engine.connect() as connection:
            error = raised(connection.execute(rows, {"count": count}).scalar_one)

        assert classify_dbapi(error) is OK

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            pytest.param(sqlalchemy.orm.exc.StaleDataError("x"), OK, id="stale-data"),
            pytest.param(sqlalchemy.exc.PendingRollbackError("x"), NEUTRAL, id="pending-rollback"),
            pytest.param(sqlalchemy.exc.InvalidRequestError("x"), NEUTRAL, id="invalid-request"),
            pytest.param(sqlalchemy.exc.CompileError("x"), NEUTRAL, id="compile"),
            pytest.param(sqlalchemy.exc.MissingGreenlet("x"), NEUTRAL, id="missing-greenlet"),
            pytest.param(sqlalchemy.exc.DisconnectionError("x"), FAIL, id="disconnection"),
            pytest.param(sqlalchemy.exc.DBAPIError("SELECT 1", {}, OSError("x")), FAIL, id="unknown-of-a-driver"),
            pytest.param(look_alike("django.core.exceptions", "ObjectDoesNotExist")("x"), OK, id="django-no-row"),
        ],
    )
    def test_what_was_never_sent_says_nothing(self, error: Exception, outcome: Outcome) -> None:
        assert classify_dbapi(error) is outcome


def kafka_error(name: str, *, fatal: bool = False, retriable: bool = False) -> confluent_kafka.KafkaException:
    code = getattr(confluent_kafka.KafkaError, name)
    return confluent_kafka.KafkaException(confluent_kafka.KafkaError(code, "x", fatal=fatal, retriable=retriable))


class TestKafka:
    @pytest.mark.parametrize(
        ("name", "outcome"),
        [
            ("_TRANSPORT", FAIL),
            ("_MSG_TIMED_OUT", FAIL),
            ("_TIMED_OUT", FAIL),
            ("_TIMED_OUT_QUEUE", FAIL),
            ("_ALL_BROKERS_DOWN", FAIL),
            ("_RESOLVE", FAIL),
            ("_SSL", FAIL),
            ("_AUTHENTICATION", FAIL),
            ("_FENCED", FAIL),
            ("_BAD_MSG", FAIL),
            ("UNKNOWN", FAIL),
            ("BROKER_NOT_AVAILABLE", FAIL),
            ("LEADER_NOT_AVAILABLE", FAIL),
            ("NOT_LEADER_FOR_PARTITION", FAIL),
            ("REQUEST_TIMED_OUT", FAIL),
            ("COORDINATOR_NOT_AVAILABLE", FAIL),
            ("NOT_ENOUGH_REPLICAS", FAIL),
            ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", FAIL),
            ("KAFKA_STORAGE_ERROR", FAIL),
            ("SASL_AUTHENTICATION_FAILED", FAIL),
            ("THROTTLING_QUOTA_EXCEEDED", THROTTLE),
            ("_QUEUE_FULL", THROTTLE),
            ("MSG_SIZE_TOO_LARGE", OK),
            ("INVALID_MSG", OK),
            ("INVALID_RECORD", OK),
            ("RECORD_LIST_TOO_LARGE", OK),
            ("TOPIC_AUTHORIZATION_FAILED", OK),
            ("UNKNOWN_TOPIC_OR_PART", OK),
            ("_UNKNOWN_TOPIC", OK),
            ("_UNKNOWN_PARTITION", OK),
            ("_PARTITION_EOF", OK),
            ("POLICY_VIOLATION", OK),
            ("TRANSACTION_ABORTABLE", OK),
            ("_INVALID_ARG", NEUTRAL),
            ("_STATE", NEUTRAL),
            ("_PURGE_QUEUE", NEUTRAL),
            ("_DESTROY", NEUTRAL),
            ("_MAX_POLL_EXCEEDED", NEUTRAL),
            ("_VALUE_SERIALIZATION", NEUTRAL),
            ("_KEY_DESERIALIZATION", NEUTRAL),
        ],
    )
    def test_the_code_decides_for_confluent_kafka(self, name: str, outcome: Outcome) -> None:
        assert classify_kafka(kafka_error(name)) is outcome

    def test_a_fatal_error_is_a_failure_whatever_its_code(self) -> None:
        assert classify_kafka(kafka_error("OUT_OF_ORDER_SEQUENCE_NUMBER")) is OK
        assert classify_kafka(kafka_error("OUT_OF_ORDER_SEQUENCE_NUMBER", fatal=True)) is FAIL
        assert classify_kafka(kafka_error("_STATE", fatal=True)) is FAIL

    def test_what_may_be_retried_at_once_is_a_failure(self) -> None:
        assert classify_kafka(kafka_error("CONCURRENT_TRANSACTIONS")) is OK
        assert classify_kafka(kafka_error("CONCURRENT_TRANSACTIONS", retriable=True)) is FAIL

    @pytest.mark.parametrize(
        ("name", "outcome"),
        [
            ("KafkaConnectionError", FAIL),
            ("KafkaTimeoutError", FAIL),
            ("NodeNotReadyError", FAIL),
            ("NoBrokersAvailable", FAIL),
            ("RequestTimedOutError", FAIL),
            ("LeaderNotAvailableError", FAIL),
            ("NotLeaderForPartitionError", FAIL),
            ("BrokerNotAvailableError", FAIL),
            ("CoordinatorNotAvailableError", FAIL),
            ("NotEnoughReplicasError", FAIL),
            ("UnknownError", FAIL),
            ("AuthenticationFailedError", FAIL),
            ("SaslAuthenticationFailed", FAIL),
            ("CorrelationIdError", FAIL),
            ("QuotaViolationError", THROTTLE),
            ("MessageSizeTooLargeError", OK),
            ("RecordTooLargeError", OK),
            ("CorruptRecordException", OK),
            ("TopicAuthorizationFailedError", OK),
            ("UnknownTopicOrPartitionError", OK),
            ("InvalidTopicError", OK),
            ("CommitFailedError", OK),
            ("ProducerFenced", OK),
            ("ProducerClosed", NEUTRAL),
            ("ConsumerStoppedError", NEUTRAL),
            ("IllegalStateError", NEUTRAL),
            ("UnsupportedCodecError", NEUTRAL),
        ],
    )
    def test_the_code_or_the_class_decides_for_aiokafka(self, name: str, outcome: Outcome) -> None:
        assert classify_kafka(getattr(aiokafka.errors, name)()) is outcome

    def test_a_full_queue_asks_for_patience(self) -> None:
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 1, "log_level": 0}
        )
        producer.produce("ledger", b"1")

        error = raised(lambda: producer.produce("ledger", b"2"))
        producer.purge()
        producer.poll(0)

        assert isinstance(error, BufferError)
        assert classify_kafka(error) is THROTTLE

    def test_brokers_that_are_not_there_fail(self) -> None:
        consumer = confluent_kafka.Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "x", "log_level": 0})

        error = raised(lambda: consumer.list_topics(timeout=0.01))
        consumer.close()

        assert isinstance(error, confluent_kafka.KafkaException)
        assert classify_kafka(error) is FAIL

    def test_a_value_that_cannot_be_serialized_is_the_callers_own_mistake(self) -> None:
        assert classify_kafka(ValueSerializationError(TypeError("x"))) is NEUTRAL


class TestRedis:
    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (redis.exceptions.ConnectionError("x"), FAIL),
            (redis.exceptions.TimeoutError("x"), FAIL),
            (redis.exceptions.BusyLoadingError("x"), FAIL),
            (redis.exceptions.AuthenticationError("x"), FAIL),
            (redis.exceptions.InvalidResponse("x"), FAIL),
            (redis.exceptions.ReadOnlyError("x"), FAIL),
            (redis.exceptions.ClusterDownError("x"), FAIL),
            (redis.exceptions.MasterDownError("x"), FAIL),
            (redis.exceptions.TryAgainError("x"), FAIL),
            (redis.exceptions.MovedError("1 127.0.0.1:1"), FAIL),
            (redis.exceptions.ClusterError("x"), FAIL),
            (redis.exceptions.SlotNotCoveredError("x"), FAIL),
            (redis.exceptions.RedisClusterException("Redis Cluster cannot be connected"), FAIL),
            (redis.exceptions.OutOfMemoryError("x"), THROTTLE),
            (redis.exceptions.MaxConnectionsError("x"), THROTTLE),
            (redis.exceptions.ResponseError("WRONGTYPE x"), OK),
            (redis.exceptions.NoPermissionError("x"), OK),
            (redis.exceptions.NoScriptError("x"), OK),
            (redis.exceptions.ExecAbortError("x"), OK),
            (redis.exceptions.ClusterCrossSlotError("x"), OK),
            (redis.exceptions.WatchError("x"), OK),
            (redis.exceptions.LockNotOwnedError("x"), OK),
            (redis.exceptions.DataError("x"), NEUTRAL),
            (redis.exceptions.PubSubError("x"), NEUTRAL),
            (redis.exceptions.CrossSlotTransactionError("x"), NEUTRAL),
            (redis.exceptions.RedisError("x"), FAIL),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
    )
    def test_the_class_decides(self, error: Exception, outcome: Outcome) -> None:
        assert classify_redis(error) is outcome

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (redis.exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots, but ..."), FAIL),
            (redis.exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), FAIL),
            (redis.exceptions.ResponseError("BUSY Redis is busy running a script."), FAIL),
            (redis.exceptions.ConnectionError("max number of clients reached"), THROTTLE),
        ],
        ids=["misconf", "noreplicas", "busy", "max-clients"],
    )
    def test_answers_without_a_class_are_told_by_their_words(self, error: Exception, outcome: Outcome) -> None:
        assert classify_redis(error) is outcome

    def test_a_server_that_is_not_there_fails(self) -> None:
        with redis.Redis(port=1, retry=Retry(NoBackoff(), 0)) as client:
            assert classify_redis(raised(client.ping)) is FAIL


class TestAll:
    @pytest.mark.parametrize("classify", CLASSIFIERS, ids=lambda classify: classify.__name__)
    @pytest.mark.parametrize(
        "error",
        [
            TimeoutError(),
            ConnectionRefusedError(),
            KeyError("x"),
            TypeError(),
            RuntimeError("x"),
            BreakerOpenError("ledger", retry_after=1.0),
            DeadlineExceededError("ledger", timeout=1.0),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_a_classifier_does_not_know_it_leaves_to_the_default(
        self, classify: Callable[[Exception], Outcome], error: Exception
    ) -> None:
        assert classify(error) is classify_default(error)

    @pytest.mark.parametrize("classify", CLASSIFIERS, ids=lambda classify: classify.__name__)
    def test_names_count_with_their_package(self, classify: Callable[[Exception], Outcome]) -> None:
        """Of other packages' errors none is a timeout of a pool, a lock of Redis's or a cancelled future."""
        for name in ("TimeoutError", "LockError", "FutureCancelledError", "ConnectionError", "DBAPIError"):
            assert classify(look_alike("elsewhere", name)("x")) is FAIL

    def test_a_guard_does_not_repeat_what_was_answered(self) -> None:
        guard = Guard("ledger", timeout=1.0, classify=classify_dbapi)
        asked = []

        def ask() -> None:
            asked.append(1)
            raise psycopg.errors.UniqueViolation("x")

        with pytest.raises(psycopg.errors.UniqueViolation):
            guard.run(ask)

        assert len(asked) == 1
        assert guard.health().error_rate == 0.0


def _raises(*args: object) -> object:
    raise RuntimeError("no such thing")


class _Touchy:
    """Every attribute raises."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


ATTRIBUTES = [
    "code", "name", "details", "retry_after", "sqlstate", "pgcode", "orig", "connection_invalidated", "errno", "fatal",
    "sqlite_errorcode", "retriable", "status", "status_code", "response", "headers", "args",
]  # fmt: skip

ODD_VALUES = [
    property(_raises), _raises, _Touchy(), None, True, -1, 2**70, float("nan"), "", "08006x", b"08006", [], {}, object,
    lambda self: _Touchy(), lambda self: SimpleNamespace(name=_Touchy()), lambda self: SimpleNamespace(name=["x"]),
    lambda self, needed: needed, lambda self: "UNAVAILABLE", lambda self: 1.5, property(lambda self: self),
]  # fmt: skip

FAMILIES = [
    (Exception,),
    (grpc.RpcError,),
    (sqlalchemy.exc.SQLAlchemyError,),
    (sqlite3.OperationalError,),
    (confluent_kafka.KafkaException,),
    (aiokafka.errors.BrokerResponseError,),
    (redis.exceptions.ResponseError,),
]


class TestOddObjects:
    @pytest.mark.parametrize("bases", FAMILIES, ids=lambda bases: bases[0].__name__)
    @pytest.mark.parametrize("attribute", ATTRIBUTES)
    def test_no_attribute_makes_a_classifier_raise(self, bases: tuple[type[Exception]], attribute: str) -> None:
        for value in ODD_VALUES:
            kind = type("OddError", bases, {attribute: value})
            # Not its __init__, which may set what is a property here.
            error = kind.__new__(kind, "x")

            assert {type(classify(error)) for classify in CLASSIFIERS} == {Outcome}

    def test_no_argument_of_a_kafka_exception_makes_it_raise(self) -> None:
        for args in [(), (None,), ("x",), (1,), (_Touchy(),), (SimpleNamespace(code=_raises),), ([],), (ValueError(),)]:
            assert classify_kafka(confluent_kafka.KafkaException(*args)) is FAIL

    def test_causes_that_go_round_in_a_circle_end(self) -> None:
        first, second = RuntimeError("x"), RuntimeError("y")
        first.__cause__, second.__cause__ = second, first

        assert {classify(first) for classify in CLASSIFIERS} == {FAIL}

    def test_an_error_that_wraps_itself_ends(self) -> None:
        error = sqlalchemy.exc.StatementError("x", "SELECT 1", {}, None)
        error.orig = error

        assert {classify(error) for classify in CLASSIFIERS} == {FAIL, NEUTRAL}
