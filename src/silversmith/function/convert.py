"""From the bytes of one bronze object to its silver object: read, split by the contract, transform, fit and write.

A small object is converted in memory. A large one streams, so that memory does not grow with it: a CSV file whose
columns the contract declares in one pass by blocks, anything else as a plan of Polars.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from silversmith import formats, schemas
from silversmith.contract import Contract
from silversmith.contract.rejected import ROW_NUMBER, broken, with_origins
from silversmith.contract.streaming import OnePass, one_pass
from silversmith.errors import DataError, SilversmithError, TransformError
from silversmith.formats import writer
from silversmith.formats.archives.content import Scratch
from silversmith.formats.csv import described
from silversmith.formats.table import ROW, Table
from silversmith.function.outcome import Stages
from silversmith.lineage import Lineage, brief
from silversmith.pipeline.lookups import MOST_REJECTED, Context, alone, noted
from silversmith.pipeline.writers import write
from silversmith.schemas import Document
from silversmith.stores import Source
from silversmith.usercode.loading import user_traceback

if TYPE_CHECKING:
    from silversmith.pipeline import Transform

#: Formats that state the types of their columns.
_TYPED_FORMATS = ("parquet", "arrow", "avro")

#: The contract of a transform that has none.
_ANYTHING = Contract()

#: What Polars raises; its panics are no ``Exception``.
_POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


@dataclass(frozen=True)
class Converted:
    """The result of one bronze object.

    Attributes:
        silver: the rows of a small silver object, which :func:`encode_silver` makes Parquet of; or a Parquet file.
        rejected: the Parquet of the rejected rows; None: there are none.
        lineage: of both.
        dialect: how the file is written, as far as it was detected.
        scratches: keep the temporary files; they go with this object.
        document: the recorded schema as it is with this object, which must be recorded before silver is put; None: it
            stays as it is.
        broken: how many rows broke each rule or column, where rows were rejected.
    """

    silver: pl.DataFrame | Path
    rejected: bytes | Path | None
    lineage: Lineage
    dialect: Mapping[str, object] = field(default_factory=dict)
    scratches: tuple[Scratch, ...] = ()
    document: Document | None = None
    broken: Mapping[str, int] = field(default_factory=dict)


def convert(
    source: Source,
    transform: Transform,
    lineage: Lineage,
    scratch: Path,
    document: Document | None = None,
    *,
    stages: Stages | None = None,
    context: Context | None = None,
) -> Converted:
    """Make the silver object of one bronze object.

    Args:
        source: the object's bytes.
        transform: its reader, contract and function.
        lineage: as the event claims it. The format, the numbers of rows and what is true of the bytes are filled in.
        scratch: the folder for files that are too large for memory.
        document: the recorded schema of silver, which this object must go together with; None: any will do.
        stages: measures the time of each stage.
        context: what the function may know beside its rows; None: there are no lookups.

    Raises:
        DataError: the bytes are not what the reader or the contract demands, or not what silver has.
        TransformError: the user's function, reader or writer raised, or returned something else than rows.
        SilversmithError: a lookup cannot be had.
    """
    context, stages = context or alone(source.head), stages or Stages()
    conversion = _Conversion(source, transform, lineage, scratch, document, context, stages)
    try:
        converted = conversion.run({})
    except schemas.Changed as error:
        guessed = [name for name in error.columns if conversion.is_guessed_for_text(name)]
        if set(guessed) != set(error.columns):
            raise
        # Where silver has text, "12" is text as well: the reader, which did not know, took it for a number.
        try:
            converted = conversion.run({name: pl.String() for name in guessed})
        except (DataError, TransformError):
            raise error from None
    return _with_own_writer(converted, transform, scratch)


@dataclass
class _Conversion:
    """The conversion of one object, and all that is known before it."""

    source: Source
    transform: Transform
    lineage: Lineage
    folder: Path
    document: Document | None
    context: Context
    stages: Stages
    detected: Mapping[str, str] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=Scratch)
    rejects: bool = False

    def __post_init__(self) -> None:
        self.contract: Contract = self.transform.contract or _ANYTHING
        self.has_row = "_row" in self.transform.metadata_columns
        self.recorded = self.document.of(self.lineage.fingerprint) if self.document is not None else None

    def run(self, as_text: dict[str, pl.DataType]) -> Converted:
        """Read the object in the first way that serves: in one pass by blocks, in memory, or streaming.

        ``as_text`` are columns that the reader must not guess.
        """
        declared = self.contract.declared | as_text
        with formats.unpacked(self.source, self.transform.reader, scratch=self.folder) as opened:
            converted = self._in_one_pass(opened, declared)
            if converted is not None:
                return converted
            table = opened.table(declared)
        self._detect(table)
        self.stages.end("parse")
        try:
            return self._in_memory(table, table.frame) if table.frame is not None else self._streaming(table)
        except DataError as error:
            error.format, error.dialect = table.format, table.dialect
            raise

    def is_guessed_for_text(self, name: str) -> bool:
        """Whether silver has text in a column whose type the contract leaves open."""
        is_text = self.recorded is not None and self.recorded.columns.get(name) == pl.String()
        return is_text and name not in self.contract.schema

    # A small object, in memory.

    def _in_memory(self, table: Table, frame: pl.DataFrame) -> Converted:
        contract, read = self.contract, table.records
        if contract.drop or contract.drop_texts:
            table, _ = contract.dropping(table)
            assert table.frame is not None
            frame = table.frame
        good, rejected = contract.split(frame, table)
        rows_rejected = 0 if rejected is None else rejected.height
        expectations = contract.expectations
        newest = good.select(expectations.newest()).row(0, named=True) if expectations.fresh else None
        landed, lazy = self.source.head.modified, rejected.lazy() if rejected is not None else None
        contract.judge(table.records, rows_rejected, newest=newest, landed=landed, rejected=lazy)
        self.stages.end("contract")
        silver, own = self._collected(good, frame, rejected)
        if own is not None and own.height:
            taken = _own_rejected(contract, table, own).collect()
            rejected = taken if rejected is None else pl.concat([rejected, taken], how="diagonal").sort(ROW_NUMBER)
            rows_rejected += own.height
            contract.judge(table.records, rows_rejected, newest=newest, landed=landed, rejected=rejected.lazy())
        self.stages.end("transform")
        version, document = 0, None
        if self.recorded is not None:
            dtypes = dict(zip(silver.columns, silver.dtypes, strict=True))
            fitted = schemas.fit(silver, dtypes, self.recorded, self._guessed(table, good.columns))
            silver = silver if fitted.rows is None else fitted.rows.collect()
            version, document = self._changed(fitted.schema)
        lineage = self._finished(read, silver.height, rows_rejected, version, read - table.records)
        parquet, counts = None, dict[str, int]()
        if rejected is not None:
            counts = broken(contract.rules, rejected.lazy())
            parquet = writer.parquet_bytes(with_origins(rejected.lazy(), table).collect(), lineage.to_json())
        self.stages.end("write")
        return Converted(silver, parquet, lineage, table.dialect, document=document, broken=counts)

    def _collected(
        self, good: pl.DataFrame, frame: pl.DataFrame, rejected: pl.DataFrame | None
    ) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The transform's rows, and the numbers and reasons of those that it rejects; None: it rejects none.

        ``frame`` are the rows that the contract split.
        """
        if self.has_row:
            good = good.with_columns(_numbers(frame, rejected).alias("_row"))
        rows = good.lazy()
        result = self._transformed(rows)
        if result is rows:
            return good, None  # a transform that leaves all to its contract
        own = None
        if self.rejects:
            own = self._numbers_of_own(good.with_columns(_numbers(frame, rejected)).lazy())
        try:
            if own is None:
                return result.collect(), None
            silver, numbers_of_own = pl.collect_all([result, own])
            return silver, numbers_of_own
        except DataError:
            raise
        except BaseException as error:  # sys.exit() and Polars' panics are bugs of theirs, too
            raise _users_error(self.transform, error) from error

    # A large CSV file, in one pass by blocks.

    def _in_one_pass(self, opened: formats.Unpacked, declared: Mapping[str, pl.DataType]) -> Converted | None:
        """Read the file block by block, several times as fast.

        None where that cannot be, or anything is wrong with the file as a whole or with the transform: then the file is
        read again as all others are, and that says what is wrong.
        """
        if self.has_row:
            return None  # the rows of one pass have no numbers
        self.scratch = Scratch(self.folder)
        try:
            stream = opened.stream(declared)
            reading = one_pass(stream, self.contract, self.scratch) if stream is not None else None
            if stream is None or reading is None:
                return None
            table = described(stream)
            self._detect(table)
            files = self._written_in_one_pass(reading, table)
            self.stages.end("one pass")
            return self._completed(files)
        except (DataError, TransformError, _NumbersNeeded, *_POLARS_ERRORS):
            return None

    def _written_in_one_pass(self, reading: OnePass, table: Table) -> _Files:
        silver_path, rejected_path = self.scratch.file(".parquet"), self.scratch.file(".rejected.parquet")
        lineage = self._early_lineage()
        try:
            reading.begin()
            silver = self._fitted_by_types(self._transformed(reading.good()))
            if self.rejects:
                raise _NumbersNeeded
            writer.write_parquet(silver, silver_path, lineage)
            reading.finish()
        finally:
            reading.close()
        rejected = reading.rejected_rows()
        if rejected is not None:
            writer.write_parquet(rejected, rejected_path, lineage)
        newest = reading.newest_values()
        return _Files(table, silver_path, rejected_path, reading.records, reading.rejected, newest, (), reading.dropped)

    # A large file of any other kind, streaming.

    def _streaming(self, table: Table) -> Converted:
        """Silver and rejected rows in one pass over the file; silver once more if its values need other types."""
        self.scratch = Scratch(self.folder)
        read = table.records
        with formats.reading_errors(table):
            table, dropped = self.contract.dropping(table)
            checked = self.contract.check(table, self.scratch)
        malformed_dropped = read - table.records
        silver_path, rejected_path = self.scratch.file(".parquet"), self.scratch.file(".rejected.parquet")
        lineage = self._early_lineage()
        good, numbered = checked.good, checked.numbered
        if self.has_row:
            numbered = numbered.with_columns(pl.col(ROW).alias("_row"))
            good = numbered.drop(ROW)
        silver = self._fitted_by_types(self._transformed(good))
        plans = [
            writer.parquet_sink(silver, silver_path, lineage, table.row_bytes),
            writer.parquet_sink(checked.rejected, rejected_path, lineage, table.row_bytes),
        ]
        more = {"newest": checked.newest, "dropped": dropped}
        more["own"] = self._numbers_of_own(numbered) if self.rejects else None
        extra = {name: plan for name, plan in more.items() if plan is not None}
        plans += extra.values()
        try:
            with formats.reading_errors(table):
                collected = pl.collect_all(plans, engine="streaming")
        except _POLARS_ERRORS as error:
            raise _users_error(self.transform, error) from error
        self.stages.end("one pass")
        results = dict(zip(extra, collected[2:], strict=True))
        rejected = writer.count_rows(rejected_path)
        newest = results["newest"].row(0, named=True) if "newest" in results else None
        if "own" in results and results["own"].height:
            own = results["own"]
            taken = _own_rejected(self.contract, table, own)
            both = [pl.scan_parquet(rejected_path.absolute(), glob=False, hive_partitioning=False), taken]
            rejected_path = self.scratch.file(".all.rejected.parquet")
            writer.write_parquet(pl.concat(both, how="diagonal"), rejected_path, lineage)
            rejected += own.height
        rows_dropped = malformed_dropped + (int(results["dropped"].item() or 0) if "dropped" in results else 0)
        guessed = self._guessed(table, checked.good.collect_schema().names())
        return self._completed(_Files(table, silver_path, rejected_path, read, rejected, newest, guessed, rows_dropped))

    def _completed(self, files: _Files) -> Converted:
        """Judge the file as a whole, fit silver to its schema, and fill in the lineage."""
        landed = self.source.head.modified
        rejected_rows = pl.scan_parquet(files.rejected.absolute(), glob=False, hive_partitioning=False)
        self.contract.judge(
            files.records - files.rows_dropped,
            files.rows_rejected,
            newest=files.newest,
            landed=landed,
            rejected=rejected_rows,
        )
        silver, version, document = self._fitted(files.silver, files.guessed)
        written = writer.count_rows(silver)
        lineage = self._finished(files.records, written, files.rows_rejected, version, files.rows_dropped)
        counts = broken(self.contract.rules, rejected_rows) if files.rows_rejected else {}
        rejected = self._located(files) if files.rows_rejected else None
        for file in (silver, rejected):
            if file is not None:
                writer.fill_lineage(file, lineage.to_json())
        self.stages.end("write")
        return Converted(silver, rejected, lineage, files.table.dialect, (self.scratch,), document, counts)

    def _fitted(self, path: Path, guessed: Collection[str]) -> tuple[Path, int, Document | None]:
        """Silver's file with the types that its values ask for, its version, and the document to record."""
        if self.recorded is None:
            return path, 0, None
        rows = pl.scan_parquet(path.absolute(), glob=False, hive_partitioning=False)
        fitted = schemas.fit(rows, dict(rows.collect_schema()), self.recorded, guessed)
        if fitted.rows is not None:
            rewritten = self.scratch.file(".parquet")
            writer.write_parquet(fitted.rows, rewritten, self._early_lineage())
            path.unlink()
            path = rewritten
        return path, *self._changed(fitted.schema)

    def _located(self, files: _Files) -> Path:
        """The file of rejected rows with their lines and texts, if the bronze file has such."""
        if files.table.origins is None:
            return files.rejected
        rows = pl.scan_parquet(files.rejected.absolute(), glob=False, hive_partitioning=False)
        located = self.scratch.file(".located.parquet")
        writer.write_parquet(with_origins(rows, files.table), located, self._early_lineage())
        files.rejected.unlink()
        return located

    # The steps that all ways have.

    def _detect(self, table: Table) -> None:
        """Note how the file is written, for the lineage."""
        self.detected = {"format": table.format, "dialect": brief(table.dialect)}

    def _transformed(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The user's plan over the good rows."""
        try:
            with noted() as rejections:
                result = self.transform.apply(rows, self.context)
            self.rejects = rejections.is_used
        except SilversmithError:
            raise  # the user's own word that the data is at fault; or a lookup that cannot be had
        except BaseException as error:  # sys.exit() and Polars' panics are bugs of theirs, too
            raise _users_error(self.transform, error) from error
        if isinstance(result, pl.DataFrame):
            result = result.lazy()
        if not isinstance(result, pl.LazyFrame):
            raise TransformError(
                f"the transform {self.transform.name!r} returned {type(result).__name__}; it must return a Polars "
                "LazyFrame or DataFrame. Did it forget to return?"
            )
        return self._with_metadata(result) if self.transform.metadata_columns else result

    def _with_metadata(self, silver: pl.LazyFrame) -> pl.LazyFrame:
        """The transform's rows with the columns of their origin: all of them say something of the bytes that are read,
        and nothing of when they were, so that silver stays a function of bronze."""
        wanted = self.transform.metadata_columns
        try:
            names = silver.collect_schema().names()
        except _POLARS_ERRORS as error:
            raise _users_error(self.transform, error) from error
        head = self.source.head
        values = {"_file": pl.lit(head.key), "_loaded_at": pl.lit(head.modified, dtype=pl.Datetime("us", "UTC"))}
        added = {name: value for name, value in values.items() if name in wanted}
        if taken := [name for name in added if name in names]:
            raise TransformError(
                f"the transform {self.transform.name!r} has a column {taken[0]!r} already, which is one of its "
                "metadata_columns: give it another name, or take it out of them"
            )
        if self.has_row and "_row" not in names:
            raise TransformError(
                f"the transform {self.transform.name!r} loses the column '_row', which is one of its metadata_columns: "
                "keep it in select() and the like, or take it out of them"
            )
        return silver.with_columns(value.alias(name) for name, value in added.items())

    def _numbers_of_own(self, numbered: pl.LazyFrame) -> pl.LazyFrame:
        """The numbers and reasons of the rows that the transform rejects, by one more call over rows with numbers."""
        try:
            with noted(numbered=True) as rejections:
                self.transform.apply(numbered, self.context)
            return rejections.rows()
        except SilversmithError:
            raise
        except BaseException as error:
            raise _users_error(self.transform, error) from error

    def _fitted_by_types(self, silver: pl.LazyFrame) -> pl.LazyFrame:
        """The user's plan with the columns of silver, as far as the types alone decide them."""
        if self.recorded is None:
            return silver
        try:
            dtypes = dict(silver.collect_schema())
        except _POLARS_ERRORS as error:
            raise _users_error(self.transform, error) from error
        return schemas.fit_by_types(silver, dtypes, self.recorded)

    def _guessed(self, table: Table, names: Collection[str]) -> list[str]:
        """The columns whose type the reader inferred."""
        if table.typed or table.format.partition("+")[0] in _TYPED_FORMATS:
            return []
        return [name for name in names if name not in self.contract.schema]

    def _changed(self, schema: schemas.Schema | None) -> tuple[int, Document | None]:
        """The version of the schema that the file has, and the document to record for it."""
        if self.document is None or self.recorded is None:
            return 0, None
        if schema is None:
            return self.recorded.version, None
        document = self.document.changed(schema, key=self.lineage.bronze_key, at=self.lineage.committed_at)
        return document.of(schema.code).version, document

    def _early_lineage(self) -> str:
        """The lineage as far as it is known, for a file that is written before the rest is."""
        return replace(self.lineage, **self.detected, bronze_etag="").to_json()  # type: ignore[arg-type]

    def _finished(self, read: int, written: int, rejected: int, version: int, dropped: int) -> Lineage:
        """The whole lineage. The ETag of a large local file is worked out while it is read: here it is waited for."""
        head = self.source.head
        return self.lineage.of_bytes(
            head.etag,
            head.version,
            **self.detected,
            rows_read=read,
            rows_written=written,
            rows_rejected=rejected,
            rows_dropped=dropped,
            schema=version,
        )


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
    rows_dropped: int


class _NumbersNeeded(Exception):
    """The transform rejects rows of its own, and the rows of one pass have no numbers."""


def _own_rejected(contract: Contract, table: Table, own: pl.DataFrame) -> pl.LazyFrame:
    """The rows that the transform rejects, as the contract writes them.

    Raises:
        DataError: ``TooManyRejected``.
    """
    if own.height > MOST_REJECTED:
        raise DataError(
            "TooManyRejected",
            f"the transform rejects more than {MOST_REJECTED:,} rows",
            hint="make it a rule of the contract, which may reject any number of rows",
        )
    return contract.rejected_rows(table, own)


def _numbers(frame: pl.DataFrame, rejected: pl.DataFrame | None) -> pl.Series:
    """The numbers of the good rows among the rows that the contract split."""
    numbers = frame.get_column(ROW)
    return numbers if rejected is None else numbers.filter(~numbers.is_in(rejected.get_column(ROW_NUMBER).implode()))


def _users_error(transform: Transform, error: BaseException) -> TransformError:
    """The error with the user's traceback."""
    return TransformError(user_traceback(f"the transform {transform.name!r}", error, function=transform.function))


def _with_own_writer(converted: Converted, transform: Transform, scratch: Path) -> Converted:
    """Silver as the transform's own writer writes it, if it has one."""
    if transform.writer is None:
        return converted
    files = Scratch(scratch)
    path = files.file(".parquet")
    silver = converted.silver
    if isinstance(silver, pl.DataFrame):
        rows = silver.lazy()
    else:
        rows = pl.scan_parquet(silver.absolute(), glob=False, hive_partitioning=False)
    write(transform.writer, rows, path.absolute(), converted.lineage)
    return replace(converted, silver=path, scratches=(*converted.scratches, files))


# The Parquet of small objects.

#: The rows of a small silver object, with its transform and its lineage.
Rows = tuple["Transform", pl.DataFrame, Lineage]


def encode_silver(several: Sequence[Rows]) -> list[bytes | TransformError]:
    """The Parquet of several small silver objects, or the error of the one that Parquet cannot hold.

    Together they take half the time: what Polars does for each plan takes as long as to encode a few rows.
    """
    if not several:
        return []
    frames = [(frame, lineage.to_json()) for _, frame, lineage in several]
    try:
        return list(writer.all_parquet_bytes(frames))
    except _POLARS_ERRORS as error:
        if len(several) == 1:
            return [_users_error(several[0][0], error)]  # a type of theirs that Parquet has not
        return [encoded for rows in several for encoded in encode_silver([rows])]
