import asyncio
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from shoal_lab.errors import PlatformError
from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.process import Process

Eventually = Callable[..., Awaitable[None]]
Run = Callable[..., Awaitable[Process]]


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie: who reaps an orphan is the machine's business."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def run(janitor: Janitor, tmp_path: Path) -> Run:
    """Start Python code as a process called `server`."""

    async def start(code: str, argv: Sequence[str] = (), **options: Any) -> Process:
        return await Process.start(
            [sys.executable, "-c", code, *argv],
            name="server",
            log=tmp_path / "logs" / "server.log",
            janitor=janitor,
            **options,
        )

    return start


IGNORES_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)
EXITS_WITH_5 = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); print('up', flush=True); "
    "time.sleep(60)"
)
HAS_A_CHILD = (
    "import subprocess, sys, time; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); "
    "sys.argv[1:] and sys.exit(3); time.sleep(60)"
)


async def test_a_process_that_ends_tells_its_status_and_its_last_words(run: Run) -> None:
    process = await run(
        "import sys; [print(i, flush=True) for i in range(30)]; print('no database', file=sys.stderr); sys.exit(7)"
    )

    assert await process.wait() == 7
    assert process.returncode == 7
    assert process.log_tail(lines=2) == "29\nno database"


async def test_a_restarted_process_appends_to_its_log(run: Run) -> None:
    for word in ("first", "second"):
        process = await run(f"print({word!r})")
        await process.wait()

    assert process.log_tail() == "first\nsecond"


async def test_the_tail_of_a_log_that_is_not_there_is_empty(run: Run) -> None:
    process = await run("")
    await process.wait()
    process.log.unlink()

    assert process.log_tail() == ""


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["/nonexistent/server"], "db: cannot run /nonexistent/server: No such file or directory"),
        (["/etc/passwd"], "db: cannot run /etc/passwd: Permission denied"),
    ],
    ids=["missing", "not-executable"],
)
async def test_a_program_that_cannot_be_executed_is_named_with_the_reason(
    janitor: Janitor, tmp_path: Path, argv: list[str], says: str
) -> None:
    with pytest.raises(PlatformError) as caught:
        await Process.start(argv, name="db", log=tmp_path / "log", janitor=janitor, stdin=True)

    assert str(caught.value) == says


async def test_terminate_lets_a_process_end_by_itself(run: Run, eventually: Eventually) -> None:
    process = await run(EXITS_WITH_5)
    await eventually(lambda: process.log_tail() == "up")

    await process.terminate(grace=30.0)

    assert process.returncode == 5


async def test_terminate_kills_what_does_not_end_within_its_grace(run: Run, eventually: Eventually) -> None:
    process = await run(IGNORES_SIGTERM)
    await eventually(lambda: process.log_tail() == "ready")

    began = time.monotonic()
    await process.terminate(grace=0.2)

    assert process.returncode == -signal.SIGKILL
    assert time.monotonic() - began >= 0.2


async def test_a_cancelled_terminate_kills_at_once(run: Run, eventually: Eventually) -> None:
    process = await run(IGNORES_SIGTERM)
    await eventually(lambda: process.log_tail() == "ready")

    ending = asyncio.create_task(process.terminate(grace=60.0))
    await asyncio.sleep(0)
    ending.cancel()

    assert await process.wait() == -signal.SIGKILL
    with pytest.raises(asyncio.CancelledError):
        await ending


async def test_terminating_twice_and_after_the_end_does_nothing(run: Run) -> None:
    process = await run("")
    await process.wait()

    await process.terminate(grace=1.0)
    process.kill()

    assert process.returncode == 0


@pytest.mark.parametrize("argv", [(), ("exit",)], ids=["killed", "leader-exits"])
async def test_a_process_takes_its_children_with_it(run: Run, eventually: Eventually, argv: Sequence[str]) -> None:
    process = await run(HAS_A_CHILD, argv)
    await eventually(process.log_tail)
    child = int(process.log_tail())

    if not argv:
        process.kill()
    await process.wait()

    await eventually(lambda: not alive(child))


async def test_a_cancelled_wait_leaves_the_process_alone(run: Run) -> None:
    process = await run("input()", stdin=True)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(process.wait(), 0.01)
    process.send_line("go")

    assert await process.wait() == 0


async def test_lines_reach_a_process_that_reads_them(run: Run) -> None:
    process = await run("print(input() + input())", stdin=True)

    process.send_line("block ")
    process.send_line("loop")
    await process.wait()

    assert process.log_tail() == "block loop"
    with pytest.raises(PlatformError, match="server: nothing can be sent, it has ended"):
        process.send_line("more")


async def test_a_process_that_reads_nothing_does_not_block_the_lab(run: Run) -> None:
    process = await run("import time; time.sleep(60)", stdin=True)

    with pytest.raises(PlatformError, match="it reads nothing"):
        deque(map(process.send_line, repeat("x" * 4000, 100)))

    process.kill()
    await process.wait()


async def test_without_stdin_a_process_reads_end_of_file(run: Run) -> None:
    process = await run("import sys; print(repr(sys.stdin.read()))")
    await process.wait()

    assert process.log_tail() == "''"
    with pytest.raises(PlatformError, match="stdin=True"):
        process.send_line("x")


async def test_a_process_is_in_a_group_of_its_own(run: Run) -> None:
    """So that Ctrl-C in the terminal is for the lab alone."""
    process = await run("import time; time.sleep(60)")

    assert os.getpgid(process.pid) == process.pid != os.getpgrp()

    process.kill()
    await process.wait()


async def test_environment_and_descriptors_are_handed_over(run: Run) -> None:
    reader, writer = os.pipe()

    process = await run(
        f"import os; os.write({writer}, os.environ['COLOUR'].encode())", env={"COLOUR": "green"}, pass_fds=[writer]
    )
    await process.wait()
    os.close(writer)

    assert os.read(reader, 100) == b"green"
    os.close(reader)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a process as somebody else")
async def test_a_process_can_run_as_another_user_without_our_groups(janitor: Janitor, tmp_path: Path) -> None:
    process = await Process.start(
        ["sh", "-c", "id -u; id -G"], name="db", log=tmp_path / "log", janitor=janitor, user=65534, group=65533
    )
    await process.wait()

    assert process.log_tail() == "65534\n65533"


async def test_a_process_nobody_would_clean_up_after_is_not_started(tmp_path: Path, eventually: Eventually) -> None:
    pid_file = tmp_path / "pid"

    with pytest.raises(PlatformError, match="the janitor is not running"):
        await Process.start(
            ["sh", "-c", f"echo $$ > {pid_file}; sleep 60"], name="server", log=tmp_path / "log", janitor=Janitor()
        )

    await eventually(lambda: not pid_file.exists() or not alive(int(pid_file.read_text() or 0)))
