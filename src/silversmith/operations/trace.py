"""Where one file is: what happened to each of its versions, and what there is of it now."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any

from silversmith.lineage import Decision, Lineage, decide, error_key, rejected_key, silver_key
from silversmith.operations.documents import ErrorDocument, parse
from silversmith.operations.rejected import RejectedFile, look
from silversmith.operations.target import Hop, LastOutcome, Target
from silversmith.operations.text import iso
from silversmith.pipeline import Pipeline, Transform
from silversmith.pipeline.lookups import current_digest
from silversmith.schemas.recorded import read_document
from silversmith.stores import Head, Lake, Store

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
    document, _ = read_document(lake.silver, transform.name)
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
