"""Check files as a run would read them, without a lake: in a process of its own, within the function's limits."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import orjson
import polars as pl

from silversmith import formats, logs
from silversmith.contract import REASONS, ROW_NUMBER
from silversmith.errors import DataError, DefinitionError, SilversmithError, help_for
from silversmith.function.convert import Converted, convert
from silversmith.function.outcome import Verdict
from silversmith.function.task import empty_lineage
from silversmith.local.lake import LakeFolder
from silversmith.local.processes import ChildProcess, CpuShare, spawn, usable_cpus
from silversmith.local.worker import from_machine
from silversmith.operations import WrongCall, tables_installed
from silversmith.operations.failures import FIRST
from silversmith.operations.send import files_of
from silversmith.pipeline import Pipeline, Transform, locate
from silversmith.pipeline.lookups import LookupMissing, Lookups
from silversmith.pipeline.needs import Secrets, variables_set
from silversmith.schemas.document import Document
from silversmith.stores import IN_MEMORY, Head, Source, Store
from silversmith.stores.keys import printable
from silversmith.stores.local import LocalStore

#: The limits of a file without a transform, in seconds and MB. Large files get more time, by this speed in bytes a
#: second.
SECONDS, MEGABYTES = 60.0, 512
BYTES_A_SECOND = 1_000_000

#: The process's time and memory are checked every so many seconds.
LOOK = 0.05

#: A process may take so many seconds to start and to load the pipeline.
_START = 120.0

#: A process that keeps so many bytes between two files is replaced: they would count against the next one.
_KEPT = 256 * 1024 * 1024

_MEGA = 1024 * 1024

#: So many patterns are named of a pipeline that takes none of a file's keys.
_MOST_PATTERNS = 10

#: The transform of a job that no pattern matches.
NO_TRANSFORM = "?"


@dataclass(frozen=True)
class Job:
    """One file, the key that it would have in bronze, and its transform; empty: none, so all rows are good.

    ``lookup_of`` are the names of the transforms that read it as a lookup.
    """

    path: str
    key: str
    transform: str = ""
    lookup_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """The limits of one file: time in seconds, memory in MB."""

    seconds: float = SECONDS
    megabytes: int = MEGABYTES


@dataclass(frozen=True)
class CheckedFile:
    """The result that a run would have for one file.

    ``outcome`` is ``silver``: it became rows; ``quarantine``: the data is at fault; ``failed``: the code is, a lookup
    or a limit, so that a run would try again, and then leave its message in the dead-letter queue; ``unmatched``: no
    transform's pattern matches its key; ``lookup``: transforms read it beside their rows; ``marker``: it stands for a
    folder or a job, and is no data. ``error`` says why, with ``code``, ``message``, ``hint`` and ``place``. ``dialect``
    is how the file is written. ``transform`` is None without a pipeline, or where no pattern matches. ``first`` are
    rejected rows: ``row`` and ``reasons``. ``key`` is the key that the file would have in bronze.
    """

    file: str
    transform: str | None
    outcome: str
    rows: int = 0
    rejected: int = 0
    dropped: int = 0
    error: dict[str, Any] | None = None
    format: str | None = None
    dialect: dict[str, Any] = field(default_factory=dict)
    first: Sequence[dict[str, Any]] = ()
    key: str = ""
    lookup_of: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether a run would do with it what it is there for."""
        return self.outcome not in {"quarantine", "failed", "unmatched"}

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for programs: always these seven, ``transform`` and ``key`` where there are some, ``dropped``
        where the contract drops rows."""
        names = ("file", "outcome", "rows", "rejected", "error", "format", "dialect")
        values = {name: getattr(self, name) for name in names}
        known: dict[str, Any] = {}
        if self.transform is not None:
            known = {"transform": self.transform, "key": self.key}
        if self.dropped:
            known["dropped"] = self.dropped
        return values | known | ({"lookup_of": list(self.lookup_of)} if self.lookup_of else {})


def plan(
    paths: Sequence[Path], pipeline: Pipeline | None, *, key: str | None = None, transform: str | None = None
) -> list[Job]:
    """Choose a key for each file, and the transforms that match it.

    The key is the first that most transforms match: the path from the working folder, from the folder that is named,
    or any end of the path, the shortest first. A file that no transform wants is a job for :data:`NO_TRANSFORM`.

    Args:
        paths: files, and folders with everything below them.
        pipeline: whose transforms; None: none.
        key: the key of the only file.
        transform: only this one, also for a file that its pattern does not match.

    Raises:
        WrongCall: a path is neither file nor folder, or there are several files for one key.
        DefinitionError: the pipeline has no such transform.
    """
    files = list(files_of(paths))
    if not files:
        raise WrongCall(f"there are no files in {', '.join(printable(str(path)) for path in paths)}")
    if key is not None and len(files) != 1:
        raise WrongCall(f"--key names the key of one file, but there are {len(files)} files")
    if pipeline is None:
        return [Job(str(path), key or _key(name)) for path, name in files]
    chosen = [pipeline.find(transform)] if transform is not None else list(pipeline.transforms)
    jobs = []
    for path, name in files:
        keys = [key] if key is not None else _keys(path, name)
        readers = {each: tuple(item.name for item in pipeline.transforms if each in item.lookups) for each in keys}
        as_lookup = next((each for each in keys if readers[each]), None)
        matching = {each: [item.name for item in chosen if item.pattern.matches(each)] for each in keys}
        best = max(keys, key=lambda each: len(matching[each]))
        names = matching[best] or ([transform] if transform is not None else [])
        if not names and as_lookup is None:
            names = [NO_TRANSFORM]
        jobs += [Job(str(path), best, name) for name in names]
        if as_lookup is not None:
            jobs.append(Job(str(path), as_lookup, NO_TRANSFORM, readers[as_lookup]))
    return jobs


def _keys(path: Path, name: str) -> list[str]:
    """The possible keys of a file, the likeliest first."""
    parts = path.absolute().parts[1:]
    keys = [_key(name), *(_key("/".join(parts[at:])) for at in reversed(range(len(parts))))]
    with suppress(ValueError):
        keys.insert(0, _key(path.absolute().relative_to(Path.cwd()).as_posix()))
    return list(dict.fromkeys(keys))


def _key(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def check(
    jobs: Sequence[Job], pipeline: Pipeline | None, reference: str | None, lake: Path = Path("lake")
) -> Iterator[CheckedFile]:
    """Check the files, one after the other.

    Args:
        jobs: see :func:`plan`.
        pipeline: their pipeline, or None.
        reference: the pipeline as on the command line, so that another process can load it.
        lake: holds the lookups of the transforms.
    """
    lookups = {job.key: os.fsencode(job.path).hex() for job in jobs if job.lookup_of}
    with tempfile.TemporaryDirectory(prefix="silversmith-check-") as scratch:
        process = _Process(reference, Path(scratch), lake, lookups)
        try:
            for job in jobs:
                yield _checked(job, process, pipeline)
        finally:
            process.end()


def _checked(job: Job, process: _Process, pipeline: Pipeline | None) -> CheckedFile:
    if job.lookup_of:
        return CheckedFile(job.path, None, "lookup", key=job.key, lookup_of=job.lookup_of)
    if job.transform == NO_TRANSFORM:
        message = "no transform's pattern matches it: nothing would be made of it"
        patterns = (
            list(dict.fromkeys(each.pattern.text for each in pipeline.transforms))[:_MOST_PATTERNS] if pipeline else []
        )
        hint = f"name its key with --key, or the transform with --transform; the patterns are {', '.join(patterns)}"
        forms = [form for each in pipeline.transforms if (form := each.pattern.in_form_of(job.key))] if pipeline else []
        if forms:
            hint = f"it differs in case or Unicode form only: add the pattern {forms[0]!r}; or {hint}"
        return CheckedFile(job.path, None, **_failed("NoTransform", message, hint, outcome="unmatched"), key=job.key)
    transform = transform_of(job, pipeline)
    if is_marker(job, transform):
        return CheckedFile(job.path, job.transform or None, Verdict.MARKER.value, key=job.key)
    limits = Limits(float(transform.timeout), transform.memory)
    if pipeline is None:
        limits = Limits(SECONDS + (_size(job) or 0) / BYTES_A_SECOND)
    return CheckedFile(job.path, job.transform or None, **process.ask(job, limits), key=job.key)


def transform_of(job: Job, pipeline: Pipeline | None) -> Transform:
    """The transform of a job; one that leaves all rows as they are where there is none."""
    if pipeline is None or job.transform == NO_TRANSFORM:
        return plain_transform()
    return pipeline.find(job.transform)


def is_marker(job: Job, transform: Transform) -> bool:
    """Whether a file stands for a folder or a job, and is no data."""
    return transform.pattern.passes_over(job.key or Path(job.path).as_posix(), _size(job))


def _size(job: Job) -> int | None:
    with suppress(OSError):
        return Path(job.path).stat().st_size
    return None


class _Process:
    """The process that reads files: started for the first one, and again after it died."""

    def __init__(self, reference: str | None, scratch: Path, lake: Path, lookups: Mapping[str, str]) -> None:
        self._reference = reference
        self._scratch = scratch
        self._lake = lake
        self._lookups = lookups
        self._child: ChildProcess | None = None

    def ask(self, job: Job, limits: Limits) -> dict[str, Any]:
        """The answer for one file, also when the process dies of it."""
        child = self._child or self._start()
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        path = os.fsencode(job.path).hex()
        request = {"path": path, "key": job.key, "transform": job.transform, "scratch": str(folder)}
        request["memory"] = str(limits.megabytes)
        try:
            child.connection.send_bytes(orjson.dumps(request))
            answer = self._wait(child, limits)
        except (EOFError, OSError):
            hint = "the bytes broke a library, or the machine ran out of memory: please report the file"
            answer = _failed("Crashed", f"the process that read it {child.death()}", hint)
            self.end()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if child.memory() > _KEPT:
            self.end()
        return answer

    def _start(self) -> ChildProcess:
        self._child = child = spawn(CpuShare(len(usable_cpus())), "silversmith.operations.check:main")
        child.start(self._reference, str(self._lake), dict(self._lookups))
        try:
            is_ready = child.connection.poll(_START) and bool(child.connection.recv_bytes())
        except (EOFError, OSError):
            is_ready = False
        if not is_ready:
            self.end()
            raise DefinitionError("the process that reads the files does not start; does the pipeline load alone?")
        return child

    def _wait(self, child: ChildProcess, limits: Limits) -> dict[str, Any]:
        deadline = time.monotonic() + limits.seconds
        while not child.connection.poll(LOOK):
            if time.monotonic() > deadline:
                self.end()
                message = f"it took longer than {limits.seconds:g} s"
                return _failed("TimedOut", message, "give the transform more time (timeout=…), or put smaller files")
            if (used := child.memory()) > limits.megabytes * _MEGA:
                self.end()
                message = f"it took {used // _MEGA} MB of memory; the limit is {limits.megabytes} MB"
                return _failed("OutOfMemory", message, "give the transform more (memory=…), or put smaller files")
        answer: dict[str, Any] = orjson.loads(child.connection.recv_bytes())
        return answer

    def end(self) -> None:
        """End the process, if there is one."""
        if self._child is not None:
            self._child.end()
            self._child = None


def main(
    connection: Connection, _position: object, reference: str | None, lake: str, lookups: Mapping[str, str]
) -> None:
    """The process: check each file that the connection names, and answer with its result.

    ``lookups`` are paths, as hexadecimal bytes, by their keys.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    located = locate(reference) if reference is not None else None
    pipeline, folder = (located.pipeline, located.root) if located is not None else (None, Path())
    connection.send_bytes(orjson.dumps({"ready": True}))
    while True:
        try:
            request = orjson.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = request["memory"]
        job = Job(os.fsdecode(bytes.fromhex(request["path"])), request["key"], request["transform"])
        files = {key: os.fsdecode(bytes.fromhex(path)) for key, path in lookups.items()}
        answer = check_here(job, pipeline, Path(request["scratch"]), Path(lake), files, folder=folder)
        connection.send_bytes(orjson.dumps(answer))


