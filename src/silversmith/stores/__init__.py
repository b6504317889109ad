"""Storage of objects: one small protocol over a folder (local.py) and over S3 (s3.py)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Protocol, TypedDict, TypeVar

from silversmith.errors import PreconditionFailed

#: Objects up to this many bytes are handed to readers as bytes, larger ones as a file.
IN_MEMORY = 8 * 1024 * 1024


@dataclass(frozen=True)
class Head:
    """The answer to a HEAD request. ``etag`` has no quotes; ``size`` is in bytes; ``modified`` is in UTC.

    ``metadata`` is the user metadata (S3's ``x-amz-meta-*``), its names in lower case. A listing leaves it empty.
    ``archived`` is the tier from which the object must be restored before it can be read, or empty; in a listing, the
    storage class of an object that may have to be.
    """

    key: str
    etag: str
    size: int
    modified: datetime
    version: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    archived: str = ""


@dataclass(frozen=True)
class Source:
    """One version of an object, open for reading: ``data`` if it is small, else ``path``; never both.

    After reading it, call the store's :meth:`Store.verify` before trusting the result.
    """

    head: Head
    data: bytes | None
    path: Path | None


class Condition(TypedDict):
    """Under which an object is written, as :meth:`Store.put` has it."""

    if_match: str | None
    if_none_match: bool


def unchanged_since(head: Head | None) -> Condition:
    """The condition that the object is still the one that was headed, or that there still is none."""
    return {"if_match": head.etag if head is not None else None, "if_none_match": head is None}


@dataclass(frozen=True)
class Put:
    """An object to be written, as :meth:`Store.put` has it."""

    key: str
    body: bytes | Path
    metadata: Mapping[str, str] | None = None
    if_match: str | None = None
    if_none_match: bool = False


class Store(Protocol):
    """A bucket. Keys are S3's: any unicode text of 1 to 1,024 bytes in UTF-8.

    Every method may raise :class:`~silversmith.errors.AccessDenied`, and ``OSError`` (or the SDK's error) when the
    system is at fault.
    """

    def head(self, key: str) -> Head | None:
        """The newest version's head, or None where there is no such object."""

    def open(self, key: str) -> AbstractContextManager[Source | None]:
        """The newest version, to read: etag and bytes belong together. None where there is no such object."""

    def verify(self, source: Source) -> None:
        """Raise :class:`~silversmith.errors.SourceChanged` if the bytes behind ``source`` may have changed since."""

    def read(self, key: str) -> bytes | None:
        """All bytes of a small object (an error document), or None where there is no such object."""

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        """Write an object, durably and all at once, and return its new etag.

        ``if_match``: only if the object's etag is this one. ``if_none_match``: only if there is no such object
        (``If-None-Match: *``). Otherwise raises :class:`~silversmith.errors.PreconditionFailed`. ``body`` as a path
        may be moved away rather than copied.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """

    def put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        """As :meth:`put`, for several objects: the ETag of each, or its error. A folder as a bucket makes them durable
        together, for the price of about one."""

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Delete the object; nothing happens where there is none. ``if_match`` as in :meth:`put`."""

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        """The objects whose key begins with ``prefix``, in the order of their keys' UTF-8 bytes, after ``start_after``.

        Streams: memory does not grow with the bucket.
        """


def one_by_one(store: Store, puts: Sequence[Put]) -> list[str | Exception]:
    """:meth:`Store.put_all` for a store that has no request for several objects."""
    answers: list[str | Exception] = []
    for put in puts:
        conditions = {"if_match": put.if_match, "if_none_match": put.if_none_match}
        try:
            answers.append(store.put(put.key, put.body, metadata=put.metadata, **conditions))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 -- it is this object's, and the others go on
            answers.append(error)
    return answers


@dataclass(frozen=True)
class Lake:
    """The three buckets of a pipeline."""

    bronze: Store
    silver: Store
    quarantine: Store


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int) -> Iterator[_Result]:
    """``map`` with so many threads, which takes only a few items for each of them in advance. One worker: no thread."""
    if workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="map")
    submitted: deque[Future[_Result]] = deque()
    try:
        for item in items:
            submitted.append(pool.submit(function, item))
            if len(submitted) >= 4 * workers:
                yield submitted.popleft().result()
        while submitted:
            yield submitted.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batched(items: Iterable[_Item], most: int) -> Iterator[list[_Item]]:
    """The items in lists of ``most``, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, most)):
        yield batch


# Small JSON documents that nothing but conditional puts changes: the recorded schema, failed tries, the lease.


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
