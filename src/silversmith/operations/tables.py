"""The tables and views of gold: what they hold, queries over them, and their upkeep."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from silversmith.errors import SilversmithError
from silversmith.lineage import Lineage
from silversmith.operations import Record, WrongCall, tables_installed
from silversmith.operations.target import Target
from silversmith.operations.text import iso
from silversmith.pipeline import Pipeline
from silversmith.stores import Store, batched
from silversmith.tables.spec import ETAG, FILE, LINEAGE, TableSpec, ViewSpec

if TYPE_CHECKING:
    from silversmith.tables.format import Extent, Format, Rows, Snapshot
    from silversmith.tables.views import Difference


@dataclass(frozen=True)
class TableReport(Record):
    """A table or a view, as its newest version is.

    ``kind`` is table, view or lineage, ``of`` the transform or the tables that it is made of. ``state`` is ``current``,
    ``behind``, ``empty`` (there is nothing of it yet) or ``there`` (it was not compared with silver); ``lacking``
    counts the silver objects that a table does not have as silver has them now, None where nobody looked.
    ``committed`` is when the newest version was, in ISO 8601.
    """

    name: str
    kind: str
    of: Sequence[str]
    state: str
    lacking: int | None
    rows: int = 0
    files: int = 0
    bytes: int = 0
    version: int | None = None
    committed: str | None = None


def require_tables(pipeline: Pipeline) -> None:
    """
    Raises:
        WrongCall: the pipeline has no tables, or the packages that they need are not installed.
    """
    if not pipeline.tables:
        raise WrongCall(
            f'the pipeline {pipeline.name!r} declares no table: write pipeline.table("orders", of=orders) below a '
            "transform. docs/tables.md"
        )
    with tables_installed():
        import deltalake  # noqa: F401


def reports(pipeline: Pipeline, target: Target, *, compare: bool = True) -> Iterator[TableReport]:
    """Look at every table and view. ``compare``: with silver, of which all keys are listed.

    Raises:
        WrongCall: as :func:`require_tables`.
        GoldFailed, OSError: gold or silver cannot be read.
    """
    require_tables(pipeline)
    from silversmith.tables.compare import differing
    from silversmith.tables.views import is_current as is_current_view

    for table in pipeline.tables.tables:
        lacking = len(differing(table, target.lake.silver, target.gold)) if compare else None
        is_current = None if lacking is None else not lacking
        yield _report(table.name, "table", [table.transform], target.gold, lacking, is_current=is_current)
    if transforms := pipeline.tables.lineage:
        lacking = sum(len(_lacking_lineage(each, target)) for each in transforms) if compare else None
        is_current = None if lacking is None else not lacking
        yield _report(LINEAGE, "lineage", transforms, target.gold, lacking, is_current=is_current)
    for view in pipeline.tables.views:
        is_current = is_current_view(view, target.gold) if compare else None
        yield _report(view.name, "view", view.sources, target.gold, 0 if compare else None, is_current=is_current)


def _lacking_lineage(transform: str, target: Target) -> list[str]:
    from silversmith.tables.lineage import differing

    return differing(transform, silver=target.lake.silver, quarantine=target.lake.quarantine, gold=target.gold)


def _report(
    name: str, kind: str, of: Sequence[str], gold: Format, lacking: int | None, *, is_current: bool | None
) -> TableReport:
    snapshot = gold.read(name)
    if snapshot is None:
        return TableReport(name, kind, of, "behind" if is_current is False else "empty", lacking)
    extent = snapshot.extent
    state = "there" if is_current is None else "current" if is_current else "behind"
    committed = iso(snapshot.committed)
    return TableReport(
        name, kind, of, state, lacking, extent.rows, extent.files, extent.bytes, snapshot.version, committed
    )


@dataclass(frozen=True)
class Sample:
    """The first files of silver beside a table: how many were looked at, and how many the table has otherwise."""

    table: str
    version: int | None
    looked_at: int
    differing: int


#: So many files are a sample.
SAMPLE = 100


def sample(table: TableSpec, target: Target) -> Sample:
    """Compare a few files of silver with a table.

    Raises:
        WrongCall: the packages that tables need are not installed.
        GoldFailed, OSError: gold or silver cannot be read.
    """
    gold, silver = target.gold, target.lake.silver
    from silversmith.tables.commit import files_of

    snapshot = gold.read(table.name)
    listed = (head for head in silver.list(f"{table.transform}/") if head.key.endswith(".parquet"))
    heads = {head.key: head for head in islice(listed, SAMPLE)}
    files = files_of(table.transform, list(heads), silver, snapshot)
    etags = snapshot.etags(sorted(files.values())) if snapshot is not None else {}
    differing = [key for key, file in files.items() if etags.get(file) != heads[key].etag]
    without_rows = [key for key in differing if files[key] not in etags and not _has_rows(key, silver)]
    version = snapshot.version if snapshot is not None else None
    return Sample(table.name, version, len(heads), len(differing) - len(without_rows))


def _has_rows(key: str, silver: Store) -> bool:
    head = silver.head(key)
    lineage = Lineage.from_metadata(head.metadata) if head is not None else None
    return lineage is None or lineage.rows_written != 0


# -- queries


@dataclass(frozen=True)
class Column:
    """A column of an answer. ``type`` as Arrow calls it: ``Int64``, ``Utf8View`` …"""

    name: str
    type: str

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers."""
        return self.type.startswith(("Int", "UInt", "Float", "Decimal"))


