"""Where everything is, where one file is, and which columns silver has."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from typing import Any

from silversmith.lineage import Decision, Lineage, decide, error_key, rejected_key, silver_key
from silversmith.operations.failures import RejectedFile, look
from silversmith.operations.target import Depth, ErrorDocument, Hop, LastOutcome, Target, TransformQueues, parse
from silversmith.operations.text import iso
from silversmith.pipeline import Pipeline, Transform
from silversmith.pipeline.lookups import current_digest
from silversmith.schemas import Entry, Schemas
from silversmith.schemas.recorded import Recorded, others
from silversmith.stores import Head, Lake, Store


@dataclass(frozen=True)
class TransformStatus:
    """One transform. The first block is how things are now, the second what happened since the journal was made: None
    where nobody counts, as on AWS.

    ``waiting``, ``in_flight`` and ``dead`` count messages (``in_flight``: hidden because they are worked on, or until
    their next try), ``dead_letters`` those of each of its dead-letter queues, ``oldest_seconds`` is the
    age of the oldest, ``quarantined`` counts files. ``done``, ``duplicates``
    and ``gone`` count files, ``rows`` and ``rejected`` rows, ``retried`` failed tries. ``owner`` is who has its silver,
    where that is another pipeline; else empty.
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


@dataclass(frozen=True)
class ChainStatus:
    """What passed through bucket, rules and topic since the journal was made; ``on_the_way`` and ``dead`` are of now.
    What nobody counts is None, as on AWS.

    ``created``: versions that landed in bronze. ``unmatched``: events that no rule wanted. ``dropped``: messages that
    were refused and had no dead-letter queue to go to. ``dead``: messages in the rules' dead-letter queues.
    """

    created: int | None
    events: int | None
    unmatched: int | None
    published: int | None
    dropped: int | None
    on_the_way: int | None
    dead: int


@dataclass(frozen=True)
class Status:
    """The whole pipeline. ``lake`` is the folder, or the stack. ``ran`` is False where there is no history."""

    pipeline: str
    lake: str
    ran: bool
    running: bool
    buckets: Mapping[str, str]
    chain: ChainStatus
    transforms: Sequence[TransformStatus]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def status(pipeline: Pipeline, target: Target, *, now: float) -> Status:
    """Look at everything once. ``now`` in Unix seconds."""
    totals = target.totals()
    queues = {found.transform: found for found in target.queues()}
    return Status(
        pipeline=pipeline.name,
        lake=target.place,
        ran=target.remembers,
        running=target.running(),
        buckets={"bronze": pipeline.bronze, "silver": pipeline.silver, "quarantine": pipeline.quarantine},
        chain=_chain(target, totals),
        transforms=[
            _transform(transform, queues[transform.name], target, totals, now) for transform in pipeline.transforms
        ],
    )


def _chain(target: Target, totals: Mapping[str, int] | None) -> ChainStatus:
    return ChainStatus(
        created=_total(totals, "bucket.created"),
        events=_total(totals, "bus.events"),
        unmatched=_total(totals, "bus.unmatched"),
        published=_total(totals, "topic.published"),
        dropped=_total(totals, "dropped"),
        on_the_way=target.on_the_way(),
        dead=sum(map(_held, target.rules_dead())),
    )


def _transform(
    transform: Transform, queues: TransformQueues, target: Target, totals: Mapping[str, int] | None, now: float
) -> TransformStatus:
    def total(what: str) -> int | None:
        return _total(totals, f"transform.{transform.name}.{what}")

    oldest = queues.queue.oldest
    return TransformStatus(
        name=transform.name,
        pattern=transform.pattern.text,
        waiting=queues.queue.waiting,
        in_flight=queues.queue.in_flight,
        oldest_seconds=None if oldest is None else max(0.0, round(now - oldest, 3)),
        dead=queues.dead,
        quarantined=target.quarantined(transform.name),
        owner=next(iter(others(target.lake.silver, None, transform.name, target.owner)), ""),
        dead_letters={depth.name: _held(depth) for depth in queues.dead_letters},
        done=total("committed"),
        duplicates=total("duplicate"),
        gone=total("gone"),
        rows=total("rows"),
        rejected=total("rejected"),
        retried=total("failed"),
    )


