"""What Envoy is told: its bootstrap and the endpoints of one service, as plain data that becomes JSON. Pure.

Field names are those of Envoy's v3 API (`envoy.config.bootstrap.v3.Bootstrap` and what it contains).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Address = tuple[str, int]
Json = dict[str, Any]

CONNECT_TIMEOUT = 1.0
"""Seconds Envoy waits for a connection to a pod."""

ROUTE_TIMEOUT = 15.0
"""Seconds Envoy waits for a pod's answer: Envoy's own default, and longer than customers wait."""

# Servers close a connection that is idle for some seconds (uvicorn: 5). Envoy has to be the one that closes first,
# or now and then it sends a request just as the pod hangs up, which is a 503 that no scenario asked for.
_IDLE_TIMEOUT = 3.0

# Envoy's own limit of 1024 requests and connections per service would be a bulkhead, and hide what the remedies do.
_UNLIMITED = 1_000_000

_TYPE = "type.googleapis.com/"
_HTTP_FILTERS = "envoy.extensions.filters"


@dataclass(frozen=True, slots=True)
class Route:
    """Requests at the edge for *path* go to *service*; with *prefix*, all whose path begins with it.

    The query string does not count. Routes are tried in the order they are given. Raises ValueError if *path* does not
    begin with a slash.

    >>> Route("/balance", "wallet").match()
    {'path': '/balance'}
    """

    path: str
    service: str
    prefix: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"the path of a route begins with a slash, got {self.path!r}")

    def match(self) -> Json:
        """Envoy's `RouteMatch`."""
        return {"prefix" if self.prefix else "path": self.path}


def bootstrap(
    *,
    admin: Address,
    edge: Address,
    routes: Sequence[Route],
    services: Mapping[str, Address],
    endpoint_files: Mapping[str, Path],
) -> Json:
    """The whole configuration: an admin port, the edge, and a listener and a cluster for each of *services*.

    *endpoint_files* has the file each service's endpoints are read from (see `endpoints`), alone in a directory that
    is watched. Raises ValueError if a route goes to a service that is not among *services*.
    """
    for route in routes:
        if route.service not in services:
            raise ValueError(f"{route} goes to none of the services {', '.join(services)}")
    listeners = [_listener("edge", edge, routes)]
    for service, address in services.items():
        everything = [Route("/", service, prefix=True)]
        listeners.append(_listener(f"service {service}", address, everything))
    return {
        "node": {"id": "shoal-lab", "cluster": "shoal-lab"},
        "admin": {"address": _address(admin)},
        "static_resources": {
            "listeners": listeners,
            "clusters": [_cluster(service, endpoint_files[service]) for service in services],
        },
    }


def endpoints(service: str, addresses: Iterable[Address], *, version: int) -> Json:
    """The endpoints of *service*, as its file holds them (`envoy.service.discovery.v3.DiscoveryResponse`)."""
    members = [{"endpoint": {"address": _address(address)}} for address in addresses]
    assignment = {
        "@type": _TYPE + "envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": service,
        "endpoints": [{"lb_endpoints": members}],
    }
    return {"version_info": str(version), "resources": [assignment]}


def _address(address: Address) -> Json:
    host, port = address
    return {"socket_address": {"address": host, "port_value": port}}


def _seconds(duration: float) -> str:
    return f"{duration:g}s"


def _listener(name: str, address: Address, routes: Iterable[Route]) -> Json:
    # No retry policy and no active health checks anywhere: both would hide from customers what the lab is to show,
    # and a health check keeps a removed endpoint in use until it fails.
    manager = {
        "@type": f"{_TYPE}{_HTTP_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "HTTP1",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": name,
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": route.match(),
                            "route": {"cluster": route.service, "timeout": _seconds(ROUTE_TIMEOUT)},
                        }
                        for route in routes
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}{_HTTP_FILTERS}.http.router.v3.Router"},
            }
        ],
    }
    connection_manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": name,
        "address": _address(address),
        # Else another lab's Envoy could listen on the same port, and the kernel would deal connections out to both.
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [connection_manager]}],
    }


def _cluster(service: str, file: Path) -> Json:
    protocol = {
        "@type": _TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"idle_timeout": _seconds(_IDLE_TIMEOUT)},
    }
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _UNLIMITED)
    return {
        "name": service,
        "type": "EDS",
        "eds_cluster_config": {
            "service_name": service,
            "eds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": str(file), "watched_directory": {"path": str(file.parent)}},
            },
        },
        "connect_timeout": _seconds(CONNECT_TIMEOUT),
        "lb_policy": "ROUND_ROBIN",
        # Never traffic to endpoints that are not in the file, however few are left.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
    }
