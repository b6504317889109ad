"""Custom writers: how the rows of silver become its Parquet file.

Silver is always Parquet with its lineage in it. A writer decides on the rest: sorted or clustered rows, row groups of
another size, another compression, metadata that other programs ask for (GeoParquet's ``geo``).
docs/decisions/0091-writers-write-parquet.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import polars as pl

from silversmith.errors import TransformError, count
from silversmith.formats.writer import count_rows, read_lineage
from silversmith.lineage import PARQUET_ENTRY, Lineage
from silversmith.usercode.loading import load_plugin, plugin_problem, user_traceback

#: The group of entry points under which packages offer writers.
GROUP = "silversmith.writers"


@runtime_checkable
class CustomWriter(Protocol):
    """A writer of silver's Parquet files. Its options, if it has any, are best a frozen dataclass's.

    Attributes:
        name: what it is called in errors: lower-case letters, digits, ``-``.
    """

    @property
    def name(self) -> str: ...

    def write(self, rows: pl.LazyFrame, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the rows as a Parquet file.

        Args:
            rows: all of silver's. Streamed by ``sink_parquet``, files of any size are written in bounded memory.
            path: of the file, which does not exist yet.
            metadata: what the file's key-value metadata must have; more may be added.

        Any exception counts as a bug of the writer or of the system: the file is tried again.
        """


def named(name: str) -> CustomWriter:
    """The writer that an installed package offers under a name.

    Raises:
        DefinitionError: there is none, there are two, or what is there is none.
    """
    writer: CustomWriter = load_plugin(GROUP, name, problem_of)
    return writer


def problem_of(value: object) -> str:
    """Why an object cannot be a writer; empty where it can."""
    return plugin_problem(value, "write", "write(rows, path, metadata), which writes a Parquet file")


def write(writer: CustomWriter, rows: pl.LazyFrame, path: Path, lineage: Lineage) -> None:
    """Have a writer write a silver object's file, and check the file.

    Raises:
        TransformError: the writer failed; or the file is no Parquet, has other rows or columns than it was given, or
            has no lineage.
    """
    who = f"the writer {writer.name!r}"
    schema = dict(rows.collect_schema())
    try:
        writer.write(rows, path, {PARQUET_ENTRY: lineage.to_json()})
    except BaseException as error:  # sys.exit() and Polars' panics are bugs of theirs, too
        raise TransformError(user_traceback(who, error)) from error
    problem = _problem(path, schema, lineage)
    if problem:
        raise TransformError(f"{who} {problem}")


def _problem(path: Path, schema: Mapping[str, pl.DataType], lineage: Lineage) -> str:
    if not path.is_file():
        return "wrote no file at the path that it was given"
    try:
        written = dict(pl.scan_parquet(path, glob=False, hive_partitioning=False).collect_schema())
        height = count_rows(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        return f"wrote a file that is no Parquet: {str(error).partition(chr(10))[0][:200]}"
    if read_lineage(path) != json.loads(lineage.to_json()):
        return "left the lineage away: the file's key-value metadata must have all that `metadata` has"
    if height != lineage.rows_written:
        return f"wrote {count(height, 'row')} of {lineage.rows_written:,}: a writer must write all, and no others"
    if set(written) != set(schema):
        return f"wrote the columns {', '.join(written)}, and was given {', '.join(schema)}"
    return ""
