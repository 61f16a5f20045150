"""Families and their sources."""

from __future__ import annotations

import pytest

from shoal.metrics import Family, Kind, Registry

PINGS = Family("pings_total", "counter", "Pings.", ("from",))


def values(registry: Registry) -> dict[str, float]:
    return {family.name: sample.value for family, samples in registry.collect() for sample in samples}


def test_a_source_is_read_at_each_scrape_and_not_before() -> None:
    count = 0
    registry = Registry()
    registry.source(PINGS, lambda: [(("a",), count)])

    count = 7
    first = values(registry)
    count = 8

    assert first == {"pings_total": 7}
    assert values(registry) == {"pings_total": 8}


def test_a_source_that_fails_does_not_take_the_others_along(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry()

    def broken() -> list[tuple[tuple[str, ...], float]]:
        raise RuntimeError("no number today")

    registry.source(PINGS, broken)
    registry.source(Family("short", "gauge", "Too few label values.", ("a", "b")), lambda: [(("x",), 1)])
    registry.source(Family("fine", "gauge", "Works."), lambda: [((), 1)])

    assert values(registry) == {"fine": 1}
    assert "pings_total" in caplog.text
    assert "no number today" in caplog.text


def test_one_name_has_one_source() -> None:
    registry = Registry()
    registry.cells(PINGS)

    with pytest.raises(ValueError, match="pings_total is registered already"):
        registry.cells(PINGS)


def test_a_histogram_is_not_a_source_and_the_other_way_round() -> None:
    registry = Registry()

    with pytest.raises(ValueError, match=r"Registry\.histogram"):
        registry.source(Family("took_seconds", "histogram", "."), list)
    with pytest.raises(ValueError, match="declare it as histogram"):
        registry.histogram(PINGS)


@pytest.mark.parametrize(
    ("name", "kind", "labels", "complaint"),
    [
        pytest.param("2fast", "gauge", (), "letters, digits", id="begins with a digit"),
        pytest.param("dots.in.it", "gauge", (), "letters, digits", id="dots"),
        pytest.param("pings", "counter", (), "_total", id="counter without total"),
        pytest.param("pings_total", "gauge", (), "_total", id="gauge with total"),
        pytest.param("pings_total", "counter", ("__name__",), "reserved", id="reserved label"),
        pytest.param("took_seconds", "histogram", ("le",), "reserved", id="le is the histogram's own"),
        pytest.param("pings_total", "counter", ("a", "a"), "differ", id="label twice"),
    ],
)
def test_a_family_prometheus_would_refuse_is_refused_where_it_is_written(
    name: str, kind: Kind, labels: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Family(name, kind, "Help.", labels)
