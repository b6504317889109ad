"""Looking through bronze for what nobody told of: at the start, after lost events, before the end.

It goes step by step beside the engine's loop, so that the first files are at work while the last are yet to be found,
and it does not go ahead of what is taken in, so that memory does not grow with the bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from silversmith.local.inbox import Inbox
from silversmith.local.watcher import Watcher
from silversmith.stores.local import LocalStore

#: While so many keys are found and not taken in, the search waits.
AHEAD = 1000


class Unchanged(Protocol):
    """Whether a state of a file was noticed before; see :meth:`silversmith.local.bucket.Bucket.unchanged`."""

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
            self._inbox.found(batch, scanned=True)

    def last(self, now: float) -> bool:
        """Look at everything at once, and trust the watcher, which was there all the time. Whether there was more."""
        found = False
        for batch in self._watcher.scan(now, known=partial(self._known, trusting=True)):
            if batch:
                self._inbox.found(batch, scanned=True)
                found = True
        return found

    def _known(self, key: str, *, trusting: bool = False) -> bool:
        def identity() -> str:
            glance = self._store.glance(key)
            return glance.identity if glance is not None else ""  # gone, or no file to take: the watcher says which

        return self._unchanged(key, identity, trusting=trusting)
