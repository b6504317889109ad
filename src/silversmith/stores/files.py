"""Files and folders below a root, opened and listed without following links out of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import heapq
import io
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from silversmith.errors import SourceChanged
from silversmith.lineage import parquet_entry
from silversmith.stores import keys


def flush(descriptor: int) -> None:
    """Have the disk hold all written bytes: fsync, or on macOS, where fsync stops at the drive's cache, F_FULLFSYNC."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, full)


def etag(stat: os.stat_result) -> str:
    """Of a file that is only ever replaced: no two versions of a key have the same inode number, time and size."""
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"


def modified(stat: os.stat_result) -> datetime:
    try:
        return datetime.fromtimestamp(stat.st_mtime, UTC)
    except (OverflowError, ValueError, OSError):  # a file can be given any time, also one beyond the calendar
        return datetime.fromtimestamp(0, UTC)


def write(descriptor: int, body: bytes | Path) -> None:
    with io.FileIO(descriptor, "w", closefd=False) as file:
        if isinstance(body, Path):
            with body.open("rb") as original, io.BufferedWriter(file) as buffered:
                shutil.copyfileobj(original, buffered, 1024 * 1024)
            return
        rest = memoryview(body)
        while rest:
            rest = rest[file.write(rest) :]


def read_up_to(file: io.FileIO, limit: int, *, likely: int) -> bytes:
    """The rest of a file, at most ``limit`` bytes, and ``likely`` so many. Each read allocates all it asks for."""
    data = file.read(likely)
    while len(data) < limit and (more := file.read(1)):
        data += more + file.read(limit - len(data) - 1)
    return data


def require_whole(key: str, file: io.FileIO, data: bytes) -> None:
    """Raise SourceChanged if ``data``, read from a file to its end, is not as long as the file is."""
    size = os.fstat(file.fileno()).st_size
    if len(data) != size:
        raise SourceChanged(f"{key} has {size:,} bytes, and {len(data):,} were read")


def metadata(key: str, file: io.FileIO) -> dict[str, str]:
    """The entry of a Parquet file that holds its lineage; empty for any other file, and for one that has none."""
    if not key.endswith(".parquet"):
        return {}
    entry = parquet_entry(_footer(file))
    return {name: value for name, value in entry.items() if isinstance(value, str)}


def _footer(file: io.FileIO) -> bytes:
    """The footer of a Parquet file, without its length and the magic bytes at its end; empty for any other file."""
    size = os.fstat(file.fileno()).st_size
    tail = os.pread(file.fileno(), 8, max(0, size - 8))
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length > size - 12:
        return b""
    return os.pread(file.fileno(), length, size - 8 - length)


def set_time(descriptor: int) -> None:
    """Give a file the time of now in nanoseconds.

    The kernel's clock for files moves in steps of milliseconds; with this one, a file that is given the inode number of
    one just replaced still differs from it.
    """
    now = time.time_ns()
    os.utime(descriptor, ns=(now, now))


def begin_writing(descriptor: int) -> None:
    """Have the kernel begin to write a file to the disk, and not wait for it: what syncs it soon has less to wait for.

    Several files that are begun first and then synced cost a third of what they do one after the other. Linux begins
    when it is told that the pages will not be needed soon (https://man7.org/linux/man-pages/man2/posix_fadvise.2.html).
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: A file system that does not take a name says one of these.
_UNFIT = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL})


class Occupied(Exception):
    """On the way is something that is no folder, at its end something that is no regular file, or a name is unfit."""


@contextlib.contextmanager
def folder(root: str, names: Sequence[str]) -> Iterator[int | None]:
    """A descriptor of the folder ``root/names…`` while the block lasts; None where there is no such folder."""
    try:
        descriptor = _descend(root, names)
    except (FileNotFoundError, Occupied):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make(root: str, names: Sequence[str], fsync: Callable[[int], None]) -> int:
    """A descriptor, the caller's to close, of the folder ``root/names…``, made durably where it does not exist.

    Raises:
        Occupied: it cannot be made, because something else is on the way.
        FileNotFoundError: another process pruned it at the same moment.
    """
    return _descend(root, names, fsync)


def _descend(root: str, names: Sequence[str], fsync: Callable[[int], None] | None = None) -> int:
    here = os.open(root, _FOLDER)
    try:
        for name in names:
            below = _enter(here, name, fsync)
            os.close(here)
            here = below
    except BaseException:
        os.close(here)
        raise
    return here


def _enter(here: int, name: str, fsync: Callable[[int], None] | None) -> int:
    try:
        return _open_folder(here, name)
    except FileNotFoundError:
        if fsync is None:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=here)
        fsync(here)
    return _open_folder(here, name)


def _open_folder(here: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP} | _UNFIT:
            raise Occupied(name) from None
        raise


def look(root: str, path: str) -> os.stat_result | None:
    """The state of the regular file ``root/path``; None if there is none. One failed call if there is nothing."""
    status = _glance(root, path)
    *names, name = path.split("/")
    if status is None or not names:
        return status
    with folder(root, names) as here:
        return None if here is None else regular(name, here)


def open_file(root: str, path: str) -> int | None:
    """A descriptor, the caller's to close, to read the regular file ``root/path``; None where there is none."""
    if _glance(root, path) is None:
        return None
    *names, name = path.split("/")
    if not names:
        return _open(f"{root}/{name}", None)
    with folder(root, names) as here:
        return None if here is None or regular(name, here) is None else _open(name, here)


