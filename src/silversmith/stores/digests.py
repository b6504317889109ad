"""The ETag of a file that others may write in place: a digest of its bytes, worked out once.

A file's times are too coarse to tell two writes of the same size apart; its bytes are not. Where the times are old
enough to be trusted, a digest is remembered. docs/decisions/0004-etags-of-local-files.md
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any

import xxhash

from silversmith.errors import SourceChanged
from silversmith.stores import IN_MEMORY, Head


class LazyHead(Head):
    """A head whose ETag is worked out when it is first asked for: many uses need none, or not soon."""

    _etag: Callable[[], str]

    def __init__(self, key: str, size: int, modified: datetime, etag: Callable[[], str]) -> None:
        self.__dict__.update(key=key, size=size, modified=modified, version=None, metadata={}, _etag=etag)

    def __getattr__(self, name: str) -> Any:
        if name != "etag":
            raise AttributeError(name)
        return self.__dict__.setdefault("etag", self._etag())


class BackgroundEtag:
    """An ETag that a thread works out while the file is read.

    Args:
        work: works it out; asks now and then whether it may stop, and then returns anything.
    """

    def __init__(self, work: Callable[[Callable[[], bool]], str]) -> None:
        self._stopped = threading.Event()
        self._etag: Future[str] = Future()
        self._thread = threading.Thread(target=self._run, args=(work,), name="etag", daemon=True)
        self._thread.start()

    def etag(self) -> str:
        """Waits for it.

        Raises:
            OSError: the file cannot be read.
        """
        return self._etag.result()

    def stop(self) -> None:
        """Stop the thread. When this returns, it reads the file no more."""
        self._stopped.set()
        self._thread.join()

    def _run(self, work: Callable[[Callable[[], bool]], str]) -> None:
        try:
            self._etag.set_result(work(self._stopped.is_set))
        except BaseException as error:  # noqa: BLE001 -- it is raised where the etag is asked for
            self._etag.set_exception(error)


#: The seconds of one pause, and the number of pauses, until the clock's next step. Linux' moves every 1 to 10 ms.
_PAUSE, _TIMES = 0.005, 10


class FileClock:
    """The clock of the file system that ``folder``, which may be written to, is on. ``sleep`` takes seconds."""

    def __init__(self, folder: Path, sleep: Callable[[float], None] = time.sleep) -> None:
        self._folder = folder
        self._sleep = sleep

    def has_passed(self, stat: os.stat_result) -> bool:
        """Whether the clock is past the time at which a file was last changed: then whoever writes to it from now on
        leaves another time. Waits for that, but for 50 ms at most.

        False, too, where the file is on another file system, or its time lies in the future. It is the inode's time
        that counts: only the kernel sets it.
        """
        for _ in range(_TIMES):
            now = self._now()
            if now.st_dev != stat.st_dev:
                return False
            if now.st_ctime_ns > stat.st_ctime_ns:
                return True
            self._sleep(_PAUSE)
        return False

    def _now(self) -> os.stat_result:
        """The ``stat`` of a file that is made now."""
        path = self._folder / os.urandom(12).hex()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)


#: A file changed less than this many nanoseconds ago can change again and look the same: no file system in use
#: counts time more coarsely (FAT: two seconds).
RACY = 2_000_000_000

#: How many digests one process remembers: about 20 MB.
_REMEMBERED = 65_536

#: The parts in which the AWS CLI puts a large object, in bytes; what an etag says of their number.
#: https://docs.aws.amazon.com/cli/latest/topic/s3-config.html
_PART = 8 * 1024 * 1024

#: Bytes that are read and hashed at once: between two of them Python's lock is waited for.
_PIECE = 2 * 1024 * 1024

#: How often a file is read for its etag that gets shorter meanwhile.
_TRIES = 8

Identity = tuple[int, int, int, int, int]


def md5(data: bytes) -> str:
    """S3's etag of an object that was put in one piece.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def of_data(data: bytes) -> str:
    """The etag of so many bytes: their MD5, or what :func:`of_file` says of large objects."""
    return md5(data) if len(data) <= IN_MEMORY else of_file(io.BytesIO(data), len(data))


