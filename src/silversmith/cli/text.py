"""How any text is shown: what could move the cursor, turn the line around or cannot be seen is spelled out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.cells import cell_len, set_cell_size

from silversmith.operations.text import shown

#: No column of a table is cut to less.
NARROWEST = 8


def aligned(rows: Iterable[Sequence[object]], right: Iterable[int] = (), *, width: int | None = None) -> list[str]:
    """Rows as lines with straight columns, two spaces between; the columns named in ``right`` are set to the right.

    ``width``: of the terminal, in cells. What is wider is cut in its widest columns, where ``…`` stands for what is
    missing; numbers never are. None: nothing is cut.
    """
    cells = [[shown(cell) for cell in row] for row in rows]
    numbers = set(right)
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        widths = _fitted(widths, numbers, width)
        cells = [[cell if at in numbers else cut(cell, widths[at]) for at, cell in enumerate(row)] for row in cells]
    return ["  ".join(_cell(cell, widths[at], at in numbers) for at, cell in enumerate(row)).rstrip() for row in cells]


def _fitted(widths: Sequence[int], fixed: Collection[int], width: int) -> list[int]:
    """Narrower columns, the widest first, until they fit or none is left that may be."""
    fitted = list(widths)
    while sum(fitted) + 2 * (len(fitted) - 1) > width:
        at = max((at for at in range(len(fitted)) if at not in fixed), key=lambda at: fitted[at], default=None)
        if at is None or fitted[at] <= NARROWEST:
            break
        fitted[at] -= 1
    return fitted


def cut(text: str, width: int) -> str:
    """A text of at most so many cells: the middle of a longer one is left out, because keys differ at their ends."""
    if cell_len(text) <= width:
        return text
    head = set_cell_size(text, (width - 1) // 2).rstrip()
    tail = text
    while cell_len(head) + 1 + cell_len(tail) > width:
        tail = tail[1:]
    return f"{head}…{tail}"


def _cell(text: str, width: int, to_the_right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if to_the_right else text + space
