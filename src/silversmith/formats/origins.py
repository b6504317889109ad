"""Where records stand in a file of text, found again for the few that need it: those that a contract rejects.

Readers keep no line and no text of a row, which nearly all rows are never asked for. Who rejects some reads the file
once more, and only where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from silversmith.formats import text, text_lines
from silversmith.formats.archives.content import Content
from silversmith.formats.csv_blocks import BLOCK, Shape
from silversmith.formats.csv_records import Dialect, Records
from silversmith.formats.table import shorten

#: Of each number of a record the line it begins on, from 1, and its text as it stands in the file.
Origins = Mapping[int, tuple[int, str]]

#: How many characters of one record's text are kept.
LONGEST = 10_000

_SPACE = b" \t\r\n"


def of_csv(
    content: Content,
    shape: Shape,
    dialect: Dialect,
    numbers: Collection[int],
    *,
    body: int,
    line: int,
    size: int = BLOCK,
) -> Origins:
    """Of CSV whose records begin at byte ``body`` on ``line``. Blocks that are regular and have none of the records are
    passed by with a count."""
    found, passed = {}, 0
    wanted = sorted(numbers, reverse=True)
    with content.open() as file:
        while wanted:
            file.seek(body)
            block = file.read(size)
            if not block:
                break
            cut = shape.cut(block, last=len(block) < size)
            records = shape.regular(block[:cut]) if cut else None
            if records is not None and passed + records < wanted[-1]:
                passed, body, line = passed + records, body + cut, line + text.line_ends(block[:cut])
                continue
            file.seek(body)
            reader = Records(file, dialect, line=line)
            for record in reader:
                passed += 1
                if wanted and passed == wanted[-1]:
                    found[wanted.pop()] = (record.line, shorten(record.text, LONGEST))
                if reader.position >= body + (cut or len(block)):
                    break
            body, line = reader.position, reader.line
    return found


def of_ndjson(content: Content, numbers: Collection[int]) -> Origins:
    """Of NDJSON: blank lines are no records."""
    with content.open() as file:
        if file.read(len(text.BOM)) != text.BOM:
            file.seek(0)
        lines = ((line, one) for line, one in enumerate(file, 1) if one.strip(_SPACE))
        return _chosen(((line, one.decode("utf-8", "replace")) for line, one in lines), numbers)


def of_lines(content: Content, is_record: Callable[[str], bool], skip: int, numbers: Collection[int]) -> Origins:
    """Of text in which each line is a record, if ``is_record`` says so; the first ``skip`` are none."""
    lines = (
        (number, line)
        for block in text_lines.blocks(content, skip=skip, size=text_lines.BLOCK)
        for number, line in enumerate(block.lines, block.first)
        if is_record(line)
    )
    return _chosen(lines, numbers)


def _chosen(records: Iterable[tuple[int, str]], numbers: Collection[int]) -> Origins:
    wanted = set(numbers)
    last = max(wanted, default=0)
    found = {}
    for number, (line, said) in enumerate(records, 1):
        if number in wanted:
            found[number] = (line, shorten(said.rstrip("\r\n"), LONGEST))
        if number >= last:
            break
    return found
