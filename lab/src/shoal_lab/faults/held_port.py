"""A port that stays ours whether we listen on it or not."""

from __future__ import annotations

import socket

from shoal_lab.errors import PlatformError

HOST = "127.0.0.1"
BACKLOG = 1024
"""Connections the kernel takes for us while we do not accept (at most net.core.somaxconn): what `hang` can hold."""


class HeldPort:
    """A port of 127.0.0.1, held by a bound socket that never listens, until `close`.

    A listener shares it by SO_REUSEPORT. While there is none, connections are refused and nobody else is given the
    number. Raises `PlatformError` if *port* (0: any) cannot be had.
    """

    __slots__ = ("_holder", "port")

    def __init__(self, port: int = 0) -> None:
        self._holder = _bound(port)
        self.port: int = self._holder.getsockname()[1]

    def listener(self) -> socket.socket:
        """A new socket that listens, without blocking; the caller closes it."""
        listener = _bound(self.port)
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise PlatformError(f"cannot listen on {HOST}:{self.port}: {error.strerror or error}") from error
        listener.settimeout(0.0)
        return listener

    def close(self) -> None:
        """Give the port back."""
        self._holder.close()


def _bound(port: int) -> socket.socket:
    # With the protocol named: asyncio sets TCP_NODELAY on accepted connections only where it is.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((HOST, port))
    except OSError as error:
        bound.close()
        raise PlatformError(f"cannot bind {HOST}:{port or 'any port'}: {error.strerror or error}") from error
    return bound
