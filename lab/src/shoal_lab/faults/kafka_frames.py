"""Kafka's frames in a stream of bytes: a size of 4 bytes, and so many bytes after it."""

from __future__ import annotations

from collections.abc import Callable

from .wire import UnreadableError

# What Kafka brokers take by default (socket.request.max.bytes).
FRAME_LIMIT = 100 * 2**20
_SIZE = 4


class Frames:
    """Cuts one direction of a connection.

    Of each frame the first *head* bytes are shown to *wants*. A frame it wants is collected and given to *on_frame*
    (without its size); what comes back takes its place. All others pass as they come, without being collected.
    """

    def __init__(
        self, *, head: int, wants: Callable[[bytes], bool], on_frame: Callable[[bytes], bytes] = lambda frame: frame
    ) -> None:
        self._head_size = head
        self._wants = wants
        self._on_frame = on_frame
        self._start = bytearray()
        self._wanted: bytearray | None = None
        self._missing = 0

    def feed(self, data: bytes) -> bytes:
        """What is to be passed on now. Raises UnreadableError for a size that cannot be."""
        passed: list[bytes] = []
        at = 0
        while at < len(data):
            if not self._missing:
                at += self._begin(data[at : at + _SIZE + self._head_size - len(self._start)], passed)
                continue
            piece = data[at : at + self._missing]
            at += len(piece)
            self._missing -= len(piece)
            if self._wanted is None:
                passed.append(piece)
            else:
                self._wanted += piece
                self._end_if_complete(passed)
        return b"".join(passed)

    def rest(self) -> bytes:
        """What is kept back of a frame that will not be completed; a wanted one is dropped."""
        return bytes(self._start)

    def _begin(self, piece: bytes, passed: list[bytes]) -> int:
        self._start += piece
        if len(self._start) >= _SIZE:
            size = int.from_bytes(self._start[:_SIZE], "big", signed=True)
            if not self._head_size <= size <= FRAME_LIMIT:
                raise UnreadableError(
                    f"a Kafka frame of {size} bytes; expected {self._head_size} to {FRAME_LIMIT}: is this edge Kafka's?"
                )
        if len(self._start) == _SIZE + self._head_size:
            start, self._start = bytes(self._start), bytearray()
            head = start[_SIZE:]
            self._missing = int.from_bytes(start[:_SIZE], "big") - self._head_size
            if self._wants(head):
                self._wanted = bytearray(head)
                self._end_if_complete(passed)
            else:
                passed.append(start)
        return len(piece)

    def _end_if_complete(self, passed: list[bytes]) -> None:
        if not self._missing and self._wanted is not None:
            frame = self._on_frame(bytes(self._wanted))
            self._wanted = None
            passed.append(len(frame).to_bytes(_SIZE, "big") + frame)
