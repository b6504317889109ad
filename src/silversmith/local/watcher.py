"""Watches bronze: notifications become keys that may have changed; a search lists files that no notification named.

The search runs at the start, after lost notifications, and before the end, step by step beside the engine's loop. It
waits until the listed files are taken in, so that memory does not grow with the bucket.
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
from typing import Protocol

from silversmith.errors import SilversmithError
from silversmith.local import files
from silversmith.local.files import Changes, ChangesLost, Evidence, FileRefused, FileVerdict, is_temporary
from silversmith.local.services.bucket import Inbox
from silversmith.stores import keys
from silversmith.stores.local import LocalStore

#: The files that one step of a search looks at: some milliseconds.
_STEP = 100

#: The kernel reports the close of a file a moment before it no longer counts the writer. So a file that was closed and
#: seems to have a writer is looked at again after 1 ms, 2 ms, 4 ms, and so on up to this. Milliseconds.
_LONGEST_PAUSE = 256


class WatcherFailed(SilversmithError):
    """The folder is no longer watched."""


class ChangeSource(Protocol):
    """Reports changes below a folder, as the operating system does. Used by one thread at a time."""

    def start(self, wake: Callable[[], None]) -> Changes:
        """Begin. ``wake`` may be called, from any thread, when there are changes to read."""

    def restart(self) -> Changes:
        """Begin anew, after :class:`ChangesLost`."""

    def fileno(self) -> int | None:
        """A descriptor that can be read when there are changes to read, if there is one."""

    def read(self) -> Iterator[Changes]:
        """The changes since the last call. Never waits. Raises :class:`ChangesLost`, or OSError."""

    def retry(self) -> Iterator[Changes]:
        """Try again to watch folders that could not be watched."""

    def close(self) -> None:
        """End."""


@dataclass
class _Waiting:
    """A file that is not whole yet: its last identity, and since when (in the caller's seconds) it has that."""

    evidence: Evidence
    identity: tuple[int, ...] | None = None
    since: float = 0.0


class Watcher:
    """Reports the keys of files that land in ``root`` and below, once they are whole.

    The callbacks:

    - ``on_files``: keys of files that were closed by their writer, moved in, or found whole. Each is a hint: a key may
      come again without a change, and a file may have changed again when its key arrives.
    - ``on_gone``: keys of files that were removed or moved away. Others may have come in their place.
    - ``on_folder_gone``: the prefix, with its slash, of a folder that was moved away; its files are not known.
    - ``on_refused``: a file that is not taken, by its path for a person to read, and why: a link, a pipe, a device, a
      name that can be no key, a file or folder that may not be read.
    - ``on_overflow``: some changes were missed; the text says why. Call :meth:`scan`, from another thread.

    All are called from the watcher's one thread, one at a time and in order, except that :meth:`scan` calls
    ``on_refused`` from its caller's. While a callback works, the kernel keeps some 16,000 events; more is an overflow.
    After an exception from a callback ``on_overflow`` follows, for its keys are lost.

    Files with temporary names (:func:`~silversmith.local.files.is_temporary`) are passed over in silence.
    ``has_writer`` returns whether a descriptor's file is open for writing anywhere (None: not known).
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
        source: ChangeSource | None = None,
        has_writer: Callable[[int], bool | None] = files.has_writer,
    ) -> None:
        self._root = str(root.absolute())
        self._on_files = on_files
        self._on_gone = on_gone
        self._on_folder_gone = on_folder_gone
        self._on_refused = on_refused
        self._on_overflow = on_overflow
        self._source = source or _source(self._root)
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
        """Watch from now on. Files that are there already are for :meth:`scan`.

        Raises:
            WatchLimitReached: there are more folders than the machine allows watches; the text says what to do.
            OSError: ``root`` is no folder that can be watched.
        """
        self._is_stopping = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        try:
            changes = self._source.start(self._wake)
        except BaseException:
            self._close()
            raise
        self._thread = threading.Thread(target=self._run, args=(changes,), name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after the running callback. May be called again, and in a callback."""
        self._is_stopping = True
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._wake()
        if thread is not threading.current_thread():
            thread.join()

    def scan(self, now: float, *, known: Callable[[str], bool] = lambda _: False) -> Iterator[list[str]]:
        """The keys of all files that are there and whole, and not ``known``. ``now``: seconds since 1970.

        In batches, some of which may be empty. A file that is being written is reported by the watcher when it is
        closed. Call it after :meth:`start`, and from any thread but the watcher's.
        """
        batch: list[str] = []
        for number, path in enumerate(files.files_below(self._root, self._on_refused), 1):
            if number % _STEP == 0:
                yield batch
                batch = []
            key = self._key(path)
            if key is None or known(key):
                continue
            verdict = self._judge(path, Evidence.FOUND, now)
            if verdict is FileVerdict.TAKE:
                batch.append(key)
            elif verdict is not FileVerdict.LEAVE:
                self._posted.append((path, Evidence.FOUND))
        yield batch

    def recheck(self, now: float) -> None:
        """Have the watcher's thread look again at files that were not whole or could not be read, about once a second.

        ``now`` is in seconds of any clock that is always the same one.

        Raises:
            WatcherFailed: the watcher has ended, and the text says why.
        """
        if self._failure is not None:
            raise WatcherFailed(f"{self._root} is no longer watched: {self._failure}") from self._failure
        self._posted.append(now)
        self._wake()

    def _key(self, path: str, *, report: bool = True) -> str | None:
        """The key of the file at ``path`` below the root; None if its name says that it is not to be taken."""
        if not path.startswith(f"{keys.RESERVED}/") and is_temporary(path):
            return None
        try:
            key = keys.key_of(path)
        except keys.InvalidKey as error:
            if report:
                self._on_refused(keys.printable(path), str(error))
            return None
        return None if key != path and is_temporary(key) else key

    def _judge(self, path: str, evidence: Evidence, now: float | None = None) -> FileVerdict:
        try:
            state = files.examine(f"{self._root}/{path}", self._has_writer)
        except FileRefused as refused:
            self._on_refused(keys.printable(path), str(refused))
            return FileVerdict.RETRY if refused.for_now else FileVerdict.LEAVE
        if state is None:
            return FileVerdict.LEAVE
        still = 0.0 if now is None else now - state.changed
        return FileVerdict.TAKE if files.is_whole(evidence, state, still=still) else FileVerdict.WAIT

    # Everything below runs in the watcher's thread.

    def _run(self, changes: Changes) -> None:
        try:
            self._guard(lambda: self._report(changes))
            while self._is_woken():
                self._guard(self._turn)
        except Exception as error:  # noqa: BLE001 - raised by recheck()
            self._failure = error
        finally:
            self._close()

    def _is_woken(self) -> bool:
        """Wait until there is something to do. False: it shall end."""
        poll = select.poll()
        for descriptor in (self._wake_read, self._source.fileno()):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        if not self._is_stopping:
            poll.poll(self._pause if self._closing else None)
        return not self._is_stopping

    def _guard(self, work: Callable[[], None]) -> None:
        """After any error changes are lost: watch everything anew, and report an overflow."""
        try:
            work()
        except Exception as error:  # noqa: BLE001
            reason = str(error) if isinstance(error, ChangesLost) else f"{type(error).__name__}: {error}"
            changes = self._source.restart()
            self._on_overflow(reason)
            self._report(changes)

    def _turn(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        closing = set(self._closing)
        for changes in self._source.read():
            self._report(changes)
        if closing:
            self._look_at_closing(closing & self._closing)
        while self._posted:
            posted = self._posted.popleft()
            if isinstance(posted, tuple):
                path, evidence = posted
                self._waiting.setdefault(path, _Waiting(evidence))
            else:
                self._look_again(posted)

    def _report(self, changes: Changes) -> None:
        for path, reason in changes.refused:
            self._on_refused(keys.printable(path), reason)
        for folder in changes.folders_gone:
            self._on_folder_gone(folder)
        self._report_gone([path for path, evidence in changes.files.items() if evidence is Evidence.GONE])
        self._report_landed(
            {path: evidence for path, evidence in changes.files.items() if evidence is not Evidence.GONE}
        )

    def _report_gone(self, paths: list[str]) -> None:
        gone = []
        for path in paths:
            self._waiting.pop(path, None)
            self._closing.discard(path)
            key = self._key(path, report=False)
            if key is not None:
                gone.append(key)
        if gone:
            self._on_gone(gone)

    def _report_landed(self, paths: dict[str, Evidence]) -> None:
        whole: list[str] = []
        for path, evidence in paths.items():
            key = self._key(path)
            if key is None:
                continue
            verdict = self._judge(path, evidence)
            self._closing.discard(path)
            if verdict in {FileVerdict.TAKE, FileVerdict.LEAVE}:
                self._waiting.pop(path, None)
            else:
                self._waiting[path] = _Waiting(Evidence.FOUND if evidence is Evidence.CREATED else evidence)
            if verdict is FileVerdict.TAKE:
                whole.append(key)
            elif verdict is FileVerdict.WAIT and evidence is Evidence.CLOSED:
                self._closing.add(path)
                self._pause = 1
        if whole:
            self._on_files(whole)

    def _look_at_closing(self, paths: set[str]) -> None:
        """Look again at closed files, after a longer pause each time, and in the end give them up."""
        pause = self._pause * 2
        self._closing -= paths
        self._report_landed(dict.fromkeys(paths, Evidence.CLOSED))
        self._pause = pause
        if pause > _LONGEST_PAUSE:
            self._closing.clear()

    def _look_again(self, now: float) -> None:
        whole: list[str] = []
        for path, waiting in list(self._waiting.items()):
            verdict = self._judge_again(path, waiting, now)
            if verdict in {FileVerdict.TAKE, FileVerdict.LEAVE}:
                del self._waiting[path]
            if verdict is FileVerdict.TAKE:
                whole.append(keys.key_of(path))
        if whole:
            self._on_files(whole)
        for changes in self._source.retry():
            self._report(changes)

    def _judge_again(self, path: str, waiting: _Waiting, now: float) -> FileVerdict:
        try:
            state = files.examine(f"{self._root}/{path}", self._has_writer)
        except FileRefused as refused:
            return FileVerdict.RETRY if refused.for_now else FileVerdict.LEAVE
        if state is None:
            return FileVerdict.LEAVE
        if state.identity != waiting.identity:
            waiting.identity, waiting.since = state.identity, now
        is_whole = files.is_whole(waiting.evidence, state, still=now - waiting.since)
        return FileVerdict.TAKE if is_whole else FileVerdict.WAIT

    def _wake(self) -> None:
        with self._ending, contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
            if self._wake_write >= 0:
                os.write(self._wake_write, b"!")

    def _close(self) -> None:
        self._source.close()
        with self._ending:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_read = self._wake_write = -1


def _source(root: str) -> ChangeSource:
    if sys.platform == "linux":
        from silversmith.local.inotify import InotifySource

        return InotifySource(root)
    from silversmith.local.inotify import WatchdogSource

    return WatchdogSource(root)


#: While so many keys wait in the inbox, the search pauses.
MOST_PENDING = 1000


class Search:
    """Finds files of bronze that were not noticed yet. The first search is due at once.

    Args:
        watcher: lists files that are whole.
        store: the bucket's folder.
        inbox: gets their keys.
        unchanged: whether a file was noticed in its present state, as
            :meth:`~silversmith.local.services.bucket.BucketService.unchanged`.
    """

    def __init__(self, watcher: Watcher, store: LocalStore, inbox: Inbox, unchanged: Callable[..., bool]) -> None:
        self._watcher = watcher
        self._store = store
        self._inbox = inbox
        self._unchanged = unchanged
        self._is_due = True
        self._batches: Iterator[list[str]] | None = None

    @property
    def busy(self) -> bool:
        """Whether a search is due or has begun."""
        return self._is_due or self._batches is not None

    @property
    def ready(self) -> bool:
        """Whether a step would do something now."""
        return self.busy and self._inbox.pending < MOST_PENDING

    def again(self) -> None:
        """Search everything once more, from any thread, after the search that has begun."""
        self._is_due = True

    def step(self, now: float) -> None:
        """Look at the next few files, if a search is due or has begun and the inbox has room.

        ``now``: Unix seconds.
        """
        if not self.ready:
            return
        if self._batches is None:
            self._is_due = False
            self._batches = self._watcher.scan(now, known=self._known)
        batch = next(self._batches, None)
        if batch is None:
            self._batches = None
        elif batch:
            self._inbox.add(batch, scanned=True)

    def last(self, now: float) -> bool:
        """Search everything at once, trusting the watcher that ran all the time. Returns whether any file is new."""
        has_new = False
        for batch in self._watcher.scan(now, known=partial(self._known, trusting=True)):
            if batch:
                self._inbox.add(batch, scanned=True)
                has_new = True
        return has_new

    def _known(self, key: str, *, trusting: bool = False) -> bool:
        def identity() -> str:
            glance = self._store.glance(key)
            return glance.identity if glance is not None else ""  # gone, or not to be taken: the watcher decides

        return self._unchanged(key, identity, trusting=trusting)
