"""Bytes to and from S3, each proven: whole bodies, ranges, checksums, parts."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Protocol, TypeVar

import xxhash
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError

from silversmith.errors import AwsFailed, SourceChanged
from silversmith.stores import Head
from silversmith.stores.aws_errors import CONFLICT, MISSING, error_code

#: The bytes that one request asks for, and how many requests are under way at once.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html
RANGE = 8 * 1024 * 1024
DOWNLOADS = 8

#: A body goes to the file in pieces of so many bytes: fetching takes DOWNLOADS of them in memory.
_PIECE = 256 * 1024

#: Bytes that are read and hashed at once: between two of them Python's lock is waited for.
_HASHED = 2 * 1024 * 1024

#: How often a body is asked for that does not arrive whole. The SDK retries requests, but not what it hands out.
TRIES = 4

#: Larger files go in parts, smaller ones in one request. In bytes; S3 takes at most 5 GiB in one request.
LARGEST_PUT = 32 * 1024 * 1024

#: The bytes of a part, while 10,000 of them are enough; as many are in memory at once as there are uploads.
PART = 16 * 1024 * 1024
UPLOADS = 4

#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MOST_PARTS = 10_000

_HEADER = "x-amz-checksum-"

#: The ETag of an object that was put in one piece and is not encrypted with a key of KMS or of the customer.
_MD5 = re.compile(r"[0-9a-f]{32}")

_T = TypeVar("_T")


class TornBody(Exception):
    """An answer that is not what S3 sent: its end is missing, or its bytes are others."""


def persistent(place: str, attempt: Callable[[], _T]) -> _T:
    """Return what ``attempt`` returns, which is called again when a body does not arrive whole.

    Raises:
        AwsFailed: it never did. ``place`` says which object it was.
    """
    for _ in range(TRIES):
        try:
            return attempt()
        except TornBody as error:
            torn = error
    raise AwsFailed(f"{place}: its bytes did not arrive whole, {TRIES} times: {torn}") from torn


def pieces(body: Any, size: int) -> Iterator[bytes]:
    """The bytes of a response's body, exactly ``size`` of them; the connection is closed if there are more.

    Raises:
        TornBody: there are fewer, or the connection broke.
    """
    left = size
    with closing(body):
        while left:
            try:
                piece: bytes = body.read(min(left, _PIECE))
            except Exception as error:  # of botocore, urllib3, http.client or ssl
                raise TornBody(f"{type(error).__name__}: {error}") from error
            if not piece:
                raise TornBody(f"{size - left:,} of {size:,} bytes came")
            left -= len(piece)
            yield piece


def whole_answer(request: Callable[[], _T]) -> _T:
    """Return what a request returns whose answer is parsed: a listing.

    Raises:
        TornBody: the answer was cut off.
    """
    try:
        return request()
    except (IncompleteReadError, ResponseParserError) as error:
        raise TornBody(str(error)) from error


class Hasher(Protocol):
    """As the objects of :mod:`hashlib`."""

    def update(self, data: bytes | memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A cyclic redundancy check of AWS's common runtime, whose import takes a while and is therefore put off."""

    def __init__(self, name: str, width: int) -> None:
        from awscrt import checksums

        self._function: Callable[[bytes | memoryview, int], int] = getattr(checksums, name)
        self._width = width
        self._value = 0

    def update(self, data: bytes | memoryview) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width, "big")


#: The algorithms by the names that S3's headers have for them; an object has one, or an older one has none.
ALGORITHMS: Mapping[str, Callable[[], Hasher]] = {
    "crc64nvme": lambda: _Crc("crc64nvme", 8),
    "crc32c": lambda: _Crc("crc32c", 4),
    "crc32": lambda: _Crc("crc32", 4),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "xxhash64": xxhash.xxh64,
    "xxhash3": xxhash.xxh3_64,
    "xxhash128": xxhash.xxh3_128,
}


