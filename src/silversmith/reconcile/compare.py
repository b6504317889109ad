"""Compare bronze with the lineage of silver, key by key: missing, stale, outdated, deleted, orphaned or foreign."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

from silversmith.events import ObjectEvent
from silversmith.function.retries import parse
from silversmith.keypatterns import KeyPattern
from silversmith.lineage import Decision, Lineage, decide, error_key, failed_key, silver_key
from silversmith.pipeline import Transform
from silversmith.pipeline.lookups import current_digest
from silversmith.schemas import Owner, Schemas
from silversmith.stores import Head, Lake, Store, map_in_threads

ENDING = ".parquet"

#: The end of a silver key that lineage.py had to cut short.
_CUT = re.compile(r"~[0-9a-f]{64}\.parquet\Z")


class Pair(NamedTuple):
    """A bronze object and the silver object of its name; one of them may be None.

    ``key`` is the bronze key. ``is_paired`` False: the listings cannot tell whether there is the other object; the
    bronze key of such a silver object is not known either, and empty.
    """

    key: str
    bronze: Head | None
    silver: Head | None
    is_paired: bool = True


def pairs(transform: str, bronze: Iterable[Head], silver: Iterable[Head]) -> Iterator[Pair]:
    """Every object of both listings, once, in the order of the silver keys (but for those that are not paired).

    Args:
        transform: the name of the transform.
        bronze: the bronze objects that the transform wants, in the order of their keys.
        silver: the objects below ``{transform}/`` in silver, in the order of their keys. Keys that cannot be the silver
            object of anything are left out.
    """
    left, right = _in_silver_order(transform, bronze), _by_bronze_key(transform, silver)
    here, there = next(left, None), next(right, None)
    while here is not None or there is not None:
        if here is not None and not here.is_paired:
            yield here
            here = next(left, None)
        elif there is not None and not there.is_paired:
            yield there
            there = next(right, None)
        elif there is None or (here is not None and here.key + ENDING < there.key + ENDING):
            assert here is not None
            yield here
            here = next(left, None)
        elif here is None or there.key != here.key:
            yield there
            there = next(right, None)
        else:
            yield Pair(here.key, here.bronze, there.silver)
            here, there = next(left, None), next(right, None)


def overtaken(key: str) -> Iterator[str]:
    """The keys that come before ``key`` in bronze, but whose silver objects come after its own. Shortest first."""
    for length in range(1, len(key)):
        if key[length:] + ENDING < ENDING:
            yield key[:length]


def _in_silver_order(transform: str, bronze: Iterable[Head]) -> Iterator[Pair]:
    """The bronze objects in the order of their silver keys.

    ``delayed`` is a chain of keys, each the beginning of the next; the last one is the first in silver.
    """
    delayed: list[Pair] = []
    for head in bronze:
        key = head.key
        if _CUT.search(silver_key(transform, key)):
            yield Pair(key, head, None, is_paired=False)
            continue
        while delayed and not _comes_before(key, delayed[-1].key):
            yield delayed.pop()
        delayed.append(Pair(key, head, None))
    while delayed:
        yield delayed.pop()


def _comes_before(later: str, earlier: str) -> bool:
    """Whether a later key of bronze is an earlier one of silver. If not, then none that follows it is either."""
    return later.startswith(earlier) and later + ENDING < earlier + ENDING


def _by_bronze_key(transform: str, silver: Iterable[Head]) -> Iterator[Pair]:
    for head in silver:
        name = head.key.removeprefix(f"{transform}/")
        if _CUT.search(name):
            yield Pair("", None, head, is_paired=False)
        elif name.endswith(ENDING) and name != ENDING:
            yield Pair(name.removesuffix(ENDING), None, head)


@dataclass(frozen=True)
class Finding:
    """One key of one transform that is not as it should be.

    ``kind`` is MISSING, STALE, OUTDATED, or ORPHANED: silver of a bronze object that is gone, or whose key the
    transform's pattern does not match any more; or DELETED: such silver that goes with its bronze object; or FOREIGN:
    another pipeline made its silver; or MARKER, BEFORE_SINCE or ARCHIVED. ``key`` is the bronze key, ``silver`` the
    silver key. ``etag``, ``version``, ``size`` (bytes) and the tier that it is ``archived`` in are the bronze object's,
    as far as they are known.
    """

    transform: str
    key: str
    kind: Decision
    silver: str
    etag: str = ""
    version: str = ""
    size: int | None = None
    modified: datetime | None = None
    archived: str = ""

    @property
    def is_to_be_sent(self) -> bool:
        """Whether the transform can mend it."""
        left_alone = {Decision.ORPHANED, Decision.FOREIGN, Decision.MARKER, Decision.BEFORE_SINCE, Decision.ARCHIVED}
        return self.kind not in left_alone

    def event(self, bucket: str) -> ObjectEvent:
        """The event that S3 would have sent of the bronze object."""
        is_deleted = self.kind is Decision.DELETED
        return ObjectEvent(bucket, self.key, etag=self.etag, version=self.version, size=self.size, deleted=is_deleted)


@dataclass(frozen=True)
class Looked:
    """One key was looked at.

    Attributes:
        after: the comparison can be resumed after this key; empty: it cannot.
        finding: what is wrong; None: nothing.
        given_up: what is left alone, because this code has failed on these bytes as often as it may.
        outdated: its silver is of other code, which is no finding of this comparison, and this code may replace it.
    """

    after: str
    finding: Finding | None
    given_up: Finding | None = None
    outdated: bool = False


def look(
    transform: Transform,
    lake: Lake,
    *,
    changed: bool = False,
    after: str = "",
    settled: datetime | None = None,
    etag: Callable[[Head], str | None] = lambda head: head.etag,
    workers: int = 1,
    owner: Owner | None = None,
    dead: bool = False,
    note_outdated: bool = False,
) -> Iterator[Looked]:
    """Look at every key of a transform, once. Lazy; memory does not grow with the buckets.

    A file in quarantine is accounted for if its error document is about the same bytes and code. So is a file on which
    the code has failed as often as it may: another message would only be another one in the dead-letter queue.

    Args:
        transform: the transform.
        lake: the buckets.
        changed: find silver of other code and of other lookups too, and of an older schema than is recorded.
        after: resume where an earlier comparison stopped.
        settled: leave alone objects that landed at this time or later: their events may still be on their way.
        etag: gives the ETag of a listed bronze object, by default the listing's, which a folder works out from the
            file's bytes; None or an empty one: leave this key alone.
        workers: how many objects are headed at once. The stores must bear as many threads.
        owner: whose silver it should be; None: nobody minds.
        dead: find files on which the code has failed as often as it may, too.
        note_outdated: say of silver of other code that it is so, also where ``changed`` does not find it.

    Raises:
        NotOurs: all of the transform's silver is another pipeline's.
    """
    options: dict[str, Any] = {"changed": changed, "settled": settled, "etag": etag, "owner": owner, "dead": dead}
    comparison = comparison_of(transform, lake, note_outdated=note_outdated, **options)
    bronze = _bronze(transform, lake.bronze, after)
    silver = lake.silver.list(f"{transform.name}/", start_after=f"{transform.name}/{after}{ENDING}" if after else "")
    return map_in_threads(comparison.look, pairs(transform.name, bronze, silver), workers)


def comparison_of(
    transform: Transform,
    lake: Lake,
    *,
    changed: bool = False,
    settled: datetime | None = None,
    etag: Callable[[Head], str | None] = lambda head: head.etag,
    owner: Owner | None = None,
    dead: bool = False,
    note_outdated: bool = False,
) -> FileComparison:
    """The stores and settings of a transform's comparison. Arguments and errors are those of :func:`look`."""
    document = Schemas(lake.silver, transform.name).look().document if changed or owner is not None else None
    owners = None
    if owner is not None and document is not None:
        owner.require(document)
        owners = document.owners(owner.name)
    schema = document.of(transform.fingerprint).version if document is not None and changed else 0
    lookups = current_digest(lake.bronze, transform.lookups) if changed else None
    return FileComparison(transform, lake, changed, settled, etag, schema, lookups, owners, dead, note_outdated)


