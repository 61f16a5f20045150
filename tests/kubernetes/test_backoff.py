import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.kubernetes import RestartBackoff


def gaps(backoff: RestartBackoff, *, lives: list[float]) -> list[float]:
    """Seconds from each end to the next start, of a container that exits by itself after living that long."""
    start, waits = 0.0, []
    for life in lives:
        end = start + life
        start = backoff.ended(end)
        waits.append(start - end)
    return waits


def test_a_container_that_exits_at_once_waits_longer_each_time() -> None:
    """As measured on a cluster: 0, 13, 27, 41, 82, 168, 305 s with the kubelet's own delays."""
    assert gaps(RestartBackoff(), lives=[0.0] * 8) == [0, 10, 20, 40, 80, 160, 300, 300]


def test_a_container_killed_by_its_liveness_probe_sometimes_restarts_at_once_in_the_midst_of_it() -> None:
    """As measured on a cluster, lives of 3 to 4 s: what was announced, given the gaps that were observed."""
    observed = [0, 1, 18, 1, 53, 93, 167, 302, 1]
    backoff, start, announced = RestartBackoff(), 0.0, []

    for gap in observed:
        end = start + 3.5
        announced.append(backoff.ended(end, killed=True) - end)
        start = end + gap

    assert announced == [0, 0, 10, 0, 40, 80, 160, 300, 0]


def test_a_liveness_failure_after_a_long_life_restarts_at_once_and_counts_all_the_same() -> None:
    backoff = RestartBackoff()
    gaps(backoff, lives=[0, 0, 0])

    assert backoff.ended(1000.0, killed=True) == 1000.0
    assert backoff.ended(1001.0) == 1001.0 + 80.0


def test_ten_quiet_minutes_after_a_restart_are_forgiven() -> None:
    assert gaps(RestartBackoff(), lives=[0, 0, 0, 601, 0]) == [0, 10, 20, 0, 10]
    assert gaps(RestartBackoff(), lives=[0, 0, 0, 600, 0]) == [0, 10, 20, 40, 80]


def test_everything_shrinks_with_its_numbers() -> None:
    assert gaps(RestartBackoff(base=1.0, cap=3.0), lives=[0, 0, 0, 0, 6.1]) == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(("base", "cap"), [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_numbers_that_make_no_sense_are_rejected(base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="base must be above 0 and at most cap"):
        RestartBackoff(base=base, cap=cap)


@given(st.lists(st.tuples(st.floats(0, 2000), st.booleans()), max_size=30))
def test_nobody_waits_longer_than_the_cap_or_starts_before_the_end(lives: list[tuple[float, bool]]) -> None:
    backoff, start = RestartBackoff(), 0.0
    for life, killed in lives:
        end = start + life
        start = backoff.ended(end, killed=killed)
        assert end <= start <= end + 300.0
