"""Figures as people read them: shares, durations, counts, lists. Never rounded to a better one than was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

NOTHING = "\N{EN DASH}"
"""Stands where nothing was measured."""


def percent(share: float | None) -> str:
    """A share as a percentage, rounded down, so that 100 % means all of them and 0 % means none.

    >>> [percent(share) for share in (1.0, 0.9996, 0.4125, 0.0001, 0.0)]
    ['100 %', '99.96 %', '41.2 %', '<0.1 %', '0 %']
    """
    if share is None:
        return NOTHING
    if 0 < share < 0.001:
        return "<0.1 %"
    digits = 2 if 0.999 <= share < 1 else 1
    # 0.57 * 100 is 56.99999999999999; the slack keeps rounding down from taking a whole step there.
    floored = math.floor(share * 100 * 10**digits + 1e-6) / 10**digits
    if share < 1:
        floored = min(floored, 99.99)
    return f"{floored:g} %"


def seconds(duration: float | None) -> str:
    """A duration in the unit that suits it.

    >>> [seconds(duration) for duration in (0.0, 0.0004, 0.0523, 2.64, 21.3, 340.0)]
    ['0 s', '0.4 ms', '52 ms', '2.6 s', '21.3 s', '340 s']
    """
    if duration is None:
        return NOTHING
    if duration == 0:
        return "0 s"
    if duration < 0.9995:
        return f"{duration * 1000:.1f} ms" if duration < 0.00095 else f"{duration * 1000:.0f} ms"
    return f"{duration:.1f} s" if duration < 99.95 else f"{duration:.0f} s"


def count(number: int) -> str:
    """A whole number with its thousands apart.

    >>> count(12345)
    '12,345'
    """
    return f"{number:,}"


def number_of(number: int, noun: str) -> str:
    """A number with its noun.

    >>> number_of(1, "restart"), number_of(3, "restart"), number_of(0, "restart")
    ('1 restart', '3 restarts', 'no restarts')
    """
    return f"{count(number) if number else 'no'} {noun}{'' if number == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    >>> listed(["auth"]), listed(["auth", "wallet"]), listed(["auth", "wallet", "fees"])
    ('auth', 'auth and wallet', 'auth, wallet and fees')
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def capital(text: str) -> str:
    """A sentence with its first letter large and the rest as it was.

    >>> capital("auth's own database goes down")
    "Auth's own database goes down"
    """
    return text[:1].upper() + text[1:]


def visible(text: str) -> str:
    """Text with everything a terminal or a page would obey (escape sequences, line ends, direction marks) made visible.

    >>> visible("a\\x1b[31mred\\n")
    'a\\\\x1b[31mred\\\\n'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
