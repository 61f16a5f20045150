"""The declaration of a service, from which its guards, probes, health document and metrics are derived.

On top of `shoal.guard`, `shoal.health` and `shoal.metrics`, which it composes; below `shoal.integrations`, which report
requests to it. Only the standard library is needed.
"""

from .dependency import Dependency
from .journey import Journey
from .outcome import Outcome
from .requests import JourneyRequest
from .service import GuardOptions, Service

__all__ = ["Dependency", "GuardOptions", "Journey", "JourneyRequest", "Outcome", "Service"]
