"""A real gRPC server on a port of its own, with one method of each kind, whose answers each test sets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from shoal.guard import Backoff, Guard, classify_grpc


@dataclass
class Seen:
    """What arrived at the server with one call."""

    request: bytes
    metadata: dict[str, str]
    time_remaining: float


class Ledger:
    """Answers as its *script* says, step by step: bytes, a status code, or a function; then it echoes."""

    def __init__(self) -> None:
        self.script: list[bytes | grpc.StatusCode | Callable[[bytes, grpc.ServicerContext], bytes]] = []
        self.seen: list[Seen] = []
        self.port = 0
        self._lock = threading.Lock()

    def once(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.seen.append(Seen(request, dict(context.invocation_metadata()), context.time_remaining()))
            step = self.script.pop(0) if self.script else request
        if not isinstance(step, grpc.StatusCode):
            context.send_initial_metadata((("ledger-initial", str(len(self.seen))),))
            return step if isinstance(step, bytes) else step(request, context)
        if context.trailing_metadata() is None:
            context.set_trailing_metadata((("ledger-trailing", str(len(self.seen))),))
        context.abort(step, f"step {len(self.seen)}")
        raise AssertionError

    def many(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        answer = self.once(request, context)
        yield answer
        yield answer

    def once_of_many(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return self.once(b"".join(requests), context)

    def many_of_many(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        return self.many(b"".join(requests), context)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"


def serve(ledger: Ledger, *interceptors: grpc.ServerInterceptor) -> grpc.Server:
    handlers = {
        "Once": grpc.unary_unary_rpc_method_handler(ledger.once),
        "Many": grpc.unary_stream_rpc_method_handler(ledger.many),
        "OnceOfMany": grpc.stream_unary_rpc_method_handler(ledger.once_of_many),
        "ManyOfMany": grpc.stream_stream_rpc_method_handler(ledger.many_of_many),
    }
    server = grpc.server(
        ThreadPoolExecutor(4),
        handlers=[grpc.method_handlers_generic_handler("Ledger", handlers)],
        interceptors=interceptors,
    )
    ledger.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger()
    server = serve(ledger)
    yield ledger
    server.stop(None).wait()


@pytest.fixture
def sleeps() -> list[float]:
    """The waits of `make_guard`'s guards, which do not really wait."""
    return []


@pytest.fixture
def make_guard(sleeps: list[float]) -> Callable[..., Guard]:
    """A guard that never waits between attempts, for calls to the ledger."""

    async def async_sleep(seconds: float) -> None:
        sleeps.append(seconds)

    def make(*, timeout: float = 5.0, **settings: Any) -> Guard:
        settings = {"budget": None, "breaker": None, "backoff": Backoff(initial=0.001), **settings}
        return Guard(
            "ledger", timeout=timeout, classify=classify_grpc, sleep=sleeps.append, async_sleep=async_sleep, **settings
        )

    return make


@pytest.fixture
def serve_with() -> Iterator[Callable[..., Ledger]]:
    """A ledger behind interceptors, outermost first."""
    servers = []

    def make(*interceptors: grpc.ServerInterceptor) -> Ledger:
        ledger = Ledger()
        servers.append(serve(ledger, *interceptors))
        return ledger

    yield make
    for server in servers:
        server.stop(None).wait()