class _Bronze:
    """The bronze bucket of a lake for lookups, with files in it that are elsewhere: their paths by key."""

    def __init__(self, lake: LocalStore, files: Mapping[str, str]) -> None:
        self._lake = lake
        self._files = files

    def head(self, key: str) -> Head | None:
        return open_source(Job(self._files[key], key)).head if key in self._files else self._lake.head(key)

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        if key in self._files:
            yield open_source(Job(self._files[key], key))
            return
        with self._lake.open(key) as source:
            yield source

    def verify(self, source: Source) -> None:
        if source.head.key not in self._files:
            self._lake.verify(source)


def check_here(
    job: Job,
    pipeline: Pipeline | None,
    scratch: Path,
    lake: Path = Path("lake"),
    lookups: Mapping[str, str] = MappingProxyType({}),
    *,
    folder: Path = Path(),
) -> dict[str, Any]:
    """Check a file in this process: the values of :class:`CheckedFile`. Any error is part of the answer.

    ``lookups`` are the paths of lookups by their keys; ``lake`` holds the others. ``folder`` is the pipeline's, where
    the secrets' stand-ins are.
    """
    try:
        transform = pipeline.find(job.transform) if pipeline is not None else plain_transform()
        source = open_source(job)
        context = None
        if pipeline is not None and (transform.lookups or transform.secrets):
            bronze = _Bronze(LakeFolder(lake).store(pipeline.bronze, foreign_writers=True), lookups)
            secrets = Secrets(transform.secrets, from_machine(folder), name=transform.name)
            # Lookups ask a store for nothing but these three.
            known = Lookups(cast("Store", bronze), transform.lookups, name=transform.name, secret=secrets)
            context = known.context(source.head)
        nothing_yet = Document(transform.name)
        lineage = empty_lineage(job.key, transform)
        with variables_set(transform.environment):
            converted = convert(source, transform, lineage, scratch, nothing_yet, context=context)
        if refusal := _refusal(converted, transform, pipeline):
            return refusal
        answer = _silver(converted)
        if pipeline is None and answer["format"].startswith(_MAY_BE_LOGS) and (hint := hint_of_log(source)):
            answer["dialect"]["hint"] = hint
        return answer
    except DataError as error:
        hint = hint_of_log(open_source(job)) if error.code == "UnknownFormat" and pipeline is None else ""
        answer = _refused(error, hint=hint, outcome="quarantine")
        return answer | {"format": error.format, "dialect": dict(error.dialect or {})}
    except MemoryError:
        return _failed("OutOfMemory", "there was not enough memory to read it")
    except (SilversmithError, OSError) as error:
        message = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        hint = "the data may be good: correct this, and check again"
        if isinstance(error, LookupMissing):
            hint = "name it among the files, or the lake that has it with --lake"
        return _failed(type(error).__name__, message, hint)
    except BaseException as error:  # noqa: BLE001 -- a bug of ours, or of a library, must not stop the other files
        message = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:500]}"
        return _failed("Crashed", message, "this is a bug in Silversmith: please report it")


