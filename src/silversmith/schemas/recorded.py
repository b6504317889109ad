"""Where schemas are recorded: one small object beside silver, changed by conditional puts alone.

It is read once in a batch, and written only when a file changes it. Any number of workers may do so at once: who is too
late looks again, and mostly finds that there is nothing left to record.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from silversmith.schemas.document import Document, schema_key
from silversmith.schemas.ownership import Owner, owner_of_objects
from silversmith.stores import Store


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
