"""Rewrites the answers in which Kafka brokers tell where they are, and caps the versions in which they would say more.

Sources: aiokafka's own classes for the layouts of Metadata and FindCoordinator; the Kafka protocol guide for
ApiVersions, and KIP-951 for the broker addresses in Produce from version 10 and Fetch from version 16.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

from aiokafka.protocol import coordination, metadata
from aiokafka.protocol.types import TaggedFields, UnsignedVarInt32

from .wire import UnreadableError

Address = tuple[str, int]
Via = Callable[[Address], Address]

PRODUCE, FETCH, METADATA, FIND_COORDINATOR, API_VERSIONS = 0, 1, 3, 10, 18

_METADATA = (
    metadata.MetadataResponse_v0,
    metadata.MetadataResponse_v1,
    metadata.MetadataResponse_v2,
    metadata.MetadataResponse_v3,
    metadata.MetadataResponse_v4,
    metadata.MetadataResponse_v5,
)
_FIND_COORDINATOR = (coordination.FindCoordinatorResponse_v0, coordination.FindCoordinatorResponse_v1)

NEWEST = {PRODUCE: 9, FETCH: 15, METADATA: len(_METADATA) - 1, FIND_COORDINATOR: len(_FIND_COORDINATOR) - 1}
"""The newest version of an API that may pass. All are older than the flexible headers of answers, except Produce 9
and Fetch 12 to 15, which are not rewritten."""

# From this version on entries are a compact array and end in tagged fields; the header of the answer stays the old one.
_FLEXIBLE_API_VERSIONS = 3
_ENTRY = struct.Struct(">hhh")
_CORRELATION = 4


def rewrite(api: int, version: int, answer: bytes, *, via: Via) -> bytes:
    """The *answer* (from its correlation id on) to a request of that kind, with the addresses that *via* gives.

    Raises UnreadableError if it cannot be understood.
    """
    correlation, body = answer[:_CORRELATION], answer[_CORRELATION:]
    try:
        if api == METADATA:
            return correlation + _rewrite_metadata(version, body, via)
        if api == FIND_COORDINATOR:
            return correlation + _rewrite_coordinator(version, body, via)
        return correlation + _cap_versions(version, body)
    except (ValueError, struct.error, IndexError, TypeError) as error:
        raise UnreadableError(f"answer to Kafka API {api} version {version} not understood: {error}") from error


def _rewrite_metadata(version: int, body: bytes, via: Via) -> bytes:
    answer = _decoded(_METADATA[version], body)
    answer.brokers = [(node, *_seen(via, host, port), *rack) for node, host, port, *rack in answer.brokers]
    return bytes(answer.encode())


def _rewrite_coordinator(version: int, body: bytes, via: Via) -> bytes:
    answer = _decoded(_FIND_COORDINATOR[version], body)
    if answer.error_code == 0:
        answer.host, answer.port = _seen(via, answer.host, answer.port)
    return bytes(answer.encode())


def _decoded(layout: Any, body: bytes) -> Any:
    reader = BytesIO(body)
    answer = layout.decode(reader)
    if beyond := reader.read():
        raise ValueError(f"{len(beyond)} bytes too many")
    return answer


def _seen(via: Via, host: str, port: int) -> Address:
    if not 0 < port < 2**16:
        raise ValueError(f"a broker at {host}:{port}")
    return via((host, port))


def _cap_versions(version: int, body: bytes) -> bytes:
    """Lower the newest version of an API where it is beyond ours; a broker too new for that is left as it is."""
    capped = bytearray(body)
    reader = BytesIO(body)
    (error,) = struct.unpack(">h", reader.read(2))
    if error:
        # The broker does not know this version of the request and says which it knows, in a layout that differs from
        # broker to broker; the client asks again.
        return body
    flexible = version >= _FLEXIBLE_API_VERSIONS
    count = UnsignedVarInt32.decode(reader) - 1 if flexible else struct.unpack(">i", reader.read(4))[0]
    if count < 0:
        raise ValueError(f"{count} APIs")
    for _ in range(count):
        at = reader.tell()
        api, oldest, newest = _ENTRY.unpack(reader.read(_ENTRY.size))
        if flexible:
            TaggedFields.decode(reader)
        most = NEWEST.get(api, newest)
        if oldest <= most < newest:
            _ENTRY.pack_into(capped, at, api, oldest, most)
    return bytes(capped)