def _refusal(converted: Converted, transform: Transform, pipeline: Pipeline | None) -> dict[str, Any] | None:
    """The answer where a table refuses these columns of silver; None: each takes them, or there are no rows."""
    tables = pipeline.tables.of_transform(transform.name) if pipeline is not None else ()
    if not tables or not converted.lineage.rows_written or converted.document is None:
        return None
    with tables_installed():
        from silversmith.tables.commit import require_columns
        from silversmith.tables.types import recorded_columns, settled
    try:
        columns = {name: settled(kind) for name, kind in recorded_columns(converted.document.to_json()).items()}
        for table in tables:
            require_columns(table, columns)
    except DataError as error:  # the file becomes silver: the declaration is at fault
        return _refused(error)
    return None


def _refused(error: DataError, *, hint: str = "", outcome: str = "failed") -> dict[str, Any]:
    place = {name: value for name, value in vars(error.place).items() if value is not None}
    return _failed(error.code, error.message, hint or error.hint, place, outcome=outcome)


#: Formats that a log may be taken for.
_MAY_BE_LOGS = ("lines", "json", "ndjson")

#: So many bytes of a file are compared with each known log, which must have so many of its published columns in them.
_SAMPLE, _LEAST_COLUMNS = 64 * 1024, 5


def hint_of_log(source: Source) -> str:
    """Which log of :mod:`silversmith.logs` a file is by its first lines, and how to read it; empty: none of them."""
    with suppress(DataError), formats.unpacked(source) as opened:
        content = opened.contents[0]
        sample = content.head(_SAMPLE)
        if content.size > _SAMPLE:
            sample = sample[: sample.rfind(b"\n") + 1]
        known = {name: log for name in logs.__all__ if isinstance(log := getattr(logs, name), logs.Log)}
        columns = {name: _published(sample, log, source.head) for name, log in known.items()}
        name = max(columns, key=lambda name: columns[name])
        if columns[name] >= _LEAST_COLUMNS:
            return (
                f"it looks like a log that is known: from silversmith.logs import {name}; "
                f"then reader={name}.reader, contract={name}.contract"
            )
    return ""


