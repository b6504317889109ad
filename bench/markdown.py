"""Tables that are read in a terminal and pasted into bench/README.md as they are."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, numbers to the right.

    A row that is shorter than the head ends with a remark, the reason why there are no numbers, say. It may be long,
    so it widens nothing.
    """
    widths = [len(title) for title in head]
    for row in rows:
        for column, cell in enumerate(row if len(row) == len(head) else row[:-1]):
            widths[column] = max(widths[column], len(cell))
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(row, widths) for row in (head, rule, *rows))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=False))
    ]
    return "| " + " | ".join(cells) + " |" * (1 + len(widths) - len(cells))


def number(value: float) -> str:
    """Three digits that count: 12,300 and 1.23."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def mebibytes(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / 2**20:,.0f} MiB" if size else "-"


def ratio(value: float) -> str:
    """A ratio, as text."""
    return f"{value:.2f} x"
