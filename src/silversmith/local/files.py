"""Whether a file that turned up is one to take, and whether it is whole."""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from silversmith.lineage import LONGEST_KEY
from silversmith.stores import batched, keys

#: Where nothing tells that a file is finished, this many seconds without a change must do.
QUIET = 2.0

#: Between a file's creation and its writer being counted as one are microseconds. To be on the safe side, seconds:
INSTANT = 0.1

#: So many entries of a folder are brought into order together: some megabytes.
_SORTED = 100_000

#: What copiers, browsers and editors call a file that is not finished, or not meant to be one.
_BEGINNINGS = (".", "~$")
_ENDINGS = ("~", ".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", ".swx")


def is_temporary(key: str) -> bool:
    """Whether a key's name says that it is not for others: hidden, a backup, or half done. So does a folder's name.

    A file that is renamed to its lasting name, or a folder with all that is in it, is taken then. ``key`` may be a
    folder's, with the slash at its end.
    """
    # Vim's 4913, with which it tries out a folder, is not among them: it is gone at once, and others count so far.
    return any(map(_is_temporary, key.split("/")))


def _is_temporary(name: str) -> bool:
    if name in {"", ".", ".."}:  # in keys they are names as any other
        return False
    is_emacs_lock = len(name) > 1 and name.startswith("#") and name.endswith("#")
    return name.startswith(_BEGINNINGS) or name.lower().endswith(_ENDINGS) or is_emacs_lock


def is_ignored(folder: str) -> bool:
    """Whether no file in this folder is to be taken: for its name, or because every key would be too long.

    ``folder`` is relative to the bucket's and ends with a slash; the bucket's own is empty.
    """
    if folder == "" or folder.startswith(f"{keys.RESERVED}/"):
        return False
    return is_temporary(folder) or len(os.fsencode(folder)) >= LONGEST_KEY


def files_below(root: str, on_refused: Callable[[str, str], None]) -> Iterator[str]:
    """The paths of all that is no folder below ``root``, relative to it, but for what is in ignored folders.

    Those of one folder come in order: what the journal writes of keys that are neighbours goes to the same pages.
    ``on_refused`` is told of folders that cannot be read. Raises OSError where ``root`` itself cannot.
    """
    todo = [""]
    while todo:
        folder = todo.pop()
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                for entry in _sorted(entries):
                    path = folder + entry.name
                    if not entry.is_dir(follow_symlinks=False):
                        yield path
                    elif not is_ignored(f"{path}/"):
                        todo.append(f"{path}/")
        except (FileNotFoundError, NotADirectoryError):
            if not folder:
                raise
        except PermissionError as error:
            if not folder:
                raise
            on_refused(keys.printable(folder), f"the folder cannot be read: {error.strerror}")


def _sorted(entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    """By their names; of a very large folder so many at a time, so that memory is bounded."""
    for some in batched(entries, _SORTED):
        yield from sorted(some, key=attrgetter("name"))


class Evidence(enum.Enum):
    """What is known of a file before it is looked at."""

    CLOSED = "closed"  #: a writer closed it, or it was moved in
    CREATED = "created"  #: its name came to be: most likely it will be closed
    FOUND = "found"  #: it is there
    GONE = "gone"  #: it was removed or moved away


class Verdict(enum.Enum):
    """What is done about a file."""

    TAKE = "take"
    WAIT = "wait"  #: it is not whole
    RETRY = "retry"  #: it may not be read, for now
    LEAVE = "leave"  #: it is gone, or no file to take


@dataclass
class News:
    """What happened below a folder: paths of files, and of folders with a slash at the end, relative to it."""

    files: dict[str, Evidence] = field(default_factory=dict)
    folders_gone: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)  #: path and reason


class Lost(Exception):
    """Some of what happened is not known: all that is there must be looked at. The text says why."""


class Refused(Exception):
    """This is no file to take; the text says why. ``for_now``: look at it again later."""

    def __init__(self, reason: str, *, for_now: bool = False) -> None:
        super().__init__(reason)
        self.for_now = for_now


@dataclass(frozen=True)
class Sight:
    """A regular file as it is now. ``has_writer``: some process has it open for writing; None: that cannot be told.

    ``links`` is how many names it has, ``changed`` in seconds since 1970; ``look`` is the same as long as nothing was
    changed.
    """

    has_writer: bool | None
    size: int
    links: int
    changed: float
    look: tuple[int, ...]


def is_whole(evidence: Evidence, sight: Sight, *, still: float) -> bool:
    """Whether a file can be taken. ``still``: for how many seconds at least it has not changed."""
    if sight.has_writer:
        return False
    if evidence is Evidence.CLOSED:
        return True
    if evidence is Evidence.CREATED and sight.links == 1:
        return False
    if sight.has_writer is None:
        return still >= QUIET
    # An empty file may have been created this instant, by a writer who is just about to be counted as one.
    return sight.size > 0 or still >= INSTANT


def see(path: str, has_writer: Callable[[int], bool | None]) -> Sight | None:
    """Look at the file at ``path``; None if there is none. Opens nothing but regular files, and waits for nothing.

    Raises:
        Refused: it is no regular file, or it cannot be read.
    """
    try:
        found = os.lstat(path)
        if stat.S_ISDIR(found.st_mode):
            return None
        if not stat.S_ISREG(found.st_mode):
            raise Refused(f"it is {_kind(found.st_mode)}; only regular files are taken")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        again = error.errno in {errno.EACCES, errno.EPERM}
        raise Refused(f"it cannot be read: {error.strerror}", for_now=again) from None
    try:
        now = os.fstat(descriptor)
        changed = max(now.st_mtime, now.st_ctime)
        look = (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        return Sight(has_writer(descriptor), now.st_size, now.st_nlink, changed, look)
    finally:
        os.close(descriptor)


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link, and what it points to may be anything"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def has_writer(descriptor: int) -> bool | None:
    """Whether any process has this file open for writing. None where the system does not say.

    Linux grants a read lease only on a file that nobody has open for writing, and only to the file's owner or to root.
    https://man7.org/linux/man-pages/man2/F_GETLEASE.2const.html
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        # Who opens the file in this instant waits until the lease is given back, and we are sent a signal: SIGIO,
        # which would end the process, unless another one is asked for. SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
