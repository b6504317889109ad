"""A folder as a bucket: S3's reads, conditional writes and listing over files.

Every write is made durable in a scratch folder first and then moved into place, so that at any instant, also after
``kill -9``, the old object or the new one is there, whole. Writers of one key exclude each other with a file lock, so
that a condition still holds when its write happens. Readers take no lock.

docs/decisions/0004-etags-of-local-files.md, docs/decisions/0005-keys-as-file-names.md
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from silversmith import faults
from silversmith.errors import PreconditionFailed, SilversmithError, SourceChanged
from silversmith.stores import IN_MEMORY, Head, Put, Source, digests, files, keys
from silversmith.stores.digests import BackgroundEtag, FileClock, LazyHead

#: How many files the locks of all keys share. More would only mean fewer chance meetings.
_LOCKS = 64

#: How often a put tries again when the folder that it had found or made was pruned at the same moment.
_ATTEMPTS = 100


class Opened:
    """Descriptors of the folders in which files were placed, by their paths below the root; closed with the block."""

    def __init__(self) -> None:
        self.by_path: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in list(self.by_path):
            self.forget(folder)

    def forget(self, folder: str) -> None:
        """Close this one, if it is open."""
        descriptor = self.by_path.pop(folder, None)
        if descriptor is not None:
            os.close(descriptor)


class Placing:
    """Moves files into place below ``root``; ``locks`` is a folder for the locks of keys, ``fsync`` makes durable."""

    def __init__(self, root: str, locks: str, fsync: Callable[[int], None]) -> None:
        self._root = root
        self._locks = locks
        self._fsync = fsync

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Lock the object against other writers while the block lasts."""
        name = f"{self._locks}/{zlib.crc32(key.encode('utf-8', 'surrogatepass')) % _LOCKS:02}"
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # which unlocks it

    def enter(self, key: str, source: str, opened: Opened, *, exclusive: bool) -> str:
        """Move the file into the object's place. The folder that it is in, which is one of those ``opened`` then."""
        for attempt in range(_ATTEMPTS):
            try:
                return self._enter_once(key, source, opened, exclusive=exclusive)
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1 or not os.path.lexists(source):
                    raise
        raise AssertionError("unreachable")

    def _enter_once(self, key: str, source: str, opened: Opened, *, exclusive: bool) -> str:
        places = keys.places(key)
        # It stays in its place, also where a better one is free by now: a reader who has just looked there would miss
        # it on its way.
        present = [path for path in places if files.look(self._root, path) is not None]
        if present and exclusive:
            raise PreconditionFailed(f"{key}: there is such an object already")
        for path in present[:1] or places:
            folder, _, name = path.rpartition("/")
            try:
                files.enter(source, name, self._open(folder, opened), exclusive=exclusive)
            except FileNotFoundError:
                opened.forget(folder)  # it was pruned, and another may be there by now
                raise
            except files.Occupied:
                continue
            except FileExistsError:
                raise PreconditionFailed(f"{key}: there is such an object already") from None
            for hidden in present[1:]:
                files.remove(self._root, hidden)
            return folder
        blocked = f"{self._root}/{keys.RESERVED}"
        raise FileExistsError(errno.EEXIST, "this must be a folder that only Silversmith writes; move it away", blocked)

    def _open(self, folder: str, opened: Opened) -> int:
        descriptor = opened.by_path.get(folder)
        if descriptor is None:
            names = folder.split("/") if folder else []
            descriptor = opened.by_path[folder] = files.make(self._root, names, self._fsync)
        return descriptor


@dataclass(frozen=True)
class _OpenFile(Source):
    """A large object held open, and the state of its file before its bytes were first looked at."""

    file: io.FileIO = field(repr=False)
    seen: os.stat_result = field(repr=False)
    racy: bool = False
    background: BackgroundEtag | None = field(default=None, repr=False)


