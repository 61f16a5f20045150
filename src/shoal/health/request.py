"""As much of HTTP as a probe needs: one request line in, one answer out, and the connection closes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from .answer import ProbeAnswer

LONGEST_HEAD = 8192

_HEAD = re.compile(rb"[\r\n]*([^\r\n]+)\r?\n(?:[^\n]+\n)*?\r?\n")


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked: *path* with its query, and whether only the head of the answer is wanted."""

    path: str
    head_only: bool


def parse(received: bytes) -> Request | ProbeAnswer | None:
    """The request in *received*, the answer to something that is none, or `None` while it is not complete.

    HTTP/1.0 and 1.1 are understood, GET and HEAD allowed (RFC 9112, section 3). Whatever follows the head is ignored.
    """
    # Empty lines before a request line are to be ignored, and a lone line feed ends a line (RFC 9112, section 2.2).
    head = _HEAD.match(received)
    if head is None:
        if len(received) >= LONGEST_HEAD:
            return _refusal(431, f"the request's head is longer than {LONGEST_HEAD} bytes")
        return None
    words = head[1].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        return _refusal(400, "this is not a request line of HTTP/1.x")
    method, target, version = words
    if not version.startswith("HTTP/1."):
        return _refusal(505, "HTTP/1.0 and HTTP/1.1 are spoken here")
    if method not in {"GET", "HEAD"}:
        return _refusal(405, "a probe is asked with GET or HEAD")
    path = _path(target)
    if path is None:
        return _refusal(400, "the request's target is not a path")
    return Request(path=path, head_only=method == "HEAD")


def response(answer: ProbeAnswer, *, head_only: bool = False) -> bytes:
    """*answer* as bytes on the wire; without its body when only the head was asked for."""
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [
        f"HTTP/1.1 {answer.status} {phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    if answer.status == 405:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if head_only else head + answer.body


def _path(target: str) -> str | None:
    if target.startswith("/"):
        return target
    # The absolute form, as sent to a proxy, has to be understood too.
    try:
        parts = urlsplit(target)
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"}:
        return None
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _refusal(status: int, reason: str) -> ProbeAnswer:
    return ProbeAnswer.of(status, {"error": reason})