def _open(path: str, here: int | None) -> int | None:
    """Open what was a regular file just now. ``path`` is in the folder ``here``, if that is not None."""
    try:
        descriptor = os.open(path, _READ, dir_fd=here)
    except OSError as error:  # gone, or a link by now
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
            return None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def _glance(root: str, path: str) -> os.stat_result | None:
    """Like :func:`look`, but through links in the folders on the way: a quick no, not yet a yes."""
    try:
        status = os.lstat(f"{root}/{path}")
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP} | _UNFIT:
            return None
        raise
    return status if stat.S_ISREG(status.st_mode) else None


def regular(name: str, here: int) -> os.stat_result | None:
    """The state of the regular file ``name`` of an open folder; None if there is none."""
    try:
        status = os.stat(name, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def enter(source: str, name: str, here: int, *, exclusive: bool) -> None:
    """Move the file ``source`` into an open folder as ``name``, at once. ``exclusive``: only if the name is free.

    Raises:
        FileExistsError: ``exclusive``, and there is a regular file of that name.
        Occupied: there is something else of that name.
        FileNotFoundError: the folder was removed meanwhile.
    """
    try:
        if exclusive:
            os.link(source, name, dst_dir_fd=here, follow_symlinks=False)
            os.unlink(source)  # noqa: PTH108 - a small put is as fast as its system calls
            return
        if not _is_free_or_regular(name, here):
            raise Occupied(name)
        os.replace(source, name, dst_dir_fd=here)
    except FileExistsError:
        if regular(name, here) is None:
            raise Occupied(name) from None
        raise
    except IsADirectoryError:
        raise Occupied(name) from None
    except OSError as error:
        if error.errno in _UNFIT:
            raise Occupied(name) from None
        raise


def _is_free_or_regular(name: str, here: int) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return True


def remove(root: str, path: str) -> bool:
    """Remove the regular file ``root/path``. Whether there was one."""
    *names, name = path.split("/")
    with folder(root, names) as here:
        if here is None or regular(name, here) is None:
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=here)
        return True


def prune(root: str, path: str, fsync: Callable[[int], None]) -> None:
    """Remove the folders on the way to ``root/path`` that are empty, and make durable what is left."""
    names = path.split("/")[:-1]
    while names:
        with folder(root, names[:-1]) as above:
            try:
                if above is not None:
                    os.rmdir(names[-1], dir_fd=above)
            except FileNotFoundError:  # somebody else was first
                pass
            except OSError:  # not empty, mostly; whatever it is, an empty folder does no harm
                break
        names.pop()
    with folder(root, names) as here:
        if here is not None:
            fsync(here)


#: Files looked at together, so that no descriptor stays open while the caller works on what it was given.
_TOGETHER = 500


class ListedFile(NamedTuple):
    """A regular file: its key, its path below the root, and its state."""

    key: str
    path: str
    stat: os.stat_result


