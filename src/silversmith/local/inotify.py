"""File notifications of a folder and all folders below it: inotify on Linux, watchdog (FSEvents) on macOS.

Watchdog cannot serve on Linux: where folders are moved it may lose a watch, it sends no event when the kernel drops
events or refuses a watch, and it delays all events for half a second after each file that is moved away
(docs/decisions/0009-inotify-and-psutil.md). Neither can watchfiles, which reports no close of a file.

inotify watches single folders, so a new folder gets a watch first and is listed then: files from before the watch are
in the listing, later ones in the events. A folder that is moved loses its watches and is new at its new path, so a
watch never has two paths.
https://man7.org/linux/man-pages/man7/inotify.7.html
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from watchdog.events import FileClosedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from silversmith.errors import SilversmithError
from silversmith.local.files import Changes, ChangesLost, Evidence, files_below, is_ignored
from silversmith.stores import keys

CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
UNMOUNT = 0x2000
OVERFLOW = 0x4000
IGNORED = 0x8000
IS_FOLDER = 0x4000_0000

_ONLY_FOLDERS = 0x0100_0000
_NO_LINKS = 0x0200_0000
_NOT_UNLINKED = 0x0400_0000
_WATCHED = CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | _ONLY_FOLDERS | _NO_LINKS | _NOT_UNLINKED

#: A read takes up to this many bytes: about as many events as the kernel queues.
_BUFFER = 512 * 1024

_HEADER = struct.Struct("iIII")


class Event(NamedTuple):
    """A change of ``name`` in the watched folder, or of the folder itself where ``name`` is empty."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One queue of events of any number of folders. Every method may raise OSError."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = _checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._descriptor

    def add(self, folder: str, extra: int = 0) -> int:
        """Watch a folder, not a link to one. The number of its watch: the same one while it is watched already."""
        return _checked(self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _WATCHED | extra))

    def remove(self, watch: int) -> None:
        """End a watch; nothing happens where it has ended already."""
        self._libc.inotify_rm_watch(self._descriptor, watch)

    def read(self) -> list[Event]:
        """The events that are waiting; none if none are."""
        try:
            data = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return []
        events = []
        at = 0
        while at < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size
            events.append(Event(watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
            at += length
        return events

    def close(self) -> None:
        """End all watches."""
        os.close(self._descriptor)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def is_limit(error: OSError) -> bool:
    """Whether the machine allows no further watch (ENOSPC) or queue (EMFILE)."""
    return error.errno in {errno.ENOSPC, errno.EMFILE}


_CHANGES = frozenset({"created", "modified", "moved", "deleted", "closed"})


class WatchdogSource(FileSystemEventHandler):
    """Changes below ``root``, by watchdog. ``observer`` makes one of its observers, which calls back in its thread."""

    def __init__(self, root: str, observer: Callable[[], BaseObserver] = Observer) -> None:
        self._root = os.path.realpath(root)
        self._make = observer
        self._observer: BaseObserver | None = None
        self._events: deque[FileSystemEvent] = deque()
        self._wake: Callable[[], None] = lambda: None

    def start(self, wake: Callable[[], None]) -> Changes:
        """Watch. Raises OSError if ``root`` cannot be watched."""
        self._wake = wake
        return self.restart()

    def restart(self) -> Changes:
        """Watch anew."""
        self.close()
        Path(self._root).stat()
        observer = self._make()
        observer.schedule(self, self._root, recursive=True)
        observer.start()
        self._observer = observer
        return Changes()

    def fileno(self) -> int | None:
        """None: the observer's thread wakes the reader."""
        return None

    def close(self) -> None:
        """End, and wait for the observer's thread to."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None
        self._events.clear()

    def retry(self) -> Iterator[Changes]:
        """Do nothing: no limit was reached."""
        return iter(())

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called by watchdog."""
        if event.event_type in _CHANGES and not (event.is_directory and event.event_type == "modified"):
            self._events.append(event)
            self._wake()

    def read(self) -> Iterator[Changes]:
        """The changes since the last call. Raises ChangesLost when the folder itself is gone."""
        changes = Changes()
        while self._events:
            event = self._events.popleft()
            if event.event_type in {"moved", "deleted"}:
                self._leave(self._relative(event.src_path), event, changes)
            if event.event_type != "deleted":
                path = event.dest_path if event.event_type == "moved" else event.src_path
                self._arrive(self._relative(path), event, changes)
        yield changes

    def _leave(self, path: str, event: FileSystemEvent, changes: Changes) -> None:
        if path == "":
            raise ChangesLost(f"the folder {self._root} was moved or removed")
        if not event.is_directory:
            changes.files[path] = Evidence.GONE
        elif event.event_type == "moved":
            changes.folders_gone.append(f"{path}/")

    def _arrive(self, path: str, event: FileSystemEvent, changes: Changes) -> None:
        if not event.is_directory:
            changes.files[path] = Evidence.CLOSED if isinstance(event, FileClosedEvent) else Evidence.FOUND
            return
        try:
            for name in files_below(f"{self._root}/{path}", lambda *_: None):
                changes.files.setdefault(f"{path}/{name}", Evidence.FOUND)
        except OSError:  # gone again
            return

    def _relative(self, path: bytes | str) -> str:
        relative = os.path.relpath(os.fsdecode(path), self._root)
        return "" if relative == "." else relative


#: The most files that are reported together.
_MOST_FILES = 1_000


class WatchLimitReached(SilversmithError):
    """The machine allows no further inotify watch, so files in some folders would go unseen."""


class InotifySource:
    """Changes below ``root``, read by one thread. ``kernel`` opens a queue of the kernel's events."""

    def __init__(self, root: str, kernel: Callable[[], Inotify] = Inotify) -> None:
        self._prefix = root + "/"
        self._open = kernel
        self._kernel: Inotify | None = None
        #: By the number of its watch, the path of each watched folder: relative to the root, with a slash at its end.
        self._folders: dict[int, str] = {}
        self._unwatched: set[str] = set()
        self._is_short = False

    def start(self, wake: Callable[[], None]) -> Changes:  # noqa: ARG002 - a descriptor can be waited on
        """Watch all folders. Files that are there already are not reported, only folders that cannot be watched.

        Raises:
            WatchLimitReached: there are more folders than the machine allows watches.
            OSError: ``root`` is no folder that can be watched.
        """
        changes = self.restart()
        if self._is_short:
            self.close()
            raise WatchLimitReached(changes.refused[-1][1])
        return changes

    def restart(self) -> Changes:
        """Watch all folders again after events were lost. Where a limit is reached now, :meth:`retry` tries again."""
        self.close()
        changes = Changes()
        try:
            self._kernel = self._open()
            for _ in self._enter("", changes, report_files=False):
                pass
        except OSError as error:
            self.close()
            if is_limit(error):
                raise WatchLimitReached(_reason(self._prefix, error)) from None
            raise
        return changes

    def close(self) -> None:
        """End all watches."""
        if self._kernel is not None:
            self._kernel.close()
        self._kernel = None
        self._folders.clear()
        self._unwatched.clear()
        self._is_short = False

    def fileno(self) -> int | None:
        """The descriptor to wait on."""
        return None if self._kernel is None else self._kernel.fileno()

    def read(self) -> Iterator[Changes]:
        """The changes since the last call.

        Raises:
            ChangesLost: some of them were missed.
        """
        assert self._kernel is not None
        changes = Changes()
        for event in self._kernel.read():
            if event.mask & OVERFLOW:
                raise ChangesLost("more happened at once than the kernel keeps (fs.inotify.max_queued_events)")
            folder = self._folders.get(event.watch)
            if folder is None:
                continue  # of a watch that has ended
            if event.mask & (IGNORED | UNMOUNT):
                del self._folders[event.watch]
                if folder == "":
                    raise ChangesLost(f"the folder {self._prefix} was removed")
            elif event.mask & (DELETE_SELF | MOVE_SELF):
                raise ChangesLost(f"the folder {self._prefix} was moved or removed")
            elif event.mask & IS_FOLDER:
                yield from self._apply_to_folder(folder, event, changes)
            else:
                changes.files[folder + event.name] = _evidence(event.mask)
        yield changes

    def _apply_to_folder(self, above: str, event: Event, changes: Changes) -> Iterator[Changes]:
        path = f"{above}{event.name}/"
        if not event.mask & (MOVED_FROM | DELETE):
            yield from self._enter(path, changes, report_files=True)
            return
        self._unwatched.discard(path)
        if event.mask & MOVED_FROM and not is_ignored(path):
            self._drop(path)
            changes.folders_gone.append(path)

    def retry(self) -> Iterator[Changes]:
        """Try once more to watch the folders that could not be watched, and report the files in those that now are."""
        changes = Changes()
        for path in list(self._unwatched):
            yield from self._enter(path, changes, report_files=True)
        yield changes

    def _enter(self, path: str, changes: Changes, *, report_files: bool) -> Iterator[Changes]:
        """Watch a folder and those below it, and look through them. Yields and empties ``changes.files`` when full."""
        todo = [path]
        while todo:
            path = todo.pop()
            if is_ignored(path) or not self._watch(path, changes):
                continue
            for name, is_folder in _entries(self._prefix + path):
                if is_folder:
                    todo.append(f"{path}{name}/")
                elif report_files and changes.files.get(path + name) is not Evidence.CLOSED:
                    changes.files[path + name] = Evidence.FOUND
                    if len(changes.files) >= _MOST_FILES:
                        yield Changes(dict(changes.files))
                        changes.files.clear()

    def _watch(self, path: str, changes: Changes) -> bool:
        """Whether the folder is watched now and was not before."""
        assert self._kernel is not None
        try:
            watch = self._kernel.add(self._prefix + path, DELETE_SELF | MOVE_SELF if not path else 0)
        except OSError as error:
            if not path:
                raise
            if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                self._unwatched.discard(path)  # gone again, or not a folder any more: its own events say so
            elif path not in self._unwatched:
                self._unwatched.add(path)
                self._is_short |= is_limit(error)
                changes.refused.append((path, _reason(self._prefix + path, error)))
            return False
        self._unwatched.discard(path)
        if self._folders.get(watch) == path:
            return False
        # Known by another path, it was moved here, and the event that says so is still to be read.
        self._folders[watch] = path
        return True

    def _drop(self, path: str) -> None:
        """End the watches of a folder that was moved away, and of all below it. Those of a removed one end by
        themselves."""
        assert self._kernel is not None
        for watch in [watch for watch, folder in self._folders.items() if folder.startswith(path)]:
            del self._folders[watch]
            self._kernel.remove(watch)


def _evidence(mask: int) -> Evidence:
    if mask & (CLOSE_WRITE | MOVED_TO):
        return Evidence.CLOSED
    return Evidence.CREATED if mask & CREATE else Evidence.GONE


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name, entry.is_dir(follow_symlinks=False)


def _reason(folder: str, error: OSError) -> str:
    text = f"{keys.printable(folder)} cannot be watched, so files in it are not noticed: "
    if not is_limit(error):
        return f"{text}{error.strerror}."
    if error.errno == errno.ENOSPC:
        limit, setting = "watches is reached, and every folder takes one", "max_user_watches=1048576"
    else:
        limit, setting = "instances is reached, and every engine takes one", "max_user_instances=1024"
    return f"{text}this machine's limit of inotify {limit}. Raise it: sudo sysctl fs.inotify.{setting}"
