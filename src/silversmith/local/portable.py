"""A folder and all below it, watched with watchdog, where there is no inotify: on macOS, with its FSEvents.

Nobody tells there when a file is closed, so what is found waits until it has been quiet for a while.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from watchdog.events import FileClosedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from silversmith.local.landing import Evidence, Lost, News, files_below

_CHANGES = frozenset({"created", "modified", "moved", "deleted", "closed"})


class Portable(FileSystemEventHandler):
    """What happens below ``root``. ``observer`` makes one of watchdog's; it calls back in its own thread."""

    def __init__(self, root: str, observer: Callable[[], BaseObserver] = Observer) -> None:
        self._root = os.path.realpath(root)
        self._make = observer
        self._observer: BaseObserver | None = None
        self._events: deque[FileSystemEvent] = deque()
        self._wake: Callable[[], None] = lambda: None

    def start(self, wake: Callable[[], None]) -> News:
        """Watch. Raises OSError if ``root`` cannot be watched."""
        self._wake = wake
        return self.restart()

    def restart(self) -> News:
        """Watch anew."""
        self.close()
        Path(self._root).stat()
        observer = self._make()
        observer.schedule(self, self._root, recursive=True)
        observer.start()
        self._observer = observer
        return News()

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

    def retry(self) -> Iterator[News]:
        """Nothing to do."""
        return iter(())

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called by watchdog."""
        if event.event_type in _CHANGES and not (event.is_directory and event.event_type == "modified"):
            self._events.append(event)
            self._wake()

    def read(self) -> Iterator[News]:
        """What happened. Raises Lost when the folder itself is gone."""
        news = News()
        while self._events:
            event = self._events.popleft()
            if event.event_type in {"moved", "deleted"}:
                self._leave(self._relative(event.src_path), event, news)
            if event.event_type != "deleted":
                path = event.dest_path if event.event_type == "moved" else event.src_path
                self._arrive(self._relative(path), event, news)
        yield news

    def _leave(self, path: str, event: FileSystemEvent, news: News) -> None:
        if path == "":
            raise Lost(f"the folder {self._root} was moved or removed")
        if not event.is_directory:
            news.files[path] = Evidence.GONE
        elif event.event_type == "moved":
            news.folders_gone.append(f"{path}/")

    def _arrive(self, path: str, event: FileSystemEvent, news: News) -> None:
        if not event.is_directory:
            news.files[path] = Evidence.CLOSED if isinstance(event, FileClosedEvent) else Evidence.FOUND
            return
        try:
            for name in files_below(f"{self._root}/{path}", lambda *_: None):
                news.files.setdefault(f"{path}/{name}", Evidence.FOUND)
        except OSError:  # gone again
            return

    def _relative(self, path: bytes | str) -> str:
        relative = os.path.relpath(os.fsdecode(path), self._root)
        return "" if relative == "." else relative
