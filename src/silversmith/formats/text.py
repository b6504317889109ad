"""Text, for all readers of it: as UTF-8, proven or recoded; the lines of records; the checks of shared options.

Readers keep no line and no text of a row, since nearly no row needs them. For the rows that a contract rejects, the
file is read once more, up to the last of them.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO, Final

from silversmith.errors import DataError, Place
from silversmith.formats.archives.content import Content, collect
from silversmith.formats.table import ROW, shorten

BOM: Final = b"\xef\xbb\xbf"

#: Programs that add a mark to what has one already write such files.
TWO_BOMS: Final = 2 * BOM
_PIECE = 1024 * 1024
_UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

#: The dialect of text that is UTF-8: every byte of it was decoded.
UTF8: Final[Mapping[str, object]] = {"encoding": "utf-8", "confidence": 1.0}


#: By the number of a record: the line it begins on, from 1, and its text as it stands in the file.
Origins = Mapping[int, tuple[int, str]]

#: How many characters of one record's text are kept.
LONGEST_ORIGIN = 10_000

_SPACE = b" \t\r\n"


def refuse_empty(content: Content, place: Place | None = None) -> None:
    """Refuse a file that has nothing but a byte order mark and blank lines.

    Raises:
        DataError: ``EmptyFile``.
    """
    head = content.head(_PIECE)
    if len(head) < _PIECE and not head.removeprefix(BOM).strip():
        raise DataError(
            "EmptyFile",
            "the file is empty" if not head else "the file has nothing but blank space in it",
            hint="put it again with data; a file with a header and no rows is fine",
            place=place,
        )


def open_after_mark(content: Content) -> BinaryIO:
    """The content as a file that stands after its byte order mark."""
    file = content.open()
    file.seek(len(BOM) if content.head(len(BOM)) == BOM else 0)
    return file


def decode(data: bytes, *, offset: int = 0, line: int = 1) -> str:
    """Decode UTF-8. ``offset`` and ``line`` are the position of the bytes in the file.

    Raises:
        DataError: ``NotUtf8`` or ``NulByte``, with the line.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(data, error, offset=offset, line=line) from None
    if "\0" in text:
        at = data.index(b"\0")
        raise DataError(
            "NulByte",
            f"byte {offset + at:,} is NUL, which text does not contain",
            hint='if the file is UTF-16, say so: Csv(encoding="utf-16"); else it is binary, or was cut off by a crash',
            place=Place(line=line + line_ends(data[:at]), column=_characters(data[:at]) + 1, text=_around(data, at)),
        )
    return text


def not_utf8(
    data: bytes, error: UnicodeDecodeError, *, offset: int | None = 0, line: int = 1, column: int = 0
) -> DataError:
    """The error for bytes that are no UTF-8. ``offset`` None: unknown; ``column``: how many characters stand before the
    bytes on their line."""
    if offset == 0 and data.startswith(_UTF16_BOMS):
        hint = 'it looks like UTF-16: write it as UTF-8, or (CSV only) say Csv(encoding="utf-16")'
    else:
        hint = 'write it as UTF-8, or (CSV only) say what it is: Csv(encoding="cp1252") or Csv(encoding="latin-1")'
    ends = line_ends(data[: error.start])
    line, column = line + ends, _characters(data[: error.start]) + 1 + (0 if ends else column)
    where = f"line {line}, column {column}" if offset is None else f"offset {offset + error.start:,}"
    return DataError(
        "NotUtf8",
        f"the byte 0x{data[error.start]:02x} at {where} is not UTF-8",
        hint=hint,
        place=Place(line=line, column=column, text=_around(data, error.start)),
    )


def _characters(before: bytes) -> int:
    """The number of characters of the last line."""
    return len(before[max(before.rfind(b"\n"), before.rfind(b"\r")) + 1 :].decode())


def line_ends(data: bytes) -> int:
    """The number of line ends in the bytes: LF, CR LF, or CR alone."""
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def _around(data: bytes, at: int) -> str:
    """The text around an offending byte, on its line."""
    before = data[max(0, at - 30) : at].rpartition(b"\n")[2]
    after = data[at : at + 30].partition(b"\n")[0]
    return shorten((before + after).decode("utf-8", "backslashreplace").replace("\0", "\\x00"))


