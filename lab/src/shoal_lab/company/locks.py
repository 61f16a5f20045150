"""locks: the account lock as a service of its own, so that it shares nothing with looking at a balance."""

from __future__ import annotations

from shoal_lab.company.app import App, counted, declare, web
from shoal_lab.company.identity import Identity
from shoal_lab.company.lock import AccountLock
from shoal_lab.company.settings import PodSettings


def create(settings: PodSettings) -> App:
    """The service, declared and wired."""
    service = declare(settings)
    identity = Identity(service, settings)
    lock = AccountLock(service, settings, identity)
    app = web(settings, identity, lock)
    lock.mount(app)
    return App(service=service, asgi=counted(app, service))
