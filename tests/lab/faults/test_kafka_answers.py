import struct
from typing import Any

import pytest
from aiokafka.protocol import admin, coordination, metadata

from shoal_lab.faults.kafka_answers import (
    API_VERSIONS,
    FETCH,
    FIND_COORDINATOR,
    METADATA,
    NEWEST,
    PRODUCE,
    rewrite,
)
from shoal_lab.faults.wire import UnreadableError

CORRELATION = b"\0\0\0\7"


def via(broker: tuple[str, int]) -> tuple[str, int]:
    return "127.0.0.1", broker[1] + 10_000


def metadata_answer(version: int) -> Any:
    rack = () if version == 0 else ("rack",)
    partition = (0, 0, 1, [1, 2], [1, 2], *([[]] if version >= 5 else []))
    topic = (0, "balance_viewed", *([] if version == 0 else [False]), [partition])
    values: dict[str, object] = {
        "throttle_time_ms": 3,
        "brokers": [(1, "one.example", 9092, *rack), (2, "two.example", 9093, *rack)],
        "cluster_id": "a cluster",
        "controller_id": 1,
        "topics": [topic],
    }
    kind = getattr(metadata, f"MetadataResponse_v{version}")
    return kind(**{name: value for name, value in values.items() if name in kind.SCHEMA.names})


@pytest.mark.parametrize("version", range(NEWEST[METADATA] + 1))
def test_metadata_tells_the_edge_own_addresses_and_everything_else_as_it_was(version: int) -> None:
    answer = metadata_answer(version)

    rewritten = rewrite(METADATA, version, CORRELATION + answer.encode(), via=via)

    assert rewritten[:4] == CORRELATION
    told = type(answer).decode(rewritten[4:])
    assert [broker[:3] for broker in told.brokers] == [(1, "127.0.0.1", 19_092), (2, "127.0.0.1", 19_093)]
    told.brokers = answer.brokers
    assert told == answer


@pytest.mark.parametrize("version", range(NEWEST[FIND_COORDINATOR] + 1))
@pytest.mark.parametrize(("error", "address"), [(0, ("127.0.0.1", 19_092)), (15, ("", -1))], ids=["found", "not found"])
def test_the_coordinator_is_found_on_the_edge(version: int, error: int, address: tuple[str, int]) -> None:
    kind = getattr(coordination, f"FindCoordinatorResponse_v{version}")
    host, port = ("", -1) if error else ("one.example", 9092)
    values = {
        "throttle_time_ms": 0,
        "error_code": error,
        "error_message": None,
        "coordinator_id": 1,
        "host": host,
        "port": port,
    }
    answer = kind(**{name: value for name, value in values.items() if name in kind.SCHEMA.names})

    told = kind.decode(rewrite(FIND_COORDINATOR, version, CORRELATION + answer.encode(), via=via)[4:])

    assert (told.host, told.port) == address
    assert (told.error_code, told.coordinator_id) == (error, 1)


OFFERED = [(PRODUCE, 0, 11), (FETCH, 4, 18), (METADATA, 0, 13), (FIND_COORDINATOR, 0, 6), (11, 0, 9)]
CAPPED = [(PRODUCE, 0, 9), (FETCH, 4, 15), (METADATA, 0, 5), (FIND_COORDINATOR, 0, 1), (11, 0, 9)]


@pytest.mark.parametrize("version", [0, 1, 2])
def test_no_version_is_offered_that_could_not_be_rewritten(version: int) -> None:
    kind = getattr(admin, f"ApiVersionResponse_v{version}")
    throttle = () if version == 0 else (5,)

    rewritten = rewrite(API_VERSIONS, version, CORRELATION + kind(0, OFFERED, *throttle).encode(), via=via)

    assert rewritten == CORRELATION + kind(0, CAPPED, *throttle).encode()


@pytest.mark.parametrize("version", [3, 4])
def test_nor_in_the_compact_layout_of_newer_clients(version: int) -> None:
    """Layout by the Kafka protocol guide, ApiVersions Response (Version: 3): one entry has a tagged field."""

    def answer(entries: list[tuple[int, int, int]]) -> bytes:
        tags = [b"\0"] * (len(entries) - 1) + [b"\x01\x05\x02hi"]
        listed = b"".join(struct.pack(">hhh", *entry) + tag for entry, tag in zip(entries, tags, strict=True))
        return (
            CORRELATION + b"\0\0" + bytes([len(entries) + 1]) + listed + b"\0\0\0\5" + b"\x01\x01\x08\0\0\0\0\0\0\0\7"
        )

    assert rewrite(API_VERSIONS, version, answer(OFFERED), via=via) == answer(CAPPED)


def test_a_broker_that_does_not_know_the_version_asked_for_may_say_so_as_it_likes() -> None:
    """What librdkafka's in-memory broker says when asked in version 3 is neither of that layout nor of the first."""
    answer = bytes.fromhex("0000000700230100120000000200000000")

    assert rewrite(API_VERSIONS, 3, answer, via=via) == answer


def test_a_broker_too_new_for_us_is_not_made_to_offer_what_it_has_not() -> None:
    offer = CORRELATION + admin.ApiVersionResponse_v0(0, [(METADATA, 6, 13)]).encode()

    assert rewrite(API_VERSIONS, 0, offer, via=via) == offer


SENSELESS = {
    METADATA: [b"", b"\0\0\0\x01", b"\0\0\0\0\0\0\0\0and more", b"\xff" * 30],
    FIND_COORDINATOR: [b"", b"\0\0", b"\0\0\0\0\0\1\0\1x\0\1\0\0", b"\xff" * 30],
    API_VERSIONS: [b"", b"\0\0\0\0\0\1\0\3", b"\0\0\xff\xff\xff\xff"],
}


@pytest.mark.parametrize(("api", "body"), [(api, body) for api, bodies in SENSELESS.items() for body in bodies])
def test_an_answer_that_makes_no_sense_is_said_to(api: int, body: bytes) -> None:
    """Cut short, too long, or a port that is none."""
    with pytest.raises(UnreadableError, match=f"answer to Kafka API {api} version 0 not understood"):
        rewrite(api, 0, CORRELATION + body, via=via)
