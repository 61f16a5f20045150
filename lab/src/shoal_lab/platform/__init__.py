"""The real parts the company runs on: processes, ports, pods, deployments, and the servers they need."""

from shoal_lab.platform.deployment import Deployment
from shoal_lab.platform.envoy import Envoy
from shoal_lab.platform.envoy_config import Address, Route
from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.kafka import Kafka
from shoal_lab.platform.pod import Pod
from shoal_lab.platform.ports import Reservation, reserve
from shoal_lab.platform.postgres import Postgres, dsn_via
from shoal_lab.platform.process import Process
from shoal_lab.platform.template import PodIdentity, Template

__all__ = [
    "Address",
    "Deployment",
    "Envoy",
    "Janitor",
    "Kafka",
    "Pod",
    "PodIdentity",
    "Postgres",
    "Process",
    "Reservation",
    "Route",
    "Template",
    "dsn_via",
    "reserve",
]