def _total(totals: Mapping[str, int] | None, name: str) -> int | None:
    return None if totals is None else totals.get(name, 0)


def _held(depth: Depth) -> int:
    return depth.waiting + depth.in_flight


#: How many hops of one key are shown at the most, the newest: several hundred versions.
MOST_HOPS = 2000

#: How many keys near an unknown one are looked at for suggestions.
NEAR = 2000


@dataclass(frozen=True)
class Step:
    """A hop as it is shown: ``at`` in ISO 8601, ``elapsed_ms`` since the version's first hop, ``attempt`` from 1."""

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
    """The bronze object as it is now. ``size`` in bytes, ``modified`` in ISO 8601."""

    etag: str
    size: int
    modified: str


@dataclass(frozen=True)
class Silver:
    """The silver object as it is now, and what it says of where it came from: None where it says nothing."""

    key: str
    etag: str
    size: int
    lineage: Lineage | None


@dataclass(frozen=True)
class OfTransform:
    """What one transform has to do with the key.

    ``state`` is ``current`` (silver is of this very version, made by this very code), ``stale`` (of other bytes),
    ``outdated`` (made by other code), ``missing``, ``quarantined`` (an error document speaks of this very version),
    ``orphaned`` (silver without bronze), ``foreign`` (another pipeline made silver) or ``gone`` (neither). ``matches``:
    whether the transform's pattern does. ``owner``: who has the transform's silver, where that is another pipeline.
    """

    transform: str
    state: str
    matches: bool
    silver: Silver | None
    rejected: RejectedFile | None
    error: ErrorDocument | None
    last: LastOutcome | None
    owner: str = ""


@dataclass(frozen=True)
class Trace:
    """All that is known of a key. ``known`` is False if that is nothing; then ``near`` are keys that look like it.

    ``older``: there are more hops than are shown, all older. ``remembers``: whether there is any history to look in.
    """

    key: str
    known: bool
    remembers: bool
    bronze: Bronze | None
    versions: Sequence[Version]
    older: bool
    transforms: Sequence[OfTransform]
    near: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        found = asdict(self)
        for transform in found["transforms"]:
            if transform["last"]:
                transform["last"]["at"] = iso(transform["last"]["at"])
        return found


def trace(key: str, pipeline: Pipeline, target: Target, *, most: int = MOST_HOPS) -> Trace:
    """Look for a key everywhere.

    What there is now is read from the buckets; the history, where there is any, from the target's memory.

    Raises:
        InvalidKey: the text can be no key.
    """
    bronze = target.lake.bronze.head(key)
    hops = target.hops(key, most + 1)
    transforms = [
        found
        for transform in pipeline.transforms
        if (found := _of_transform(transform, key, bronze, target)) is not None
    ]
    known = bronze is not None or bool(hops) or any(_has_trace(found) for found in transforms)
    return Trace(
        key=key,
        known=known,
        remembers=target.remembers,
        bronze=None if bronze is None else Bronze(bronze.etag, bronze.size, bronze.modified.isoformat()),
        versions=versions(hops[-most:]),
        older=len(hops) > most,
        transforms=transforms if known else [],
        near=[] if known else near(key, target.lake),
    )


def versions(hops: Sequence[Hop]) -> list[Version]:
    """The hops by version, in the order in which the versions first appear."""
    found: dict[str, list[Hop]] = {}
    for hop in hops:
        found.setdefault(hop.version, []).append(hop)
    return [
        Version(version, [_step(hop, since=min(hop.at for hop in hops)) for hop in hops])
        for version, hops in found.items()
    ]


