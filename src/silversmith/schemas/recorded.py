"""The schema document beside silver: read once a batch, changed by conditional puts alone, owned by one pipeline.

docs/decisions/0111-silver-has-an-owner.md
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from silversmith.errors import NotOurs
from silversmith.lineage import Lineage
from silversmith.schemas.document import Document, dtype_text, schema_key
from silversmith.stores import DocumentSnapshot, Head, Store, read_snapshot, replace_snapshot

#: The endings of the documents in quarantine. They name their owner in their text, other objects in their lineage.
_DOCUMENTS = (".error.json", ".failed.json")

#: How many objects are looked at for the owner of a folder.
_LOOKED_AT = 3


@dataclass(frozen=True)
class Owner:
    """For whom silver is written: ``name`` is the stack's, or locally the pipeline's. ``silver`` and ``quarantine`` are
    the names of its buckets."""

    name: str
    silver: str
    quarantine: str

    @staticmethod
    def of(environment: Mapping[str, str]) -> Owner | None:
        """The owner that a function works for, by the environment that the template sets; None: it names none."""
        name = environment.get("SILVERSMITH_STACK", "")
        if not name:
            return None
        return Owner(name, environment["SILVERSMITH_SILVER"], environment["SILVERSMITH_QUARANTINE"])

    def refusal(self, transform: str, owner_name: str, bucket: str, key: str) -> NotOurs:
        """The error that says whose an object is, and what can be done."""
        return NotOurs(
            f"{bucket}/{key} belongs to the pipeline {owner_name}, and this is {self.name}: it is left as it is. Both "
            f"have a transform {transform}. Rename one of the transforms, or give one of the pipelines another bucket. "
            f"If {owner_name} is gone, or became {self.name}, take its silver over: `silversmith take-over`"
        )

    def require(self, document: Document) -> None:
        """
        Raises:
            NotOurs: a transform's silver is another's.
        """
        if document.owner not in {"", self.name}:
            raise self.refusal(document.transform, document.owner, self.silver, schema_key(document.transform))


def recorded_transforms(silver: Store) -> Iterator[str]:
    """The names of the transforms of which something is recorded, also of those whose silver is deleted."""
    for head in silver.list("_schemas/"):
        name = head.key.removeprefix("_schemas/").removesuffix(".json")
        if "/" not in name and schema_key(name) == head.key:
            yield name


def owner_of_objects(store: Store, transform: str) -> tuple[str, str]:
    """The owner of the first objects of a transform in silver or in quarantine, and the key of one of them; empty if
    none of them names an owner."""
    for listed in islice(store.list(f"{transform}/"), _LOOKED_AT):
        head = store.head(listed.key)  # a listing has no metadata
        owner = object_owner(store, head) if head is not None else ""
        if owner:
            return owner, listed.key
    return "", ""


def object_owner(store: Store, head: Head) -> str:
    """The owner of an object in silver or quarantine; empty if it names none. A document is read for it."""
    if head.key.endswith(_DOCUMENTS):
        return document_owner(store.read(head.key) or b"")
    lineage = Lineage.from_metadata(head.metadata)
    return lineage.owner if lineage is not None else ""


def document_owner(body: bytes) -> str:
    """The owner of a document in quarantine; empty if it names none."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    owner = content.get("owner") if isinstance(content, dict) else None
    return owner if isinstance(owner, str) else ""


@dataclass(frozen=True)
class Recorded:
    """The record of a transform's silver, and the object in silver that says so."""

    document: Document
    snapshot: DocumentSnapshot

    @staticmethod
    def read(silver: Store, transform: str) -> Recorded:
        """As it is now: one request."""
        snapshot = read_snapshot(silver, schema_key(transform))
        if snapshot.etag is None:
            return Recorded(Document(transform), snapshot)
        return Recorded(Document.from_json(transform, snapshot.body), snapshot)

    def replaced(self, silver: Store, document: Document) -> Recorded:
        """Record another document, durably.

        Raises:
            PreconditionFailed: another worker recorded something since this was read.
        """
        return Recorded(document, replace_snapshot(silver, self.snapshot, document.to_json()))


