"""Run a pipeline, or the whole local engine, over the files of a test."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from silversmith.formats import ROW, Reader
from silversmith.formats.table import Table
from silversmith.function.handler import Handler
from silversmith.function.outcome import Report
from silversmith.pipeline import Pipeline, Transform, load
from silversmith.pipeline.lookups import Context, LookupMissing
from silversmith.pipeline.needs import SecretMissing
from silversmith.runtime.queue import SystemUnavailable
from silversmith.stores import Head, Lake
from silversmith.stores.local import LocalStore
from silversmith.testing.events import LambdaContext, eventbridge, sqs
from silversmith.testing.result import Result, collect

if TYPE_CHECKING:
    from silversmith.local.engine import Engine

_MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)


def context(
    lookups: Mapping[str, pl.DataFrame] | None = None,
    *,
    secrets: Mapping[str, str] | None = None,
    key: str = "orders/1.csv",
    etag: str = "0" * 32,
    size: int = 0,
    modified: datetime = _MODIFIED,
) -> Context:
    """The second argument of a transform: ``orders(rows, context({"lookup/countries.csv": countries}))``.

    Args:
        lookups: their rows by key. To read another one raises :class:`~silversmith.pipeline.lookups.LookupMissing`.
        secrets: their values by name. Another one raises :class:`~silversmith.pipeline.needs.SecretMissing`.
        key, etag, size, modified: of the bronze object, see :class:`~silversmith.Context`.
    """
    frames = dict(lookups or {})

    def read(name: str, _: Reader | None) -> Table:
        if name not in frames:
            raise LookupMissing(f"this test has no lookup {name!r}; it has: {', '.join(frames) or 'none'}")
        frame = frames[name].with_row_index(ROW, offset=1)
        return Table(frame.lazy(), "test", frame)

    values = dict(secrets or {})
    return Context(Head(key, etag, size, modified), read, _secret=lambda name: _secret(values, name))


def _secret(values: Mapping[str, str], name: str) -> str:
    if name not in values:
        raise SecretMissing(f"this test has no secret {name!r}; it has: {', '.join(values) or 'none'}")
    return values[name]


#: The content of a test's file: bytes; a text, which becomes UTF-8; a frame, which is written in the format of the
#: key's ending; a dictionary or a list, which become JSON; a file on disk.
Content = bytes | str | pl.DataFrame | Mapping[str, Any] | Sequence[Any] | Path

#: Files that land in bronze together, by key.
Files = Mapping[str, Content]


def encode(key: str, content: Content) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: a frame's key does not end in one of ``.csv``, ``.ndjson``, ``.jsonl``, ``.json``, ``.parquet``.
        TypeError: a file cannot hold it.
    """
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, Path):
        return content.read_bytes()
    if isinstance(content, pl.DataFrame):
        return encode_frame(content, _format(key))
    if isinstance(content, Mapping | Sequence):
        if _format(key) == "ndjson" and not isinstance(content, Mapping):
            return b"".join(orjson.dumps(row) + b"\n" for row in content)
        return orjson.dumps(content)
    raise TypeError(f"{key}: a {type(content).__name__} is no content of a file; give bytes, a text, a frame or a Path")


def encode_frame(frame: pl.DataFrame, form: str) -> bytes:
    """A frame as a file.

    Args:
        frame: the rows.
        form: ``csv``, ``ndjson``, ``json`` or ``parquet``.

    Raises:
        ValueError: the format is unknown.
    """
    file = io.BytesIO()
    if form == "csv":
        # Polars writes offsets without a colon, +0000, which is not how ISO 8601 writes them beside a time with colons
        zoned = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime) and kind.time_zone]
        frame.with_columns(pl.col(zoned).dt.to_string("iso:strict")).write_csv(file)
    elif form == "ndjson":
        frame.write_ndjson(file)
    elif form == "json":
        frame.write_json(file)
    elif form == "parquet":
        frame.write_parquet(file)
    else:
        raise ValueError(f"{form!r} is no format of a frame here; it is one of csv, ndjson, json, parquet")
    return file.getvalue()


def _format(key: str) -> str:
    ending = key.rpartition(".")[2].lower()
    return "ndjson" if ending == "jsonl" else ending


