"""shoal: a service is ready if it can serve a response, and a failure response counts.

The whole of it for a service is `Service`; `Guard` can be used alone. What they are made of is in `shoal.guard`,
`shoal.health`, `shoal.metrics` and `shoal.service`, adapters are in `shoal.integrations`.
"""

from shoal.errors import (
    BreakerOpenError,
    BulkheadFullError,
    CallRejectedError,
    CallShedError,
    DeadlineExceededError,
    DeclarationError,
    ShoalError,
    TooLateError,
)
from shoal.guard import Guard, deadline, remaining
from shoal.service import Service

__version__ = "0.1.0"

__all__ = [
    "BreakerOpenError",
    "BulkheadFullError",
    "CallRejectedError",
    "CallShedError",
    "DeadlineExceededError",
    "DeclarationError",
    "Guard",
    "Service",
    "ShoalError",
    "TooLateError",
    "__version__",
    "deadline",
    "remaining",
]
