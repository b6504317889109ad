"""A bucket on S3.

docs/decisions/0020-one-version-of-a-large-object.md
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import botocore
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError, IncompleteReadError
from botocore.utils import parse_timestamp

from silversmith.errors import PreconditionFailed
from silversmith.stores import IN_MEMORY, Head, Put, Source, keys, one_by_one
from silversmith.stores.aws_errors import CONFLICT, MISSING, denied_by_kms, error_code, is_denied, translate_aws_errors
from silversmith.stores.listing import ARCHIVING, ListedObject, entries, parse_page, parsed_here
from silversmith.stores.s3_transfer import (
    DOWNLOADS,
    LARGEST_PUT,
    Checksum,
    Hasher,
    TornBody,
    check_room,
    checksum_of,
    download,
    of_one_version,
    persistent,
    pieces,
    upload,
    whole_answer,
)

#: How often the SDK sends a request in all, before it gives up, where there is time for that.
ATTEMPTS = 5

#: How long it waits for a connection and for the next bytes of an answer, in seconds, where there is time for that.
CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 60.0

#: Rather than wait for less than so many seconds, it tries less often.
_SHORTEST = 10.0


def client_config(time_limit: float | None = None, **more: Any) -> Config:
    """The configuration of every client of ours: the SDK's standard retries, which wait only after an error.

    The adaptive mode holds back all requests of a client after a few that were throttled.
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html

    Args:
        time_limit: the seconds after which Lambda ends the function. One request with all its retries takes less.
        more: options of botocore's ``Config``.
    """
    attempts, seconds = _patience(time_limit)
    connect = min(CONNECT_TIMEOUT, seconds / 3)
    return Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=connect,
        read_timeout=seconds - connect,
        max_pool_connections=4 * DOWNLOADS,
        **more,
    )


def _patience(time_limit: float | None) -> tuple[int, float]:
    """The number of attempts, and the seconds for each: connecting and reading together."""
    longest = CONNECT_TIMEOUT + READ_TIMEOUT
    if time_limit is None:
        return ATTEMPTS, longest
    budget = 0.8 * time_limit
    for attempts in range(ATTEMPTS, 1, -1):
        seconds = (budget - longest_backoff(attempts)) / attempts
        if seconds >= _SHORTEST:
            return attempts, min(seconds, longest)
    return 1, budget


def longest_backoff(attempts: int) -> float:
    """The most seconds that the SDK pauses between so many attempts: up to 1, 2, 4 …, 20, and 5 more if AWS says so."""
    return sum(min(2.0**retry, 20.0) + 5.0 for retry in range(attempts - 1))


def aws_client(
    service: str, session: Any = None, *, endpoint_url: str | None = None, time_limit: float | None = None
) -> Any:
    """A boto3 client that takes no answer for whole whose end is missing.

    Args:
        service: AWS's name for it: ``s3``, ``sqs`` …
        session: a boto3 session, by default the default one.
        endpoint_url: another place than AWS.
        time_limit: as :func:`client_config` has it.
    """
    if session is None:
        session = _session()
    # A stand-in for AWS is rarely found under a name that begins with the bucket's.
    config = client_config(
        time_limit,
        s3={"addressing_style": "path"} if endpoint_url else None,
        # The SDK puts its own name together for every request, which takes an eighth of its time,
        user_agent=f"silversmith botocore/{botocore.__version__}",
        # and checks the types of what it is given, which mypy and keys.check do before.
        parameter_validation=service != "s3",
    )
    client = session.client(service, endpoint_url=endpoint_url, config=config)
    client.meta.events.register(FIRST_OF_ALL, _before_parse)
    return client


def _session() -> Any:
    """A session that parses times as :func:`parse_time` does."""
    import boto3

    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
    return boto3.session.Session(botocore_session=core)


def parse_time(value: Any) -> datetime:
    """A time in an answer of AWS's. Botocore's own parser takes a seventh of the time of a whole HEAD."""
    if isinstance(value, str) and value.endswith(" GMT"):
        with suppress(ValueError):
            return parsedate_to_datetime(value)
    parsed: datetime = parse_timestamp(value)
    return parsed


def connect(session: Any = None, *, endpoint_url: str | None = None, time_limit: float | None = None) -> Any:
    """The client for S3, as :func:`aws_client` makes it."""
    return aws_client("s3", session, endpoint_url=endpoint_url, time_limit=time_limit)


#: Handlers of this event come before those that name the service. One of these, of botocore's own, parses every answer
#: of S3's as XML, only to see whether it is an error: half of the time that a listing takes.
FIRST_OF_ALL = "before-parse.*.*"


def _before_parse(operation_model: Any, **answer: Any) -> None:
    """The hook that botocore calls with each answer."""
    _require_whole(operation_model, answer["response_dict"])
    if operation_model.name == "ListObjectsV2":
        parse_page(**answer)


def _require_whole(operation_model: Any, response_dict: Mapping[str, Any]) -> None:
    """Botocore would parse a listing without its body as an empty one.

    The SDK retries answers from 500 on by their status. Bodies that are streamed are read by others.
    """
    body, length = response_dict["body"], response_dict["headers"].get("content-length")
    if operation_model.http["method"] == "HEAD" or not isinstance(body, bytes) or response_dict["status_code"] >= 500:
        return
    if length is not None and int(length) != len(body):
        raise IncompleteReadError(actual_bytes=len(body), expected_bytes=int(length))


@dataclass(frozen=True)
class _Beginning:
    """The first bytes of an object, all of them where there are few, and the head and checksum of the whole."""

    head: Head
    data: bytes
    checksum: Checksum | None


class S3Store:
    """A :class:`~silversmith.stores.Store` over a bucket on S3. Threads may share one.

    What S3 does not do, after the SDK's retries, is raised as :class:`~silversmith.errors.AwsFailed`.

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
        with self._translated(key):
            try:
                response = self._client.head_object(**self._where(key))
            except ClientError as error:
                if error_code(error) in MISSING:
                    return None
                raise
        return _head(key, response, response["ContentLength"])

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        """The newest version, to read. Its bytes are proven to be the object's before they are handed out.

        Small ones are in the first answer; of large ones the rest is fetched to a file.

        Raises:
            SourceChanged: the object was replaced or deleted before all of it was fetched.
            AwsFailed: its bytes did not arrive whole, or are not those of which S3 has the checksum.
        """
        keys.check(key)
        guesses = iter((True,))
        with self._translated(key):
            first = persistent(self._place(key), lambda: self._beginning(key, guess=next(guesses, False)))
        if first is None or first.head.size <= IN_MEMORY:
            yield Source(first.head, first.data, None) if first else None
            return
        head, checksum = first.head, first.checksum
        check_room(self._scratch, head)
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix="bronze-") as file:
            file.write(first.data)
            file.flush()
            starts = iter((len(first.data),))  # what does not match its checksum is fetched from 0
            del first  # or its bytes would be held as long as the file is read
            with self._translated(key):
                persistent(self._place(key), lambda: self._fetch(head, checksum, file.fileno(), next(starts, 0)))
            yield Source(head, None, Path(file.name))

    def verify(self, source: Source) -> None:
        """Do nothing: all bytes are of one version, and proven, whatever is written meanwhile."""

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
        with self._translated(key):
            try:
                response = self._send(key, body, dict(metadata or {}), condition)
            except ClientError as error:
                if error_code(error) in first:
                    raise self._beaten(key) from error
                raise
        return _etag(response)

    def put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        """S3 has no request for several objects: these are put one after the other."""
        return one_by_one(self, puts)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        keys.check(key)
        condition = _if_match(if_match) if if_match is not None else {}
        with self._translated(key):
            try:
                self._client.delete_object(**self._where(key), **condition)
            except ClientError as error:
                if error_code(error) in CONFLICT | (MISSING if condition else set()):
                    raise self._beaten(key) from error
                if error_code(error) not in MISSING:
                    raise

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        for page in self.pages(prefix, start_after=start_after):
            yield from (entry.head() for entry in page)

    def pages(self, prefix: str = "", *, start_after: str = "") -> Iterator[Sequence[ListedObject]]:
        """The objects as :meth:`list` gives them, an answer of S3's at a time."""
        after: dict[str, Any] = {"StartAfter": start_after}
        while after:
            with self._translated(prefix):
                request = partial(self._client.list_objects_v2, Bucket=self._bucket, Prefix=prefix, **after)
                with parsed_here():
                    page = persistent(self._place(prefix), partial(whole_answer, request))
            yield entries(page)
            after = {"ContinuationToken": page.get("NextContinuationToken")} if page.get("IsTruncated") else {}

    def _where(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": key}

    def _place(self, key: str) -> str:
        return f"s3://{self._bucket}/{keys.printable(key)}"

    def _translated(self, key: str) -> AbstractContextManager[None]:
        return translate_aws_errors(self._place(key))

    def _beaten(self, key: str) -> PreconditionFailed:
        return PreconditionFailed(f"{self._bucket}/{keys.printable(key)} is not what it was when it was looked at")

    def _beginning(self, key: str, *, guess: bool) -> _Beginning | None:
        """The newest version's first bytes; all of them, and proven, where there are few. None: there is none.

        The whole object is asked for, because S3 says its checksum only then, and no more than the beginning is read.
        """
        try:
            response = self._client.get_object(**self._where(key), ChecksumMode="ENABLED")
        except ClientError as error:
            if error_code(error) in MISSING:
                return None
            self._require_key(key, error)
            raise
        head = _head(key, response, response["ContentLength"])
        data = b"".join(pieces(response["Body"], min(head.size, IN_MEMORY)))
        first = _Beginning(head, data, checksum_of(response))
        if len(data) == head.size and (hasher := self._hasher(head, first.checksum, guess=guess)) is not None:
            hasher.update(data)
            _require_match(head, first.checksum, hasher)
        return first

    def _require_key(self, key: str, error: ClientError) -> None:
        """
        Raises:
            AccessDenied: KMS denies the object. HEAD takes the same right of S3's, and decrypts nothing.
        """
        response: Mapping[str, Any] = {}
        with suppress(ClientError):
            response = self._client.head_object(**self._where(key)) if is_denied(error) else {}
        if response.get("SSEKMSKeyId"):
            raise denied_by_kms(error, self._place(key), response["SSEKMSKeyId"]) from error

    def _fetch(self, head: Head, checksum: Checksum | None, file: int, start: int) -> None:
        """Fetch an object's bytes from ``start`` on into a file, and prove that the file is the object."""
        hasher = self._hasher(head, checksum, guess=start > 0)
        get = partial(self._client.get_object, **self._same(head))
        download(lambda text: get(Range=text), head, file, start, hasher, place=self._place(head.key))
        if hasher is not None:
            _require_match(head, checksum, hasher)

    def _hasher(self, head: Head, checksum: Checksum | None, *, guess: bool) -> Hasher | None:
        """Computes the checksum of an object; None: S3 has none, and only its length can be compared.

        ``guess`` as :meth:`_part_sizes` has it: a checksum that does not match then may only have been guessed wrong.

        Raises:
            TornBody: its parts are not as large as the object, so that the checksums of the parts prove nothing.
        """
        if checksum is None or not checksum.parts:
            return checksum.hasher() if checksum is not None else None
        sizes = self._part_sizes(head, checksum.parts, guess=guess)
        if sum(sizes) != head.size:
            raise TornBody(
                f"it has {head.size:,} bytes, and HeadObject with PartNumber says that its {checksum.parts} parts have "
                f"{sum(sizes):,}: their checksums cannot be compared"
            )
        return checksum.hasher(sizes)

    def _part_sizes(self, head: Head, parts: int, *, guess: bool) -> Sequence[int]:
        """The bytes of each part of an object. ``guess``: only the first is asked for, if all can be as large.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
        """

        def size(number: int) -> int:
            with of_one_version(self._place(head.key)):
                return int(self._client.head_object(**self._same(head), PartNumber=number)["ContentLength"])

        first = size(1)
        last = head.size - first * (parts - 1)
        if guess and 0 < last <= first:
            return [first] * (parts - 1) + [last]
        with ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="s3-part-size") as pool:
            return list(pool.map(size, range(1, parts + 1)))

    def _same(self, head: Head) -> dict[str, str]:
        """By version where the bucket keeps them: then it stays what it is, even when a newer one is put meanwhile."""
        version = {"VersionId": head.version} if head.version else {}
        return {**self._where(head.key), **_if_match(head.etag), **version}

    def _send(self, key: str, body: bytes | Path, metadata: dict[str, str], condition: dict[str, str]) -> Any:
        where = self._where(key)
        if isinstance(body, bytes):
            return self._client.put_object(**where, Body=body, Metadata=metadata, **condition)
        with body.open("rb") as file:
            if body.stat().st_size <= LARGEST_PUT:
                return self._client.put_object(**where, Body=file, Metadata=metadata, **condition)
            return upload(self._client, where, file.fileno(), metadata=metadata, condition=condition)


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
        archived=_archived(response),
    )


def _archiving(item: Mapping[str, Any]) -> str:
    """The storage class of an object in a listing, if such objects may be archived."""
    storage = str(item.get("StorageClass", ""))
    return storage if storage in ARCHIVING else ""


def _archived(response: Mapping[str, Any]) -> str:
    """The tier that an object must be restored from, by the answer to HEAD; empty: it can be read.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    if 'ongoing-request="false"' in str(response.get("Restore", "")):
        return ""
    storage = _archiving(response)
    return str(response.get("ArchiveStatus", "")) if storage == "INTELLIGENT_TIERING" else storage


def _modified(response: Mapping[str, Any]) -> datetime:
    modified: datetime = response["LastModified"]
    return modified.astimezone(UTC)


def _require_match(head: Head, checksum: Checksum | None, hasher: Hasher) -> None:
    if checksum is not None and not checksum.matches(hasher):
        raise TornBody(f"the bytes of {head.etag} have another {checksum.algorithm} than S3 says")


def _etag(response: Mapping[str, Any]) -> str:
    return str(response["ETag"]).strip('"')
