"""The last good answers, to be served when a dependency gives none."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a keyed call returns: the value, and whether it is an old one.

    *stale* is True when the dependency gave no answer and this is the last good one for the key; *age* is then the
    number of seconds since it was obtained, and 0 otherwise. A stale value is the same object as was returned before:
    treat it as read-only.
    """

    value: T
    stale: bool = False
    age: float = 0.0


class StaleAnswers:
    """Keeps the last good answer for each key: at most *max_entries*, served for at most *max_age* seconds.

    What was used longest ago makes room. One store may serve several guards; their keys do not mix. Nothing expires by
    itself: an answer too old is dropped when it is asked for. Raises ValueError for a max_age not above 0 or
    max_entries below 1.

    >>> store = StaleAnswers(max_age=60.0)
    >>> store.put("alice", 100, now=0.0)
    >>> store.get("alice", now=5.0)
    Answer(value=100, stale=True, age=5.0)
    >>> store.get("alice", now=65.0) is None
    True
    """

    __slots__ = ("_entries", "_lock", "max_age", "max_entries")

    def __init__(self, *, max_age: float = 300.0, max_entries: int = 1024) -> None:
        if not max_age > 0:
            raise ValueError(f"max_age must be above 0 seconds, got {max_age}")
        if max_entries < 1:
            raise ValueError(f"max_entries must be at least 1, got {max_entries}")
        self.max_age = max_age
        self.max_entries = max_entries
        self._entries: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()
        # A store may be shared between guards, so it cannot rely on theirs.
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: Hashable, value: object, *, now: float) -> None:
        """Remember a good answer obtained at time *now*."""
        with self._lock:
            self._entries[key] = (value, now)
            self._entries.move_to_end(key)
            if len(self._entries) > self.max_entries:
                self._entries.popitem(last=False)

    def get(self, key: Hashable, *, now: float) -> Answer[Any] | None:
        """The last good answer, marked stale and with its age, or None if there is none young enough."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            value, since = entry
            if now - since > self.max_age:
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return Answer(value, stale=True, age=max(0.0, now - since))


class Shelf:
    """Where one keyed call keeps its answer and finds the last one. Without a store it only wraps."""

    __slots__ = ("_key", "_store")

    def __init__(self, store: StaleAnswers | None, key: Hashable) -> None:
        self._store = store
        self._key = key

    def keep(self, value: T, now: float) -> Answer[T]:
        """The answer to return for a fresh value, remembered."""
        if self._store is not None:
            self._store.put(self._key, value, now=now)
        return Answer(value)

    def serve(self, now: float) -> Answer[Any] | None:
        """The last good answer, if there is one young enough."""
        return None if self._store is None else self._store.get(self._key, now=now)
