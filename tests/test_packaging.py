"""The distribution: what a stranger gets from `pip install shoal`."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def built(project: Path, out: Path) -> Path:
    """The wheel of *project*."""
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            out,
            project,
        ],
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, tmp_path_factory.mktemp("dist"))


def test_installed_alone_in_an_empty_environment_it_works(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel], check=True, capture_output=True
    )
    script = (
        "import sys, shoal, shoal.service, shoal.guard, shoal.health, shoal.metrics, shoal.kubernetes, shoal.testing\n"
        "import shoal.integrations.asgi, shoal.cli\n"
        "own = {m.partition('.')[0] for m in sys.modules}\n"
        "print(sorted(own - set(sys.stdlib_module_names) - {'shoal', '__main__'}))\n"
    )

    result = subprocess.run([python, "-I", "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path)
    command = subprocess.run(
        [tmp_path / "venv" / "bin" / "shoal", "--version"], check=True, capture_output=True, text=True
    )

    # Modules that a virtual environment brings by itself may be there; none that shoal would have asked for.
    foreign = {name for name in ast.literal_eval(result.stdout) if not name.startswith("_sysconfigdata")}
    assert foreign <= {"_distutils_hack", "sitecustomize", "usercustomize"}
    assert command.stdout.startswith("shoal ")


def test_the_library_asks_for_nothing(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(metadata).decode())

    assert [need for need in headers.get_all("Requires-Dist", []) if "extra ==" not in need] == []
    assert "shoal/py.typed" in names
    assert not [name for name in names if name.startswith("shoal_lab")]


def test_the_wheel_of_the_lab_holds_what_it_reads(tmp_path: Path) -> None:
    with zipfile.ZipFile(built(ROOT / "lab", tmp_path)) as archive:
        names = set(archive.namelist())

    assert {f"shoal_lab/scenario/files/{path.name}" for path in (ROOT / "lab").glob("**/files/*.toml")} <= names
    assert "shoal_lab/scenario/files/auth-outage.toml" in names
    assert "shoal_lab/report/page.html.j2" in names
    assert not [name for name in names if name.startswith("shoal/")]


def _tracked() -> Iterator[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout; run the tests in a clone")
    for name in listing.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            yield path


def test_no_file_names_the_host_of_a_registry() -> None:
    """Requirements are pinned by hash; where they come from is the reader's business."""
    # In pieces, so that this file does not name them.
    hosts = re.compile(
        "|".join(["python" + "hosted", "npm" + "js", r"//py" + r"pi\.", "ma" + r"ven\.org", "crates" + r"\.io"])
    )

    found = [path.name for path in _tracked() if hosts.search(path.read_text(encoding="utf-8", errors="ignore"))]

    assert found == []


@pytest.mark.parametrize("name", ["build.txt", "dev.txt"])
def test_every_requirement_is_pinned_with_hashes(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8").replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]

    assert requirements
    for line in requirements:
        assert "==" in line, line
        assert "--hash=sha256:" in line, line


def test_the_lab_asks_for_what_its_requirements_pin() -> None:
    """lab/pyproject.toml and requirements/lab.in say the same."""
    declared = re.findall(r'^    "([^"]+)"', (ROOT / "lab/pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    pinned = (ROOT / "requirements/lab.in").read_text(encoding="utf-8").split()

    assert sorted(need for need in declared if not need.startswith("shoal==")) == sorted(pinned)
