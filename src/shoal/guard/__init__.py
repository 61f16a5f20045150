"""Guards: what stands between a service and one dependency. Beside `health` and `metrics`, below `service`.

Standard library only. Every policy is a plain object that is handed the time; `Guard` composes them.
"""

from __future__ import annotations

from .backoff import Backoff
from .breaker import Breaker, BreakerSettings, BreakerState
from .budget import BudgetSettings, RetryBudget
from .bulkhead import Bulkhead
from .counters import Counters
from .guard import Guard
from .health import GuardHealth
from .outcome import Classifier, Outcome, classify_default
from .stale import Answer, StaleAnswers

__all__ = [
    "Answer",
    "Backoff",
    "Breaker",
    "BreakerSettings",
    "BreakerState",
    "BudgetSettings",
    "Bulkhead",
    "Classifier",
    "Counters",
    "Guard",
    "GuardHealth",
    "Outcome",
    "RetryBudget",
    "StaleAnswers",
    "classify_default",
]
