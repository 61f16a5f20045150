"""Every scenario for real, at small scale: what each step of the ladder does to customers is measured, not scripted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from shoal_lab.ladder import STEPS
from shoal_lab.report import build_report
from shoal_lab.run import Settings, run
from shoal_lab.scenario import Phases, Scenario, load, parse

pytestmark = [pytest.mark.lab, pytest.mark.asyncio(loop_scope="session")]

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "lab-run.schema.json").read_text(encoding="utf-8"))
ENVOY = "upstream connect error or disconnect/reset before headers. "
# Twelve probe periods of fault are enough to lose every endpoint three times over.
PHASES = Phases(before=60, during=120, after=120)
TIME_SCALE = 15.0

Step = Mapping[str, Any]


class Quiet:
    """Progress for nobody."""

    def note(self, text: str) -> None:
        pass

    def doing(self, text: str, *, seconds: float | None = None) -> None:
        pass

    def advance(self, seconds: float) -> None:
        pass


async def play(
    scenario: str | Scenario, *steps: str, kafka: str | None = None, phases: Phases = PHASES
) -> Mapping[str, Step]:
    """Run a scenario under *steps* and return what the report says of each."""
    scenario = replace(load(scenario) if isinstance(scenario, str) else scenario, phases=phases)
    settings = Settings(steps=tuple(STEPS[step] for step in steps), kafka=kafka, time_scale=TIME_SCALE)
    result = await run(scenario, settings, Quiet())
    report = build_report(
        result.records,
        scenario,
        seed=settings.seed,
        time_scale=settings.time_scale,
        parts=result.parts,
        when=datetime.now(UTC),
    )
    jsonschema.validate(json.loads(json.dumps(report)), SCHEMA)
    for step, measured in report["steps"].items():
        for journey in measured["journeys"]:
            assert served(measured, journey, "before") >= 0.98, f"{step}: {journey} was not well before the fault"
    return report["steps"]


def served(step: Step, journey: str, phase: str = "during") -> float:
    share: float = step["journeys"][journey]["availability"][phase]
    return share


def causes(step: Step, journey: str) -> Mapping[str, int]:
    found: Mapping[str, int] = step["journeys"][journey]["causes"]["during"]
    return found


def bodies(step: Step, journey: str) -> str:
    return "\n".join(answer["body"] for answer in step["journeys"][journey]["answers"])


def seen_and_sent(step: Step) -> tuple[int, int]:
    journeys = step["journeys"].values()
    return sum(j["seen_by_pods"]["during"] for j in journeys), sum(j["sent"]["during"] for j in journeys)


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def kafka(request: pytest.FixtureRequest) -> str | None:
    """The address of each kind of Kafka; `None` is the embedded one."""
    return request.getfixturevalue("apache_kafka") if request.param == "apache" else None


async def test_auth_outage_shows_what_each_remedy_adds() -> None:
    steps = await play("auth-outage", *STEPS)

    deep = steps["deep"]
    assert deep["time_to_total_outage_s"] is not None
    # Three failed probes of ten platform seconds each, and what it takes to notice.
    assert deep["time_to_total_outage_s"] < 45 / TIME_SCALE
    assert deep["services"]["wallet"]["min_ready"] == 0
    assert deep["services"]["auth"]["min_ready"] == 0
    assert deep["services"]["balance"]["min_ready"] == 3
    assert deep["seconds_of_total_outage"] > 60 / TIME_SCALE
    assert ENVOY in bodies(deep, "fees")
    assert "connection failure" in bodies(deep, "fees")
    seen, sent = seen_and_sent(deep)
    assert seen < 0.6 * sent
    assert served(deep, "fees", "after") > 0.8

    shallow = steps["shallow"]
    assert served(shallow, "fees") == 1.0
    for journey in ("view-balance", "lock-account"):
        assert served(shallow, journey) < 0.05
        assert set(causes(shallow, journey)) == {"auth"}
        assert "upstream" not in bodies(shallow, journey)
        assert "We cannot confirm who you are right now." in bodies(shallow, journey)
    assert shallow["dependencies"]["auth"]["database"]["during"]["failures"] > 0
    assert all(service["min_ready"] == 3 for service in shallow["services"].values())

    guarded = steps["guarded"]
    assert served(guarded, "fees") == 1.0
    assert set(causes(guarded, "view-balance")) == {"auth"}
    assert guarded["journeys"]["view-balance"]["p99_s"]["during"] < 2.0
    # The budget: a fifth of the calls, and a reserve of three a second and pod.
    assert 0 < guarded["retries_per_call"] <= 0.5
    # The breaker: auth is asked far less often than customers ask for it.
    asked = guarded["dependencies"]["wallet"]["auth"]["during"]
    assert asked["attempts"] < 0.7 * asked["calls"]

    cached = steps["cached"]
    assert served(cached, "view-balance") > 0.5
    assert served(cached, "lock-account") > 0.5
    assert cached["journeys"]["view-balance"]["outcomes"]["during"]["degraded"] > 0
    assert '"stale":true' in bodies(cached, "view-balance")

    for name in ("stateless-auth", "split"):
        for journey in ("view-balance", "lock-account", "fees"):
            assert served(steps[name], journey) >= 0.99, (name, journey)
    assert "locks" in steps["split"]["services"]
    assert all(service["restarts"] == 0 for step in steps.values() for service in step["services"].values())


@pytest.mark.kafka
async def test_auth_outage_is_the_same_with_apache_kafka(apache_kafka: str) -> None:
    steps = await play("auth-outage", "deep", "stateless-auth", kafka=apache_kafka)

    assert steps["deep"]["time_to_total_outage_s"] is not None
    assert served(steps["stateless-auth"], "view-balance") >= 0.99
    assert steps["stateless-auth"]["consumer_lag"]["after"] < 50


async def test_kafka_outage_costs_a_guarded_company_next_to_nothing(kafka: str | None) -> None:
    steps = await play("kafka-outage", "deep", "shallow", "guarded", kafka=kafka)

    assert steps["deep"]["services"]["wallet"]["min_ready"] == 0
    assert steps["deep"]["services"]["activity"]["min_ready"] == 0
    assert served(steps["deep"], "fees") < 0.6
    assert served(steps["shallow"], "view-balance") < 0.2
    guarded = steps["guarded"]
    # Until the breaker opens, requests that wait for their deadline take places.
    for journey in ("view-balance", "lock-account", "fees"):
        assert served(guarded, journey) > 0.95, journey
    outcomes = guarded["journeys"]["view-balance"]["outcomes"]["during"]
    assert outcomes["degraded"] > 0.9 * sum(outcomes.values())
    assert guarded["services"]["wallet"]["min_ready"] == 3


async def test_database_hang_takes_its_neighbours_along_unless_guarded_or_split() -> None:
    steps = await play("database-hang", "deep", "shallow", "guarded", "split")

    assert steps["deep"]["services"]["wallet"]["min_ready"] == 0
    # Requests that wait for ever take all the places there are, and those who need no database are turned away.
    assert served(steps["shallow"], "fees") < 0.9
    assert causes(steps["shallow"], "fees").get("overload", 0) > 0
    # Until the breaker opens, requests that wait for their deadline still take places.
    guarded = steps["guarded"]
    assert served(guarded, "fees") > 0.9
    assert causes(guarded, "lock-account")["database"] > 0
    split = steps["split"]
    assert served(split, "view-balance") >= 0.99
    assert served(split, "fees") >= 0.99
    # What the split adds: the pods of wallet have no part in it any more.
    assert "database" not in split["dependencies"]["wallet"]
    assert split["dependencies"]["locks"]["database"]["during"]["failures"] > 0


async def test_a_slow_balance_takes_the_places_of_those_who_do_not_need_it() -> None:
    steps = await play("balance-slow", "shallow", "guarded", "split")

    shallow = steps["shallow"]
    assert causes(shallow, "fees").get("overload", 0) > 0
    assert served(shallow, "fees") < 0.95
    # Until the breaker opens, requests that wait for their deadline still take places.
    guarded = steps["guarded"]
    assert served(guarded, "fees") > 0.85
    assert served(guarded, "fees") > served(shallow, "fees")
    # What the split adds: the lock no longer waits in the same queue. Fees still does.
    split = steps["split"]
    assert served(split, "lock-account") >= 0.99
    assert "overload" not in causes(split, "lock-account")
    assert "balance" not in split["dependencies"]["locks"]


async def test_one_bad_replica_is_where_a_deep_probe_is_right() -> None:
    steps = await play("one-bad-replica", "deep", "shallow", "stateless-auth")

    deep = steps["deep"]
    assert deep["services"]["wallet"]["min_ready"] == 2
    assert deep["time_to_total_outage_s"] is None
    assert served(deep, "fees") >= 0.99
    # The bad third serves on under `shallow`, and fails what needs auth.
    assert 0.4 < served(steps["shallow"], "view-balance") < 0.85
    assert served(steps["shallow"], "view-balance") < served(deep, "view-balance")
    assert served(steps["stateless-auth"], "view-balance") >= 0.99


async def test_a_stuck_consumer_is_seen_by_liveness_and_not_by_a_deep_probe() -> None:
    steps = await play("stuck-consumer", "deep", "shallow", phases=replace(PHASES, during=360))

    assert steps["deep"]["services"]["activity"]["restarts"] == 0
    assert steps["deep"]["consumer_lag"]["during"] > 20
    shallow = steps["shallow"]
    assert shallow["services"]["activity"]["restarts"] >= 1
    assert shallow["consumer_lag"]["during"] < steps["deep"]["consumer_lag"]["during"]
    for step in steps.values():
        assert served(step, "view-balance") >= 0.99


async def test_a_bad_rollout_is_stopped_by_a_gate_and_not_by_a_shallow_probe() -> None:
    steps = await play("bad-rollout", "deep", "shallow", "guarded", phases=replace(PHASES, during=300))

    events = {name: {event["kind"] for event in step["events"]} for name, step in steps.items()}
    # It went through, and took the lock away from everybody.
    assert "rollout-complete" in events["shallow"]
    assert served(steps["shallow"], "lock-account") < 0.6
    # It was held back while the version before served.
    for name in ("deep", "guarded"):
        assert served(steps[name], "lock-account") >= 0.98, name
        assert served(steps[name], "fees") >= 0.99, name
        assert steps[name]["services"]["wallet"]["min_ready"] >= 3, name


OF_ONES_OWN = """
title = "everything else that can be broken"
[[fault]]
edges = ["wallet -> balance"]
kind = "errors"
share = 0.4
[[pod-fault]]
action = "kill"
pod = "wallet/1"
at = 10
[[pod-fault]]
action = "block-loop"
pod = "auth/0"
at = 10
lasts = 600
"""


async def test_errors_a_killed_replica_and_a_blocked_loop_can_be_played_too() -> None:
    steps = await play(parse(OF_ONES_OWN, name="mine", source="mine.toml"), "shallow", "guarded")

    for name, step in steps.items():
        # One was killed; the other answered no probe but those of its own thread, and liveness ended it.
        assert step["services"]["wallet"]["restarts"] >= 1, name
        assert step["services"]["auth"]["restarts"] >= 1, name
        killed = [event["pod"] for event in step["events"] if event["kind"] == "killed"]
        assert {"wallet/1", "auth/0"} <= set(killed), name
        stalled = [event["detail"] for event in step["events"] if event["pod"] == "auth/0"]
        assert any("event loop stalled" in detail and "in block" in detail for detail in stalled), stalled
        assert served(step, "fees", "after") >= 0.98, name
    # Four requests in ten fail; retries that the budget pays for bring some of them back.
    assert causes(steps["shallow"], "view-balance")["balance"] > 0
    assert steps["guarded"]["dependencies"]["wallet"]["balance"]["during"]["retries"] > 0
    assert steps["shallow"]["dependencies"]["wallet"]["balance"]["during"]["retries"] == 0
