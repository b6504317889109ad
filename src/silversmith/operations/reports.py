"""The status of a pipeline, the trace of one file, and the history of silver's schema."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from typing import Any

import polars as pl

from silversmith.lineage import Decision, Lineage, decide, error_key, rejected_key, silver_key
from silversmith.operations import Record
from silversmith.operations.failures import ErrorDocument, RejectedFile, read_error, read_rejected
from silversmith.operations.tables import (
    InLineage,
    InTable,
    SilverState,
    TableReport,
    reports,
    trace_lineage,
    trace_tables,
)
from silversmith.operations.target import AlarmState, Hop, LastOutcome, Target, TransformQueues
from silversmith.operations.text import age, iso
from silversmith.pipeline import Pipeline, Transform
from silversmith.pipeline.lookups import current_digest
from silversmith.reconcile.compare import listed, pairs
from silversmith.reconcile.rows import LineageRows, LineageUnreadable
from silversmith.schemas import Entry, Schemas
from silversmith.schemas.recorded import Recorded, others
from silversmith.stores import Head, Lake


@dataclass(frozen=True)
class SilverCounts:
    """The silver of one transform now: ``files`` and their ``rows``.

    ``partial`` files lack rows that were ``rejected`` (rows), ``outdated`` ones were made by other code or with other
    lookups, ``orphaned`` ones of bronze objects that are gone. ``dropped`` rows are no data, as the contract says.
    ``before_since`` files of bronze landed before the transform's ``since``, and have no silver. The last three are
    None where the lineage was asked, which does not say.
    """

    files: int = 0
    rows: int = 0
    rejected: int = 0
    partial: int = 0
    outdated: int = 0
    orphaned: int | None = 0
    dropped: int | None = 0
    before_since: int | None = 0


@dataclass(frozen=True)
class TransformStatus:
    """One transform. The first block is the state now; the second counts since the journal was made, None on AWS.

    ``waiting``, ``in_flight`` (hidden: a worker has them, or until their next try) and ``dead`` count messages,
    ``dead_letters`` those of each dead-letter queue; ``oldest_seconds`` is the age of the oldest. ``quarantined``,
    ``done``, ``duplicates``, ``gone``, ``removed``, ``markers`` (of folders and jobs) and ``archived`` count files,
    ``rows`` and ``rejected`` rows, ``retried`` failed tries. ``owner`` is the other pipeline that owns its silver,
    or empty. ``silver`` is None where it was not counted. ``since`` as the transform has it: files that landed before
    are left alone.
    """

    name: str
    pattern: str
    waiting: int
    in_flight: int
    oldest_seconds: float | None
    dead: int
    quarantined: int

    done: int | None
    duplicates: int | None
    gone: int | None
    rows: int | None
    rejected: int | None
    retried: int | None

    dead_letters: Mapping[str, int] = field(default_factory=dict)
    owner: str = ""
    removed: int | None = None
    markers: int | None = None
    archived: int | None = None
    silver: SilverCounts | None = None
    since: str = ""


@dataclass(frozen=True)
class ChainStatus:
    """Counters of bucket, rules and topic since the journal was made; ``on_the_way`` and ``dead`` are the state now.
    None on AWS, which keeps no counters.

    ``created``: versions that landed in bronze. ``unmatched``: events that no rule matched. ``dropped``: messages that
    were refused and had no dead-letter queue. ``dead``: messages in the rules' dead-letter queues.
    """

    created: int | None
    events: int | None
    unmatched: int | None
    published: int | None
    dropped: int | None
    on_the_way: int | None
    dead: int


@dataclass(frozen=True)
class TablesQueue:
    """Messages on their way from silver into the tables: they wait, a function has them (``in_flight``), or they lie in
    dead-letter queues, by queue. ``oldest_seconds``: None on AWS, which does not say."""

    waiting: int
    in_flight: int
    oldest_seconds: float | None
    dead: int
    dead_letters: Mapping[str, int]


@dataclass(frozen=True)
class Status(Record):
    """The whole pipeline. ``lake`` is the folder, or the stack. ``ran`` is False where there is no history. ``tables``
    are not compared with silver here. ``alarms``: None on AWS."""

    pipeline: str
    lake: str
    ran: bool
    running: bool
    buckets: Mapping[str, str]
    chain: ChainStatus
    transforms: Sequence[TransformStatus]
    tables: Sequence[TableReport] = ()
    tables_queue: TablesQueue | None = None
    alarms: AlarmState | None = None


def status(pipeline: Pipeline, target: Target, *, now: float, silver: bool = False) -> Status:
    """Look at everything once. ``now`` in Unix seconds.

    ``silver``: head all of silver and count it. On AWS that would be a request for each file, so there the lineage is
    asked, if the pipeline keeps it.
    """
    totals, dead = target.totals(), target.rules_dead()
    counted: Mapping[str, SilverCounts] = {}
    if silver and totals is None:
        counted = silver_in_lineage(pipeline, target)
    elif silver:
        counted = {each.name: silver_counts(each, target) for each in pipeline.transforms}

    def total(name: str) -> int | None:
        return None if totals is None else totals.get(name, 0)

    queues = {each.transform: each for each in target.queues()}
    of_tables = target.tables_queue()
    return Status(
        pipeline=pipeline.name,
        lake=target.place,
        ran=target.remembers,
        running=target.running(),
        buckets={"bronze": pipeline.bronze, "silver": pipeline.silver, "quarantine": pipeline.quarantine},
        chain=ChainStatus(
            created=total("bucket.created"),
            events=total("bus.events"),
            unmatched=total("bus.unmatched"),
            published=total("topic.published"),
            dropped=total("dropped"),
            on_the_way=target.on_the_way(),
            dead=sum(depth.total for depth in dead),
        ),
        transforms=[
            _transform(each, queues[each.name], target, total, now, silver=counted.get(each.name))
            for each in pipeline.transforms
        ],
        tables=list(reports(pipeline, target, compare=False)) if pipeline.tables else (),
        tables_queue=None if of_tables is None else TablesQueue(**_messages(of_tables, now)),
        alarms=target.alarms(),
    )


def _messages(queues: TransformQueues, now: float) -> dict[str, Any]:
    return {
        "waiting": queues.queue.waiting,
        "in_flight": queues.queue.in_flight,
        "oldest_seconds": age(queues.queue.oldest, now),
        "dead": queues.dead,
        "dead_letters": {depth.name: depth.total for depth in queues.dead_letters},
    }


def silver_counts(transform: Transform, target: Target) -> SilverCounts:
    """Count what silver holds of a transform: bronze is listed, each silver object headed."""
    lake = target.lake
    schema = Recorded.read(lake.silver, transform.name).document.of(transform.fingerprint).version
    lookups = current_digest(lake.bronze, transform.lookups)
    matching = (head for head in listed(lake.bronze, transform.pattern) if transform.pattern.matches(head.key))
    counts = Counter[str]()
    for pair in pairs(transform.name, matching, lake.silver.list(f"{transform.name}/")):
        silver = lake.silver.head(pair.silver.key) if pair.silver is not None else None
        if silver is None:
            bronze = pair.bronze
            counts["before_since"] += (
                bronze is not None
                and transform.is_before_since(bronze.modified)
                and not transform.pattern.passes_over(bronze.key, bronze.size)
            )
            continue
        counts["files"] += 1
        lineage = Lineage.from_metadata(silver.metadata)
        if lineage is None:
            continue
        counts["rows"] += lineage.rows_written
        counts["rejected"] += lineage.rows_rejected
        counts["dropped"] += lineage.rows_dropped
        counts["partial"] += lineage.is_partial
        if pair.bronze is None and (pair.is_paired or lake.bronze.head(lineage.bronze_key) is None):
            counts["orphaned"] += 1
        else:
            code = transform.fingerprint
            decision = decide(lineage.bronze_etag, lineage, code, silver_exists=True, schema=schema, lookups=lookups)
            counts["outdated"] += decision is Decision.OUTDATED
    return SilverCounts(**counts)


def silver_in_lineage(pipeline: Pipeline, target: Target) -> dict[str, SilverCounts]:
    """Count what silver holds by the lineage: nothing where the pipeline does not keep it, or it cannot be read."""
    with suppress(LineageUnreadable):
        if (rows := target.rows()) is not None:
            return {each.name: _counted(rows, each, target.lake) for each in pipeline.transforms}
    return {}


def _counted(rows: LineageRows, transform: Transform, lake: Lake) -> SilverCounts:
    silver = rows.scan("silver", transform=transform.name)
    if silver is None:
        return SilverCounts(orphaned=None, dropped=None, before_since=None)
    schema = Recorded.read(lake.silver, transform.name).document.of(transform.fingerprint).version
    lookups = current_digest(lake.bronze, transform.lookups)
    version = pl.col("schema_version").fill_null(0)
    is_current = (
        (pl.col("fingerprint").fill_null("") == transform.fingerprint)
        & ((version >= schema) | (version == 0))
        & (pl.col("lookups").fill_null("") == lookups)
    )
    counts = silver.select(
        pl.len().alias("files"),
        pl.col("rows_written").sum().alias("rows"),
        pl.col("rows_rejected").sum().alias("rejected"),
        (pl.col("rows_rejected") > 0).sum().alias("partial"),
        (~is_current & pl.col("rows_written").is_not_null()).sum().alias("outdated"),
    )
    try:
        (row,) = counts.collect(engine="streaming").rows(named=True)
    except (pl.exceptions.PolarsError, OSError) as error:  # compaction took a file away meanwhile
        raise LineageUnreadable(f"the lineage cannot be read: {error}") from error
    return SilverCounts(**row, orphaned=None, dropped=None, before_since=None)


def _transform(
    transform: Transform,
    queues: TransformQueues,
    target: Target,
    total: Callable[[str], int | None],
    now: float,
    *,
    silver: SilverCounts | None,
) -> TransformStatus:
    prefix = f"transform.{transform.name}"
    return TransformStatus(
        name=transform.name,
        pattern=transform.pattern.text,
        **_messages(queues, now),
        quarantined=target.quarantined(transform.name),
        owner=next(iter(others(target.lake.silver, None, transform.name, target.owner)), ""),
        done=total(f"{prefix}.committed"),
        duplicates=total(f"{prefix}.duplicate"),
        gone=total(f"{prefix}.gone"),
        removed=total(f"{prefix}.removed"),
        markers=total(f"{prefix}.marker"),
        archived=total(f"{prefix}.archived"),
        rows=total(f"{prefix}.rows"),
        rejected=total(f"{prefix}.rejected"),
        retried=total(f"{prefix}.failed"),
        silver=silver,
        since=transform.since,
    )


#: A trace shows at most so many hops, the newest: several hundred versions.
MOST_HOPS = 2000

#: So many keys are compared with an unknown one for suggestions.
NEAR = 2000


@dataclass(frozen=True)
class Step:
    """A hop of a trace: ``at`` in ISO 8601, ``elapsed_ms`` since the version's first hop, ``attempt`` from 1."""

    at: str
    elapsed_ms: float
    room: str
    name: str
    what: str
    attempt: int | None
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Version:
    """One version of the object: its hops, the oldest first."""

    version: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class Bronze:
    """The bronze object as it is now. ``size`` in bytes, ``modified`` in ISO 8601; ``archived``: the tier that it must
    be restored from before it can be read, or empty."""

    etag: str
    size: int
    modified: str
    archived: str = ""


