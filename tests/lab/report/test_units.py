"""Figures never look better than they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_lab.report.units import percent, seconds, visible


@pytest.mark.parametrize(
    ("share", "text"),
    [
        pytest.param(1.0, "100 %", id="all"),
        pytest.param(0.9996, "99.96 %", id="nearly all"),
        pytest.param(0.9999999, "99.99 %", id="all but one in ten million"),
        pytest.param(0.9989, "99.8 %", id="rounded down"),
        pytest.param(0.57, "57 %", id="0.57 times 100 is less than 57"),
        pytest.param(0.0009, "<0.1 %", id="hardly any"),
        pytest.param(0.0, "0 %", id="none"),
        pytest.param(None, "\N{EN DASH}", id="nothing sent"),
    ],
)
def test_a_share_in_percent(share: float | None, text: str) -> None:
    assert percent(share) == text


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_only_all_is_100_percent_and_only_none_is_0(sent: int, served: int) -> None:
    served = min(served, sent)

    assert (percent(served / sent) == "100 %") == (served == sent)
    assert (percent(served / sent) == "0 %") == (served == 0)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        pytest.param(0.0, "0 s", id="none"),
        pytest.param(0.0004, "0.4 ms", id="below a millisecond"),
        pytest.param(0.0123, "12 ms", id="milliseconds"),
        pytest.param(0.9996, "1.0 s", id="not 1000 ms"),
        pytest.param(2.64, "2.6 s", id="seconds"),
        pytest.param(99.96, "100 s", id="not 100.0 s"),
        pytest.param(None, "\N{EN DASH}", id="not measured"),
    ],
)
def test_a_duration_in_its_unit(duration: float | None, text: str) -> None:
    assert seconds(duration) == text


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    assert visible("\x1b]0;title\x07 a\u202eb\r\n caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{HEAVY CHECK MARK}") == (
        r"\x1b]0;title\x07 a\u202eb\r\n caf" + "\N{LATIN SMALL LETTER E WITH ACUTE} \N{HEAVY CHECK MARK}"
    )
