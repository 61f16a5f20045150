"""Adapters between a declared service and what other people wrote: one module each, named after it.

On top of `shoal.service`; none imports another, and a module imports only what it adapts. Import the one you need:
`from shoal.integrations.asgi import JourneyMiddleware`.
"""

__all__: list[str] = []
