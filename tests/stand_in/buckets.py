"""The memory of S3: buckets of objects, each with all its versions. No network here."""

from __future__ import annotations

import base64
import hashlib
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial


class S3Error(Exception):
    """An answer of S3's that is an error; ``more`` is XML beside the code and the message."""

    def __init__(self, status: int, code: str, message: str = "", more: str = "") -> None:
        super().__init__(code)
        self.more = more
        self.status = status
        self.code = code
        self.message = message or code


@dataclass(frozen=True)
class Version:
    """One version of an object; ``body`` None: a delete marker. ``id`` is empty where the bucket did not keep versions.

    ``checksum`` has an algorithm as headers name it and the value in base64; ``kind`` is FULL_OBJECT or COMPOSITE.
    ``number`` counts the writes of the bucket; ``parts`` are the sizes of the parts that it was uploaded in.
    """

    key: str
    body: bytes | None
    number: int
    modified: float
    etag: str = ""
    id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    checksum: tuple[str, str] | None = None
    kind: str = "FULL_OBJECT"
    encryption: str = "AES256"
    parts: tuple[int, ...] = ()

    @property
    def content(self) -> bytes:
        """The bytes of a version that is no delete marker."""
        assert self.body is not None
        return self.body


@dataclass
class Upload:
    """A multipart upload under way: its parts by their numbers."""

    key: str
    metadata: Mapping[str, str]
    algorithm: str | None
    kind: str
    encryption: str
    parts: dict[int, bytes] = field(default_factory=dict)


