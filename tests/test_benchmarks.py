"""The benchmark measures what it says, and shoal behaves in each scenario. Other libraries need not be installed."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What is run from the root of the repository is imported from there.
sys.path.insert(0, str(ROOT))

from benchmarks.__main__ import main  # noqa: E402
from benchmarks.cost import guards  # noqa: E402
from benchmarks.cost.contenders import Contender  # noqa: E402
from benchmarks.cost.memory import Weight, weigh  # noqa: E402
from benchmarks.cost.operations import ASYNC, OPERATIONS, REJECTED, SYNC, Costs, measure  # noqa: E402
from benchmarks.cost.report import cost_table  # noqa: E402
from benchmarks.cost.run import run  # noqa: E402
from benchmarks.cost.targets import targets  # noqa: E402
from benchmarks.cost.timing import Cost, Effort, time_in_turns  # noqa: E402
from benchmarks.libraries import MODULES, Library, Settings, load  # noqa: E402
from benchmarks.report.results import page, write  # noqa: E402
from benchmarks.report.table import table  # noqa: E402
from benchmarks.scenarios import report as scenarios_report  # noqa: E402
from benchmarks.scenarios.catalogue import SCENARIOS  # noqa: E402
from benchmarks.scenarios.clocks import WALL_CLOCK  # noqa: E402
from benchmarks.scenarios.run import Results, run_all, run_apart  # noqa: E402
from benchmarks.scenarios.scenario import Verdict  # noqa: E402

TINY = Effort(rounds=1, seconds=1e-5, guards=3)


class RejectedError(Exception):
    """What the library below raises instead of calling."""


def naive_breaker(settings: Settings) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A breaker as it is written first: it counts failures in a row, and looks at the clock on the wall."""
    failures = 0
    opened = 0.0

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def guarded(*args: Any) -> Any:
            nonlocal failures, opened
            if failures >= settings.failures and time.time() < opened + settings.open_for:
                raise RejectedError
            try:
                answer = fn(*args)
            except Exception:
                failures += 1
                opened = time.time()
                raise
            failures = 0
            return answer

        return guarded

    return decorate