@dataclass
class _Draft:
    """An object on its way into its place.

    Attributes:
        put: the object to write.
        path: the file that is moved into place.
        file: its descriptor; -1: it is not open yet.
        etag: the ETag that the object will have.
        folder: the folder, below the root, into which the file was moved; None: it was not yet.
        failure: the error that has kept it from its place.
    """

    put: Put
    path: str
    file: int = -1
    etag: str = ""
    folder: str | None = None
    failure: Exception | None = None

    def attempt(self, step: Callable[[_Draft], None]) -> None:
        if self.failure is None:
            try:
                step(self)
            except (SilversmithError, OSError) as error:
                self.failure = error

    @property
    def moves_body(self) -> bool:
        """Whether the file that is moved into place is the caller's own."""
        return isinstance(self.put.body, Path) and self.path == str(self.put.body)

    def close(self) -> None:
        """Close the file, and remove it if it was not moved and is not the caller's."""
        if self.file >= 0:
            os.close(self.file)
        if self.folder is None and not self.moves_body:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)  # noqa: PTH108 - plain calls here: a small put is as fast as its system calls


@dataclass(frozen=True)
class Glance:
    """A file without its bytes: ``identity`` changes when it is written, ``size`` is in bytes.

    ``racy``: it was changed so lately that another write could leave its identity as it is.
    """

    identity: str
    size: int
    racy: bool


