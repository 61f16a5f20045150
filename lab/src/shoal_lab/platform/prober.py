"""One HTTP probe, made as the kubelet makes it."""

import asyncio
import os
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import aiohttp

from shoal.kubernetes import ProbeOutcome

USER_AGENT = "kube-probe/1.36"
MAX_BODY = 10 * 1024
"""Bytes of the body that are read; a longer one is cut, which harms nothing."""
MAX_WORDS = 160
"""Characters of the body that are shown."""
MAX_REQUESTS = 10
"""Requests in a chain of redirects, the first included, as in Go's HTTP client."""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What came of one probe."""

    outcome: ProbeOutcome
    detail: str
    """Why it failed, in few words, or the status it answered."""
    body: str = ""
    """The beginning of the answer. The kubelet never shows it; the lab does."""

    def __str__(self) -> str:
        """One line."""
        body = " ".join(self.body.split())[:MAX_WORDS]
        return f"{self.detail}: {body}" if body else self.detail


async def http_probe(url: str, *, timeout: float) -> ProbeReport:
    """Ask *url* once; *timeout* seconds cover connection, redirects, headers and body together.

    Success is any status from 200 to 399. Every probe has a connection of its own; no proxy, no compression.
    Redirects are followed on the same host name, whatever the port; one to another host is not followed and is a
    warning, which counts as success (`pkg/probe/http/http.go` in Kubernetes). Never raises: what goes wrong is a
    failure, with the reason in `detail`.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _ask(url)
    except TimeoutError:
        return ProbeReport(ProbeOutcome.FAILURE, f"no answer within {timeout:g} s")
    except aiohttp.ClientConnectorError as error:
        return ProbeReport(ProbeOutcome.FAILURE, os.strerror(error.errno).lower() if error.errno else str(error))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return ProbeReport(ProbeOutcome.FAILURE, f"{type(error).__name__}: {error}")


async def _ask(url: str) -> ProbeReport:
    hostname = urlsplit(url).hostname
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        headers={"User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"},
        skip_auto_headers=["Accept-Encoding"],
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
    )
    async with session:
        for _ in range(MAX_REQUESTS):
            async with session.get(url, allow_redirects=False) as response:
                body = await _beginning(response)
                target = _target(url, response)
                if target is None or urlsplit(target).hostname != hostname:
                    return _judge(response.status, body)
                url = target
    return ProbeReport(ProbeOutcome.FAILURE, f"stopped after {MAX_REQUESTS} redirects")


async def _beginning(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    while len(body) < MAX_BODY and (chunk := await response.content.read(MAX_BODY - len(body))):
        body += chunk
    return body.decode(errors="replace")


def _target(url: str, response: aiohttp.ClientResponse) -> str | None:
    """Where a redirect leads, `None` if the answer is no redirect."""
    location = response.headers.get("Location")
    if response.status not in (301, 302, 303, 307, 308) or not location:
        return None
    return urljoin(url, location)


def _judge(status: int, body: str) -> ProbeReport:
    if 200 <= status < 300:
        return ProbeReport(ProbeOutcome.SUCCESS, f"HTTP {status}", body)
    if 300 <= status < 400:
        return ProbeReport(ProbeOutcome.WARNING, "probe terminated redirects", body)
    return ProbeReport(ProbeOutcome.FAILURE, f"HTTP probe failed with statuscode: {status}", body)
