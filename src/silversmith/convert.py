"""From the bytes of one bronze object to the Parquet of its silver object: read, check, transform, write.

Small objects are handled in memory; large ones stream, so that memory does not grow with them.
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
from silversmith.lineage import Lineage, brief
from silversmith.lookups import Context, alone
from silversmith.schemas import Change, Known
from silversmith.stages import Stages
from silversmith.stores import Source
from silversmith.usercode.loading import user_traceback
from silversmith.writers import write

if TYPE_CHECKING:
    from silversmith.pipeline import Transform

#: Formats that say themselves which types their columns have.
_TYPED = ("parquet", "arrow", "avro")

#: The contract of a transform that has none.
_ANYTHING = Contract()


@dataclass(frozen=True)
class Converted:
    """What is to be put: the silver object, the rejected rows if there are any, and the lineage that both carry.

    ``dialect`` is what was found out about how the file is written. ``change`` is to be recorded before silver is put.

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
        known: what is recorded of the schema of silver, which this object must go together with; None: any will do.
        stages: told when each stage has ended.
        context: what the function may know beside its rows; None: there are no lookups.
        identified: gives what the lineage says once the object's etag is known, by the names of fields; waits for it.
        later: the rows of a small object that is put alone, and changes no schema, are left to be written with others'.

    Raises:
        DataError: the bytes are not what the reader or the contract demands, or not what silver has.
        TransformError: the user's function, reader or writer raised, or gave what it must not.
        SilversmithError: a lookup cannot be had.
    """
    context, stages = context or alone(source.head), stages or Stages()
    later = later and transform.writer is None
    task = _Task(transform, lineage, source.head.modified, known, context, stages, identified, later)
    try:
        made = _converted(source, task, scratch)
    except schemas.Changed as error:
        guessed = [name for name in error.columns if name not in task.contract.schema and task.is_text(name)]
        if set(guessed) != set(error.columns):
            raise
        # Where silver has text, "12" is text as well: a reader that was not told took it for a number.
        try:
            made = _converted(source, task, scratch, dict.fromkeys(guessed, pl.String()))
        except (DataError, TransformError):
            raise error from None
    return _rewritten(made, task, scratch)


@dataclass
class _Task:
    """What is to be done, and what is known before. ``landed`` is when the object was put into bronze."""

    transform: Transform
    lineage: Lineage
    landed: datetime
    known: Known | None
    context: Context
    stages: Stages
    identified: Callable[[], Mapping[str, str]]
    later: bool
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def contract(self) -> Contract:
        return self.transform.contract or _ANYTHING

    @property
    def recorded(self) -> schemas.Schema | None:
        return self.known.document.of(self.lineage.fingerprint) if self.known is not None else None

    def is_text(self, name: str) -> bool:
        """Whether silver has text in this column."""
        return self.recorded is not None and self.recorded.columns.get(name) == pl.String()

    def tell(self, table: Table) -> None:
        """Now it is known how the file is written."""
        self.told = {"format": table.format, "dialect": brief(table.dialect)}

    def text(self) -> str:
        """The lineage as far as it is known, for a file that is written before the rest is."""
        return replace(self.lineage, **self.told).to_json()  # type: ignore[arg-type]

    def finished(self, *, read: int, written: int, rejected: int, version: int) -> Lineage:
        """The whole lineage, with the numbers of rows and the version of the schema."""
        return replace(
            self.lineage,
            **self.told,  # type: ignore[arg-type]
            **self.identified(),  # type: ignore[arg-type]
            rows_read=read,
            rows_written=written,
            rows_rejected=rejected,
            schema=version,
        )

    def guessed(self, table: Table, names: Collection[str]) -> list[str]:
        """Of the columns of good rows those whose type the reader found out for itself."""
        if table.typed or table.format.partition("+")[0] in _TYPED:
            return []
        return [name for name in names if name not in self.contract.schema]

    def settled(self, schema: schemas.Schema | None) -> tuple[int, Change | None]:
        """The version of the schema that the file has, and what is to be recorded for it."""
        if self.known is None or self.recorded is None:
            return 0, None
        if schema is None:
            return self.recorded.version, None
        document = self.known.document.changed(schema, key=self.lineage.bronze_key, at=self.lineage.committed_at)
        return document.of(schema.code).version, Change(self.known, document)


def _converted(
    source: Source, task: _Task, scratch: Path, as_text: Mapping[str, pl.DataType] | None = None
) -> Converted:
    wanted = {**task.contract.wanted, **(as_text or {})}
    with formats.unpacked(source, task.transform.reader, scratch=scratch) as opened:
        made = _by_block(opened, wanted, task, Scratch(scratch))
        if made is not None:
            return made
        table = opened.table(wanted)
    task.tell(table)
    task.stages.end("parse")
    try:
        if table.frame is not None:
            return _in_memory(table, table.frame, task)
        return _streaming(table, task, Scratch(scratch))
    except DataError as error:
        error.format, error.dialect = table.format, table.dialect
        raise


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
        found = dict(zip(silver.columns, silver.dtypes, strict=True))
        fitted = schemas.fit(silver, found, task.recorded, task.guessed(table, good.columns))
        silver = silver if fitted.rows is None else fitted.rows.collect()
        version, change = task.settled(fitted.schema)
    lineage = task.finished(read=table.records, written=silver.height, rejected=rows_rejected, version=version)
    if task.later and rejected is None and change is None:
        task.stages.end("write")  # the schema was fitted; the rest of this stage comes later
        return Converted(silver, None, lineage, table.dialect)
    text = lineage.to_json()
    if rejected is not None:
        rejected = with_origins(rejected.lazy(), table).collect()
    made = _written(task.transform, silver, text)
    rejects = None if rejected is None else formats.parquet_bytes(rejected, text)
    task.stages.end("write")
    return Converted(made, rejects, lineage, table.dialect, change=change)


def _streaming(table: Table, task: _Task, scratch: Scratch) -> Converted:
    """Silver and rejected rows in one pass over the file; silver in another over itself where its values tell that
    its columns must be of other types."""
    contract = task.contract
    with formats.reading_errors(table):
        checked = contract.check(table, scratch)
    path, rejected_path = scratch.file(".parquet"), scratch.file(".rejected.parquet")
    text = task.text()
    silver = _ahead(task, _applied(task, checked.good))
    plans = [formats.parquet_sink(silver, path, text), formats.parquet_sink(checked.rejected, rejected_path, text)]
    if checked.newest is not None:
        plans.append(checked.newest)
    try:
        with formats.reading_errors(table):
            collected = pl.collect_all(plans, engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise TransformError(_told(task.transform, error)) from error
    task.stages.end("one pass")
    rejected = formats.count_rows(rejected_path)
    newest = collected[2].row(0, named=True) if checked.newest is not None else None
    names = checked.good.collect_schema().names()
    found = _Written(table, path, rejected_path, table.records, rejected, newest, task.guessed(table, names))
    return _finished(found, task, scratch)


@dataclass(frozen=True)
class _Written:
    """Files that were streamed to, and what became known of the table's rows on the way. ``guessed`` are columns."""

    table: Table
    silver: Path
    rejected: Path
    records: int
    rows_rejected: int
    newest: Mapping[str, Any] | None
    guessed: Collection[str]