@dataclass(frozen=True)
class Checksum:
    """The checksum of an object.

    Attributes:
        algorithm: a key of :data:`ALGORITHMS`.
        value: the base64 of its bytes.
        parts: 0 where it is of the whole object. Otherwise it is the checksum of the checksums of so many parts.
    """

    algorithm: str
    value: str
    parts: int = 0

    def hasher(self, part_sizes: Sequence[int] = ()) -> Hasher:
        """Computes it of the object's bytes. ``part_sizes`` are the bytes of each part where it is one of parts."""
        new = ALGORITHMS[self.algorithm]
        return _OfParts(new, part_sizes) if self.parts else new()

    def matches(self, hasher: Hasher) -> bool:
        """Whether the bytes that the hasher was given are the object's."""
        return base64.b64encode(hasher.digest()).decode() == self.value


class _OfParts:
    """The checksum of the checksums of parts."""

    def __init__(self, new: Callable[[], Hasher], part_sizes: Sequence[int]) -> None:
        self._new = new
        self._sizes = iter(part_sizes)
        self._whole = new()
        self._part: Hasher | None = None
        self._left = 0

    def update(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            if self._part is None:
                self._part, self._left = self._new(), next(self._sizes)
            piece, rest = rest[: self._left], rest[self._left :]
            self._part.update(piece)
            self._left -= len(piece)
            if not self._left:
                self._whole.update(self._part.digest())
                self._part = None

    def digest(self) -> bytes:
        return self._whole.digest()


def checksum_of(response: Mapping[str, Any]) -> Checksum | None:
    """The checksum that an answer to GetObject for a whole object tells. None: there is none, only the length.

    That is an additional checksum, or else the ETag where it is an MD5: of an object that was put in one part, without
    a key of KMS or of the customer's. https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    headers: Mapping[str, str] = response["ResponseMetadata"]["HTTPHeaders"]
    for algorithm in ALGORITHMS:
        value, _, parts = headers.get(_HEADER + algorithm, "").partition("-")
        if value and (parts or "0").isdecimal():
            return Checksum(algorithm, value, int(parts or 0))
    etag = str(response["ETag"]).strip('"')
    is_plain = headers.get("x-amz-server-side-encryption", "AES256") == "AES256"
    if _MD5.fullmatch(etag) and is_plain and "x-amz-server-side-encryption-customer-algorithm" not in headers:
        return Checksum("md5", base64.b64encode(bytes.fromhex(etag)).decode())
    return None


def download(
    get: Callable[[str], Any], head: Head, file: int, start: int, hasher: Hasher | None, *, place: str
) -> None:
    """Write an object's bytes from ``start`` to its end into an open file, at their places, side by side.

    Args:
        get: asks for a range of the version that ``head`` tells of, ``bytes=0-99``: the response of GetObject.
        head: what the object is.
        file: the descriptor of a file that holds the bytes before ``start``.
        start: a number of bytes.
        hasher: is given all bytes of the file, in their order.
        place: where the object is, for errors.

    Raises:
        TornBody: they did not arrive whole.
        AwsFailed: a range did not arrive whole, each time it was asked for.
        SourceChanged: the version that ``head`` tells of is not there any more.
        OSError: the disk is full.
    """
    pool = ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="s3-range")
    try:
        spans = [range(first, min(first + RANGE, head.size)) for first in range(start, head.size, RANGE)]
        arriving = [pool.submit(_fetch, get, head, file, span, place) for span in spans]
        _hash(file, range(start), hasher)
        for span, arrived in zip(spans, arriving, strict=True):
            arrived.result()
            _hash(file, span, hasher)
    finally:
        pool.shutdown(cancel_futures=True)


def _hash(file: int, span: range, hasher: Hasher | None) -> None:
    """Give the hasher what the file holds, which has just been written: it is read from memory."""
    if hasher is not None:
        for at in span[::_HASHED]:
            hasher.update(_read_at(file, at, min(_HASHED, span.stop - at)))


def _read_at(file: int, at: int, size: int) -> bytes:
    data = os.pread(file, size, at)
    if len(data) != size:
        raise OSError(errno.EIO, f"the temporary file has {len(data):,} bytes at {at:,} where {size:,} were written")
    return data


def _fetch(get: Callable[[str], Any], head: Head, file: int, span: range, place: str) -> None:
    """Write the bytes of an object whose numbers are in ``span``."""
    first, last = span[0], span[-1]

    def attempt() -> None:
        response = get(f"bytes={first}-{last}")
        answer = response.get("ContentRange"), response.get("ContentLength"), str(response.get("ETag")).strip('"')
        if answer != (f"bytes {first}-{last}/{head.size}", len(span), head.etag):
            response["Body"].close()
            raise TornBody(f"bytes {first}-{last} of {head.etag} were asked for, and S3 answered with {answer}")
        at = first
        for piece in pieces(response["Body"], len(span)):
            _write_at(file, piece, at)
            at += len(piece)

    with of_one_version(place):
        persistent(f"{place}, bytes {first}-{last}", attempt)


@contextmanager
def of_one_version(place: str) -> Iterator[None]:
    """Raise SourceChanged if the version that a request names is not there any more."""
    try:
        yield
    except ClientError as error:
        if error_code(error) in CONFLICT | MISSING | {"NoSuchVersion", "InvalidRange", "416"}:
            raise SourceChanged(f"{place} was replaced or deleted while it was read") from error
        raise


def _write_at(file: int, data: bytes, at: int) -> None:
    """A disk that gets full may take the beginning, and say so only the next time."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, at)
        rest, at = rest[written:], at + written


def check_room(scratch: Path, head: Head) -> None:
    """Raise ``OSError`` if an object is larger than what is free where it would go."""
    free = shutil.disk_usage(scratch).free
    if head.size > free:
        raise OSError(
            errno.ENOSPC,
            f"{head.key} has {head.size:,} bytes, and {scratch} has room for {free:,}: give the function more "
            "ephemeral storage, or the folder a larger disk",
        )


def part_size(size: int) -> int:
    """The size of the parts of a file of ``size`` bytes."""
    return max(PART, -(-size // MOST_PARTS))


def upload(
    client: Any, where: Mapping[str, str], file: int, *, metadata: Mapping[str, str], condition: Mapping[str, str]
) -> Any:
    """Upload an open file in parts side by side, and return what CompleteMultipartUpload says.

    The condition is for that last request: only then does the object come to be, and only if it has the checksum and
    the size of the file. Whatever fails, no part stays behind, unless even the request for that fails: then the
    bucket's lifecycle rule removes them. https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
    """
    kind = {"ChecksumType": "FULL_OBJECT"}
    created = client.create_multipart_upload(**where, Metadata=dict(metadata), ChecksumAlgorithm="CRC32", **kind)
    upload_id = created["UploadId"]
    size = os.fstat(file).st_size
    try:
        parts, checksum = _parts(client, {**where, "UploadId": upload_id}, file, size)
        return client.complete_multipart_upload(
            **where,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},
            MpuObjectSize=size,
            ChecksumCRC32=checksum,
            **kind,
            **condition,
        )
    except BaseException:
        with suppress(ClientError, BotoCoreError, ResponseParserError):
            client.abort_multipart_upload(**where, UploadId=upload_id)
        raise


def _parts(client: Any, where: Mapping[str, str], file: int, size: int) -> tuple[list[dict[str, Any]], str]:
    """Upload the parts of an object. Returns them as S3 wants them, and the checksum of the whole."""
    from awscrt.checksums import combine_crc32, crc32

    length = part_size(size)

    def send(number: int) -> tuple[dict[str, Any], int, int]:
        at = (number - 1) * length
        body = _read_at(file, at, min(length, size - at))
        value = crc32(body)
        checksum = {"ChecksumCRC32": _base64(value)}
        response = client.upload_part(**where, PartNumber=number, Body=body, **checksum)
        return {"PartNumber": number, "ETag": response["ETag"], **checksum}, value, len(body)

    pool = ThreadPoolExecutor(UPLOADS, thread_name_prefix="s3-part")
    try:
        sent = list(pool.map(send, range(1, -(-size // length) + 1)))
    finally:
        pool.shutdown(cancel_futures=True)
    whole: int = reduce(lambda value, part: combine_crc32(value, part[1], part[2]), sent, 0)
    return [part for part, _, _ in sent], _base64(whole)


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()
