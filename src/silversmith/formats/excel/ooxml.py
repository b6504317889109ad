"""The parts of an Office document, a zip archive, as XML: streamed, without entities, never larger than they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pyexpat import ExpatError, ParserCreate, XMLParserType
from typing import TYPE_CHECKING

from silversmith.errors import DataError
from silversmith.formats.archives import zips
from silversmith.formats.archives.content import LEAST_UNPACKED, MOST_RATIO, Content
from silversmith.formats.table import shorten

if TYPE_CHECKING:
    from zipfile import ZipFile

#: The most XML of the parts that are held in memory, such as the words of all sheets, in bytes of each.
MOST_PARTS = 128 * 1024 * 1024


@contextmanager
def opened(content: Content) -> Iterator[ZipFile]:
    """The document's archive."""
    with content.open() as file, closing(zips.opened(content, file)) as archive:
        yield archive


def check_size(archive: ZipFile, part: str, most: int | None = None) -> None:
    """Raise DataError ``TooLarge`` for a part that is too large to be read; ``most`` None: the limit of all that is
    unpacked. No more than it says is ever unpacked of it."""
    member = archive.NameToInfo.get(part)
    if member is None:
        return
    limit = max(LEAST_UNPACKED, MOST_RATIO * member.compress_size) if most is None else most
    if member.file_size > limit:
        raise DataError(
            "TooLarge",
            f'the part "{shorten(part)}" of the document has {member.file_size:,} bytes of XML; {limit:,} are read',
            hint="save the sheet as CSV, which has no limit",
        )


def parse(archive: ZipFile, part: str, prepare: Callable[[XMLParserType], None]) -> Iterator[None]:
    """Parse a part, a piece at a time. ``prepare`` sets the handlers. Names are without their namespaces.

    Raises:
        DataError: ``UnreadableExcel``.
    """
    member = archive.NameToInfo.get(part)
    if member is None:
        raise unreadable(f'it has no part "{shorten(part)}"')
    parser = ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _doctype
    prepare(parser)
    try:
        for piece in zips.pieces(archive, member):
            parser.Parse(piece, False)
            yield
        parser.Parse(b"", True)
        yield
    except (ExpatError, ValueError, LookupError) as error:
        raise unreadable(f'its part "{shorten(part)}" is not XML: {error}') from None


def _doctype(*_: object) -> None:
    raise unreadable("it has a DOCTYPE, which no such document has")


def local(name: str) -> str:
    """A name without the prefix of its namespace."""
    return name.rpartition(":")[2]


def unreadable(why: str) -> DataError:
    """The error for what is no whole document."""
    return DataError(
        "UnreadableExcel",
        f"the workbook cannot be read: {shorten(why, 200)}",
        hint="open it and save it again; if that does not help, save the sheet as CSV",
    )
