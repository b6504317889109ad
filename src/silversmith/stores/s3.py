"""A bucket on S3.

docs/decisions/0020-one-version-of-a-large-object.md
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from silversmith.errors import PreconditionFailed, SourceChanged
from silversmith.stores import IN_MEMORY, Head, Put, Source, keys, one_by_one, s3_parts, s3_ranges
from silversmith.stores.s3_errors import CONFLICT, MISSING, code, told

#: How often the SDK sends a request in all, before it gives up.
ATTEMPTS = 8


def connect(session: Any = None, *, endpoint_url: str | None = None) -> Any:
    """A boto3 client for S3 that retries in the SDK's adaptive mode: it slows down when S3 asks it to.

    ``session`` is a boto3 session, by default the default one; ``endpoint_url`` is another place than AWS.
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
    """
    if session is None:
        import boto3

        session = boto3.session.Session()
    config = Config(
        retries={"mode": "adaptive", "total_max_attempts": ATTEMPTS},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=4 * s3_ranges.THREADS,
        # A stand-in for AWS is rarely found under a name that begins with the bucket's.
        s3={"addressing_style": "path"} if endpoint_url else None,
    )
    return session.client("s3", endpoint_url=endpoint_url, config=config)


class S3Store:
    """A :class:`~silversmith.stores.Store` over a bucket on S3. Threads may share one.

    What S3 does not do, after the SDK's retries, is raised as :class:`~silversmith.stores.s3_errors.S3Failed`.

    Args:
        bucket: the bucket's name.
        client: a boto3 S3 client, as :func:`connect` makes it.
        scratch: a folder for large objects while they are read.
    """

    def __init__(self, bucket: str, *, client: Any, scratch: Path) -> None:
        self._bucket = bucket
        self._client = client
        self._scratch = scratch

    def head(self, key: str) -> Head | None:
        keys.check(key)
        with self._told(key):
            try:
                response = self._client.head_object(**self._where(key))
            except ClientError as error:
                if code(error) in MISSING:
                    return None
                raise
        return _head(key, response, response["ContentLength"])

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        """The newest version, to read: small ones are in the first answer; of large ones the rest is fetched to a file.

        Raises:
            SourceChanged: the object was replaced or deleted before all of it was fetched.
        """
        first = self._beginning(key)
        if first is None or first[0].size <= IN_MEMORY:
            yield Source(*first, None) if first else None
            return
        head, data = first
        s3_ranges.check_room(self._scratch, head)
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix="bronze-") as file:
            written = file.write(data)
            file.flush()
            del first, data  # or they would be held as long as the file is read
            with self._told(key):
                s3_ranges.fetch(self._getter(head), head, file.fileno(), written)
            yield Source(head, None, Path(file.name))

    def verify(self, source: Source) -> None:
        """Nothing to do: every byte came from one version, whatever is written meanwhile."""

    def read(self, key: str) -> bytes | None:
        with self.open(key) as source:
            if source is None:
                return None
            return source.data if source.path is None else source.path.read_bytes()

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        keys.check(key)
        condition = _if_match(if_match) if if_match is not None else {"IfNoneMatch": "*"} if if_none_match else {}
        first = CONFLICT | (MISSING if if_match is not None else set())
        # An upload that is gone at its end was perhaps completed by a request whose answer was lost: look, too.
        first |= {"NoSuchUpload"} if condition else set()
        with self._told(key):
            try:
                response = self._send(key, body, dict(metadata or {}), condition)
            except ClientError as error:
                if code(error) in first:
                    raise self._beaten(key) from error
                raise
        return _etag(response)

    def put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        """S3 has no request for several objects: these are put one after the other."""
        return one_by_one(self, puts)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        keys.check(key)
        condition = _if_match(if_match) if if_match is not None else {}
        with self._told(key):
            try:
                self._client.delete_object(**self._where(key), **condition)
            except ClientError as error:
                if code(error) in CONFLICT | (MISSING if condition else set()):
                    raise self._beaten(key) from error
                if code(error) not in MISSING:
                    raise

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, StartAfter=start_after
        )
        with self._told(prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Head(found["Key"], _etag(found), found["Size"], _modified(found))

    def _where(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": key}

    def _told(self, key: str) -> Any:
        return told(f"s3://{self._bucket}/{keys.printable(key)}")

    def _beaten(self, key: str) -> PreconditionFailed:
        return PreconditionFailed(f"{self._bucket}/{keys.printable(key)} is not what it was when it was looked at")

    def _beginning(self, key: str) -> tuple[Head, bytes] | None:
        """The head of the newest version and its first bytes, of one answer; all of them where there are few."""
        keys.check(key)

        def attempt() -> tuple[Head, bytes]:
            response = self._first_answer(key)
            with response["Body"] as body:
                return _head(key, response, _whole_size(response)), body.read()

        with self._told(key):
            try:
                return s3_ranges.persistent(attempt)
            except ClientError as error:
                if code(error) in MISSING:
                    return None
                raise

    def _first_answer(self, key: str) -> Any:
        try:
            return self._client.get_object(**self._where(key), Range=f"bytes=0-{IN_MEMORY - 1}")
        except ClientError as error:
            if code(error) not in {"InvalidRange", "416"}:
                raise
        response = self._client.get_object(**self._where(key))  # of no bytes there is no range
        if response["ContentLength"] > IN_MEMORY:
            response["Body"].close()
            raise SourceChanged(f"{keys.printable(key)} was replaced while it was read")
        return response

    def _getter(self, head: Head) -> s3_ranges.Get:
        """By version where the bucket keeps them: then it stays what it is, even when a newer one is put meanwhile."""
        version = {"VersionId": head.version} if head.version else {}
        same = {**self._where(head.key), **_if_match(head.etag), **version}

        def get(first: int, last: int) -> Any:
            return self._client.get_object(**same, Range=f"bytes={first}-{last}")

        return get

    def _send(self, key: str, body: bytes | Path, metadata: dict[str, str], condition: dict[str, str]) -> Any:
        where = self._where(key)
        if isinstance(body, bytes):
            return self._client.put_object(**where, Body=body, Metadata=metadata, **condition)
        with body.open("rb") as file:
            if body.stat().st_size <= s3_parts.WHOLE:
                return self._client.put_object(**where, Body=file, Metadata=metadata, **condition)
            return s3_parts.upload(self._client, where, file.fileno(), metadata=metadata, condition=condition)


def _if_match(etag: str) -> dict[str, str]:
    return {"IfMatch": f'"{etag}"'}


def _head(key: str, response: Mapping[str, Any], size: int) -> Head:
    version = response.get("VersionId")
    return Head(
        key,
        _etag(response),
        size,
        _modified(response),
        # What was put before the bucket kept versions has the version "null".
        version=None if version == "null" else version,
        metadata=response.get("Metadata", {}),
    )


def _modified(response: Mapping[str, Any]) -> datetime:
    modified: datetime = response["LastModified"]
    return modified.astimezone(UTC)


def _whole_size(response: Mapping[str, Any]) -> int:
    """Of the whole object, also where the answer is a part of it: ``bytes 0-99/1234``."""
    said = response.get("ContentRange")
    return int(said.rpartition("/")[2]) if said else int(response["ContentLength"])


def _etag(response: Mapping[str, Any]) -> str:
    return str(response["ETag"]).strip('"')
