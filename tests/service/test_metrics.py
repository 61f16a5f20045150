"""The metric contract: names, labels, and that every series is there at 0."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shoal import Service
from shoal.testing import ManualClock

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(service: Service) -> Series:
    answer = service.answer("/metrics")
    assert answer is not None
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def value(series: Series, name: str, **labels: str) -> float:
    return series[name, tuple(sorted(labels.items()))]


def wallet(**settings: object) -> Service:
    service = Service("wallet", **settings)  # type: ignore[arg-type]  # whatever the test is about
    auth = service.dependency("auth", target="http://auth", attempts=1)
    kafka = service.dependency("kafka", target="kafka://broker:9092", limit=None)
    service.journey("view-balance", routes=["GET /balance"], needs=[auth], better_with=[kafka])
    service.journey("fees", routes=["GET /fees"], needs=[])
    return service


def test_every_combination_that_can_occur_exists_at_zero() -> None:
    series = scrape(wallet())

    requests = {
        tuple(dict(labels)[name] for name in ("journey", "outcome", "cause")): count
        for (name, labels), count in series.items()
        if name == "shoal_journey_requests_total"
    }
    assert set(requests) == {
        ("view-balance", "ok", "none"),
        ("view-balance", "client_error", "none"),
        ("view-balance", "shed", "overload"),
        ("view-balance", "degraded", "auth"),
        ("view-balance", "degraded", "kafka"),
        ("view-balance", "failed", "auth"),
        ("view-balance", "failed", "kafka"),
        ("view-balance", "failed", "self"),
        ("view-balance", "failed", "deadline"),
        ("fees", "ok", "none"),
        ("fees", "client_error", "none"),
        ("fees", "shed", "overload"),
        ("fees", "failed", "self"),
        ("fees", "failed", "deadline"),
    }
    assert set(requests.values()) == {0}


@pytest.mark.parametrize(
    ("name", "label", "values"),
    [
        (
            "shoal_dependency_calls_total",
            "outcome",
            "success success_after_retry exhausted non_retryable timeout rejected cancelled",
        ),
        ("shoal_dependency_attempts_total", "outcome", "ok error timeout"),
        ("shoal_dependency_retries_total", "error_type", "timeout connect reset 5xx throttled other"),
        ("shoal_breaker_transitions_total", "to", "closed open half_open"),
        ("shoal_breaker_state", "state", "closed open half_open"),
    ],
)
def test_a_guards_series_are_there_from_the_start(name: str, label: str, values: str) -> None:
    series = scrape(wallet())

    for dependency in ("auth", "kafka"):
        found = {
            dict(labels)[label]: number
            for (found_name, labels), number in series.items()
            if found_name == name and dict(labels)["dependency"] == dependency
        }
        assert set(found) == set(values.split())
        assert found == ({"closed": 1, "open": 0, "half_open": 0} if label == "state" else dict.fromkeys(found, 0))


def test_single_numbers_of_a_guard_are_there_too() -> None:
    series = scrape(wallet())

    assert value(series, "shoal_dependency_backoff_seconds_total", dependency="auth") == 0
    assert value(series, "shoal_dependency_retries_denied_total", dependency="auth") == 0
    assert value(series, "shoal_dependency_stale_answers_total", dependency="auth") == 0
    assert value(series, "shoal_dependency_orphans_total", dependency="auth") == 0
    assert value(series, "shoal_dependency_inflight", dependency="auth") == 0
    assert value(series, "shoal_dependency_inflight_limit", dependency="auth") == 64
    assert value(series, "shoal_retry_budget_remaining_ratio", dependency="auth") == 1
    with pytest.raises(KeyError):
        value(series, "shoal_dependency_inflight_limit", dependency="kafka")


async def test_what_a_guard_counts_is_what_is_scraped() -> None:
    service = Service("wallet")
    auth = service.dependency("auth", target="http://auth", attempts=1)
    entered, release = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        await release.wait()

    async def refuse() -> None:
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await auth.guard.arun(refuse)
    waiting = asyncio.create_task(auth.guard.arun(wait))
    await entered.wait()
    during = scrape(service)
    release.set()
    await waiting
    after = scrape(service)

    assert value(during, "shoal_dependency_calls_total", dependency="auth", outcome="exhausted") == 1
    assert value(during, "shoal_dependency_attempts_total", dependency="auth", outcome="error") == 1
    assert value(during, "shoal_dependency_inflight", dependency="auth") == 1
    assert value(after, "shoal_dependency_calls_total", dependency="auth", outcome="success") == 1
    assert value(after, "shoal_dependency_inflight", dependency="auth") == 0


def test_requests_are_counted_and_timed_at_their_end() -> None:
    clock = ManualClock()
    service = wallet(clock=clock, limit=1)

    request = service.begin("GET", "/balance")
    shed = service.begin("GET", "/fees")
    assert request is not None
    assert shed is not None
    assert shed.shed
    before = scrape(service)
    clock.advance(0.3)
    assert request.end(status=200) == ("ok", "none")
    after = scrape(service)

    ok = {"journey": "view-balance", "outcome": "ok"}
    assert value(before, "shoal_journey_requests_total", **ok, cause="none") == 0
    assert value(after, "shoal_journey_requests_total", **ok, cause="none") == 1
    assert value(after, "shoal_journey_requests_total", journey="fees", outcome="shed", cause="overload") == 1
    assert value(after, "shoal_journey_request_duration_seconds_bucket", **ok, le="0.25") == 0
    assert value(after, "shoal_journey_request_duration_seconds_bucket", **ok, le="0.5") == 1
    assert value(after, "shoal_journey_request_duration_seconds_sum", **ok) == 0.3


def test_refusals_and_clients_errors_are_not_timed() -> None:
    """They take no time to speak of, and would make a slow service look quick."""
    service = wallet()
    request = service.begin("GET", "/fees")
    assert request is not None
    request.end(status=404)
    outcomes = {
        dict(labels)["outcome"]
        for (name, labels), _ in scrape(service).items()
        if name == "shoal_journey_request_duration_seconds_count"
    }

    assert outcomes == {"ok", "degraded", "failed"}


def test_probes_are_counted_by_their_result() -> None:
    service = wallet()
    for path in ("/livez", "/livez", "/readyz", "/startupz", "/health", "/metrics"):
        service.answer(path)
    series = scrape(service)

    counts = {
        (dict(labels)["probe"], dict(labels)["result"]): count
        for (name, labels), count in series.items()
        if name == "shoal_probe_results_total"
    }
    assert counts == {
        ("liveness", "pass"): 2,
        ("liveness", "fail"): 0,
        ("readiness", "pass"): 0,
        ("readiness", "fail"): 1,
        ("startup", "pass"): 0,
        ("startup", "fail"): 1,
    }


async def test_readiness_and_checks_are_gauges() -> None:
    clock = ManualClock(now=100.0, wall=1_000.0)
    service = Service("wallet", clock=clock)

    async def fine() -> None:
        """Works."""

    async def refuse() -> None:
        raise ConnectionRefusedError

    for name, check in (("auth", fine), ("kafka", refuse)):
        service.dependency(name, target=f"http://{name}").check(every=3600.0)(check)
    before = scrape(service)
    async with service.running(host="127.0.0.1", port=0):
        await asyncio.sleep(0.01)
        clock.advance(5.0)
        during = scrape(service)
    after = scrape(service)

    assert [value(s, "shoal_ready", workload="wallet") for s in (before, during, after)] == [0, 1, 0]
    for name, up in (("auth", 1), ("kafka", 0)):
        assert value(before, "shoal_check_up", check=name, kind="dependency") == 0
        assert value(during, "shoal_check_up", check=name, kind="dependency") == up
        assert value(before, "shoal_check_results_total", check=name, result="pass") == 0
    assert value(during, "shoal_check_results_total", check="auth", result="pass") == 1
    assert value(during, "shoal_check_results_total", check="kafka", result="fail") == 1
    assert value(during, "shoal_check_last_success_timestamp_seconds", check="auth") == 1_000.0
    with pytest.raises(KeyError):
        value(during, "shoal_check_last_success_timestamp_seconds", check="kafka")


def test_the_declaration_can_be_joined_to_the_counts() -> None:
    series = scrape(wallet())

    name = "shoal_journey_dependency_info"
    assert value(series, name, journey="view-balance", dependency="auth", criticality="hard") == 1
    assert value(series, name, journey="view-balance", dependency="kafka", criticality="soft") == 1


def test_a_family_of_ones_own_is_scraped_along() -> None:
    from shoal.metrics import Family

    service = wallet()
    service.registry.source(Family("queue_length", "gauge", "Jobs waiting."), lambda: [((), 3)])

    assert value(scrape(service), "queue_length") == 3
