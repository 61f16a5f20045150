"""The deep readiness endpoint of the article, to the letter, for those who want to see what it does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from .answer import ProbeAnswer
from .call import CheckCall
from .checks import Check

# A kubelet waits 1 s by default; what has not answered a little before counts as unavailable.
DEEP_TIMEOUT = 0.9


async def deep_answer(checks: Iterable[Check], *, timeout: float = DEEP_TIMEOUT) -> ProbeAnswer:
    """Ask every dependency now, all at once, and be ready only if all answer within *timeout* seconds.

    200 or 500 with `{"available": {"auth": true, ...}}`. What this will do to you: when one dependency goes down, every
    replica of every service that asks it leaves its load balancer at the same time, and so do their callers if they ask
    in the same way; customers then get connection failures instead of an answer, journeys that do not need the
    dependency fail too, and no request arrives that a counter could count. Each probe of each replica also is a call to
    each dependency, and one that hangs is called again all the same. Use it to see that happen, or for a person's eyes,
    not for a load balancer's.
    """
    asked = list(checks)
    outcomes = await asyncio.gather(*(CheckCall(check).outcome(timeout=timeout) for check in asked))
    return available_answer({check.name: error is None for check, error in zip(asked, outcomes, strict=True)})


def available_answer(available: Mapping[str, bool]) -> ProbeAnswer:
    """The body of the article: 200 when every dependency is available, else 500.

    >>> available_answer({"auth": True, "kafka": False})
    ProbeAnswer(status=500, body=b'{"available": {"auth": true, "kafka": false}}\\n', content_type='application/json')
    """
    return ProbeAnswer.of(200 if all(available.values()) else 500, {"available": dict(available)})
