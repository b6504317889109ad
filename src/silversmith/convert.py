"""From the bytes of one bronze object to the Parquet of its silver object: read, check, transform, write.

Small objects are handled in memory; large ones stream, so that memory does not grow with them.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from silversmith import formats
from silversmith.contract import Contract
from silversmith.errors import DataError, TransformError
from silversmith.formats.scratch import Scratch
from silversmith.formats.table import Table
from silversmith.lineage import Lineage
from silversmith.stores import Source

if TYPE_CHECKING:
    from silversmith.pipeline import Transform

#: Of a user's traceback, the innermost frames that are kept.
FRAMES = 12


@dataclass(frozen=True)
class Converted:
    """What is to be put: the silver object, the rejected rows if there are any, and the lineage that both carry.

    Where they are files, they live as long as this object does.
    """

    silver: bytes | Path
    rejected: bytes | Path | None
    lineage: Lineage
    scratch: Scratch | None = None


def convert(source: Source, transform: Transform, lineage: Lineage, scratch: Path) -> Converted:
    """Make the silver object of one bronze object.

    Args:
        source: the object's bytes.
        transform: its reader, contract and function.
        lineage: all that is known before the rows are; their numbers and the format are filled in.
        scratch: the folder for files that are too large for memory.

    Raises:
        DataError: the bytes are not what the reader or the contract demands.
        TransformError: the user's function raised, or returned what is no frame.
    """
    contract = transform.contract or Contract()
    table = formats.read(source, transform.reader, wanted=contract.wanted, scratch=scratch)
    lineage = replace(lineage, format=table.format)
    if table.frame is not None:
        return _in_memory(table, table.frame, contract, transform, lineage)
    return _streaming(table, contract, transform, lineage, Scratch(scratch))


def _in_memory(
    table: Table, frame: pl.DataFrame, contract: Contract, transform: Transform, lineage: Lineage
) -> Converted:
    good, rejected = contract.split(frame, table)
    rows_rejected = 0 if rejected is None else rejected.height
    contract.judge(table.records, rows_rejected)
    silver = _collected(transform, good)
    lineage = replace(lineage, rows_read=table.records, rows_written=silver.height, rows_rejected=rows_rejected)
    text = lineage.to_json()
    return Converted(
        formats.parquet_bytes(silver, text),
        None if rejected is None else formats.parquet_bytes(rejected, text),
        lineage,
    )


def _streaming(table: Table, contract: Contract, transform: Transform, lineage: Lineage, scratch: Scratch) -> Converted:
    """Silver and rejected rows in one pass over the file."""
    with formats.reading_errors(table):
        checked = contract.check(table)
    paths = scratch.file(".parquet"), scratch.file(".rejected.parquet")
    text = lineage.to_json()
    silver = _applied(transform, checked.good)
    plans = [
        formats.parquet_sink(silver, paths[0], text),
        formats.parquet_sink(checked.rejected, paths[1], text),
    ]
    try:
        with formats.reading_errors(table):
            pl.collect_all(plans, engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise TransformError(_told(transform, error)) from error
    rejected = formats.count_rows(paths[1])
    contract.judge(table.records, rejected)
    written = formats.count_rows(paths[0])
    lineage = replace(lineage, rows_read=table.records, rows_written=written, rows_rejected=rejected)
    for path in paths:
        formats.fill_lineage(path, lineage.to_json())
    return Converted(paths[0], paths[1] if rejected else None, lineage, scratch)


def _applied(transform: Transform, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The user's plan."""
    try:
        result = transform.function(rows)
    except DataError:
        raise  # the user's own word that the data is at fault
    except BaseException as error:  # sys.exit() and Polars' panics are bugs of theirs, too
        raise TransformError(_told(transform, error)) from error
    if isinstance(result, pl.DataFrame):
        return result.lazy()
    if not isinstance(result, pl.LazyFrame):
        raise TransformError(
            f"the transform {transform.name!r} returned {type(result).__name__}; it must return a Polars LazyFrame "
            "or DataFrame. Did it forget to return?"
        )
    return result


def _collected(transform: Transform, good: pl.DataFrame) -> pl.DataFrame:
    result = _applied(transform, good.lazy())
    try:
        return result.collect()
    except DataError:
        raise
    except BaseException as error:  # sys.exit() and Polars' panics are bugs of theirs, too
        raise TransformError(_told(transform, error)) from error


def _told(transform: Transform, error: BaseException) -> str:
    """The user's traceback: their frames alone, the innermost last, and the error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_FOREIGN)]
    lines = traceback.format_list(frames[-FRAMES:]) + traceback.format_exception_only(error)
    return f"the transform {transform.name!r} failed:\n{''.join(lines).rstrip()}"


#: Frames of Silversmith's and Polars' own, which are of no use to who looks for a bug of theirs.
_FOREIGN = (str(Path(__file__).parent), str(Path(pl.__file__).parent))
