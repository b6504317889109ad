"""The schema document beside silver: read once a batch, changed by conditional puts alone, owned by one pipeline.

docs/decisions/0111-silver-has-an-owner.md
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from silversmith.errors import NotOurs
from silversmith.lineage import Lineage
from silversmith.schemas.document import Document, schema_key
from silversmith.stores import Head, Store

#: The ending of the error documents in quarantine.
_ERROR = ".error.json"

#: How many objects are looked at for the maker of a folder.
_LOOKED_AT = 3


class Named(Protocol):
    """A transform, as far as it matters here."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Owner:
    """For whom silver is written: ``name`` is the stack's, or locally the pipeline's. ``silver`` and ``quarantine`` are
    the names of its buckets."""

    name: str
    silver: str
    quarantine: str

    @staticmethod
    def of(environment: Mapping[str, str]) -> Owner | None:
        """Who a function works for, by the environment that the template sets; None where it does not say."""
        name = environment.get("SILVERSMITH_STACK", "")
        if not name:
            return None
        return Owner(name, environment["SILVERSMITH_SILVER"], environment["SILVERSMITH_QUARANTINE"])

    def refusal(self, transform: str, other: str, bucket: str, key: str) -> NotOurs:
        """The error that says whose an object is, and what can be done."""
        return NotOurs(
            f"{bucket}/{key} belongs to the pipeline {other}, and this is {self.name}: it is left as it is. Both have "
            f"a transform {transform}. Rename one of the transforms, or give one of the pipelines another bucket. If "
            f"{other} is gone, or became {self.name}, take its silver over: `silversmith take-over`"
        )

    def require(self, document: Document) -> None:
        """
        Raises:
            NotOurs: a transform's silver is another's.
        """
        if document.owner not in {"", self.name}:
            raise self.refusal(document.transform, document.owner, self.silver, schema_key(document.transform))


def owner_of_objects(store: Store, transform: str) -> tuple[str, str]:
    """Who made the first objects of a transform in silver or in quarantine, and the key of one of his; empty: nobody
    said."""
    for listed in islice(store.list(f"{transform}/"), _LOOKED_AT):
        head = store.head(listed.key)  # a listing tells no metadata
        owner = object_owner(store, head) if head is not None else ""
        if owner:
            return owner, listed.key
    return "", ""


def object_owner(store: Store, head: Head) -> str:
    """Who made an object in silver or quarantine that was headed; empty where it does not say. An error document is
    read for it."""
    if head.key.endswith(_ERROR):
        return document_owner(store.read(head.key) or b"")
    lineage = Lineage.from_metadata(head.metadata)
    return lineage.owner if lineage is not None else ""


def document_owner(body: bytes) -> str:
    """Who wrote an error document; empty where it does not say."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    owner = content.get("owner") if isinstance(content, dict) else None
    return owner if isinstance(owner, str) else ""


def read_document(silver: Store, transform: str) -> tuple[Document, str | None]:
    """What is recorded of a transform's silver, and the etag of that; None where nothing is."""
    key = schema_key(transform)
    head = silver.head(key)
    body = silver.read(key) if head is not None else None
    if head is None or body is None:
        return Document(transform), None
    return Document.from_json(transform, body), head.etag


def others(silver: Store | None, quarantine: Store | None, transform: str, owner: Owner) -> dict[str, tuple[str, str]]:
    """Who else has a transform's silver or quarantine: names, each with the bucket and the key of what says so. None
    for a bucket that is not there."""
    document = read_document(silver, transform)[0] if silver is not None else Document(transform)
    found: dict[str, tuple[str, str]] = {}
    if document.owner:
        found[document.owner] = owner.silver, schema_key(transform)
    elif silver is not None:
        maker, key = owner_of_objects(silver, transform)
        found[maker] = owner.silver, key
    if quarantine is not None:
        maker, key = owner_of_objects(quarantine, transform)
        found.setdefault(maker, (owner.quarantine, key))
    return {maker: place for maker, place in found.items() if maker not in {"", owner.name, *document.former}}


