"""From the bytes of one bronze object to the Parquet of its silver object: read, check, transform, write.

A small object is converted in memory. A large one streams, so that memory does not grow with it: a CSV file whose
columns the contract declares in one pass by blocks, anything else as a plan of Polars.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from silversmith import formats, schemas
from silversmith.contract import Contract
from silversmith.contract.layout import with_origins
from silversmith.contract.streaming import OnePass, one_pass
from silversmith.errors import DataError, SilversmithError, TransformError
from silversmith.formats.archives.content import Scratch
from silversmith.formats.csv import described
from silversmith.formats.table import Table
from silversmith.function.outcome import Stages
from silversmith.lineage import Lineage, brief
from silversmith.pipeline.lookups import Context, alone
from silversmith.pipeline.writers import write
from silversmith.schemas import Change, Known
from silversmith.stores import Source
from silversmith.usercode.loading import user_traceback

if TYPE_CHECKING:
    from silversmith.pipeline import Transform

#: Formats that state the types of their columns.
_TYPED = ("parquet", "arrow", "avro")

#: The contract of a transform that has none.
_ANYTHING = Contract()


@dataclass(frozen=True)
class Converted:
    """The objects to put: silver, the rejected rows if there are any, and the lineage that both carry.

    ``dialect`` is how the file is written, as far as it was detected. ``change`` is recorded before silver is put.

    Where they are files, they live as long as this object does. Where silver is still rows, :func:`write_all` makes
    Parquet of it.
    """

    silver: bytes | Path | pl.DataFrame
    rejected: bytes | Path | None
    lineage: Lineage
    dialect: Mapping[str, object] = field(default_factory=dict)
    scratches: tuple[Scratch, ...] = ()
    change: Change | None = None


def convert(
    source: Source,
    transform: Transform,
    lineage: Lineage,
    scratch: Path,
    known: Known | None = None,
    *,
    stages: Stages | None = None,
    context: Context | None = None,
    identified: Callable[[], Mapping[str, str]] = dict,
    later: bool = False,
) -> Converted:
    """Make the silver object of one bronze object.

    Args:
        source: the object's bytes.
        transform: its reader, contract and function.
        lineage: all that is known before the rows are; their numbers and the format are filled in. As long as it will
            be at most, but for these and an etag.
        scratch: the folder for files that are too large for memory.
        known: the recorded schema of silver, which this object must go together with; None: any will do.
        stages: notes when each stage has ended.
        context: what the function may know beside its rows; None: there are no lookups.
        identified: gives what the lineage says once the object's etag is known, by the names of fields; waits for it.
        later: the rows of a small object that is put alone, and changes no schema, are left to be written with others'.

    Raises:
        DataError: the bytes are not what the reader or the contract demands, or not what silver has.
        TransformError: the user's function, reader or writer raised, or returned something else than rows.
        SilversmithError: a lookup cannot be had.
    """
    context, stages = context or alone(source.head), stages or Stages()
    later = later and transform.writer is None
    task = _Task(transform, lineage, source.head.modified, known, context, stages, identified, later)
    try:
        converted = _converted(source, task, scratch)
    except schemas.Changed as error:
        guessed = [name for name in error.columns if name not in task.contract.schema and task.is_text(name)]
        if set(guessed) != set(error.columns):
            raise
        # Where silver has text, "12" is text as well: a reader that was not told took it for a number.
        try:
            converted = _converted(source, task, scratch, dict.fromkeys(guessed, pl.String()))
        except (DataError, TransformError):
            raise error from None
    return _with_own_writer(converted, task, scratch)


def _converted(
    source: Source, task: _Task, scratch: Path, as_text: Mapping[str, pl.DataType] | None = None
) -> Converted:
    """Read the object in the first way that serves: in one pass by blocks, in memory, or streaming."""
    declared = {**task.contract.wanted, **(as_text or {})}
    with formats.unpacked(source, task.transform.reader, scratch=scratch) as opened:
        converted = _in_one_pass(opened, declared, task, Scratch(scratch))
        if converted is not None:
            return converted
        table = opened.table(declared)
    task.detected(table)
    task.stages.end("parse")
    try:
        if table.frame is not None:
            return _in_memory(table, table.frame, task)
        return _streaming(table, task, Scratch(scratch))
    except DataError as error:
        error.format, error.dialect = table.format, table.dialect
        raise


@dataclass
class _Task:
    """The work on one object, and all that is known of it before. ``landed`` is when it was put into bronze."""

    transform: Transform
    lineage: Lineage
    landed: datetime
    known: Known | None
    context: Context
    stages: Stages
    identified: Callable[[], Mapping[str, str]]
    later: bool
    _detected: Mapping[str, str] = field(default_factory=dict)

    @property
    def contract(self) -> Contract:
        return self.transform.contract or _ANYTHING

    @property
    def recorded(self) -> schemas.Schema | None:
        return self.known.document.of(self.lineage.fingerprint) if self.known is not None else None

    def is_text(self, name: str) -> bool:
        """Whether silver has text in this column."""
        return self.recorded is not None and self.recorded.columns.get(name) == pl.String()

    def detected(self, table: Table) -> None:
        """Note how the file is written, for the lineage."""
        self._detected = {"format": table.format, "dialect": brief(table.dialect)}

    def early_lineage(self) -> str:
        """The lineage as far as it is known, for a file that is written before the rest is."""
        return replace(self.lineage, **self._detected).to_json()  # type: ignore[arg-type]

    def finished(self, *, read: int, written: int, rejected: int, version: int) -> Lineage:
        """The whole lineage, with the numbers of rows and the version of the schema."""
        return replace(
            self.lineage,
            **self._detected,  # type: ignore[arg-type]
            **self.identified(),  # type: ignore[arg-type]
            rows_read=read,
            rows_written=written,
            rows_rejected=rejected,
            schema=version,
        )

    def guessed(self, table: Table, names: Collection[str]) -> list[str]:
        """Of the columns of good rows those whose type the reader inferred."""
        if table.typed or table.format.partition("+")[0] in _TYPED:
            return []
        return [name for name in names if name not in self.contract.schema]

    def settled(self, schema: schemas.Schema | None) -> tuple[int, Change | None]:
        """The version of the schema that the file has, and the change to record for it."""
        if self.known is None or self.recorded is None:
            return 0, None
        if schema is None:
            return self.recorded.version, None
        document = self.known.document.changed(schema, key=self.lineage.bronze_key, at=self.lineage.committed_at)
        return document.of(schema.code).version, Change(self.known, document)


# In memory.


def _in_memory(table: Table, frame: pl.DataFrame, task: _Task) -> Converted:
    contract = task.contract
    good, rejected = contract.split(frame, table)
    rows_rejected = 0 if rejected is None else rejected.height
    newest = good.select(contract.expectations.newest()).row(0, named=True) if contract.expectations.fresh else None
    contract.judge(table.records, rows_rejected, newest=newest, landed=task.landed)
    task.stages.end("contract")
    silver = _collected(task, good)
    task.stages.end("transform")
    version, change = 0, None
    if task.recorded is not None:
        dtypes = dict(zip(silver.columns, silver.dtypes, strict=True))
        fitted = schemas.fit(silver, dtypes, task.recorded, task.guessed(table, good.columns))
        silver = silver if fitted.rows is None else fitted.rows.collect()
        version, change = task.settled(fitted.schema)
    lineage = task.finished(read=table.records, written=silver.height, rejected=rows_rejected, version=version)
    if task.later and rejected is None and change is None:
        task.stages.end("write")  # the schema was fitted; the rest of this stage comes later
        return Converted(silver, None, lineage, table.dialect)
    text = lineage.to_json()
    if rejected is not None:
        rejected = with_origins(rejected.lazy(), table).collect()
    parquet = _written(task.transform, silver, text)
    rejected_parquet = None if rejected is None else formats.parquet_bytes(rejected, text)
    task.stages.end("write")
    return Converted(parquet, rejected_parquet, lineage, table.dialect, change=change)


def _collected(task: _Task, good: pl.DataFrame) -> pl.DataFrame:
    rows = good.lazy()
    result = _applied(task, rows)
    if result is rows:
        return good  # a transform that leaves all to its contract
    try:
        return result.collect()
    except DataError:
        raise
    except BaseException as error:  # sys.exit() and Polars' panics are bugs of theirs, too
        raise TransformError(_traceback(task.transform, error)) from error


# In one pass over a large CSV file, by blocks.


def _in_one_pass(
    opened: formats.Unpacked, declared: Mapping[str, pl.DataType], task: _Task, scratch: Scratch
) -> Converted | None:
    """Silver and rejected rows in one pass that reads the file block by block, several times as fast.

    None where that cannot be, or anything is wrong with the file as a whole or with the transform: then the file is
    read again as all others are, and that says what is wrong.
    """
    try:
        stream = opened.stream(declared)
        reading = one_pass(stream, task.contract, scratch) if stream is not None else None
        if stream is None or reading is None:
            return None
        table = described(stream)
        task.detected(table)
        files = _passed(reading, table, task, scratch)
        task.stages.end("one pass")
        return _finished(files, task, scratch)
    except (DataError, TransformError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None


def _passed(reading: OnePass, table: Table, task: _Task, scratch: Scratch) -> _Files:
    path, rejected_path = scratch.file(".parquet"), scratch.file(".rejected.parquet")
    text = task.early_lineage()
    try:
        reading.begin()
        silver = _ahead(task, _applied(task, reading.good()))
        formats.write_parquet(silver, path, text)
        reading.finish()
    finally:
        reading.close()
    rejected = reading.rejected_rows()
    if rejected is not None:
        formats.write_parquet(rejected, rejected_path, text)
    return _Files(table, path, rejected_path, reading.records, reading.rejected, reading.newest_values(), ())


# Streaming, for large files of any format.


def _streaming(table: Table, task: _Task, scratch: Scratch) -> Converted:
    """Silver and rejected rows in one pass over the file; silver once more if its values need other types."""
    contract = task.contract
    with formats.reading_errors(table):
        checked = contract.check(table, scratch)
    path, rejected_path = scratch.file(".parquet"), scratch.file(".rejected.parquet")
    text = task.early_lineage()
    silver = _ahead(task, _applied(task, checked.good))
    plans = [formats.parquet_sink(silver, path, text), formats.parquet_sink(checked.rejected, rejected_path, text)]
    if checked.newest is not None:
        plans.append(checked.newest)
    try:
        with formats.reading_errors(table):
            collected = pl.collect_all(plans, engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise TransformError(_traceback(task.transform, error)) from error
    task.stages.end("one pass")
    rejected = formats.count_rows(rejected_path)
    newest = collected[2].row(0, named=True) if checked.newest is not None else None
    guessed = task.guessed(table, checked.good.collect_schema().names())
    return _finished(_Files(table, path, rejected_path, table.records, rejected, newest, guessed), task, scratch)


@dataclass(frozen=True)
class _Files:
    """Files that were streamed to, and what was counted meanwhile. ``guessed`` are columns."""

    table: Table
    silver: Path
    rejected: Path
    records: int
    rows_rejected: int
    newest: Mapping[str, Any] | None
    guessed: Collection[str]


def _finished(files: _Files, task: _Task, scratch: Scratch) -> Converted:
    """Judge the file as a whole, fit silver to its schema, and fill in the lineage."""
    task.contract.judge(files.records, files.rows_rejected, newest=files.newest, landed=task.landed)
    path, version, change = _fitted(files.silver, task, files.guessed, scratch)
    lineage = task.finished(
        read=files.records, written=formats.count_rows(path), rejected=files.rows_rejected, version=version
    )
    rejected = _located(files, task, scratch) if files.rows_rejected else None
    for file in (path, rejected):
        if file is not None:
            formats.fill_lineage(file, lineage.to_json())
    task.stages.end("write")
    return Converted(path, rejected, lineage, files.table.dialect, (scratch,), change)


def _fitted(path: Path, task: _Task, guessed: Collection[str], scratch: Scratch) -> tuple[Path, int, Change | None]:
    """Silver's file with the types that its values ask for, its version, and the change to record."""
    if task.recorded is None:
        return path, 0, None
    rows = pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False)
    fitted = schemas.fit(rows, dict(rows.collect_schema()), task.recorded, guessed)
    if fitted.rows is not None:
        rewritten = scratch.file(".parquet")
        formats.write_parquet(fitted.rows, rewritten, task.early_lineage())
        path.unlink()
        path = rewritten
    return path, *task.settled(fitted.schema)


