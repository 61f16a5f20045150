"""For all tests: an environment without surprises, and in CI no skip that hides a failure."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

_START_SERVERS = {"integrations/databases", "integrations/kafka", "lab/faults", "lab/platform"}

# What CI need not have: a network of some kind, an account of some kind, and data that is not part of the repository.
_MAY_BE_ABSENT = ("no IPv6", "recorded traces", "only root")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts a database, a broker, a cache, a proxy or pods is left to `make test`."""
    for item in items:
        if item.path.parent.relative_to(Path(__file__).parent).as_posix() in _START_SERVERS:
            item.add_marker("server")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the person who runs the tests: colours, widths, and shoal's own variables."""
    for name in list(os.environ):
        if name in {"CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS"} or name.startswith("SHOAL_LAB_"):
            monkeypatch.delenv(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With SHOAL_TEST_REQUIRE=all, a test that skips for want of a part has failed."""
    report = yield
    if report.skipped and os.environ.get("SHOAL_TEST_REQUIRE") == "all" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(words in reason for words in _MAY_BE_ABSENT):
            report.outcome = "failed"
            report.longrepr = f"SHOAL_TEST_REQUIRE=all, and {item.nodeid} was skipped: {reason}"
    return report