def others(silver: Store | None, quarantine: Store | None, transform: str, owner: Owner) -> dict[str, tuple[str, str]]:
    """The other pipelines that own a transform's silver or quarantine: names, each with the bucket and the key that say
    so. None for a bucket that does not exist."""
    document = Recorded.read(silver, transform).document if silver is not None else Document(transform)
    places: dict[str, tuple[str, str]] = {}
    if document.owner:
        places[document.owner] = owner.silver, schema_key(transform)
    elif silver is not None:
        name, key = owner_of_objects(silver, transform)
        places[name] = owner.silver, key
    if quarantine is not None:
        name, key = owner_of_objects(quarantine, transform)
        places.setdefault(name, (owner.quarantine, key))
    return {name: place for name, place in places.items() if name not in {"", owner.name, *document.former}}


def require_ours(owner: Owner, silver: Store | None, quarantine: Store | None, transforms: Iterable[str]) -> None:
    """Require the owner of the silver and quarantine of the transforms of these names. A bucket is None if it does not
    exist.

    Raises:
        NotOurs: another pipeline has the silver or the quarantine of one of these transforms.
        AccessDenied, OSError: that cannot be seen.
    """
    for transform in transforms:
        for owner_name, (bucket, key) in others(silver, quarantine, transform, owner).items():
            raise owner.refusal(transform, owner_name, bucket, key)


def take_over(silver: Store, quarantine: Store | None, transform: str, owner: Owner) -> tuple[str, ...]:
    """Make a transform's silver and quarantine the owner's, whoever has it. Returns the names of those who had it.

    Raises:
        PreconditionFailed: another worker recorded something at this moment: try again.
    """
    owners = tuple(others(silver, quarantine, transform, owner))
    recorded = Recorded.read(silver, transform)
    document = recorded.document
    former = dict.fromkeys(name for name in (*document.former, document.owner, *owners) if name not in {"", owner.name})
    if owners:
        recorded.replaced(silver, replace(document, owner=owner.name, former=tuple(former)))
    return owners


class Schemas:
    """The record of one transform's silver, looked at once in a batch. Threads may share one.

    Args:
        silver: the bucket.
        transform: its name.
        owner: for whom silver is written; None: nothing is written, or nobody minds whose it is.
    """

    def __init__(self, silver: Store, transform: str, owner: Owner | None = None) -> None:
        self.owner = owner
        self._silver = silver
        self._transform = transform
        self._recorded: Recorded | None = None
        self._is_fresh = False
        self._lock = threading.Lock()

    def look_again(self) -> None:
        """Have the next look ask the bucket whether what is known is still so."""
        self._is_fresh = False

    def look(self) -> Recorded:
        """The record. At most one request, or two if it changed."""
        with self._lock:
            recorded = self._recorded
            if recorded is None or not self._is_fresh:
                head = self._silver.head(schema_key(self._transform)) if recorded is not None else None
                if recorded is None or (head.etag if head else None) != recorded.snapshot.etag:
                    recorded = self._recorded = Recorded.read(self._silver, self._transform)
                self._is_fresh = True
            return recorded

    def columns(self, code: str) -> dict[str, str]:
        """The types of the columns that a code gives silver, as texts, as they are recorded now."""
        self.look_again()
        return {name: dtype_text(kind) for name, kind in self.look().document.of(code).columns.items()}

    def own(self) -> None:
        """Be sure that the transform's silver is the owner's. Silver that nobody owns yet becomes the owner's, for all
        keys by one conditional put. Asks the bucket no more than :meth:`look`.

        Raises:
            NotOurs: another pipeline owns it.
            PreconditionFailed: another worker recorded something at this moment: look again.
        """
        if self.owner is None:
            return
        recorded = self.look()
        document = recorded.document
        if document.owner == self.owner.name:
            return
        key = schema_key(self._transform)
        if document.owner:
            raise self.owner.refusal(self._transform, document.owner, self.owner.silver, key)
        owner_name, key = owner_of_objects(self._silver, self._transform)
        if owner_name not in document.owners(self.owner.name):
            raise self.owner.refusal(self._transform, owner_name, self.owner.silver, key)
        self.record(recorded, replace(document, owner=self.owner.name))

    def record(self, recorded: Recorded, document: Document) -> None:
        """Record a document in the place of the one that was looked at, durably. A changed schema must be recorded
        before an object that has it is put.

        Raises:
            PreconditionFailed: another worker recorded something since; the next look asks the bucket.
        """
        with self._lock:
            self._is_fresh = False
            self._recorded = recorded.replaced(self._silver, document)
            self._is_fresh = True
