"""Which format some bytes are in: the reader's word first, then what the bytes begin with, then the name. Pure."""

from __future__ import annotations

import orjson

from silversmith.errors import DataError

#: Names' endings, in lower case, and the format they mean.
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
}

#: What other formats begin with. No text in any of ours does.
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unzip it, or save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "save the sheet as CSV"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "put it as gzip, or uncompressed"),
    (b"BZh91AY&SY", "compressed with bzip2", "put it as gzip, or uncompressed"),
    (b"\xfd7zXZ\x00", "compressed with xz", "put it as gzip, or uncompressed"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "put its files one by one"),
    (b"Obj\x01", "Avro", "put it as Parquet or NDJSON"),
    (b"ARROW1\x00\x00", "an Arrow (Feather) file", "put it as Parquet"),
    (b"%PDF-", "a PDF document", "put the data it was made from"),
    (b"\x89PNG", "an image", "put the data it was made from"),
    (b"SQLite format 3\x00", "an SQLite database", "export its tables as CSV"),
)

_PARQUET = b"PAR1"
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"


def detect(name: str, head: bytes, *, asked: str | None = None, lines: bool | None = None) -> str:
    """The format: ``csv``, ``json``, ``ndjson`` or ``parquet``.

    Args:
        name: the object's key, without ``.gz``.
        head: the first kilobytes, at most.
        asked: what the transform's reader reads (``csv`` or ``json``), if it has one.
        lines: for JSON, whether it is NDJSON; None: find out.

    Raises:
        DataError: ``UnknownFormat``.
    """
    named = next((kind for ending, kind in ENDINGS.items() if name.lower().endswith(ending)), None)
    _refuse_foreign(head)
    if head.startswith(_PARQUET) and asked is not None:
        raise _unknown("it is Parquet, and the transform's reader is not", "leave the reader away, or match its name")
    if head.startswith(_PARQUET):
        return "parquet"
    if asked == "json" or (asked is None and named in {"json", "ndjson"}):
        return _which_json(head, named, lines)
    if asked is not None or named is not None:
        return asked or named or ""
    if head.removeprefix(_BOM).lstrip(_SPACE)[:1] in (b"{", b"["):
        return _which_json(head, None, lines)
    raise _unknown(
        "its name does not say, and it begins as none that is known",
        f"name it {', '.join(ENDINGS)} (with .gz where it is gzip), or give the transform a reader: reader=Csv()",
    )


def _refuse_foreign(head: bytes) -> None:
    for magic, what, hint in _FOREIGN:
        if head.startswith(magic):
            raise _unknown(f"it is {what}, which is not read", hint)


def _which_json(head: bytes, named: str | None, lines: bool | None) -> str:
    """One document, or one on each line: files named .json often are NDJSON."""
    if lines is not None:
        return "ndjson" if lines else "json"
    if named == "ndjson":
        return "ndjson"
    text = head.removeprefix(_BOM).lstrip(_SPACE)
    first, _, rest = text.partition(b"\n")
    if not text.startswith(b"{") or not rest.lstrip(_SPACE).startswith(b"{"):
        return "json"
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return "json"
    return "ndjson"


def _unknown(why: str, hint: str) -> DataError:
    return DataError("UnknownFormat", f"the file's format cannot be read: {why}", hint=hint)
