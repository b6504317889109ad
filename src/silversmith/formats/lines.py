"""Plain lines: logs, lists, and whatever a transform wants to take apart by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

from silversmith.errors import DefinitionError
from silversmith.formats import text, text_lines
from silversmith.formats.archives.content import Content
from silversmith.formats.encoding import in_utf8
from silversmith.formats.origins import of_lines
from silversmith.formats.table import Table
from silversmith.formats.text_rows import Reading, TextBlock, table_of

#: The one column.
LINE = "line"


@dataclass(frozen=True)
class Lines:
    """Read each line as a row, with one text column, ``line``: all of it but its end. Empty lines are rows, too.

    Args:
        encoding: any that Python knows; None: UTF-8, or what is found out with confidence.

    Raises:
        DefinitionError: there is no such encoding.
    """

    encoding: str | None = None

    def __post_init__(self) -> None:
        problem = text_lines.encoding_problem(self.encoding)
        if problem:
            raise DefinitionError(f"Lines({problem}")


def read(content: Content, options: Lines, wanted: Collection[str], *, block: int = text_lines.BLOCK) -> Table:
    """The lines of a text as rows.

    Raises:
        DataError: ``EmptyFile``, ``NotUtf8``, ``NulByte``, ``TooLarge``.
    """
    return in_utf8(content, options.encoding, partial(_read, wanted=wanted, block=block))


def _read(content: Content, *, wanted: Collection[str], block: int) -> Table:
    text.refuse_empty(content)
    table = table_of(_blocks(content, block), content, Reading("lines" + content.packing, wanted, typed=False))
    return replace(table, origins=partial(of_lines, content, _is_record, 0))


def _is_record(_: str) -> bool:
    return True


def _blocks(content: Content, size: int) -> Iterator[TextBlock]:
    for found in text_lines.blocks(content, size=size):
        yield TextBlock({LINE: found.lines}, range(found.first, found.first + len(found.lines)))
