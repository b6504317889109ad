"""Etags that are known later than the rest of a head: when somebody asks, or when a thread has worked them out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from silversmith.stores import Head


class LaterHead(Head):
    """A head whose etag is worked out when it is first asked for: for many uses nobody asks, or not soon."""

    _etag: Callable[[], str]

    def __init__(self, key: str, size: int, modified: datetime, etag: Callable[[], str]) -> None:
        self.__dict__.update(key=key, size=size, modified=modified, version=None, metadata={}, _etag=etag)

    def __getattr__(self, name: str) -> Any:
        if name != "etag":
            raise AttributeError(name)
        return self.__dict__.setdefault("etag", self._etag())


class Underway:
    """An etag that a thread works out meanwhile.

    Args:
        work: works it out; asks now and then whether it may stop, and gives what it likes then.
    """

    def __init__(self, work: Callable[[Callable[[], bool]], str]) -> None:
        self._stopped = threading.Event()
        self._found: Future[str] = Future()
        self._thread = threading.Thread(target=self._run, args=(work,), name="etag", daemon=True)
        self._thread.start()

    def etag(self) -> str:
        """Waits for it.

        Raises:
            OSError: the file cannot be read.
        """
        return self._found.result()

    def stop(self) -> None:
        """Nobody needs it any more. When this returns, nothing is read any more."""
        self._stopped.set()
        self._thread.join()

    def _run(self, work: Callable[[Callable[[], bool]], str]) -> None:
        try:
            self._found.set_result(work(self._stopped.is_set))
        except BaseException as error:  # noqa: BLE001 -- it is raised where the etag is asked for
            self._found.set_exception(error)
