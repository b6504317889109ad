"""Dispatch of work to workers: a pool of processes, watched for time and memory, and the dispatch of batches to them.

A worker may get several batches in one dispatch, and a second dispatch to follow: each batch stays an invocation of its
own, as if several environments of Lambda committed their files together. The cost of handing over a batch, of syncing a
folder and of writing outcomes is paid once for all of them (docs/decisions/0104-a-worker-takes-several-batches.md).
A worker that dies costs one attempt of the message that it was at. Nothing else notices.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from logging.handlers import RotatingFileHandler
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import orjson

from silversmith.errors import UNWRITABLE, DefinitionError, LakeUnusable, SilversmithError
from silversmith.local.invocation import WorkerConfig
from silversmith.local.processes import (
    NOWHERE,
    ChildProcess,
    CpuShare,
    PrewarmedWorkers,
    shares,
    spawn,
    threads_are_set,
    usable_cpus,
)
from silversmith.local.services.function import FunctionService, Invocation, Settings

#: The most bytes on disk of all that functions print, twice: in the log and in the one before it.
LOG_BYTES = 10 * 1024 * 1024

#: For so many batches a worker that replaces a dead one is careful: else one that always dies at its second file, say,
#: would finish none.
CAREFUL = 10

#: The seconds between two looks at a busy worker's memory.
LOOK = 0.05

#: The most seconds that the output of a worker that has ended is waited for.
DRAINED = 1.0

#: After this many deaths of workers that never got ready, the engine gives up.
FALSE_STARTS = 5

#: The bytes that can be sent to a worker that does not read yet. Linux has room for half as much again. Elsewhere it
#: may be less, and then the sender would wait for a reader that may wait for the sender.
#: https://man7.org/linux/man-pages/man7/socket.7.html (wmem_default)
_ROOM = 131_072 if sys.platform == "linux" else 0

_UNWRITABLE = frozenset(errno.errorcode[number] for number in UNWRITABLE)


class WorkersDie(SilversmithError):
    """The workers die before they are ready: importing the pipeline kills them."""


#: Gets the answer of the process of tables to a comparison, or the reason why there is none.
Ended = Callable[[Mapping[str, Any] | None, str], None]


class Dispatch:
    """Invocations of one function that a worker gets together. It works on the first of them first.

    With ``ended`` there are none: the process of tables compares the tables with silver, and ``ended`` gets its answer.
    """

    def __init__(
        self, settings: Settings, started: float, invocations: Sequence[Invocation] = (), *, ended: Ended | None = None
    ) -> None:
        self.settings = settings
        self.started = started
        self.invocations = tuple(invocations)
        self.ended = ended
        self._by_message = {message: invocation for invocation in self.invocations for message in invocation.messages}

    @classmethod
    def of(cls, invocations: Sequence[Invocation]) -> Dispatch:
        """One of these invocations, which have begun together."""
        return cls(invocations[0].settings, invocations[0].started, invocations)

    def start(self, now: float) -> None:
        """The worker begins with it now, in Unix seconds."""
        self.started = now
        for invocation in self.invocations:
            invocation.started = now

    @property
    def deadline(self) -> float:
        """The time at which Lambda would end it, in Unix seconds."""
        return self.started + self.settings.function.timeout

    @property
    def messages(self) -> list[str]:
        """The ids of all messages, in the order in which the worker gets them."""
        return list(self._by_message)

    def invocation_of(self, message: str) -> Invocation:
        """The invocation that a message belongs to."""
        return self._by_message[message]

    def request(self, *, careful: bool) -> dict[str, Any]:
        """The message to the worker. ``careful``: it shall commit each file before it begins the next."""
        return {
            "function": self.settings.name,
            "events": [invocation.event() for invocation in self.invocations],
            "timeout": self.settings.function.timeout,
            "memory": self.settings.function.memory,
            "careful": careful,
            "reconcile": self.ended is not None,
        }


class Worker:
    """One worker process. ``current`` is the dispatch that it works on, ``following`` the next one; ``ready`` is true
    once it has loaded the pipeline.

    ``share`` is its share of the CPUs. ``careful`` is the number of batches that it gets one at a time, committing each
    file before it begins the next: a death takes uncommitted files with it.
    """

    def __init__(self, child: ChildProcess, config: WorkerConfig, log: logging.Logger, *, careful: int = 0) -> None:
        self.connection: Connection = child.connection
        self.current: Dispatch | None = None
        self.following: Dispatch | None = None
        self.ready = False
        self.share = child.share
        self._careful = careful
        self._unsent = b""
        self._end_reason = ""
        self.process: SpawnProcess = child.process
        self._child = child
        self._drain = threading.Thread(target=_drain, args=(child.output, log), daemon=True)
        self._drain.start()
        child.start(config)

    def send(self, dispatch: Dispatch) -> None:
        """Hand it a dispatch, now or to follow. A dead worker is noticed at the next read of its connection."""
        request = orjson.dumps(dispatch.request(careful=self.is_careful))
        self._careful -= len(dispatch.invocations)
        if self.current is None:
            self.current = dispatch
            self._send(request)
        elif len(request) <= _ROOM:
            self.following = dispatch
            self._send(request)
        else:
            self.following, self._unsent = dispatch, request

    def finish(self, now: float) -> None:
        """It has finished its dispatch, and goes on with the following one, if there is any. ``now``: Unix seconds."""
        self.current, self.following = self.following, None
        if self.current is not None:
            self.current.start(now)
        if self._unsent:
            request, self._unsent = self._unsent, b""
            self._send(request)

    @property
    def is_careful(self) -> bool:
        """Whether it gets one batch at a time, and commits each file before it begins the next."""
        return self._careful > 0

    def _send(self, request: bytes) -> None:
        try:
            self.connection.send_bytes(request)
        except OSError:
            self.end("the worker had died before it got the batch")

    @property
    def began(self) -> str | None:
        """The id of the message that it began last; None: of none."""
        position = self._child.position.value
        return None if self.current is None or position == NOWHERE else self.current.messages[position]

    def end(self, reason: str) -> None:
        """Kill it, for this reason."""
        self._end_reason = self._end_reason or reason
        self.process.kill()

    def death(self) -> str:
        """Why it is dead, for a person."""
        death = self._child.death()
        return self._end_reason or f"the worker {death} while it ran the transform"

    def close(self) -> None:
        """Wait until it is gone, and its last output in the log; what it has started itself may keep that open."""
        self.process.join()
        self.connection.close()
        self._drain.join(DRAINED)

    def memory(self) -> int:
        """The bytes that it does not share with other processes; 0 when it is gone."""
        return self._child.memory()


class WorkerPool:
    """A fixed number of workers over one pipeline, which share the CPUs; and one more with all CPUs, started when there
    is a large file for it. ``is_large_first``: there is one already. Then the first worker is that one, and another is
    started in its place when all of the others are busy: a process takes as long to start as a file of 100 MB.

    Many small files are converted fastest where Polars does not spread each over threads that the other workers use,
    and one large file where it may use all CPUs (docs/decisions/0066-small-files-are-committed-together.md).
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        number: int,
        log: Path,
        cpus: frozenset[int] | None = None,
        prewarmed: PrewarmedWorkers | None = None,
        is_large_first: bool = False,
    ) -> None:
        self._config = config
        self._prewarmed = prewarmed
        self._log = _log(log)
        self._cpus = cpus or usable_cpus()
        self._vacant: list[CpuShare] = []
        self._wide: Worker | None = None
        first, *others = shares(number, self._cpus)
        if is_large_first and others and first.threads < len(self._cpus) and not threads_are_set():
            self._wide = self._start(first, becomes=CpuShare(len(self._cpus), self._cpus))
            self._vacant.append(first)
        else:
            others = [first, *others]
        self._workers = [self._start(share) for share in others]

    def _start(self, share: CpuShare, *, becomes: CpuShare | None = None, careful: int = 0) -> Worker:
        prewarmed = self._prewarmed.take(share) if self._prewarmed is not None else None
        child = prewarmed or spawn(share, self._config.main)
        return Worker(child, replace(self._config, share=becomes), self._log, careful=careful)

    @property
    def _all(self) -> list[Worker]:
        return [*self._workers, *([self._wide] if self._wide else [])]

    def for_large(self) -> Worker | None:
        """The worker with all CPUs, started when it is needed; None: it is busy, or the others have all CPUs too."""
        if all(worker.share.threads >= len(self._cpus) for worker in self._workers):
            return None
        if self._wide is None:
            self._wide = self._start(CpuShare(len(self._cpus)))
        return self._wide if self._wide.current is None else None

    def refill(self) -> None:
        """Start a worker in place of the first one, if that is for large files and all of the others are busy."""
        if self._vacant and not self.idle:
            self._workers.append(self._start(self._vacant.pop()))

    @property
    def idle(self) -> list[Worker]:
        """The workers that wait for a dispatch."""
        return [worker for worker in self._workers if worker.ready and worker.current is None]

    @property
    def open(self) -> list[Worker]:
        """The workers that can take a dispatch, to begin with or to follow; not the one for large files."""
        return [worker for worker in self._workers if worker.ready and worker.following is None]

    @property
    def busy(self) -> list[Worker]:
        """The workers that have a dispatch."""
        return [worker for worker in self._all if worker.current is not None]

    @property
    def connections(self) -> dict[Connection, Worker]:
        """The connections to wait on."""
        return {worker.connection: worker for worker in self._all}

    def reports(self, worker: Worker) -> Iterator[dict[str, Any]]:
        """The reports of a worker whose connection can be read. A dead worker is replaced; its last report is why it
        has ``died``."""
        try:
            while worker.connection.poll():
                yield orjson.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            reason = worker.death()
            worker.connection.close()
            if worker is self._wide:
                self._wide = None
            else:
                self._workers.remove(worker)
                self._workers.append(self._start(worker.share, careful=CAREFUL))
            yield {"died": reason}

    def enforce(self, now: float) -> None:
        """End every worker that is over its function's timeout or memory."""
        for worker in self.busy:
            assert worker.current is not None
            function = worker.current.settings.function
            if now >= worker.current.deadline:
                worker.end(f"the function timed out after {function.timeout:g} s (its timeout)")
            elif (used := worker.memory()) > function.memory * 1024 * 1024:
                worker.end(f"the function used {used // 1024 // 1024} MB of memory; its limit is {function.memory} MB")

    def stop(self) -> None:
        """End all of them and wait until they are gone."""
        for worker in self._all:
            worker.process.kill()
        for worker in self._all:
            worker.close()
        for handler in list(self._log.handlers):
            self._log.removeHandler(handler)  # first: one that is closed opens its file again
            handler.close()


