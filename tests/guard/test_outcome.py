"""What an exception says about the dependency."""

from __future__ import annotations

import errno
import math
import socket
import urllib.error
from email.message import Message

import httpx
import pytest

from shoal.errors import BreakerOpenError, BulkheadFullError, DeadlineExceededError
from shoal.guard import Outcome, classify_default
from shoal.guard.outcome import error_type, never_sent, retry_after

WALL = 1_800_000_000.0


def httpx_error(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://auth/token")
    response = httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return httpx.HTTPStatusError(str(status), request=request, response=response)


def urllib_error(status: int, **headers: str) -> urllib.error.HTTPError:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return urllib.error.HTTPError("http://auth/token", status, "x", message, None)


class AiohttpLikeError(Exception):
    """aiohttp's ClientResponseError: `.status` and `.headers` on the error itself."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers or {}


class TouchyError(Exception):
    """An error whose attributes raise, as httpx's `.request` does."""

    @property
    def response(self) -> object:
        raise RuntimeError("there is no response")


def caused_by(cause: BaseException, error: Exception | None = None) -> Exception:
    try:
        raise error or RuntimeError("the client's own class") from cause
    except Exception as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        pytest.param(TimeoutError(), Outcome.FAIL, id="timeout"),
        pytest.param(ConnectionRefusedError(), Outcome.FAIL, id="refused"),
        pytest.param(socket.gaierror(), Outcome.FAIL, id="no-such-name"),
        pytest.param(OSError(errno.EHOSTUNREACH, "no route"), Outcome.FAIL, id="no-route"),
        pytest.param(DeadlineExceededError("auth", timeout=1.0), Outcome.FAIL, id="deadline-of-a-guard"),
        pytest.param(httpx.ReadTimeout("slow"), Outcome.FAIL, id="httpx-timeout"),
        pytest.param(httpx_error(500), Outcome.FAIL, id="500"),
        pytest.param(httpx_error(503), Outcome.FAIL, id="503"),
        pytest.param(httpx_error(503, retry_after="1"), Outcome.THROTTLE, id="503-retry-after"),
        pytest.param(httpx_error(429), Outcome.THROTTLE, id="429"),
        pytest.param(httpx_error(404), Outcome.OK, id="404"),
        pytest.param(httpx_error(401), Outcome.OK, id="401"),
        pytest.param(httpx_error(302), Outcome.OK, id="302"),
        pytest.param(httpx_error(408), Outcome.FAIL, id="408"),
        pytest.param(AiohttpLikeError(502), Outcome.FAIL, id="status-on-the-error-502"),
        pytest.param(AiohttpLikeError(404), Outcome.OK, id="status-on-the-error-404"),
        pytest.param(AiohttpLikeError(503, {"Retry-After": "1"}), Outcome.THROTTLE, id="plain-dict-of-headers"),
        pytest.param(TypeError(), Outcome.NEUTRAL, id="type-error"),
        pytest.param(KeyError("user"), Outcome.NEUTRAL, id="key-error"),
        pytest.param(AttributeError(), Outcome.NEUTRAL, id="attribute-error"),
        pytest.param(AssertionError(), Outcome.NEUTRAL, id="assertion-error"),
        pytest.param(NameError(), Outcome.NEUTRAL, id="name-error"),
        pytest.param(ZeroDivisionError(), Outcome.NEUTRAL, id="zero-division"),
        pytest.param(BreakerOpenError("balance", retry_after=1.0), Outcome.NEUTRAL, id="open-breaker-of-a-guard"),
        pytest.param(BulkheadFullError("balance", limit=1), Outcome.NEUTRAL, id="full-bulkhead-of-a-guard"),
        pytest.param(RuntimeError("?"), Outcome.FAIL, id="unknown"),
        pytest.param(ValueError("not JSON"), Outcome.FAIL, id="garbled-answer"),
        pytest.param(TouchyError(), Outcome.FAIL, id="attributes-that-raise"),
        pytest.param(AiohttpLikeError(0), Outcome.FAIL, id="not-an-http-status"),
    ],
)
def test_an_exception_is_told_by_its_base_class_or_status(error: Exception, outcome: Outcome) -> None:
    assert classify_default(error) is outcome


