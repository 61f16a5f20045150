"""The text, read back by the Prometheus client's own parser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from shoal.metrics import CONTENT_TYPE, Family, Registry, exposition


def test_the_whole_text() -> None:
    registry = Registry()
    calls = registry.cells(
        Family("calls_total", "counter", "Calls.", ("to", "outcome")), [("auth", "ok"), ("auth", "error")]
    )
    calls.inc("auth", "ok")
    registry.source(Family("ready", "gauge", "1 while ready."), lambda: [((), 0.5)])
    took = registry.histogram(
        Family("took_seconds", "histogram", "Duration.", ("to",)), [("auth",)], buckets=(0.1, 1.0)
    )
    took.observe(0.25, "auth")

    assert exposition(registry) == (
        "# HELP calls_total Calls.\n"
        "# TYPE calls_total counter\n"
        'calls_total{to="auth",outcome="ok"} 1\n'
        'calls_total{to="auth",outcome="error"} 0\n'
        "# HELP ready 1 while ready.\n"
        "# TYPE ready gauge\n"
        "ready 0.5\n"
        "# HELP took_seconds Duration.\n"
        "# TYPE took_seconds histogram\n"
        'took_seconds_bucket{to="auth",le="0.1"} 0\n'
        'took_seconds_bucket{to="auth",le="1.0"} 1\n'
        'took_seconds_bucket{to="auth",le="+Inf"} 1\n'
        'took_seconds_sum{to="auth"} 0.25\n'
        'took_seconds_count{to="auth"} 1\n'
    )


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_label_value_and_help_come_back_as_they_were(value: str, text: str) -> None:
    registry = Registry()
    registry.source(Family("thing", "gauge", text, ("label",)), lambda: [((value,), 1)])

    (family,) = text_string_to_metric_families(exposition(registry))

    assert [sample.labels for sample in family.samples] == [{"label": value}]


@pytest.mark.parametrize("value", [0, 1, -3, 2**60, 0.1, 1e-9, 1e300, math.inf, -math.inf], ids=repr)
def test_any_number_comes_back_as_it_was(value: float) -> None:
    registry = Registry()
    registry.source(Family("thing", "gauge", "Help."), lambda: [((), value)])

    (family,) = text_string_to_metric_families(exposition(registry))

    assert [sample.value for sample in family.samples] == [value]


def test_not_a_number_and_truth_values_have_a_form() -> None:
    registry = Registry()
    registry.source(Family("a", "gauge", "Help."), lambda: [((), math.nan)])
    registry.source(Family("b", "gauge", "Help."), lambda: [((), True)])

    assert "\na NaN\n" in exposition(registry)
    assert "\nb 1\n" in exposition(registry)


def test_the_content_type_names_the_format() -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
