"""Chunks on their way, each due a while after it came. Knows no clock and no socket."""

from __future__ import annotations

from collections import deque


class DelayLine:
    """Keeps the order of what is put in, and says what is due.

    `None` stands for the end of the stream, which is late like everything else.

    >>> line = DelayLine()
    >>> line.put(b"a", due=1.0)
    >>> line.put(None, due=1.5)
    >>> line.ready(now=1.2), line.take(), line.ready(now=1.2), line.due
    (True, b'a', False, 1.5)
    """

    __slots__ = ("_chunks", "size")

    def __init__(self) -> None:
        self._chunks: deque[tuple[float, bytes | None]] = deque()
        self.size = 0
        """Bytes held."""

    def __bool__(self) -> bool:
        return bool(self._chunks)

    @property
    def due(self) -> float:
        """When the next chunk is due; raises IndexError if there is none."""
        return self._chunks[0][0]

    def put(self, chunk: bytes | None, *, due: float) -> None:
        """Add a chunk, behind those already here; it leaves when it is due and they are gone."""
        self._chunks.append((due, chunk))
        self.size += len(chunk or b"")

    def ready(self, *, now: float) -> bool:
        """Whether the next chunk is due."""
        return bool(self._chunks) and self._chunks[0][0] <= now

    def take(self) -> bytes | None:
        """The next chunk, due or not; raises IndexError if there is none."""
        _, chunk = self._chunks.popleft()
        self.size -= len(chunk or b"")
        return chunk

    def hasten(self) -> None:
        """Everything here is due at once."""
        self._chunks = deque((float("-inf"), chunk) for _, chunk in self._chunks)

    def clear(self) -> None:
        """Drop everything."""
        self._chunks.clear()
        self.size = 0