@dataclass(frozen=True)
class Answer:
    """The result of a query. ``has_more``: there are rows beyond the limit."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    has_more: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        names = [column.name for column in self.columns]
        return {
            "columns": [asdict(column) for column in self.columns],
            "rows": [dict(zip(names, map(plain, row), strict=True)) for row in self.rows],
            "more": self.has_more,
        }


#: The statements that only read.
_READS = ("select", "with", "values", "explain", "describe", "(")

_UNKNOWN = re.compile(r"table '(?:datafusion\.)?(?:public\.)?(.*?)' not found")


def query(sql: str, pipeline: Pipeline, target: Target, *, limit: int) -> Answer:
    """Run a SELECT over the newest versions of the tables and views.

    Raises:
        WrongCall: as :func:`require_tables`; or the query cannot be run, with the reason in DataFusion's words.
        GoldFailed: gold cannot be read.
    """
    require_tables(pipeline)
    if not sql.lstrip().lower().startswith(_READS):
        raise WrongCall(f"{sql.strip()[:40]!r} is no query: write a SELECT. Tables are changed by silver alone")
    names = pipeline.tables.names
    named = [name for name in names if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
    sources = {name: snapshot for name in named if (snapshot := target.gold.read(name)) is not None}
    try:
        return _answer(target.gold.query(sources, sql), limit)
    except Exception as error:  # DataFusion raises plain exceptions, too, while it runs
        raise WrongCall(_problem(error, names, sources)) from error


def _answer(rows: Rows, limit: int) -> Answer:
    columns = [Column(name, _type(rows.schema.field(at).type)) for at, name in enumerate(rows.schema.names)]
    names = [column.name for column in columns]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise WrongCall(f"two columns of the result are called {repeated!r}: give one another name, with AS")
    values = (
        row for batch in rows.batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    first = list(islice(values, limit + 1))
    return Answer(columns, first[:limit], len(first) > limit)


def _type(kind: object) -> str:
    """Arrow's name of a type, which arro3 shows as ``arro3.core.DataType<Int64>``."""
    return str(kind).strip().partition("<")[2].removesuffix(">")


def _problem(error: Exception, names: Sequence[str], sources: Mapping[str, Snapshot]) -> str:
    if isinstance(error, WrongCall):
        return str(error)
    reason = str(error.__cause__ or error)
    unknown = _UNKNOWN.search(reason)
    if unknown is None:
        return f"the query cannot be run: {reason}"
    if unknown[1] in names and unknown[1] not in sources:
        return (
            f"{unknown[1]} has no rows yet: nothing of its silver has come. Run the pipeline, or see `silversmith "
            "tables`"
        )
    return f"there is no table or view {unknown[1]!r}; there are: {', '.join(names)}"


def plain(value: Any) -> Any:
    """A value of a row as JSON has it: exact numbers, times and bytes as text."""
    match value:
        case Decimal() | timedelta():
            return str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case Mapping():
            value = {str(name): plain(item) for name, item in value.items()}
        case list():
            value = [plain(item) for item in value]
    return value


# -- upkeep


@dataclass(frozen=True)
class Upkeep(Record):
    """A table or view before and after something was done for it. ``version`` is the one after."""

    name: str
    before: Extent
    after: Extent
    version: int


