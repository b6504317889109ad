"""Reading silver back: everything that a transform has made, as one frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from silversmith.errors import SilversmithError
from silversmith.schemas.document import Document, schema_key

#: What Polars may do where a file has an older, narrower schema. docs/schema.md
CASTS = pl.ScanCastOptions(integer_cast=["upcast", "allow-float"], float_cast="upcast", missing_struct_fields="insert")


class NotRecorded(SilversmithError):
    """There is no schema beside this silver: nothing was made yet, or it is not a transform's folder."""


def scan(silver: str | Path, *, s3: Any = None, **options: Any) -> pl.LazyFrame:
    """All silver of one transform, whatever columns its files have had, as ``pl.scan_parquet`` reads it.

    Files that were made before a column was there have nulls in it. Nothing is read but the recorded schema.

    Args:
        silver: the transform's folder in the silver bucket: ``lake/dl-silver-layer/flights`` or
            ``s3://dl-silver-layer/flights``.
        s3: the boto3 client that reads the recorded schema from S3; None: a new one.
        options: more of ``pl.scan_parquet``'s: ``storage_options``, ``include_file_paths`` …

    Raises:
        NotRecorded: no schema is recorded for it.
        AccessDenied, OSError: it cannot be read.
    """
    place = str(silver).rstrip("/")
    above, _, transform = place.rpartition("/")
    body = _read(above, schema_key(transform), s3)
    document = Document.from_json(transform, body) if body is not None else Document(transform)
    if not document.schemas:
        raise NotRecorded(
            f"no schema is recorded for {place}: nothing was made there yet, or it is no transform's folder"
        )
    is_remote = "://" in place
    return pl.scan_parquet(
        f"{place}/**/*.parquet" if is_remote else Path(place).absolute(),
        schema=document.everything(),
        missing_columns="insert",
        cast_options=CASTS,
        hive_partitioning=False,
        glob=is_remote,
        **options,
    )


def _read(above: str, key: str, s3: Any) -> bytes | None:
    if above.startswith("s3://"):
        from silversmith.stores.s3 import S3Store, connect

        return S3Store(above.removeprefix("s3://"), client=s3 or connect(), scratch=Path()).read(key)
    path = Path(above or ".", key)
    return path.read_bytes() if path.exists() else None
