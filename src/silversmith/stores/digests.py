"""The etag of a file that others may write in place: the MD5 of its bytes. docs/decisions/0004-etags-of-local-files.md

A file's times are too coarse to tell two writes of the same size apart, its bytes are not. Where the times are old
enough to be trusted, a digest is remembered.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable

#: A file changed less than this many nanoseconds ago can change again and look the same: no file system in use
#: counts time more coarsely (FAT: two seconds).
RACY = 2_000_000_000

#: How many digests one process remembers: about 20 MB.
_REMEMBERED = 65_536

Identity = tuple[int, int, int, int, int]


def md5(data: bytes) -> str:
    """S3's etag of an object that was put in one piece.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def md5_of_file(file: io.FileIO) -> str:
    """The same for an open file, from its beginning, without holding it in memory."""
    file.seek(0)
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def identity(stat: os.stat_result) -> Identity:
    """What changes when a file is written, replaced or renamed over, as far as its times can tell."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def is_racy(stat: os.stat_result, now_ns: int) -> bool:
    """Whether a write at ``now_ns`` (nanoseconds since 1970) could leave ``stat`` as it is."""
    return now_ns - max(stat.st_mtime_ns, stat.st_ctime_ns) < RACY


class Digests:
    """MD5s by path, of files whose times can be trusted. The newest :data:`_REMEMBERED` are kept.

    ``clock`` tells the nanoseconds since 1970. Threads may share one.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._known: dict[str, tuple[Identity, str]] = {}
        self._lock = threading.Lock()

    def of(self, path: str, file: io.FileIO) -> str:
        """The MD5 of the open file that was found at ``path``."""
        stat = os.fstat(file.fileno())
        known = self._known.get(path)
        if known is not None and known[0] == identity(stat):
            return known[1]
        now = self._clock()
        digest = md5_of_file(file)
        if not is_racy(stat, now) and identity(os.fstat(file.fileno())) == identity(stat):
            self._remember(path, identity(stat), digest)
        return digest

    def _remember(self, path: str, seen: Identity, digest: str) -> None:
        with self._lock:
            self._known.pop(path, None)
            self._known[path] = (seen, digest)
            if len(self._known) > _REMEMBERED:
                self._known.pop(next(iter(self._known)))