def recode(content: Content, encoding: str) -> Content:
    """The content as UTF-8, from another encoding, without a byte order mark or several.

    Raises:
        DataError: ``WrongEncoding`` where the bytes are not in that encoding.
    """
    if codecs.lookup(encoding).name == "utf-8" and not content.head(len(TWO_BOMS)).startswith(TWO_BOMS):
        return content
    recoded = collect(_recoded(content, encoding), content.scratch, 4 * content.size + _PIECE)
    return replace(recoded, name=content.name, packing=content.packing)


def _recoded(content: Content, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    offset, begins = 0, True
    try:
        with content.open() as file:
            while piece := file.read(_PIECE):
                decoded = decoder.decode(piece)
                yield (decoded.lstrip("\ufeff") if begins else decoded).encode()
                offset, begins = offset + len(piece), False
            yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise DataError(
            "WrongEncoding",
            f"the file is not {encoding}: {getattr(error, 'reason', error)}, after byte {offset:,}",
            hint="name the encoding it is in: Csv(encoding=…)",
        ) from None


def options_problem(options: object) -> str:
    """The end of an error about one of the options that several readers have; empty if they are fine."""
    problems = (check(name, getattr(options, name)) for name, check in _CHECKS.items() if hasattr(options, name))
    return next(filter(None, problems), "")


def encoding_problem(encoding: object) -> str:
    """The end of an error about an option ``encoding``; empty if it is fine. None lets the file decide."""
    try:
        if encoding is None or (isinstance(encoding, str) and codecs.lookup(encoding)._is_text_encoding):
            return ""
    except LookupError:
        pass
    return f"encoding={encoding!r}): Python knows no such encoding; try 'utf-8' or 'cp1252'"


def texts_problem(name: str, texts: Any) -> str:
    """The end of an error about an option that is a collection of texts, or None; empty if it is fine."""
    if texts is None or (not isinstance(texts, str) and all(isinstance(text, str) for text in texts)):
        return ""
    return f"{name}={texts!r}): give a list of texts, as {name}=['a', 'b']"


def columns_problem(names: Any) -> str:
    """The end of an error about an option ``columns``, the names of all columns or None; empty if it is fine."""
    problem = texts_problem("columns", names)
    if problem or names is None or (names and not {"", ROW}.intersection(names) and len(set(names)) == len(names)):
        return problem
    return f"columns={names!r}): must be names, each once, none of them empty or {ROW!r}"


def _skipped_problem(name: str, number: object) -> str:
    if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
        return ""
    return f"{name}={number!r}): must be a number of {name.removeprefix('skip_')}, 0 or more"


def _flag_problem(name: str, flag: object) -> str:
    return "" if isinstance(flag, bool) else f"{name}={flag!r}): must be True or False"


def _mark_problem(name: str, mark: Any) -> str:
    is_mark = mark is None or (isinstance(mark, str) and mark.strip())
    return "" if is_mark else f"{name}={mark!r}): must be text, such as '#'"


_CHECKS: Mapping[str, Callable[[str, Any], str]] = {
    "null_values": texts_problem,
    "skip_lines": _skipped_problem,
    "skip_rows": _skipped_problem,
    "encoding": lambda _, encoding: encoding_problem(encoding),
    "comment": _mark_problem,
    "infer": _flag_problem,
    "quoted": _flag_problem,
}


def origins_of_ndjson(content: Content, numbers: Collection[int]) -> Origins:
    """The origins of some records of NDJSON, in which blank lines are no records."""
    with open_after_mark(content) as file:
        records = (
            (number, line.decode("utf-8", "replace")) for number, line in enumerate(file, 1) if line.strip(_SPACE)
        )
        return origins_among(records, numbers)


def origins_among(records: Iterable[tuple[int, str]], numbers: Collection[int]) -> Origins:
    """From the lines and texts of all records, those of the records with these numbers."""
    numbers = frozenset(numbers)
    last = max(numbers, default=0)
    origins = {}
    for number, (line, content) in enumerate(records, 1):
        if number in numbers:
            origins[number] = (line, shorten(content.rstrip("\r\n"), LONGEST_ORIGIN))
        if number >= last:
            break
    return origins
