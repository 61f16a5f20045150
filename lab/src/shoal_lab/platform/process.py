"""One operating-system process of the platform, with its group, its log and its end."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from shoal_lab.errors import PlatformError

from .janitor import Janitor

_TAIL_BYTES = 16_384


class Process:
    """A child in a process group of its own: Ctrl-C in the terminal does not reach it, and it ends with all it started.

    Made by `start`. When the leader of the group ends, whatever is left of the group is killed, and the janitor
    forgets it.
    """

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, *, log: Path, janitor: Janitor, stdin: int | None
    ) -> None:
        self.name = name
        self.log = log
        self.pid: int = process.pid
        self._process = process
        self._janitor = janitor
        self._stdin = stdin
        self._ended = asyncio.create_task(self._reap(), name=f"reap {name}")

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        name: str,
        log: Path,
        janitor: Janitor,
        env: Mapping[str, str] | None = None,
        user: int | None = None,
        group: int | None = None,
        stdin: bool = False,
        pass_fds: Iterable[int] = (),
    ) -> Self:
        """Run *argv*, both outputs appended to *log*.

        *env* replaces the whole environment (`None`: ours); *user* and *group* are numeric ids to run as; *stdin*
        says that `send_line` will be used, else the child reads end-of-file. Raises `PlatformError`, naming the
        program and the system's reason, if it cannot be executed.
        """
        reader, writer = os.pipe() if stdin else (None, None)
        process: asyncio.subprocess.Process | None = None
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=subprocess.DEVNULL if reader is None else reader,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=env,
                    user=user,
                    group=group,
                    extra_groups=None if user is None else [],
                    pass_fds=tuple(pass_fds),
                    process_group=0,
                )
            janitor.track(process.pid)
            if writer is not None:
                os.set_blocking(writer, False)
        except BaseException as error:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
            if writer is not None:
                os.close(writer)
            if isinstance(error, OSError):
                raise PlatformError(f"{name}: cannot run {argv[0]}: {error.strerror or error}") from error
            raise
        finally:
            if reader is not None:
                os.close(reader)
        return cls(name, process, log=log, janitor=janitor, stdin=writer)

    @property
    def returncode(self) -> int | None:
        """Exit status, negative signal number if a signal ended it, `None` while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for the end and return `returncode`. Cancelling the wait does no harm to the process."""
        return await asyncio.shield(self._ended)

    async def terminate(self, grace: float, *, first: signal.Signals = signal.SIGTERM) -> None:
        """Ask the process to end, and kill its whole group if it has not after *grace* seconds.

        *first* goes to the process alone, as the kubelet and a service manager send it: PostgreSQL, for one, wants to
        tell its children itself. If the caller is cancelled meanwhile the group is killed at once.
        """
        self.send_signal(first)
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            self.kill()
        except BaseException:
            self.kill()
            raise
        await self.wait()

    def kill(self) -> None:
        """SIGKILL to the whole group; nothing happens if it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone; nothing happens if it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def send_line(self, text: str) -> None:
        """Write one line to the process's standard input.

        Raises `PlatformError` if it was started without `stdin=True`, has ended, or does not read what it is sent.
        """
        if self._stdin is None:
            raise PlatformError(f"{self.name}: nothing can be sent, it has ended or was started without stdin=True")
        try:
            os.write(self._stdin, f"{text}\n".encode())
        except OSError as error:
            reason = "it reads nothing" if isinstance(error, BlockingIOError) else error.strerror
            raise PlatformError(f"{self.name}: cannot send {text!r}: {reason}") from error

    def log_tail(self, lines: int = 12) -> str:
        """The last *lines* lines of the log, for an error message; empty if there are none."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    async def _reap(self) -> int:
        returncode = await self._process.wait()
        # The number of a group is not given out again while the group has members, so this hits our own or nobody.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._janitor.forget(self.pid)
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None
        return returncode