def optimize(name: str | None, pipeline: Pipeline, target: Target) -> Iterator[Upkeep]:
    """Write the small data files of a table or view (None: of all) together. Its rows stay, and who reads it goes on.

    Raises:
        WrongCall: as :func:`require_tables`, or there is no such table or view.
        Refused: rows were committed meanwhile: try again.
        GoldFailed: gold cannot be read or written.
    """
    return _kept(
        name, pipeline, target,
        lambda each, snapshot: snapshot.compact(each.sort_by if isinstance(each, TableSpec) else (), force=True),
    )  # fmt: skip


def _kept(
    name: str | None,
    pipeline: Pipeline,
    target: Target,
    keep: Callable[[TableSpec | ViewSpec, Snapshot], Snapshot],
) -> Iterator[Upkeep]:
    for each in _chosen(name, pipeline):
        if (snapshot := target.gold.read(each.name)) is not None:
            before = snapshot.extent
            newest = keep(each, snapshot)
            yield Upkeep(each.name, before, newest.extent, newest.version)


def vacuum(
    name: str | None, pipeline: Pipeline, target: Target, *, now: float, older_than: float | None = None
) -> Iterator[Upkeep]:
    """Delete the data files of a table or view (None: of all) that only old versions need.

    ``older_than``: versions that were replaced so many seconds ago; by default seven days. With less, who still reads
    such a version fails. ``now`` in Unix seconds. Raises as :func:`optimize`.
    """
    require_tables(pipeline)
    from silversmith.tables.upkeep import VACUUMED

    hours = None if older_than is None else math.ceil(older_than / 3600)
    return _kept(name, pipeline, target, lambda _, snapshot: snapshot.vacuum({VACUUMED: int(now)}, hours=hours))


def rebuild(name: str, pipeline: Pipeline, target: Target) -> Upkeep:
    """Write a table anew from all silver, in one commit, with the columns that are recorded and the partitions that are
    declared now; or a view from its query, where it differs. Readers see the old rows until then.

    Raises:
        SchemaRefused: some of silver does not fit the recorded schema. Nothing was changed. Else as :func:`optimize`.
    """
    (chosen,) = _chosen(name, pipeline)
    from silversmith.tables.commit import rebuild as operation
    from silversmith.tables.format import Extent
    from silversmith.tables.views import compare, refresh

    gold = target.gold
    snapshot = gold.read(name)
    before = snapshot.extent if snapshot is not None else Extent(0, 0, 0)
    if name == LINEAGE:
        _rebuild_lineage(pipeline, target)
    elif isinstance(chosen, TableSpec):
        operation(chosen, silver=target.lake.silver, gold=gold)
    else:
        refresh([chosen], gold)
        compare(chosen, gold, repair=True)
    newest = gold.read(name)
    if newest is None:
        raise WrongCall(f"there is nothing to make {name} of: nothing of its silver has come yet")
    return Upkeep(name, before, newest.extent, newest.version)


#: So many objects are looked at before their rows are committed.
LOOKED_AT = 10_000


def _rebuild_lineage(pipeline: Pipeline, target: Target) -> None:
    """Ask every object again, and commit what the lineage does not say of it."""
    from silversmith.tables.lineage import follow, state_of

    lake, transforms = target.lake, pipeline.tables.lineage
    for transform in transforms:
        listed = (head.key for store in (lake.silver, lake.quarantine) for head in store.list(f"{transform}/"))
        keys = chain((key for key in listed if state_of(key)), _lacking_lineage(transform, target))
        for some in batched(keys, LOOKED_AT):
            follow(transforms, some, silver=lake.silver, quarantine=lake.quarantine, gold=target.gold)


def find(name: str, pipeline: Pipeline) -> TableSpec | ViewSpec:
    """The table or view of that name.

    Raises:
        WrongCall: there is none.
    """
    everything = _everything(pipeline)
    chosen = next((each for each in everything if each.name == name), None)
    if chosen is None:
        names = ", ".join(each.name for each in everything) or "none"
        raise WrongCall(f"the pipeline {pipeline.name!r} has no table or view {name!r}; it has: {names}")
    return chosen


def _chosen(name: str | None, pipeline: Pipeline) -> Sequence[TableSpec | ViewSpec]:
    require_tables(pipeline)
    return _everything(pipeline) if name is None else [find(name, pipeline)]


def _everything(pipeline: Pipeline) -> list[TableSpec | ViewSpec]:
    lineage = [TableSpec(LINEAGE, "", sort_by=(FILE,))] if pipeline.tables.lineage else []
    return [*pipeline.tables.tables, *pipeline.tables.views, *lineage]


