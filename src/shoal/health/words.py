"""Errors and addresses in words that may be shown to anybody: short, on one line, without credentials."""

from __future__ import annotations

import re
import socket
import ssl

LIMIT = 200

HIDDEN = "***"

_NAMES = (
    r"\w*(?:password|passwd|pwd|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key|signature)\w*|sig"
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # Userinfo, up to the last @ of the word: a password may contain anything, and hiding too much beats showing it.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^\s\"'<>]*@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://[^\s\"'<>?#]*)[?#][^\s\"'<>]*"), rf"\1?{HIDDEN}"),
    (re.compile(r"(?i)\b(authorization|cookie)([\"']?\s*[=:]).*", re.DOTALL), rf"\1\2 {HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s,;\"']+"), rf"\1 {HIDDEN}"),
    # JSON web tokens, wherever they turn up.
    (re.compile(r"\beyJ[\w-]+(?:\.[\w-]*)*"), HIDDEN),
    (re.compile(rf"(?i)\b({_NAMES})([\"']?\s*[=:]\s*)(\"[^\"]*\"?|'[^']*'?|[^\s,;&\"']+)"), rf"\1\2{HIDDEN}"),
)


def public_text(text: str, *, limit: int = LIMIT) -> str:
    """*text* as it may appear in a document that anybody reads: one line of at most *limit* characters, no secrets.

    Hidden are user and password of an URL, its query, bearer and basic credentials, web tokens, and what follows a
    name like `password=`. It recognises forms, not secrets: a token that stands alone cannot be told from a word.

    >>> public_text("cannot connect to postgres://app:s3cret@db/wallet?sslmode=disable")
    'cannot connect to postgres://***@db/wallet?***'
    """
    # First a generous cut, so that a megabyte of error costs nothing; the fine one only after hiding, which could
    # otherwise miss a secret that the cut left half of.
    shown = text[: 10 * limit]
    for pattern, hidden in _RULES:
        shown = pattern.sub(hidden, shown)
    shown = " ".join("".join(c if c.isprintable() else " " for c in shown).split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def public_target(target: str) -> str:
    """Where a dependency is, without user, password, query and fragment.

    >>> public_target("postgres://app:s3cret@db:5432/wallet?sslmode=disable")
    'postgres://db:5432/wallet'
    >>> public_target("kafka://a:9092,b:9092")
    'kafka://a:9092,b:9092'
    """
    scheme, separator, rest = target.partition("://")
    if not separator or rest.startswith("/"):
        return public_text(target).rpartition("@")[2]
    # A password with a raw / or ? ends the authority early for a parser; whatever precedes the last @ is dropped.
    rest = rest.rpartition("@")[2]
    for end in "?#":
        rest = rest.partition(end)[0]
    return public_text(f"{scheme}://{rest}")


def in_a_few_words(error: BaseException) -> str:
    """What went wrong, looking behind the exceptions that wrap it; common faults of a network have a word of their own.

    >>> in_a_few_words(ConnectionRefusedError(111, "Connection refused"))
    'refused'
    >>> in_a_few_words(ValueError("odd number"))
    'ValueError: odd number'
    """
    for cause in _chain(error):
        if isinstance(cause, ConnectionRefusedError):
            return "refused"
        if isinstance(cause, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
            return "connection lost"
        if isinstance(cause, socket.gaierror):
            return "name not known"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return public_text(f"certificate not trusted: {cause.verify_message}")
        if isinstance(cause, TimeoutError) and not str(cause):
            return "no answer in time"
    name = type(error).__name__
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  an error that cannot even be printed is still an error
        message = ""
    return public_text(f"{name}: {message}" if message else name)


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    # Bounded: a chain can be made circular.
    while todo and len(chain) < 20:
        current = todo.pop(0)
        if current is None:
            continue
        chain.append(current)
        # Also a context that was to be hidden: HTTP clients hide the refused connection behind an error of their own.
        todo.append(current.__cause__ or current.__context__)
        if isinstance(current, BaseExceptionGroup):
            todo += current.exceptions
    return chain
