"""The probe server: it answers, whatever its clients and its answers do."""

from __future__ import annotations

import contextlib
import errno
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from http.client import HTTPConnection

import pytest

from shoal.health import Answers, ProbeAnswer, ProbeServer

Serve = Callable[..., ProbeServer]
Say = Callable[[ProbeServer, bytes], bytes]

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: pod\r\n\r\n"


@contextlib.contextmanager
def connections(server: ProbeServer, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(server.address, timeout=5)) for _ in range(count)]


def closed(client: socket.socket) -> bool:
    """Whether the server ends the connection, without an answer."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def talk_on(client: socket.socket) -> None:
    for _ in range(500):
        client.sendall(b"and another thing ")
        time.sleep(0.01)


class TestAnswering:
    def test_an_ordinary_http_client_is_answered(self, serve: Serve, live: Answers) -> None:
        connection = HTTPConnection(*serve(live).address, timeout=5)
        connection.request("GET", "/livez", headers={"User-Agent": "kube-probe/1.34"})
        response = connection.getresponse()

        assert (response.status, response.read()) == (200, b'{"path": "/livez"}\n')
        connection.close()

    def test_an_unknown_path_is_not_found(self, serve: Serve, say: Say, live: Answers) -> None:
        assert say(serve(live), b"GET /nothing HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404 Not Found\r\n")

    def test_a_request_in_pieces_is_put_together(self, serve: Serve, live: Answers) -> None:
        with connections(serve(live), 1) as [client]:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in LIVEZ:
                client.sendall(bytes([byte]))
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_a_large_answer_arrives_whole(self, serve: Serve, say: Say) -> None:
        body = b"x" * 3_000_000
        server = serve(lambda path: ProbeAnswer(200, body, "text/plain"))

        assert say(server, LIVEZ).endswith(b"\r\n\r\n" + body)

    def test_one_connection_is_one_answer(self, serve: Serve, say: Say, live: Answers) -> None:
        assert say(serve(live), LIVEZ + LIVEZ).count(b"HTTP/1.1 ") == 1

    @pytest.mark.parametrize("rest", [b"\x00\xff" * 100, b"A" * 60_000], ids=["a little", "a lot"])
    def test_garbage_behind_a_request_does_not_lose_the_answer(
        self, serve: Serve, say: Say, live: Answers, rest: bytes
    ) -> None:
        assert say(serve(live), LIVEZ + rest).endswith(b'{"path": "/livez"}\n')

    def test_an_oversized_request_is_told_so(self, serve: Serve, say: Say, live: Answers) -> None:
        answer = say(serve(live), b"GET /livez HTTP/1.1\r\nX: " + b"y" * 20_000)

        assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


class TestAnswersThatFail:
    @pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()], ids=repr)
    def test_an_exception_is_a_500_and_the_server_goes_on(
        self, serve: Serve, say: Say, error: BaseException, caplog: pytest.LogCaptureFixture
    ) -> None:
        def answers(path: str) -> ProbeAnswer:
            if path.startswith("/broken"):
                raise error
            return ProbeAnswer.of(200, {})

        server = serve(answers)
        broken = say(server, b"GET /broken?token=abc HTTP/1.1\r\n\r\n")

        assert broken.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert type(error).__name__.encode() in broken
        assert "/broken" in caplog.text
        assert "abc" not in caplog.text
        assert say(server, LIVEZ).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_an_answer_to_come_holds_up_no_other(self, serve: Serve, say: Say) -> None:
        later: Future[ProbeAnswer] = Future()
        server = serve(lambda path: later if path == "/later" else ProbeAnswer.of(200, {"now": True}))

        with connections(server, 1) as [waiting]:
            waiting.sendall(b"GET /later HTTP/1.1\r\n\r\n")
            meanwhile = say(server, LIVEZ)
            later.set_result(ProbeAnswer.of(503, {"later": True}))

            assert meanwhile.endswith(b'{"now": true}\n')
            assert waiting.recv(4096).endswith(b'{"later": true}\n')

    def test_an_answer_that_is_there_already_is_sent(self, serve: Serve, say: Say) -> None:
        done: Future[ProbeAnswer] = Future()
        done.set_result(ProbeAnswer.of(200, {"done": True}))

        assert say(serve(lambda path: done), LIVEZ).endswith(b'{"done": true}\n')

    @pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "raised"])
    def test_an_answer_that_never_comes_right_is_a_500(self, serve: Serve, say: Say, cancelled: bool) -> None:
        broken: Future[ProbeAnswer] = Future()
        if cancelled:
            broken.cancel()
        else:
            broken.set_exception(ValueError("no"))

        assert say(serve(lambda path: broken), LIVEZ).startswith(b"HTTP/1.1 500 ")

    def test_a_client_that_does_not_wait_for_its_answer_does_no_harm(self, serve: Serve, say: Say) -> None:
        asked = threading.Event()
        later: Future[ProbeAnswer] = Future()

        def answers(path: str) -> ProbeAnswer | Future[ProbeAnswer]:
            if path != "/later":
                return ProbeAnswer.of(200, {})
            asked.set()
            return later

        server = serve(answers, max_clients=1)
        with connections(server, 1) as [waiting]:
            waiting.sendall(b"GET /later HTTP/1.1\r\n\r\n")
            assert asked.wait(5)
        say(server, LIVEZ)
        later.set_result(ProbeAnswer.of(200, {}))

        assert say(server, LIVEZ).startswith(b"HTTP/1.1 200 OK\r\n")


class TestClientsThatMisbehave:
    def test_slow_clients_do_not_keep_a_prompt_one_out(self, serve: Serve, say: Say, live: Answers) -> None:
        server = serve(live, max_clients=8, client_timeout=60.0)

        with connections(server, 40) as slow:
            for client in slow:
                # Some were dropped already, to make room for the others.
                with contextlib.suppress(OSError):
                    client.sendall(b"GET /livez HTT")

            assert say(server, LIVEZ).startswith(b"HTTP/1.1 200 OK\r\n")
            assert closed(slow[0])

    def test_a_client_that_sends_nothing_is_dropped(self, serve: Serve, live: Answers) -> None:
        with connections(serve(live, client_timeout=0.05), 1) as [client]:
            assert closed(client)

    def test_a_client_that_never_reads_is_dropped(self, serve: Serve, say: Say) -> None:
        server = serve(lambda path: ProbeAnswer(200, b"x" * 50_000_000, "text/plain"), client_timeout=0.2)

        with connections(server, 1) as [client]:
            client.sendall(LIVEZ)
            # Asked again only after the first client's time is over: served means the thread is not stuck in sending.
            time.sleep(0.3)
            assert say(server, b"HEAD /livez HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
            with contextlib.suppress(ConnectionResetError):
                # Whatever fitted between the two arrives, and then the end, before the answer is whole.
                assert sum(len(chunk) for chunk in iter(lambda: client.recv(1 << 20), b"")) < 50_000_000

    def test_a_client_that_never_closes_is_dropped(self, serve: Serve, live: Answers) -> None:
        with connections(serve(live, client_timeout=0.1), 1) as [client]:
            client.sendall(LIVEZ)
            assert b"".join(iter(lambda: client.recv(4096), b"")).startswith(b"HTTP/1.1 200")

            with pytest.raises(OSError, match=r"reset|Broken pipe"):
                talk_on(client)

    def test_a_flood_of_rubbish_is_survived(self, serve: Serve, say: Say, live: Answers) -> None:
        server = serve(live)
        for n in range(300):
            with connections(server, 1) as [client], contextlib.suppress(OSError):
                client.sendall([b"", b"\xff" * 100, b"GET", LIVEZ, b"\r\n" * 50, b"A" * 9000][n % 6])
                if n % 2:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        assert say(server, LIVEZ).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_many_at_once_are_all_answered(self, serve: Serve, live: Answers) -> None:
        with connections(serve(live), 60) as clients:
            for client in clients:
                client.sendall(LIVEZ)

            assert all(client.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n") for client in clients)

    def test_no_descriptors_left_is_survived(
        self, serve: Serve, say: Say, live: Answers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusals = iter([errno.EMFILE, errno.ENFILE, errno.ECONNABORTED])
        accept = socket.socket.accept

        def scarce(sock: socket.socket) -> tuple[socket.socket, object]:
            if (code := next(refusals, None)) is not None:
                raise OSError(code, "none left")
            return accept(sock)

        server = serve(live)
        monkeypatch.setattr(socket.socket, "accept", scarce)

        assert say(server, LIVEZ).startswith(b"HTTP/1.1 200 OK\r\n")
        assert next(refusals, None) is None

    def test_where_descriptors_are_short_the_client_connected_longest_makes_room(
        self, serve: Serve, say: Say, live: Answers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = serve(live, client_timeout=60.0)
        accept = socket.socket.accept
        refusals = iter([errno.EMFILE])

        def scarce(sock: socket.socket) -> tuple[socket.socket, object]:
            if (code := next(refusals, None)) is not None:
                raise OSError(code, "none left")
            return accept(sock)

        with connections(server, 1) as [idle]:
            # An answer to a later client means that this one has been accepted.
            say(server, LIVEZ)
            monkeypatch.setattr(socket.socket, "accept", scarce)

            assert say(server, LIVEZ).startswith(b"HTTP/1.1 200 OK\r\n")
            assert closed(idle)


class TestStartAndStop:
    def test_when_start_returns_connections_are_accepted(self, live: Answers, say: Say) -> None:
        server = ProbeServer(live, host="127.0.0.1", port=0)
        server.start()

        assert say(server, LIVEZ).startswith(b"HTTP/1.1 200 OK\r\n")
        server.stop()

    def test_it_can_be_started_again_on_the_same_port(self, live: Answers, say: Say) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = ProbeServer(live, host="127.0.0.1", port=port)

        for _ in range(3):
            server.start()
            assert say(server, LIVEZ).startswith(b"HTTP/1.1 200 OK\r\n")
            server.stop()

    def test_stop_closes_the_port_the_clients_and_the_thread(self, live: Answers) -> None:
        server = ProbeServer(live, host="127.0.0.1", port=0)
        server.start()
        with connections(server, 1) as [client]:
            client.sendall(b"GET /li")
            server.stop()

            assert closed(client)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.address, timeout=5)
        assert not [thread for thread in threading.enumerate() if thread.name == "shoal-probes"]
        # Anything left open would be reported here, and pytest makes that an error.
        gc.collect()

    def test_stopping_twice_or_before_the_start_does_nothing(self, live: Answers) -> None:
        server = ProbeServer(live, host="127.0.0.1", port=0)
        server.stop()
        server.start()
        server.stop()
        server.stop()

    def test_starting_twice_is_refused(self, serve: Serve, live: Answers) -> None:
        server = serve(live)

        with pytest.raises(RuntimeError, match="running"):
            server.start()

    def test_a_port_in_use_is_named_with_what_to_do(self, serve: Serve, live: Answers) -> None:
        host, port = serve(live).address

        with pytest.raises(
            OSError, match=f"probes cannot be served on {host}:{port}: .*in use; free the port"
        ) as caught:
            ProbeServer(live, host=host, port=port).start()

        assert caught.value.errno == errno.EADDRINUSE

    def test_a_host_that_is_not_ours_is_named(self, live: Answers) -> None:
        with pytest.raises(OSError, match=r"192\.0\.2\.1:0"):
            ProbeServer(live, host="192.0.2.1", port=0).start()

    def test_a_bound_socket_is_served_and_closed(self, live: Answers, say: Say) -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = ProbeServer(live, sock=sock)
        server.start()

        assert server.address == sock.getsockname()
        assert say(server, LIVEZ).startswith(b"HTTP/1.1 200 OK\r\n")
        server.stop()
        assert sock.fileno() == -1
        with pytest.raises(RuntimeError, match="make a new ProbeServer"):
            server.start()

    def test_it_serves_ipv6(self, live: Answers) -> None:
        if not socket.has_ipv6:
            pytest.skip("no IPv6 here")
        server = ProbeServer(live, host="::1", port=0)
        try:
            server.start()
        except OSError:
            pytest.skip("no IPv6 loopback here")
        with socket.create_connection(server.address, timeout=5) as client:
            client.sendall(LIVEZ)
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
        server.stop()

    def test_there_is_no_address_before_the_start(self, live: Answers) -> None:
        with pytest.raises(RuntimeError, match="call start"):
            _ = ProbeServer(live).address

    @pytest.mark.parametrize(("timeout", "clients"), [(0.0, 1), (1.0, 0)], ids=["no time", "no clients"])
    def test_limits_are_above_zero(self, live: Answers, timeout: float, clients: int) -> None:
        with pytest.raises(ValueError, match="above 0"):
            ProbeServer(live, client_timeout=timeout, max_clients=clients)
