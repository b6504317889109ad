"""Compare bronze with the lineage of silver, key by key: missing, stale, outdated, orphaned or foreign."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from silversmith.events import ObjectEvent
from silversmith.function.retries import parse
from silversmith.lineage import Decision, Lineage, decide, error_key, failed_key, silver_key
from silversmith.pipeline import Transform
from silversmith.pipeline.lookups import current_digest
from silversmith.schemas import Owner, Schemas
from silversmith.stores import Head, Lake, Store, mapped

ENDING = ".parquet"

#: How lineage.py ends a silver key that it had to cut short.
_CUT = re.compile(r"~[0-9a-f]{64}\.parquet\Z")


class Pair(NamedTuple):
    """A bronze object and the silver object of its name; one of them may be None.

    ``key`` is the bronze key. ``paired`` False: the listings cannot tell whether there is the other one; for a silver
    object the bronze key is not known either, and empty.
    """

    key: str
    bronze: Head | None
    silver: Head | None
    paired: bool = True


def pairs(transform: str, bronze: Iterable[Head], silver: Iterable[Head]) -> Iterator[Pair]:
    """Every object of both listings, once, in the order of the silver keys (but for those that are not paired).

    Args:
        transform: whose silver it is.
        bronze: the bronze objects that the transform wants, in the order of their keys.
        silver: what there is below ``{transform}/`` in silver, in the order of its keys. What cannot be the silver
            object of anything is left out.
    """
    left, right = _in_silver_order(transform, bronze), _named(transform, silver)
    here, there = next(left, None), next(right, None)
    while here is not None or there is not None:
        if here is not None and not here.paired:
            yield here
            here = next(left, None)
        elif there is not None and not there.paired:
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
    """What is held back is a chain, each the beginning of the next; the last one is the first in silver."""
    held: list[Pair] = []
    for head in bronze:
        key = head.key
        if _CUT.search(silver_key(transform, key)):
            yield Pair(key, head, None, paired=False)
            continue
        while held and not _comes_before(key, held[-1].key):
            yield held.pop()
        held.append(Pair(key, head, None))
    while held:
        yield held.pop()


def _comes_before(later: str, earlier: str) -> bool:
    """Whether a later key of bronze is an earlier one of silver. If not, then none that follows it is either."""
    return later.startswith(earlier) and later + ENDING < earlier + ENDING


def _named(transform: str, silver: Iterable[Head]) -> Iterator[Pair]:
    for head in silver:
        name = head.key.removeprefix(f"{transform}/")
        if _CUT.search(name):
            yield Pair("", None, head, paired=False)
        elif name.endswith(ENDING) and name != ENDING:
            yield Pair(name.removesuffix(ENDING), None, head)


@dataclass(frozen=True)
class Finding:
    """One key of one transform that is not as it should be.

    ``kind`` is MISSING, STALE, OUTDATED, or ORPHANED: silver of a bronze object that is gone, or whose key the
    transform's pattern does not match any more; or FOREIGN: another pipeline made its silver. ``key`` is the bronze
    key, ``silver`` the silver key. ``etag``, ``version`` and ``size`` (bytes) are the bronze object's, as far as they
    are known.
    """

    transform: str
    key: str
    kind: Decision
    silver: str
    etag: str = ""
    version: str = ""
    size: int | None = None
    modified: datetime | None = None

    @property
    def is_to_be_sent(self) -> bool:
        """Whether the transform can mend it."""
        return self.kind not in {Decision.ORPHANED, Decision.FOREIGN}

    def event(self, bucket: str) -> ObjectEvent:
        """The event that S3 would have sent of the bronze object."""
        return ObjectEvent(bucket, self.key, etag=self.etag, version=self.version, size=self.size)


@dataclass(frozen=True)
class Looked:
    """One key was looked at. ``after``: the look can be taken up again here; empty where it cannot. ``given_up``: what
    is left alone, because this code has failed on these bytes as often as it may."""

    after: str
    finding: Finding | None
    given_up: Finding | None = None


def listed_etag(head: Head) -> str:
    """The etag that the listing told. A folder works it out from the file's bytes when it is asked."""
    return head.etag


def look(
    transform: Transform,
    lake: Lake,
    *,
    changed: bool = False,
    after: str = "",
    settled: datetime | None = None,
    etag: Callable[[Head], str | None] = listed_etag,
    workers: int = 1,
    owner: Owner | None = None,
    dead: bool = False,
) -> Iterator[Looked]:
    """Look at every key of a transform, once. Lazy; memory does not grow with the buckets.

    What is in quarantine counts as accounted for where its error document speaks of the same bytes and code. So does
    what the code has failed on as often as it may: another message would only be another one in the dead-letter queue.

    Args:
        transform: which one.
        lake: the buckets.
        changed: find silver of other code and of other lookups too, and of an older schema than is recorded.
        after: go on where an earlier look said that it can be taken up again.
        settled: leave alone what landed at this time or later: its event may still be on its way.
        etag: what tells the etag of a listed bronze object; None or an empty one: leave this key alone.
        workers: how many objects are headed at once. The stores must bear as many threads.
        owner: whose silver it should be; None: nobody minds.
        dead: find what the code has failed on as often as it may, too.

    Raises:
        NotOurs: all of the transform's silver is another pipeline's.
    """
    document = Schemas(lake.silver, transform.name).look().document if changed or owner is not None else None
    recorded = document.of(transform.fingerprint) if document is not None and changed else None
    owners = None
    if owner is not None and document is not None:
        owner.require(document)
        owners = document.owners(owner.name)
    lookups = current_digest(lake.bronze, transform.lookups) if changed else None
    eye = _Eye(transform, lake, changed, settled, etag, recorded.version if recorded else 0, lookups, owners, dead)
    bronze = _bronze(transform, lake.bronze, after)
    silver = lake.silver.list(f"{transform.name}/", start_after=f"{transform.name}/{after}{ENDING}" if after else "")
    return mapped(eye.look, pairs(transform.name, bronze, silver), workers)


