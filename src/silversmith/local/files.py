"""Whether a file that appeared in bronze is to be taken, and whether it is whole."""

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

#: Where the system does not say whether a file is open, it is whole after so many seconds without a change.
QUIET = 2.0

#: The seconds after which the writer of a new file is surely counted as one. It takes microseconds.
INSTANT = 0.1

#: The entries of a folder that are sorted together: some megabytes.
_SORTED = 100_000

#: The names that copiers, browsers and editors give to files that are not finished, or not meant for others.
_BEGINNINGS = (".", "~$")
_ENDINGS = ("~", ".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", ".swx")


def is_temporary(key: str) -> bool:
    """Whether a name in the key, of the file or of a folder, is hidden, a backup's, or an unfinished file's.

    When the file or folder is renamed to its lasting name, it is taken. ``key`` may be a folder's, with a slash at its
    end.
    """
    return any(map(_is_temporary, key.split("/")))


def _is_temporary(name: str) -> bool:
    if name in {"", ".", ".."}:  # in keys these are ordinary names
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
    """The paths of all files below ``root``, relative to it, except those in ignored folders.

    Those of one folder come in order: the journal's rows of neighbouring keys go to the same pages. ``on_refused`` is
    called for folders that cannot be read. Raises OSError where ``root`` itself cannot.
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
    """Sorted by name; the entries of a very large folder in parts, so that memory is bounded."""
    for some in batched(entries, _SORTED):
        yield from sorted(some, key=attrgetter("name"))


class Evidence(enum.Enum):
    """The reason why a file was noticed."""

    CLOSED = "closed"  #: a writer closed it, or it was moved in
    CREATED = "created"  #: its name is new: most likely a writer will close it
    FOUND = "found"  #: it is there
    GONE = "gone"  #: it was removed or moved away


class FileVerdict(enum.Enum):
    """The decision about a file."""

    TAKE = "take"
    WAIT = "wait"  #: it is not whole
    RETRY = "retry"  #: it may not be read, for now
    LEAVE = "leave"  #: it is gone, or no file to take


@dataclass
class Changes:
    """Changes below a folder: paths of files, and of folders with a slash at the end, relative to it."""

    files: dict[str, Evidence] = field(default_factory=dict)
    folders_gone: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)  #: path and reason


class ChangesLost(Exception):
    """Some changes were missed: everything below the folder must be looked at. The text says why."""


class FileRefused(Exception):
    """A file is not to be taken; the text says why. ``for_now``: look at it again later."""

    def __init__(self, reason: str, *, for_now: bool = False) -> None:
        super().__init__(reason)
        self.for_now = for_now


@dataclass(frozen=True)
class FileState:
    """A regular file as it is now. ``has_writer``: some process has it open for writing; None: the system does not say.

    ``links`` is the number of its names, ``changed`` in seconds since 1970; ``identity`` stays the same until the file
    is changed.
    """

    has_writer: bool | None
    size: int
    links: int
    changed: float
    identity: tuple[int, ...]


def is_whole(evidence: Evidence, state: FileState, *, still: float) -> bool:
    """Whether a file can be taken. ``still``: it has not changed for at least so many seconds."""
    if state.has_writer:
        return False
    if evidence is Evidence.CLOSED:
        return True
    if evidence is Evidence.CREATED and state.links == 1:
        return False
    if state.has_writer is None:
        return still >= QUIET
    # An empty file may have been created this instant, by a writer that is not counted as one yet.
    return state.size > 0 or still >= INSTANT


def examine(path: str, has_writer: Callable[[int], bool | None]) -> FileState | None:
    """The state of the file at ``path``; None if there is none. Opens only regular files, and never waits.

    Raises:
        Refused: it is no regular file, or it cannot be read.
    """
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            return None
        if not stat.S_ISREG(mode):
            raise FileRefused(f"it is {_kind(mode)}; only regular files are taken")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        again = error.errno in {errno.EACCES, errno.EPERM}
        raise FileRefused(f"it cannot be read: {error.strerror}", for_now=again) from None
    try:
        now = os.fstat(descriptor)
        changed = max(now.st_mtime, now.st_ctime)
        identity = (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        return FileState(has_writer(descriptor), now.st_size, now.st_nlink, changed, identity)
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
        # A process that opens the file in this instant waits until the lease is returned, and this one gets a signal:
        # SIGIO, which would end it, unless another one is set. SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
