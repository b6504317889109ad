"""Processes that become workers: each has its share of the CPUs, and may be begun before it is known what for.

Spawned, never forked: after a fork Polars' threads are gone and it waits for them for ever. This module imports nothing
that takes long, so that an engine can begin its workers before it imports Polars itself.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from silversmith.local.worker import WorkerConfig

#: Where Polars looks, when it is imported, for how many threads it shall have.
_POLARS = "POLARS_MAX_THREADS"

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Share:
    """What one worker may use: this many threads of Polars, on these CPUs; None: on any."""

    threads: int
    cpus: frozenset[int] | None = None


@dataclass(frozen=True)
class Spawned:
    """A process that waits to be told what it is for. ``output`` is where what it prints can be read."""

    process: SpawnProcess
    connection: Connection
    output: Connection
    share: Share

    def employ(self, place: Path, config: WorkerConfig) -> None:
        """Tell the process what to run; ``place`` is the file of its Position. A dead process is noticed by the next
        look at its connection."""
        with suppress(OSError):
            self.connection.send((place, config))

    def dismiss(self) -> None:
        """End it, unemployed."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.output.close()


class Spares:
    """Processes that are begun while the engine loads the pipeline, so that they load what takes them long meanwhile.

    Args:
        number: how many workers there will be.
        cpus: which they will share; None: all that this process may use.
    """

    def __init__(self, number: int, cpus: frozenset[int] | None = None) -> None:
        self._spares = [spawn(share) for share in shares(number, cpus or usable_cpus())]

    @property
    def left(self) -> int:
        """How many there are to take."""
        return len(self._spares)

    def take(self, share: Share) -> Spawned | None:
        """One that has this share, if there is one left."""
        found = next((spare for spare in self._spares if spare.share == share), None)
        if found is not None:
            self._spares.remove(found)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for spare in self._spares:
            spare.dismiss()
        self._spares = []


def spawn(share: Share) -> Spawned:
    """Begin a process that has this share."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=_begin, args=(theirs, writing, os.getpid()), daemon=True)
    with _without_ctrl_c(), _with(share):
        process.start()
    theirs.close()
    writing.close()
    return Spawned(process, ours, reading, share)


def _begin(connection: Connection, output: Connection, parent: int) -> None:
    """What runs in the new process."""
    _die_with_parent(parent)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    from silversmith.local.worker import main  # takes a third of a second

    try:
        place, config = connection.recv()
    except (EOFError, OSError):
        return
    main(connection, place, config)


def _die_with_parent(parent: int) -> None:
    """A worker without an engine would work for nobody; the kernel ends it with the engine, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """What is started meanwhile begins deaf to Ctrl-C, which reaches all processes of a terminal: a worker that still
    imports would end with a traceback. It comes to hear again when it has said that it does not care."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _with(share: Share) -> Iterator[None]:
    """What is started meanwhile has this share, unless somebody has said how many threads Polars shall have.

    https://docs.pola.rs/api/python/stable/reference/api/polars.thread_pool_size.html
    """
    if _POLARS in os.environ:
        yield
        return
    os.environ[_POLARS] = str(share.threads)
    try:
        with _on(share.cpus):
            yield
    finally:
        del os.environ[_POLARS]


@contextmanager
def _on(cpus: frozenset[int] | None) -> Iterator[None]:
    """What this thread starts meanwhile runs on these CPUs, where the system lets one say so (Linux does). Else, or
    where a container has lost them in the meantime, it runs anywhere."""
    if cpus is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    with suppress(OSError):
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, before)


def shares(number: int, cpus: frozenset[int]) -> list[Share]:
    """Divide the CPUs among so many workers. One that gets a single thread of Polars stays on one CPU: a file goes
    through several threads all the same, which take turns, and to wake one on another CPU takes longer than its work.
    """
    threads = max(1, len(cpus) // number)
    if threads > 1:
        return [Share(threads)] * number
    order = sorted(cpus)
    return [Share(1, frozenset({order[place % len(order)]})) for place in range(number)]


def usable_cpus() -> frozenset[int]:
    """The numbers of those that this process may use: in a container that may be fewer than there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    return frozenset(affinity(0) if affinity else range(os.cpu_count() or 1))
