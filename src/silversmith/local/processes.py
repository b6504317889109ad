"""Child processes that run user code and read hostile bytes: each has its share of the CPUs, its memory can be watched,
its death explained. Workers may be started before the pipeline is loaded.

Spawned, never forked: after a fork Polars' threads are gone and it waits for them for ever. This module is apart from
the pool because it imports nothing that takes long: a run starts its workers before it imports Polars itself.
"""

from __future__ import annotations

import ctypes
import gc
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import c_int
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import psutil

#: The environment variable from which Polars takes its number of threads when it is imported.
_POLARS = "POLARS_MAX_THREADS"

_PR_SET_PDEATHSIG = 1

#: The functions that workers run, of transforms and of tables.
WORKER = "silversmith.local.worker:main"
TABLE_WORKER = "silversmith.local.table_worker:main"

#: The position of a process that has not begun with anything.
NOWHERE = -1


@dataclass(frozen=True)
class CpuShare:
    """A worker's share of the machine: so many threads of Polars, on these CPUs; None: on any."""

    threads: int
    cpus: frozenset[int] | None = None


@dataclass(frozen=True)
class ChildProcess:
    """A process that waits for its arguments, then runs its function with ``connection``, ``position`` and them. Its
    standard output and error can be read from ``output``. ``position`` is a number in memory that both processes share,
    so what the process has written there can still be read when it is dead."""

    process: SpawnProcess
    connection: Connection
    position: c_int
    output: Connection
    share: CpuShare

    def start(self, *arguments: Any) -> None:
        """Send it its arguments. A dead process is noticed at the next read of its connection."""
        with suppress(OSError):
            self.connection.send(arguments)

    @cached_property
    def _statistics(self) -> psutil.Process:
        import psutil

        return psutil.Process(self.process.pid)

    def memory(self) -> int:
        """The bytes that it does not share with other processes; 0 when it is gone."""
        from psutil import NoSuchProcess

        try:
            memory = self._statistics.memory_info()
        except NoSuchProcess:
            return 0
        return int(memory.rss - getattr(memory, "shared", 0))

    def death(self) -> str:
        """The cause of its death, for a person, to follow its name."""
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"was killed by signal {-code}"

    def end(self) -> None:
        """End it, and read nothing more of it."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.output.close()


class PrewarmedWorkers:
    """Processes that are started while the engine loads the pipeline, and that import Polars meanwhile.

    Those that nobody has taken at the end of the ``with`` block are ended.

    Args:
        number: of workers.
        cpus: those that they will share; None: all that this process may use.
    """

    def __init__(self, number: int, cpus: frozenset[int] | None = None) -> None:
        self._processes = [spawn(share) for share in shares(number, cpus or usable_cpus())]

    def take(self, share: CpuShare) -> ChildProcess | None:
        """A process with this share, if there is one left."""
        process = next((process for process in self._processes if process.share == share), None)
        if process is not None:
            self._processes.remove(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()
        self._processes = []


def spawn(share: CpuShare, function: str = WORKER) -> ChildProcess:
    """Start a process with this share, which imports a ``function``, as ``module:name``, and runs it."""
    context = multiprocessing.get_context("spawn")
    local, remote = context.Pipe()
    reading, writing = context.Pipe(duplex=False)
    position = context.RawValue(c_int, NOWHERE)
    process = context.Process(target=_begin, args=(remote, position, writing, os.getpid(), function), daemon=True)
    with _without_ctrl_c(), _with(share):
        process.start()
    remote.close()
    writing.close()
    return ChildProcess(process, local, position, reading, share)


def _begin(connection: Connection, position: c_int, output: Connection, parent: int, function: str) -> None:
    """Runs in the new process."""
    _die_with_parent(parent)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    with importing():
        run = resolve_name(function)  # takes a third of a second
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent: it ends its children in order
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        arguments = connection.recv()
    except (EOFError, OSError):
        return
    run(connection, position, *arguments)


@contextmanager
def importing() -> Iterator[None]:
    """Modules are many objects that stay: Python's collector would look through them during the imports inside the
    block, which takes a twelfth of their time, and at each of its rounds afterwards."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _die_with_parent(parent: int) -> None:
    """Have the kernel end this process with the engine, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes that are started meanwhile block Ctrl-C, which reaches all processes of a terminal: a worker that still
    imports would end with a traceback. It unblocks the signal once it ignores it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _with(share: CpuShare) -> Iterator[None]:
    """Processes that are started meanwhile have this share, unless the user has set the number of Polars' threads.

    https://docs.pola.rs/api/python/stable/reference/api/polars.thread_pool_size.html
    """
    if threads_are_set():
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
    """Processes that this thread starts meanwhile run on these CPUs, where the system supports that (Linux does). Else,
    or where a container has lost them in the meantime, they run anywhere."""
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


def threads_are_set() -> bool:
    """Whether the user has set the number of Polars' threads."""
    return _POLARS in os.environ


def change_share(share: CpuShare) -> None:
    """Give this process another share than it was started with. Polars must have done nothing yet: its threads begin in
    a number that stays."""
    import polars as pl

    pl.Config.load(json.dumps({"environment": {_POLARS: str(share.threads)}}))
    if share.cpus is not None and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, share.cpus)


def shares(number: int, cpus: frozenset[int]) -> list[CpuShare]:
    """Divide the CPUs among so many workers. A worker with a single thread of Polars stays on one CPU: a file goes
    through several threads all the same, which take turns, and to wake one on another CPU takes longer than its work.
    """
    threads = max(1, len(cpus) // number)
    if threads > 1:
        return [CpuShare(threads)] * number
    order = sorted(cpus)
    return [CpuShare(1, frozenset({order[index % len(order)]})) for index in range(number)]


def usable_cpus() -> frozenset[int]:
    """The numbers of the CPUs that this process may use: in a container that may be fewer than there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    return frozenset(affinity(0) if affinity else range(os.cpu_count() or 1))
