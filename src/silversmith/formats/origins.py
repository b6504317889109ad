"""The lines and texts of records in a file of text, looked up for the few records that a contract rejects.

Readers keep no line and no text of a row, since nearly no row needs them. For rejected rows the file is read once more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.table import shorten

#: By the number of a record: the line it begins on, from 1, and its text as it stands in the file.
Origins = Mapping[int, tuple[int, str]]

#: How many characters of one record's text are kept.
LONGEST = 10_000

_SPACE = b" \t\r\n"


def of_ndjson(content: Content, numbers: Collection[int]) -> Origins:
    """The origins of some records of NDJSON, in which blank lines are no records."""
    with content.open() as file:
        if file.read(len(text.BOM)) != text.BOM:
            file.seek(0)
        records = (
            (number, line.decode("utf-8", "replace")) for number, line in enumerate(file, 1) if line.strip(_SPACE)
        )
        return numbered(records, numbers)


def numbered(records: Iterable[tuple[int, str]], numbers: Collection[int]) -> Origins:
    """From the lines and texts of all records, those of the records with these numbers."""
    numbers = frozenset(numbers)
    last = max(numbers, default=0)
    origins = {}
    for number, (line, content) in enumerate(records, 1):
        if number in numbers:
            origins[number] = (line, shorten(content.rstrip("\r\n"), LONGEST))
        if number >= last:
            break
    return origins
