"""How a file comes to its place in a bucket's folder: under the lock of its key, whole, and at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Self

from silversmith.errors import PreconditionFailed
from silversmith.stores import folders, keys

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
        """Nobody else changes the object while the block lasts."""
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
        present = [path for path in places if folders.look(self._root, path) is not None]
        if present and exclusive:
            raise PreconditionFailed(f"{key}: there is such an object already")
        for path in present[:1] or places:
            folder, _, name = path.rpartition("/")
            try:
                folders.enter(source, name, self._open(folder, opened), exclusive=exclusive)
            except FileNotFoundError:
                opened.forget(folder)  # it was pruned, and another may be there by now
                raise
            except folders.Occupied:
                continue
            except FileExistsError:
                raise PreconditionFailed(f"{key}: there is such an object already") from None
            for hidden in present[1:]:
                folders.remove(self._root, hidden)
            return folder
        blocked = f"{self._root}/{keys.RESERVED}"
        raise FileExistsError(errno.EEXIST, "this must be a folder that only Silversmith writes; move it away", blocked)

    def _open(self, folder: str, opened: Opened) -> int:
        descriptor = opened.by_path.get(folder)
        if descriptor is None:
            names = folder.split("/") if folder else []
            descriptor = opened.by_path[folder] = folders.make(self._root, names, self._fsync)
        return descriptor
