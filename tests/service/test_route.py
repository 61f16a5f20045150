"""Which request belongs to which journey."""

from __future__ import annotations

import pytest

from shoal import DeclarationError, Service
from shoal.service.route import Route


@pytest.mark.parametrize(
    ("route", "path", "matches"),
    [
        ("GET /balance", "/balance", True),
        ("GET /balance", "/balance/", False),
        ("GET /balance", "/balances", False),
        ("GET /", "/", True),
        ("GET /accounts/{id}", "/accounts/42", True),
        ("GET /accounts/{id}", "/accounts/", False),
        ("GET /accounts/{id}", "/accounts/42/lock", False),
        ("GET /accounts/{id}/lock", "/accounts/a.b-c/lock", True),
        ("GET /v{version}/a+b", "/v1/a+b", True),
        ("GET /v{version}/a+b", "/v1/aab", False),
        ("GET /files/{rest:path}", "/files/a/b/c", True),
        ("GET /files/{rest:path}", "/files/", False),
    ],
)
def test_a_route_matches_whole_paths(route: str, path: str, matches: bool) -> None:
    assert Route.parse(route).matches(path) == matches


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/balance",
        "GET",
        "GET balance",
        "get /balance",
        "GET  /balance",
        "GET /a b",
        "GET /a?b=c",
        "GET /{}",
        "GET /{a-b}",
    ],
)
def test_what_is_no_route_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(DeclarationError, match="such as"):
        Route.parse(text)


@pytest.mark.parametrize(
    ("route", "template"),
    [("GET /balance", "/balance"), ("GET /accounts/{id}", "/accounts/{id}"), ("GET /f/{rest:path}", "/f/{+rest}")],
)
def test_the_template_is_one_of_rfc_6570(route: str, template: str) -> None:
    assert Route.parse(route).template == template


def found(service: Service, method: str, path: str) -> str | None:
    request = service.begin(method, path)
    if request is None:
        return None
    request.end(status=200)
    return request.journey.name


def test_a_literal_path_goes_before_a_pattern_and_head_with_get() -> None:
    service = Service("wallet")
    service.journey("one", routes=["GET /accounts/{id}", "POST /accounts/{id}/lock"], needs=[])
    service.journey("mine", routes=["GET /accounts/me"], needs=[])
    service.journey("rest", routes=["GET /accounts/{rest:path}"], needs=[])

    assert found(service, "GET", "/accounts/42") == "one"
    assert found(service, "GET", "/accounts/me") == "mine"
    assert found(service, "GET", "/accounts/42/history") == "rest"
    assert found(service, "HEAD", "/accounts/42") == "one"
    assert found(service, "POST", "/accounts/42/lock") == "one"
    assert found(service, "POST", "/accounts/42") is None
    assert found(service, "GET", "/openapi.json") is None


@pytest.mark.parametrize("route", ["GET /fees", "GET /accounts/{id}"])
def test_a_route_serves_one_journey(route: str) -> None:
    service = Service("wallet")
    service.journey("first", routes=[route], needs=[])

    with pytest.raises(DeclarationError, match="belongs to first"):
        service.journey("second", routes=[route], needs=[])
