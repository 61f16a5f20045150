"""A table in Markdown that can be read as it is."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Lines of equal length, the last one without its end. With *numbers* all columns but the first align right.

    Raises ValueError for a row that is shorter or longer than the head.

    >>> print(table(["call", "ns"], [["bare", "27"], ["guarded", "360"]], numbers=True))
    | call    |  ns |
    | ------- | --: |
    | bare    |  27 |
    | guarded | 360 |
    """
    lines = [[_cell(text) for text in line] for line in (head, *rows)]
    for line in lines:
        if len(line) != len(head):
            raise ValueError(f"a row has {len(line)} cells under a head of {len(head)}: {line}")
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(head))]
    right = [numbers and column > 0 for column in range(len(head))]
    rule = ["-" * (width - 1) + ":" if last else "-" * width for width, last in zip(widths, right, strict=True)]
    text = [
        [
            cell.rjust(width) if last else cell.ljust(width)
            for cell, width, last in zip(line, widths, right, strict=True)
        ]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in text)


def _cell(text: str) -> str:
    # An error message may hold anything; a bar or a line break in it would end the cell.
    return " ".join(text.split()).replace("|", "\\|")