class Dispatcher:
    """Hands the batches of functions to workers, and tells the functions what the workers report.

    ``hurry``: do not wait for the end of batching windows. ``paused``: hand out nothing.

    Args:
        functions: those whose batches the workers get.
        pool: the workers.
        lake: the folder, for messages.
    """

    def __init__(self, functions: Sequence[FunctionService], pool: WorkerPool, lake: Path) -> None:
        self._functions = {function.settings.name: function for function in functions}
        self.pool = pool
        self._lake = lake
        self._false_starts = 0
        self.hurry = False
        self.paused = False

    @property
    def functions(self) -> Sequence[FunctionService]:
        """The functions whose batches the workers get."""
        return list(self._functions.values())

    def dispatch_all(self, now: float) -> None:
        """One dispatch for each idle worker, and then one to follow for each."""
        for worker in [*self.pool.idle, *self.pool.open]:
            self.dispatch(worker, now)

    def dispatch(self, worker: Worker, now: float) -> None:
        """Batches for this worker, of the function with the fewest running invocations: none starves another.

        Where batches are quick and no worker is idle, they follow those that it has: else each worker would wait, after
        every batch, until the engine gets round to it.
        """
        follows = worker.current is not None
        if self.paused or worker not in self.pool.open or (follows and self.pool.idle):
            return
        for function in sorted(self._functions.values(), key=lambda function: len(function.running)):
            if follows and not function.batches_per_dispatch:
                continue
            most = 1 if worker.is_careful else max(1, function.batches_per_dispatch)
            invocations = function.poll(now, most=most, hurry=self.hurry)
            if invocations:
                self._send(worker, invocations)
                return

    def _send(self, worker: Worker, invocations: list[Invocation]) -> None:
        """Large files go to the worker for them, if it is free: nothing shall wait behind them."""
        large = [invocation for invocation in invocations if invocation.is_large]
        wide = self.pool.for_large() if large else None
        if wide is not None:
            wide.send(Dispatch.of(large))
        else:
            large = []
        small = [invocation for invocation in invocations if invocation not in large]
        if small:
            worker.send(Dispatch.of(small))
            self.pool.refill()

    def handle(self, worker: Worker, report: Mapping[str, Any], now: float) -> None:
        """Do what follows from one report of a worker. ``now`` in Unix seconds.

        Raises:
            DefinitionError: the worker could not load the pipeline.
            LakeUnusable: the worker could not write to the disk.
            WorkersDie: too many died before they were ready.
        """
        if "died" in report:
            self._handle_death(worker, report["died"], now)
        elif "ready" in report:
            worker.ready = True
            self._false_starts = 0
        elif "broken" in report:
            raise DefinitionError(report["broken"])
        elif worker.current is not None:
            self._handle_outcomes(worker, worker.current, report, now)

    def _handle_outcomes(self, worker: Worker, dispatch: Dispatch, report: Mapping[str, Any], now: float) -> None:
        if "begun" in report:
            for invocation in dispatch.invocations:
                invocation.begun = frozenset(report["begun"]) & invocation.messages.keys()
        for message, outcome in report["ended"].items():
            self._require_disk(dispatch, outcome, now)
            dispatch.invocation_of(message).outcomes[message] = outcome
        if "done" not in report and "error" not in report:
            return
        worker.finish(now)
        if dispatch.ended is not None:
            dispatch.ended(None if "error" in report else report, report.get("error", ""))
            return
        function = self._functions[dispatch.settings.name]
        function.measure(len(dispatch.invocations), dispatch.started, now)
        self.dispatch(worker, now)  # before the outcomes are written, for which it need not wait
        if "done" in report:
            function.complete(list(zip(dispatch.invocations, report["done"], strict=True)), now)
        else:
            for invocation in dispatch.invocations:
                function.crash(invocation, report["error"], now)

    def _require_disk(self, dispatch: Dispatch, outcome: Mapping[str, Any], now: float) -> None:
        """A disk that cannot be written is no fault of a file: its attempts would be used up for nothing."""
        error = outcome.get("error") or {}
        if error.get("code") in _UNWRITABLE:
            self._abandon(dispatch, now)
            raise LakeUnusable(
                f"the disk of {self._lake} cannot be written: {error['message']}. Nothing is lost: correct that "
                "and run again."
            )

    def _abandon(self, dispatch: Dispatch, now: float) -> None:
        for invocation in dispatch.invocations:
            self._functions[dispatch.settings.name].abandon(invocation, now)

    def _handle_death(self, worker: Worker, reason: str, now: float) -> None:
        if worker.following is not None:  # it has not begun with that
            self._abandon(worker.following, now)
        if worker.current is not None:
            if worker.current.ended is not None:
                worker.current.ended(None, reason)
            began = worker.began
            for invocation in worker.current.invocations:
                function = self._functions[invocation.settings.name]
                if began is None or began in invocation.messages:
                    function.crash(invocation, reason, now, began=began)
                else:
                    function.abandon(invocation, now)
        elif not worker.ready:
            self._false_starts += 1
            if self._false_starts >= FALSE_STARTS:
                raise WorkersDie(f"{FALSE_STARTS} workers died before they were ready; the last one: {reason}")


def _log(path: Path) -> logging.Logger:
    """The log of all that functions print, in two files of bounded size."""
    logger = logging.Logger(f"silversmith.functions.{path}")  # not the process's: this lake's own
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.terminator = ""  # pieces end anywhere, also in the middle of a line
    logger.addHandler(handler)
    return logger


def _drain(reading: Connection, log: logging.Logger) -> None:
    """Move a worker's output to the log, in pieces of bounded size, until the worker is gone."""
    with reading:
        while piece := os.read(reading.fileno(), 65536):
            log.info(piece.decode("utf-8", "backslashreplace"))