class Bucket:
    """A bucket.

    Args:
        name: its name.
        clock: the time for ``Last-Modified``, in seconds since 1970.
        versioned: whether it keeps versions, and says so.
        encryption: by default; under ``aws:kms`` an ETag is no MD5.
        checksum: the algorithm for objects that are put without one; S3 takes CRC64NVME, and had none before 2025.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Callable[[], float],
        versioned: bool = False,
        encryption: str = "AES256",
        checksum: str | None = "crc64nvme",
    ) -> None:
        self.name = name
        self.versioned = versioned
        self.encryption = encryption
        self.checksum = checksum
        self.uploads: dict[str, Upload] = {}
        #: Every version there ever was, the oldest first, by key.
        self.history: dict[str, list[Version]] = {}
        self.writes = 0
        #: By key: the Content-Encoding that it was put with.
        self.encodings: dict[str, str] = {}
        #: By key: the storage class if it is not STANDARD, the tier of what is archived, and the key of KMS that the
        #: caller may not use (empty: the object itself is denied).
        self.storage: dict[str, str] = {}
        self.archived: dict[str, str] = {}
        self.forbidden: dict[str, str] = {}
        #: The keys of archived objects of which there is a copy to read.
        self.restored: set[str] = set()
        #: Called after each write with the new version.
        self.written: Callable[[Version], None] = lambda _: None
        self._clock = clock
        self._lock = threading.RLock()

    def newest(self, key: str, *, before: int = 0) -> Version | None:
        """The object now, or before the last so many writes; None if there is none."""
        last = self.writes - before
        version = next((each for each in reversed(self.history.get(key, ())) if each.number <= last), None)
        return version if version is not None and version.body is not None else None

    def objects(self, *, before: int = 0) -> Iterator[Version]:
        """The newest versions of all objects, in the order of their keys' bytes."""
        with self._lock:
            keys = sorted(self.history, key=str.encode)
        return filter(None, (self.newest(key, before=before) for key in keys))

    def find(self, key: str, version_id: str = "") -> Version:
        """Raise :class:`S3Error` where there is no such version."""
        if not version_id:
            result = self.newest(key)
            if result is None:
                raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
            return result
        for version in self.history.get(key, ()):
            if (version.id or "null") == version_id:
                if version.body is None:
                    raise S3Error(405, "MethodNotAllowed")
                return version
        raise S3Error(404, "NoSuchVersion", "The specified version does not exist.")

    def put(
        self,
        key: str,
        body: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        checksum: tuple[str, str] | None = None,
        encryption: str = "",
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Version:
        """Write an object, as PutObject does; ``checksum`` has been verified before."""
        with self._lock:
            self._check(key, if_match, if_none_match)
            return self._add(
                key,
                body,
                etag=self._etag(body, encryption),
                metadata=dict(metadata or {}),
                checksum=checksum or (self.checksum and (self.checksum, digest(self.checksum, body))) or None,
                encryption=encryption or self.encryption,
            )

    def delete(self, key: str, *, if_match: str | None = None) -> Version | None:
        """Delete the newest version. Where versions are kept, a delete marker is left, also of what was not there."""
        with self._lock:
            current = self.newest(key)
            if if_match is not None and (current is None or if_match not in {"*", current.etag}):
                raise S3Error(412, "PreconditionFailed")
            return self._add(key, None) if current or self.versioned else None

    def complete(
        self,
        upload_id: str,
        numbers: Sequence[int],
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> Version:
        """Make an object of the parts of an upload.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
        """
        with self._lock:
            upload = self.upload(upload_id)
            self._check(upload.key, if_match, if_none_match)
            if not set(numbers) <= set(upload.parts) or not numbers:
                raise S3Error(400, "InvalidPart")
            parts = [upload.parts[number] for number in numbers]
            body = b"".join(parts)
            del self.uploads[upload_id]
            return self._add(
                upload.key,
                body,
                etag=f"{_md5(b''.join(hashlib.md5(part).digest() for part in parts))}-{len(parts)}",
                metadata=upload.metadata,
                checksum=upload.algorithm and _of_parts(upload, parts),
                kind=upload.kind,
                encryption=upload.encryption,
                parts=tuple(map(len, parts)),
            )

    def upload(self, upload_id: str) -> Upload:
        """Raise :class:`S3Error` where there is no such upload."""
        if upload_id not in self.uploads:
            raise S3Error(404, "NoSuchUpload")
        return self.uploads[upload_id]

    def _check(self, key: str, if_match: str | None, if_none_match: str | None) -> None:
        """https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html"""
        if len(key.encode()) > 1024:
            raise S3Error(400, "KeyTooLongError", "Your key is too long")
        if if_match is not None and self.find(key).etag != if_match:
            raise S3Error(412, "PreconditionFailed")
        if if_none_match == "*" and self.newest(key) is not None:
            raise S3Error(412, "PreconditionFailed")

    def _add(self, key: str, body: bytes | None, **what: object) -> Version:
        self.writes += 1
        version = Version(
            key,
            body,
            self.writes,
            self._clock(),
            id=uuid.uuid4().hex if self.versioned else "",
            **what,  # type: ignore[arg-type]
        )
        self.history.setdefault(key, []).append(version)
        self.written(version)
        return version

    def _etag(self, body: bytes, encryption: str) -> str:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html"""
        return _md5(body if (encryption or self.encryption) == "AES256" else b"encrypted" + body)


def _of_parts(upload: Upload, parts: Sequence[bytes]) -> tuple[str, str]:
    assert upload.algorithm is not None
    if upload.kind == "FULL_OBJECT":
        return upload.algorithm, digest(upload.algorithm, b"".join(parts))
    digests = b"".join(base64.b64decode(digest(upload.algorithm, part)) for part in parts)
    return upload.algorithm, f"{digest(upload.algorithm, digests)}-{len(parts)}"


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def digest(algorithm: str, data: bytes) -> str:
    """A checksum as S3 writes it: base64 of its bytes, the most significant first."""
    return base64.b64encode(ALGORITHMS[algorithm](data)).decode()


@cache
def _table(polynomial: int) -> list[int]:
    table = []
    for entry in range(256):
        value = entry
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        table.append(value)
    return table


def _crc(data: bytes, *, polynomial: int, width: int) -> bytes:
    """A CRC with reflected bits that begins and ends inverted, as both CRC32C and CRC64NVME do."""
    table = _table(polynomial)
    ones = (1 << 8 * width) - 1
    value = ones
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return (value ^ ones).to_bytes(width, "big")


#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
ALGORITHMS: Mapping[str, Callable[[bytes], bytes]] = {
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "crc32c": partial(_crc, polynomial=0x82F63B78, width=4),
    "crc64nvme": partial(_crc, polynomial=0x9A6C9329AC4BC9B5, width=8),
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}
