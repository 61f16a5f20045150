"""What the customers of one journey got: availability, waiting time, answers, and what the pods know of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from shoal_lab.record import PHASES, Phase, Sample, StepRecord

from .answers import kinds_of_answers
from .outage import WELL, dark_stretches, time_to_recover
from .shape import JourneyReport, Series

BIN = 0.5
"""Width of a bin of a series, in wall seconds."""
OUTCOMES = ("ok", "degraded", "failed", "shed", "client_error")

T = TypeVar("T")


def by_phase(of: Callable[[Phase], T]) -> dict[Phase, T]:
    """One value for each of the three phases, in order."""
    return {phase: of(phase) for phase in PHASES}


def availability(samples: Sequence[Sample]) -> float | None:
    """Share of *samples* that succeeded (any 2xx, stale or not), from 0 to 1; `None` if nothing was sent.

    Not rounded: a rounded 0.9996 could pass for 1.

    >>> availability([Sample("fees", 0.0, 0.1, 200), Sample("fees", 1.0, 5.0, None, error="timeout")])
    0.5
    """
    return sum(sample.ok for sample in samples) / len(samples) if samples else None


def quantile(samples: Sequence[Sample], share: float) -> float | None:
    """The waiting time in seconds that *share* of the customers did not exceed (nearest rank); `None` without samples.

    Answered and unanswered requests count alike: who ran into a time-out waited that long.

    >>> quantile([Sample("fees", 0.0, wait / 10, 200) for wait in range(1, 11)], 0.5)
    0.5
    """
    if not samples:
        return None
    waits = sorted(sample.latency for sample in samples)
    return round(waits[max(0, math.ceil(share * len(waits)) - 1)], 4)


def series(samples: Sequence[Sample], *, started: float, ended: float) -> Series:
    """Availability and p99 in bins of `BIN` seconds by due time, each at its beginning; the last may be shorter."""
    count = max(1, math.ceil((ended - started) / BIN - 1e-9))
    bins: list[list[Sample]] = [[] for _ in range(count)]
    for sample in samples:
        index = int((sample.at - started) / BIN)
        if 0 <= index < count:
            bins[index].append(sample)
    return Series(
        t=[round(started + index * BIN, 3) for index in range(count)],
        availability=[availability(binned) for binned in bins],
        p99_s=[quantile(binned, 0.99) for binned in bins],
    )


def journey_report(record: StepRecord, journey: str) -> JourneyReport:
    """Everything about one journey of a step.

    * `availability`, `p50_s`, `p99_s`, `sent`: by phase, see `StepRecord.phase_of_sample`.
    * `answers`: over the whole step, see `kinds_of_answers`.
    * `seen_by_pods`: requests the pods' own counters saw, whatever came of them.
    * `outcomes`, `causes`: what the pods made of them; causes are those of failed and shed requests only.
    * `time_to_outage_s`: from the fault to the first stretch of at least a second in which every request of this
      journey failed, `None` if there was none; `seconds_of_outage`: how long all such stretches lasted together.
    * `time_to_recover_s`: from the repair until it was well again, see `time_to_recover`; `None` also when it was
      not well before the fault.
    """
    samples = [sample for sample in record.samples if sample.journey == journey]
    phases = by_phase(lambda phase: [sample for sample in samples if record.phase_of_sample(sample) == phase])
    shares = by_phase(lambda phase: availability(phases[phase]))
    well_before = [journey] if (shares["before"] or 0.0) >= WELL else []
    dark = dark_stretches(samples, since=record.fault_at, until=record.ended)
    recovered = time_to_recover(samples, well_before, repair=record.repair_at, ended=record.ended)
    return JourneyReport(
        availability=shares,
        p50_s=by_phase(lambda phase: quantile(phases[phase], 0.50)),
        p99_s=by_phase(lambda phase: quantile(phases[phase], 0.99)),
        answers=kinds_of_answers(sorted(samples, key=lambda sample: sample.at)),
        sent=by_phase(lambda phase: len(phases[phase])),
        seen_by_pods=by_phase(lambda phase: _seen(record, journey, phase)),
        outcomes=by_phase(lambda phase: _outcomes(record, journey, phase)),
        causes=by_phase(lambda phase: _causes(record, journey, phase)),
        series=series(samples, started=record.started, ended=record.ended),
        time_to_outage_s=round(dark[0][0] - record.fault_at, 3) if dark else None,
        seconds_of_outage=round(sum(end - start for start, end in dark), 3),
        time_to_recover_s=None if recovered is None else round(recovered, 3),
    )


def _seen(record: StepRecord, journey: str, phase: Phase) -> int | None:
    # No counter of any pod was read: that is not the same as counters that stood still.
    if not record.journeys:
        return None
    return sum(count.count for count in record.journeys if (count.journey, count.phase) == (journey, phase))


def _outcomes(record: StepRecord, journey: str, phase: Phase) -> dict[str, int]:
    found = dict.fromkeys(OUTCOMES, 0)
    for count in record.journeys:
        if (count.journey, count.phase) == (journey, phase):
            found[count.outcome] = found.get(count.outcome, 0) + count.count
    return found


def _causes(record: StepRecord, journey: str, phase: Phase) -> dict[str, int]:
    found: Counter[str] = Counter()
    for count in record.journeys:
        if (count.journey, count.phase) == (journey, phase) and count.outcome in {"failed", "shed"} and count.count:
            found[count.cause] += count.count
    return dict(found.most_common())
