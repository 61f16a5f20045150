"""What the company deploys, and who calls whom: the manifest the platform works from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shoal_lab.ladder import Remedies

Protocol = Literal["http", "tcp", "kafka"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependency:
    """One edge: a name in the caller's declaration, and what stands behind it."""

    name: str
    protocol: Protocol
    to: str
    """A service for `http`, the database of a service for `tcp`, empty for `kafka`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """One service of the company."""

    service: str
    dependencies: tuple[Dependency, ...]
    routes: tuple[str, ...] = ()
    """Paths at the edge."""
    replicas: int = 3


_AUTH = Dependency(name="auth", protocol="http", to="auth")
_BALANCE = Dependency(name="balance", protocol="http", to="balance")
_KAFKA = Dependency(name="kafka", protocol="kafka", to="")


def _database(of: str) -> Dependency:
    return Dependency(name="database", protocol="tcp", to=of)


def workloads(remedies: Remedies) -> tuple[Workload, ...]:
    """The services deployed under these remedies."""
    auth = Workload(service="auth", dependencies=(_database("auth"),), routes=("/token",))
    balance = Workload(service="balance", dependencies=(_database("balance"),))
    activity = Workload(service="activity", dependencies=(_KAFKA,), routes=("/activity",))
    if not remedies.split:
        wallet = Workload(
            service="wallet",
            dependencies=(_AUTH, _BALANCE, _KAFKA, _database("wallet")),
            routes=("/balance", "/account/lock", "/fees"),
        )
        return auth, balance, wallet, activity
    wallet = Workload(service="wallet", dependencies=(_AUTH, _BALANCE, _KAFKA), routes=("/balance", "/fees"))
    # The accounts stay in the database they are in; only who asks it changes.
    locks = Workload(service="locks", dependencies=(_AUTH, _database("wallet")), routes=("/account/lock",))
    return auth, balance, wallet, activity, locks


DATABASES = ("auth", "balance", "wallet")
