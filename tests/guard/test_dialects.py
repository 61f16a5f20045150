"""What kind of failure it is, for errors that share no base class with Python's own; raised by the real libraries."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import aiokafka.errors
import asyncpg
import confluent_kafka
import grpc
import psycopg
import pytest
import redis
import sqlalchemy

from shoal.guard.dialects import ErrorType
from shoal.guard.outcome import error_type, never_sent


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def _psycopg(port: int) -> None:
    psycopg.connect(f"host=127.0.0.1 port={port} dbname=wallet", connect_timeout=2)


def _sqlalchemy(port: int) -> None:
    sqlalchemy.create_engine(f"postgresql+psycopg://127.0.0.1:{port}/wallet").connect()


def _redis(port: int) -> None:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    with redis.Redis(host="127.0.0.1", port=port, retry=Retry(NoBackoff(), 0)) as client:
        client.ping()


def _grpc(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        channel.unary_unary("/wallet/Balance")(b"", timeout=5.0)


@pytest.mark.parametrize("connect", [_psycopg, _sqlalchemy, _redis, _grpc])
def test_a_refused_connection_is_told_whatever_the_client_calls_it(connect: Callable[[int], None], nobody: int) -> None:
    """And proves that nothing was sent, so that even what must not happen twice may be repeated."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- each client has its own
        connect(nobody)

    assert error_type(caught.value) == "connect"
    assert never_sent(caught.value)


def _kafka(code: int) -> Exception:
    return confluent_kafka.KafkaException(confluent_kafka.KafkaError(code))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(psycopg.errors.QueryCanceled("canceling statement"), "timeout", id="psycopg-statement-timeout"),
        pytest.param(psycopg.errors.ConnectionTimeout("timeout expired"), "timeout", id="psycopg-connect-timeout"),
        pytest.param(psycopg.errors.AdminShutdown("terminating"), "reset", id="psycopg-shutdown"),
        pytest.param(psycopg.errors.CannotConnectNow("starting up"), "connect", id="psycopg-starting"),
        pytest.param(asyncpg.exceptions.QueryCanceledError("canceling"), "timeout", id="asyncpg-statement-timeout"),
        pytest.param(asyncpg.exceptions.ConnectionDoesNotExistError("gone"), "reset", id="asyncpg-gone"),
        pytest.param(asyncpg.exceptions.InternalServerError("xx"), "5xx", id="asyncpg-internal"),
        pytest.param(redis.exceptions.TimeoutError("Timeout reading from socket"), "timeout", id="redis-timeout"),
        pytest.param(redis.exceptions.ConnectionError("Connection closed by server."), "reset", id="redis-closed"),
        pytest.param(_kafka(confluent_kafka.KafkaError._MSG_TIMED_OUT), "timeout", id="confluent-message-timeout"),
        pytest.param(_kafka(confluent_kafka.KafkaError._TRANSPORT), "reset", id="confluent-transport"),
        pytest.param(_kafka(confluent_kafka.KafkaError._ALL_BROKERS_DOWN), "connect", id="confluent-all-down"),
        pytest.param(aiokafka.errors.KafkaTimeoutError(), "timeout", id="aiokafka-timeout"),
        pytest.param(aiokafka.errors.KafkaConnectionError("lost"), "reset", id="aiokafka-connection"),
        pytest.param(psycopg.errors.UniqueViolation("duplicate key"), "other", id="psycopg-unique"),
        pytest.param(KeyError("timeout"), "other", id="a-key-called-timeout"),
    ],
)
def test_errors_are_told_apart(error: Exception, kind: ErrorType) -> None:
    assert error_type(error) == kind


def test_of_what_sqlalchemy_wraps_the_inner_error_is_told() -> None:
    wrapped = sqlalchemy.exc.OperationalError("SELECT 1", {}, psycopg.errors.QueryCanceled("canceling statement"))

    assert error_type(wrapped) == "timeout"
    assert not never_sent(wrapped)


def test_a_number_of_the_operating_systems_is_not_kafkas() -> None:
    """13 is a lost connection to Kafka, and a permission that is lacking here."""
    assert error_type(PermissionError(13, "Permission denied")) == "other"


def test_pythons_own_error_inside_says_more_than_what_a_library_calls_it() -> None:
    error = redis.exceptions.ConnectionError("Error connecting to cache:6379.")
    error.__cause__ = ConnectionRefusedError(111, "Connect call failed")

    assert error_type(error) == "connect"
    assert never_sent(error)
