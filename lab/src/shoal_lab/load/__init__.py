"""The customers: who they are, when they come, what becomes of their requests. Knows the edge and nothing behind it."""

from shoal_lab.load.arrivals import Arrival, poisson_arrivals, schedule
from shoal_lab.load.customers import NEWCOMERS, PASSWORD, Customers, all_names
from shoal_lab.load.generator import PATIENCE, Lateness, LoadGenerator
from shoal_lab.load.journeys import JOURNEYS, Errand
from shoal_lab.load.tokens import fetch_tokens

__all__ = [
    "JOURNEYS",
    "NEWCOMERS",
    "PASSWORD",
    "PATIENCE",
    "Arrival",
    "Customers",
    "Errand",
    "Lateness",
    "LoadGenerator",
    "all_names",
    "fetch_tokens",
    "poisson_arrivals",
    "schedule",
]