@dataclass(frozen=True)
class Silver:
    """The silver object as it is now, and its lineage; None where it has none."""

    key: str
    etag: str
    size: int
    lineage: Lineage | None


@dataclass(frozen=True)
class TransformTrace:
    """One transform's part in a trace.

    ``state`` is ``current`` (silver is of this version, made by this code), ``stale`` (of other bytes), ``outdated``
    (made by other code), ``missing``, ``quarantined`` (an error document is about this version), ``orphaned`` (silver
    without bronze), ``foreign`` (another pipeline made silver), ``marker`` (bronze stands for a folder or a job, and is
    no data), ``archived`` (bronze must be restored before it can be read) or ``gone`` (neither). ``matches``: whether
    the transform's pattern matches. ``owner``: the other pipeline that owns the transform's silver, or empty.
    ``partial``: silver lacks rows that were rejected. ``lineage`` are its rows in ``_lineage``, where that is kept.
    """

    transform: str
    state: str
    matches: bool
    silver: Silver | None
    rejected: RejectedFile | None
    error: ErrorDocument | None
    last: LastOutcome | None
    owner: str = ""
    tables: Sequence[InTable] = ()
    partial: bool = False
    lineage: Sequence[InLineage] = ()

    @property
    def has_trace(self) -> bool:
        """Whether anything is known of the file in this transform."""
        return any(item is not None for item in (self.silver, self.rejected, self.error, self.last))


