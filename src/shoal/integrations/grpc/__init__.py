"""gRPC, guarded: interceptors for channels and for servers, of `grpc` and of `grpc.aio`. Needs grpcio 1.66 or newer.

Switch gRPC's own retries off on a guarded channel, `options=[("grpc.enable_retries", 0)]`: a service config, which may
come from DNS, would multiply with the guard's, and gRPC hides `grpc-previous-rpc-attempts` as long as they are on.
"""

from __future__ import annotations

from .client import AioGuardInterceptor, GuardInterceptor, aio_interceptors
from .server import AioDeadlineInterceptor, DeadlineInterceptor

__all__ = [
    "AioDeadlineInterceptor",
    "AioGuardInterceptor",
    "DeadlineInterceptor",
    "GuardInterceptor",
    "aio_interceptors",
]
