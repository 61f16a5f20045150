"""One address a caller connects to, and the one target behind it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial

from .counters import Counters
from .end import reset_on_close
from .fault import Fault
from .held_port import HOST, HeldPort
from .link import Link
from .wire import Outlets, Wire

logger = logging.getLogger(__name__)

Address = tuple[str, int]

_BATCH = 64
"""Connections accepted before others have a turn."""
_OUT_OF_SOCKETS_PAUSE = 0.2
"""Seconds without accepting when the process has no file descriptor left."""


class Gate:
    """Accepts connections and links each with a new one to *target*.

    While the edge is `down` nothing listens on the port, which stays ours. While it hangs, the kernel takes
    connections (up to `BACKLOG`) and we do not: they cost nothing, and are served when the fault ends.
    """

    def __init__(self, target: Address, *, wire: Callable[[Outlets], Wire], counters: Counters) -> None:
        self.target = target
        self._wire = wire
        self._counters = counters
        self._port: HeldPort | None = None
        self._last_port = 0
        self._listener: socket.socket | None = None
        self._fault: Fault | None = None
        self._accepting = False
        self._pause: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[bool]] = set()
        self._links: set[Link] = set()
        self._idle = asyncio.Event()

    @property
    def address(self) -> Address:
        """Where to connect to; kept over `close` and `start`."""
        if not self._last_port:
            raise RuntimeError(f"the way to {self.target[0]}:{self.target[1]} has no address yet: start() it first")
        return (HOST, self._last_port)

    @property
    def connections(self) -> int:
        """Links that stand."""
        return len(self._links)

    def start(self, fault: Fault | None) -> None:
        """Bind, and listen unless *fault* says otherwise. Raises `PlatformError` if the port cannot be had."""
        if self._port is not None:
            return
        self._port = HeldPort(self._last_port)
        self._last_port = self._port.port
        self.suffer(fault)

    def close(self) -> None:
        """Reset all connections and give the port back."""
        self._refuse()
        self._reset()
        if self._port is not None:
            self._port.close()
            self._port = None

    async def wait_closed(self) -> None:
        """After `close`: until all sockets are closed. Depends on no peer, only on a few turns of the event loop."""
        await asyncio.gather(*self._opening, return_exceptions=True)
        while self._links:
            self._idle.clear()
            await self._idle.wait()

    def suffer(self, fault: Fault | None) -> None:
        """Begin, change or (None) end a fault."""
        self._fault = fault
        if fault is not None and fault.kind == "down":
            self._refuse()
            self._counters.resets += self._reset()
            return
        if self._port is None:
            return
        if self._listener is None:
            self._listener = self._port.listener()
        if fault is not None and fault.kind == "hang":
            self._stop_accepting()
        else:
            self._start_accepting()
        for link in self._links:
            link.suffer(fault)

    def _refuse(self) -> None:
        self._stop_accepting()
        if self._listener is not None:
            self._listener.close()  # the kernel resets those it has taken and we have not
            self._listener = None

    def _reset(self) -> int:
        for task in self._opening:
            task.cancel()
        for link in self._links:
            link.reset()
        return len(self._opening) + len(self._links)

    def _start_accepting(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._listener is not None and not self._accepting:
            self._accepting = True
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _stop_accepting(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._listener is not None and self._accepting:
            self._accepting = False
            asyncio.get_running_loop().remove_reader(self._listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                caller, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Without a pause the loop would spin, since the listener stays readable.
                logger.warning("%s:%d takes no connection: %s", *self.address, error)
                self._stop_accepting()
                self._pause = asyncio.get_running_loop().call_later(_OUT_OF_SOCKETS_PAUSE, self._start_accepting)
                return
            self._counters.connections += 1
            caller.settimeout(0.0)
            link = Link(wire=self._wire, counters=self._counters, on_closed=self._closed)
            task = asyncio.create_task(self._open(link, caller))
            self._opening.add(task)
            # Not a `finally` in the task: one that is cancelled before its first step never enters it.
            task.add_done_callback(partial(self._opened, link, caller))

    async def _open(self, link: Link, caller: socket.socket) -> bool:
        """Connect to the target first: until that stands, the caller's bytes wait in the kernel."""
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: link.target, *self.target)
        except (OSError, UnicodeError):  # the latter: a host name that cannot be one
            self._counters.unreachable += 1
            return False
        await loop.connect_accepted_socket(lambda: link.caller, caller)
        self._links.add(link)
        link.suffer(self._fault)
        link.start()
        return True

    def _opened(self, link: Link, caller: socket.socket, task: asyncio.Task[bool]) -> None:
        self._opening.discard(task)
        if task.cancelled() or not task.result():
            reset_on_close(caller)
            link.reset()
            if not link.caller.is_connected:
                caller.close()

    def _closed(self, link: Link) -> None:
        self._links.discard(link)
        if not self._links:
            self._idle.set()
