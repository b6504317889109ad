"""Files below one folder, and never outside it: no symbolic link is followed, nothing but a regular file is opened.

Every folder on the way is opened from the one above it, so that a link put in its place a moment later changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence

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
    """What the regular file ``root/path`` is; None where there is none. One failed call where there is nothing."""
    found = _glance(root, path)
    *names, name = path.split("/")
    if found is None or not names:
        return found
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
        found = os.lstat(f"{root}/{path}")
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP} | _UNFIT:
            return None
        raise
    return found if stat.S_ISREG(found.st_mode) else None


def regular(name: str, here: int) -> os.stat_result | None:
    """What the regular file ``name`` of an open folder is; None where there is none."""
    try:
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


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