def _bronze(transform: Transform, store: Store, after: str) -> Iterator[Head]:
    """What the transform wants, in the order of keys, without what came before ``after`` in the order of silver."""
    wants = transform.pattern.matches
    for key in overtaken(after):
        head = store.head(key) if wants(key) else None
        if head is not None:
            yield head
    for head in store.list(transform.pattern.literal_prefix, start_after=after):
        if wants(head.key) and (not after or head.key + ENDING > after + ENDING):
            yield head


@dataclass(frozen=True)
class _Eye:
    """What looks at one pair; see :func:`look`."""

    transform: Transform
    lake: Lake
    changed: bool
    settled: datetime | None
    etag: Callable[[Head], str | None]
    schema: int
    lookups: str | None
    owners: Collection[str] | None
    dead: bool

    def look(self, pair: Pair) -> Looked:
        finding = self._orphan(pair) if pair.bronze is None else self._compare(pair, pair.bronze)
        after = pair.key if pair.paired else ""
        if finding is not None and pair.bronze is not None and not self.dead and self._is_given_up(finding):
            return Looked(after, None, given_up=finding)
        return Looked(after, finding)

    def _compare(self, pair: Pair, bronze: Head) -> Finding | None:
        if self.settled is not None and bronze.modified >= self.settled:
            return None
        etag = self.etag(bronze)
        if not etag:
            return None
        name = silver_key(self.transform.name, pair.key)
        silver = self.lake.silver.head(name) if pair.silver is not None or not pair.paired else None
        lineage = Lineage.from_metadata(silver.metadata) if silver else None
        exists = silver is not None
        found = lineage.lookups if lineage is not None and self.lookups is None else self.lookups or ""
        kind = decide(
            etag,
            lineage,
            self.transform.fingerprint,
            silver_exists=exists,
            schema=self.schema,
            lookups=found,
            owners=self.owners,
        )
        if kind is Decision.DUPLICATE or (kind is Decision.OUTDATED and not self.changed):
            return None
        if kind is not Decision.FOREIGN and self._is_quarantined(pair.key, etag):
            return None
        return Finding(
            self.transform.name, pair.key, kind, name, etag, bronze.version or "", bronze.size, bronze.modified
        )

    def _is_quarantined(self, key: str, etag: str) -> bool:
        """Whether an error document says that this code can make no silver of these bytes."""
        body = self.lake.quarantine.read(error_key(self.transform.name, key))
        return body is not None and self._is_about(body, etag)

    def _is_given_up(self, finding: Finding) -> bool:
        """Whether this code has failed on these bytes as often as it may."""
        body = self.lake.quarantine.read(failed_key(self.transform.name, finding.key))
        document = parse(body) if body is not None else None
        return body is not None and document is not None and document["dead"] and self._is_about(body, finding.etag)

    def _is_about(self, document: bytes, etag: str) -> bool:
        """Whether a document in quarantine speaks of these bytes and this code, and of these lookups if they matter."""
        if speaks_of(document) != (etag, self.transform.fingerprint):
            return False
        return self.lookups is None or lookups_of(document) == self.lookups

    def _orphan(self, pair: Pair) -> Finding | None:
        """A bronze object may have landed after its place in the listing was passed: so it is asked for."""
        assert pair.silver is not None
        key = pair.key if pair.paired else self._origin(pair.silver)
        if key is None or (self.transform.pattern.matches(key) and self.lake.bronze.head(key) is not None):
            return None
        return Finding(self.transform.name, key, Decision.ORPHANED, pair.silver.key)

    def _origin(self, silver: Head) -> str | None:
        """The bronze key of a silver object whose own key does not tell it. None: it is no silver object."""
        head = self.lake.silver.head(silver.key)
        lineage = Lineage.from_metadata(head.metadata) if head else None
        if lineage is None or silver_key(self.transform.name, lineage.bronze_key) != silver.key:
            return None
        return lineage.bronze_key


def speaks_of(document: bytes) -> tuple[str, str]:
    """The bronze etag and the fingerprint of the code that an error document is about; empty where it does not say."""
    try:
        found = orjson.loads(document)
    except orjson.JSONDecodeError:
        return "", ""
    bronze = found.get("bronze") if isinstance(found, dict) else None
    if not isinstance(bronze, dict):
        return "", ""
    return _text(bronze.get("etag")), _text(found.get("fingerprint"))


def lookups_of(document: bytes) -> str:
    """The digest of the lookups that an error document was made with; empty where there were none."""
    try:
        found = orjson.loads(document)
    except orjson.JSONDecodeError:
        return ""
    return _text(found.get("lookups")) if isinstance(found, dict) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