@dataclass(frozen=True)
class Trace:
    """Everything about a key. ``known`` is False for an unknown one; then ``near`` are keys that look like it.

    ``older``: there are more hops, all older. ``remembers``: whether there is any history. ``forms``: the patterns of
    transforms that do not match because they differ in case, or in the Unicode normal form, only, as they would match.
    """

    key: str
    known: bool
    remembers: bool
    bronze: Bronze | None
    versions: Sequence[Version]
    older: bool
    transforms: Sequence[TransformTrace]
    near: Sequence[str]
    forms: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        document = asdict(self)
        for transform in document["transforms"]:
            if transform["last"]:
                transform["last"]["at"] = iso(transform["last"]["at"])
        return document


def trace(key: str, pipeline: Pipeline, target: Target, *, most: int = MOST_HOPS) -> Trace:
    """Look for a key everywhere: in the buckets, and in the target's history.

    Raises:
        InvalidKey: the text is no key.
    """
    bronze = target.lake.bronze.head(key)
    hops = target.hops(key, most + 1)
    parts = [_part(transform, key, bronze, target, pipeline) for transform in pipeline.transforms]
    parts = [part for part in parts if part.matches or part.has_trace]
    known = bronze is not None or bool(hops) or any(part.has_trace for part in parts)
    forms = {transform.name: transform.pattern.in_form_of(key) for transform in pipeline.transforms}
    return Trace(
        key=key,
        known=known,
        remembers=target.remembers,
        bronze=None
        if bronze is None
        else Bronze(bronze.etag, bronze.size, bronze.modified.isoformat(), bronze.archived),
        versions=versions(hops[-most:]),
        older=len(hops) > most,
        transforms=parts if known else [],
        near=[] if known else near(key, target.lake),
        forms={name: form for name, form in forms.items() if form},
    )


