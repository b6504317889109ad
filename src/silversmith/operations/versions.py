"""What buckets and tables keep of the past: the versions of an object, found and deleted for good, in a folder and on
S3; the history of tables; and what a page keeps of uploads.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectVersions.html
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from silversmith import faults
from silversmith.stores import Head, Store, batched
from silversmith.stores.local import LocalStore
from silversmith.tables.spec import FILE

if TYPE_CHECKING:
    from silversmith.tables.delta import DeltaFormat, DeltaSnapshot


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


class LocalVersions:
    """The newest versions of the objects of a folder, which keeps no others."""

    def __init__(self, bucket: str, store: LocalStore) -> None:
        self.bucket = bucket
        self._store = store

    def of(self, key: str) -> list[StoredVersion]:
        """The object, if it is there."""
        return [StoredVersion(self.bucket, key)] if self._store.glance(key) is not None else []

    def delete(self, key: str) -> list[Undeleted]:
        """Delete the object."""
        try:
            self._store.delete(key)
        except OSError as error:
            return [Undeleted(self.bucket, key, "", str(error.strerror or error))]
        return []

    def delete_noncurrent(self, prefix: str) -> list[Undeleted]:
        """Nothing: there are none."""
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
        """All versions of one object, delete markers and unfinished uploads among them."""
        with self._translated(key):
            versions = [StoredVersion(self.bucket, key, _id(each.version), each.kind) for each in self._list(key)]
            return versions + [StoredVersion(self.bucket, key, upload, _UPLOAD) for upload in self._uploads(key)]

    def delete(self, key: str) -> list[Undeleted]:
        """Delete all versions of one object. At no moment does an older one become the newest.

        A delete marker hides the object first, so that no older version becomes the newest when the newest goes. It is
        deleted last, and stays where some version does.
        """
        with self._translated(key):
            versions = list(self._list(key))
            if any(each.is_latest and each.kind == _OBJECT for each in versions):
                self._client.delete_object(Bucket=self.bucket, Key=key)
                versions = list(self._list(key))
            reasons = self._delete(each for each in versions if each.kind == _OBJECT)
            listed = list(self._list(key))
            kept = [each for each in listed if each.kind == _OBJECT]
            left = [self._undeleted(each, reasons) for each in kept]
            hiding = [each for each in listed if each.kind == _MARKER and not (kept and each.is_latest)]
            reasons = self._delete(hiding)
            left += [self._undeleted(each, reasons) for each in hiding if each.key in reasons]
            for upload in self._uploads(key):
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
            return left

    def delete_noncurrent(self, prefix: str) -> list[Undeleted]:
        """Delete, of all keys that begin with ``prefix``, the versions that are not the newest, and delete markers."""
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

    def _uploads(self, key: str) -> list[str]:
        """Uploads in parts that were not completed: their parts are kept."""
        answer = self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=key)
        return [each["UploadId"] for each in answer.get("Uploads", ()) if each["Key"] == key]


#: All versions of the objects of one bucket.
Versions = LocalVersions | S3Versions


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


#: How often it is begun again because somebody else committed meanwhile.
ATTEMPTS = 20

#: So many data files are looked into at once.
LOOKED_INTO = 200

#: A file of the log that is younger than this is overwritten: somebody may be about to create the next version after
#: an older one, and must find that its place is taken. An older file is deleted.
YOUNG = timedelta(hours=1)

#: The clock of whoever committed last may be so many seconds ahead.
SECONDS_AHEAD = 60

#: The content of a file of the log that is overwritten.
ERASED = b'{"commitInfo":{"operation":"ERASED","operationParameters":{}}}\n'

_LOG = "_delta_log/"
_COMMIT = re.compile(r"_delta_log/(\d{20})\.json\Z")
_CHECKPOINT = re.compile(r"_delta_log/(\d{20})\.checkpoint\b.*\.parquet\Z")


def erase_history(
    name: str,
    files: Collection[str] | None,
    *,
    gold: DeltaFormat,
    place: GoldFiles,
    step: Callable[[str], None] = faults.point,
    now: Callable[[], float] = time.time,
    pause: Callable[[float], None] = time.sleep,
) -> ErasedHistory | None:
    """Erase what the table ``name`` still has of rows that are gone from its newest version. None: there is no table.

    Whoever reads the newest version goes on. An older one cannot be opened any more; who had opened it before goes on
    until it needs a data file that held such rows, and then fails. The order makes it safe beside committers:

    1. List all files of the table.
    2. Commit: whatever was made of an older version is refused from now on, compactions too. So a file of the listing
       that is not part of this version never will be.
    3. Delete these files: of a table those that hold the rows, change data and the leavings of refused commits among
       them; of a view, whose rows do not say which file they came from, all.
    4. Write a checkpoint, and let go of the log before it, which has the smallest and largest values of each data file.

    docs/decisions/0169-history-is-cut-at-a-checkpoint.md

    ``files`` are the bronze keys whose rows are gone; None: nobody knows them, as in a view. Killed at any step, it is
    called again. ``now`` in Unix seconds.

    Raises:
        Refused: others committed so often that nothing was done: try again.
        GoldFailed, OSError: gold cannot be read or written.
    """
    from silversmith.tables.format import Refused  # with the packages of tables

    erasure = _Erasure(name, gold, place, step, pause, datetime.fromtimestamp(now(), UTC) - YOUNG)
    for attempt in range(ATTEMPTS):
        try:
            return erasure.run(files)
        except Refused:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("the loop ends by itself")


@dataclass(frozen=True)
class _Erasure:
    """``young``: a file of the log that was written since is overwritten."""

    name: str
    gold: DeltaFormat
    place: GoldFiles
    step: Callable[[str], None]
    pause: Callable[[float], None]
    young: datetime

    def run(self, files: Collection[str] | None) -> ErasedHistory | None:
        snapshot = self.gold.read(self.name)
        if snapshot is None:
            return None
        listed = list_files(self.name, self.place)
        closed = snapshot.closed()
        self.step("erase.closed")
        dead = dead_files(self.name, listed, closed)
        held = list(holding(self.name, dead, files, self.place)) if files is not None else dead
        for path in held:
            self.place.store.delete(f"{self.name}/{path}")
            self.step("erase.data")
        self._checkpoint(closed)
        self.step("erase.checkpoint")
        cut = self._cut_log(listed, closed.version)
        closed.reopened()
        return ErasedHistory(self.name, closed.version, tuple(held), cut)

    def _checkpoint(self, snapshot: DeltaSnapshot) -> None:
        """A checkpoint that names no data file but those of the table. Whoever removed one may have a clock that is
        ahead: the checkpoint names it until that time."""
        from silversmith.tables.format import GoldFailed

        for _ in range(SECONDS_AHEAD):
            snapshot.checkpoint()
            body = self.place.store.read(f"{self.name}/{_LOG}{snapshot.version:020}.checkpoint.parquet")
            columns = pl.read_parquet(body) if body is not None else pl.DataFrame()
            if "remove" not in columns.columns or columns["remove"].drop_nulls().is_empty():
                return
            self.pause(1.0)
        raise GoldFailed(
            f"{self.name}: after {SECONDS_AHEAD} seconds a checkpoint still names data files that are gone: is this "
            "machine's clock behind?"
        )

    def _cut_log(self, listed: Mapping[str, Head], version: int) -> int:
        """Let go of the log before a version. How many files that were."""
        cut = 0
        for path, head in listed.items():
            commit = _COMMIT.match(path)
            number = commit or _CHECKPOINT.match(path)
            if not path.startswith(_LOG) or path == f"{_LOG}_last_checkpoint":
                continue
            if number is not None and int(number[1]) >= version:
                continue
            key = f"{self.name}/{path}"
            if commit is None or head.modified <= self.young:
                self.place.store.delete(key)  # also what a commit left that did not come to its end
            elif head.size != len(ERASED):
                self.place.store.put(key, ERASED)
            else:
                continue
            cut += 1
            self.step("erase.log")
        return cut


def list_files(name: str, place: GoldFiles) -> dict[str, Head]:
    """All files of a table, by their paths below its folder."""
    return {head.key.removeprefix(f"{name}/"): head for head in place.store.list(f"{name}/")}


def dead_files(name: str, listed: Mapping[str, Head], snapshot: DeltaSnapshot) -> list[str]:
    """The data files of a listing that are not of this version.

    Raises:
        GoldFailed: one is lacking.
    """
    from silversmith.tables.format import GoldFailed

    paths = snapshot.paths
    if lacking := next((path for path in sorted(paths) if path not in listed), None):
        raise GoldFailed(
            f"the table {name} lacks its data file {lacking}, so nothing was deleted: run `silversmith tables rebuild "
            f"{name}`, then this again"
        )
    return [path for path in listed if path not in paths and not path.startswith(_LOG)]


def holding(name: str, paths: Sequence[str], files: Collection[str], place: GoldFiles) -> Iterator[str]:
    """The data files among these that hold rows of some bronze keys, or cannot be read, so that nobody knows."""
    for some in batched(paths, LOOKED_INTO):
        try:
            yield from _with_rows(name, some, files, place)
        except pl.exceptions.PolarsError:
            for path in some:
                try:
                    yield from _with_rows(name, [path], files, place)
                except pl.exceptions.PolarsError:
                    yield path


def _with_rows(name: str, paths: Sequence[str], files: Collection[str], place: GoldFiles) -> list[str]:
    base = f"{place.root.rstrip('/')}/{name}/"
    scan = pl.scan_parquet(
        [base + path for path in paths],
        storage_options=dict(place.options) if place.options else None,
        hive_partitioning=False,
        glob=False,
        extra_columns="ignore",
        missing_columns="insert",
        include_file_paths="__path",
        schema={FILE: pl.String},
    )
    rows = scan.filter(pl.col(FILE).is_in(list(files))).select(pl.col("__path").unique())
    return [path.removeprefix(base) for path in rows.collect(engine="streaming")["__path"].to_list()]


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
