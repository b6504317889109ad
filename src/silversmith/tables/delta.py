"""Tables as Delta Lake keeps them, by delta-rs.

A commit is the one file ``_delta_log/{n + 1}.json``, which S3 and a folder create only if it is not there: so of two
commits that were made of version n one is refused. delta-rs would then compare and try the next number; it is told not
to (``max_commit_retries=0``), for what it compares is rows, and what must be compared is silver.
https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any
from urllib.parse import unquote

from arro3.core import RecordBatch, RecordBatchReader
from arro3.io import read_ipc_stream, write_ipc_stream
from deltalake import (
    BloomFilterProperties,
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    QueryBuilder,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake import Field as DeltaField
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.table import FilterConjunctionType

from silversmith.errors import SilversmithError
from silversmith.tables.format import Extent, GoldFailed, Refused, Rows, Snapshot, is_one_of, quoted, text
from silversmith.tables.spec import ETAG, FILE, LINEAGE
from silversmith.tables.types import Columns, SchemaRefused, from_arrow, to_schema

#: A data file has about so many bytes or rows at most. Replacing one silver object's rows writes the data file anew
#: that holds them, so this bounds what a correction costs; readers are content with files of this size.
TARGET_BYTES, TARGET_ROWS = 64 * 1024 * 1024, 500_000

#: The bytes of a column's dictionary at most. The writer counts dictionaries in full when it decides where a data file
#: ends, and by default each has a megabyte.
DICTIONARY_BYTES = 256 * 1024

#: A data file is small below half of the size of a compacted one; with so many of them a partition is compacted.
MOST_SMALL = 32

#: A partition of so many compacted files at most is sorted as a whole when it is compacted.
MOST_SORTED = 4

#: How long old versions can be read, in days: a query that began on one goes on, and a view may lag as long.
RETENTION_DAYS = 7

#: A folder's log is listed as a whole at each opening (S3's from the last checkpoint on): so it keeps so many versions,
#: and those of the last hour, in which whoever opened one may still be at it.
MOST_VERSIONS, YOUNG_SECONDS = 1_000, 60 * 60

#: The property by which a checkpoint drops the names of data files that are no more part of the table.
RETENTION = "delta.deletedFileRetentionDuration"

_CONFIGURATION: dict[str, str | None] = {
    "delta.enableChangeDataFeed": "true",
    "delta.checkpointInterval": "20",
    "delta.enableExpiredLogCleanup": "true",
    "delta.logRetentionDuration": f"interval {RETENTION_DAYS} days",
    RETENTION: f"interval {RETENTION_DAYS} days",
}

#: The application transaction that says which version a commit of ours made, and the one before which nobody knows
#: the changes: of the last rewrite, or of the last erasure.
APPLICATION, REWRITTEN = "silversmith", "silversmith.rewritten"

#: The property that says of which version the last compaction was made.
COMPACTED = "silversmith.compacted"

_WRITER = WriterProperties(
    compression="ZSTD",
    dictionary_page_size_limit=DICTIONARY_BYTES,
    column_properties={
        FILE: ColumnProperties(bloom_filter_properties=BloomFilterProperties(set_bloom_filter_enabled=True, fpp=0.01))
    },
)

#: delta-rs would look at each file of the log after each commit, whether it is too old: a vacuum does, once a day.
_HOOK = PostCommitHookProperties(cleanup_expired_logs=False)

#: Who reads the lineage reads ranges of keys, and of each data file the row groups that have some of them.
_FINE_WRITER = WriterProperties(
    compression="ZSTD", max_row_group_size=16_384, dictionary_page_size_limit=DICTIONARY_BYTES
)


def _writer(uri: str) -> WriterProperties:
    return _FINE_WRITER if uri.rstrip("/").endswith(f"/{LINEAGE}") else _WRITER


class DeltaFormat:
    """The tables below a folder or a bucket.

    Args:
        root: the folder, or ``s3://bucket``.
        scratch: a folder for temporary files.
        storage_options: what delta-rs is told of S3: ``AWS_ENDPOINT_URL`` … By default the environment says it.
    """

    def __init__(self, root: Path | str, *, scratch: Path, storage_options: Mapping[str, str] | None = None) -> None:
        self._root = _uri(root)
        self._scratch = scratch.absolute()
        self._options = dict(storage_options or {})

    def location(self, name: str) -> str:
        """The URI of a table."""
        return f"{self._root}/{name}"

    def read(self, name: str, version: int | None = None) -> DeltaSnapshot | None:
        with _translated(self.location(name)):
            try:
                return DeltaSnapshot(DeltaTable(self.location(name), version=version, storage_options=self._options))
            except TableNotFoundError:
                return None

    def create(
        self, name: str, columns: Columns, *, partition_by: Sequence[str] = (), marks: Mapping[str, int] | None = None
    ) -> DeltaSnapshot:
        uri = self.location(name)
        if "://" not in uri or uri.startswith("file:"):
            Path(_local(uri)).mkdir(parents=True, exist_ok=True)
        with _translated(uri):
            table = DeltaTable.create(
                uri,
                Schema.from_arrow(to_schema(columns)),
                partition_by=list(partition_by),
                configuration=_CONFIGURATION,
                storage_options=self._options,
                commit_properties=_properties(0, marks),
            )
        return DeltaSnapshot(table)

    def query(self, sources: Mapping[str, Snapshot], sql: str) -> Rows:
        builder = QueryBuilder()
        place = ", ".join(sources)
        with _translated(place):
            for name, snapshot in sources.items():
                assert isinstance(snapshot, DeltaSnapshot)
                builder.register(quoted(name), snapshot.table)
            return self._kept(builder.execute(sql))

    def _kept(self, result: RecordBatchReader) -> Rows:
        """The whole result of a query, in a file that is gone with its reader.

        It must be there before a writer asks for its rows: delta-rs waits for a query with Python's lock, the thread of
        its writer waits for that lock, and the query may need that very thread.
        """
        descriptor, name = tempfile.mkstemp(dir=self._scratch, prefix="query-")
        os.close(descriptor)
        path = Path(name)
        try:
            write_ipc_stream(result, path)
            reader = read_ipc_stream(path)
        finally:
            path.unlink()
        return Rows(reader.schema, iter(reader))

    @contextmanager
    def spooled(self, rows: Iterable[RecordBatch], columns: Columns) -> Iterator[DeltaSnapshot]:
        folder = Path(tempfile.mkdtemp(dir=self._scratch, prefix="table-"))
        try:
            stream = _Stream(rows)
            with _translated(str(folder), stream):
                write_deltalake(folder.as_uri(), RecordBatchReader.from_batches(to_schema(columns), stream))
                table = DeltaTable(folder.as_uri())
            yield DeltaSnapshot(table)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class DeltaSnapshot:
    """One version of a Delta table."""

    def __init__(self, table: DeltaTable) -> None:
        self.table = table
        self.version = table.version()

    @property
    def identity(self) -> str:
        return str(self.table.metadata().id)

    @property
    def committed(self) -> float:
        return float(self.table.history(1)[0].get("timestamp", 0)) / 1000

    @property
    def extent(self) -> Extent:
        rows = files = size = 0
        for batch in self.table.get_add_actions(flatten=False).to_batches():
            files += batch.num_rows
            rows += sum(batch.column("num_records").to_pylist())
            size += sum(batch.column("size_bytes").to_pylist())
        return Extent(rows, files, size)

    @property
    def columns(self) -> Columns:
        schema = self.table.schema().to_arrow()
        return {name: from_arrow(schema.field(name).type) for name in schema.names}

    @property
    def partition_by(self) -> tuple[str, ...]:
        return tuple(self.table.metadata().partition_columns)

    def etags(self, files: Sequence[str]) -> dict[str, str]:
        if not files:
            return {}
        return self._etags(f"{FILE} between {text(min(files))} and {text(max(files))} and {is_one_of(FILE, files)}")

    def all_etags(self, prefix: str = "") -> dict[str, str]:
        return self._etags(f"starts_with({FILE}, {text(prefix)})" if prefix else "true")

    def _etags(self, where: str) -> dict[str, str]:
        if FILE not in self.columns:
            name = self.table.table_uri.rstrip("/").rpartition("/")[2]
            raise SchemaRefused(
                "NotATable",
                f"{self.table.table_uri} has no column {FILE}: it was a view, or another program made it",
                hint=f"run `silversmith tables rebuild {name}`, which writes it again from silver",
            )
        sql = f"select {FILE}, min({ETAG}), max({ETAG}) from t where {where} group by {FILE}"  # noqa: S608 -- quoted
        with _translated(self.table.table_uri):
            batches = QueryBuilder().register("t", self.table).execute(sql).read_all().to_batches()
        etags: dict[str, str] = {}
        for batch in batches:
            files, lowest, highest = (batch.column(number).to_pylist() for number in range(3))
            # rows of one file that are of two versions are of none: they are replaced
            etags.update(
                (file, low if low == high else "") for file, low, high in zip(files, lowest, highest, strict=True)
            )
        return etags

    def mark(self, name: str) -> int | None:
        return self.table.transaction_version(name)

    def changes(self, since: int, columns: Sequence[str]) -> Rows | None:
        if since < (self.mark(REWRITTEN) or 0):
            return None
        place = self.table.table_uri
        try:
            with _translated(place):
                feed = self.table.load_cdf(
                    starting_version=since + 1, ending_version=self.version, columns=[*map(quoted, columns)]
                )
                return _rows(feed, place)
        except GoldFailed:
            return None

    def commit(
        self, rows: Iterable[RecordBatch], *, where: str | None = None, marks: Mapping[str, int] | None = None
    ) -> DeltaSnapshot:
        return self._write(rows, to_schema(self.columns), marks, where=where)

    def rewrite(
        self,
        rows: Iterable[RecordBatch],
        columns: Columns,
        *,
        partition_by: Sequence[str],
        marks: Mapping[str, int] | None = None,
    ) -> DeltaSnapshot:
        marks = {REWRITTEN: self.version + 1, **(marks or {})}
        return self._write(rows, to_schema(columns), marks, partition_by=list(partition_by))

    def _write(
        self,
        rows: Iterable[RecordBatch],
        schema: Any,
        marks: Mapping[str, int] | None,
        *,
        where: str | None = None,
        partition_by: list[str] | None = None,
    ) -> DeltaSnapshot:
        stream = _Stream(rows)
        options: dict[str, Any] = {"mode": "append", "target_file_size": TARGET_BYTES}
        if where is not None or partition_by is not None:
            options = {"mode": "overwrite", "target_file_size": self._target_bytes() + 2 * DICTIONARY_BYTES}
        if where is not None:
            options["predicate"] = where
        elif partition_by is not None:
            options |= {"schema_mode": "overwrite", "partition_by": partition_by}
        return self._committed(
            lambda properties: write_deltalake(
                self.table,
                RecordBatchReader.from_batches(schema, stream),
                writer_properties=_writer(self.table.table_uri),
                commit_properties=properties,
                post_commithook_properties=_HOOK,
                **options,
            ),
            marks,
            stream,
        )

    def add_columns(self, columns: Columns) -> DeltaSnapshot:
        fields = Schema.from_arrow(to_schema(columns)).fields
        snapshot = self
        if "timestamp_ntz" in json.dumps([json.loads(field.to_json()) for field in fields]):
            snapshot = self._with_feature()
        added: list[DeltaField] = list(fields)
        return snapshot._committed(
            lambda properties: snapshot.table.alter.add_columns(
                added, commit_properties=properties, post_commithook_properties=_HOOK
            )
        )

    def _with_feature(self) -> DeltaSnapshot:
        """Timestamps without a zone are a feature that a table must have before such a column is added."""
        from deltalake import TableFeatures

        if "timestampNtz" in (self.table.protocol().reader_features or []):
            return self
        return self._committed(
            lambda properties: self.table.alter.add_feature(
                TableFeatures.TimestampWithoutTimezone,
                allow_protocol_versions_increase=True,
                commit_properties=properties,
                post_commithook_properties=_HOOK,
            )
        )

    def compact(self, sort_by: Sequence[str], *, force: bool = False) -> DeltaSnapshot:
        snapshot = self
        target = self._target_bytes()
        for partition, sizes in self._sizes().items():
            if sum(size < target // 2 for size in sizes) < (2 if force else MOST_SMALL):
                continue
            filters = [(name, "=", value or "") for name, value in partition]
            is_sorted = force or sum(sizes) <= MOST_SORTED * target
            if snapshot is self:
                snapshot = self._announced()
            snapshot = snapshot._compacted(filters, sort_by if is_sorted else (), target)
        return snapshot

    def _announced(self) -> DeltaSnapshot:
        """A commit that refuses every compaction of older versions. delta-rs tries a compaction again behind other
        commits, whatever it is told, and sees no conflict in two that wrote the same rows anew: both would count. It
        sees one in a change of the table's properties."""
        return self._with_property(COMPACTED, str(self.version))

    def _with_property(self, name: str, value: str, marks: Mapping[str, int] | None = None) -> DeltaSnapshot:
        return self._committed(
            lambda properties: self.table.alter.set_table_properties(
                {name: value},
                raise_if_not_exists=False,
                commit_properties=properties,
                post_commithook_properties=_HOOK,
            ),
            marks,
        )

    def closed(self) -> DeltaSnapshot:
        """A commit that refuses whatever was made of older versions, compactions among it, after which a checkpoint
        names no data file but those of the table, and nobody asks for older changes. :meth:`reopened` ends that. Raises
        as :meth:`commit`."""
        return self._with_property(RETENTION, "interval 0 seconds", {REWRITTEN: self.version})

    def reopened(self) -> DeltaSnapshot:
        """See :meth:`closed`."""
        return self._with_property(RETENTION, f"interval {RETENTION_DAYS} days")

    def checkpoint(self) -> None:
        """Write a checkpoint of this version, from which the table can be read without any older file of its log."""
        with _translated(self.table.table_uri):
            self.table.create_checkpoint()

    @property
    def paths(self) -> set[str]:
        """The paths of the data files of this version, below the table's folder."""
        batches = self.table.get_add_actions(flatten=False).to_batches()
        return {unquote(path) for batch in batches for path in batch.column("path").to_pylist()}

    def _target_bytes(self) -> int:
        """The size of a data file: rows that compress well are many in few bytes."""
        extent = self.extent
        return min(TARGET_BYTES, extent.bytes * TARGET_ROWS // extent.rows) if extent.rows else TARGET_BYTES

    def _compacted(self, filters: FilterConjunctionType, sort_by: Sequence[str], target: int) -> DeltaSnapshot:
        options: dict[str, Any] = {
            "partition_filters": filters or None,
            "target_size": target,
            "writer_properties": _writer(self.table.table_uri),
            "post_commithook_properties": _HOOK,
        }
        if sort_by:
            return self._committed(
                lambda properties: self.table.optimize.z_order(list(sort_by), commit_properties=properties, **options),
                keeps_rows=True,
            )
        return self._committed(
            lambda properties: self.table.optimize.compact(commit_properties=properties, **options), keeps_rows=True
        )

    def _sizes(self) -> dict[tuple[tuple[str, str | None], ...], list[int]]:
        """The sizes of the data files of each partition."""
        of_partition: dict[tuple[tuple[str, str | None], ...], list[int]] = {}
        for batch in self.table.get_add_actions(flatten=False).to_batches():
            sizes = batch.column("size_bytes").to_pylist()
            partitions: Any = batch.column("partition").to_pylist() if self.partition_by else [{}] * len(sizes)
            for size, values in zip(sizes, partitions, strict=True):
                partition = tuple((name, _partition_text(value)) for name, value in values.items())
                of_partition.setdefault(partition, []).append(size)
        return of_partition

    def vacuum(self, marks: Mapping[str, int], *, hours: int | None = None) -> DeltaSnapshot:
        with _translated(self.table.table_uri):
            # all files are listed: those of refused commits are in no version
            self.table.vacuum(
                retention_hours=24 * RETENTION_DAYS if hours is None else hours,
                dry_run=False,
                enforce_retention_duration=hours is None,
                full=True,
            )
            self.table.cleanup_metadata()
        return DeltaSnapshot(self.table).commit([], marks=marks)

    def forget(self, versions: int = MOST_VERSIONS) -> None:
        log = self._log
        if log is None:
            return
        last = self.version - versions
        if last < versions // 10 or not (log / f"{last - versions // 10:020}.json").exists():  # now and then is enough
            return
        names = sorted(path.name for path in log.iterdir() if _LOGGED.match(path.name))
        checkpoints = [int(name[:20]) for name in names if name.endswith(".checkpoint.parquet")]
        first = max((version for version in checkpoints if version <= last), default=0)
        oldest = time.time() - YOUNG_SECONDS
        with suppress(FileNotFoundError):  # somebody else does the same
            # in order, so that what is left has no gap when this is cut short
            for name in takewhile(lambda name: int(name[:20]) < first, names):
                if (log / name).stat().st_mtime > oldest:
                    break
                (log / name).unlink()

    @property
    def _log(self) -> Path | None:
        """The folder of the log; None: it is on S3."""
        uri = self.table.table_uri
        return Path(_local(uri), "_delta_log") if uri.startswith("file:") else None

    def _committed(
        self,
        commit: Callable[[CommitProperties], object],
        marks: Mapping[str, int] | None = None,
        stream: _Stream | None = None,
        *,
        keeps_rows: bool = False,
    ) -> DeltaSnapshot:
        """``keeps_rows``: a compaction, which delta-rs tries again behind new rows and the notes of a vacuum. Where
        a data file that it read is gone meanwhile, or the columns are others, it is refused."""
        try:
            with _translated(self.table.table_uri, stream):
                commit(_properties(self.version + 1, marks))
        except GoldFailed as error:
            if "Invalid table version" not in str(error):
                raise
            # delta-rs looks for the versions since: so none can take a place that is free because the log was cut
            raise Refused(f"{self.table.table_uri}: version {self.version} is forgotten: {error}") from error
        committed = DeltaSnapshot(self.table)
        if committed.version > self.version + 1 and not keeps_rows:
            raise GoldFailed(
                f"{self.table.table_uri}: a commit made of version {self.version} became version {committed.version}: "
                "another program changed what it was made of, run `silversmith reconcile`"
            )
        return committed


class _Stream:
    """Rows on their way to the writer, which tells of an error in making them only as a text of its own.

    They are made in a thread: the writer asks for them in one of delta-rs's, where no query of delta-rs may be waited
    for. Only a few are made ahead.
    """

    def __init__(self, rows: Iterable[RecordBatch]) -> None:
        self._rows = rows
        self._made: Queue[RecordBatch | None] = Queue(maxsize=2)
        self._is_over = False
        self._thread = Thread(target=self._make, name="rows", daemon=True)
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[RecordBatch]:
        self._thread.start()
        while (batch := self._made.get()) is not None:
            yield batch
        if self.error is not None:
            raise self.error

    def _make(self) -> None:
        try:
            for batch in self._rows:
                self._made.put(batch)
                if self._is_over:
                    return
        except BaseException as error:  # noqa: BLE001 -- raised where the rows are waited for
            self.error = error
        self._made.put(None)

    def close(self) -> None:
        """The writer is done, or failed: nobody takes what is still made."""
        self._is_over = True
        while self._thread.is_alive():
            with suppress(Empty):
                self._made.get(timeout=0.01)


def _rows(reader: RecordBatchReader, place: str) -> Rows:
    def batches() -> Iterator[RecordBatch]:
        with _translated(place):
            yield from reader

    return Rows(reader.schema, batches())


def _properties(version: int, marks: Mapping[str, int] | None) -> CommitProperties:
    now = int(time.time() * 1000)
    transactions = [Transaction(name, number, now) for name, number in {APPLICATION: version, **(marks or {})}.items()]
    return CommitProperties(max_commit_retries=0, app_transactions=transactions)


def _partition_text(value: Any) -> str | None:
    return None if value is None else str(value)


_LOGGED = re.compile(r"\d{20}\.")

_ESCAPES = re.compile("%[0-9A-Fa-f]{2}")


def _uri(root: Path | str) -> str:
    if isinstance(root, str) and "://" in root:
        return root.rstrip("/")
    path = Path(root).absolute()
    if _ESCAPES.search(str(path)):
        raise GoldFailed(f"{path}: Delta Lake cannot keep tables below a folder with % in its name: rename it")
    return path.as_uri()


def _local(uri: str) -> str:
    from urllib.request import url2pathname

    return url2pathname(uri.removeprefix("file://"))


@contextmanager
def _translated(place: str, stream: _Stream | None = None) -> Iterator[None]:
    """Errors of delta-rs as ours. A commit that was not the first is refused; what went wrong with the rows is raised
    as it was; all else is the system's fault."""
    try:
        yield
    except SilversmithError:
        raise
    except CommitFailedError as error:
        raise Refused(f"{place}: somebody else committed first: {error}") from error
    except Exception as error:
        if stream is not None and stream.error is not None:
            raise stream.error from None
        if "already exists at that location" in str(error):
            raise Refused(f"{place}: somebody else made the table first") from error
        raise GoldFailed(f"{place}: {error}") from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # a bug of delta-rs is no exception for Python
            raise GoldFailed(f"{place}: delta-rs failed: {error}") from error
        raise
    finally:
        if stream is not None:
            stream.close()
