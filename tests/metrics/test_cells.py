"""Counts: there from the start, and never more series than declared."""

from __future__ import annotations

import pytest

from shoal.metrics import OTHER, Cells


def test_every_declared_combination_exists_at_zero() -> None:
    """A counter born late hides its first increment."""
    cells = Cells(2, [("a", "ok"), ("a", "failed")])

    assert dict(cells.samples()) == {("a", "ok"): 0, ("a", "failed"): 0}


def test_an_undeclared_value_is_counted_as_other() -> None:
    cells = Cells(2, [("a", "ok"), ("b", "failed")])

    cells.inc("a", "teapot")
    cells.inc("a", "kettle")
    cells.inc("mallory", "failed")

    assert cells.value("a", OTHER) == 2
    assert cells.value(OTHER, "failed") == 1


def test_hostile_values_cannot_grow_the_series() -> None:
    cells = Cells(2, [("a", "ok")])

    for n in range(1000):
        cells.inc(f"a{n}", f"ok{n}")

    assert len(list(cells.samples())) == 2


def test_declared_values_in_a_new_combination_get_a_series_of_their_own() -> None:
    cells = Cells(2, [("a", "ok"), ("b", "failed")])

    cells.inc("a", "failed")

    assert cells.value("a", "failed") == 1


def test_declaring_again_keeps_the_count() -> None:
    cells = Cells(1, [("a",)])
    cells.inc("a", by=2.5)

    cells.declare([("a",), ("b",)])

    assert dict(cells.samples()) == {("a",): 2.5, ("b",): 0}


@pytest.mark.parametrize("labels", [(), ("a",), ("a", "b", "c")], ids=["none", "too few", "too many"])
def test_a_wrong_number_of_label_values_is_refused(labels: tuple[str, ...]) -> None:
    cells = Cells(2, [("a", "b")])

    with pytest.raises(ValueError):  # noqa: PT011  zip's own words
        cells.inc(*labels)
    with pytest.raises(ValueError, match="2 label values are needed"):
        cells.declare([labels])


def test_a_scrape_survives_a_series_that_is_born_meanwhile() -> None:
    cells = Cells(1, [("a",), ("b",)])

    seen = []
    for labels, _ in cells.samples():
        cells.declare([("c",)])
        seen.append(labels)

    assert seen == [("a",), ("b",)]