def _finished(written: _Written, task: _Task, scratch: Scratch) -> Converted:
    """The file as a whole is judged, and the lineage filled in."""
    task.contract.judge(written.records, written.rows_rejected, newest=written.newest, landed=task.landed)
    path, version, change = _fitted(written.silver, task, written.guessed, scratch)
    lineage = task.finished(
        read=written.records, written=formats.count_rows(path), rejected=written.rows_rejected, version=version
    )
    rejected = _with_origins(written, task, scratch) if written.rows_rejected else None
    for file in (path, rejected):
        if file is not None:
            formats.fill_lineage(file, lineage.to_json())
    task.stages.end("write")
    return Converted(path, rejected, lineage, written.table.dialect, (scratch,), change)


def _with_origins(written: _Written, task: _Task, scratch: Scratch) -> Path:
    """The rejected rows with their lines and texts, where the file has such."""
    if written.table.origins is None:
        return written.rejected
    rows = pl.scan_parquet(written.rejected.absolute(), glob=False, hive_partitioning=False)
    told = scratch.file(".told.parquet")
    formats.write_parquet(with_origins(rows, written.table), told, task.text())
    written.rejected.unlink()
    return told


def _by_block(
    opened: formats.Unpacked, wanted: Mapping[str, pl.DataType], task: _Task, scratch: Scratch
) -> Converted | None:
    """Silver and rejected rows of a large CSV file in one pass that reads it block by block, several times as fast.

    None where that cannot be, or anything is wrong with the file as a whole or with the transform: then it is done, and
    told, by the careful way.
    """
    try:
        stream = opened.stream(wanted)
        reading = one_pass(stream, task.contract, scratch) if stream is not None else None
        if stream is None or reading is None:
            return None
        task.tell(described(stream))
        written = _read(reading, task, scratch)
        task.stages.end("one pass")
        return _finished(written, task, scratch)
    except (DataError, TransformError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None


def _read(reading: OnePass, task: _Task, scratch: Scratch) -> _Written:
    path, rejected_path = scratch.file(".parquet"), scratch.file(".rejected.parquet")
    text = task.text()
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
    newest, table = reading.newest_values(), described(reading.stream)
    return _Written(table, path, rejected_path, reading.records, reading.rejected, newest, ())


def _ahead(task: _Task, silver: pl.LazyFrame) -> pl.LazyFrame:
    """The user's plan, with the columns of silver as far as its types tell them."""
    if task.recorded is None:
        return silver
    try:
        found = dict(silver.collect_schema())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise TransformError(_told(task.transform, error)) from error
    return schemas.ahead(silver, found, task.recorded)


def _fitted(path: Path, task: _Task, guessed: Collection[str], scratch: Scratch) -> tuple[Path, int, Change | None]:
    """Silver's file with the types that its values ask for, its version, and what is to be recorded."""
    if task.recorded is None:
        return path, 0, None
    rows = pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False)
    fitted = schemas.fit(rows, dict(rows.collect_schema()), task.recorded, guessed)
    if fitted.rows is not None:
        made = scratch.file(".parquet")
        formats.write_parquet(fitted.rows, made, task.text())
        path.unlink()
        path = made
    return path, *task.settled(fitted.schema)


