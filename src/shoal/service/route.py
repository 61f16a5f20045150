"""Routes: which request belongs to which journey."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from shoal.errors import DeclarationError

_PARAMETER = re.compile(r"\{([A-Za-z_]\w*)(:path)?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One route as it was declared: a method and a path, with parameters in braces.

    `{id}` stands for one segment, `{rest:path}` for all that follow.
    """

    method: str
    path: str
    pattern: re.Pattern[str] | None = field(repr=False, compare=False)
    """`None` when the path has no parameters and is matched as it is."""

    @classmethod
    def parse(cls, text: str) -> Route:
        """Read "GET /accounts/{id}". Raises DeclarationError for anything else.

        >>> Route.parse("GET /accounts/{id}").matches("/accounts/42")
        True
        """
        method, _, path = text.partition(" ")
        if not re.fullmatch(r"[A-Z]+", method) or not path.startswith("/") or re.search(r"[\s?#]", path):
            raise DeclarationError(f'a route is a method and a path, such as "GET /accounts/{{id}}", got {text!r}')
        if not _PARAMETER.search(path):
            if "{" in path or "}" in path:
                raise DeclarationError(f"a parameter is a name in braces, such as {{id}}, got {text!r}")
            return cls(method, path, None)
        regex, at = "", 0
        for parameter in _PARAMETER.finditer(path):
            regex += re.escape(path[at : parameter.start()]) + (".+" if parameter[2] else "[^/]+")
            at = parameter.end()
        return cls(method, path, re.compile(regex + re.escape(path[at:])))

    def matches(self, path: str) -> bool:
        """Whether a request's *path*, without its query, is one of this route's."""
        return path == self.path if self.pattern is None else self.pattern.fullmatch(path) is not None

    @property
    def template(self) -> str:
        """The path as a URI template (RFC 6570)."""
        return _PARAMETER.sub(lambda match: f"{{+{match[1]}}}" if match[2] else f"{{{match[1]}}}", self.path)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"
