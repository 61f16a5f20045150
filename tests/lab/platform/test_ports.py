import socket

import pytest

from shoal_lab.errors import PlatformError
from shoal_lab.platform.ports import Reservation, reserve


def test_a_reserved_port_refuses_connections() -> None:
    with reserve() as reservation, socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(reservation.address)


@pytest.mark.parametrize("option", [socket.SO_REUSEADDR, socket.SO_REUSEPORT], ids=["reuse-addr", "reuse-port"])
def test_a_server_may_listen_on_a_reserved_port_again_and_again(option: int) -> None:
    """A pod restarts at the same address; between two servers the address refuses."""
    with reserve() as reservation:
        for _ in range(3):
            with socket.socket() as server, socket.socket() as client:
                server.setsockopt(socket.SOL_SOCKET, option, 1)
                server.bind(reservation.address)
                server.listen()
                client.connect(reservation.address)
            with socket.socket() as client:
                assert client.connect_ex(reservation.address) != 0


def test_a_reserved_port_is_given_to_nobody_else() -> None:
    first = [reserve() for _ in range(400)]
    second = [reserve() for _ in range(400)]
    for reservation in first + second:
        reservation.close()

    assert len({reservation.port for reservation in first + second}) == 800


def test_a_closed_reservation_gives_the_port_back() -> None:
    reservation = reserve()
    reservation.close()
    reservation.close()

    with socket.socket() as server:
        server.bind(reservation.address)


def test_a_reservation_reads_as_its_address() -> None:
    with reserve() as reservation:
        assert str(reservation) == f"127.0.0.1:{reservation.port}"
        assert reservation.address == ("127.0.0.1", reservation.port)


def test_a_host_that_is_not_ours_cannot_be_reserved() -> None:
    with pytest.raises(PlatformError, match=r"no port can be reserved on 192\.0\.2\.1"):
        Reservation("192.0.2.1")
