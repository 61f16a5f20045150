"""The verdict in a terminal: as it was agreed on, never wider than 80 columns, readable without colour."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from shoal_lab.record import Sample, StepRecord
from shoal_lab.report import Report, print_text
from shoal_lab.report.rerun import command

GOLDEN = Path(__file__).parent / "golden"
TIMES = "\N{MULTIPLICATION SIGN}"
LADDER = ("deep", "shallow", "guarded", "cached", "stateless-auth", "split")

Make = Callable[..., Report]
MakePlain = Callable[[str, Callable[[str, float], Sample]], StepRecord]


def printed(
    report: Report, *, width: int = 80, environment: dict[str, str] | None = None, terminal: bool = False
) -> str:
    """What is printed to a file, or to a terminal, whatever the environment of the tests."""
    target = io.StringIO()
    console = Console(
        file=target, width=width, force_terminal=terminal, _environ=environment or {"TERM": "xterm-256color"}
    )
    print_text(report, console)
    return target.getvalue()


def answering(body: str, status: int | None = 503) -> Callable[[str, float], Sample]:
    return lambda journey, at: Sample(journey, at, 0.01, status, body)


@pytest.mark.parametrize("steps", [pytest.param(LADDER[:3], id="three"), pytest.param(LADDER, id="ladder")])
def test_the_verdict_is_printed_as_agreed(made_report: Make, steps: tuple[str, ...], tmp_path: Path) -> None:
    """If the change was wanted, copy the file this names over the golden one."""
    golden = GOLDEN / f"{'three' if len(steps) == 3 else 'ladder'}.txt"
    actual = tmp_path / golden.name
    actual.write_text(printed(made_report(*steps)), encoding="utf-8")

    assert actual.read_text(encoding="utf-8") == golden.read_text(encoding="utf-8"), f"compare {actual} with {golden}"


@pytest.mark.parametrize("steps", [LADDER[:1], LADDER[:3], LADDER], ids=["one step", "three steps", "six steps"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_wider_than_the_terminal(made_report: Make, steps: tuple[str, ...], width: int) -> None:
    lines = printed(made_report(*steps), width=width).splitlines()

    assert max(cell_len(line) for line in lines) <= width


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("x" * 1_000_000, id="a megabyte without a break"),
        pytest.param("wide \N{CJK UNIFIED IDEOGRAPH-6C34}" * 200, id="wide characters"),
        pytest.param("\x1b[2J\x1b]0;owned\x07\r\n[red]markup[/red]", id="escape sequences"),
        pytest.param("", id="nothing"),
    ],
)
def test_no_body_breaks_the_page(made_report: Make, make_plain: MakePlain, body: str) -> None:
    text = printed(made_report(make_plain("deep", answering(body))))

    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert len(text.splitlines()) < 90
    assert not any(char in text for char in "\x1b\x07\r")


def test_what_customers_read_is_shown_word_for_word(made_report: Make, make_plain: MakePlain) -> None:
    text = printed(made_report(make_plain("deep", answering("[bold]no[/bold] <b>upstream</b> :smile: 12"))))

    assert f"1,710 {TIMES} 503  [bold]no[/bold] <b>upstream</b> :smile: 12" in text


def test_answers_that_are_left_out_are_counted(made_report: Make, make_plain: MakePlain) -> None:
    """Nine kinds of failure: four are shown, the other five are added up."""
    kinds = "abcdefghi"

    def answer(journey: str, at: float) -> Sample:
        return Sample(journey, at, 0.01, 500, kinds[int(at) % len(kinds)])

    text = printed(made_report(make_plain("deep", answer)))

    assert f"950 {TIMES} other failures" in text


def test_a_pipe_gets_no_colour(made_report: Make) -> None:
    assert "\x1b" not in printed(made_report("deep", "shallow"))


def test_no_color_is_obeyed_in_a_terminal(made_report: Make) -> None:
    environment = {"TERM": "xterm-256color", "NO_COLOR": "1"}

    text = printed(made_report("deep", "shallow"), terminal=True, environment=environment)

    # Bold and dim remain; no code sets a colour (30 to 37, 90 to 97, 38).
    assert "\x1b[31m" not in text
    assert "\x1b[1;31m" not in text
    assert "31m" in printed(made_report("deep", "shallow"), terminal=True)


def test_marks_say_what_colours_say(made_report: Make) -> None:
    text = printed(made_report("deep", "cached", "split"))

    assert "✗ deep: " in text
    assert "▲ cached: " in text
    assert "✓ split: " in text


def test_a_terminal_without_such_characters_gets_plain_ones(made_report: Make, make_plain: MakePlain) -> None:
    raw = io.BytesIO()
    target = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    console = Console(file=target, width=80, _environ={})

    print_text(made_report("split", make_plain("deep", answering("caf\N{LATIN SMALL LETTER E WITH ACUTE}"))), console)
    target.flush()

    text = raw.getvalue().decode("ascii")
    assert "x deep: " in text
    assert "+ split: " in text
    assert r"caf\xe9" in text


def test_a_saved_run_prints_the_same(made_report: Make) -> None:
    report = made_report("deep", "shallow")

    assert printed(json.loads(json.dumps(report))) == printed(report)


def test_counters_that_could_not_be_read_are_not_called_blind(
    made_report: Make, made_step: Callable[[str], StepRecord]
) -> None:
    text = printed(made_report(replace(made_step("deep"), journeys=[])))

    assert "760 sent, no counter could be read" in text


def test_a_run_in_which_nothing_was_measured_still_prints(
    made_report: Make, made_step: Callable[[str], StepRecord]
) -> None:
    empty = replace(made_step("deep"), samples=[], journeys=[], dependencies=[], events=[], ready={}, consumer_lag={})

    text = printed(made_report(empty))

    assert "no customer asked for anything during the fault" in text


def test_how_to_run_it_again_can_be_pasted(made_report: Make) -> None:
    text = printed(made_report(*LADDER))

    again = text[text.index("Again\n") + len("Again\n") :]
    assert " ".join(again.replace("\\\n", " ").split()) == (
        "shoal lab run auth-outage --ladder deep,shallow,guarded,cached,stateless-auth,split --seed 1 --time-scale 10"
    )


def test_running_it_again_keeps_the_file_and_the_further_options(made_report: Make) -> None:
    report = made_report("deep")
    report = {**report, "source": "my scenarios/mine.toml", "options": ["--rate", "20"]}

    assert command(report) == (
        "shoal lab run 'my scenarios/mine.toml' --ladder deep --seed 1 --time-scale 10 --rate 20"
    )


@pytest.mark.parametrize(
    ("scale", "note"),
    [
        (10.0, "1 s here is 10 s of a cluster with the kubelet's default probes."),
        (2.5, "1 s here is 2.5 s of a cluster with the kubelet's default probes."),
        (1.0, "Nothing is sped up: 1 s here is 1 s of a cluster with the kubelet's default probes."),
    ],
)
def test_what_a_second_is_worth_is_said(made_report: Make, scale: float, note: str) -> None:
    text = printed(made_report("deep", time_scale=scale))

    assert note in " ".join(text.split())
