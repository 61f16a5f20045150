"""The chart: right kind of file, the same each time, and its texts in it as texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest
from PIL import Image

from shoal_lab.record import Sample, StepRecord
from shoal_lab.report import Report, write_chart
from shoal_lab.report.chart import figure
from shoal_lab.report.picture import inline_svg
from shoal_lab.scenario import Scenario

Make = Callable[..., Report]
LADDER = ("deep", "shallow", "guarded", "cached", "stateless-auth", "split")


def texts(svg: str) -> list[str]:
    """Every text of a drawing."""
    root = ET.fromstring(svg)
    return ["".join(element.itertext()).strip() for element in root.iter() if element.tag.endswith("text")]


def test_a_png_is_wide_enough_for_a_sharp_screen(made_report: Make, tmp_path: Path) -> None:
    write_chart(made_report("deep", "shallow", "guarded"), tmp_path / "chart.png")

    with Image.open(tmp_path / "chart.png") as image:
        assert image.format == "PNG"
        assert 2000 < image.width < 3000
        assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["chart.png", "chart.svg"])
def test_the_same_run_gives_the_same_bytes(made_report: Make, tmp_path: Path, name: str) -> None:
    report = made_report("deep", "shallow")

    write_chart(report, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    write_chart(report, tmp_path / name)

    assert (tmp_path / name).read_bytes() == first


def test_an_svg_names_every_step_journey_and_service(made_report: Make, tmp_path: Path) -> None:
    write_chart(made_report(*LADDER), tmp_path / "chart.svg")

    found = texts((tmp_path / "chart.svg").read_text(encoding="utf-8"))
    assert "✗ deep" in found
    assert "✓ stateless-auth" in found
    assert {"view-balance", "lock-account", "fees", "wallet", "auth", "balance", "activity", "locks"} <= set(found)
    assert found.count("0 % served") == 7
    assert "13 % served" in found
    assert "restart" in found


def test_an_svg_carries_no_date_and_no_maker(made_report: Make, tmp_path: Path) -> None:
    write_chart(made_report("deep"), tmp_path / "chart.svg")

    svg = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert "dc:date" not in svg
    assert "Matplotlib v" not in svg


def test_another_kind_of_file_is_refused(made_report: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.png or \.svg, got .*chart\.gif"):
        write_chart(made_report("deep"), tmp_path / "chart.gif")


def test_drawing_leaves_matplotlib_as_it_was(made_report: Make, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)

    write_chart(made_report("deep"), tmp_path / "chart.svg")

    assert dict(mpl.rcParams) == before


def test_every_colour_in_a_page_can_be_replaced(made_report: Make) -> None:
    """A colour of its own would be lost in the dark."""
    svg = inline_svg(made_report("deep", "guarded"), ["deep", "guarded"], column=3.5)

    outside_variables = [part.partition(")")[2] for part in svg.split("var(")]
    assert not any("fill: #" in part or "stroke: #" in part for part in [svg.partition("var(")[0], *outside_variables])
    assert svg.count("var(--chart-missing") > 10


def test_texts_are_inside_the_figure(made_report: Make) -> None:
    """Nothing is cut off at an edge, and no step's name runs into the next column."""
    drawing = figure(made_report(*LADDER), LADDER, column=2.3, titled=True)
    drawing.draw_without_rendering()
    width, height = drawing.canvas.get_width_height()

    boxes = [
        text.get_window_extent()
        for text in [
            *drawing.texts,
            *(text for axes in drawing.axes for text in [*axes.texts, *axes.get_xticklabels()]),
        ]
        if text.get_visible() and text.get_text()
    ]

    assert len(boxes) > 100
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


def test_a_step_without_samples_or_readings_is_drawn(
    made_report: Make, made_step: Callable[[str], StepRecord], tmp_path: Path
) -> None:
    empty = replace(made_step("deep"), samples=[], journeys=[], dependencies=[], events=[], ready={}, consumer_lag={})

    write_chart(made_report(empty), tmp_path / "chart.svg")

    assert texts((tmp_path / "chart.svg").read_text(encoding="utf-8")).count("nothing sent") == 3


def test_a_title_in_any_script_and_with_any_sign_is_drawn(
    made_report: Make, scenario: Scenario, tmp_path: Path
) -> None:
    title = "costs $5 and $6 <b> & \N{CJK UNIFIED IDEOGRAPH-6C34} 100 %"
    report = made_report("deep", scenario=replace(scenario, title=title))

    write_chart(report, tmp_path / "chart.png")
    write_chart(report, tmp_path / "chart.svg")

    assert "Costs $5 and $6 <b> & \N{CJK UNIFIED IDEOGRAPH-6C34} 100 %" in texts((tmp_path / "chart.svg").read_text())


def test_a_journey_a_step_does_not_have_is_said_to_be_missing(
    made_report: Make, made_step: Callable[[str], StepRecord]
) -> None:
    record = made_step("shallow")
    extra = [*record.samples, Sample("history", 12.0, 0.1, 200, "[]")]

    report = made_report("deep", replace(record, samples=extra))

    svg = inline_svg(report, ["deep", "shallow"], column=3.5)
    assert "not in this step" in svg
    assert ">history<" in svg