def _bronze(transform: Transform, store: Store, after: str) -> Iterator[Head]:
    """The objects that the transform wants, by their keys, without those that come before ``after`` in silver."""
    wants = transform.pattern.matches
    for key in overtaken(after):
        head = store.head(key) if wants(key) else None
        if head is not None:
            yield head
    for head in listed(store, transform.pattern, after=after):
        if wants(head.key) and (not after or head.key + ENDING > after + ENDING):
            yield head


def listed(store: Store, pattern: KeyPattern, after: str = "") -> Iterator[Head]:
    """The objects where keys that match a pattern may be, in the order of their keys."""
    return chain.from_iterable(store.list(prefix, start_after=after) for prefix in pattern.prefixes)


def before_since(transform: Transform, bronze: Head) -> Finding:
    """What is found of an object that landed before the time from which on the transform takes files."""
    name = silver_key(transform.name, bronze.key)
    return Finding(transform.name, bronze.key, Decision.BEFORE_SINCE, name, size=bronze.size, modified=bronze.modified)


def archived_in(listed: Head, bronze: Store) -> str:
    """The tier that an object of a listing must be restored from before it can be read; empty: none."""
    head = bronze.head(listed.key) if listed.archived else None
    return head.archived if head is not None else ""


@dataclass(frozen=True)
class FileComparison:
    """Compares one pair after the other. The fields are the arguments of :func:`look`, and what was read for it:

    ``schema`` is the version of the recorded schema that silver should have, ``lookups`` the digest of the lookups
    (None: they do not matter), ``owners`` are those whose silver may be replaced (None: anybody's).
    """

    transform: Transform
    lake: Lake
    changed: bool
    settled: datetime | None
    etag: Callable[[Head], str | None]
    schema: int
    lookups: str | None
    owners: Collection[str] | None
    dead: bool
    note_outdated: bool

    def look(self, pair: Pair) -> Looked:
        finding = self._orphan(pair) if pair.bronze is None else self._compare(pair, pair.bronze)
        after = pair.key if pair.is_paired else ""
        if finding is not None and finding.kind is Decision.OUTDATED and not self.changed:
            return Looked(after, None, outdated=not self._is_given_up(finding))
        if finding is not None and finding.kind is Decision.BEFORE_SINCE:
            return Looked(after, finding)
        if finding is not None and pair.bronze is not None and not self.dead and self._is_given_up(finding):
            return Looked(after, None, given_up=finding)
        return Looked(after, finding)

    def _compare(self, pair: Pair, bronze: Head) -> Finding | None:
        name = silver_key(self.transform.name, pair.key)
        if self.transform.pattern.passes_over(pair.key, bronze.size):
            return Finding(self.transform.name, pair.key, Decision.MARKER, name, size=bronze.size)
        is_settled = self.settled is None or bronze.modified < self.settled
        etag = self.etag(bronze) if is_settled else None
        if not etag:
            return None
        silver = self.lake.silver.head(name) if pair.silver is not None or not pair.is_paired else None
        lineage = Lineage.from_metadata(silver.metadata) if silver else None
        kind = decide(
            etag,
            lineage,
            self.transform.fingerprint,
            silver_exists=silver is not None,
            schema=self.schema,
            lookups=lineage.lookups if lineage is not None and self.lookups is None else self.lookups or "",
            owners=self.owners,
        )
        if kind is Decision.DUPLICATE or (kind is Decision.OUTDATED and not (self.changed or self.note_outdated)):
            return None
        if kind is not Decision.FOREIGN and self.transform.is_before_since(bronze.modified):
            return before_since(self.transform, bronze)
        if kind is not Decision.FOREIGN and self._document(error_key(self.transform.name, pair.key), etag) is not None:
            return None
        archived = archived_in(bronze, self.lake.bronze)
        return Finding(
            self.transform.name,
            pair.key,
            Decision.ARCHIVED if archived and kind is not Decision.FOREIGN else kind,
            name,
            etag,
            bronze.version or "",
            bronze.size,
            bronze.modified,
            archived,
        )

    def _is_given_up(self, finding: Finding) -> bool:
        """Whether this code has failed on these bytes as often as it may."""
        document = self._document(failed_key(self.transform.name, finding.key), finding.etag)
        return document is not None and document["dead"]

    def _document(self, key: str, etag: str) -> dict[str, Any] | None:
        """The document in quarantine, if it is about these bytes and this code, and about these lookups if they
        matter."""
        document = parse(self.lake.quarantine.read(key) or b"")
        if document is None or (document["bronze"]["etag"], document["fingerprint"]) != (
            etag,
            self.transform.fingerprint,
        ):
            return None
        return document if self.lookups is None or document["lookups"] == self.lookups else None

    def _orphan(self, pair: Pair) -> Finding | None:
        """A bronze object may have landed after its place in the listing was passed: so it is asked for."""
        assert pair.silver is not None
        key = pair.key if pair.is_paired else self._bronze_key(pair.silver)
        is_matched = key is not None and self.transform.pattern.matches(key)
        if key is None or (is_matched and self.lake.bronze.head(key) is not None):
            return None
        goes = is_matched and self.transform.removes and self._is_made_of(key, pair.silver)
        return Finding(self.transform.name, key, Decision.DELETED if goes else Decision.ORPHANED, pair.silver.key)

    def _is_made_of(self, key: str, silver: Head) -> bool:
        """Whether a silver object says that it was made of this bronze object, and for us."""
        head = self.lake.silver.head(silver.key)
        lineage = Lineage.from_metadata(head.metadata) if head else None
        if lineage is None or lineage.bronze_key != key:
            return False
        return self.owners is None or lineage.owner in self.owners

    def _bronze_key(self, silver: Head) -> str | None:
        """The bronze key of a silver object whose own key was cut short. None: it is no silver object."""
        head = self.lake.silver.head(silver.key)
        lineage = Lineage.from_metadata(head.metadata) if head else None
        if lineage is None or silver_key(self.transform.name, lineage.bronze_key) != silver.key:
            return None
        return lineage.bronze_key
