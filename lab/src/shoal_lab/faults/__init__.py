"""What can go wrong between two parts: a proxy on each edge, and the faults it can be given. Knows no scenario."""

from shoal_lab.faults.counters import Counters
from shoal_lab.faults.fault import Fault
from shoal_lab.faults.proxy import FaultProxy, Protocol

__all__ = ["Counters", "Fault", "FaultProxy", "Protocol"]
