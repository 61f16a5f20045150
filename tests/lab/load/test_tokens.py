"""Customers log in before the load begins."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from shoal_lab.errors import PlatformError
from shoal_lab.load import PASSWORD, fetch_tokens

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Answer], Awaitable[str]]

NAMES = [f"user-{number:04d}" for number in range(1, 31)]


async def token(request: web.Request) -> web.Response:
    asked = await request.json()
    assert (request.method, request.path) == ("POST", "/token")
    assert asked == {"user": asked["user"], "password": PASSWORD}
    return web.json_response({"token": f"token of {asked['user']}"})


async def test_everybody_gets_a_token(serve: Serve) -> None:
    tokens = await fetch_tokens(await serve(token), NAMES)

    assert tokens == {name: f"token of {name}" for name in NAMES}


async def test_a_name_that_is_given_twice_logs_in_once(serve: Serve) -> None:
    asked: list[str] = []

    async def counting(request: web.Request) -> web.Response:
        asked.append((await request.json())["user"])
        return await token(request)

    await fetch_tokens(await serve(counting), ["user-0001", "user-0002", "user-0001"])

    assert sorted(asked) == ["user-0001", "user-0002"]


async def test_logins_are_bounded(serve: Serve) -> None:
    under_way = most = 0

    async def counting(request: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        # Let every other worker send its request before this one is answered.
        await asyncio.sleep(0.01)
        under_way -= 1
        return await token(request)

    await fetch_tokens(await serve(counting), NAMES, at_once=4)

    assert most == 4


async def test_a_login_that_fails_is_tried_again(serve: Serve) -> None:
    failed: set[str] = set()

    async def once(request: web.Request) -> web.Response:
        name = (await request.json())["user"]
        if name in failed:
            return await token(request)
        failed.add(name)
        return web.Response(status=503, text="no healthy upstream")

    tokens = await fetch_tokens(await serve(once), NAMES[:5])

    assert set(tokens) == failed == set(NAMES[:5])


async def test_when_logins_keep_failing_the_last_answer_is_told(serve: Serve) -> None:
    async def down(request: web.Request) -> web.Response:
        return web.Response(status=503, text="no healthy upstream")

    with pytest.raises(PlatformError, match=r"no token for user-00\d\d .*last answer: 503 'no healthy upstream'"):
        await fetch_tokens(await serve(down), NAMES, within=0.3)


async def test_when_nobody_listens_the_reason_is_told() -> None:
    with pytest.raises(PlatformError, match=r"no token for user-0001 .*Connect call failed"):
        await fetch_tokens("http://127.0.0.1:1", NAMES[:1], within=0.1)


async def test_a_server_that_hangs_does_not_hold_longer_than_the_deadline(serve: Serve) -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    before = asyncio.get_running_loop().time()
    with pytest.raises(PlatformError, match="last answer: TimeoutError"):
        await fetch_tokens(await serve(hang), NAMES, within=0.2)

    assert asyncio.get_running_loop().time() - before < 2.0


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        pytest.param(401, "unknown user", "401 'unknown user'; is it among the seeded", id="refused"),
        pytest.param(200, '{"jwt": "x"}', "expected", id="another answer"),
    ],
)
async def test_what_no_waiting_changes_fails_at_once(serve: Serve, status: int, text: str, message: str) -> None:
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=status, text=text, content_type="application/json")

    with pytest.raises(PlatformError, match=message):
        await fetch_tokens(await serve(answer), ["user-0001"])
    assert asked == 1