class _Entry(NamedTuple):
    """An entry of a folder; ``text`` is what all keys below it begin with, or its whole key, in the walk's spelling."""

    text: str
    is_folder: bool
    name: str


class _Asked(NamedTuple):
    """The entries to visit in a walk. ``spell`` makes an entry's text of its folder's; None: leave the entry out."""

    spell: Callable[[str, str, bool], str | None]
    prefix: str
    after: str

    def for_entry(self, text: str, *, is_folder: bool) -> bool:
        if not is_folder:
            return text.startswith(self.prefix) and text > self.after
        if not text.startswith(self.prefix) and not self.prefix.startswith(text):
            return False
        return text > self.after or self.after.startswith(text)


def listed(root: str, prefix: str, start_after: str) -> Iterator[ListedFile]:
    """The objects whose keys begin with ``prefix`` and come after ``start_after``, in the order of their keys."""
    if not _is_text(prefix):
        return
    last = None
    for file in heapq.merge(_plain(root, prefix, start_after), _escaped(root, prefix, start_after), key=_key):
        if file.key != last:  # where a key has both of its places, the first one wins
            yield file
        last = file.key


def _is_text(prefix: str) -> bool:
    try:
        prefix.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key(file: ListedFile) -> str:
    return file.key


def _plain(root: str, prefix: str, after: str) -> Iterator[ListedFile]:
    start = prefix[: prefix.rfind("/") + 1]
    if start and not keys.is_plain(start[:-1]):
        return
    for path, status in _walk(root, start, start, _Asked(_spell_plain, prefix, after)):
        yield ListedFile(path, path, status)


def _spell_plain(text: str, name: str, is_folder: bool) -> str | None:
    path = text + name
    try:
        keys.key_of(path)
    except keys.InvalidKey:
        return None
    return path + "/" if is_folder else path


def _escaped(root: str, prefix: str, after: str) -> Iterator[ListedFile]:
    spelled = keys.spell(prefix)
    text = keys.spelled_folder(spelled)
    start = "/".join([keys.RESERVED, *(text[at : at + keys.CHUNK] for at in range(0, len(text), keys.CHUNK)), ""])
    for path, status in _walk(root, start, text, _Asked(_spell_escaped, spelled, keys.spell(after))):
        try:
            key = keys.key_of(path)
        except keys.InvalidKey:  # a stranger's file in the reserved folder
            continue
        yield ListedFile(key, path, status)


def _spell_escaped(text: str, name: str, is_folder: bool) -> str | None:
    part = keys.spelled_entry(name, is_folder=is_folder)
    return None if part is None else text + part


def _walk(root: str, start: str, text: str, asked: _Asked) -> Iterator[tuple[str, os.stat_result]]:
    """The paths below ``start`` (empty, or with its slash) whose spelled texts are asked for, in their order."""
    todo = [(start, _entries(root, start, text, asked))]
    while todo:
        path, entries = todo[-1]
        if not entries:
            todo.pop()
        elif entries[-1].is_folder:
            entry = entries.pop()
            below = f"{path}{entry.name}/"
            todo.append((below, _entries(root, below, entry.text, asked)))
        else:
            yield from _files(root, path, entries)


def _entries(root: str, path: str, text: str, asked: _Asked) -> list[_Entry]:
    """The entries to visit in one folder, the first one last."""
    visited: list[_Entry] = []
    with folder(root, path.split("/")[:-1]) as here:
        if here is None:
            return []
        with os.scandir(here) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if not is_folder and not entry.is_file(follow_symlinks=False):
                    continue
                spelled = asked.spell(text, entry.name, is_folder)
                if spelled is not None and asked.for_entry(spelled, is_folder=is_folder):
                    visited.append(_Entry(spelled, is_folder, entry.name))
    visited.sort(reverse=True)
    return visited


def _files(root: str, path: str, entries: list[_Entry]) -> Iterator[tuple[str, os.stat_result]]:
    """Take the next files off ``entries``."""
    taken: list[tuple[str, os.stat_result]] = []
    with folder(root, path.split("/")[:-1]) as here:
        while entries and not entries[-1].is_folder and len(taken) < _TOGETHER:
            name = entries.pop().name
            stat = None if here is None else regular(name, here)
            if stat is not None:
                taken.append((path + name, stat))
    yield from taken
