"""Questions in a process of their own: delta-rs holds Python's lock while it waits for S3, and the page answers nobody
else meanwhile. docs/decisions/0138-the-page-reads-gold-in-a-process.md
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

from silversmith.errors import SilversmithError, SystemFault


class ProcessLost(SystemFault):
    """The process that reads tables ended."""


class Apart:
    """A process that opens a backend by itself and answers questions over it, one after the other. It is started by the
    first of them, and ends with this process, however that ends. Any thread may call.

    Args:
        backend: makes the :class:`~silversmith.page.backend.Backend`, there.
        arguments: what it is made of.
    """

    def __init__(self, backend: Callable[..., Any], *arguments: Any) -> None:
        self._backend = backend
        self._arguments = arguments
        self._connection: Connection | None = None
        self._lock = Lock()

    def answer(self, question: Callable[..., Any], *arguments: Any, tell: Callable[[str], None]) -> Any:
        """What a function of a module gives for these arguments, the pipeline and the target.

        Raises:
            SilversmithError: what it raises.
        """
        with self._lock:
            try:
                connection = self._connection = self._connection or self._start()
                connection.send((question, arguments))
                answer, notes, error = connection.recv()
            except (EOFError, OSError):
                self._connection = None
                raise ProcessLost("the process that reads tables ended: load the page again") from None
        for note in notes:
            tell(note)
        if error is not None:
            raise error
        return answer

    def _start(self) -> Connection:
        # spawned, never forked: after a fork the threads of Polars and delta-rs are gone
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self._backend, self._arguments), daemon=True)
        process.start()
        theirs.close()
        return mine


def serve(connection: Connection, backend: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the page: this ends with it
    opened = None
    with suppress(EOFError):
        while True:
            question, values = connection.recv()
            notes: list[str] = []
            try:
                opened = opened or backend(*arguments)
                with opened.opened(tell=notes.append) as (pipeline, target):
                    answer = question(*values, pipeline, target)
                connection.send((answer, notes, None))
            except Exception as error:  # noqa: BLE001 -- raised where it was asked
                connection.send((None, notes, _sendable(error)))


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own
    except Exception:  # noqa: BLE001 -- an error that is made of more than its text
        return SilversmithError(str(error))
    return error
