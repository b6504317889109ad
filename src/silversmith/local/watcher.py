"""Watches bronze: notifications become keys that may have changed; a search lists what no notification named.

The search runs at the start, after lost notifications, and before the end, step by step beside the engine's loop. It
waits until what it has listed is taken in, so that memory does not grow with the bucket.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from silversmith.errors import SilversmithError
from silversmith.local import files as landing
from silversmith.local.files import Evidence, Lost, News, Refused, Verdict, is_temporary
from silversmith.local.services.bucket import Inbox
from silversmith.stores import keys
from silversmith.stores.local import LocalStore

#: So many files are looked at together in a search: some milliseconds.
_TOGETHER = 100

#: The kernel tells that a file is closed a moment before it no longer counts the writer. So a file that was closed
#: and seems to have a writer is looked at again after 1 ms, 2 ms, 4 ms, and so on up to this. Milliseconds.
_LONGEST_PAUSE = 256


class WatcherFailed(SilversmithError):
    """The folder is no longer watched."""


class Changes(Protocol):
    """What happens below a folder, as the operating system tells it. Used by one thread at a time."""

    def start(self, wake: Callable[[], None]) -> News:
        """Begin. ``wake`` may be called, from any thread, when there is something to read."""

    def restart(self) -> News:
        """Begin anew, after :class:`Lost`."""

    def fileno(self) -> int | None:
        """A descriptor that can be read when there is something to read, if there is one."""

    def read(self) -> Iterator[News]:
        """What happened since the last call. Waits for nothing. Raises :class:`Lost`, or OSError."""

    def retry(self) -> Iterator[News]:
        """Try again what did not work."""

    def close(self) -> None:
        """End."""


@dataclass
class _Waiting:
    """A file that is not whole yet: how it looked last, and since when (in the caller's seconds) it looks like that."""

    evidence: Evidence
    look: tuple[int, ...] | None = None
    since: float = 0.0


class Watcher:
    """Tells of the files that land in ``root`` and below, once they are whole, by their keys.

    The callbacks:

    - ``on_files``: keys of files that were closed by their writer, moved in, or found whole. A key may come again
      without anything new, and a file may have changed again when its key arrives: it is a hint that it may have.
    - ``on_gone``: keys of files that were removed or moved away. Others may have come in their place.
    - ``on_folder_gone``: the prefix, with its slash, of a folder that was moved away; what was in it is not known.
    - ``on_refused``: a file that is not taken, by its path for a person to read, and why: a link, a pipe, a device, a
      name that can be no key, a file or folder that may not be read.
    - ``on_overflow``: some of what happened was missed; the text says why. Call :meth:`scan`, from another thread.

    All are called from the watcher's one thread, one at a time and in order, except that :meth:`scan` calls
    ``on_refused`` from its caller's. While a callback works, the kernel keeps some 16,000 events; more is an overflow.
    An exception from a callback loses what it was told, so ``on_overflow`` follows.

    Files with temporary names (:func:`~silversmith.local.files.is_temporary`) are passed over without a word.
    ``has_writer`` tells whether a descriptor's file is open for writing anywhere (None: not known).
    """

    def __init__(
        self,
        root: Path,
        *,
        on_files: Callable[[list[str]], None],
        on_gone: Callable[[list[str]], None],
        on_folder_gone: Callable[[str], None],
        on_refused: Callable[[str, str], None],
        on_overflow: Callable[[str], None],
        changes: Changes | None = None,
        has_writer: Callable[[int], bool | None] = landing.has_writer,
    ) -> None:
        self._root = str(root.absolute())
        self._on_files = on_files
        self._on_gone = on_gone
        self._on_folder_gone = on_folder_gone
        self._on_refused = on_refused
        self._on_overflow = on_overflow
        self._changes = changes or _changes(self._root)
        self._has_writer = has_writer
        self._waiting: dict[str, _Waiting] = {}
        self._posted: deque[float | tuple[str, Evidence]] = deque()
        self._is_stopping = False
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self._closing: set[str] = set()
        self._pause = 1
        self._ending = threading.Lock()
        self._wake_read, self._wake_write = -1, -1

    def start(self) -> None:
        """Watch from now on. What is there already is :meth:`scan`'s.

        Raises:
            WatchLimitReached: there are more folders than the machine allows watches; the text says what to do.
            OSError: ``root`` is no folder that can be watched.
        """
        self._is_stopping = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        try:
            news = self._changes.start(self._wake)
        except BaseException:
            self._close()
            raise
        self._thread = threading.Thread(target=self._run, args=(news,), name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after the callback that is at work. Nothing is left behind. May be called again, and in a callback."""
        self._is_stopping = True
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._wake()
        if thread is not threading.current_thread():
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def scan(self, now: float, *, known: Callable[[str], bool] = lambda _: False) -> Iterator[list[str]]:
        """The keys of all files that are there and whole, and not ``known``. ``now``: seconds since 1970.

        In batches, of those that were looked at together: some may be empty. What is being written is left to its end:
        the watcher tells of it then. Call it after :meth:`start`, and from any thread but the watcher's.
        """
        batch: list[str] = []
        for number, path in enumerate(landing.files_below(self._root, self._on_refused), 1):
            if number % _TOGETHER == 0:
                yield batch
                batch = []
            key = self._key(path)
            if key is None or known(key):
                continue
            verdict = self._judge(path, Evidence.FOUND, now)
            if verdict is Verdict.TAKE:
                batch.append(key)
            elif verdict is not Verdict.LEAVE:
                self._posted.append((path, Evidence.FOUND))
        yield batch

    def recheck(self, now: float) -> None:
        """Look again at what was not whole or could not be read. Call it about once a second; it only leaves word.

        ``now`` is in seconds of any clock that is always the same one.

        Raises:
            WatcherFailed: the watcher has ended, and the text says why.
        """
        if self._failure is not None:
            raise WatcherFailed(f"{self._root} is no longer watched: {self._failure}") from self._failure
        self._posted.append(now)
        self._wake()

    def _key(self, path: str, *, tell: bool = True) -> str | None:
        """The key of the file at ``path`` below the root; None if it is not to be taken for its name."""
        if not path.startswith(f"{keys.RESERVED}/") and is_temporary(path):
            return None
        try:
            key = keys.key_of(path)
        except keys.InvalidKey as error:
            if tell:
                self._on_refused(keys.printable(path), str(error))
            return None
        return None if key != path and is_temporary(key) else key

    def _judge(self, path: str, evidence: Evidence, now: float | None = None) -> Verdict:
        try:
            sight = landing.see(f"{self._root}/{path}", self._has_writer)
        except Refused as refused:
            self._on_refused(keys.printable(path), str(refused))
            return Verdict.RETRY if refused.for_now else Verdict.LEAVE
        if sight is None:
            return Verdict.LEAVE
        still = 0.0 if now is None else now - sight.changed
        return Verdict.TAKE if landing.is_whole(evidence, sight, still=still) else Verdict.WAIT

    # Everything below runs in the watcher's thread.

    def _run(self, news: News) -> None:
        try:
            self._guard(lambda: self._tell(news))
            while self._is_woken():
                self._guard(self._turn)
        except Exception as error:  # noqa: BLE001 - told by recheck()
            self._failure = error
        finally:
            self._close()

    def _is_woken(self) -> bool:
        """Wait until there is something to do. False: it is to end."""
        poll = select.poll()
        for descriptor in (self._wake_read, self._changes.fileno()):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        if not self._is_stopping:
            poll.poll(self._pause if self._closing else None)
        return not self._is_stopping

    def _guard(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong, what it was about is lost: watch everything anew and say so."""
        try:
            work()
        except Exception as error:  # noqa: BLE001
            reason = str(error) if isinstance(error, Lost) else f"{type(error).__name__}: {error}"
            news = self._changes.restart()
            self._on_overflow(reason)
            self._tell(news)

    def _turn(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        closing = set(self._closing)
        for news in self._changes.read():
            self._tell(news)
        if closing:
            self._look_at_closing(closing & self._closing)
        while self._posted:
            posted = self._posted.popleft()
            if isinstance(posted, tuple):
                path, evidence = posted
                self._waiting.setdefault(path, _Waiting(evidence))
            else:
                self._look_again(posted)

    def _tell(self, news: News) -> None:
        for path, reason in news.refused:
            self._on_refused(keys.printable(path), reason)
        for folder in news.folders_gone:
            self._on_folder_gone(folder)
        self._tell_gone([path for path, evidence in news.files.items() if evidence is Evidence.GONE])
        self._tell_landed({path: evidence for path, evidence in news.files.items() if evidence is not Evidence.GONE})

    def _tell_gone(self, paths: list[str]) -> None:
        gone = []
        for path in paths:
            self._waiting.pop(path, None)
            self._closing.discard(path)
            key = self._key(path, tell=False)
            if key is not None:
                gone.append(key)
        if gone:
            self._on_gone(gone)

    def _tell_landed(self, paths: dict[str, Evidence]) -> None:
        whole: list[str] = []
        for path, evidence in paths.items():
            key = self._key(path)
            if key is None:
                continue
            verdict = self._judge(path, evidence)
            self._closing.discard(path)
            if verdict in {Verdict.TAKE, Verdict.LEAVE}:
                self._waiting.pop(path, None)
            else:
                self._waiting[path] = _Waiting(Evidence.FOUND if evidence is Evidence.CREATED else evidence)
            if verdict is Verdict.TAKE:
                whole.append(key)
            elif verdict is Verdict.WAIT and evidence is Evidence.CLOSED:
                self._closing.add(path)
                self._pause = 1
        if whole:
            self._on_files(whole)

    def _look_at_closing(self, paths: set[str]) -> None:
        """Look again at those that were closed, after a longer pause each time, and in the end leave the rest."""
        pause = self._pause * 2
        self._closing -= paths
        self._tell_landed(dict.fromkeys(paths, Evidence.CLOSED))
        self._pause = pause
        if pause > _LONGEST_PAUSE:
            self._closing.clear()

    def _look_again(self, now: float) -> None:
        whole: list[str] = []
        for path, waiting in list(self._waiting.items()):
            verdict = self._judge_again(path, waiting, now)
            if verdict in {Verdict.TAKE, Verdict.LEAVE}:
                del self._waiting[path]
            if verdict is Verdict.TAKE:
                whole.append(keys.key_of(path))
        if whole:
            self._on_files(whole)
        for news in self._changes.retry():
            self._tell(news)

    def _judge_again(self, path: str, waiting: _Waiting, now: float) -> Verdict:
        try:
            sight = landing.see(f"{self._root}/{path}", self._has_writer)
        except Refused as refused:
            return Verdict.RETRY if refused.for_now else Verdict.LEAVE
        if sight is None:
            return Verdict.LEAVE
        if sight.look != waiting.look:
            waiting.look, waiting.since = sight.look, now
        is_whole = landing.is_whole(waiting.evidence, sight, still=now - waiting.since)
        return Verdict.TAKE if is_whole else Verdict.WAIT

    def _wake(self) -> None:
        with self._ending, contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
            if self._wake_write >= 0:
                os.write(self._wake_write, b"!")

    def _close(self) -> None:
        self._changes.close()
        with self._ending:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_read = self._wake_write = -1


def _changes(root: str) -> Changes:
    if sys.platform == "linux":
        from silversmith.local.inotify import Watches

        return Watches(root)
    from silversmith.local.inotify import Portable

    return Portable(root)


#: While so many keys are found and not taken in, the search waits.
AHEAD = 1000


class Unchanged(Protocol):
    """Whether a state of a file was noticed before; see :meth:`silversmith.local.services.bucket.Bucket.unchanged`."""

    def __call__(self, key: str, identity: Callable[[], str | None], *, trusting: bool) -> bool: ...


class Search:
    """Finds the files of bronze that were not noticed yet. One is asked for from the beginning.

    Args:
        watcher: knows which files are there and whole.
        store: the bucket's folder.
        inbox: gets what is found.
        unchanged: whether a file was noticed as it is.
    """

    def __init__(self, watcher: Watcher, store: LocalStore, inbox: Inbox, unchanged: Unchanged) -> None:
        self._watcher = watcher
        self._store = store
        self._inbox = inbox
        self._unchanged = unchanged
        self._wanted = True
        self._batches: Iterator[list[str]] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is more to look at."""
        return self._wanted or self._batches is not None

    @property
    def ready(self) -> bool:
        """Whether a step would do something now."""
        return self.busy and self._inbox.pending < AHEAD

    def again(self) -> None:
        """Look through everything once more, from any thread. One that is under way comes to its end before."""
        self._wanted = True

    def step(self, now: float) -> None:
        """Look at the next few files, if there are any to look at and there is room for what is found.

        ``now``: Unix seconds.
        """
        if not self.ready:
            return
        if self._batches is None:
            self._wanted = False
            self._batches = self._watcher.scan(now, known=self._known)
        batch = next(self._batches, None)
        if batch is None:
            self._batches = None
        elif batch:
            self._inbox.add(batch, scanned=True)

    def last(self, now: float) -> bool:
        """Look at everything at once, and trust the watcher, which was there all the time. Whether there was more."""
        found = False
        for batch in self._watcher.scan(now, known=partial(self._known, trusting=True)):
            if batch:
                self._inbox.add(batch, scanned=True)
                found = True
        return found

    def _known(self, key: str, *, trusting: bool = False) -> bool:
        def identity() -> str:
            glance = self._store.glance(key)
            return glance.identity if glance is not None else ""  # gone, or no file to take: the watcher says which

        return self._unchanged(key, identity, trusting=trusting)
