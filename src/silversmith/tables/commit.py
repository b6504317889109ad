"""From silver to a table: which rows a table lacks or has too many of these keys, and the commit that makes it right.

An event is a hint: only its key is taken. What is done follows from what the table's version n and silver hold now:

1. Read version n, and what it has of these keys: ``_file`` and ``_etag``.
2. Head each silver object that the table has. The same ETag: nothing to do. Gone, or without rows: its rows go. Else
   read it, and cast the rows of many objects together.
3. One commit that replaces exactly these keys, valid only if n is still the newest. Otherwise begin again.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, takewhile
from pathlib import Path
from urllib.parse import quote

from arro3.core import RecordBatch, Table
from arro3.io import read_parquet

from silversmith import faults
from silversmith.errors import Place, SilversmithError
from silversmith.lineage import Lineage, silver_key
from silversmith.stores import Source, Store, batched, map_in_threads
from silversmith.tables.format import Format, Refused, Snapshot, is_one_of, quoted
from silversmith.tables.spec import ETAG, FILE, TableSpec
from silversmith.tables.types import (
    Columns,
    Decimal,
    List,
    SchemaRefused,
    Struct,
    Type,
    described,
    fitted,
    join,
    recorded_columns,
    repeated,
    settled,
)

#: Silver objects that are headed and read side by side.
WORKERS = 8

#: The bytes of rows in memory at which a commit is made, though keys are left.
MEMORY = 128 * 1024 * 1024

#: So many silver objects are looked at before the first of them is read.
SIDE_BY_SIDE = 500

#: Silver objects up to so many bytes are read side by side, larger ones one after the other, for the memory's sake.
SMALL = 512 * 1024

#: The rows of one silver object that is larger in memory are streamed, in a commit of its own.
LARGE = MEMORY // 4

#: So many rows of small silver objects at most are cast together.
CAST_TOGETHER = 65_536

#: How often a commit is begun anew because somebody else was first.
ATTEMPTS = 20

#: The characters of a partition's value at most, as a URL writes it: it is in the name of a folder, of 255 at most.
PARTITION_LENGTH = 150

#: The folder of rows whose value is null, by a custom of Hive's: this text itself would be read as null.
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

_NO_PARTITIONS = ("binary", "float", "double")


@dataclass
class Brought:
    """The result for the keys of a batch. ``version`` is the table's; None: there is no table.

    ``failed`` has the keys whose silver could not be read or cast, each with its error; ``left`` those that there was
    no time for. The others are in the table as silver has them.
    """

    version: int | None = None
    replaced: int = 0
    removed: int = 0
    unchanged: int = 0
    rows: int = 0
    commits: int = 0
    left: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)


@dataclass(frozen=True)
class _Read:
    """One silver object. ``etag`` empty: it is gone. ``unread_bytes``: its size, where it is still to be read.

    ``batches`` are its rows as silver has them, until they are cast; None: it is too large for memory.
    """

    key: str
    file: str
    etag: str = ""
    unread_bytes: int | None = None
    batches: list[RecordBatch] | None = field(default_factory=list)
    rows: int = 0
    unchanged: bool = False
    error: Exception | None = None

    @property
    def has_rows(self) -> bool:
        return self.batches is None or self.rows > 0

    @property
    def size(self) -> int:
        return sum(batch.nbytes for batch in self.batches or ())


def bring(
    table: TableSpec,
    keys: Iterable[str],
    *,
    silver: Store,
    gold: Format,
    sizes: Mapping[str, int] | None = None,
    step: Callable[[str], None] = faults.point,
    memory: int = MEMORY,
    workers: int = WORKERS,
    has_time: Callable[[], bool] = lambda: True,
) -> Brought:
    """Make a table have the rows that silver has under these keys now, and no others of them.

    Args:
        table: what the table is.
        keys: keys in silver, ``{transform}/{bronze key}.parquet``; others are left out of account.
        silver: the bucket of silver.
        gold: where the table is.
        sizes: the bytes of each silver object as far as events say them: large ones are read one after the other.
        step: told the name of each step, for tests that die there.
        memory: the bytes of rows at which a commit is made, though keys are left.
        workers: how many silver objects are read side by side.
        has_time: whether one more silver object may be looked at; those that are left are not touched.

    Raises:
        Refused: others committed so often that nothing was done about the last keys: try again.
        SchemaRefused: silver's recorded schema cannot be the table's.
        SystemFault, OSError: gold or silver's recorded schema cannot be read, or gold cannot be written.
    """
    brought = Brought()
    waiting = [key for key in dict.fromkeys(keys) if _is_of(table.transform, key)]
    for attempt in range(ATTEMPTS):
        batch = _Batch(table, silver, gold, brought, step=step, memory=memory, workers=workers, has_time=has_time)
        try:
            batch.bring(waiting, sizes or {})
            break
        except Refused:
            if attempt == ATTEMPTS - 1:
                raise
            waiting = [key for key in waiting if key not in batch.done]
    return brought


def rebuild(table: TableSpec, *, silver: Store, gold: Format, step: Callable[[str], None] = faults.point) -> Brought:
    """Write a table anew from all silver that there is, in one commit: with the columns that silver's recorded schema
    has now, and the partitions that the pipeline says now. Readers see the old table until then.

    Raises:
        Refused: somebody else committed meanwhile: try again when less comes in.
        SchemaRefused: a silver object does not fit the recorded schema. Nothing was changed.
        SystemFault, OSError: silver or gold cannot be read or written.
    """
    brought = Brought()
    batch = _Batch(
        table, silver, gold, brought, step=step, memory=MEMORY, workers=1, has_time=lambda: True, is_anew=True
    )
    batch.rebuild()
    return brought


def _is_of(transform: str, key: str) -> bool:
    return key.startswith(f"{transform}/") and key.endswith(".parquet")


def files_of(transform: str, keys: Sequence[str], silver: Store, snapshot: Snapshot | None) -> dict[str, str]:
    """The bronze key of each silver key. One that was too long for silver is in the lineage, or else in the table."""
    files: dict[str, str] = {}
    for key in keys:
        plain = key[len(transform) + 1 : -len(".parquet")]
        files[key] = plain if silver_key(transform, plain) == key else _digested(transform, key, silver, snapshot)
    return files


def _digested(transform: str, key: str, silver: Store, snapshot: Snapshot | None) -> str:
    head = silver.head(key)
    lineage = Lineage.from_metadata(head.metadata) if head is not None else None
    if lineage is not None:
        return lineage.bronze_key
    beginning = key[len(transform) + 1 : key.rindex("~")]
    known = snapshot.all_etags(beginning) if snapshot is not None else {}
    return next((file for file in known if silver_key(transform, file) == key), key)


class _Batch:
    """One attempt at a batch: from one version of the table on, for as long as nobody else commits."""

    def __init__(
        self,
        table: TableSpec,
        silver: Store,
        gold: Format,
        brought: Brought,
        *,
        step: Callable[[str], None],
        memory: int,
        workers: int,
        has_time: Callable[[], bool],
        is_anew: bool = False,
    ) -> None:
        self._table = table
        self._silver = silver
        self._gold = gold
        self._brought = brought
        self._step = step
        self._memory = memory
        self._workers = workers
        self._has_time = has_time
        self._snapshot = gold.read(table.name)  # before silver is looked at, or an older silver could win
        self._recorded = self._schema()
        self._columns = self._target({} if self._snapshot is None or is_anew else self._snapshot.columns)
        self._text_partitions = [name for name in table.partition_by if self._columns.get(name) == "string"]
        self._etags: dict[str, str] = {}
        self.done: set[str] = set()

    def bring(self, keys: Sequence[str], sizes: Mapping[str, int]) -> None:
        files = files_of(self._table.transform, keys, self._silver, self._snapshot)
        if self._snapshot is not None:
            self._etags = self._snapshot.etags(sorted(files.values()))
        self._step("tables.looked")
        ready: list[_Read] = []
        rows: list[RecordBatch] = []
        size = 0
        for reads in _alike(self._reads(files, sizes), min(LARGE, self._memory)):
            for those, batches in self._cast(reads):
                if batches is None:
                    self._stream(those[0])
                    continue
                for read in those:
                    (read.batches or []).clear()
                ready += those
                rows += batches
                size += sum(batch.nbytes for batch in batches)
                if size >= self._memory:
                    self._commit(ready, rows)
                    ready, rows, size = [], [], 0
        self._commit(ready, rows)
        self._brought.left = [key for key in keys if key not in self.done]
        if self._snapshot is not None:
            self._brought.version = self._snapshot.version

    def _reads(self, files: Mapping[str, str], sizes: Mapping[str, int]) -> Iterator[_Read]:
        """The rows of each silver object that the table does not have, as far as there is time. What the table has of
        a file may be this very object: so those are headed first."""
        for some in batched(files.items(), SIDE_BY_SIDE):
            known = [item for item in some if item[1] in self._etags]
            looks = [_Read(key, file, unread_bytes=sizes.get(key, 0)) for key, file in some if file not in self._etags]
            looks += map_in_threads(self._look, takewhile(self._in_time, known), self._workers)
            small = [look for look in looks if look.unread_bytes is not None and look.unread_bytes <= SMALL]
            large = [look for look in looks if look.unread_bytes is not None and look.unread_bytes > SMALL]
            reads = [look for look in looks if look.unread_bytes is None]
            for read in chain(
                reads,
                map_in_threads(self._read, takewhile(self._in_time, small), self._workers),
                map(self._read, takewhile(self._in_time, large)),
            ):
                if read.error is not None:
                    self._fail(read, read.error)
                elif read.unchanged:
                    self._brought.unchanged += 1
                    self.done.add(read.key)
                else:
                    yield read

    def _fail(self, read: _Read, error: Exception) -> None:
        self._brought.failed[read.key] = error
        self.done.add(read.key)

    def _in_time(self, _: object) -> bool:
        return self._has_time()

    def rebuild(self) -> None:
        keys = [
            head.key
            for head in self._silver.list(f"{self._table.transform}/")
            if _is_of(self._table.transform, head.key)
        ]
        files = files_of(self._table.transform, keys, self._silver, self._snapshot)
        require_columns(self._table, self._columns)
        snapshot = self._snapshot or self._gold.create(
            self._table.name, self._columns, partition_by=self._table.partition_by
        )
        rows = _Counted(batch for key, file in files.items() for batch in self._verified(key, file))
        rewritten = snapshot.rewrite(rows, self._columns, partition_by=self._table.partition_by)
        self._step("tables.committed")
        self._brought.version, self._brought.rows, self._brought.commits = rewritten.version, rows.rows, 1
        self._brought.replaced = len(files)

    def _verified(self, key: str, file: str, etag: str | None = None) -> Iterator[RecordBatch]:
        """All rows of a silver object, and an error after them if they may not be those of one version."""
        with self._silver.open(key) as source:
            if etag is not None and (source is None or source.head.etag != etag):
                raise Refused(f"{key}: silver was replaced between two looks at it")
            if source is None:
                return
            for batch in _rows(source, self._columns):
                yield self._fitted(batch, [(file, source.head.etag, batch.num_rows)])
            self._silver.verify(source)

    # -- reading silver

    def _schema(self) -> bytes | None:
        return self._silver.read(f"_schemas/{self._table.transform}.json")

    def _target(self, there: Columns) -> dict[str, Type]:
        """The columns that the table is to have. What is there it keeps, and no type becomes narrower."""
        columns: dict[str, Type] = {FILE: "string", ETAG: "string", **there}
        for name, recorded in recorded_columns(self._recorded).items() if self._recorded is not None else ():
            kind = join(columns[name], recorded) if name in columns else recorded
            columns[name] = settled(kind if kind is not None else recorded)
        return columns

    def _look(self, item: tuple[str, str]) -> _Read:
        key, file = item
        try:
            head = self._silver.head(key)
        except (SilversmithError, OSError) as error:
            return _Read(key, file, error=error)
        if head is None:
            return _Read(key, file)
        is_unchanged = head.etag == self._etags[file]
        return _Read(key, file, head.etag, unread_bytes=None if is_unchanged else head.size, unchanged=is_unchanged)

    def _read(self, look: _Read) -> _Read:
        key, file = look.key, look.file
        try:
            with self._silver.open(key) as source:
                if source is None:
                    return _Read(key, file, unchanged=file not in self._etags)
                kept: list[RecordBatch] | None = []
                rows = size = 0
                for batch in _rows(source, self._columns):
                    rows += batch.num_rows
                    size += batch.nbytes
                    if size > min(LARGE, self._memory):
                        kept = None
                    elif kept is not None and batch.num_rows:
                        kept.append(batch)
                self._silver.verify(source)
                has_none = not rows and file not in self._etags
                return _Read(key, file, source.head.etag, batches=kept, rows=rows, unchanged=has_none)
        except (SilversmithError, OSError) as error:
            return _Read(key, file, error=error)

    def _cast(self, reads: list[_Read]) -> Iterator[tuple[list[_Read], list[RecordBatch] | None]]:
        """The rows of some objects as the table has them. None: the only one is too large for memory. One that does not
        fit the table fails, and takes no other with it."""
        batches = [batch for read in reads for batch in read.batches or ()]
        if len(reads) > 1 and batches:
            try:
                (combined,) = _combined(batches)
                rows = [self._fitted(combined, [(read.file, read.etag, read.rows) for read in reads])]
            except Refused:
                raise
            except Exception:  # noqa: BLE001 -- which of them it is, each tells by itself
                for read in reads:
                    yield from self._cast([read])
                return
            yield reads, rows
            return
        try:
            rows = [self._fitted(batch, [(reads[0].file, reads[0].etag, batch.num_rows)]) for batch in batches]
        except SchemaRefused as error:
            self._fail(reads[0], error)
            return
        # text that stands once in silver's dictionary stands in each row of a table
        is_large = reads[0].batches is None or sum(batch.nbytes for batch in rows) > min(LARGE, self._memory)
        yield reads, None if is_large else rows

    def _fitted(self, rows: RecordBatch, places: Sequence[tuple[str, str, int]]) -> RecordBatch:
        """Rows as the table has them. ``places``: the file, the ETag and the number of rows of each object in them."""
        files, etags, counts = zip(*places, strict=True)
        try:
            batch = fitted(rows, self._columns, {FILE: repeated(files, counts), ETAG: repeated(etags, counts)})
            _require_safe_partitions(batch, self._text_partitions)
        except SchemaRefused:
            if self._recorded != self._schema():
                raise Refused(f"{files[0]}: silver's recorded schema changed meanwhile") from None
            raise
        return batch

    # -- the commit

    def _commit(self, reads: Sequence[_Read], rows: Sequence[RecordBatch]) -> None:
        """Commit all that was read, or refuse it as a whole."""
        if not reads:
            return
        self._step("tables.read")
        self._replace(reads, _combined(rows), has_rows=bool(rows))  # the writer takes a few large batches far quicker

    def _stream(self, read: _Read) -> None:
        """Commit one object that is too large for memory: it was read to its end once, and is so again."""
        self._step("tables.read")
        self._replace([read], self._verified(read.key, read.file, read.etag), has_rows=True)

    def _replace(self, reads: Sequence[_Read], rows: Iterable[RecordBatch], *, has_rows: bool) -> None:
        snapshot = self._prepared() if has_rows else self._snapshot
        assert snapshot is not None  # what has no rows is only replaced where the table has some
        files = [read.file for read in reads]
        columns = snapshot.columns
        counted = _Counted(fitted(batch, columns) for batch in rows)
        where = is_one_of(FILE, sorted(files)) if any(file in self._etags for file in files) else None
        if self._table.sort_by and has_rows:
            with self._gold.spooled(counted, columns) as spooled:
                order = ", ".join(map(quoted, self._table.sort_by))
                sorted_rows = self._gold.query({"rows": spooled}, f"select * from rows order by {order}")  # noqa: S608
                committed = snapshot.commit((fitted(batch, columns) for batch in sorted_rows.batches), where=where)
        else:
            committed = snapshot.commit(counted, where=where)
        self._step("tables.committed")
        self._snapshot = committed
        self.done.update(read.key for read in reads)
        for read in reads:
            self._brought.replaced += read.has_rows
            self._brought.removed += not read.has_rows
        self._brought.rows += counted.rows
        self._brought.commits += 1

    def _prepared(self) -> Snapshot:
        """The table with the columns that silver has now: it is made, or columns are added, or it is written anew."""
        columns = self._columns
        require_columns(self._table, self._columns)
        snapshot = self._snapshot
        if snapshot is None:
            snapshot = self._gold.create(self._table.name, columns, partition_by=self._table.partition_by)
        elif snapshot.partition_by != self._table.partition_by:
            raise SchemaRefused(
                "PartitionsChanged",
                f"the table {self._table.name} is partitioned by {list(snapshot.partition_by)}, and the pipeline says "
                f"{list(self._table.partition_by)}",
                hint=f"run `silversmith tables rebuild {self._table.name}`, which writes it again",
            )
        there = snapshot.columns
        if any(kind != there[name] for name, kind in columns.items() if name in there):
            snapshot = self._rewritten(snapshot, {name: columns[name] for name in there})
        if added := {name: kind for name, kind in columns.items() if name not in there}:
            snapshot = snapshot.add_columns(added)
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._step("tables.prepared")
        return snapshot

    def _rewritten(self, snapshot: Snapshot, columns: Columns) -> Snapshot:
        """The table with other types, in one commit: no reader sees a mixture."""
        rows = self._gold.query({"t": snapshot}, "select * from t")
        try:
            return snapshot.rewrite(
                (fitted(batch, columns) for batch in rows.batches), columns, partition_by=snapshot.partition_by
            )
        except SchemaRefused as error:
            raise SchemaRefused(
                "TypesChanged",
                f"the table {self._table.name} has values that silver's schema of now has no room for: {error.message}",
                hint="run `silversmith reconcile --changed`, which makes silver of older code again, then `silversmith "
                f"tables rebuild {self._table.name}`",
                place=error.place,
            ) from None


def require_columns(table: TableSpec, columns: Columns) -> None:
    """
    Raises:
        SchemaRefused: a table of these settled columns cannot be partitioned or sorted as it is declared.
    """
    if missing := next((name for name in (*table.partition_by, *table.sort_by) if name not in columns), None):
        names = ", ".join(name for name in columns if name not in {FILE, ETAG}) or "none"
        raise SchemaRefused(
            "MissingColumn",
            f"the table {table.name} is to be partitioned or sorted by {missing!r}, and silver has no such column; it "
            f"has: {names}",
            hint="change partition_by or sort_by of pipeline.table",
        )
    for name in table.partition_by:
        kind = columns[name]
        # delta-rs writes -2.25 as '-2.-25', which nobody can read, and floats in full, in names of any length
        if isinstance(kind, List | Struct) or kind in _NO_PARTITIONS or (isinstance(kind, Decimal) and kind.scale):
            raise SchemaRefused(
                "PartitionType",
                f"the table {table.name} is to be partitioned by {name!r}, which is {described(kind)}: its values "
                "cannot be names of folders that are read back exactly",
                hint="partition by text, a date, a time, whole numbers or booleans",
                place=Place(column=name),
            )


def _alike(reads: Iterable[_Read], most_bytes: int) -> Iterator[list[_Read]]:
    """Neighbours whose rows have the same columns, as far as they are few together. One that is large is alone."""
    alike: list[_Read] = []
    columns: object = None
    rows = size = 0
    for read in reads:
        its_columns = (read.batches[0].schema.names, str(read.batches[0].schema)) if read.batches else None
        rows, size = rows + read.rows, size + read.size
        is_alike = columns == its_columns and None not in (read.batches, alike[0].batches) if alike else False
        if alike and not (is_alike and rows <= CAST_TOGETHER and size <= most_bytes):
            yield alike
            alike, rows, size = [], read.rows, read.size
        alike.append(read)
        columns = its_columns
    if alike:
        yield alike


def _combined(batches: Sequence[RecordBatch]) -> list[RecordBatch]:
    return Table.from_batches(batches).combine_chunks().to_batches() if batches else []


def _require_safe_partitions(rows: RecordBatch, names: Sequence[str]) -> None:
    for name in names:
        for value in set(rows.column(name).to_pylist()) - {None}:
            is_long = len(quote(value, safe="")) > PARTITION_LENGTH
            if is_long or value == NULL_PARTITION:
                long = f"{value[:40]!r}… has more than {PARTITION_LENGTH} characters, as a URL writes it"
                reason = long if is_long else f"{value!r} is how the folder of nulls is called"
                raise SchemaRefused(
                    "PartitionTooLong" if is_long else "ReservedPartition",
                    f'a value of the column "{name}" cannot be the name of a partition: {reason}',
                    hint="partition by another column, or change the value in the transform",
                    place=Place(column=name),
                )


class _Counted:
    """Batches, and how many rows they had."""

    def __init__(self, batches: Iterable[RecordBatch]) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[RecordBatch]:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch


def _rows(source: Source, columns: Columns) -> Iterator[RecordBatch]:
    """The rows of a silver object, for a table of these columns."""
    with _readable(source, columns) as content:
        try:
            yield from read_parquet(content, batch_size=CAST_TOGETHER)
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise SchemaRefused(
                "UnreadableSilver",
                f"silver {source.head.key} cannot be read as Parquet: {error}",
                hint="`silversmith replay` makes it again",
            ) from error


@contextmanager
def _readable(source: Source, columns: Columns) -> Iterator[bytes | mmap.mmap | Path]:
    """A form that the Parquet reader takes. With integers of 128 bits it must not see Polars' own Arrow schema, which
    has a type that the reader does not know; without it they are plain bytes."""
    is_hidden = Decimal(38, 0) in columns.values()
    if source.data is not None:
        yield source.data.replace(_ARROW_ENTRY, _HIDDEN) if is_hidden else source.data
        return
    assert source.path is not None
    if not is_hidden:
        yield source.path
        return
    with source.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as content:
        at = content.rfind(_ARROW_ENTRY)
        if at >= 0:
            content[at : at + len(_HIDDEN)] = _HIDDEN
        yield content


_ARROW_ENTRY, _HIDDEN = b"ARROW:schema", b"arrow-schema"
