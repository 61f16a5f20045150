"""What a customer reads when a dependency is away: a sentence of ours, with a status that counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

SENTENCES = {
    "auth": "We cannot confirm who you are right now. Your money is safe; please try again in a minute.",
    "balance": "We cannot show your balance right now. Your money is safe; please try again in a minute.",
    "database": "We cannot do this right now. Nothing was changed; please try again in a minute.",
    "kafka": "We cannot do this right now. Nothing was changed; please try again in a minute.",
}


class UnavailableError(Exception):
    """A dependency that this request needs did not answer."""

    def __init__(self, dependency: str) -> None:
        super().__init__(f"{dependency} did not answer")
        self.dependency = dependency


class RefusedError(Exception):
    """The answer is no, and that is the customer's doing: a bad token, an unknown account."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def needing(dependency: str) -> Iterator[None]:
    """Whatever goes wrong inside is put down to *dependency*; a plain refusal passes through."""
    try:
        yield
    except (RefusedError, UnavailableError):
        raise
    except Exception as error:
        raise UnavailableError(dependency) from error


def install(app: FastAPI) -> None:
    """Answer both exceptions in JSON. No Retry-After: only a throttling answer carries one."""

    @app.exception_handler(UnavailableError)
    async def unavailable(_request: Request, error: UnavailableError) -> JSONResponse:
        body = {"error": SENTENCES[error.dependency], "cause": error.dependency}
        return JSONResponse(body, status_code=503)

    @app.exception_handler(RefusedError)
    async def refused(_request: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=error.status)
