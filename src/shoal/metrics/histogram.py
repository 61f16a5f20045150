"""Durations, counted by how long they took at most."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from .cells import Known

# OpenTelemetry semantic conventions, http.server.request.duration (stable), in seconds.
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class _Series:
    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.total = 0.0


class Histogram:
    """How often something took at most so many seconds, by label values. `Registry.histogram` makes one.

    *buckets* are upper bounds in seconds, rising; above the last there is always one without a bound. Raises ValueError
    when they do not rise. Observations come from one thread at a time.

    >>> histogram = Histogram(1, [("fees",)], buckets=(0.1, 1.0))
    >>> histogram.observe(0.25, "fees")
    >>> [value for suffix, labels, bound, value in histogram.samples()]
    [0, 1, 1, 0.25, 1]
    """

    __slots__ = ("_known", "_series", "buckets")

    def __init__(
        self,
        labels: int,
        combinations: Iterable[tuple[str, ...]] = (),
        *,
        buckets: tuple[float, ...] = LATENCY_BUCKETS,
    ) -> None:
        if not buckets or list(buckets) != sorted(set(buckets)):
            raise ValueError(f"buckets must be rising upper bounds, got {buckets}")
        self.buckets = buckets
        self._known = Known(labels)
        self._series: dict[tuple[str, ...], _Series] = {}
        self.declare(combinations)

    def declare(self, combinations: Iterable[tuple[str, ...]]) -> None:
        """Create more combinations, empty; one that exists keeps its counts."""
        for combination in combinations:
            self._known.add(combination)
            self._series.setdefault(combination, _Series(len(self.buckets)))

    def observe(self, seconds: float, *labels: str) -> None:
        """Count one duration under these label values; undeclared ones go to `_other`."""
        series = self._series.get(labels)
        if series is None:
            series = self._series.setdefault(self._known.fold(labels), _Series(len(self.buckets)))
        series.counts[bisect_left(self.buckets, seconds)] += 1
        series.total += seconds

    def samples(self) -> Iterator[tuple[str, tuple[str, ...], float | None, float]]:
        """Suffix, label values, upper bound if any, and value of every series; the buckets are cumulative."""
        for labels, series in list(self._series.items()):
            # One copy, so that the last bucket and the count agree while another thread observes.
            counts, total, so_far = list(series.counts), series.total, 0
            for bound, count in zip((*self.buckets, float("inf")), counts, strict=True):
                so_far += count
                yield "_bucket", labels, bound, so_far
            yield "_sum", labels, None, total
            yield "_count", labels, None, so_far
