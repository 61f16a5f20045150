"""Reads one table of a TOML file key by key, so that every mistake is named with its place, value and cure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from shoal_lab.errors import UsageError

C = TypeVar("C", bound=str)


class Fields:
    """The keys of one table. Each reader takes a key; `finish` refuses whatever nobody asked for."""

    def __init__(self, table: Mapping[str, object], *, source: str, place: str = "") -> None:
        self._table = table
        self._source = source
        self._place = place
        self._asked: set[str] = set()

    def wrong(self, key: str, what: str) -> UsageError:
        """The error to raise about *key*."""
        return UsageError(f"{self._source}: {self._place}{key}: {what}")

    def finish(self) -> None:
        """Raise UsageError if the table has a key that no reader asked for."""
        for key in self._table:
            if key not in self._asked:
                close = get_close_matches(key, self._asked, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(sorted(self._asked))}"
                raise self.wrong(key, f"no such setting; {hint}")

    def _get(self, key: str) -> object:
        self._asked.add(key)
        return self._table.get(key)

    def text(self, key: str, *, default: str | None = None) -> str:
        """A non-empty string."""
        value = self._get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "needs a text" if value is None else f"needs a text, got {value!r}")
        return value

    def texts(self, key: str) -> list[str]:
        """A non-empty list of strings."""
        value = self._get(key)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "needs a list of texts" if value is None else f"needs a list of texts, got {value!r}")
        return value

    def choice(self, key: str, choices: tuple[C, ...]) -> C:
        """One of *choices*."""
        value = self._get(key)
        for choice in choices:
            if value == choice:
                return choice
        close = get_close_matches(str(value), choices, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(choices)}"
        raise self.wrong(key, f"is missing; {hint}" if value is None else f"{value!r} is not known; {hint}")

    def number(
        self,
        key: str,
        *,
        default: float | None = None,
        least: float | None = None,
        above: float | None = None,
        most: float | None = None,
    ) -> float:
        """A finite number in the given range."""
        value = self._get(key)
        if value is None and default is not None:
            return default
        bounds = [
            text
            for text, bound in (("at least", least), ("above", above), ("at most", most))
            if bound is not None
            for text in [f"{text} {bound:g}"]
        ]
        wanted = "needs a number" + (f" {' and '.join(bounds)}" if bounds else "")
        if value is None:
            raise self.wrong(key, wanted)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or (least is not None and value < least)
            or (above is not None and value <= above)
            or (most is not None and value > most)
        ):
            raise self.wrong(key, f"{wanted}, got {value!r}")
        return float(value)

    def optional_number(self, key: str, *, above: float) -> float | None:
        """A number, or `None` if the key is absent."""
        self._asked.add(key)
        return self.number(key, above=above) if key in self._table else None

    def whole(self, key: str, *, default: int, least: int, most: int) -> int:
        """A whole number in the given range."""
        value = self.number(key, default=default, least=least, most=most)
        if value != int(value):
            raise self.wrong(key, f"needs a whole number, got {value!r}")
        return int(value)

    def table(self, key: str) -> Fields:
        """A sub-table; empty if absent."""
        value = self._get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(key, f"needs a table, written [{key}], got {value!r}")
        return Fields(value, source=self._source, place=f"{self._place}{key}.")

    def tables(self, key: str) -> list[Fields]:
        """A list of tables; empty if absent."""
        value = self._get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, f"needs a list of tables, each begun with [[{key}]]")
        return [
            Fields(item, source=self._source, place=f"{self._place}{key}[{number}].")
            for number, item in enumerate(value, start=1)
        ]
