"""The document keeps to its schema, and the schema notices when it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema import Draft202012Validator

from shoal_lab.record import StepRecord
from shoal_lab.report import Report

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "schemas" / "lab-run.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = Draft202012Validator(SCHEMA)

Make = Callable[..., Report]
STEPS = ("deep", "shallow", "guarded", "cached", "stateless-auth", "split")


def saved(report: Report) -> Any:
    """As another program would read it."""
    return json.loads(json.dumps(report))


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_a_whole_run_is_valid(made_report: Make) -> None:
    VALIDATOR.validate(saved(made_report(*STEPS)))


def test_a_run_in_which_nothing_was_measured_is_valid(
    made_report: Make, made_step: Callable[[str], StepRecord]
) -> None:
    empty = replace(made_step("deep"), samples=[], journeys=[], dependencies=[], events=[], ready={}, consumer_lag={})

    VALIDATOR.validate(saved(made_report(empty)))


def test_every_object_of_the_schema_is_closed() -> None:
    """A key nobody declared is a mistake in the report or in the schema; either way somebody should hear of it."""

    def open_objects(node: Any, path: str) -> list[str]:
        if isinstance(node, list):
            return [found for number, item in enumerate(node) for found in open_objects(item, f"{path}/{number}")]
        if not isinstance(node, dict):
            return []
        here = [path] if "properties" in node and node.get("additionalProperties") is not False else []
        return here + [found for key, item in node.items() for found in open_objects(item, f"{path}/{key}")]

    assert open_objects(SCHEMA, "#") == []


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda run: run.update(schema_version=2), id="another version"),
        pytest.param(lambda run: run.update(extra=1), id="an unknown key"),
        pytest.param(lambda run: run["steps"].clear(), id="no step"),
        pytest.param(lambda run: run["steps"]["deep"].pop("retries_per_call"), id="a missing key"),
        pytest.param(
            lambda run: run["steps"]["deep"]["journeys"]["fees"]["availability"].update(during=1.01), id="over 100 %"
        ),
        pytest.param(lambda run: run["steps"]["deep"]["journeys"]["fees"]["sent"].pop("after"), id="a phase left out"),
        pytest.param(
            lambda run: run["steps"]["deep"]["services"]["wallet"]["ready"].append([1.0, 2, 3]),
            id="a triple for a pair",
        ),
        pytest.param(lambda run: run["steps"]["deep"]["events"][0].update(kind="party"), id="an unknown event"),
    ],
)
def test_the_schema_notices(made_report: Make, spoil: Callable[[Any], object]) -> None:
    run = saved(made_report("deep"))

    spoil(run)

    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(run)
