"""What failed and why: files in quarantine, rejected rows, and messages in dead-letter queues."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import polars as pl

from silversmith.contract import REASONS, ROW_NUMBER
from silversmith.function.retries import parse as parse_tries
from silversmith.lineage import Lineage, silver_key
from silversmith.operations.target import (
    ERROR,
    FAILED,
    REJECTED,
    DeadMessage,
    ErrorDocument,
    Target,
    bronze_key,
    explained,
    parse,
)
from silversmith.operations.text import age, iso, moment
from silversmith.patterns.keys import KeyPattern
from silversmith.pipeline import Pipeline
from silversmith.stores import Source, Store

#: How many rejected rows are shown of a file.
FIRST = 5


@dataclass(frozen=True)
class RejectedRow:
    """A rejected row: its number in the file, from 1 (None where the file does not tell), and what is wrong with it."""

    row: int | None
    reasons: Sequence[str]


@dataclass(frozen=True)
class RejectedFile:
    """The rejected rows of one bronze object. ``at`` in ISO 8601, ``document`` their Parquet file's key in quarantine.

    ``rows`` is how many there are, ``rows_read`` how many the file had in all.
    """

    transform: str
    key: str
    rows: int
    rows_read: int
    at: str
    document: str
    first: Sequence[RejectedRow]


def look(quarantine: Store, document: str, *, most: int = FIRST) -> RejectedFile | None:
    """The rejected rows at this quarantine key; None where there are none. Reads the first ``most`` only."""
    with quarantine.open(document) as source:
        if source is None:
            return None
        first, counted = _read(source, most)
        lineage = Lineage.from_metadata(source.head.metadata)
    if lineage is not None:
        return RejectedFile(
            lineage.transform,
            lineage.bronze_key,
            lineage.rows_rejected,
            lineage.rows_read,
            lineage.committed_at,
            document,
            first,
        )
    transform, _, key = document.removesuffix(REJECTED).partition("/")
    return RejectedFile(transform, key, counted, counted, "", document, first)


def _read(source: Source, most: int) -> tuple[list[RejectedRow], int]:
    """The first rows, and how many there are. A file that is no such Parquet file has none that could be shown."""
    where = io.BytesIO(source.data) if source.data is not None else source.path
    assert where is not None
    try:
        rows = pl.scan_parquet(where)
        count = int(rows.select(pl.len()).collect().item())
        first = rows.select(ROW_NUMBER, REASONS).head(most).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return [], 0
    return [RejectedRow(_number(row), _texts(reasons)) for row, reasons in first.iter_rows()], count


def _number(found: object) -> int | None:
    return found if isinstance(found, int) else None


def _texts(found: object) -> list[str]:
    return [str(item) for item in found] if isinstance(found, list) else []


_Found = TypeVar("_Found")
_Shown = TypeVar("_Shown")


@dataclass(frozen=True)
class Wanted:
    """Which failures are asked for: of one transform, of the keys that match, at most so many of each kind."""

    transform: str | None = None
    pattern: KeyPattern | None = None
    most: int = 100

    def key(self, key: str) -> bool:
        """Whether failures of this bronze key are asked for."""
        return self.pattern is None or self.pattern.matches(key)


@dataclass(frozen=True)
class Failures:
    """The first so many failures of each kind, and how many there are in all. ``now`` is in Unix seconds."""

    quarantined: Sequence[ErrorDocument]
    quarantined_total: int
    dead: Sequence[DeadMessage]
    dead_total: int
    now: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; each failure with its age in seconds."""
        return {
            "quarantined": [
                {**asdict(found), "age_seconds": age(moment(found.at), self.now)} for found in self.quarantined
            ],
            "quarantined_total": self.quarantined_total,
            "dead": [
                {
                    **asdict(found),
                    "sent": iso(found.sent),
                    "dead_at": iso(found.dead_at),
                    "age_seconds": age(found.dead_at if found.dead_at is not None else found.sent, self.now),
                }
                for found in self.dead
            ],
            "dead_total": self.dead_total,
        }


@dataclass(frozen=True)
class RejectedFiles:
    """The first so many files of which rows were rejected, and how many there are in all."""

    files: Sequence[RejectedFile]
    total: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"rejected": [asdict(found) for found in self.files], "rejected_total": self.total}


