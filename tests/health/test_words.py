"""Nothing secret, nothing endless, nothing on two lines."""

from __future__ import annotations

import socket
import ssl

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.health import in_a_few_words, public_target, public_text

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "text",
    [
        f"cannot connect to postgres://app:{SECRET}@db:5432/wallet",
        f"cannot connect to postgresql+asyncpg://app:{SECRET}@db/wallet",
        f'cannot connect to "amqp://app:{SECRET}@mq"',
        f"redis://:{SECRET}@cache:6379/0 refused",
        f"https://{SECRET}@example.com/path",
        f"http://app:p@{SECRET}@host/path",
        f"http://app:p/{SECRET}@host/path",
        f"http://app:p?{SECRET}@host/path",
        f"GET https://example.com/path?access_token={SECRET}&x=1",
        f"https://example.com/#id_token={SECRET}",
        f"connection failed: host=db user=app password={SECRET} dbname=wallet",
        f"connection failed: password = '{SECRET} with blanks' dbname=wallet",
        f'{{"user": "app", "password": "{SECRET}"}}',
        f"{{'api_key': '{SECRET}'}}",
        f"DB_PASSWORD={SECRET}",
        f"X-Api-Key: {SECRET}",
        f"client_secret: {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"Authorization: Digest username=app, response={SECRET}",
        f"Cookie: session={SECRET}; other={SECRET}",
        f"sent bearer {SECRET} to auth",
        f"Basic {SECRET}",
        f"bad token eyJhbGciOiJIUzI1NiJ9.{SECRET}.signature",
        f"https://storage/blob?sv=1&sig={SECRET}",
    ],
)
def test_credentials_are_hidden_in_whatever_form(text: str) -> None:
    shown = public_text(text)

    assert SECRET not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "refused",
        'password authentication failed for user "wallet"',
        "http://auth/introspect answered 503 Service Unavailable",
        "[Errno 111] Connect call failed ('127.0.0.1', 5432)",
        "no answer within 0.5 s",
        "token expired",
    ],
)
def test_ordinary_words_stay_as_they_are(text: str) -> None:
    assert public_text(text) == text


def test_a_text_is_one_line_of_at_most_200_characters() -> None:
    shown = public_text("first\r\n\tsecond\x00\x1b[31m third " + "x" * 1_000_000)

    assert shown.startswith("first second [31m third xxx")
    assert len(shown) == 200
    assert shown.endswith("…")


def test_the_cut_does_not_uncover_a_secret() -> None:
    """Cut first, the URL would end before its @ and not be recognised."""
    shown = public_text("x" * 180 + f" postgres://app:{SECRET}@database.example.com/wallet")

    assert SECRET not in shown


@given(st.text())
def test_any_text_comes_out_printable_and_bounded(text: str) -> None:
    shown = public_text(text)

    assert len(shown) <= 200
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("http://auth", "http://auth"),
        ("http://auth:8080/v1", "http://auth:8080/v1"),
        (f"http://app:{SECRET}@auth:8080/v1?token={SECRET}#x", "http://auth:8080/v1"),
        (f"postgres://app:{SECRET}@wallet-db/wallet?sslmode=disable", "postgres://wallet-db/wallet"),
        (f"postgres://app:p/{SECRET}@wallet-db/wallet", "postgres://wallet-db/wallet"),
        (f"postgres://app:p@{SECRET}@wallet-db/wallet", "postgres://wallet-db/wallet"),
        ("kafka://a:9092,b:9092", "kafka://a:9092,b:9092"),
        ("broker:9092", "broker:9092"),
        (f"app:{SECRET}@broker:9092", "broker:9092"),
        (f"host=db password={SECRET} dbname=wallet", "host=db password=*** dbname=wallet"),
        ("sqlite:///var/wallet.db", "sqlite:///var/wallet.db"),
        (f"postgresql:///wallet?host=/run&password={SECRET}", "postgresql:///wallet?***"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://[broken", "http://[broken"),
        ("", ""),
    ],
)
def test_a_target_says_where_and_nothing_else(target: str, shown: str) -> None:
    assert public_target(target) == shown


def chained(outer: BaseException, cause: BaseException | None, *, how: str = "cause") -> BaseException:
    setattr(outer, f"__{how}__", cause)
    return outer


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(ConnectionRefusedError(111, "Connection refused"), "refused", id="refused"),
        pytest.param(chained(OSError("All attempts failed"), ConnectionRefusedError()), "refused", id="behind another"),
        pytest.param(chained(OSError("x"), ConnectionRefusedError(), how="context"), "refused", id="while handling it"),
        pytest.param(ExceptionGroup("both", [ConnectionRefusedError(), OSError("x")]), "refused", id="in a group"),
        pytest.param(ConnectionResetError(104, "reset by peer"), "connection lost", id="reset"),
        pytest.param(socket.gaierror(-2, "Name or service not known"), "name not known", id="dns"),
        pytest.param(TimeoutError(), "no answer in time", id="timeout without words"),
        pytest.param(TimeoutError("auth: no answer"), "TimeoutError: auth: no answer", id="timeout with words"),
        pytest.param(ValueError("odd number"), "ValueError: odd number", id="anything"),
        pytest.param(ValueError(), "ValueError", id="no words"),
        pytest.param(ValueError(f"password={SECRET}"), "ValueError: password=***", id="secret"),
    ],
)
def test_an_error_is_put_in_a_few_words(error: BaseException, words: str) -> None:
    assert in_a_few_words(error) == words


def test_a_certificate_says_what_is_wrong_with_it() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "certificate has expired"

    assert in_a_few_words(error) == "certificate not trusted: certificate has expired"


def test_a_client_that_hides_the_refused_connection_is_looked_behind() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(httpx.ConnectError) as caught:
            httpx.get(f"http://127.0.0.1:{sock.getsockname()[1]}", trust_env=False)

    assert in_a_few_words(caught.value) == "refused"


def test_a_circular_chain_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first

    assert in_a_few_words(first) == "ValueError: first"


def test_an_error_that_cannot_be_printed_is_still_named() -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert in_a_few_words(UnprintableError()) == "UnprintableError"
