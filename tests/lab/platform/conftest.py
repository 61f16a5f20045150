"""Fixtures for tests that start real processes: a janitor, and waiting for what happens in another process."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.template import PodIdentity
from shoal_lab.record import EventKind

Eventually = Callable[..., Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """`await eventually(condition, within=10.0)`: poll until it holds, fail the test if it does not in time."""

    async def wait(condition: Callable[[], object], *, within: float = 10.0) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"not within {within} s"
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
async def janitor(tmp_path: Path) -> AsyncIterator[Janitor]:
    """A janitor whose run directory is `tmp_path / "run"`; whatever a failed test leaves running is killed by it."""
    janitor = Janitor()
    await janitor.start(tmp_path / "run")
    yield janitor
    await janitor.close()


# A service in miniature. It prints every path it is asked for; what it answers stands in a file.
SERVER = """
import json, os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

app_port, probe_port, steer, revision = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]

def steered():
    with open(steer) as file:
        answers = json.load(file)
    return {**answers, **answers.get(revision, {})}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, flush=True)
        status = steered().get(self.path, 200)
        body = b"fine" if status == 200 else b"auth is away"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

def orders():
    for line in sys.stdin:
        os._exit(int(line))

if "exit" in steered():
    print("no database", file=sys.stderr)
    sys.exit(steered()["exit"])
# Blocked here and in every thread that follows, so that it waits for sigwait below.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
threading.Thread(target=orders, daemon=True).start()
for port in (app_port, probe_port):
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever, daemon=True).start()
while True:
    signal.sigwait({signal.SIGTERM})
    print("SIGTERM", flush=True)
    if steered().get("sigterm") == "linger":
        time.sleep(0.3)
    if steered().get("sigterm") != "ignore":
        os._exit(0)
"""


class Web:
    """Command lines of the service in miniature, and what it is to answer."""

    def __init__(self, steer: Path) -> None:
        self._steer = steer
        self.answers()

    def answers(self, **answers: object) -> None:
        """From now on: status by path (`readyz=503`), or by revision (`v2={"readyz": 503}`); `exit`, `sigterm`."""

        def paths(given: dict[str, object]) -> dict[str, object]:
            return {f"/{key}" if key.endswith("z") else key: value for key, value in given.items()}

        named = {key: paths(value) if isinstance(value, dict) else value for key, value in answers.items()}
        new = self._steer.with_suffix(".new")
        new.write_text(json.dumps(paths(named)))
        new.replace(self._steer)

    def command(self, identity: PodIdentity) -> tuple[list[str], dict[str, str]]:
        """As a template wants it."""
        ports = [str(identity.app_address[1]), str(identity.probe_address[1])]
        return [sys.executable, "-I", "-S", "-c", SERVER, *ports, str(self._steer), identity.revision], {}

    def processes(self) -> set[int]:
        """Process ids of all services in miniature of this test that run."""
        found = set()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and str(self._steer).encode() in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
        return found


@pytest.fixture
def web(tmp_path: Path) -> Web:
    """A small real HTTP server to be run as a pod."""
    return Web(tmp_path / "steer.json")


class Recorded(list[tuple[str, str, str, str]]):
    """Events in their order: kind, service, pod, detail; and when they happened."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def __call__(self, kind: EventKind, service: str, pod: str, detail: str) -> None:
        self.append((kind, service, pod, detail))
        self.times.append(time.monotonic())

    def moments(self, kind: EventKind) -> list[float]:
        """When events of a kind happened."""
        return [at for event, at in zip(self, self.times, strict=True) if event[0] == kind]

    def kinds(self, pod: str = "") -> list[str]:
        """The kinds of the events of one pod, or of the service."""
        return [event[0] for event in self if event[2] == pod]


@pytest.fixture
def recorded() -> Recorded:
    """A `record` callback that can be read."""
    return Recorded()
