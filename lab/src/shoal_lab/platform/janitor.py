"""What must be gone when the lab is gone, however it ends: even SIGKILL leaves no process and no directory behind."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from shoal_lab.errors import PlatformError

_SWEEPER = Path(__file__).with_name("_sweeper.py")
_PATIENCE = 10.0
"""Seconds the sweeper may take to kill and remove before it is killed itself."""


class Janitor:
    """Cleans up after a lab that died.

    A small child process, in a session of its own so that Ctrl-C in the terminal does not reach it, holds the read
    end of a pipe. The kernel closes the other end when the lab ends for whatever reason; the child then sends SIGKILL
    to every process group still tracked and removes the run directory.
    """

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._pipe: int | None = None

    async def start(self, run_dir: Path) -> Self:
        """Watch over this process from now on; *run_dir* is made if need be and belongs to the janitor, with all in it.

        Raises `PlatformError` if the child cannot be started, or runs already.
        """
        if self._process is not None:
            raise PlatformError(f"the janitor is started already, its child has process id {self._process.pid}")
        reader, self._pipe = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_SWEEPER), str(_made(run_dir)), str(os.getpid())),
                stdin=reader,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
            await _ready(self._process)
        except BaseException as error:
            os.close(self._pipe)
            self._pipe = self._process = None
            if isinstance(error, OSError):
                raise PlatformError(f"the janitor of {run_dir} would not start: {error}") from error
            raise
        finally:
            os.close(reader)
        return self

    @property
    def pid(self) -> int | None:
        """Process id of the child, `None` before `start` and after `close`."""
        return None if self._process is None else self._process.pid

    def track(self, pid: int) -> None:
        """Process group *pid* is to die with the lab. Raises `PlatformError` if the child is not there to see to it."""
        self._send(f"track {pid}")

    def forget(self, pid: int) -> None:
        """Process group *pid* has ended; its number may be somebody else's soon. Says nothing if the child is gone."""
        with contextlib.suppress(PlatformError):
            self._send(f"forget {pid}")

    async def close(self, *, keep: bool = False) -> None:
        """Have everything still tracked killed and the run directory removed, unless *keep*; then end the child.

        Returns when it is done. May be called again, and before `start`.
        """
        if self._process is None or self._pipe is None:
            return
        if keep:
            with contextlib.suppress(PlatformError):
                self._send("keep")
        os.close(self._pipe)
        self._pipe = None
        try:
            await asyncio.wait_for(self._process.wait(), _PATIENCE)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._process = None

    def _send(self, order: str) -> None:
        if self._pipe is None:
            raise PlatformError(f"the janitor is not running, so nobody would see to `{order}`; start it first")
        try:
            os.write(self._pipe, f"{order}\n".encode())
        except BrokenPipeError as error:
            raise PlatformError("the janitor's child was killed; stop the lab, it can no longer clean up") from error


async def _ready(process: asyncio.subprocess.Process) -> None:
    """The child ignores signals only once it has said so; then it closes its output."""
    if process.stdout is None or not await process.stdout.read():
        raise PlatformError(f"the janitor's child died at once, with status {await process.wait()}")


def _made(run_dir: Path) -> Path:
    run_dir.mkdir(parents=True, exist_ok=True)
    return run_dir.absolute()
