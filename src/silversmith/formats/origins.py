"""Where records stand in a file of text, found again for the few that need it: those that a contract rejects.

Readers keep no line and no text of a row, which nearly all rows are never asked for. Who rejects some reads the file
once more, and only where they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.table import shorten

#: Of each number of a record the line it begins on, from 1, and its text as it stands in the file.
Origins = Mapping[int, tuple[int, str]]

#: How many characters of one record's text are kept.
LONGEST = 10_000

_SPACE = b" \t\r\n"


def of_ndjson(content: Content, numbers: Collection[int]) -> Origins:
    """Of NDJSON: blank lines are no records."""
    with content.open() as file:
        if file.read(len(text.BOM)) != text.BOM:
            file.seek(0)
        lines = ((line, one) for line, one in enumerate(file, 1) if one.strip(_SPACE))
        return chosen(((line, one.decode("utf-8", "replace")) for line, one in lines), numbers)


def chosen(records: Iterable[tuple[int, str]], numbers: Collection[int]) -> Origins:
    """Of all records, their lines and texts, those that have these numbers."""
    numbers = frozenset(numbers)
    last = max(numbers, default=0)
    origins = {}
    for number, (line, content) in enumerate(records, 1):
        if number in numbers:
            origins[number] = (line, shorten(content.rstrip("\r\n"), LONGEST))
        if number >= last:
            break
    return origins
