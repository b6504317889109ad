"""How any text is shown: what could move the cursor, turn the line around or cannot be seen is spelled out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.cells import cell_len, set_cell_size

#: No column of a table is cut to less.
NARROWEST = 8


def shown(text: object) -> str:
    """A text on one line, of visible characters only; the others as escapes: ``\\n``, ``\\x1b``, ``\\u202e``.

    A key, a file's name or an error message is data that strangers write. ``shown(shown(text)) == shown(text)``.
    """
    found = str(text)
    return found if found.isprintable() else "".join(map(_visible, found))


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    # "unicode_escape" knows every code point, lone surrogates too.
    return character.encode("unicode_escape").decode("ascii")


def lines(text: str, indent: str = "") -> list[str]:
    """A text of several lines, each shown and indented, so that no line of it can pass for one of ours."""
    return [indent + shown(line) for line in text.expandtabs(4).splitlines() or [""]]


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


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 file``, ``2,000 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(number: int) -> str:
    """Bytes for a person: ``812 B``, ``3.4 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float | None) -> str:
    """A length of time for a person: ``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 d``; ``-`` where it is not known."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, length, up_to in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < up_to:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
