"""What buckets keep of the past: the versions of an object, found and deleted for good, in a folder and on S3; the
history of tables; and what a page keeps of uploads.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectVersions.html
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from silversmith.stores import Store, batched
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


# -- on S3

#: The most objects that one DeleteObjects takes. https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
BATCH = 1_000

#: So many keys are named in one query of logs.
MOST_NAMED = 20

_OBJECT, _MARKER, _UPLOAD = "object", "delete marker", "upload"


class _Listed(NamedTuple):
    key: str
    version: str
    kind: str
    is_latest: bool


class S3Versions:
    """All versions of the objects of a bucket on S3.

    Errors of S3's are :class:`~silversmith.errors.AccessDenied` and :class:`~silversmith.errors.AwsFailed`, but for a
    single version that cannot be deleted: Object Lock keeps it, or a policy does.
    """

    def __init__(self, bucket: str, client: Any) -> None:
        self.bucket = bucket
        self._client = client

    def _translated(self, key: str) -> AbstractContextManager[None]:
        from silversmith.stores.aws_errors import translate_aws_errors  # a lake needs no SDK

        return translate_aws_errors(f"s3://{self.bucket}/{key}")

    def of(self, key: str) -> list[StoredVersion]:
        with self._translated(key):
            versions = [
                StoredVersion(self.bucket, key, _id(each.version), each.kind)
                for each in self._list(key)
                if each.key == key
            ]
            return versions + [
                StoredVersion(self.bucket, key, upload, _UPLOAD) for name, upload in self._uploads(key) if name == key
            ]

    def delete(self, key: str) -> list[Undeleted]:
        """A delete marker hides the object first, so that no older version becomes the newest when the newest goes. It
        is deleted last, and stays where some version does."""
        with self._translated(key):
            versions = [each for each in self._list(key) if each.key == key]
            if any(each.is_latest and each.kind == _OBJECT for each in versions):
                self._client.delete_object(Bucket=self.bucket, Key=key)
                versions = [each for each in self._list(key) if each.key == key]
            reasons = self._delete(each for each in versions if each.kind == _OBJECT)
            listed = [each for each in self._list(key) if each.key == key]
            kept = [each for each in listed if each.kind == _OBJECT]
            left = [self._undeleted(each, reasons) for each in kept]
            hiding = [each for each in listed if each.kind == _MARKER and not (kept and each.is_latest)]
            reasons = self._delete(hiding)
            left += [self._undeleted(each, reasons) for each in hiding if each.key in reasons]
            for name, upload in self._uploads(key):
                if name == key:
                    self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
            return left

    def delete_noncurrent(self, prefix: str) -> list[Undeleted]:
        with self._translated(prefix):
            listed = self._list(prefix, whole_key=False)
            reasons = self._delete(each for each in listed if not each.is_latest or each.kind == _MARKER)
            return [Undeleted(self.bucket, key, "", reason) for key, reason in reasons.items()]

    def _list(self, prefix: str, *, whole_key: bool = True) -> Iterator[_Listed]:
        """``whole_key``: the key is the prefix. Such versions come first in the listing, and no others are listed."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            found = 0
            for kind, items in ((_OBJECT, page.get("Versions", ())), (_MARKER, page.get("DeleteMarkers", ()))):
                for item in items:
                    if not whole_key or item["Key"] == prefix:
                        found += 1
                        yield _Listed(item["Key"], item["VersionId"], kind, bool(item["IsLatest"]))
            if whole_key and not found:
                return

    def _delete(self, versions: Iterable[_Listed]) -> dict[str, str]:
        """Delete versions. Returns the reason for each key of which S3 did not delete one."""
        reasons: dict[str, str] = {}
        for some in batched(versions, BATCH):
            objects = [{"Key": each.key, "VersionId": each.version} for each in some]
            done = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
            for refused in done.get("Errors", ()):
                reasons[refused["Key"]] = f"{refused.get('Code', '')}: {refused.get('Message', '')}"
        return reasons

    def _undeleted(self, listed: _Listed, reasons: Mapping[str, str]) -> Undeleted:
        reason = reasons.get(listed.key, "it was put while others were deleted")
        where = {"Bucket": self.bucket, "Key": listed.key, "VersionId": listed.version}
        with suppress(self._client.exceptions.ClientError):  # who may delete may not always look
            head = self._client.head_object(**where)
            if until := head.get("ObjectLockRetainUntilDate"):
                reason += f" (Object Lock keeps it until {until.isoformat()}, in {head.get('ObjectLockMode')} mode)"
            if head.get("ObjectLockLegalHoldStatus") == "ON":
                reason += " (a legal hold of Object Lock keeps it)"
        return Undeleted(self.bucket, listed.key, _id(listed.version), reason)

    def _uploads(self, key: str) -> Sequence[tuple[str, str]]:
        """Uploads in parts that were not completed: their parts are kept."""
        answer = self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=key)
        return [(each["Key"], each["UploadId"]) for each in answer.get("Uploads", ())]


def _id(version: str) -> str:
    """The version that an object has which was put while the bucket kept none is called null."""
    return "" if version == "null" else version


# -- what cannot be erased from here


def log_groups(functions: Iterable[str], keys: Collection[str]) -> list[str]:
    """Where the logs of functions may name keys: CloudWatch deletes streams and groups, and no single line.
    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_Operations.html
    """
    said = " or ".join(f"@message like {json.dumps(key)}" for key in list(keys)[:MOST_NAMED])
    more = f" (and {len(keys) - MOST_NAMED:,} more keys)" if len(keys) > MOST_NAMED else ""
    return [
        f"CloudWatch log group /aws/lambda/{name}: no single line can be deleted; they go by the group's retention. "
        f"Find them with Logs Insights: fields @timestamp, @logStream, @message | filter {said}{more}"
        for name in functions
    ]


def replicas(bucket: str, client: Any) -> list[str]:
    """Where a bucket is replicated to: S3 never replicates the deletion of a version.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-what-is-isnot-replicated.html
    """
    try:
        rules = client.get_bucket_replication(Bucket=bucket)["ReplicationConfiguration"]["Rules"]
    except client.exceptions.ClientError:  # there is none, or nobody lets us see it
        return []
    places = sorted({str(rule.get("Destination", {}).get("Bucket", "")) for rule in rules} - {""})
    return [f"{place}: a replica of {bucket}; S3 does not replicate the deletion of versions" for place in places]


# -- gold


@dataclass(frozen=True)
class GoldFiles:
    """The files of gold. ``root`` and ``options`` are what Polars is told of them, as
    :class:`~silversmith.reconcile.rows.LineageRows` has it."""

    store: Store
    root: str
    options: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ErasedHistory:
    """A table whose history was erased. Versions before ``version`` cannot be read any more. ``data_files`` are those
    that were deleted, ``log_files`` counts what the log let go of."""

    table: str
    version: int
    data_files: Sequence[str] = field(default_factory=tuple)
    log_files: int = 0


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