def _located(files: _Files, task: _Task, scratch: Scratch) -> Path:
    """The file of rejected rows with their lines and texts, where the bronze file has such."""
    if files.table.origins is None:
        return files.rejected
    rows = pl.scan_parquet(files.rejected.absolute(), glob=False, hive_partitioning=False)
    located = scratch.file(".located.parquet")
    formats.write_parquet(with_origins(rows, files.table), located, task.early_lineage())
    files.rejected.unlink()
    return located


# The user's function and writer.


def _applied(task: _Task, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The user's plan."""
    transform = task.transform
    try:
        result = transform.apply(rows, task.context)
    except SilversmithError:
        raise  # the user's own word that the data is at fault; or a lookup that cannot be had
    except BaseException as error:  # sys.exit() and Polars' panics are bugs of theirs, too
        raise TransformError(_traceback(transform, error)) from error
    if isinstance(result, pl.DataFrame):
        return result.lazy()
    if not isinstance(result, pl.LazyFrame):
        raise TransformError(
            f"the transform {transform.name!r} returned {type(result).__name__}; it must return a Polars LazyFrame "
            "or DataFrame. Did it forget to return?"
        )
    return result


def _ahead(task: _Task, silver: pl.LazyFrame) -> pl.LazyFrame:
    """The user's plan, with the columns of silver as far as its types alone decide them."""
    if task.recorded is None:
        return silver
    try:
        dtypes = dict(silver.collect_schema())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise TransformError(_traceback(task.transform, error)) from error
    return schemas.ahead(silver, dtypes, task.recorded)


def _with_own_writer(converted: Converted, task: _Task, scratch: Path) -> Converted:
    """Silver as the transform's own writer writes it, if it has one."""
    writer = task.transform.writer
    if writer is None:
        return converted
    files = Scratch(scratch)
    path = files.file(".parquet")
    silver = converted.silver
    assert not isinstance(silver, pl.DataFrame), "with a writer it is not left for later"
    parquet = io.BytesIO(silver) if isinstance(silver, bytes) else silver.absolute()
    write(writer, pl.scan_parquet(parquet, glob=False, hive_partitioning=False), path.absolute(), converted.lineage)
    return replace(converted, silver=path, scratches=(*converted.scratches, files))


def _written(transform: Transform, silver: pl.DataFrame, lineage: str) -> bytes:
    try:
        return formats.parquet_bytes(silver, lineage)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise TransformError(_traceback(transform, error)) from error  # a type of theirs that Parquet has not


def _traceback(transform: Transform, error: BaseException) -> str:
    """The user's traceback."""
    return user_traceback(f"the transform {transform.name!r}", error)


# Several small objects at once.


def write_all(rows: Sequence[tuple[Transform, pl.DataFrame, Lineage]]) -> list[bytes | TransformError]:
    """The Parquet of several small objects whose rows were left for later, or the error of one."""
    if not rows:
        return []
    texts = [(frame, lineage.to_json()) for _, frame, lineage in rows]
    try:
        return list(formats.all_parquet_bytes(texts))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return [_written_or_not(transform, *text) for (transform, *_), text in zip(rows, texts, strict=True)]


def _written_or_not(transform: Transform, silver: pl.DataFrame, lineage: str) -> bytes | TransformError:
    try:
        return _written(transform, silver, lineage)
    except TransformError as error:
        return error
