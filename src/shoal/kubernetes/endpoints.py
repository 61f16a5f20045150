"""Which pods of a Service get traffic: the endpoint controller's conditions, and kube-proxy's choice among them."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """The conditions of one endpoint in an EndpointSlice."""

    ready: bool
    serving: bool
    terminating: bool


def endpoint_conditions(
    *, pod_ready: bool, deleting: bool = False, publish_not_ready_addresses: bool = False
) -> Conditions:
    """The conditions of the endpoint of a pod that has an address and has not ended (others have no endpoint).

    A pod that is being deleted loses `ready` at once, whatever its readiness probe says
    (`endpointslice/utils.go` in Kubernetes).

    >>> endpoint_conditions(pod_ready=True, deleting=True)
    Conditions(ready=False, serving=True, terminating=True)
    """
    return Conditions(
        ready=publish_not_ready_addresses or (pod_ready and not deleting),
        serving=pod_ready,
        terminating=deleting,
    )


def usable_endpoints(endpoints: Iterable[tuple[T, Conditions]]) -> list[T]:
    """The endpoints that get new connections, in the order given.

    The ready ones; if there are none, those that still serve while terminating; else none, and connections are
    refused (`pkg/proxy/topology.go` in Kubernetes). A pod that is merely not ready never gets any.

    >>> leaving = endpoint_conditions(pod_ready=True, deleting=True)
    >>> usable_endpoints([("a", leaving), ("b", endpoint_conditions(pod_ready=False))])
    ['a']
    """
    listed = list(endpoints)
    ready = [endpoint for endpoint, conditions in listed if conditions.ready]
    return ready or [endpoint for endpoint, conditions in listed if conditions.serving and conditions.terminating]
