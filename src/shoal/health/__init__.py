"""What a service knows of itself and its dependencies, and how it answers probes from that knowledge.

Next to `shoal.guard` and `shoal.metrics`, of which it knows nothing; `shoal.service` composes the three. Only the
standard library is needed.
"""

from .answer import ProbeAnswer
from .checks import Check, CheckFunction
from .deep import DEEP_TIMEOUT, available_answer, deep_answer
from .document import CONTENT_TYPE, Component, DocumentStatus, health_document
from .gate import StartupGate
from .liveness import Heartbeat, Liveness, Symptom
from .loopwatch import LoopWatch
from .readiness import Readiness
from .reading import CheckReading, Freshness, Status
from .runner import CheckRunner
from .server import ProbeServer
from .serving import Answers
from .words import in_a_few_words, public_target, public_text

__all__ = [
    "CONTENT_TYPE",
    "DEEP_TIMEOUT",
    "Answers",
    "Check",
    "CheckFunction",
    "CheckReading",
    "CheckRunner",
    "Component",
    "DocumentStatus",
    "Freshness",
    "Heartbeat",
    "Liveness",
    "LoopWatch",
    "ProbeAnswer",
    "ProbeServer",
    "Readiness",
    "StartupGate",
    "Status",
    "Symptom",
    "available_answer",
    "deep_answer",
    "health_document",
    "in_a_few_words",
    "public_target",
    "public_text",
]
