"""A folder and all folders below it, watched with inotify, also those that come later.

inotify watches single folders, so each new one is given a watch and only then looked through: what was in it before
the watch is found, what comes after it is told. A folder that is moved loses the watches below it and is new where it
went, so a watch never has two paths.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from silversmith.errors import SilversmithError
from silversmith.local import inotify
from silversmith.local.landing import Evidence, Lost, News, is_ignored
from silversmith.stores import keys

#: How many files are told of at once.
_TOGETHER = 1_000


class WatchLimitReached(SilversmithError):
    """The machine allows no further inotify watch, so files in some folders would go unseen."""


@dataclass(eq=False)
class _Folder:
    """A watched folder. ``path`` is relative to the root and ends with a slash, that of the root is empty."""

    path: str
    watch: int
    below: dict[str, _Folder] = field(default_factory=dict)


class Watches:
    """What happens below ``root``, read by one thread. ``kernel`` opens a queue of the kernel's events."""

    def __init__(self, root: str, kernel: Callable[[], inotify.Inotify] = inotify.Inotify) -> None:
        self._prefix = root + "/"
        self._open = kernel
        self._kernel: inotify.Inotify | None = None
        self._folders: dict[int, _Folder] = {}
        self._root: _Folder | None = None
        self._unwatched: set[str] = set()
        self._is_short = False

    def start(self, wake: Callable[[], None]) -> News:  # noqa: ARG002 - a descriptor can be waited on
        """Watch what is there. Files that are there already are not told, only folders that cannot be watched.

        Raises:
            WatchLimitReached: there are more folders than the machine allows watches.
            OSError: ``root`` is no folder that can be watched.
        """
        news = self.restart()
        if self._is_short:
            self.close()
            raise WatchLimitReached(news.refused[-1][1])
        return news

    def restart(self) -> News:
        """The same after events were lost. Where a limit is reached now, :meth:`retry` tries again."""
        self.close()
        news = News()
        try:
            self._kernel = self._open()
            for _ in self._enter("", news, tell_files=False):
                pass
        except OSError as error:
            self.close()
            if inotify.is_limit(error):
                raise WatchLimitReached(_reason(self._prefix, error)) from None
            raise
        return news

    def close(self) -> None:
        """End all watches."""
        if self._kernel is not None:
            self._kernel.close()
        self._kernel = self._root = None
        self._folders.clear()
        self._unwatched.clear()
        self._is_short = False

    def fileno(self) -> int | None:
        """The descriptor to wait on."""
        return None if self._kernel is None else self._kernel.fileno()

    def read(self) -> Iterator[News]:
        """What happened since the last call.

        Raises:
            Lost: that is not known.
        """
        assert self._kernel is not None
        news = News()
        for event in self._kernel.read():
            if event.mask & inotify.OVERFLOW:
                raise Lost("more happened at once than the kernel keeps (fs.inotify.max_queued_events)")
            folder = self._folders.get(event.watch)
            if folder is None:
                continue  # of a watch that has ended
            if event.mask & (inotify.IGNORED | inotify.UNMOUNT):
                self._folders.pop(event.watch)
                if folder is self._root:
                    raise Lost(f"the folder {self._prefix} was removed")
            elif event.mask & (inotify.DELETE_SELF | inotify.MOVE_SELF):
                raise Lost(f"the folder {self._prefix} was moved or removed")
            elif event.mask & inotify.IS_FOLDER:
                yield from self._apply_to_folder(folder, event, news)
            else:
                news.files[folder.path + event.name] = _evidence(event.mask)
        yield news

    def _apply_to_folder(self, above: _Folder, event: inotify.Event, news: News) -> Iterator[News]:
        path = f"{above.path}{event.name}/"
        if event.mask & (inotify.MOVED_FROM | inotify.DELETE):
            self._unwatched.discard(path)
            self._drop(above.below.pop(event.name, None))
            if event.mask & inotify.MOVED_FROM and not is_ignored(path):
                news.folders_gone.append(path)
        else:
            yield from self._enter(path, news, tell_files=True)

    def retry(self) -> Iterator[News]:
        """Try once more to watch the folders that could not be watched, and tell what is in those that now can."""
        news = News()
        for path in list(self._unwatched):
            yield from self._enter(path, news, tell_files=True)
        yield news

    def _enter(self, path: str, news: News, *, tell_files: bool) -> Iterator[News]:
        """Watch a folder and those below it, and look through them. Yields and empties ``news.files`` when full."""
        todo = [path]
        while todo:
            path = todo.pop()
            if is_ignored(path) or not self._watch(path, news):
                continue
            for name, is_folder in _entries(self._prefix + path):
                if is_folder:
                    todo.append(f"{path}{name}/")
                elif tell_files and news.files.get(path + name) is not Evidence.CLOSED:
                    news.files[path + name] = Evidence.FOUND
                    if len(news.files) >= _TOGETHER:
                        yield News(dict(news.files))
                        news.files.clear()

    def _watch(self, path: str, news: News) -> bool:
        """Whether the folder is watched now and was not before."""
        assert self._kernel is not None
        try:
            watch = self._kernel.add(self._prefix + path, inotify.DELETE_SELF | inotify.MOVE_SELF if not path else 0)
        except OSError as error:
            if not path:
                raise
            if isinstance(error, (FileNotFoundError, NotADirectoryError)):
                self._unwatched.discard(path)  # gone again, or not a folder any more: its own events tell
            elif path not in self._unwatched:
                self._unwatched.add(path)
                self._is_short |= inotify.is_limit(error)
                news.refused.append((path, _reason(self._prefix + path, error)))
            return False
        self._unwatched.discard(path)
        known = self._folders.get(watch)
        if known is not None and known.path == path:
            return False
        # Known by another path, it was moved here, and the event that says so is still to be read. What was below it
        # by its old name is dropped then, but for what has been found below the new one.
        self._attach(_Folder(path, watch))
        return True

    def _attach(self, folder: _Folder) -> None:
        self._folders[folder.watch] = folder
        if not folder.path:
            self._root = folder
            return
        above, _, name = folder.path[:-1].rpartition("/")
        parent = self._find(above)
        if parent is not None:
            parent.below[name] = folder

    def _find(self, path: str) -> _Folder | None:
        folder = self._root
        for name in filter(None, path.split("/")):
            folder = folder and folder.below.get(name)
        return folder

    def _drop(self, folder: _Folder | None) -> None:
        """Forget a folder and all below it, and end their watches."""
        assert self._kernel is not None
        todo = [folder] if folder is not None else []
        while todo:
            folder = todo.pop()
            todo.extend(folder.below.values())
            if self._folders.get(folder.watch) is folder:
                del self._folders[folder.watch]
                self._kernel.remove(folder.watch)


def _evidence(mask: int) -> Evidence:
    if mask & (inotify.CLOSE_WRITE | inotify.MOVED_TO):
        return Evidence.CLOSED
    return Evidence.CREATED if mask & inotify.CREATE else Evidence.GONE


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name, entry.is_dir(follow_symlinks=False)


def _reason(folder: str, error: OSError) -> str:
    text = f"{keys.printable(folder)} cannot be watched, so files in it are not noticed: "
    if not inotify.is_limit(error):
        return f"{text}{error.strerror}."
    if error.errno == errno.ENOSPC:
        limit, setting = "watches is reached, and every folder takes one", "max_user_watches=1048576"
    else:
        limit, setting = "instances is reached, and every engine takes one", "max_user_instances=1024"
    return f"{text}this machine's limit of inotify {limit}. Raise it: sudo sysctl fs.inotify.{setting}"
