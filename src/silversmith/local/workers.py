"""The pool of worker processes: started, fed, watched for time and memory, ended and replaced.

A worker that dies costs the message it was at one attempt. Nothing else notices.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import orjson
import psutil

from silversmith.local.lake import LakeFolder
from silversmith.local.spawning import Share, Spares, Spawned, shares, spawn, usable_cpus
from silversmith.local.trip import Trip
from silversmith.local.worker import NOWHERE, Position, WorkerConfig

#: What all that the functions print may fill on disk: this many bytes, twice.
LOG_BYTES = 10 * 1024 * 1024

#: For so many batches a worker that replaces a dead one is careful: else one that always dies at its second file, say,
#: would finish none.
CAREFUL = 10

#: So many bytes can be sent to a worker that does not read them yet. Linux has room for half as much again; elsewhere
#: it may be less, and who sends more waits for who reads, who may be waiting for the sender.
#: https://man7.org/linux/man-pages/man7/socket.7.html (wmem_default)
_ROOM = 131_072 if sys.platform == "linux" else 0

#: How often a busy worker's memory is looked at, in seconds.
LOOK = 0.05


@dataclass(frozen=True)
class Event:
    """What a worker tells: ``message`` is its JSON, or None when it has died for the ``reason``."""

    worker: Worker
    message: dict[str, Any] | None
    reason: str = ""


class Worker:
    """One worker process. ``trip`` is what it works on, and ``following`` what it goes on with when it has ended that;
    ``ready`` once it has loaded the pipeline.

    ``share`` is what it may use of the CPUs. ``careful`` is for how many batches it gets one at a time, and
    commits every file before it begins the next: what a worker dies of takes with it what was not committed yet.
    """

    def __init__(self, spawned: Spawned, config: WorkerConfig, log: logging.Logger, *, careful: int = 0) -> None:
        place = LakeFolder(config.lake).engine_scratch / f"place-{os.urandom(8).hex()}"
        self._place = Position(place, new=True)
        self.connection: Connection = spawned.connection
        self.trip: Trip | None = None
        self.following: Trip | None = None
        self.ready = False
        self.share = spawned.share
        self._careful = careful
        self._unsent = b""
        self._end_reason = ""
        self.process: SpawnProcess = spawned.process
        self._statistics = _statistics(self.process.pid)
        threading.Thread(target=_drain, args=(spawned.output, log), daemon=True).start()
        spawned.employ(place, config)

    def send(self, trip: Trip) -> None:
        """Hand it something to begin with, or to go on with. A worker that has just died is noticed by the next look at
        its connection."""
        request = orjson.dumps(trip.request(careful=self.is_careful))
        self._careful -= len(trip.invocations)
        if self.trip is None:
            self.trip = trip
            self._send(request)
        elif len(request) <= _ROOM:
            self.following = trip
            self._send(request)
        else:
            self.following, self._unsent = trip, request

    def ended(self, now: float) -> None:
        """It has ended what it was at and goes on with what follows, if anything does. ``now``: Unix seconds."""
        self.trip, self.following = self.following, None
        if self.trip is not None:
            self.trip.started = now
        if self._unsent:
            request, self._unsent = self._unsent, b""
            self._send(request)

    @property
    def is_careful(self) -> bool:
        """Whether it is to have one batch at a time, and to finish each file of it before it begins the next."""
        return self._careful > 0

    def _send(self, request: bytes) -> None:
        try:
            self.connection.send_bytes(request)
        except OSError:
            self.end("the worker had died before it got the batch")

    @property
    def at(self) -> str | None:
        """The id of the message that it has begun last; None: of none."""
        place = self._place.value
        return None if self.trip is None or place == NOWHERE else self.trip.messages[place]

    def end(self, reason: str) -> None:
        """Kill it, for this reason."""
        self._end_reason = self._end_reason or reason
        self.process.kill()

    def death(self) -> str:
        """Why it is dead, for a person."""
        self.process.join()
        if self._end_reason:
            return self._end_reason
        code = self.process.exitcode or 0
        if code < 0:
            return f"the worker was killed by signal {-code} ({_signal_name(-code)}) while it ran the transform"
        return f"the worker ended with exit code {code} while it ran the transform"

    def memory(self) -> int:
        """The bytes it holds for itself alone; 0 when it is gone."""
        with suppress(psutil.NoSuchProcess):
            if self._statistics is not None:
                found = self._statistics.memory_info()
                return int(found.rss - getattr(found, "shared", 0))
        return 0


class Workers:
    """A fixed number of workers over one pipeline, which share the CPUs; and one more that may use all of them, begun
    when there is a large file for it.

    Many small files are converted fastest where Polars does not spread each over threads that the other workers use,
    and one large file where it may use all CPUs (docs/decisions/0066-small-files-are-committed-together.md).
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        number: int,
        logs: Path,
        cpus: frozenset[int] | None = None,
        spares: Spares | None = None,
    ) -> None:
        self._config = config
        self._spares = spares
        self._log = _log(logs / "functions.log")
        self._cpus = cpus or usable_cpus()
        self._workers = [self._start(share) for share in shares(number, self._cpus)]
        self._wide: Worker | None = None

    def _start(self, share: Share, *, careful: int = 0) -> Worker:
        spare = self._spares.take(share) if self._spares is not None else None
        return Worker(spare or spawn(share), self._config, self._log, careful=careful)

    @property
    def _all(self) -> list[Worker]:
        return [*self._workers, *([self._wide] if self._wide else [])]

    def for_large(self) -> Worker | None:
        """One that may use all CPUs, also if it is yet to begin; None where it is busy, or the others may, too."""
        if all(worker.share.threads >= len(self._cpus) for worker in self._workers):
            return None
        if self._wide is None:
            self._wide = self._start(Share(len(self._cpus)))
        return self._wide if self._wide.trip is None else None

    @property
    def idle(self) -> list[Worker]:
        """Those that can take a batch."""
        return [worker for worker in self._workers if worker.ready and worker.trip is None]

    @property
    def takers(self) -> list[Worker]:
        """Those that can take a batch, to begin with or to go on with; not the one that is kept for large files."""
        return [worker for worker in self._workers if worker.ready and worker.following is None]

    @property
    def busy(self) -> list[Worker]:
        """Those that work on one."""
        return [worker for worker in self._all if worker.trip is not None]

    @property
    def connections(self) -> dict[Connection, Worker]:
        """What to wait on."""
        return {worker.connection: worker for worker in self._all}

    def events(self, worker: Worker) -> Iterator[Event]:
        """What a worker whose connection can be read has to say. A dead one is replaced."""
        try:
            while worker.connection.poll():
                yield Event(worker, orjson.loads(worker.connection.recv_bytes()))
        except (EOFError, OSError):
            reason = worker.death()
            worker.connection.close()
            if worker.trip is not None:
                worker.trip.began = worker.at
            if worker is self._wide:
                self._wide = None
            else:
                self._workers.remove(worker)
                self._workers.append(self._start(worker.share, careful=CAREFUL))
            yield Event(worker, None, reason)

    def enforce(self, now: float) -> None:
        """End every worker that is over its function's timeout or memory."""
        for worker in self.busy:
            assert worker.trip is not None
            function = worker.trip.settings.function
            if now >= worker.trip.deadline:
                worker.end(f"the function timed out after {function.timeout:g} s (its timeout)")
            elif (used := worker.memory()) > function.memory * 1024 * 1024:
                worker.end(f"the function used {used // 1024 // 1024} MB of memory; its limit is {function.memory} MB")

    def stop(self) -> None:
        """End all of them and wait until they are gone."""
        for worker in self._all:
            worker.process.kill()
        for worker in self._all:
            worker.process.join()
            worker.connection.close()
        for handler in list(self._log.handlers):
            handler.close()
            self._log.removeHandler(handler)


def _statistics(pid: int | None) -> psutil.Process | None:
    """None: it is gone, which a spare may be before anybody needs it."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid)
    return None


def _log(path: Path) -> logging.Logger:
    """What functions print, in two files of bounded size."""
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


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