class LocalStore:
    """A bucket that is a folder. A :class:`~silversmith.stores.Store`, for any number of processes at once.

    Args:
        root: the bucket's folder.
        scratch: a folder on the same file system, used by nobody else. Files that a killed process leaves there may be
            removed whenever no process writes.
        locks: likewise.
        foreign_writers: other programs write in the bucket's folder as they like, so an ETag is the MD5 of the bytes,
            as S3's is, or another digest of a large file. Otherwise every write is one of ours, a rename, and an ETag
            is made of what ``stat`` says of the renamed file.
        fsync: makes the file or folder of a descriptor durable.
        passed: as :class:`~silversmith.stores.digests.Digests` has it.
    """

    def __init__(
        self,
        root: Path,
        *,
        scratch: Path,
        locks: Path,
        foreign_writers: bool,
        fsync: Callable[[int], None] = files.flush,
        passed: Callable[[os.stat_result], bool] | None = None,
    ) -> None:
        for folder in (root, scratch, locks):
            folder.mkdir(parents=True, exist_ok=True)
        self._device = scratch.stat().st_dev
        if self._device != root.stat().st_dev:
            raise OSError(
                errno.EXDEV, f"{scratch} must be on the file system of {root}: a file is moved from there at once"
            )
        self._root = str(root.absolute())
        self._reserved = f"{self._root}/{keys.RESERVED}"
        self._scratch = str(scratch.absolute())
        self._placing = Placing(self._root, str(locks.absolute()), fsync)
        self._foreign = foreign_writers
        self._fsync = fsync
        self._digests = digests.Digests(passed=passed or FileClock(scratch.absolute()).has_passed)

    def head(self, key: str) -> Head | None:
        """The object's state. Its metadata is the entry of the file if that is Parquet, else there is none.

        With ``foreign_writers`` the bytes are read for their digest unless the file is known and old, and metadata is
        always empty: nothing is believed that a stranger may have written.

        Raises:
            InvalidKey: ``key`` is no S3 key.
        """
        opened = self._opened(key)
        if opened is None:
            return None
        path, file = opened
        with file:
            return self._head(key, path, file)

    def glance(self, key: str) -> Glance | None:
        """The object's state as far as it is known without opening it; None if there is no object."""
        for path in self._places(key):
            stat = files.look(self._root, path)
            if stat is not None:
                return _glance(stat)
        return None

    def look(self, key: str) -> tuple[Glance, Head | None] | None:
        """:meth:`glance` and then :meth:`head` by opening it once; a large object is not read, and has no head here."""
        opened = self._opened(key)
        if opened is None:
            return None
        path, file = opened
        with file:
            glance = _glance(os.fstat(file.fileno()))
            return glance, self._head(key, path, file) if glance.size <= IN_MEMORY else None

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        """The object, to read. A :class:`Source` with a path is good, and can be verified, within the block only."""
        opened = self._opened(key)
        if opened is None:
            yield None
            return
        path, file = opened
        with file:
            source = self._source(key, path, file)
            try:
                yield source
            finally:
                if isinstance(source, _OpenFile) and source.background is not None:
                    source.background.stop()

    def verify(self, source: Source) -> None:
        """Raise SourceChanged if the file was written or replaced since it was opened. Bytes in memory never change."""
        if isinstance(source, _OpenFile) and not self._is_unchanged(source):
            raise SourceChanged(f"{source.head.key} changed while it was read")

    def read(self, key: str) -> bytes | None:
        """All bytes of the object.

        Raises:
            SourceChanged: the file has another size than bytes.
        """
        opened = self._opened(key)
        if opened is None:
            return None
        with opened[1] as file:
            data = file.read()
            files.require_whole(key, file, data)
            return data

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        metadata: Mapping[str, str] | None = None,  # noqa: ARG002 - a Parquet body carries it, nothing else can
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        """Write the object, durably and at once. ``body`` as a path is moved; from another file system it is copied.

        A file has no room for S3's user metadata, so ``metadata`` is what a Parquet body already holds in its entry
        :data:`~silversmith.lineage.PARQUET_ENTRY`, from where :meth:`head` reads it; of other bodies it is dropped.

        Raises:
            InvalidKey: ``key`` is no S3 key.
            PreconditionFailed: another object is there than ``if_match`` or ``if_none_match`` say.
        """
        put = Put(key, body, if_match=if_match, if_none_match=if_none_match)
        (answer,) = self._put_all([put])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        """As :meth:`put`, several objects: their files are synced together, and each folder once."""
        return self._put_all(puts)

    def _put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        drafts = [_Draft(put, self._draft_path(put.body)) for put in puts]
        try:
            for draft in drafts:
                draft.attempt(self._write)
            for draft in drafts:
                draft.attempt(self._sync)
            with Opened() as opened:
                for draft in drafts:
                    draft.attempt(partial(self._place, opened))
                # Not under the lock: whoever sees an object before it is durable and writes over it syncs it as well.
                for folder, descriptor in opened.by_path.items():
                    try:
                        self._fsync(descriptor)
                    except OSError as error:
                        for draft in drafts:
                            draft.failure = error if draft.folder == folder else draft.failure
        finally:
            for draft in drafts:
                draft.close()
        return [draft.failure or draft.etag for draft in drafts]

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        """Delete the object, and the folders that it leaves empty.

        Raises:
            InvalidKey: ``key`` is no S3 key.
            PreconditionFailed: the object has another etag than ``if_match``, or there is none.
        """
        if if_match is None and not any(files.look(self._root, path) for path in keys.places(key)):
            return  # as nearly always, when what an earlier failure might have left is cleared: no lock for that
        with self._placing.locked(key):
            self._require(key, if_match)
            # What the first place hides goes first, or it would come to light for a moment.
            removed = [path for path in reversed(keys.places(key)) if files.remove(self._root, path)]
        faults.point("store.deleted")
        for path in removed:
            files.prune(self._root, path, self._fsync)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        """The objects in the order of their keys. Links, devices and names that are no keys are left out.

        With ``foreign_writers`` an etag is worked out from the bytes when it is asked for; it is empty if the object
        is gone by then.
        """
        for entry in files.listed(self._root, prefix, start_after):
            if self._foreign:
                yield LazyHead(entry.key, entry.stat.st_size, files.modified(entry.stat), self._lazy_etag(entry.key))
            else:
                yield Head(entry.key, files.etag(entry.stat), entry.stat.st_size, files.modified(entry.stat))

    def _opened(self, key: str) -> tuple[str, io.FileIO] | None:
        """The object's file, the caller's to close, and the path below the root where it was found."""
        for path in self._places(key):
            descriptor = files.open_file(self._root, path)
            if descriptor is not None:
                return path, io.FileIO(descriptor)
        return None

    def _places(self, key: str) -> Iterator[str]:
        """The paths at which the object may be. Mostly there is no reserved folder to look in."""
        if keys.is_path(key):
            yield key
            if not os.path.lexists(self._reserved):
                return
        yield keys.escaped(key)

    def _head(self, key: str, path: str, file: io.FileIO) -> Head:
        stat = os.fstat(file.fileno())
        if self._foreign:
            return Head(key, self._digests.of(path, file), stat.st_size, files.modified(stat))
        return Head(key, files.etag(stat), stat.st_size, files.modified(stat), metadata=files.metadata(key, file))

    def _source(self, key: str, path: str, file: io.FileIO) -> Source:
        stat = os.fstat(file.fileno())
        if stat.st_size <= IN_MEMORY:
            data = files.read_up_to(file, IN_MEMORY + 1, likely=stat.st_size)
            if len(data) <= IN_MEMORY:  # else it grew meanwhile
                files.require_whole(key, file, data)
                etag = digests.md5(data) if self._foreign else files.etag(stat)
                metadata = {} if self._foreign else files.metadata(key, file)
                return Source(Head(key, etag, len(data), files.modified(stat), metadata=metadata), data, None)
        return self._large(key, path, file, stat)

    def _large(self, key: str, path: str, file: io.FileIO, stat: os.stat_result) -> _OpenFile:
        """Its etag is worked out while it is read, if its times will tell whether it was the same all the while."""
        place = Path(self._root, path)
        if not self._foreign or self._digests.known(path, stat) is not None:
            return _OpenFile(self._head(key, path, file), None, place, file, stat)
        if self._digests.is_racy(stat):
            return _OpenFile(self._head(key, path, file), None, place, file, stat, racy=True)
        background = self._digests.background(path, file, stat)
        head = LazyHead(key, stat.st_size, files.modified(stat), background.etag)
        return _OpenFile(head, None, place, file, stat, background=background)

    def _is_unchanged(self, source: _OpenFile) -> bool:
        """By the file's times; where they are too young to tell, by the bytes once more."""
        etag = source.head.etag  # all that is read for it is read before the times are looked at
        if not self._is_still(source):
            return False
        if not source.racy:
            return True
        return digests.of_file(source.file, source.seen.st_size) == etag and self._is_still(source)

    def _is_still(self, source: _OpenFile) -> bool:
        assert source.path is not None
        try:
            stats = [os.fstat(source.file.fileno()), os.lstat(source.path)]
        except FileNotFoundError:
            return False
        identity: Callable[[os.stat_result], object] = digests.identity if self._foreign else files.etag
        return all(identity(stat) == identity(source.seen) for stat in stats)

    def _lazy_etag(self, key: str) -> Callable[[], str]:
        def etag() -> str:
            head = self.head(key)
            return "" if head is None else head.etag

        return etag

    def _draft_path(self, body: bytes | Path) -> str:
        """The file that becomes the object: ``body`` itself, if it can be moved into place."""
        if isinstance(body, Path) and body.stat().st_dev == self._device:
            return str(body)
        return f"{self._scratch}/{os.urandom(12).hex()}"

    def _write(self, draft: _Draft) -> None:
        """The body as a file that can be moved into place, not yet durable."""
        keys.check(draft.put.key)
        if draft.moves_body:
            draft.file = os.open(draft.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        else:
            draft.file = os.open(draft.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            files.write(draft.file, draft.put.body)
        files.set_time(draft.file)
        files.begin_writing(draft.file)

    def _sync(self, draft: _Draft) -> None:
        self._fsync(draft.file)
        stat = os.fstat(draft.file)
        if not self._foreign:
            draft.etag = files.etag(stat)
        elif isinstance(draft.put.body, bytes):
            draft.etag = digests.of_data(draft.put.body)
        else:
            with io.FileIO(draft.file, closefd=False) as file:
                draft.etag = digests.of_file(file, stat.st_size)

    def _place(self, opened: Opened, draft: _Draft) -> None:
        """Move the file into place. The folders ``opened`` are to be synced."""
        faults.point("store.written")
        put = draft.put
        with self._placing.locked(put.key):
            self._require(put.key, put.if_match)
            draft.folder = self._placing.enter(put.key, draft.path, opened, exclusive=put.if_none_match)
        faults.point("store.placed")

    def _require(self, key: str, if_match: str | None) -> None:
        """Require the object to have the etag. ``if_none_match`` is checked by the move itself."""
        if if_match is None:
            return
        opened = self._opened(key)
        if opened is None:
            raise PreconditionFailed(f"{key}: there is no such object, expected one with the etag {if_match}")
        path, file = opened
        with file:
            etag = self._digests.of(path, file) if self._foreign else files.etag(os.fstat(file.fileno()))
        if etag != if_match:
            raise PreconditionFailed(f"{key}: the object's etag is {etag}, expected {if_match}")


def _glance(stat: os.stat_result) -> Glance:
    return Glance("-".join(map(str, digests.identity(stat))), stat.st_size, digests.is_racy(stat, time.time_ns()))
