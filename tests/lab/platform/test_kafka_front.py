import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.protocol.api import RequestHeader_v1
from aiokafka.protocol.group import (
    JoinGroupRequest_v0,
    JoinGroupRequest_v1,
    JoinGroupRequest_v5,
    LeaveGroupRequest_v1,
    SyncGroupRequest_v0,
    SyncGroupRequest_v3,
)
from hypothesis import given
from hypothesis import strategies as st

from shoal_lab.platform import kafka_front
from shoal_lab.platform.kafka_front import Front, read_group_request, shortened
from shoal_lab.platform.ports import reserve


def encoded(request: Any) -> bytes:
    """*request* as aiokafka sends it, without the size before it."""
    header: bytes = RequestHeader_v1(request, correlation_id=7, client_id="activity-0").encode()
    return header + bytes(request.encode())


def join(session: int = 10_000) -> bytes:
    return encoded(
        JoinGroupRequest_v5("activity", session, 60_000, "", None, "consumer", [("roundrobin", b"\x00\x01")])
    )


LEAD = encoded(SyncGroupRequest_v3("activity", 4, "member-1", None, [("member-1", b"one"), ("member-2", b"two")]))
ASK = encoded(SyncGroupRequest_v3("activity", 4, "member-2", None, []))


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (encoded(JoinGroupRequest_v0("activity", 10_000, "", "consumer", [])), "join"),
        (encoded(JoinGroupRequest_v1("activity", 10_000, 60_000, "", "consumer", [])), "join"),
        (join(), "join"),
        (encoded(SyncGroupRequest_v0("activity", 4, "member-2", [])), "ask"),
        (encoded(SyncGroupRequest_v0("activity", 4, "member-1", [("member-1", b"")])), "lead"),
        (ASK, "ask"),
        (LEAD, "lead"),
        (encoded(SyncGroupRequest_v3("activity", 4, "member-1", "static", [("member-1", b"")])), "lead"),
    ],
    ids=["join-0", "join-1", "join-5", "sync-0-member", "sync-0-leader", "sync-3-member", "sync-3-leader", "static"],
)
def test_requests_of_group_members_are_understood(frame: bytes, kind: str) -> None:
    request = read_group_request(frame)

    assert request is not None
    assert (request.kind, request.group) == (kind, "activity")


@pytest.mark.parametrize(
    "frame",
    [
        encoded(LeaveGroupRequest_v1("activity", "member-1")),
        struct.pack(">hh", 11, 6) + join()[4:],
        struct.pack(">hh", 14, 4) + LEAD[4:],
        join()[:20],
        LEAD[:40],
        b"",
        b"\x00",
    ],
    ids=[
        "leave",
        "join-of-another-layout",
        "sync-of-another-layout",
        "join-cut-short",
        "sync-cut-short",
        "empty",
        "odd",
    ],
)
def test_other_requests_are_let_alone(frame: bytes) -> None:
    assert read_group_request(frame) is None


@given(st.sampled_from([11, 14, 1]), st.integers(0, 6), st.binary(max_size=64))
def test_no_request_is_too_odd_to_be_passed_on(key: int, version: int, rest: bytes) -> None:
    frame = struct.pack(">hh", key, version) + rest

    request = read_group_request(frame)

    if request is not None and request.kind == "join":
        assert len(shortened(frame, request)) == len(frame)


@pytest.mark.parametrize(("asked", "told"), [(45_000, 3_000), (6_000, 3_000), (3_000, 3_000), (1_000, 1_000)])
def test_only_the_session_is_shortened(asked: int, told: int) -> None:
    frame = join(session=asked)
    request = read_group_request(frame)
    assert request is not None

    assert shortened(frame, request) == join(session=told)


class Broker:
    """Notes the requests it gets, in order, and answers nothing."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[bytes] = asyncio.Queue()
        self._connections: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.append((asyncio.create_task(self._read(reader)), writer))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while size := await reader.read(4):
            self.got.put_nowait(await reader.readexactly(int.from_bytes(size)))

    async def close(self) -> None:
        for task, writer in self._connections:
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*(task for task, _ in self._connections), return_exceptions=True)


class Member:
    """A connection to the relay."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, frame: bytes) -> None:
        self.writer.write(struct.pack(">i", len(frame)) + frame)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    broker = Broker()
    yield broker
    await broker.close()


@pytest.fixture
async def front(broker: Broker) -> AsyncIterator[Front]:
    server = await asyncio.start_server(broker.accept, "127.0.0.1", 0)
    front = await Front.open(server.sockets[0].getsockname())
    yield front
    await front.close()
    server.close()


@pytest.fixture
async def members(front: Front, broker: Broker) -> AsyncIterator[tuple[Member, Member]]:
    """Two members of `activity` that have joined: a leader and another."""
    members = [Member(*await asyncio.open_connection(*front.address)) for _ in range(2)]
    for member in members:
        member.send(join())
        assert await broker.got.get() == join(session=3_000)
    yield members[0], members[1]
    for member in members:
        member.writer.transport.abort()


async def test_the_leader_is_held_back_until_the_other_has_asked(
    broker: Broker, members: tuple[Member, Member]
) -> None:
    leader, other = members

    leader.send(LEAD)
    other.send(ASK)

    assert [await broker.got.get(), await broker.got.get()] == [ASK, LEAD]


async def test_the_leader_does_not_wait_for_one_that_is_gone(
    broker: Broker, members: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_front, "_HOLD_BACK", 3600.0)
    leader, other = members

    leader.send(LEAD)
    other.writer.close()

    assert await asyncio.wait_for(broker.got.get(), 10.0) == LEAD


async def test_the_leader_does_not_wait_for_ever(
    broker: Broker, members: tuple[Member, Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_front, "_HOLD_BACK", 0.05)
    leader, _ = members

    leader.send(LEAD)

    assert await asyncio.wait_for(broker.got.get(), 10.0) == LEAD


async def test_the_leader_does_not_wait_for_members_of_other_groups(
    broker: Broker, front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_front, "_HOLD_BACK", 3600.0)
    leader, stranger = [Member(*await asyncio.open_connection(*front.address)) for _ in range(2)]
    stranger.send(encoded(JoinGroupRequest_v1("audit", 6_000, 60_000, "", "consumer", [])))
    await broker.got.get()
    leader.send(join())
    await broker.got.get()

    leader.send(LEAD)

    assert await asyncio.wait_for(broker.got.get(), 10.0) == LEAD
    leader.writer.transport.abort()
    stranger.writer.transport.abort()


async def test_an_end_on_one_side_is_an_end_on_the_other(members: tuple[Member, Member], broker: Broker) -> None:
    one, two = members

    await broker.close()

    for member in (one, two):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(member.reader.readexactly(1), 10.0)


async def test_close_breaks_connections_and_gives_the_port_back(members: tuple[Member, Member], front: Front) -> None:
    await front.close()
    await front.close()

    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(members[0].reader.readexactly(1), 10.0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*front.address)


async def test_a_connection_that_has_only_just_come_is_broken_too(front: Front) -> None:
    reader, writer = await asyncio.open_connection(*front.address)

    await asyncio.wait_for(front.close(), 10.0)

    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(reader.readexactly(1), 10.0)
    writer.transport.abort()


async def test_without_a_broker_a_connection_ends() -> None:
    with reserve() as nowhere:
        front = await Front.open(nowhere.address)
        reader, writer = await asyncio.open_connection(*front.address)

        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(reader.readexactly(1), 10.0)
        writer.transport.abort()
        await front.close()
