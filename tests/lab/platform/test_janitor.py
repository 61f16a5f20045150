import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from shoal_lab.errors import PlatformError
from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.process import Process

Eventually = Callable[..., Awaitable[None]]

# A lab in miniature: it prints the janitor's and its child's process ids, then does as it is told.
LAB = """
import asyncio, os, sys, time
from pathlib import Path
from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.process import Process

async def main():
    run_dir = Path(sys.argv[1])
    janitor = Janitor()
    await janitor.start(run_dir)
    child = await Process.start(["sleep", "600"], name="child", log=run_dir / "child.log", janitor=janitor)
    fork = os.fork() if "fork" in sys.argv else 0
    if fork == 0 and "fork" in sys.argv:
        time.sleep(600)
    print(janitor.pid, child.pid, fork, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie: who reaps an orphan is the machine's business."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def start_lab(run_dir: Path, *words: str) -> tuple[asyncio.subprocess.Process, int, int, int]:
    """The lab, its janitor, its child and its fork."""
    lab = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LAB, str(run_dir), *words), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert lab.stdout is not None
    sweeper, child, fork = (int(pid) for pid in (await lab.stdout.readline()).split())
    return lab, sweeper, child, fork


async def ended(lab: asyncio.subprocess.Process) -> None:
    """Wait for its end, and for that of its output, which asyncio would complain about."""
    assert lab.stdout is not None
    await lab.stdout.read()
    await lab.wait()


async def test_a_killed_lab_leaves_no_process_and_no_directory(tmp_path: Path, eventually: Eventually) -> None:
    run_dir = tmp_path / "run"
    lab, sweeper, child, _ = await start_lab(run_dir)
    assert alive(child)
    assert run_dir.exists()

    lab.kill()
    await ended(lab)

    await eventually(lambda: not (alive(child) or run_dir.exists() or alive(sweeper)))


async def test_a_fork_that_holds_the_pipe_open_does_not_keep_the_janitor_waiting(
    tmp_path: Path, eventually: Eventually
) -> None:
    run_dir = tmp_path / "run"
    lab, sweeper, child, fork = await start_lab(run_dir, "fork")

    os.kill(lab.pid, signal.SIGKILL)
    await eventually(lambda: not (alive(child) or run_dir.exists() or alive(sweeper)))

    assert alive(fork)
    os.kill(fork, signal.SIGKILL)
    await ended(lab)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signals_to_the_terminal_group_do_not_reach_the_janitor(
    tmp_path: Path, eventually: Eventually, number: signal.Signals
) -> None:
    """Ctrl-C goes to every process of the terminal's group; the janitor has to outlive the lab."""
    run_dir = tmp_path / "run"
    lab, sweeper, child, _ = await start_lab(run_dir)

    os.killpg(lab.pid, number)
    os.kill(sweeper, number)
    await ended(lab)

    await eventually(lambda: not (alive(child) or run_dir.exists() or alive(sweeper)))


async def test_close_kills_what_is_still_tracked_and_removes_the_directory(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    janitor = await Janitor().start(run_dir)
    process = await Process.start(["sleep", "600"], name="x", log=run_dir / "deep" / "x.log", janitor=janitor)
    sweeper = janitor.pid
    assert sweeper is not None

    await janitor.close()
    await janitor.close()

    assert await process.wait() == -signal.SIGKILL
    assert not run_dir.exists()
    assert not alive(sweeper)
    assert janitor.pid is None


async def test_close_can_keep_the_directory(tmp_path: Path) -> None:
    janitor = await Janitor().start(tmp_path / "run")
    (tmp_path / "run" / "pod.log").write_text("evidence")

    await janitor.close(keep=True)

    assert (tmp_path / "run" / "pod.log").read_text() == "evidence"


async def test_a_forgotten_group_is_left_alone(tmp_path: Path) -> None:
    """Its number may be somebody else's by then."""
    janitor = await Janitor().start(tmp_path / "run")
    bystander = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    janitor.track(bystander.pid)
    janitor.forget(bystander.pid)

    await janitor.close()

    assert bystander.returncode is None
    assert alive(bystander.pid)
    bystander.kill()
    await bystander.wait()


async def test_a_janitor_that_was_killed_is_missed(tmp_path: Path, eventually: Eventually) -> None:
    janitor = await Janitor().start(tmp_path / "run")
    assert janitor.pid is not None
    os.kill(janitor.pid, signal.SIGKILL)
    await eventually(lambda: not alive(janitor.pid or 0))

    with pytest.raises(PlatformError, match="the janitor's child was killed"):
        janitor.track(1)
    janitor.forget(1)
    await janitor.close()


async def test_a_janitor_not_started_tracks_nothing(tmp_path: Path) -> None:
    janitor = Janitor()

    with pytest.raises(PlatformError, match="start it first"):
        janitor.track(1)
    await janitor.close()


async def test_a_janitor_starts_once(janitor: Janitor, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="is started already"):
        await janitor.start(tmp_path / "other")


async def test_a_run_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(PlatformError, match=r"the janitor of .*file/run would not start"):
        await Janitor().start(tmp_path / "file" / "run")
