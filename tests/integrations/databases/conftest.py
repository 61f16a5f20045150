"""Real servers, one for all tests of a session: a PostgreSQL of the lab's, and the redis-server on the PATH."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import pytest_asyncio
import redis

from shoal_lab.errors import PlatformError
from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.ports import reserve
from shoal_lab.platform.postgres import Postgres, dsn_via

Eventually = Callable[[Callable[[], object]], Awaitable[None]]


class Database:
    """A PostgreSQL with an empty table `item (id integer primary key)`, and a way to break connections to it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        parts = urlsplit(dsn)
        self.host, self.port = parts.hostname, parts.port

    def ask(self, query: str, *values: object) -> object:
        """The first value of the first row, over a connection of its own; committed."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query, values or None)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def items(self) -> object:
        """How many rows have been committed."""
        return self.ask("SELECT count(*) FROM item")

    def is_asleep(self, pids: list[int]) -> bool:
        """Whether the last of them is in the middle of `SELECT pg_sleep(...)`; before, it may miss a cancellation."""
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active' AND query LIKE '%%pg_sleep%%'"
        )
        return bool(pids and self.ask(query, pids[-1]))

    def terminate(self, pid: int) -> None:
        """End the server's side of a connection."""
        self.ask("SELECT pg_terminate_backend(%s, 5000)", pid)

    @contextmanager
    def frozen(self, pid: int) -> Iterator[None]:
        """The server's side of a connection does nothing at all for a while."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    """A server of ours."""
    run_dir = tmp_path_factory.mktemp("postgres")
    janitor = Janitor()
    await janitor.start(run_dir / "run")
    try:
        try:
            server = await Postgres.start(dsn=None, run_dir=run_dir / "run", janitor=janitor, run_id="r1")
        except PlatformError as error:
            pytest.skip(str(error))
        try:
            yield server
        finally:
            await server.stop()
    finally:
        await janitor.close()


@pytest.fixture
def database(postgres: Postgres) -> Database:
    """The server's database, without what an earlier test has left there."""
    host, port = postgres.address
    database = Database(f"postgresql://postgres@{host}:{port}/postgres?sslmode=disable")
    database.ask("DROP TABLE IF EXISTS item; CREATE TABLE item (id integer PRIMARY KEY)")
    return database


@pytest.fixture
def nowhere(database: Database) -> Iterator[Database]:
    """The same at a port where nobody listens."""
    with reserve("127.0.0.1") as reserved:
        yield Database(dsn_via(database.dsn, "127.0.0.1", reserved.port))


class RedisServer:
    """A redis-server on a port of 127.0.0.1, and ways to break it."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self._process = process

    @contextmanager
    def admin(self) -> Iterator[redis.Redis]:
        """A client that nothing guards."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            yield client

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The server does nothing at all for a while; then it reads what was sent to it meanwhile."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def writes_paused(self) -> Iterator[None]:
        """Writes wait until the end of the block, or until their connection is gone; everything else goes on."""
        with self.admin() as admin:
            admin.client_pause(30_000, all=False)
            try:
                yield
            finally:
                admin.client_unpause()

    def clients(self, command: str) -> list[str]:
        """Ids of the connections whose last command is this."""
        with self.admin() as admin:
            return [client["id"] for client in admin.client_list() if client["cmd"] == command]

    def kill(self, connection: str) -> None:
        """End the server's side of a connection."""
        with self.admin() as admin:
            admin.client_kill_filter(_id=connection)


@pytest.fixture(scope="session")
def _redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on the PATH: `apt-get install redis-server`, or the like")
    directory: Path = tmp_path_factory.mktemp("redis")
    with reserve("127.0.0.1") as reserved:
        port = reserved.port
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with (directory / "redis.log").open("wb") as log:
            process = subprocess.Popen([program, *settings], cwd=directory, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(port, process, directory / "redis.log")
            yield RedisServer(port, process)
        finally:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 10.0
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, "redis-server does not accept connections"
            time.sleep(0.01)
        else:
            return


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> RedisServer:
    """A Redis, without what an earlier test has left there."""
    with _redis_process.admin() as admin:
        admin.flushall()
    return _redis_process


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Where nobody listens."""
    with reserve("127.0.0.1") as reserved:
        yield reserved.port


@pytest.fixture
def eventually() -> Eventually:
    """`await eventually(condition)`: poll until it holds, fail the test if it does not within 5 s."""

    async def wait(condition: Callable[[], object]) -> None:
        until = time.monotonic() + 5.0
        while not condition():
            assert time.monotonic() < until, "not within 5 s"
            await asyncio.sleep(0.01)

    return wait
