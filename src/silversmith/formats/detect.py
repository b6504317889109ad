"""The format of some bytes: as the reader says, else by their beginning, else by the name."""

from __future__ import annotations

import re

import orjson

from silversmith.errors import DataError, Place
from silversmith.formats.csv.dialect import looks_separated
from silversmith.formats.encoding import MARKED, encoding_of_mark
from silversmith.formats.table import shorten
from silversmith.formats.text import BOM
from silversmith.formats.xml import FAMILIES

#: The format of each ending of a name, in lower case.
ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".psv": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".avro": "avro",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xls": "excel",
    ".ods": "excel",
    ".xml": "xml",
    ".log": "lines",
}

#: The magic bytes of formats that are read: no text begins so.
_MAGICS = (
    (b"PAR1", "parquet", "Parquet"),
    (b"PARE", "parquet", "encrypted Parquet"),
    (b"Obj\x01", "avro", "Avro"),
    (b"ARROW1\x00\x00", "arrow", "Arrow"),
    (b"\xff\xff\xff\xff", "arrow", "an Arrow stream"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "excel", "an Excel workbook of before 2007, or another old Office file"),
)

#: The magic bytes of formats that are not read.
_FOREIGN = (
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "put its files one by one, or in a zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive", "put its files one by one, or in a zip archive"),
    (b"FEA1\0\0\0\0", "Feather of version 1", "put it as Parquet, or as Feather of version 2"),
    (b"-----BEGIN PGP MESSAGE-----", "encrypted by PGP", "put it decrypted: S3 encrypts every object that lies in it"),
    (b"Salted__", "encrypted by OpenSSL", "put it decrypted: S3 encrypts every object that lies in it"),
    (b"%PDF-", "a PDF document", "put the data it was made from"),
    (b"\x89PNG", "an image", "put the data it was made from"),
    (b"SQLite format 3\x00", "an SQLite database", "export its tables as CSV"),
)

_EVERY_MAGIC = tuple(magic for magic, *_ in (*_MAGICS, *_FOREIGN))

#: The beginnings of pages that come in place of data when a download fails.
_PAGES = (b"<!doctype html", b"<html")

_SPACE = b" \t\r\n"

#: The beginning of JSON records, which no CSV header has.
_RECORDS = re.compile(rb"""(?:\[[ \t\r\n]*)?\{[ \t\r\n]*"[^"\r\n]*"[ \t\r\n]*:""")

#: The beginning of XML in encodings that are known by it, without a byte order mark.
_XML_HEADS = tuple("<?xml".encode(name) for name in FAMILIES)


def detect(name: str, head: bytes, *, expected: str | None = None, lines: bool | None = None) -> str:
    """The format: ``csv``, ``json``, ``ndjson``, ``parquet``, ``avro``, ``arrow``, ``excel``, ``xml``, ``lines``, or
    the ``expected`` one.

    Args:
        name: the object's key, without ``.gz``.
        head: the first kilobytes, at most.
        expected: the format of the transform's reader, if it has one.
        lines: for JSON, whether it is NDJSON; None: detected.

    Raises:
        DataError: ``UnknownFormat``.
    """
    named = ENDINGS.get(name[name.rfind(".") :].lower())
    is_binary = head.startswith(_EVERY_MAGIC)
    for magic, label, hint in _FOREIGN if is_binary else ():
        if head.startswith(magic):
            raise _unknown(f"it is {label}, which is not read", hint)
    for magic, kind, label in _MAGICS if is_binary else ():
        if head.startswith(magic) and not _is_header(head):
            if expected not in {None, kind}:
                raise mismatch(label)
            return kind
    encoding = encoding_of_mark(head[:MARKED])
    unmarked = head.decode(encoding, "ignore").lstrip("\ufeff").encode() if encoding else head.removeprefix(BOM)
    text = unmarked.lstrip(_SPACE)
    if expected is None and text[:20].lower().startswith(_PAGES):
        hint = "it may say what went wrong when the data was fetched: put the data"
        place = Place(line=1, column=1, text=shorten(text[:40].decode("utf-8", "replace")))
        raise _unknown("it is an HTML page", hint, place)
    if expected == "json" or (expected is None and named in {"json", "ndjson"}):
        return _which_json(text, named, lines)
    if expected is not None:
        return expected
    return _of_text(text, named)


def _is_header(head: bytes) -> bool:
    """Whether it is the header of a CSV file whose first column has the name ``PAR1`` or so: text follows it."""
    return (head.isascii() and head[4:5] >= b" ") or head[4:5] in {b"\t", b"\r", b"\n"}


def _of_text(text: bytes, named: str | None) -> str:
    """The format of text, which stands after a byte order mark and blanks."""
    if text.startswith(_XML_HEADS):
        return "xml"
    if named == "csv" and _RECORDS.match(text):
        return _which_json(text, None, None)
    if named == "lines" and _are_objects(text):
        return "ndjson"
    if named is not None:
        return named
    if text[:1] in (b"{", b"["):
        return _which_json(text, None, None)
    if looks_separated(text.decode("utf-8", "replace")):
        return "csv"
    if not text:
        raise DataError("EmptyFile", "the file is empty", hint="put it again with data")
    raise _unknown(
        "its name does not say, and it begins as none that is known",
        f"name it {', '.join(ENDINGS)} (with .gz where it is gzip), or give the transform a reader: reader=Csv(), "
        "or Fields() or Lines() for a log",
    )


def _which_json(text: bytes, named: str | None, lines: bool | None) -> str:
    """Whether it is one document, or one on each line: files named .json often are NDJSON."""
    if lines is not None:
        return "ndjson" if lines else "json"
    if named == "ndjson":
        return "ndjson"
    first, _, rest = text.partition(b"\n")
    if not text.startswith(b"{") or not rest.lstrip(_SPACE).startswith(b"{"):
        return "json"
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return "json"
    return "ndjson"


def _are_objects(text: bytes) -> bool:
    """Whether the lines are JSON objects, as far as they are whole here. What becomes of a last part is not known."""
    *lines, last = text.split(b"\n")
    try:
        values = [orjson.loads(line) for line in (lines or [last]) if line.strip(_SPACE)]
    except orjson.JSONDecodeError:
        return False
    return bool(values) and all(isinstance(value, dict) for value in values)


def mismatch(label: str) -> DataError:
    """The error for a file of another format than the transform's reader reads."""
    return _unknown(f"it is {label}, and the transform's reader is not", "leave the reader away, or match its name")


def _unknown(why: str, hint: str, place: Place | None = None) -> DataError:
    return DataError("UnknownFormat", f"the file's format cannot be read: {why}", hint=hint, place=place)