def versions(hops: Sequence[Hop]) -> list[Version]:
    """The hops by version, in the order in which the versions first appear."""
    by_version: dict[str, list[Hop]] = {}
    for hop in hops:
        by_version.setdefault(hop.version, []).append(hop)
    return [
        Version(version, [_step(hop, since=min(hop.at for hop in hops)) for hop in hops])
        for version, hops in by_version.items()
    ]


def _step(hop: Hop, since: float) -> Step:
    attempt = hop.detail.get("attempt")
    attempt = attempt if isinstance(attempt, int) else None
    return Step(iso(hop.at) or "", round((hop.at - since) * 1000, 1), hop.room, hop.name, hop.what, attempt, hop.detail)


def _part(transform: Transform, key: str, bronze: Head | None, target: Target, pipeline: Pipeline) -> TransformTrace:
    lake = target.lake
    head = lake.silver.head(silver_key(transform.name, key))
    lineage = Lineage.from_metadata(head.metadata) if head else None
    error = read_error(lake.quarantine, error_key(transform.name, key))
    document = Recorded.read(lake.silver, transform.name).document
    decision = decide(
        bronze.etag if bronze else None,
        lineage,
        transform.fingerprint,
        silver_exists=head is not None,
        lookups=current_digest(lake.bronze, transform.lookups),
        owners=document.owners(target.owner.name),
    )
    state = SilverState(head.etag if head else None, has_rows=lineage is None or lineage.rows_written != 0)
    return TransformTrace(
        transform=transform.name,
        state=_state(transform, decision, bronze, error),
        matches=transform.pattern.matches(key),
        silver=None if head is None else Silver(head.key, head.etag, head.size, lineage),
        rejected=read_rejected(lake.quarantine, rejected_key(transform.name, key)),
        error=error,
        last=target.outcome(transform.name, key),
        owner=document.owner if document.owner != target.owner.name else "",
        tables=trace_tables(key, transform.name, state, target, pipeline),
        partial=lineage is not None and lineage.is_partial,
        lineage=trace_lineage(key, transform.name, target, pipeline),
    )


