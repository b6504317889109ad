"""What runs in the process that checks files: one after the other, as the function would, without a lake."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from silversmith.contract import REASONS, ROW_NUMBER
from silversmith.errors import DataError, SilversmithError
from silversmith.function.convert import Converted, convert
from silversmith.lineage import Lineage
from silversmith.local.lake import LakeFolder
from silversmith.pipeline import Pipeline, Transform, load
from silversmith.pipeline.lookups import Context, Lookups
from silversmith.stores import IN_MEMORY, Head, Source

#: How many rejected rows are shown of a file.
FIRST = 5


@dataclass(frozen=True)
class Job:
    """One file, the key it would have in bronze, and the transform that it is for; empty: none, all rows are good."""

    path: str
    key: str
    transform: str = ""


def main(connection: Connection, pipeline: str | None, lake: str) -> None:
    """Check the files that are named through the connection, and answer each with its result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    found = load(pipeline) if pipeline is not None else None
    connection.send_bytes(orjson.dumps({"ready": True}))
    while True:
        try:
            request = orjson.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        job = Job(os.fsdecode(bytes.fromhex(request["path"])), request["key"], request["transform"])
        connection.send_bytes(orjson.dumps(check(job, found, Path(request["scratch"]), Path(lake))))


def check(job: Job, pipeline: Pipeline | None, scratch: Path, lake: Path = Path("lake")) -> dict[str, Any]:
    """What a run would make of a file, as JSON values. Whatever goes wrong is part of the answer.

    ``lake`` is where lookups are: what they say decides, too, what a file becomes.
    """
    try:
        transform = pipeline.find(job.transform) if pipeline is not None else _plain()
        opened = source(job)
        context = _context(transform, pipeline, lake, opened) if pipeline is not None else None
        made = convert(opened, transform, _lineage(job, transform), scratch, context=context)
        return _silver(made)
    except DataError as error:
        return _quarantined(described(error), error.format, error.dialect)
    except MemoryError:
        return _quarantined(problem("OutOfMemory", "there was not enough memory to read it"))
    except (SilversmithError, OSError) as error:
        return _quarantined(
            problem(type(error).__name__, _text(error), hint="the data may be good: mend this, and check again")
        )
    except BaseException as error:  # noqa: BLE001 -- a bug of ours, or of a library: it is this file's, and no other's
        told = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:500]}"
        return _quarantined(problem("Crashed", told, hint="this is a bug in Silversmith: please report it"))


def _context(transform: Transform, pipeline: Pipeline, lake: Path, opened: Source) -> Context | None:
    if not transform.lookups:
        return None
    bronze = LakeFolder(lake).store(pipeline.bronze, foreign_writers=True)
    return Lookups.of(transform, bronze, None).context(opened.head)


def _text(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _plain() -> Transform:
    """A transform without a contract that leaves all rows as they are."""
    pipeline = Pipeline("check")
    pipeline.transform("*", name="check")(lambda rows: rows)
    return pipeline.find("check")


def source(job: Job) -> Source:
    """A file as bronze would hand it over.

    Raises:
        OSError: it cannot be read.
    """
    path = Path(job.path)
    stat = path.stat()
    head = Head(job.key, "", stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))
    if stat.st_size <= IN_MEMORY:
        return Source(head, path.read_bytes(), None)
    with path.open("rb"):  # it must be there, and one's to read, before Polars tries
        return Source(head, None, path)


def _lineage(job: Job, transform: Transform) -> Lineage:
    return Lineage(
        bronze_key=job.key,
        bronze_etag="",
        bronze_version="",
        bronze_size=0,
        sequencer="",
        transform=transform.name,
        fingerprint=transform.fingerprint,
        rows_read=0,
        rows_written=0,
        rows_rejected=0,
        committed_at="",
        attempt=1,
    )


def _silver(made: Converted) -> dict[str, Any]:
    return {
        "outcome": "silver",
        "rows": made.lineage.rows_written,
        "rejected": made.lineage.rows_rejected,
        "error": None,
        "format": made.lineage.format,
        "dialect": dict(made.dialect),
        "first": _first(made.rejected),
    }


def _first(rejected: bytes | Path | None) -> Sequence[Mapping[str, Any]]:
    """Why the first of the rejected rows were."""
    if rejected is None:
        return []
    rows = pl.scan_parquet(rejected, glob=False).select(ROW_NUMBER, REASONS).head(FIRST).collect()
    return [{"row": row, "reasons": reasons} for row, reasons in rows.iter_rows()]


def _quarantined(
    error: dict[str, Any], kind: str | None = None, dialect: Mapping[str, object] | None = None
) -> dict[str, Any]:
    return {
        "outcome": "quarantine",
        "rows": 0,
        "rejected": 0,
        "error": error,
        "format": kind,
        "dialect": dict(dialect or {}),
        "first": [],
    }


def described(error: DataError) -> dict[str, Any]:
    """A fault of the data as in the error document that a run would leave in quarantine."""
    place = {name: value for name, value in vars(error.place).items() if value is not None}
    return problem(error.code, error.message, hint=error.hint, place=place)


def problem(code: str, message: str, *, hint: str = "", place: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An error as JSON values."""
    found = {"code": code, "message": message, "hint": hint, "place": dict(place or {})}
    return {name: _encodable(value) for name, value in found.items()}


def _encodable(value: Any) -> Any:
    """Text as Unicode, whatever it was: JSON has no half characters."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return {name: _encodable(item) for name, item in value.items()} if isinstance(value, dict) else value