def of_file(file: io.FileIO | io.BytesIO, size: int, stopped: Callable[[], bool] = lambda: False) -> str:
    """The etag of an open file of so many bytes, read from its beginning without holding it in memory.

    S3's etag of a large object, put in parts, is no MD5 of its bytes: 32 hexadecimal digits, a dash, and the number of
    parts. So are these, of XXH3 with 128 bits, which takes a thirtieth of MD5's time.
    Once ``stopped`` says that nobody needs it any more, the text that is returned is no ETag.

    Raises:
        SourceChanged: the file has fewer bytes.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    """
    digest = xxhash.xxh3_128() if size > IN_MEMORY else hashlib.md5(usedforsecurity=False)
    piece = memoryview(bytearray(min(_PIECE, size + 1)))
    at = 0
    while not stopped():
        read = _read_at(file, piece, at)
        if not read:
            if at < size:
                raise SourceChanged(f"a file of {size:,} bytes ended after {at:,} when it was read")
            break
        digest.update(piece[:read])
        at += read
    return digest.hexdigest() if size <= IN_MEMORY else f"{digest.hexdigest()}-{-(-size // _PART)}"


def _read_at(file: io.FileIO | io.BytesIO, piece: memoryview, at: int) -> int:
    """Without moving what others read of the same file."""
    if isinstance(file, io.FileIO):
        return os.preadv(file.fileno(), [piece], at)
    file.seek(at)
    return file.readinto(piece)


def identity(stat: os.stat_result) -> Identity:
    """A value that changes when a file is written, replaced or renamed over, as far as its times can tell."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def is_racy(stat: os.stat_result, now_ns: int) -> bool:
    """Whether a write at ``now_ns`` (nanoseconds since 1970) could leave ``stat`` as it is."""
    return now_ns - max(stat.st_mtime_ns, stat.st_ctime_ns) < RACY


class Digests:
    """ETags by path, of files whose times can be trusted. Threads may share one.

    The newest :data:`_REMEMBERED` are kept.

    Args:
        clock: the nanoseconds since 1970.
        passed: whether a young file is old enough all the same, see :meth:`FileClock.has_passed`. It is asked about
            large files only, because to read one again takes longer.
    """

    def __init__(
        self,
        clock: Callable[[], int] = time.time_ns,
        passed: Callable[[os.stat_result], bool] = lambda _: False,
    ) -> None:
        self._clock = clock
        self._passed = passed
        self._known: dict[str, tuple[Identity, str]] = {}
        self._lock = threading.Lock()

    def is_racy(self, stat: os.stat_result) -> bool:
        """Whether a write from now on could leave ``stat`` as it is."""
        return is_racy(stat, self._clock()) and not (stat.st_size > IN_MEMORY and self._passed(stat))

    def of(self, path: str, file: io.FileIO) -> str:
        """The etag of the open file that was found at ``path``.

        Raises:
            SourceChanged: the file got shorter, each time it was read.
        """
        for _ in range(_TRIES - 1):
            try:
                return self._of(path, file)
            except SourceChanged:
                continue
        return self._of(path, file)

    def _of(self, path: str, file: io.FileIO) -> str:
        stat = os.fstat(file.fileno())
        known = self.known(path, stat)
        if known is not None:
            return known
        racy = self.is_racy(stat)
        digest = of_file(file, stat.st_size)
        if not racy:
            self._remember_if_still(path, file, stat, digest)
        return digest

    def known(self, path: str, stat: os.stat_result) -> str | None:
        """The etag of the file that was found at ``path``, if it is remembered."""
        known = self._known.get(path)
        return known[1] if known is not None and known[0] == identity(stat) else None

    def background(self, path: str, file: io.FileIO, stat: os.stat_result) -> BackgroundEtag:
        """The etag of an open file that is not racy, worked out while the file is read."""

        def work(stopped: Callable[[], bool]) -> str:
            digest = of_file(file, stat.st_size, stopped)
            if not stopped():
                self._remember_if_still(path, file, stat, digest)
            return digest

        return BackgroundEtag(work)

    def _remember_if_still(self, path: str, file: io.FileIO, stat: os.stat_result, digest: str) -> None:
        if identity(os.fstat(file.fileno())) == identity(stat):
            self._remember(path, identity(stat), digest)

    def _remember(self, path: str, seen: Identity, digest: str) -> None:
        with self._lock:
            self._known.pop(path, None)
            self._known[path] = (seen, digest)
            if len(self._known) > _REMEMBERED:
                self._known.pop(next(iter(self._known)))
