"""Every step of the traces recorded from the kubelet's own probe worker.

They are not part of the repository: `SHOAL_CONFORMANCE` names the folder, else `../shared/conformance` is looked for.
"""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoal.kubernetes import Observation, Probe, ProbeOutcome, ProbeResult, ProbeType, ProbeWorker

BESIDE_THE_CHECKOUT = Path(__file__).parents[2].parent / "shared" / "conformance"
TRACES = Path(os.environ.get("SHOAL_CONFORMANCE", BESIDE_THE_CHECKOUT)) / "kubelet-probe-traces.jsonl.gz"

pytestmark = pytest.mark.skipif(
    not TRACES.exists(), reason=f"recorded traces not found at {TRACES}; SHOAL_CONFORMANCE names their folder"
)


RESULTS = {ProbeResult.SUCCESS: "Success", ProbeResult.FAILURE: "Failure", ProbeResult.UNKNOWN: "UNKNOWN", None: ""}


def traces() -> Iterator[dict[str, Any]]:
    with gzip.open(TRACES, "rt") as lines:
        yield from map(json.loads, lines)


def observation(seen: dict[str, Any]) -> Observation | None:
    if seen.get("no_status"):
        return None
    return Observation(
        container_id=str(seen["cid"] or ""),
        state=seen["state"],
        started={1: True, 0: False, -1: None}[seen["started"]],
        age=seen["age_s"],
        deleting=seen["deleting"],
        phase=seen["phase"],
        # The traces were recorded right after the start of the kubelet, in no time: ages are ages at its start.
        predates_kubelet=seen["age_s"] >= 10,
    )


def replay(trace: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What our worker does at each step, in the words of the trace."""
    settings = Probe(
        initial_delay=trace["initial_delay_s"],
        failure_threshold=trace["failure_threshold"],
        success_threshold=trace["success_threshold"],
    )
    worker = ProbeWorker(ProbeType(trace["type"].lower()), settings, restart_policy=trace["restart_policy"])
    for seen in trace["in"]:
        calls: list[ProbeOutcome] = []

        def probe(calls: list[ProbeOutcome] = calls, outcome: str = seen["outcome"]) -> ProbeOutcome:
            calls.append(ProbeOutcome(outcome))
            return calls[-1]

        keeps_going = worker.step(observation(seen), probe)
        # A trace tells the result held for the container of the step; the worker may not have seen that one yet.
        about_this_one = worker.container_id == str(seen["cid"])
        yield {
            "cont": keeps_going,
            "calls": len(calls),
            "result": RESULTS[worker.result if about_this_one else None],
            "run": worker.run,
            "hold": worker.on_hold,
        }


def test_every_step_of_every_trace_is_what_the_kubelet_did() -> None:
    steps = 0
    for number, trace in enumerate(traces(), start=1):
        for step, (ours, theirs) in enumerate(zip(replay(trace), trace["out"], strict=True), start=1):
            assert ours == theirs, f"trace {number}, step {step}: {trace['in'][step - 1]}"
            steps += 1
    assert steps > 0
