"""What the kubelet, the endpoint controller, kube-proxy and the deployment controller decide, as plain objects.

Nothing here talks to a cluster, reads a clock or sleeps: a driver (the lab's supervisor, a simulator) says what it
sees and what time it is, and acts on the answer. The rules and their numbers are those of Kubernetes 1.36.
"""

from .backoff import RestartBackoff
from .endpoints import Conditions, endpoint_conditions, usable_endpoints
from .probe import Probe, Probes, ProbeType
from .rollout import PodState, RolloutPlan, RolloutProgress, RolloutStatus, RolloutStrategy, plan_rollout
from .worker import Decision, Observation, ProbeOutcome, ProbeResult, ProbeWorker

__all__ = [
    "Conditions",
    "Decision",
    "Observation",
    "PodState",
    "Probe",
    "ProbeOutcome",
    "ProbeResult",
    "ProbeType",
    "ProbeWorker",
    "Probes",
    "RestartBackoff",
    "RolloutPlan",
    "RolloutProgress",
    "RolloutStatus",
    "RolloutStrategy",
    "endpoint_conditions",
    "plan_rollout",
    "usable_endpoints",
]
