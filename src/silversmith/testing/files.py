"""The files of a test: bronze keys, and what is in them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl

#: What a file of a test holds: bytes; a text, which becomes UTF-8; a frame, which is written as the ending of the key
#: says; a dictionary or a list, which become JSON; a file on disk.
Content = bytes | str | pl.DataFrame | Mapping[str, Any] | Sequence[Any] | Path

#: What lands in bronze together, by key.
Files = Mapping[str, Content]


def encode(key: str, content: Content) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: a frame's key does not end in one of ``.csv``, ``.ndjson``, ``.jsonl``, ``.json``, ``.parquet``.
        TypeError: it is nothing that a file could hold.
    """
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, Path):
        return content.read_bytes()
    if isinstance(content, pl.DataFrame):
        return encode_frame(content, _format(key))
    if isinstance(content, Mapping | Sequence):
        if _format(key) == "ndjson" and not isinstance(content, Mapping):
            return b"".join(orjson.dumps(row) + b"\n" for row in content)
        return orjson.dumps(content)
    raise TypeError(f"{key}: a {type(content).__name__} is no content of a file; give bytes, a text, a frame or a Path")


def encode_frame(frame: pl.DataFrame, form: str) -> bytes:
    """A frame as a file.

    Args:
        frame: the rows.
        form: ``csv``, ``ndjson``, ``json`` or ``parquet``.

    Raises:
        ValueError: it is no such format.
    """
    file = io.BytesIO()
    if form == "csv":
        # Polars writes offsets without a colon, +0000, which is not how ISO 8601 writes them beside a time with colons
        zoned = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime) and kind.time_zone]
        frame.with_columns(pl.col(zoned).dt.to_string("iso:strict")).write_csv(file)
    elif form == "ndjson":
        frame.write_ndjson(file)
    elif form == "json":
        frame.write_json(file)
    elif form == "parquet":
        frame.write_parquet(file)
    else:
        raise ValueError(f"{form!r} is no format of a frame here; it is one of csv, ndjson, json, parquet")
    return file.getvalue()


def _format(key: str) -> str:
    ending = key.rpartition(".")[2].lower()
    return "ndjson" if ending == "jsonl" else ending