def run(
    pipeline: Pipeline,
    *landings: Files,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    secrets: Mapping[str, str] | None = None,
) -> Result:
    """Run a pipeline over files.

    From the event on, the bytes pass the code that runs on Lambda: the same handler, checks and commit. The way of the
    event is left out; :func:`~silversmith.testing.run_engine` has that, too. A transform that raises is tried once.

    Args:
        pipeline: the pipeline to run.
        landings: files by key. Several landings follow each other over the same buckets, as when a file is replaced:
            the result is the state at the end.
        now: the time of day, in UTC.
        secrets: the values of those that transforms declare, by name.

    Raises:
        ValueError, TypeError: a file cannot have this content. See :func:`~silversmith.testing.encode`.
    """
    with tempfile.TemporaryDirectory(prefix="silversmith-") as folder:
        values = dict(secrets or {})
        bench = _Bench(pipeline, _lake(Path(folder)), Path(folder) / "scratch", now, values)
        keys: dict[str, None] = {}
        for files in landings:
            for key, content in files.items():
                bench.lake.bronze.put(key, encode(key, content))
            keys |= dict.fromkeys(files)
            for transform in pipeline.transforms:
                bench.handle(transform, [key for key in files if transform.pattern.matches(key)])
        return collect(pipeline, bench.lake, list(keys), bench.failures)


@dataclass
class _Bench:
    """A pipeline with its buckets. ``failures``: by transform and bronze key, unless a later landing repaired them."""

    pipeline: Pipeline
    lake: Lake
    scratch: Path
    now: Callable[[], datetime]
    secrets: Mapping[str, str]
    failures: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def handle(self, transform: Transform, keys: Sequence[str]) -> None:
        """Hand the transform the events of these keys, in batches of its size."""
        reports: list[Report] = []
        handler = Handler(
            transform,
            bucket=self.pipeline.bronze,
            lake=self.lake,
            scratch=self.scratch,
            ended=reports.append,
            now=self.now,
            environment=transform.environment,
            fetch=lambda name, _: _secret(self.secrets, name),
        )
        for start in range(0, len(keys), transform.batch_size):
            some = keys[start : start + transform.batch_size]
            with suppress(SystemUnavailable):  # the reports have it, too
                messages = sqs(*(eventbridge(self.pipeline.bronze, key) for key in some))
                handler(messages, LambdaContext(transform.timeout))
        for key in keys:
            self.failures.pop((transform.name, key), None)
        for report in reports:
            if report.error is not None:
                self.failures[transform.name, report.key] = dict(report.error)


def _lake(folder: Path) -> Lake:
    bronze, silver, quarantine = (
        LocalStore(
            folder / name,
            scratch=folder / "scratch",
            locks=folder / "locks",
            foreign_writers=name == "bronze",
            fsync=lambda _: None,
        )
        for name in ("bronze", "silver", "quarantine")
    )
    return Lake(bronze, silver, quarantine)


class NotIdle(AssertionError):
    """The engine was still working when its time was over."""


def run_engine(target: str, *landings: Files, folder: Path, workers: int = 1, timeout: float = 60) -> Result:
    """Run the engine over files, like ``silversmith run --until-idle``. Takes about a second.

    Args:
        target: the pipeline, as on the command line: the workers load it.
        landings: files by key; each landing follows when the one before is done.
        folder: becomes the lake.
        workers: how many worker processes.
        timeout: in seconds, of each landing.

    Raises:
        DefinitionError: there is no such pipeline.
        NotIdle: the time was over.
    """
    from silversmith.local.engine import Engine
    from silversmith.local.lake import LakeFolder
    from silversmith.operations.local import open_lake

    pipeline = load(target)
    lake = LakeFolder(folder)
    lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
    keys: dict[str, None] = {}
    for files in landings:
        bronze = lake.store(pipeline.bronze, foreign_writers=True)
        for key, content in files.items():
            bronze.put(key, encode(key, content))
        keys |= dict.fromkeys(files)
        _until_idle(Engine(lake, pipeline, target=target, workers=workers), timeout)
    failures: dict[tuple[str, str], dict[str, Any]] = {}
    with open_lake(lake, pipeline) as opened:
        for message in opened.dead():
            error = dict(message.error or {"code": "Undelivered", "message": message.reason})
            names = (
                [message.transform]
                if message.transform
                else [transform.name for transform in pipeline.matching(message.key)]
            )
            failures |= {(name, message.key): error for name in names}
    return collect(pipeline, lake.stores(pipeline), list(keys), failures)


def _until_idle(engine: Engine, timeout: float) -> None:
    ends = time.monotonic() + timeout
    is_late = False

    def late() -> bool:
        nonlocal is_late
        is_late = time.monotonic() >= ends
        return is_late

    try:
        progress = engine.run(until_idle=True, stopped=late, tick=lambda _: None)
    finally:
        engine.close()
    if is_late:
        raise NotIdle(f"the engine was not done within {timeout:g} s: {progress}")
