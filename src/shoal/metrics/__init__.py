"""Numbers about a service, kept as plain values and read at scrape time.

Next to `shoal.guard` and `shoal.health`, of which it knows nothing: `shoal.service` says what is measured, this
package keeps and prints it. Only the standard library is needed; the text is what Prometheus scrapes.
"""

from .cells import OTHER, Cells
from .family import Family, Kind
from .histogram import LATENCY_BUCKETS, Histogram
from .registry import Registry, Source
from .text import CONTENT_TYPE, exposition

__all__ = [
    "CONTENT_TYPE",
    "LATENCY_BUCKETS",
    "OTHER",
    "Cells",
    "Family",
    "Histogram",
    "Kind",
    "Registry",
    "Source",
    "exposition",
]
