"""From the watcher's word that a key may have changed to what the bucket room needs: identity, ETag and size.

Reading a file for its ETag takes time, so it happens beside the engine's loop: small files in one thread in the order
in which they came, each large one in another.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from silversmith.errors import SilversmithError
from silversmith.local.bucket import DOUBTFUL, Landed
from silversmith.stores import Head
from silversmith.stores.local import Glance, LocalStore

#: How many small files, if so many were found at once, there are to take when the engine is woken: each time it is, it
#: makes several transactions.
AT_ONCE = 64


class Inbox:
    """What landed and was not taken yet.

    Args:
        store: the bronze bucket's folder.
        wake: called, from any thread, when there is something to take.
    """

    def __init__(self, store: LocalStore, wake: Callable[[], None]) -> None:
        self._store = store
        self._wake = wake
        self._ready: queue.SimpleQueue[Landed] = queue.SimpleQueue()
        self._gone: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._folders_gone: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending = 0
        self._small = ThreadPoolExecutor(1, thread_name_prefix="inbox")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="inbox-large")

    @property
    def pending(self) -> int:
        """How many keys were found and are not taken yet."""
        with self._lock:
            return self._pending

    def found(self, keys: Sequence[str], *, scanned: bool = False) -> None:
        """Keys whose files may be new. From any thread; returns at once. ``scanned``: they were only found there."""
        with self._lock:
            self._pending += len(keys)
        self._small.submit(self._look, keys, scanned)

    def gone(self, keys: Sequence[str]) -> None:
        """Keys whose files were removed. From any thread."""
        for key in keys:
            self._gone.put(key)
        self._wake()

    def folder_gone(self, prefix: str) -> None:
        """A folder that was moved away, with all that was in it; ``prefix`` ends with a slash. From any thread."""
        self._folders_gone.put(prefix)
        self._wake()

    def take(self, most: int) -> list[Landed]:
        """What is ready, up to ``most``, in the order in which it landed; the newest state of each key, once."""
        landed: dict[str, Landed] = {}
        taken = 0
        while taken < most:
            try:
                file = self._ready.get_nowait()
            except queue.Empty:
                break
            landed.pop(file.key, None)
            landed[file.key] = file
            taken += 1
        with self._lock:
            self._pending -= taken
        return list(landed.values())

    def take_gone(self) -> tuple[list[str], list[str]]:
        """The keys that were removed since the last call, and the prefixes of the folders that were moved away."""
        return _emptied(self._gone), _emptied(self._folders_gone)

    def close(self) -> None:
        """End the threads; what was not looked at yet is found by the next start's scan."""
        self._small.shutdown(wait=True, cancel_futures=True)
        self._large.shutdown(wait=True, cancel_futures=True)

    def _look(self, keys: Sequence[str], scanned: bool) -> None:
        for number, key in enumerate(keys, 1):
            try:
                found = self._store.look(key)
            except (OSError, SilversmithError):
                found = None
            if found is not None and found[1] is None:
                self._large.submit(self._read, key, found[0], scanned)
            else:
                self._put(key, found, scanned)
            if number % AT_ONCE == 0 or number == len(keys):
                self._wake()

    def _read(self, key: str, glance: Glance, scanned: bool) -> None:
        try:
            head = self._store.head(key)
        except (OSError, SilversmithError):
            head = None
        self._put(key, (glance, head), scanned)
        self._wake()

    def _put(self, key: str, found: tuple[Glance, Head | None] | None, scanned: bool) -> None:
        """A file that went away meanwhile, or cannot be read, is one the less; its next event or a scan brings it.

        Its identity was taken before it was read: if it changes meanwhile, its old identity tells the next scan.
        """
        glance, head = found or (None, None)
        if glance is None or head is None:
            with self._lock:
                self._pending -= 1
        else:
            identity = glance.identity + DOUBTFUL * glance.racy
            self._ready.put(Landed(key, identity, head.etag, head.size, scanned))


def _emptied(waiting: queue.SimpleQueue[str]) -> list[str]:
    found = []
    while True:
        try:
            found.append(waiting.get_nowait())
        except queue.Empty:
            return found