def _state(transform: Transform, decision: Decision, bronze: Head | None, error: ErrorDocument | None) -> str:
    if bronze is not None and transform.pattern.passes_over(bronze.key, bronze.size):
        return Decision.MARKER.value
    if decision is Decision.DUPLICATE:
        return "current"
    if decision is Decision.FOREIGN:
        return decision.value
    if bronze is not None and bronze.archived:
        return Decision.ARCHIVED.value
    if bronze is not None and error is not None and error.etag == bronze.etag:
        return "quarantined"
    is_early = bronze is not None and transform.is_before_since(bronze.modified)
    return (Decision.BEFORE_SINCE if is_early else decision).value


def near(key: str, lake: Lake, *, most: int = 5) -> list[str]:
    """Keys in bronze that look like this one: those that end with it or that it ends with, then similar spellings."""
    folder = key[: key.rfind("/") + 1]
    heads = islice(chain(lake.bronze.list(folder), lake.bronze.list("")), NEAR)
    names = list(dict.fromkeys(head.key for head in heads))
    ends = [name for name in names if name.endswith("/" + key) or key.endswith("/" + name)]
    alike = difflib.get_close_matches(key, names, n=most, cutoff=0.6)
    return list(dict.fromkeys([*ends, *alike]))[:most]


@dataclass(frozen=True)
class CodeSchema:
    """The columns and types of the silver of one code since ``version``. ``current``: it is the pipeline's code now."""

    code: str
    version: int
    current: bool
    columns: Mapping[str, str]


@dataclass(frozen=True)
class SchemaHistory(Record):
    """The recorded schemas of a transform's silver, the oldest first. ``version`` 0: nothing is recorded.

    ``owner``: the owner of the silver, or empty.
    """

    transform: str
    lake: str
    version: int
    schemas: Sequence[CodeSchema]
    history: Sequence[Entry]
    owner: str = ""


def schema_history(transform: Transform, target: Target) -> SchemaHistory:
    """Read the recorded schemas of a transform's silver.

    Raises:
        AccessDenied, OSError: silver cannot be read.
    """
    document = Schemas(target.lake.silver, transform.name).look().document
    schemas = [
        CodeSchema(
            schema.code,
            schema.version,
            schema.code == transform.fingerprint,
            {name: repr(dtype) for name, dtype in schema.columns.items()},
        )
        for schema in document.schemas
    ]
    return SchemaHistory(transform.name, target.place, document.version, schemas, document.history, document.owner)
