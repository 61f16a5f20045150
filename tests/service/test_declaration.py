"""A declaration that cannot work is refused where it is written, with what would."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from shoal import DeclarationError, Guard, Service
from shoal.health import Check
from shoal.service import GuardOptions


def make_twice(service: Service) -> None:
    service.dependency("auth", target="http://auth")
    service.dependency("auth", target="http://auth")


def journey_twice(service: Service) -> None:
    service.journey("fees", routes=["GET /fees"], needs=[])
    service.journey("fees", routes=["GET /fees/all"], needs=[])


def heartbeat_twice(service: Service) -> None:
    service.heartbeat("consumer", stalled_after=5.0)
    service.heartbeat("consumer", stalled_after=5.0)


def check_twice(service: Service) -> None:
    auth = service.dependency("auth", target="http://auth")
    auth.check()(lambda: None)
    auth.check()(lambda: None)


def need_of_another_service(service: Service) -> None:
    auth = Service("other").dependency("auth", target="http://auth")
    service.dependency("auth", target="http://auth")
    service.journey("view-balance", routes=["GET /balance"], needs=[auth])


def needed_and_better_with(service: Service) -> None:
    auth = service.dependency("auth", target="http://auth")
    service.journey("view-balance", routes=["GET /balance"], needs=[auth], better_with=[auth])


@pytest.mark.parametrize(
    ("declare", "complaint"),
    [
        pytest.param(make_twice, "auth is declared already", id="dependency twice"),
        pytest.param(journey_twice, "fees is declared already", id="journey twice"),
        pytest.param(heartbeat_twice, "heartbeat consumer already", id="heartbeat twice"),
        pytest.param(check_twice, "auth has a check already", id="check twice"),
        pytest.param(need_of_another_service, "auth is not a dependency of wallet", id="another service's"),
        pytest.param(needed_and_better_with, "names auth twice", id="needed and not needed"),
        pytest.param(lambda s: s.dependency("self", target="http://x"), "causes of another kind", id="a cause's name"),
        pytest.param(lambda s: s.dependency("a b", target="http://x"), "letters, digits", id="blank in a name"),
        pytest.param(lambda s: s.journey("", routes=[], needs=[]), "letters, digits", id="no name"),
        pytest.param(lambda s: s.heartbeat("x:y", stalled_after=1), "letters, digits", id="colon in a name"),
        pytest.param(lambda s: s.heartbeat("x", stalled_after=0), "above 0 seconds", id="no patience"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(declare: Callable[[Service], object], complaint: str) -> None:
    with pytest.raises(DeclarationError, match=complaint):
        declare(Service("wallet"))


@pytest.mark.parametrize(
    "settings",
    [{"startup_budget": -1.0}, {"stall_fails_after": 0.0}, {"limit": 0}, {"readiness": "profound"}],
    ids=lambda settings: next(iter(settings)),
)
def test_a_setting_that_cannot_work_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(DeclarationError, match=next(iter(settings))):
        Service("wallet", **settings)  # type: ignore[arg-type]  # the wrong types are the subject


def test_a_refused_journey_leaves_nothing_behind() -> None:
    service = Service("wallet")
    service.journey("fees", routes=["GET /fees"], needs=[])
    with pytest.raises(DeclarationError):
        service.journey("all", routes=["GET /all", "GET /fees"], needs=[])

    service.journey("all", routes=["GET /all"], needs=[])


def test_a_check_is_declared_with_its_settings_and_the_function_stays_a_function() -> None:
    service = Service("wallet")
    db = service.dependency("database", target="postgres://db/wallet")

    @db.check(every=5, timeout=0.5, failures_before_down=2, successes_before_up=4)
    async def select_one() -> int:
        return 1

    assert select_one.__name__ == "select_one"
    assert isinstance(db.checked, Check)
    assert (db.checked.every, db.checked.timeout) == (5, 0.5)
    assert (db.checked.failures_before_down, db.checked.successes_before_up) == (2, 4)


def test_a_dependency_does_not_print_its_credentials() -> None:
    db = Service("wallet").dependency("database", target="postgres://app:s3cr3t@db/wallet?sslmode=x")

    assert repr(db) == "Dependency('database', target='postgres://db/wallet')"
    assert db.target == "postgres://app:s3cr3t@db/wallet?sslmode=x"


@pytest.mark.parametrize(
    ("target", "links", "expected"),
    [
        ("http://app:s3cr3t@auth:8080/v1?x=1", None, {"self": "http://auth:8080/health"}),
        ("https://auth", None, {"self": "https://auth/health"}),
        ("postgres://db/wallet", None, {}),
        ("http://auth", {"self": "http://auth:8081/health"}, {"self": "http://auth:8081/health"}),
        ("http://auth", {}, {}),
    ],
    ids=["http", "https", "not http", "said otherwise", "none"],
)
def test_the_document_of_an_http_dependency_is_where_shoal_serves_it(
    target: str, links: dict[str, str] | None, expected: dict[str, str]
) -> None:
    assert Service("wallet").dependency("auth", target=target, links=links).links == expected


def test_every_option_of_a_guard_can_be_given_where_the_dependency_is_declared() -> None:
    made_by_the_service = {"self", "name", "timeout", "clock", "rng", "sleep", "async_sleep"}

    options = set(inspect.signature(Guard).parameters) - made_by_the_service

    assert set(GuardOptions.__annotations__) == options


async def test_what_comes_too_late_to_take_effect_is_refused() -> None:
    service = Service("wallet")
    auth = service.dependency("auth", target="http://auth")

    async with service.running(host="127.0.0.1", port=0):
        with pytest.raises(DeclarationError, match="comes too late"):
            auth.check()(lambda: None)
        with pytest.raises(DeclarationError, match="comes too late"):
            service.dependency("database", target="postgres://db", required_to_start=True)
        # These take effect at once.
        service.dependency("kafka", target="kafka://broker")
        service.journey("fees", routes=["GET /fees"], needs=[])
        service.heartbeat("consumer", stalled_after=5.0)


async def test_what_is_required_to_start_needs_a_check() -> None:
    service = Service("wallet")
    service.dependency("database", target="postgres://db", required_to_start=True)

    with pytest.raises(DeclarationError, match=r"declare one with @database\.check\(\)"):
        async with service.running(host="127.0.0.1", port=0):
            pass
