"""Addresses that stay ours while nobody listens on them.

A pod keeps its address over restarts, and a connection to an address without a listener is refused at once, as it
is by a Kubernetes Service without endpoints. Both need a port number that no other process can be given meanwhile.
"""

import socket
from types import TracebackType
from typing import Self

from shoal_lab.errors import PlatformError


class Reservation:
    """One TCP port of *host*, held until `close`.

    The port is bound with SO_REUSEADDR and SO_REUSEPORT and does not listen: connections to it are refused, the
    kernel gives the number to nobody else, and a server that sets either option may bind and listen on it.

    >>> with reserve() as reservation, socket.socket() as client:
    ...     client.connect_ex(reservation.address) == 0
    False
    """

    __slots__ = ("_socket", "host", "port")

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind((host, 0))
        except OSError as error:
            self._socket.close()
            raise PlatformError(f"no port can be reserved on {host}: {error.strerror or error}") from error
        self.host = host
        self.port: int = self._socket.getsockname()[1]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as `socket.connect` takes them."""
        return (self.host, self.port)

    def close(self) -> None:
        """Give the port back. A server that listens on it is not disturbed. May be called again."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def reserve(host: str = "127.0.0.1") -> Reservation:
    """A port of *host* that is ours from now on. Raises `PlatformError` if the kernel has none left."""
    return Reservation(host)
