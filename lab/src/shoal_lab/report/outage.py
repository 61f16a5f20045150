"""When everything went dark, and when it was well again: read from the customers' requests alone."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate

from shoal_lab.record import Sample

DARK_FOR = 1.0
"""Shortest stretch, in wall seconds, that is called an outage: shorter ones are single unlucky requests."""
WELL_FOR = 2.0
"""How long, in wall seconds, a journey must be well before it counts as recovered."""
WELL = 0.99
"""Availability from which a journey is well."""


def dark_stretches(samples: Iterable[Sample], *, since: float, until: float) -> list[tuple[float, float]]:
    """The stretches of time, within *since* to *until*, in which every request of every journey failed.

    A stretch begins when its first failed request was due and ends when the next request that succeeded was due
    (or at *until*). It counts when it lasted at least `DARK_FOR` seconds and every journey in *samples* was tried
    in it, so that a journey nobody asked for does not pass as dark. All moments in wall seconds.

    >>> dark_stretches([Sample("fees", at / 2, 0.1, 200 if at < 4 else 503) for at in range(10)], since=1.0, until=5.0)
    [(2.0, 5.0)]
    """
    everything = sorted(samples, key=lambda sample: sample.at)
    journeys = {sample.journey for sample in everything}
    stretches: list[tuple[float, float]] = []
    began: float | None = None
    tried: set[str] = set()

    def close(at: float) -> None:
        if began is not None and at - began >= DARK_FOR and tried == journeys:
            stretches.append((began, at))

    for sample in everything:
        if not since <= sample.at <= until:
            continue
        if sample.ok:
            close(sample.at)
            began = None
            tried.clear()
        else:
            began = sample.at if began is None else began
            tried.add(sample.journey)
    close(until)
    return stretches


def time_to_recover(
    samples: Iterable[Sample], journeys: Collection[str], *, repair: float, ended: float
) -> float | None:
    """Seconds from the repair to the first moment from which all *journeys* were well for the next `WELL_FOR` seconds.

    Well means an availability of at least `WELL`, over at least one request of each journey due in that time. The
    moments considered are the repair itself and every moment at which a request was due. `None` when it did not
    happen before *ended*, or when there is no journey to ask about.

    >>> time_to_recover(
    ...     [Sample("fees", at / 2, 0.1, 200 if at > 4 else 503) for at in range(20)], ["fees"], repair=1.0, ended=10.0
    ... )
    1.5
    """
    if not journeys:
        return None
    tracks: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: sample.at):
        if sample.at >= repair and sample.journey in journeys:
            tracks[sample.journey].append(sample)
    if len(tracks) < len(set(journeys)):
        return None
    shares = [_Share(track) for track in tracks.values()]
    moments = {repair} | {sample.at for track in tracks.values() for sample in track}
    for moment in sorted(moments):
        # The moments are sums of floats: without the slack a window that ends exactly at the end would be lost.
        if moment + WELL_FOR > ended + 1e-6:
            return None
        if all(share.well(moment, moment + WELL_FOR) for share in shares):
            return moment - repair
    return None


class _Share:
    """How many of a journey's requests succeeded between two moments, without counting them again each time."""

    def __init__(self, track: Sequence[Sample]) -> None:
        self._at = [sample.at for sample in track]
        self._ok = [0, *accumulate(int(sample.ok) for sample in track)]

    def well(self, start: float, end: float) -> bool:
        first, last = bisect_left(self._at, start), bisect_left(self._at, end)
        return last > first and self._ok[last] - self._ok[first] >= WELL * (last - first)
