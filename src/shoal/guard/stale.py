"""The last good answers, to be served when a dependency gives none."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Any


class StaleAnswers:
    """Keeps the last good answer for each key: at most *max_entries*, served for at most *max_age* seconds.

    What was used longest ago makes room. One store may serve several guards; their keys do not mix. Nothing expires by
    itself: an answer too old is dropped when it is asked for. Raises ValueError for a max_age not above 0 or
    max_entries below 1.

    >>> store = StaleAnswers(max_age=60.0)
    >>> store.put("alice", 100, now=0.0)
    >>> store.get("alice", now=5.0)
    (100, 5.0)
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
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        # A store may be shared between guards, so it cannot rely on theirs.
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: Hashable, value: object, *, now: float) -> None:
        """Remember a good answer obtained at time *now*."""
        with self._lock:
            self._entries[key] = _Entry(value, now)
            self._entries.move_to_end(key)
            if len(self._entries) > self.max_entries:
                self._entries.popitem(last=False)

    def get(self, key: Hashable, *, now: float) -> tuple[Any, float] | None:
        """The last good answer and its age in seconds, or None if there is none young enough."""
        with self._lock:
            entry = self._young(key, now)
            return None if entry is None else (entry.value, max(0.0, now - entry.since))

    def claim(self, key: Hashable, *, now: float, until: float) -> tuple[Any, float] | None:
        """An old answer to be served at once, since somebody else is asking for a new one; else None: ask yourself.

        Only after a failure, see `failed`: as long as a dependency answers, everybody asks for himself. Who was told to
        ask is the only one until it reports with `put`, `failed` or `unclaim`, or at time *until*.
        """
        with self._lock:
            entry = self._young(key, now)
            if entry is None or not entry.failed:
                return None
            if now < entry.claimed_until:
                return entry.value, max(0.0, now - entry.since)
            entry.claimed_until = until
            return None

    def failed(self, key: Hashable) -> None:
        """There was no new answer: from now on one caller at a time asks for it, and the others get the old one."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                entry.failed = True
                entry.claimed_until = -math.inf

    def unclaim(self, key: Hashable) -> None:
        """Who was to ask did not: the next one may."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                entry.claimed_until = -math.inf

    def _young(self, key: Hashable, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now - entry.since > self.max_age:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry


class _Entry:
    __slots__ = ("claimed_until", "failed", "since", "value")

    def __init__(self, value: object, since: float) -> None:
        self.value = value
        self.since = since
        self.failed = False
        self.claimed_until = -math.inf
