"""A PostgreSQL server of our own: made, started, stopped and removed with the run."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg

from shoal_lab.errors import PlatformError

from .janitor import Janitor
from .ports import reserve
from .postgres_binaries import Account, Binaries, find_binaries, may_enter, server_account
from .process import Process

HOST = "127.0.0.1"
_START_WITHIN = 30.0
"""Seconds until the server must accept connections; on an idle machine it takes 0.2."""
_STOP_WITHIN = 5.0
_POLL = 0.02

_INITDB = (
    *("--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"),
    # The data live for minutes: 1 MB files instead of 16 MB ones spare the disk most of what initdb writes.
    "--wal-segsize=1",
)
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "32MB",
    # A power cut may take the data with it; nobody will ask for them.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # In the data directory rather than in /dev/shm, where a server that was killed would leave it behind.
    "dynamic_shared_memory_type": "mmap",
}


class PostgresServer:
    """A server on a port of 127.0.0.1, which trusts everybody who can connect. Made by `start`, ended by `stop`."""

    def __init__(self, process: Process, *, port: int, binaries: Binaries, version: str, undo: AsyncExitStack) -> None:
        self.port = port
        self.binaries = binaries
        self.version = version
        self._process = process
        self._undo = undo
        self._stopping = False

    @classmethod
    async def start(cls, *, run_dir: Path, janitor: Janitor) -> PostgresServer:
        """Make a data directory, start a server on it and wait until it accepts connections.

        Logs go to `run_dir / "postgres"`, and so do the data if the server's account can get there. Raises what
        `find_binaries` raises, and PlatformError with the end of the log if a program fails. Whatever happens before
        it returns, a cancellation too, is undone.
        """
        account = server_account()
        binaries = find_binaries(account)
        logs = _made(run_dir / "postgres")
        async with AsyncExitStack() as undo:
            home = await _home(logs, account, undo)
            if account is not None and not may_enter(binaries.directory, account):
                # Not in a thread: there it would go on, and leave files, after a cancellation.
                binaries = binaries.copy_to(home / "software")
            data = home / "data"
            await _initdb(binaries, data, account, log=logs / "initdb.log", janitor=janitor)
            port = undo.enter_context(reserve(HOST)).port
            settings = [f"--{name}={value}" for name, value in {**_SETTINGS, "port": str(port)}.items()]
            process = await _run(
                [str(binaries.postgres), "-D", str(data), *settings],
                name="PostgreSQL",
                log=logs / "postgres.log",
                account=account,
                janitor=janitor,
            )
            undo.push_async_callback(_end, process)
            version = await _accepting(process, own_dsn(port))
            _leave_no_segment(data)
            kept = undo.pop_all()
        return cls(process, port=port, binaries=binaries, version=version, undo=kept)

    async def watch(self) -> None:
        """Return when `stop` is called; raise PlatformError with the end of the log if the server dies before."""
        await self._process.wait()
        if not self._stopping:
            raise PlatformError(_obituary(self._process))

    async def stop(self) -> None:
        """Break all connections, end the server, remove its data and give its port back. May be called again."""
        self._stopping = True
        await self._undo.aclose()


def own_dsn(port: int, database: str = "postgres") -> str:
    """How to connect to a server of ours; without TLS, which it does not speak, a client need not ask first."""
    return f"postgresql://postgres@{HOST}:{port}/{database}?sslmode=disable"


async def _home(logs: Path, account: Account | None, undo: AsyncExitStack) -> Path:
    """A directory for data and software; *undo* removes it.

    It lies beside the logs, unless the server's account cannot get there, because the run directory is below the home
    directory of root, say. Then it is a temporary one, with a janitor of its own.
    """
    if account is None or may_enter(logs, account):
        home = logs / "server"
        undo.push_async_callback(asyncio.to_thread, shutil.rmtree, home, ignore_errors=True)
        return _made(home, account)
    janitor = Janitor()
    undo.push_async_callback(janitor.close)
    home = _temporary_directory(account)
    try:
        await janitor.start(home)
    except BaseException:
        shutil.rmtree(home)
        raise
    return _made(home, account)


def _made(directory: Path, account: Account | None = None) -> Path:
    """Make *directory* if need be, so that all may pass through it, and give it to *account*."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o711)
    if account is not None:
        os.chown(directory, account.uid, account.gid)
    return directory.absolute()


def _temporary_directory(account: Account) -> Path:
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108  mkdtemp makes the name safe
        if Path(parent).is_dir() and may_enter(Path(parent), account):
            return Path(tempfile.mkdtemp(prefix="shoal-postgres-", dir=parent))
    raise PlatformError(
        f"PostgreSQL does not run as root, and user {account.uid}, whom it would run as, cannot get into "
        f"{tempfile.gettempdir()}: set TMPDIR to a directory that everybody may enter"
    )


async def _initdb(binaries: Binaries, data: Path, account: Account | None, *, log: Path, janitor: Janitor) -> None:
    process = await _run(
        [str(binaries.initdb), "-D", str(data), *_INITDB], name="initdb", log=log, account=account, janitor=janitor
    )
    try:
        status = await process.wait()
    except BaseException:
        await process.terminate(0.0)
        raise
    if status != 0:
        raise PlatformError(_obituary(process))


async def _run(argv: list[str], *, name: str, log: Path, account: Account | None, janitor: Janitor) -> Process:
    # PGDATA, PGPORT and their kin are about somebody else's server. Given a time zone, initdb need not search for it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return await Process.start(
        # Our working directory may be one the account cannot enter, and initdb insists on finding its way back to it.
        ["/bin/sh", "-c", 'cd / && exec "$0" "$@"', *argv],
        name=name,
        log=log,
        janitor=janitor,
        env={**environment, "LC_ALL": "C", "TZ": "UTC"},
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
    )


async def _end(process: Process) -> None:
    # "Fast shutdown": on SIGTERM it would wait until its clients go by themselves.
    await process.terminate(_STOP_WITHIN, first=signal.SIGINT)


async def _accepting(process: Process, dsn: str) -> str:
    """Wait until the server does, and return its version."""
    try:
        async with asyncio.timeout(_START_WITHIN):
            while True:
                if process.returncode is not None:
                    raise PlatformError(_obituary(process))
                try:
                    return await _version(dsn)
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(_POLL)
    except TimeoutError as error:
        raise PlatformError(
            f"PostgreSQL accepts no connection within {_START_WITHIN:g} s; its log ends:\n{process.log_tail()}"
        ) from error


async def _version(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return first_word(await connection.fetchval("SHOW server_version"))
    finally:
        connection.terminate()


def first_word(version: str) -> str:
    """`15.13` of `15.13 (Debian 15.13-0+deb12u1)`."""
    return version.split(maxsplit=1)[0]


def _leave_no_segment(data: Path) -> None:
    """Have the kernel remove the server's System V shared memory when it ends, since a server that is killed cannot.

    It is 56 bytes, by which servers find out that their data directory is in use, but there are only so many segments
    on a machine. A segment that is removed while it is in use lasts as long as its users. The seventh line of
    `postmaster.pid` is its key and its number.
    """
    try:
        _key, number = (data / "postmaster.pid").read_text().splitlines()[6].split()
        ctypes.CDLL(None).shmctl(int(number), _IPC_RMID, None)
    except (OSError, ValueError, IndexError, AttributeError):
        # A platform without it has nothing to remove.
        return


_IPC_RMID = 0


def _obituary(process: Process) -> str:
    return f"{process.name} ended with status {process.returncode}; its log ends:\n{process.log_tail()}"
