"""How long to wait before a retry."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.guard import Backoff


class Highest(random.Random):
    """The largest draw there is, nearly."""

    def random(self) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("retry", "throttled", "longest"),
    [
        pytest.param(0, False, 0.05, id="first"),
        pytest.param(1, False, 0.1, id="doubled"),
        pytest.param(5, False, 1.6, id="doubled-five-times"),
        pytest.param(6, False, 2.0, id="capped"),
        pytest.param(10_000, False, 2.0, id="no-overflow"),
        pytest.param(0, True, 1.0, id="throttled"),
        pytest.param(1, True, 2.0, id="throttled-doubled"),
    ],
)
def test_the_longest_wait_doubles_up_to_the_maximum(retry: int, throttled: bool, longest: float) -> None:
    assert Backoff().longest(retry, throttled=throttled) == pytest.approx(longest)
    assert Backoff().wait(retry, rng=Highest(), throttled=throttled) == pytest.approx(longest)


@given(retry=st.integers(0, 200), seed=st.integers(), at_least=st.floats(0, 100))
def test_jitter_is_only_ever_added_to_what_was_asked_for(retry: int, seed: int, at_least: float) -> None:
    backoff = Backoff()

    wait = backoff.wait(retry, rng=random.Random(seed), at_least=at_least)

    assert at_least <= wait <= at_least + backoff.longest(retry)


def test_jitter_is_full() -> None:
    """Callers that failed together come back spread over the whole wait, not over the end of it."""
    rng = random.Random(3)

    waits = [Backoff().wait(3, rng=rng) for _ in range(1000)]

    assert min(waits) < 0.01
    assert max(waits) > 0.39


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"initial": 0.0}, "initial must be above 0", id="zero"),
        pytest.param({"initial": 3.0}, "at most maximum, got 3.0 and 2.0", id="above-maximum"),
        pytest.param({"throttled": 0.0}, "throttled must be above 0", id="throttled-zero"),
        pytest.param({"initial": float("nan")}, "initial must be above 0", id="not-a-number"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Backoff(**settings)
