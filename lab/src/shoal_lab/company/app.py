"""What every service of the company has in common: an ASGI application, counted, with its probes mounted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import FastAPI

import shoal
from shoal.integrations.asgi import JourneyMiddleware, ProbeRoutes
from shoal_lab.company import answers
from shoal_lab.company.settings import REQUESTS_AT_ONCE, PodSettings


class Resource(Protocol):
    """Something a service holds open while it serves."""

    async def open(self) -> None:
        """Called before the first request, and must not need the other end to be there."""

    async def close(self) -> None:
        """Called after the last one, and must not wait for a server that may be gone."""


def _ignore(_order: str) -> None:
    """Most services take no orders."""


@dataclass(frozen=True, kw_only=True, slots=True)
class App:
    """One service, ready to be served."""

    service: shoal.Service
    asgi: Any
    order: Callable[[str], None] = _ignore
    """Carries out, on the event loop, what the lab tells this pod alone, such as `stop-consumer`."""


def declare(settings: PodSettings) -> shoal.Service:
    """The service's declaration, with the readiness of this step of the ladder."""
    return shoal.Service(
        settings.service,
        version="1.0",
        readiness=settings.remedies.readiness,
        # As long as a Deployment waits for progress: a pod with a broken configuration stays out of service.
        startup_budget=settings.platform(600.0),
        stall_fails_after=settings.platform(20.0),
        limit=REQUESTS_AT_ONCE,
    )


def web(settings: PodSettings, *resources: Resource) -> FastAPI:
    """A FastAPI application that holds *resources* open, and answers failures in the company's words."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for resource in resources:
                await resource.open()
                stack.push_async_callback(resource.close)
            yield

    app = FastAPI(title=settings.service, lifespan=lifespan, openapi_url=None)
    answers.install(app)
    return app


def counted(app: FastAPI, service: shoal.Service) -> Any:
    """Count every journey request, and answer probes on the application's port as well."""
    return ProbeRoutes(JourneyMiddleware(app, service), service)