def _rewritten(made: Converted, task: _Task, scratch: Path) -> Converted:
    """Silver as the transform's own writer writes it, if it has one."""
    writer = task.transform.writer
    if writer is None:
        return made
    files = Scratch(scratch)
    path = files.file(".parquet")
    assert not isinstance(made.silver, pl.DataFrame), "with a writer it is not left for later"
    held = io.BytesIO(made.silver) if isinstance(made.silver, bytes) else made.silver.absolute()
    write(writer, pl.scan_parquet(held, glob=False, hive_partitioning=False), path.absolute(), made.lineage)
    return replace(made, silver=path, scratches=(*made.scratches, files))


def _applied(task: _Task, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The user's plan."""
    transform = task.transform
    try:
        result = transform.apply(rows, task.context)
    except SilversmithError:
        raise  # the user's own word that the data is at fault; or a lookup that cannot be had
    except BaseException as error:  # sys.exit() and Polars' panics are bugs of theirs, too
        raise TransformError(_told(task.transform, error)) from error
    if isinstance(result, pl.DataFrame):
        return result.lazy()
    if not isinstance(result, pl.LazyFrame):
        raise TransformError(
            f"the transform {transform.name!r} returned {type(result).__name__}; it must return a Polars LazyFrame "
            "or DataFrame. Did it forget to return?"
        )
    return result


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
        raise TransformError(_told(task.transform, error)) from error


def _written(transform: Transform, silver: pl.DataFrame, lineage: str) -> bytes:
    try:
        return formats.parquet_bytes(silver, lineage)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise TransformError(_told(transform, error)) from error  # a type of theirs that Parquet has not


def write_all(rows: Sequence[tuple[Transform, pl.DataFrame, Lineage]]) -> list[bytes | TransformError]:
    """The Parquet of several small objects whose rows were left for later, or what is wrong with one."""
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


def _told(transform: Transform, error: BaseException) -> str:
    """The user's traceback."""
    return user_traceback(f"the transform {transform.name!r}", error)