@dataclass(frozen=True)
class ViewDifference:
    """The number of rows that a view lacked, and that it had too many, beside its query over all rows."""

    view: str
    lacking: int
    surplus: int


def reconcile_views(pipeline: Pipeline, target: Target, *, dry_run: bool) -> Iterator[ViewDifference]:
    """Bring every view up to date with its tables, compute it anew as a whole, say what differs, and repair it.

    Raises:
        WrongCall: as :func:`require_tables`.
        Refused: rows were committed meanwhile: try again.
        GoldFailed: gold cannot be read or written.
    """
    require_tables(pipeline)
    from silversmith.tables.views import compare, refresh

    for view in pipeline.tables.views:
        if not dry_run:
            refresh([view], target.gold)
        difference: Difference | None = compare(view, target.gold, repair=not dry_run)
        if difference is not None:
            yield ViewDifference(view.name, difference.lacking, difference.surplus)


# -- one file


@dataclass(frozen=True)
class SilverState:
    """A silver object as it is now; without an ETag there is none."""

    etag: str | None
    has_rows: bool


@dataclass(frozen=True)
class InTable:
    """The rows of one file in a table. ``state`` is ``current`` (the rows of its silver), ``old`` (of an older silver),
    ``missing`` (silver has rows, the table none of them), ``none`` (nor has silver) or ``unknown`` (it cannot be read).

    ``since``: the version that brought these rows; None where it has none. ``or_before``: older ones are forgotten.
    """

    table: str
    state: str
    since: int | None = None
    or_before: bool = False


@dataclass(frozen=True)
class InLineage:
    """A row of ``_lineage`` about one file. ``about`` is ``silver``, ``quarantined`` (an error document) or
    ``given_up`` (the code failed on it as often as it may). ``state`` is ``current`` (as the object says now) or
    ``old``.

    ``rows_written`` of silver, ``error`` the code of a document, ``committed_at`` in ISO 8601.
    """

    about: str
    state: str
    etag: str
    rows_written: int | None
    committed_at: str | None
    error: str | None


def trace_lineage(key: str, transform: str, target: Target, pipeline: Pipeline) -> list[InLineage]:
    """The rows that the lineage has of a bronze key for a transform, beside the objects that they are about; none where
    the pipeline does not keep it as a table, or it cannot be read."""
    if transform not in pipeline.tables.lineage:
        return []
    try:
        gold = target.gold
        from silversmith.tables.lineage import SILVER, Subject, rows_of

        rows = rows_of(key, transform, gold)
    except SilversmithError:
        return []
    traced = []
    for row in rows:
        store = target.lake.silver if row["state"] == SILVER else target.lake.quarantine
        head = store.head(Subject(transform, row["state"], key).key)
        is_current = head is not None and head.etag == row[ETAG]
        moment = row["committed_at"]
        traced.append(
            InLineage(
                row["state"],
                "current" if is_current else "old",
                row[ETAG],
                row["rows_written"],
                moment.isoformat() if moment is not None else None,
                row["error"] or None,
            )
        )
    return traced


def trace_tables(key: str, transform: str, silver: SilverState, target: Target, pipeline: Pipeline) -> list[InTable]:
    """The rows of a bronze key in each table of a transform, beside its silver."""
    return [_in_table(table.name, key, silver, target) for table in pipeline.tables.of_transform(transform)]


def _in_table(name: str, key: str, silver: SilverState, target: Target) -> InTable:
    try:
        gold = target.gold
        snapshot = gold.read(name)
    except SilversmithError:
        return InTable(name, "unknown")
    there = snapshot.etags([key]).get(key) if snapshot is not None else None
    if snapshot is None or there is None:
        return InTable(name, "missing" if silver.has_rows else "none")
    since, or_before = _since(name, key, there, snapshot.version, gold)
    return InTable(name, "current" if there == silver.etag else "old", since, or_before)


def _since(name: str, key: str, etag: str, newest: int, gold: Format) -> tuple[int, bool]:
    """The first version that has these rows; whether the one before it is forgotten. A search by halves: a version of
    silver comes once, and goes once."""
    low, high, or_before = 0, newest, False
    while low < high:
        middle = (low + high) // 2
        is_forgotten = has_rows = False
        try:
            snapshot = gold.read(name, middle)
            has_rows = snapshot is not None and snapshot.etags([key]).get(key) == etag
        except SilversmithError:
            is_forgotten = True
        if has_rows:
            high = middle
        else:
            low, or_before = middle + 1, is_forgotten
    return high, or_before
