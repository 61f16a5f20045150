"""How a request ended, and what that is put down to."""

from __future__ import annotations

import asyncio

import pytest

from shoal import DeadlineExceededError
from shoal._events import Trail
from shoal.service.outcome import judge

BUG = ValueError("a bug")
LATE = DeadlineExceededError("auth", timeout=0.5)
GONE = asyncio.CancelledError()


@pytest.mark.parametrize(
    ("status", "error", "failed", "degraded", "verdict"),
    [
        pytest.param(200, None, [], [], ("ok", "none"), id="answered"),
        pytest.param(302, None, [], [], ("ok", "none"), id="redirected"),
        pytest.param(404, None, [], [], ("client_error", "none"), id="client error"),
        pytest.param(404, None, ["auth"], [], ("client_error", "none"), id="client error, whatever else failed"),
        pytest.param(500, None, [], [], ("failed", "self"), id="its own fault"),
        pytest.param(503, None, ["auth"], [], ("failed", "auth"), id="a dependency's"),
        pytest.param(503, None, ["auth", "balance"], [], ("failed", "balance"), id="the last one's"),
        pytest.param(503, None, ["auth", "kafka"], [], ("failed", "auth"), id="the needed one's, though not the last"),
        pytest.param(503, None, ["kafka"], [], ("failed", "kafka"), id="one it claimed to do without"),
        pytest.param(503, None, ["stranger"], [], ("failed", "self"), id="an undeclared one is no cause"),
        pytest.param(503, None, [], ["auth"], ("failed", "self"), id="a stale answer does not fail a request"),
        pytest.param(200, None, [], ["auth"], ("degraded", "auth"), id="a stale answer"),
        pytest.param(200, None, ["kafka"], [], ("degraded", "kafka"), id="done without"),
        pytest.param(200, None, ["kafka"], ["auth"], ("degraded", "auth"), id="both: what it needs goes first"),
        pytest.param(200, None, ["stranger"], [], ("degraded", "stranger"), id="done without an undeclared one"),
        pytest.param(None, BUG, [], [], ("failed", "self"), id="an exception"),
        pytest.param(200, BUG, [], [], ("failed", "self"), id="an exception after the status was sent"),
        pytest.param(500, BUG, ["auth"], [], ("failed", "auth"), id="an exception because of a dependency"),
        pytest.param(500, LATE, [], [], ("failed", "deadline"), id="out of time"),
        pytest.param(500, LATE, ["auth"], [], ("failed", "auth"), id="out of time waiting for a dependency"),
        pytest.param(None, None, [], [], ("failed", "self"), id="no answer at all"),
        pytest.param(200, GONE, [], [], ("ok", "none"), id="client left while it was answered"),
        pytest.param(404, GONE, [], [], ("client_error", "none"), id="client left during a client error"),
        pytest.param(None, GONE, [], [], ("failed", "self"), id="client left before anything was sent"),
        pytest.param(None, GONE, ["balance"], [], ("failed", "balance"), id="client left after a dependency failed"),
    ],
)
def test_every_request_has_one_outcome_and_one_cause(
    status: int | None, error: BaseException | None, failed: list[str], degraded: list[str], verdict: tuple[str, str]
) -> None:
    trail = Trail()
    trail.failed += failed
    trail.degraded += degraded

    assert judge(status=status, error=error, trail=trail, needs=["auth", "balance"], better_with=["kafka"]) == verdict
