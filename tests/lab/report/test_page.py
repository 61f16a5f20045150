"""The page: whole, self-contained, and deaf to whatever customers were sent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from shoal_lab.record import Sample, StepRecord
from shoal_lab.report import Report, write_page
from shoal_lab.report.page import render_page
from shoal_lab.scenario import Scenario

Make = Callable[..., Report]
MakePlain = Callable[[str, Callable[[str, float], Sample]], StepRecord]

TIMES = "\N{MULTIPLICATION SIGN}"
VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADING = {"script", "link", "img", "iframe", "object", "embed", "video", "audio", "source", "base", "form"}


class Outline(HTMLParser):
    """Every element opened, in order, and whether each was closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(made_report: Make) -> str:
    return render_page(made_report("deep", "shallow", "guarded"))


def test_every_element_is_closed_and_every_name_is_used_once(page: str) -> None:
    outline = Outline(page)

    assert outline.tags.count("h1") == 1
    assert len(outline.ids) == len(set(outline.ids))


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    outline = Outline(page)

    assert LOADING.isdisjoint(outline.tags)
    assert not [name for name, _ in outline.attributes if name.startswith("on") or name in {"src", "srcset", "action"}]
    assert [
        value for name, value in outline.attributes if name.endswith("href") and not (value or "").startswith("#")
    ] == []
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_what_a_drawing_refers_to_is_on_the_page(page: str) -> None:
    outline = Outline(page)
    wanted = set(re.findall(r"url\(#([^)]*)\)", page))
    wanted |= {value[1:] for name, value in outline.attributes if name.endswith("href") and value}

    assert wanted
    assert wanted <= set(outline.ids)


def test_the_page_tells_everything(page: str) -> None:
    text = Outline(page).text

    for sentence in (
        "Auth loses its database",
        "the public fee table needs nobody",
        "1 s here is 10 s of a cluster with the kubelet's default probes.",
        "everything dark 2.5 s after auth's database failed, for 19.6 s; fees too",
        "every readiness probe asks every dependency",
        f"392 {TIMES} 503 no healthy upstream",
        f"58 {TIMES} none (no answer: timeout)",
        "shoal lab run auth-outage --ladder deep,shallow,guarded",
        "24 November 2026, 15:04 UTC",
        "librdkafka 2.16.1, in-memory",
        "before 3, during 41, after 0",
    ):
        assert sentence in text


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("<script>alert(1)</script>", id="script"),
        pytest.param("</q></li></ul><h1>owned</h1>", id="closing tags"),
        pytest.param('" onload="alert(1)', id="attribute"),
        pytest.param("{{ 7 * 7 }}{% raw %}", id="template"),
        pytest.param("&lt;b&gt; &amp;", id="already escaped"),
    ],
)
def test_a_body_is_shown_and_not_obeyed(made_report: Make, make_plain: MakePlain, body: str) -> None:
    record = make_plain("deep", lambda journey, at: Sample(journey, at, 0.01, 503, body))

    outline = Outline(render_page(made_report(record)))

    assert "script" not in outline.tags
    assert outline.tags.count("h1") == 1
    assert body in outline.text


def test_a_name_is_shown_and_not_obeyed(
    made_report: Make, made_step: Callable[[str], StepRecord], scenario: Scenario
) -> None:
    evil = "<img src=x onerror=alert(1)>"
    record = replace(made_step("deep"), samples=[Sample(evil, 1.0, 0.1, 200)], replicas={evil: 3}, ready={})

    report = made_report(record, scenario=replace(scenario, title=evil, story=evil, rates={}))

    assert "img" not in Outline(render_page(report)).tags


def test_signs_no_page_may_hold_are_spelled_out(made_report: Make, make_plain: MakePlain) -> None:
    record = make_plain("deep", lambda journey, at: Sample(journey, at, 0.01, 503, "a\x00b\ud800c\u202ed"))

    assert r"a\x00b\ud800c\u202ed" in Outline(render_page(made_report(record))).text


def test_of_a_megabyte_the_page_shows_the_beginning(made_report: Make, make_plain: MakePlain) -> None:
    body = "a" * 1_000_000
    record = make_plain("deep", lambda journey, at: Sample(journey, at, 0.01, 503, body))

    html = render_page(made_report(record))

    assert "1,000,000 characters in all" in html
    assert len(html) < 300_000


def test_a_run_in_which_nothing_was_measured_has_a_page(
    made_report: Make, made_step: Callable[[str], StepRecord]
) -> None:
    empty = replace(made_step("deep"), samples=[], journeys=[], dependencies=[], events=[], ready={}, consumer_lag={})

    assert "Nothing was sent." in Outline(render_page(made_report(empty))).text


def test_a_saved_run_gives_the_same_page(made_report: Make, tmp_path: Path) -> None:
    report = made_report("deep", "split")

    write_page(report, tmp_path / "one.html")
    write_page(json.loads(json.dumps(report)), tmp_path / "two.html")

    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
