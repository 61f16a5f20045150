"""Guards: what stands between a service and one dependency. Beside `health` and `metrics`, below `service`.

Standard library only. Every policy is a plain object that is handed the time; `Guard` composes them.
"""

from __future__ import annotations

from .backoff import Backoff
from .block import Block
from .breaker import Breaker, BreakerSettings
from .budget import BudgetSettings, RetryBudget
from .bulkhead import Bulkhead
from .cells import Cells
from .classifiers import classify_dbapi, classify_grpc, classify_kafka, classify_redis
from .counters import Counters
from .deadlines import deadline, remaining
from .fallback import Answer
from .fault import Fault
from .guard import Guard
from .health import GuardHealth
from .outcome import Classifier, Outcome, classify_default
from .propagation import (
    NO_RETRY,
    RETRY_HEADER,
    TIMEOUT_HEADER,
    forbids_retry,
    timeout_from_header,
    timeout_header,
)
from .retry import do_not_retry, was_retried
from .shedding import Shedding, SheddingSettings
from .stale import StaleAnswers
from .tally import Refusal
from .transition import BreakerState, Transition

__all__ = [
    "NO_RETRY",
    "RETRY_HEADER",
    "TIMEOUT_HEADER",
    "Answer",
    "Backoff",
    "Block",
    "Breaker",
    "BreakerSettings",
    "BreakerState",
    "BudgetSettings",
    "Bulkhead",
    "Cells",
    "Classifier",
    "Counters",
    "Fault",
    "Guard",
    "GuardHealth",
    "Outcome",
    "Refusal",
    "RetryBudget",
    "Shedding",
    "SheddingSettings",
    "StaleAnswers",
    "Transition",
    "classify_dbapi",
    "classify_default",
    "classify_grpc",
    "classify_kafka",
    "classify_redis",
    "deadline",
    "do_not_retry",
    "forbids_retry",
    "remaining",
    "timeout_from_header",
    "timeout_header",
    "was_retried",
]
