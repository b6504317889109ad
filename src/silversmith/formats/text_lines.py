"""The lines of UTF-8 text in blocks, and the encoding option that readers of text share."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from silversmith.errors import DataError, Place
from silversmith.formats import text
from silversmith.formats.archives.content import Content
from silversmith.formats.table import shorten

#: Bytes that are split into lines at once.
BLOCK = 4 * 1024 * 1024

#: The longest line, in bytes. A longer one nearly always is no text.
LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True)
class LineBlock:
    """Whole lines without their ends, the first of which is number ``first`` of the file."""

    first: int
    lines: list[str]


def blocks(content: Content, *, skip: int = 0, size: int = BLOCK) -> Iterator[LineBlock]:
    """The lines, after the first ``skip`` of them. Lines end at LF, CR LF, or CR alone.

    Raises:
        DataError: ``NotUtf8``, ``NulByte``, ``TooLarge`` for a line that is too long.
    """
    line, offset, rest = 1, 0, b""
    with content.open() as file:
        if file.read(len(text.BOM)) != text.BOM:
            file.seek(0)
        while True:
            more = file.read(size)
            rest += more
            cut = _cut(rest) if more else len(rest)
            if cut:
                decoded = text.decode(rest[:cut], offset=offset, line=line)
                lines = _split(decoded)
                if cut > LONGEST_LINE and max(map(len, lines)) > LONGEST_LINE:
                    raise _too_long(rest, line)
                if skip < len(lines):
                    yield LineBlock(line + skip, lines[skip:])
                skip = max(0, skip - len(lines))
                line, offset, rest = line + len(lines), offset + cut, rest[cut:]
            if len(rest) > LONGEST_LINE:
                raise _too_long(rest, line)
            if not more:
                return


def _cut(data: bytes) -> int:
    """Where the last whole line ends. A CR at the very end may have its LF in the next block."""
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(0, len(data) - 1))) + 1


def _split(decoded: str) -> list[str]:
    """Not ``str.splitlines``, for which lines also end at form feeds and other signs within text."""
    if "\r" in decoded:
        decoded = decoded.replace("\r\n", "\n").replace("\r", "\n")
    lines = decoded.split("\n")
    return lines[:-1] if not lines[-1] else lines


def _too_long(rest: bytes, line: int) -> DataError:
    return DataError(
        "TooLarge",
        f"line {line} is longer than {LONGEST_LINE:,} bytes",
        hint="the file may not be text, or was written without line ends",
        place=Place(line=line, text=shorten(rest[:200].decode("utf-8", "replace"))),
    )


def encoding_problem(encoding: object) -> str:
    """What is wrong with an option ``encoding``; empty if nothing. None: it is found out."""
    try:
        if encoding is None or (isinstance(encoding, str) and codecs.lookup(encoding)._is_text_encoding):
            return ""
    except LookupError:
        pass
    return f"encoding={encoding!r}): Python knows no such encoding; try 'utf-8' or 'cp1252'"