def failures(pipeline: Pipeline, target: Target, wanted: Wanted, *, now: float) -> Failures:
    """Everything that failed and was not mended since. The buckets and queues are asked, no memory of them.

    Raises:
        DefinitionError: the pipeline has no transform of the wanted name.
    """
    transform = pipeline.find(wanted.transform) if wanted.transform is not None else None
    quarantine = target.lake.quarantine
    quarantined, quarantined_total = _take(
        _quarantined(pipeline, target, wanted),
        wanted.most,
        lambda found: _document(quarantine, found) if isinstance(found, str) else found,
    )
    messages = (each for each in target.dead() if wanted.key(each.key) and each.concerns(transform))
    dead, dead_total = _take(messages, wanted.most, lambda found: explained(quarantine, found))
    return Failures(quarantined, quarantined_total, dead, dead_total, now)


def rejected(pipeline: Pipeline, target: Target, wanted: Wanted) -> RejectedFiles:
    """The files of which some rows broke the contract. Their other rows are in silver.

    Raises:
        DefinitionError: the pipeline has no transform of the wanted name.
    """
    if wanted.transform is not None:
        pipeline.find(wanted.transform)
    quarantine = target.lake.quarantine
    files, total = _take(_keys(quarantine, wanted, REJECTED), wanted.most, lambda key: look(quarantine, key))
    return RejectedFiles(files, total)


def _take(found: Iterator[_Found], most: int, show: Callable[[_Found], _Shown | None]) -> tuple[list[_Shown], int]:
    """The first ``most`` as they are shown, and how many there are. What is gone by then does not count."""
    taken: list[_Shown] = []
    total = 0
    for item in found:
        if len(taken) < most:
            shown = show(item)
            if shown is None:
                continue
            taken.append(shown)
        total += 1
    return taken, total


def _quarantined(pipeline: Pipeline, target: Target, wanted: Wanted) -> Iterator[str | ErrorDocument]:
    """The keys of error documents; and, as documents, what the code has failed on as often as it may and of which no
    dead message is left, for queues do not keep them for ever."""
    for key in _keys(target.lake.quarantine, wanted, ERROR, FAILED):
        if key.endswith(ERROR):
            yield key
        elif document := _without_message(pipeline, target, key):
            yield document


def _without_message(pipeline: Pipeline, target: Target, name: str) -> ErrorDocument | None:
    found = parse_tries(target.lake.quarantine.read(name) or b"")
    if found is None or not found["dead"] or found["transform"] not in {each.name for each in pipeline.transforms}:
        return None
    transform, key, etag = found["transform"], found["bronze"]["key"], found["bronze"]["etag"]
    bronze = target.lake.bronze.head(key)
    silver = target.lake.silver.head(silver_key(transform, key))
    lineage = Lineage.from_metadata(silver.metadata) if silver is not None else None
    is_over = bronze is None or bronze.etag != etag or (lineage is not None and lineage.bronze_etag == etag)
    if is_over or target.waiting(transform, {key: etag}):
        return None
    return ErrorDocument(
        transform, key,
        code=found["error"]["code"], message=found["error"]["message"],
        hint="No message of it is left: mend the cause, then `silversmith reconcile --dead`.",
        at=found["at"], etag=etag, version=found["bronze"]["version"], size=found["bronze"]["size"],
        attempt=found["tries"], document=name,
    )  # fmt: skip


def _document(quarantine: Store, key: str) -> ErrorDocument | None:
    body = quarantine.read(key)
    return None if body is None else parse(key, body)


def _keys(quarantine: Store, wanted: Wanted, *endings: str) -> Iterator[str]:
    """The keys in quarantine of some kinds whose bronze keys are wanted. Streams, and opens only what does not tell."""
    for head in quarantine.list(f"{wanted.transform}/" if wanted.transform else ""):
        if head.key.endswith(endings) and (wanted.pattern is None or wanted.key(_about(quarantine, head.key))):
            yield head.key


def _about(quarantine: Store, key: str) -> str:
    """The bronze key that an object in quarantine is about; where its own key was cut short, it must be asked."""
    found = bronze_key(key)
    if found is not None:
        return found
    if key.endswith(ERROR):
        document = _document(quarantine, key)
        return document.key if document else ""
    if key.endswith(FAILED):
        tries = parse_tries(quarantine.read(key) or b"")
        return str(tries["bronze"]["key"]) if tries is not None else ""
    shown = look(quarantine, key)
    return shown.key if shown else ""