def test_urllib_is_understood_although_its_error_is_an_os_error() -> None:
    errors = [urllib_error(404), urllib_error(500), urllib_error(503, Retry_After="2")]

    outcomes = [classify_default(error) for error in errors]

    assert outcomes == [Outcome.OK, Outcome.FAIL, Outcome.THROTTLE]
    for error in errors:
        error.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(TimeoutError(), "timeout", id="timeout"),
        pytest.param(DeadlineExceededError("auth", timeout=1.0), "timeout", id="deadline-of-a-guard"),
        pytest.param(ConnectionRefusedError(), "connect", id="refused"),
        pytest.param(socket.gaierror(), "connect", id="no-such-name"),
        pytest.param(OSError(errno.ENETUNREACH, "unreachable"), "connect", id="unreachable"),
        pytest.param(ConnectionResetError(), "reset", id="reset"),
        pytest.param(BrokenPipeError(), "reset", id="broken-pipe"),
        pytest.param(EOFError(), "reset", id="ended-early"),
        pytest.param(httpx_error(500), "5xx", id="500"),
        pytest.param(httpx_error(503), "5xx", id="503"),
        pytest.param(httpx_error(504), "5xx", id="504"),
        pytest.param(httpx_error(503, retry_after="1"), "throttled", id="503-retry-after"),
        pytest.param(httpx_error(429), "throttled", id="429"),
        pytest.param(httpx_error(408), "timeout", id="408"),
        pytest.param(caused_by(TimeoutError()), "timeout", id="caused-by-timeout"),
        pytest.param(caused_by(caused_by(ConnectionRefusedError())), "connect", id="caused-twice-removed"),
        pytest.param(urllib.error.URLError(ConnectionRefusedError()), "connect", id="wrapped-by-urllib"),
        pytest.param(
            ExceptionGroup("both addresses", [ConnectionRefusedError(), ConnectionRefusedError()]),
            "connect",
            id="group",
        ),
        pytest.param(ExceptionGroup("mixed", [ConnectionRefusedError(), TimeoutError()]), "other", id="mixed-group"),
        pytest.param(RuntimeError("?"), "other", id="unknown"),
        pytest.param(OSError("?"), "other", id="os-error-without-number"),
    ],
)
def test_a_retry_is_labelled_by_what_made_it_necessary(error: Exception, kind: str) -> None:
    assert error_type(error) == kind


async def test_httpx_is_understood_without_being_imported() -> None:
    """Its own classes derive from none of the standard library's; the causes do."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError) as refused:
                await client.get(f"http://127.0.0.1:{bound.getsockname()[1]}/")

    assert classify_default(refused.value) is Outcome.FAIL
    assert error_type(refused.value) == "connect"
    assert never_sent(refused.value)


def test_a_loop_of_causes_ends() -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first

    assert error_type(first) == "other"


@pytest.mark.parametrize(
    ("error", "proof"),
    [
        pytest.param(ConnectionRefusedError(), True, id="refused"),
        pytest.param(caused_by(ConnectionRefusedError()), True, id="caused-by-refused"),
        pytest.param(ExceptionGroup("both", [ConnectionRefusedError(), socket.gaierror()]), True, id="all-refused"),
        pytest.param(ExceptionGroup("mixed", [ConnectionRefusedError(), TimeoutError()]), False, id="not-all-refused"),
        pytest.param(ConnectionResetError(), False, id="reset"),
        pytest.param(OSError(errno.EHOSTUNREACH, "no route"), False, id="host-unreachable-may-come-late"),
        pytest.param(TimeoutError(), False, id="timeout"),
    ],
)
def test_only_a_connection_that_never_was_proves_that_nothing_was_sent(error: Exception, proof: bool) -> None:
    assert never_sent(error) is proof


def test_an_error_being_handled_is_no_cause() -> None:
    """The first address refused, the fallback had been sent the request: repeating would do it twice."""
    try:
        try:
            raise ConnectionRefusedError
        except ConnectionRefusedError:
            raise RuntimeError("the fallback broke")  # noqa: B904 -- the implicit context is what is tested
    except RuntimeError as raised:
        error = raised

    assert not never_sent(error)
    assert error_type(error) == "other"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("120", 120.0, id="seconds"),
        pytest.param(" 7 ", 7.0, id="spaces"),
        pytest.param("0", 0.0, id="zero"),
        pytest.param("Fri, 15 Jan 2027 08:00:30 GMT", 30.0, id="date"),
        pytest.param("Fri, 15 Jan 2027 07:00:00 GMT", 0.0, id="date-gone-by"),
        pytest.param("9" * 5000, math.inf, id="absurd"),
        pytest.param("-5", None, id="negative"),
        pytest.param("soon", None, id="word"),
        pytest.param("", None, id="empty"),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after(httpx_error(503, retry_after=text), wall=WALL) == seconds


def test_retry_after_may_be_an_attribute() -> None:
    assert retry_after(BreakerOpenError("auth", retry_after=2.5), wall=WALL) == 2.5
    assert retry_after(BulkheadFullError("auth", limit=1), wall=WALL) is None
