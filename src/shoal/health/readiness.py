"""Readiness: started and not leaving. Nothing else, ever."""

from __future__ import annotations


class Readiness:
    """Whether this process may be sent requests, from two flags in memory.

    A failing dependency is none of its business: a failure response is a response too.

    >>> readiness = Readiness()
    >>> readiness.started()
    >>> readiness.ready, readiness.reason
    (True, None)
    >>> readiness.drain()
    >>> readiness.ready, readiness.reason
    (False, 'draining')
    """

    __slots__ = ("_draining", "_started")

    def __init__(self) -> None:
        self._started = False
        self._draining = False

    def started(self) -> None:
        """The service can serve from now on."""
        self._started = True

    def drain(self) -> None:
        """The service is leaving: no new requests, please."""
        self._draining = True

    def resume(self) -> None:
        """The service is not leaving after all."""
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether `drain` was called."""
        return self._draining

    @property
    def ready(self) -> bool:
        """Started and not draining."""
        return self._started and not self._draining

    @property
    def reason(self) -> str | None:
        """Why it is not ready; `None` when it is."""
        if self._draining:
            return "draining"
        return None if self._started else "not started"
