"""The versions of an object in a bucket, found and deleted for good: in a folder, and the protocol for S3."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from silversmith.stores.local import LocalStore


@dataclass(frozen=True)
class StoredVersion:
    """One version of an object. ``version`` is its id, empty where the bucket keeps no versions. ``kind`` is
    ``object``, ``delete marker``, or ``upload``: one that was begun and not completed, with the parts that it has."""

    bucket: str
    key: str
    version: str = ""
    kind: str = "object"


@dataclass(frozen=True)
class Undeleted:
    """Something that could not be deleted, and the reason."""

    place: str
    key: str
    version: str
    reason: str


class Versions(Protocol):
    """All versions of the objects of one bucket."""

    @property
    def bucket(self) -> str:
        """The bucket's name."""

    def of(self, key: str) -> list[StoredVersion]:
        """All versions of one object, delete markers and unfinished uploads among them."""

    def delete(self, key: str) -> list[Undeleted]:
        """Delete all versions of one object. At no moment does an older one become the newest."""

    def delete_noncurrent(self, prefix: str) -> list[Undeleted]:
        """Delete, of all keys that begin with ``prefix``, the versions that are not the newest, and delete markers."""


class LocalVersions:
    """A folder keeps no versions but the newest."""

    def __init__(self, bucket: str, store: LocalStore) -> None:
        self.bucket = bucket
        self._store = store

    def of(self, key: str) -> list[StoredVersion]:
        return [StoredVersion(self.bucket, key)] if self._store.glance(key) is not None else []

    def delete(self, key: str) -> list[Undeleted]:
        try:
            self._store.delete(key)
        except OSError as error:
            return [Undeleted(self.bucket, key, "", str(error.strerror or error))]
        return []

    def delete_noncurrent(self, prefix: str) -> list[Undeleted]:
        del prefix
        return []


# -- what a page keeps of uploads, to undo them

#: How the temporary folders begin in which pages keep what uploads replaced.
UNDO_FOLDER = "silversmith-undo-"


def undo_name(key: str, number: int) -> str:
    """The name of the file with the bytes that an upload of this key replaced."""
    return f"{hashlib.sha256(key.encode()).hexdigest()}-{number}"


def undo_copies(keys: Collection[str], folder: Path | None = None) -> Iterator[Path]:
    """The files of pages on this machine with what uploads of these keys replaced."""
    for each in sorted((folder or Path(tempfile.gettempdir())).glob(f"{UNDO_FOLDER}*")):
        for key in keys:
            yield from each.glob(f"{hashlib.sha256(key.encode()).hexdigest()}-*")