def require_ours(owner: Owner, silver: Store | None, quarantine: Store | None, transforms: Iterable[Named]) -> None:
    """None for a bucket that is not there.

    Raises:
        NotOurs: another pipeline has the silver or the quarantine of one of these transforms.
        AccessDenied, OSError: that cannot be seen.
    """
    for transform in transforms:
        for other, (bucket, key) in others(silver, quarantine, transform.name, owner).items():
            raise owner.refusal(transform.name, other, bucket, key)


def take_over(silver: Store, quarantine: Store | None, transform: str, owner: Owner) -> tuple[str, ...]:
    """Make a transform's silver and quarantine the owner's, whoever has it. Returns from whom it was taken.

    Raises:
        PreconditionFailed: somebody else recorded something at this moment: try again.
    """
    taken = tuple(others(silver, quarantine, transform, owner))
    document, etag = read_document(silver, transform)
    former = tuple(dict.fromkeys(name for name in (*document.former, document.owner, *taken) if name))
    former = tuple(name for name in former if name != owner.name)
    if taken:
        body = replace(document, owner=owner.name, former=former).to_json()
        silver.put(schema_key(transform), body, if_match=etag, if_none_match=etag is None)
    return taken


@dataclass(frozen=True)
class Known:
    """The document as it was when it was looked at; ``etag`` None: there was none."""

    document: Document
    etag: str | None


@dataclass(frozen=True)
class Change:
    """What a file makes of what was known."""

    known: Known
    document: Document


class Schemas:
    """What is recorded of one transform's silver. Threads may share one.

    Args:
        silver: the bucket.
        transform: its name.
        owner: for whom silver is written; None: nothing is written, or nobody minds whose it is.
    """

    def __init__(self, silver: Store, transform: str, owner: Owner | None = None) -> None:
        self.owner = owner
        self._silver = silver
        self._transform = transform
        self._key = schema_key(transform)
        self._known: Known | None = None
        self._is_fresh = False
        self._lock = threading.Lock()

    def look_again(self) -> None:
        """Have the next look ask the bucket whether what is known is still so."""
        self._is_fresh = False

    def look(self) -> Known:
        """What is recorded. At most one request, or two where it is another than before."""
        with self._lock:
            if self._known is None or not self._is_fresh:
                self._known = self._asked()
                self._is_fresh = True
            return self._known

    def own(self) -> None:
        """Be sure that the transform's silver is the owner's. Silver that is nobody's yet becomes his, for all keys by
        one conditional put. Asks the bucket no more than :meth:`look`.

        Raises:
            NotOurs: it is another's.
            PreconditionFailed: somebody else recorded something at this moment: look again.
        """
        if self.owner is None:
            return
        known = self.look()
        document = known.document
        if document.owner == self.owner.name:
            return
        if document.owner:
            raise self.owner.refusal(self._transform, document.owner, self.owner.silver, self._key)
        other, key = owner_of_objects(self._silver, self._transform)
        if other not in document.owners(self.owner.name):
            raise self.owner.refusal(self._transform, other, self.owner.silver, key)
        self.record(Change(known, replace(document, owner=self.owner.name)))

    def _asked(self) -> Known:
        head = self._silver.head(self._key)
        if self._known is not None and (head.etag if head else None) == self._known.etag:
            return self._known
        body = self._silver.read(self._key) if head is not None else None
        if head is None or body is None:
            return Known(Document(self._transform), None)
        # what was read may be newer than its etag says; a put that relies on this etag then fails, which is safe
        return Known(Document.from_json(self._transform, body), head.etag)

    def record(self, change: Change) -> None:
        """Record a change, durably. It must be before what has the new schema is put.

        Raises:
            PreconditionFailed: another was recorded since; what is known now will be looked at again.
        """
        body, before = change.document.to_json(), change.known.etag
        with self._lock:
            self._is_fresh = False
            etag = self._silver.put(self._key, body, if_match=before, if_none_match=before is None)
            self._known, self._is_fresh = Known(change.document, etag), True