def _published(sample: bytes, log: logs.Log, head: Head) -> int:
    """How many of a log's published columns have a value in some bytes; 0 if these are no such log."""
    source = Source(replace(head, key="sample", size=len(sample)), sample, None)
    try:
        checked = log.contract.check(formats.read(source, log.reader, declared=log.contract.declared))
        good, rejected = pl.collect_all([checked.good, checked.rejected])
    except DataError:
        return 0
    values = {column.name for column in good.get_columns() if column.null_count() < good.height}
    published = values & (log.columns.keys() - {logs.EXTRA})
    return len(published) if len(published) > len(values - published) and rejected.height <= good.height // 10 else 0


def plain_transform() -> Transform:
    """A transform without a contract that leaves all rows as they are."""
    pipeline = Pipeline("check")
    pipeline.transform("*", name="check")(lambda rows: rows)
    return pipeline.find("check")


def open_source(job: Job) -> Source:
    """A file as bronze would open it.

    Raises:
        OSError: it cannot be read.
    """
    path = Path(job.path)
    stat = path.stat()
    head = Head(job.key, "", stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))
    if stat.st_size <= IN_MEMORY:
        return Source(head, path.read_bytes(), None)
    with path.open("rb"):  # raises before Polars would
        return Source(head, None, path)


def _silver(converted: Converted) -> dict[str, Any]:
    first: list[dict[str, Any]] = []
    if converted.rejected is not None:
        rows = pl.scan_parquet(converted.rejected, glob=False).select(ROW_NUMBER, REASONS).head(FIRST).collect()
        first = [{"row": row, "reasons": reasons} for row, reasons in rows.iter_rows()]
    return {
        "outcome": "silver",
        "rows": converted.lineage.rows_written,
        "rejected": converted.lineage.rows_rejected,
        "dropped": converted.lineage.rows_dropped,
        "format": converted.lineage.format,
        "dialect": dict(converted.dialect),
        "first": first,
    }


def _failed(
    code: str, message: str, hint: str = "", place: Mapping[str, Any] | None = None, *, outcome: str = "failed"
) -> dict[str, Any]:
    error = {"code": code, "message": message, "hint": hint, "help": help_for(code), "place": dict(place or {})}
    return {"outcome": outcome, "error": _encodable(error)}


def _encodable(value: Any) -> Any:
    """JSON has no lone surrogates: they become escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return {name: _encodable(item) for name, item in value.items()} if isinstance(value, dict) else value
