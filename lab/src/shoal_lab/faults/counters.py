"""What went over an edge."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class Counters:
    """Totals of one proxy since it was made. Plain integers, changed on the event loop's thread only."""

    connections: int = 0
    """Accepted from the caller. Those refused while the edge is `down` never reach the proxy and are not counted;
    those made while it hangs are counted when it goes on."""
    unreachable: int = 0
    """Accepted and reset, since the target could not be connected to."""
    resets: int = 0
    """Established or being established, and reset because the edge went `down`."""
    requests: int = 0
    """HTTP requests seen, whoever answered them. 0 on other edges."""
    injected: int = 0
    """HTTP requests answered 503 by the proxy."""
    unreadable: int = 0
    """Connections on which the proxy lost the thread. An HTTP one is passed on blindly from there (and spared by
    `errors`) if that can be done in order; else, and on Kafka edges always, it is reset."""
    bytes_from_caller: int = 0
    bytes_from_target: int = 0
