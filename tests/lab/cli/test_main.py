"""`shoal lab`: what it lists, and what it refuses before anything is started."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from shoal_lab.cli import main
from shoal_lab.cli.arguments import parser
from shoal_lab.cli.main import _further_options
from shoal_lab.ladder import STEPS
from shoal_lab.scenario import built_in_names


def test_the_list_has_every_scenario_and_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--format", "json"]) == 0

    listing = json.loads(capsys.readouterr().out)
    assert [scenario["name"] for scenario in listing["scenarios"]] == built_in_names()
    assert [step["name"] for step in listing["steps"]] == list(STEPS)


def test_the_list_fits_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    assert main(["list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("auth-outage") for line in lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(["auth-outtage"], "there is no scenario 'auth-outtage': did you mean auth-outage?", id="scenario"),
        pytest.param(["nowhere.toml"], "scenario file nowhere.toml does not exist", id="file"),
        pytest.param(["auth-outage", "--out", "/dev/null/x"], "--out /dev/null/x: cannot be written to", id="out"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_code_2(
    line: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *line]) == 2

    error = capsys.readouterr().err
    assert error.startswith("shoal lab: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--ladder", "deep,steep", "no such step: steep; there are deep, shallow, guarded"),
        ("--ladder", "deep,deep", "each step once"),
        ("--ladder", ",", "no step named"),
        ("--time-scale", "0.5", "needs a number from 1 to 100, got 0.5"),
        ("--time-scale", "fast", "got fast"),
        ("--rate", "0", "needs a number above 0 and at most 500, got 0"),
        ("--rate", "nan", "got nan"),
        ("--port", "70000", "needs a port from 1 to 65535, got 70000"),
        ("--seed", "x", "invalid int value"),
        ("--format", "xml", "invalid choice"),
    ],
)
def test_an_impossible_option_is_usage(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "auth-outage", option, value])

    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_broken_scenario_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "T"\n[[fault]]\nkind = "down"\nedges = ["auth -> redis"]\n')

    assert main(["run", os.fspath(path)]) == 2

    assert "no edge 'auth -> redis' under deep; there are auth -> database" in capsys.readouterr().err


def test_running_it_again_never_tells_the_password() -> None:
    arguments = parser().parse_args(["run", "auth-outage", "--dsn", "postgresql://me:secret@h/d", "--rate", "5"])

    assert _further_options(arguments) == ["--rate", "5", "--dsn", "DSN"]
