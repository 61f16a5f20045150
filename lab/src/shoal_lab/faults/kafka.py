"""Keeps a Kafka client on its edge: brokers' addresses in answers become those of the edge's own proxies."""

from __future__ import annotations

import struct

from .kafka_answers import API_VERSIONS, FIND_COORDINATOR, METADATA, NEWEST, Via, rewrite
from .kafka_frames import Frames
from .wire import Outlets, UnreadableError

_REWRITTEN = {METADATA, FIND_COORDINATOR, API_VERSIONS}
_REQUEST = struct.Struct(">hhi")


class KafkaWire:
    """One connection to a broker. *via* gives the address that stands for a broker's on this edge."""

    def __init__(self, outlets: Outlets, *, via: Via) -> None:
        self._outlets = outlets
        self._via = via
        self._asked: dict[int, tuple[int, int]] = {}
        """Requests whose answer is to be rewritten: correlation id to API and version."""
        self._requests = Frames(head=_REQUEST.size, wants=self._note)
        self._answers = Frames(head=4, wants=self._is_rewritten, on_frame=self._rewrite)

    def from_caller(self, data: bytes) -> None:
        """Note what is asked, and pass it on."""
        if passed := self._requests.feed(data):
            self._outlets.to_target(passed)

    def from_target(self, data: bytes) -> None:
        """Pass answers on, rewritten where they tell addresses."""
        if passed := self._answers.feed(data):
            self._outlets.to_caller(passed)

    def caller_ended(self) -> None:
        """Pass on the beginning of a frame that will not be completed."""
        if rest := self._requests.rest():
            self._outlets.to_target(rest)

    def _note(self, head: bytes) -> bool:
        api, version, correlation = _REQUEST.unpack(head)
        if version > NEWEST.get(api, version):
            # Not to be let through: its answer would lead the client past the edge.
            raise UnreadableError(
                f"a client asks Kafka API {api} in version {version}, and this edge knows it up to {NEWEST[api]}: "
                "the broker or the client is too new for the lab"
            )
        if api in _REWRITTEN:
            self._asked[correlation] = (api, version)
        return False

    def _is_rewritten(self, head: bytes) -> bool:
        return int.from_bytes(head, "big", signed=True) in self._asked

    def _rewrite(self, frame: bytes) -> bytes:
        api, version = self._asked.pop(int.from_bytes(frame[:4], "big", signed=True))
        return rewrite(api, version, frame, via=self._via)
