"""The health document on the wire."""

from __future__ import annotations

import json

import pytest

from shoal.health import Component, ProbeAnswer, Status, health_document


def test_a_whole_document() -> None:
    auth = Component(
        name="auth",
        measurement="errorRate",
        kind="component",
        status="down",
        value=0.97,
        unit="ratio",
        time=1_777_593_600.0,
        output="refused",
        affected_endpoints=("/balance", "/accounts/{id}"),
        links={"self": "http://auth/health"},
    )
    database = Component(
        name="database", measurement="responseTime", kind="datastore", status="up", value=1.5, unit="ms"
    )

    document = health_document(
        service="wallet", version="1.0", status="warn", components=[auth, database], notes=["not ready: draining"]
    )

    assert document == {
        "status": "warn",
        "version": "1.0",
        "serviceId": "wallet",
        "notes": ["not ready: draining"],
        "checks": {
            "auth:errorRate": [
                {
                    "componentType": "component",
                    "observedValue": 0.97,
                    "observedUnit": "ratio",
                    "status": "fail",
                    "time": "2026-05-01T00:00:00.000Z",
                    "output": "refused",
                    "affectedEndpoints": ["/balance", "/accounts/{id}"],
                    "links": {"self": "http://auth/health"},
                }
            ],
            "database:responseTime": [
                {"componentType": "datastore", "observedValue": 1.5, "observedUnit": "ms", "status": "pass"}
            ],
        },
    }


@pytest.mark.parametrize(
    ("status", "word"), [("up", "pass"), ("degraded", "warn"), ("unknown", "warn"), ("down", "fail")]
)
def test_every_status_has_a_word_of_the_format(status: Status, word: str) -> None:
    component = Component(name="auth", measurement="errorRate", kind="component", status=status)
    document = health_document(service="wallet", version=None, status="pass", components=[component])

    assert document["checks"] == {"auth:errorRate": [{"componentType": "component", "status": word}]}


def test_what_is_not_known_is_left_out() -> None:
    assert health_document(service="wallet", version=None, status="pass", components=[]) == {
        "status": "pass",
        "serviceId": "wallet",
        "checks": {},
    }


def test_no_text_carries_a_secret_or_a_second_line() -> None:
    component = Component(
        name="database",
        measurement="responseTime",
        kind="datastore",
        status="down",
        output="cannot connect to postgres://app:s3cr3t@db/wallet\npassword=s3cr3t" + "x" * 1000,
    )
    document = health_document(
        service="wallet", version=None, status="warn", components=[component], notes=["token=s3cr3t", "x" * 1000]
    )

    written = json.dumps(document)
    assert "s3cr3t" not in written
    assert len(written) < 800
    assert "\\n" not in written


def test_an_answer_is_one_line_of_json() -> None:
    assert ProbeAnswer.of(503, {"ready": False, "reason": "first\nsecond"}).body.count(b"\n") == 1
