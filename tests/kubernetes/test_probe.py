from typing import Any

import pytest

from shoal.kubernetes import Probe, Probes, ProbeType


def test_the_defaults_are_those_of_the_api() -> None:
    probe = Probe()

    assert (probe.initial_delay, probe.period, probe.timeout) == (0, 10, 1)
    assert (probe.failure_threshold, probe.success_threshold, probe.termination_grace) == (3, 1, None)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"initial_delay": -1}, "initial_delay must be at least 0, got -1"),
        ({"period": 0}, "period must be at least 1, got 0"),
        ({"timeout": 0}, "timeout must be at least 1, got 0"),
        ({"failure_threshold": 0}, "failure_threshold must be at least 1, got 0"),
        ({"success_threshold": 0}, "success_threshold must be at least 1, got 0"),
        ({"termination_grace": 0}, "termination_grace must be at least 1 or None, got 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_api_server_rejects_is_rejected(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Probe(**settings)


@pytest.mark.parametrize("probe_type", [ProbeType.STARTUP, ProbeType.LIVENESS])
def test_only_readiness_may_ask_for_several_successes(probe_type: ProbeType) -> None:
    with pytest.raises(ValueError, match=f"success_threshold must be 1 for a {probe_type} probe, got 2"):
        Probes(**{probe_type.value: Probe(success_threshold=2)})

    assert Probes(readiness=Probe(success_threshold=2)).readiness == Probe(success_threshold=2)


def test_a_readiness_probe_has_no_grace_period() -> None:
    with pytest.raises(ValueError, match="termination_grace has no meaning for a readiness probe"):
        Probes(readiness=Probe(termination_grace=5))

    assert dict(Probes(liveness=Probe(termination_grace=5))) == {ProbeType.LIVENESS: Probe(termination_grace=5)}


def test_probes_that_are_not_there_are_not_listed() -> None:
    assert list(Probes()) == []