def _step(hop: Hop, since: float) -> Step:
    attempt = hop.detail.get("attempt")
    return Step(
        at=iso(hop.at) or "",
        elapsed_ms=round((hop.at - since) * 1000, 1),
        room=hop.room,
        name=hop.name,
        what=hop.what,
        attempt=attempt if isinstance(attempt, int) else None,
        detail=hop.detail,
    )


def _of_transform(transform: Transform, key: str, bronze: Head | None, target: Target) -> OfTransform | None:
    """None where the transform has nothing to do with the key, and never had."""
    lake = target.lake
    head = lake.silver.head(silver_key(transform.name, key))
    lineage = Lineage.from_metadata(head.metadata) if head else None
    error = _error(lake.quarantine, transform, key)
    document = Recorded.read(lake.silver, transform.name).document
    decision = decide(
        bronze.etag if bronze else None,
        lineage,
        transform.fingerprint,
        silver_exists=head is not None,
        lookups=current_digest(lake.bronze, transform.lookups),
        owners=document.owners(target.owner.name),
    )
    found = OfTransform(
        transform=transform.name,
        state=_state(decision, bronze, error),
        matches=transform.pattern.matches(key),
        silver=None if head is None else Silver(head.key, head.etag, head.size, lineage),
        rejected=look(lake.quarantine, rejected_key(transform.name, key)),
        error=error,
        last=target.outcome(transform.name, key),
        owner=document.owner if document.owner != target.owner.name else "",
    )
    return found if found.matches or _has_trace(found) else None


def _has_trace(found: OfTransform) -> bool:
    return any(item is not None for item in (found.silver, found.rejected, found.error, found.last))


def _error(quarantine: Store, transform: Transform, key: str) -> ErrorDocument | None:
    document = error_key(transform.name, key)
    body = quarantine.read(document)
    return None if body is None else parse(document, body)


def _state(decision: Decision, bronze: Head | None, error: ErrorDocument | None) -> str:
    if decision is Decision.DUPLICATE:
        return "current"
    if decision is Decision.FOREIGN:
        return decision.value
    if bronze is not None and error is not None and error.etag == bronze.etag:
        return "quarantined"
    return decision.value


def near(key: str, lake: Lake, *, most: int = 5) -> list[str]:
    """Keys in bronze that look like this one: those that end with it or that it ends with, then those spelled alike."""
    folder = key[: key.rfind("/") + 1]
    listed = islice(chain(_names(lake.bronze, folder), _names(lake.bronze, "")), NEAR)
    names = list(dict.fromkeys(listed))
    ends = [name for name in names if name.endswith("/" + key) or key.endswith("/" + name)]
    alike = difflib.get_close_matches(key, names, n=most, cutoff=0.6)
    return list(dict.fromkeys([*ends, *alike]))[:most]


def _names(store: Store, prefix: str) -> Iterator[str]:
    return (head.key for head in store.list(prefix))


@dataclass(frozen=True)
class OfCode:
    """The columns, with their types, that one code's silver has since ``version``. ``current``: it is the code that
    the pipeline has now."""

    code: str
    version: int
    current: bool
    columns: Mapping[str, str]


@dataclass(frozen=True)
class History:
    """All that is recorded of a transform, the oldest first. ``version`` 0: nothing is. ``owner``: whose silver it is;
    empty: nobody said."""

    transform: str
    lake: str
    version: int
    schemas: Sequence[OfCode]
    history: Sequence[Entry]
    owner: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **vars(self),
            "schemas": [vars(one) for one in self.schemas],
            "history": [{**vars(one), "changes": list(one.changes)} for one in self.history],
        }


def history(transform: Transform, target: Target) -> History:
    """What is recorded of a transform's silver.

    Raises:
        AccessDenied, OSError: silver cannot be read.
    """
    document = Schemas(target.lake.silver, transform.name).look().document
    return History(
        transform.name,
        target.place,
        document.version,
        [
            OfCode(
                one.code,
                one.version,
                one.code == transform.fingerprint,
                {name: repr(kind) for name, kind in one.columns.items()},
            )
            for one in document.schemas
        ],
        document.history,
        document.owner,
    )
