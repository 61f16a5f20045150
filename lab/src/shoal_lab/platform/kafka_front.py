"""What clients of the in-memory Kafka connect to: a relay that mends two ways of its consumer groups.

The group coordinator of librdkafka's in-memory broker (`rdkafka_mock_cgrp.c`, 2.16) differs from Apache Kafka's in two
ways that a group of several members cannot live with:

* The leader of a group sends the assignments of all members. A member that asks for its own only after that is refused
  (INVALID_REQUEST); Apache Kafka answers. The relay holds the leader's request back until the others have asked.
* After a member comes or goes, the broker waits for the members' session timeout less one second, even when everybody
  is back; Apache Kafka goes on at once. The relay tells the broker of shorter sessions.
"""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, Self

_LONGEST_SESSION = 3_000
"""Milliseconds the broker is told at most, hence 2 s to rebalance; members that beat every second make it."""
_HOLD_BACK = 1.0
"""Seconds the other members have to ask for their assignments; the broker gives the leader a whole session."""
_HEAD_START = 0.1
"""Seconds the broker has to read the last of them before the leader's, which comes by another connection."""


class Front:
    """A port of 127.0.0.1 that passes everything on to one broker. Made by `open`, ended by `close`."""

    def __init__(self, server: asyncio.Server, connections: set[asyncio.Task[None]]) -> None:
        self.address: tuple[str, int] = server.sockets[0].getsockname()
        """Host and port to connect to."""
        self._server = server
        self._connections = connections

    @classmethod
    async def open(cls, broker: tuple[str, int]) -> Self:
        """Listen on a free port, for *broker*. Raises OSError if there is none."""
        connections: set[asyncio.Task[None]] = set()
        groups: defaultdict[str, _Group] = defaultdict(_Group)

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(_Connection(reader, writer, groups).serve(broker))
            connections.add(task)
            task.add_done_callback(connections.discard)
            # Here, since a task that is cancelled before its first step does nothing at all.
            task.add_done_callback(lambda _: writer.transport.abort())

        return cls(await asyncio.start_server(accept, "127.0.0.1", 0), connections)

    async def close(self) -> None:
        """Break all connections and give the port back. May be called again."""
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()


class _Connection:
    """One client's connection, and the one to the broker it is passed on by."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, groups: defaultdict[str, _Group]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._groups = groups

    async def serve(self, broker: tuple[str, int]) -> None:
        """Pass on until either side ends; then both do."""
        try:
            answers, requests = await asyncio.open_connection(*broker)
        except OSError:
            # The broker is gone already: the client sees its connection end, as it should.
            return
        pumps = [asyncio.create_task(self._ask(requests)), asyncio.create_task(_copy(answers, self._writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            requests.transport.abort()
            for group in self._groups.values():
                group.forget(self)
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _ask(self, broker: asyncio.StreamWriter) -> None:
        while True:
            size = await self._reader.readexactly(4)
            frame = await self._reader.readexactly(int.from_bytes(size))
            request = read_group_request(frame)
            if request is not None:
                group = self._groups[request.group]
                if request.kind == "join":
                    group.join(self)
                    frame = shortened(frame, request)
                else:
                    group.forget(self)
                if request.kind == "lead":
                    await group.all_have_asked()
            broker.write(size + frame)
            await broker.drain()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()


class _Group:
    """Who of a consumer group has joined and not yet asked for its assignment."""

    def __init__(self) -> None:
        self._expected: set[_Connection] = set()
        self._none_expected = asyncio.Event()

    def join(self, member: _Connection) -> None:
        self._expected.add(member)
        self._none_expected.clear()

    def forget(self, member: _Connection) -> None:
        self._expected.discard(member)
        if not self._expected:
            self._none_expected.set()

    async def all_have_asked(self) -> None:
        """Wait for them, though not for ever: one may have died."""
        try:
            async with asyncio.timeout(_HOLD_BACK):
                await self._none_expected.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_HEAD_START)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRequest:
    """What a request has to do with a consumer group: to join, to ask for an assignment, to lead by making them all."""

    kind: Literal["join", "ask", "lead"]
    group: str
    rest: int
    """Where in the frame the fields after the group's name begin."""


def read_group_request(frame: bytes) -> GroupRequest | None:
    """What *frame*, a request without its size, has to do with a group; `None` if nothing, or if it cannot be read.

    Reads the layouts that the in-memory broker offers (Kafka's protocol guide: JoinGroup, key 11, before version 6,
    and SyncGroup, key 14, before version 4).
    """
    try:
        key, version = struct.unpack_from(">hh", frame)
        if not (key == _JOIN_GROUP and version < 6) and not (key == _SYNC_GROUP and version < 4):
            return None
        _client, at = _text(frame, 8)
        group, rest = _text(frame, at)
        if key == _JOIN_GROUP:
            struct.unpack_from(">i", frame, rest)
            return GroupRequest(kind="join", group=group, rest=rest)
        # The generation, the member, from version 3 on the member's static name, and the assignments it makes.
        _member, at = _text(frame, rest + 4)
        if version >= 3:
            _name, at = _text(frame, at)
        (assignments,) = struct.unpack_from(">i", frame, at)
    except (struct.error, UnicodeDecodeError):
        return None
    return GroupRequest(kind="lead" if assignments > 0 else "ask", group=group, rest=rest)


def shortened(frame: bytes, request: GroupRequest) -> bytes:
    """The JoinGroup request *frame*, with a session timeout that is not too long for the in-memory broker."""
    (session,) = struct.unpack_from(">i", frame, request.rest)
    return frame[: request.rest] + struct.pack(">i", min(session, _LONGEST_SESSION)) + frame[request.rest + 4 :]


_JOIN_GROUP, _SYNC_GROUP = 11, 14


def _text(frame: bytes, at: int) -> tuple[str, int]:
    """A string and where it ends; a length of -1 says that there is none."""
    (length,) = struct.unpack_from(">h", frame, at)
    (text,) = struct.unpack_from(f"{max(length, 0)}s", frame, at + 2)
    return text.decode(), at + 2 + len(text)
