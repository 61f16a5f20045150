"""The command line, as a stranger meets it."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

import shoal
from shoal.cli import main


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"shoal {shoal.__version__}\n"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    assert "lab" in capsys.readouterr().out


@pytest.mark.parametrize("line", [[], ["lba"], ["--nonsense"]], ids=["nothing", "unknown command", "unknown option"])
def test_what_is_not_understood_is_usage(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line)

    assert ended.value.code == 2
    assert "usage: shoal" in capsys.readouterr().err


def test_without_the_lab_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)

    assert main(["lab", "list"]) == 1
    assert capsys.readouterr().err == "shoal lab: the lab is a package of its own; run: pip install 'shoal[lab]'\n"
