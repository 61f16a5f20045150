"""One replica as a process: `python -m shoal_lab.company.pod`, told what to be by its environment.

Its standard input is its lifeline: orders come in as lines, and when it closes the lab is gone and the pod leaves.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

import shoal
from shoal_lab.company import activity, auth, balance, locks, wallet
from shoal_lab.company.app import App
from shoal_lab.company.settings import PodSettings

SERVICES: dict[str, Callable[[PodSettings], App]] = {
    "wallet": wallet.create,
    "auth": auth.create,
    "balance": balance.create,
    "activity": activity.create,
    "locks": locks.create,
}

log = logging.getLogger("pod")


class _Server(uvicorn.Server):
    """uvicorn, except that readiness says `draining` from the moment of SIGTERM."""

    def __init__(self, config: uvicorn.Config, service: shoal.Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.drain()
        super().handle_exit(sig, frame)


def _bound(port: int) -> socket.socket:
    """The lab keeps the port reserved with the same options, and never listens on it."""
    # With the protocol named: asyncio sends small writes at once (TCP_NODELAY) only where it is, and an answer in two
    # writes would otherwise wait 40 ms for the other side's delayed acknowledgement.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def block(seconds: float) -> None:
    """Do what a careless handler does: wait on the event loop. Of Python, so that the stall report names it."""
    time.sleep(seconds)


def _listen_to_the_lab(app: App, loop: asyncio.AbstractEventLoop) -> None:
    for line in sys.stdin:
        order, _, argument = line.strip().partition(" ")
        if order == "block-loop":
            loop.call_soon_threadsafe(block, float(argument))
        else:
            loop.call_soon_threadsafe(app.order, order)
    os._exit(1)


async def serve(settings: PodSettings) -> None:
    """Serve until SIGTERM."""
    app = SERVICES[settings.service](settings)
    loop = asyncio.get_running_loop()
    threading.Thread(target=_listen_to_the_lab, args=(app, loop), name="lab-orders", daemon=True).start()
    config = uvicorn.Config(app.asgi, lifespan="on", log_level="warning", access_log=False)
    with _bound(settings.app_port) as web, _bound(settings.probe_port) as probes:
        async with app.service.running(sock=probes):
            await _Server(config, app.service).serve(sockets=[web])


def main() -> None:
    """Run the replica that the environment describes."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(serve(PodSettings.from_environment()))


if __name__ == "__main__":
    main()