def naive_retry(settings: Settings) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Retries as they are written first."""

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any) -> Any:
            for _ in range(settings.attempts - 1):
                try:
                    return fn(*args)
                except ConnectionError:
                    continue
            return fn(*args)

        return guarded

    return decorate


NAIVE = Library(
    name="naive",
    distributions=(),
    rejections=(RejectedError,),
    sync={"breaker": naive_breaker, "retry": naive_retry},
)


@pytest.fixture(scope="module")
def verdicts() -> Results:
    """All scenarios with shoal, the way the benchmark runs them."""
    return run_all(["shoal"])


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_shoal_behaves_in_the_scenario(name: str, verdicts: Results) -> None:
    verdict = verdicts["shoal", name]

    assert verdict.ok, verdict.words


@pytest.mark.parametrize(
    ("name", "words"), [("d", "27"), ("e", "open an hour too long, or not at all"), ("f1", "opens")]
)
def test_a_scenario_finds_what_is_wrong_with_a_naive_library(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that they are put back.
    monkeypatch.setattr(time, "time", time.time)
    monkeypatch.setattr(dt, "datetime", dt.datetime)
    WALL_CLOCK.hang_up()

    assert SCENARIOS[name].run(NAIVE) == Verdict(ok=False, words=words)


def test_what_a_library_does_not_have_is_not_tried() -> None:
    nothing = Library(name="nothing", distributions=())

    assert {scenario.run(nothing).ok for scenario in SCENARIOS.values()} == {None}


def test_a_scenario_that_hangs_is_ended_and_said_to_hang() -> None:
    assert run_apart("shoal", "c1", limit=0.5) == Verdict(ok=False, words="hangs")


def test_a_scenario_that_cannot_be_run_says_why() -> None:
    verdict = run_apart("no_such_library", "a1")

    assert verdict.ok is False
    assert "no_such_library" in verdict.words


def test_the_comparison_shows_in_bold_what_was_wrong() -> None:
    results: Results = {("naive", "a1"): Verdict(ok=False, words="100 of 100 pass"), ("naive", "d"): Verdict(None, "-")}

    body = scenarios_report.body({"naive": NAIVE}, results, ["a1", "d"])

    assert "| a1    | **100 of 100 pass** |" in body
    assert "| d     | -                   |" in body
    assert "| wrong | 1 of 1              |" in body


async def test_each_loop_is_timed_in_turns_with_the_bare_one() -> None:
    order: list[str] = []

    async def waits(calls: int) -> None:
        order.append("async")

    costs = await time_in_turns(
        lambda _: order.append("bare"),
        {"sync": lambda _: order.append("sync"), "async": waits},
        Effort(rounds=2),
        calls=1,
    )

    assert order == ["bare", "sync", "bare", "async"] * 2
    assert list(costs) == ["sync", "async"]


async def test_the_slower_of_two_loops_costs_more() -> None:
    def loop(steps: int) -> Callable[[int], None]:
        def run(calls: int) -> None:
            for _ in range(calls):
                sum(range(steps))

        return run

    costs = await time_in_turns(loop(10), {"much": loop(5000), "little": loop(100)}, Effort(rounds=3, seconds=0.001))

    assert 0 < costs["little"].added < costs["much"].added
    assert 1 < costs["little"].ratio < costs["much"].ratio
    assert 0 < costs["little"].added_median < costs["much"].added_median


def test_weighing_counts_what_a_guard_holds() -> None:
    def make() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        held = bytearray(10_000)

        def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
            more = bytearray(5_000)
            return lambda: (held, more, fn())

        return decorate

    weight = weigh(make, guards=20)

    assert 10_000 < weight.fresh < 11_000
    assert 15_000 < weight.used < 17_000


def test_a_rejection_that_calls_after_all_is_not_timed() -> None:
    """A breaker that opens too late would pass off its successes as cheap rejections."""

    def never_opens(settings: Settings) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return lambda _: lambda: 1

    library = Library(name="naive", distributions=(), rejections=(RejectedError,), sync={"breaker": never_opens})

    with pytest.raises(AssertionError, match="should be open"):
        asyncio.run(measure(REJECTED, {"naive": library}, TINY))


def test_all_costs_are_measured_for_shoal_and_for_a_peer() -> None:
    body = asyncio.run(run({"shoal": load("shoal"), "naive": NAIVE}, TINY))

    for operation in OPERATIONS:
        assert f"## {operation.title}" in body
    for title in (SYNC.title, REJECTED.title):
        section = body.split(f"## {title}")[1].split("## ")[0]
        assert "naive: breaker" in section
    for line in (guards.NO_DEADLINE, guards.WITH_TIMEOUT, guards.LAST_GOOD, guards.EVERYTHING, guards.ASYNCIO):
        assert f"{line.library}: {line.policies}" in body.split(f"## {ASYNC.title}")[1]
    assert "shoal: all policies, 3 guards" in body


def cost(nanoseconds: float, *, bare: float = 25.0) -> Cost:
    return Cost(bare=bare * 1e-9, best=nanoseconds * 1e-9, added_median=1e-9, ratio_median=2.0)


def test_a_line_says_how_many_times_shoals_the_peers_addition_is() -> None:
    costs: Costs = {guards.DECORATOR: cost(125.0), Contender("naive", "breaker"): cost(1025.0)}

    lines = cost_table(SYNC, costs).splitlines()

    assert lines[0] == "Bare: 25 ns, ratio 1."
    assert [cell.strip() for cell in lines[-1].strip("|").split("|")] == [
        "naive: breaker",
        "1000",
        "1",
        "41.0",
        "2.0",
        "10.0",
    ]


def test_targets_are_met_missed_or_without_a_peer_to_compare_with() -> None:
    costs: dict[str, Costs] = {
        SYNC.title: {
            guards.DECORATOR: cost(500.0),
            Contender("interlock-cb", "retry, breaker, bulkhead"): cost(4000.0),
        },
        ASYNC.title: {guards.NO_DEADLINE: cost(900.0, bare=80.0), guards.WITH_TIMEOUT: cost(1500.0, bare=80.0)},
        REJECTED.title: {guards.REJECTED: cost(1000.0)},
    }

    found = targets(costs, {guards.REJECTED: Weight(fresh=1600.0, used=1601.0)})

    assert [target.met for target in found] == [True, False, True, True, True, False, False, None, None, None]
    assert [target.measured for target in found[:3]] == ["20.0", "11.2", "18.8"]
    assert found[6].measured == "8.4"


def test_a_table_is_aligned_and_holds_any_text() -> None:
    text = table(["call", "ns"], [["a|b\nc", "27"], ["bare", "1234"]], numbers=True)

    assert text.splitlines() == [
        "| call   |   ns |",
        "| ------ | ---: |",
        "| a\\|b c |   27 |",
        "| bare   | 1234 |",
    ]


def test_a_row_that_does_not_fit_the_head_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells under a head of 3"):
        table(["a", "b", "c"], [["1", "2"]])


def test_a_page_says_what_it_was_made_on_and_with(tmp_path: Path) -> None:
    path = write("guard-cpython-3.11", page("Costs", "figures", [load("shoal")]), into=tmp_path / "results")

    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "results" / "guard-cpython-3.11.md"
    assert re.search(
        rf"cores; .*; {sys.implementation.name} {sys.version.split()[0]}; \d{{4}}-\d\d-\d\d\\\nshoal \d",
        text,
        re.IGNORECASE,
    )
    assert text.endswith("\n\nfigures\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["speed"], "neither cost nor scenarios: speed"), (["--rounds", "0"], "--rounds must be at least 1, got 0")],
)
def test_a_mistake_on_the_command_line_is_named(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert complaint in capsys.readouterr().err


def test_every_library_compared_is_described_and_pinned_with_hashes() -> None:
    described = {path.stem for path in (ROOT / "benchmarks/libraries").glob("*.py")} - {"__init__", "library"}
    asked = (ROOT / "requirements/bench.in").read_text(encoding="utf-8").splitlines()
    pinned = (ROOT / "requirements/bench.txt").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()

    assert described == set(MODULES)
    for name in asked:
        if name and not name.startswith("#"):
            (line,) = [line for line in pinned if line.startswith(f"{name}==")]
            assert "--hash=sha256:" in line
