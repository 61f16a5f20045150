"""Every public name is pinned here: whoever adds, renames or removes one says so in this file."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import tomllib
from pathlib import Path

import pytest

import shoal

PUBLIC = {
    "shoal": """
        BreakerOpenError BulkheadFullError CallRejectedError CallShedError DeadlineExceededError DeclarationError Guard
        Service ShoalError TooLateError __version__ deadline remaining
    """,
    "shoal.guard": """
        Answer Backoff Block Breaker BreakerSettings BreakerState BudgetSettings Bulkhead Cells Classifier Counters
        Fault Guard GuardHealth NO_RETRY Outcome RETRY_HEADER Refusal RetryBudget Shedding SheddingSettings StaleAnswers
        TIMEOUT_HEADER Transition classify_dbapi classify_default classify_grpc classify_kafka classify_redis deadline
        do_not_retry forbids_retry remaining timeout_from_header timeout_header was_retried
    """,
    "shoal.health": """
        Answers CONTENT_TYPE Check CheckFunction CheckReading CheckRunner Component DEEP_TIMEOUT DocumentStatus
        Freshness Heartbeat Liveness LoopWatch ProbeAnswer ProbeServer Readiness StartupGate Status Symptom
        available_answer deep_answer health_document in_a_few_words public_target public_text
    """,
    "shoal.metrics": """
        CONTENT_TYPE Cells Family Histogram Kind LATENCY_BUCKETS OTHER Registry Source exposition
    """,
    "shoal.service": "Dependency GuardOptions Journey JourneyRequest Outcome Service",
    "shoal.integrations": "",
    "shoal.kubernetes": """
        Conditions Decision Observation PodState Probe ProbeOutcome ProbeResult ProbeType ProbeWorker Probes
        RestartBackoff RolloutPlan RolloutProgress RolloutStatus RolloutStrategy endpoint_conditions plan_rollout
        usable_endpoints
    """,
    "shoal.cli": "main",
    "shoal.integrations.aiohttp": "guard_middleware",
    "shoal.integrations.aiokafka": "GuardedProducer possibly_delivered",
    "shoal.integrations.asgi": "ASGIApp JourneyMiddleware Message ProbeRoutes Receive Scope Send",
    "shoal.integrations.asyncpg": "GuardedPool",
    "shoal.integrations.confluent_kafka": "GuardedProducer possibly_delivered",
    "shoal.integrations.grpc": """
        AioDeadlineInterceptor AioGuardInterceptor DeadlineInterceptor GuardInterceptor aio_interceptors
    """,
    "shoal.integrations.httpx": "AsyncGuardTransport GuardTransport",
    "shoal.integrations.httpx2": "AsyncGuardTransport GuardTransport",
    "shoal.integrations.psycopg": "AsyncConnect AsyncGuardedConnections AsyncPool Connect GuardedConnections Pool",
    "shoal.integrations.redis": "guarded",
    "shoal.integrations.requests": "GuardAdapter",
    "shoal.integrations.sqlalchemy": "AsyncGuardedEngine GuardedEngine",
    "shoal.integrations.stamina": "BackoffHook within_budget",
    "shoal.integrations.tenacity": "retry_if_repeatable stop_when_budget_is_spent",
}

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(shoal.__path__, "shoal.")
    if not module.name.rpartition(".")[2].startswith("__")
)


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_these_and_no_others(module: str) -> None:
    assert sorted(importlib.import_module(module).__all__) == sorted(PUBLIC[module].split())


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_exists_and_what_can_have_a_docstring_has_one(module: str) -> None:
    imported = importlib.import_module(module)
    for name in imported.__all__:
        value = getattr(imported, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name
            for member, inside in vars(value).items():
                if (inspect.isfunction(inside) or isinstance(inside, property)) and not member.startswith("_"):
                    assert inside.__doc__, f"{name}.{member}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for_and_its_examples_are_true(module: str) -> None:
    imported = importlib.import_module(module)

    assert imported.__doc__
    assert doctest.testmod(imported, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_the_version_is_that_of_the_distribution() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())

    assert shoal.__version__ == pyproject["project"]["version"]


def test_the_front_door_brings_no_integration_and_no_third_party() -> None:
    """Importing shoal costs what its own modules cost."""
    import subprocess
    import sys

    code = (
        "import sys, shoal\n"
        "outside = {m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names) - {'shoal', '__main__'}\n"
        "print(sorted(m for m in outside if not m.startswith(('_', 'sitecustomize', 'usercustomize'))))\n"
        "print([m for m in sys.modules if m.startswith('shoal.integrations')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n[]\n"
