"""Small JSON documents that nothing but conditional puts changes: the recorded schema, failed tries, the lease."""

from __future__ import annotations

from dataclasses import dataclass

from silversmith.errors import PreconditionFailed
from silversmith.stores import Store


@dataclass(frozen=True)
class DocumentSnapshot:
    """A document as it was read; ``etag`` None: there was none, and ``body`` is empty."""

    key: str
    body: bytes = b""
    etag: str | None = None


def read_snapshot(store: Store, key: str) -> DocumentSnapshot:
    """The document as it is now: one request."""
    with store.open(key) as source:
        if source is None:
            return DocumentSnapshot(key)
        body = source.data if source.data is not None else b""  # a document that is too large for memory is not ours
        store.verify(source)
        return DocumentSnapshot(key, body, source.head.etag)


def replace_snapshot(store: Store, before: DocumentSnapshot, body: bytes) -> DocumentSnapshot:
    """Put ``body`` if the document is still what ``before`` says, and return what is there then.

    The SDK sends a request again when its answer is lost, and S3 then refuses the second one because the first one was
    done. So after a refusal the document is read back: if it is what was to be put, it was put.

    Raises:
        PreconditionFailed: another worker changed the document since it was read.
    """
    try:
        etag = store.put(before.key, body, if_match=before.etag, if_none_match=before.etag is None)
    except PreconditionFailed:
        now = read_snapshot(store, before.key)
        if now.etag is None or now.body != body:
            raise
        return now
    return DocumentSnapshot(before.key, body, etag)
