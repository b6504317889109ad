"""Checks files as a run would, without a lake. Each is read in a process of its own, within the function's limits."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import orjson
import psutil

from silversmith.errors import DefinitionError
from silversmith.operations import WrongCall
from silversmith.operations.check_worker import Job, main, problem
from silversmith.operations.send import files_of
from silversmith.pipeline import Pipeline
from silversmith.stores.keys import printable

#: The limits of a file where no transform says others, in seconds and MB. Large files get more time: as much as it
#: takes to read so many bytes in a second.
SECONDS, MEGABYTES = 60.0, 512
BYTES_A_SECOND = 1_000_000

#: How often the process's time and memory are looked at, in seconds.
LOOK = 0.05

#: How long a process may take to start and to load the pipeline, in seconds.
_START = 120.0

#: A process that holds so many bytes between two files is replaced: they would count against the next one.
_HELD = 256 * 1024 * 1024

_MEGA = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What one file may take: time in seconds, memory in MB."""

    seconds: float = SECONDS
    megabytes: int = MEGABYTES


@dataclass(frozen=True)
class Checked:
    """What a run would make of one file.

    ``outcome`` is ``silver`` or ``quarantine``: the file became rows, or it did not, and ``error`` says why. It has
    ``code``, ``message``, ``hint`` and ``place``. ``dialect`` is what was found out about how the file is written.
    ``transform`` is whose rows they would be; None without a pipeline, or where no pattern matches. ``first`` are
    rejected rows: ``row`` and ``reasons``.
    """

    file: str
    transform: str | None
    outcome: str
    rows: int = 0
    rejected: int = 0
    error: dict[str, Any] | None = None
    format: str | None = None
    dialect: dict[str, Any] = field(default_factory=dict)
    first: Sequence[dict[str, Any]] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for programs: always these seven, and ``transform`` where there is one."""
        names = ("file", "outcome", "rows", "rejected", "error", "format", "dialect")
        found = {name: getattr(self, name) for name in names}
        return found if self.transform is None else {**found, "transform": self.transform}


def plan(paths: Sequence[Path], pipeline: Pipeline | None) -> list[Job]:
    """The files, and for which transforms: those that match the path from the working folder, or below the folder that
    was named, or the file's name. One that none matches is a job for ``?``.

    Raises:
        WrongCall: a path is neither file nor folder.
    """
    jobs = []
    for path, name in files_of(paths):
        if pipeline is None:
            jobs.append(Job(str(path), _key(name)))
            continue
        found: dict[str, str] = {}
        for key in _keys(path, name):
            for transform in pipeline.matching(key):
                found.setdefault(transform.name, key)
        jobs += [Job(str(path), key, transform) for transform, key in found.items()] or [Job(str(path), "", "?")]
    if not jobs:
        raise WrongCall(f"there are no files in {', '.join(printable(str(path)) for path in paths)}")
    return jobs


def _keys(path: Path, name: str) -> list[str]:
    """The keys that a file may have, the likeliest first."""
    found = [_key(name), _key(path.name)]
    with suppress(ValueError):
        found.insert(0, _key(path.absolute().relative_to(Path.cwd()).as_posix()))
    return list(dict.fromkeys(found))


def _key(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def check(
    jobs: Sequence[Job], pipeline: Pipeline | None, reference: str | None, lake: Path = Path("lake")
) -> Iterator[Checked]:
    """Check the files, one after the other.

    Args:
        jobs: see :func:`plan`.
        pipeline: what they are for, or None.
        reference: where the pipeline is, so that another process can load it: as on the command line.
        lake: where the lookups are that the transforms read.
    """
    with tempfile.TemporaryDirectory(prefix="silversmith-check-") as scratch:
        process = _Process(reference, Path(scratch), lake)
        try:
            for job in jobs:
                yield _checked(job, process, pipeline)
        finally:
            process.end()


def _checked(job: Job, process: _Process, pipeline: Pipeline | None) -> Checked:
    if job.transform == "?":
        said = "no transform's pattern matches it: nothing would be made of it"
        hint = "look at the pipeline's patterns, and at the name and folder of the file"
        return Checked(job.path, None, **_broken("NoTransform", said, hint))
    limits = Limits(SECONDS + _size(job) / BYTES_A_SECOND)
    if pipeline is not None:
        transform = pipeline.find(job.transform)
        limits = Limits(float(transform.timeout), transform.memory)
    answer = process.ask(job, limits)
    return Checked(job.path, job.transform or None, **answer)


def _size(job: Job) -> int:
    try:
        return Path(job.path).stat().st_size
    except OSError:
        return 0


class _Process:
    """The process that reads files. It is started when there is a file, and again after it died."""

    def __init__(self, reference: str | None, scratch: Path, lake: Path) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._reference = reference
        self._scratch = scratch
        self._lake = lake
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def ask(self, job: Job, limits: Limits) -> dict[str, Any]:
        """The answer for one file, whatever becomes of the process."""
        process, connection = self._started()
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        request = {
            "path": os.fsencode(job.path).hex(),
            "key": job.key,
            "transform": job.transform,
            "scratch": str(folder),
        }
        try:
            connection.send_bytes(orjson.dumps(request))
            answer = self._wait(process, connection, limits)
        except (EOFError, OSError):
            answer = _died(process)
            self.end()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if self._process is not None and _memory(process) > _HELD:
            self.end()
        return answer

    def _started(self) -> tuple[SpawnProcess, Connection]:
        if self._process is None or self._connection is None:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=main, args=(theirs, self._reference, str(self._lake)), daemon=True)
            process.start()
            theirs.close()
            self._process, self._connection = process, ours
            try:
                ready = ours.poll(_START) and bool(ours.recv_bytes())
            except (EOFError, OSError):
                ready = False
            if not ready:
                self.end()
                raise DefinitionError("the process that reads the files does not start; does the pipeline load alone?")
        return self._process, self._connection

    def _wait(self, process: SpawnProcess, connection: Connection, limits: Limits) -> dict[str, Any]:
        deadline = time.monotonic() + limits.seconds
        while not connection.poll(LOOK):
            if time.monotonic() > deadline:
                self.end()
                told = f"it took longer than {limits.seconds:g} s"
                return _broken("TimedOut", told, "give the transform more time (timeout=…), or put smaller files")
            used = _memory(process)
            if used > limits.megabytes * _MEGA:
                self.end()
                told = f"it took {used // _MEGA} MB of memory; the limit is {limits.megabytes} MB"
                return _broken("OutOfMemory", told, "give the transform more (memory=…), or put smaller files")
        answer: dict[str, Any] = orjson.loads(connection.recv_bytes())
        return answer

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _memory(process: SpawnProcess) -> int:
    """The bytes that it holds for itself alone; 0 when it is gone."""
    try:
        found = psutil.Process(process.pid).memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(found.rss - getattr(found, "shared", 0))


def _died(process: SpawnProcess) -> dict[str, Any]:
    process.join()
    code = process.exitcode or 0
    told = f"ended with exit code {code}"
    if code < 0:
        told = f"was killed by signal {-code}"
        with suppress(ValueError):
            told += f" ({signal.Signals(-code).name})"
    hint = "the bytes broke a library, or the machine ran out of memory: please report the file"
    return _broken("Crashed", f"the process that read it {told}", hint)


def _broken(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"outcome": "quarantine", "error": problem(code, message, hint=hint)}
