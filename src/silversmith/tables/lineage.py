"""The lineage as a table: a row for each object of silver, and for each document in quarantine that speaks of a file.

Like any table it is a function of what it is made of: an event is a hint that an object may have changed, its row
follows from what the object says now, and a commit is valid only if the version that was read is still the newest. So a
row may be late, and is never believed over the object. docs/decisions/0141-the-lineage-is-a-table.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, NamedTuple

from arro3.core import Array, DataType, RecordBatch

from silversmith import faults
from silversmith.errors import SilversmithError
from silversmith.lineage import (
    ERROR_ENDING,
    FAILED_ENDING,
    SILVER_ENDING,
    Lineage,
    bronze_key_of,
    error_key,
    failed_key,
    silver_key,
)
from silversmith.stores import Head, Store, map_in_threads, read_snapshot
from silversmith.tables.commit import ATTEMPTS, WORKERS, Brought
from silversmith.tables.format import Format, Refused, Snapshot, is_one_of, quoted, text
from silversmith.tables.spec import ETAG, FILE, LINEAGE
from silversmith.tables.types import Columns, to_arrow, to_schema

#: What a row is about: an object of silver, an error document, or a document that says that the code has failed on a
#: file as often as it may.
SILVER, QUARANTINED, GIVEN_UP = "silver", "quarantined", "given_up"

#: The columns by which rows lie apart: what asks for one of them reads nothing else.
PARTITIONS = ("transform", "state")

#: ``_file`` is the bronze key, ``_etag`` the ETag of the object that the row is about; sizes in bytes.
COLUMNS: Columns = {
    FILE: "string",
    ETAG: "string",
    "transform": "string",
    "state": "string",
    "bronze_etag": "string",
    "bronze_version": "string",
    "bronze_size": "long",
    "fingerprint": "string",
    "lookups": "string",
    "schema_version": "long",
    "owner": "string",
    "rows_read": "long",
    "rows_written": "long",
    "rows_rejected": "long",
    "committed_at": "timestamp",
    "error": "string",
}

#: So many keys are asked for in one query.
_ASKED = 2_000

_NAMES = tuple(COLUMNS)


class Subject(NamedTuple):
    """The subject of a row."""

    transform: str
    state: str
    file: str

    @property
    def key(self) -> str:
        """The object's key, in silver or in quarantine."""
        derive = {SILVER: silver_key, QUARANTINED: error_key, GIVEN_UP: failed_key}[self.state]
        return derive(self.transform, self.file)


#: The values of a row in the order of the columns.
Row = tuple[Any, ...]


@dataclass(frozen=True)
class _Look:
    """The row of an object now. ``row`` None: there is no such object, or it does not say where it came from."""

    key: str
    subject: Subject | None = None
    row: Row | None = None
    error: Exception | None = None


def follow(
    transforms: Sequence[str],
    keys: Iterable[str],
    *,
    silver: Store,
    quarantine: Store,
    gold: Format,
    step: Callable[[str], None] = faults.point,
    workers: int = WORKERS,
    has_time: Callable[[], bool] = lambda: True,
) -> Brought:
    """Make the lineage say what the objects under these keys say now.

    Args:
        transforms: the names of those whose lineage is kept.
        keys: keys in silver, and of documents in quarantine; others are left out of account.
        silver: the bucket of silver.
        quarantine: the bucket of quarantine.
        gold: where the table is.
        step: told the name of each step, for tests that die there.
        workers: how many objects are looked at side by side.
        has_time: whether one more object may be looked at; those that are left are not touched.

    Raises:
        Refused: others committed so often that nothing was done: try again.
        GoldFailed, OSError: gold cannot be read or written.
    """
    waiting = [key for key in dict.fromkeys(keys) if state_of(key) and key.partition("/")[0] in transforms]
    buckets = {"silver": silver, "quarantine": quarantine}
    for attempt in range(ATTEMPTS):
        try:
            return _follow_once(waiting, **buckets, gold=gold, step=step, workers=workers, has_time=has_time)
        except Refused:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("the loop ends by itself")


def state_of(key: str) -> str:
    """The state of an object of this key; empty: the lineage has no row for it."""
    endings = {SILVER_ENDING: SILVER, ERROR_ENDING: QUARANTINED, FAILED_ENDING: GIVEN_UP}
    return next((state for ending, state in endings.items() if key.endswith(ending)), "")


def _follow_once(
    keys: Sequence[str],
    *,
    silver: Store,
    quarantine: Store,
    gold: Format,
    step: Callable[[str], None],
    workers: int,
    has_time: Callable[[], bool],
) -> Brought:
    brought = Brought()
    snapshot = gold.read(LINEAGE)  # before any object is looked at, or an older one could win
    step("tables.looked")
    looks = list(
        map_in_threads(lambda key: _look(key, silver, quarantine), takewhile(lambda _: has_time(), keys), workers)
    )
    brought.left = list(keys[len(looks) :])
    brought.failed = {look.key: look.error for look in looks if look.error is not None}
    named = _named([look for look in looks if look.error is None], gold, snapshot)
    there = dict(_rows(gold, snapshot, named))
    # a file that became silver leaves quarantine, and that event may be late or lost
    others = [subject for subject in there if subject not in named]
    named |= {subject: _look(subject.key, silver, quarantine).row for subject in others}
    changed = {subject: row for subject, row in named.items() if there.get(subject) != row}
    brought.unchanged = len(looks) - len(brought.failed) - len(changed)
    brought.version = snapshot.version if snapshot is not None else None
    if changed:
        step("tables.read")
        brought.version = _commit(gold, snapshot, changed, there).version
        step("tables.committed")
        brought.commits = 1
        brought.removed = sum(row is None for row in changed.values())
        brought.replaced = brought.rows = len(changed) - brought.removed
    return brought


def _named(looks: Sequence[_Look], gold: Format, snapshot: Snapshot | None) -> dict[Subject, Row | None]:
    """By what each row is about, the row as it should be. A key that was cut short is whole in the object, or else in
    the table."""
    named: dict[Subject, Row | None] = {}
    for look in looks:
        if look.subject is not None:
            named[look.subject] = look.row
            continue
        transform, state, file = look.key.partition("/")[0], state_of(look.key), bronze_key_of(look.key)
        subject: Subject | None = Subject(transform, state, file)
        if subject is not None and subject.key != look.key:
            beginning = file[: file.rindex("~")] if "~" in file else file
            where = f"{_is_of(transform)} and starts_with({FILE}, {text(beginning)})"
            subject = next((each for each, _ in _asked(gold, snapshot, where) if each.key == look.key), None)
        if subject is not None:
            named[subject] = None
    return named


# -- what an object says


def _look(key: str, silver: Store, quarantine: Store) -> _Look:
    transform, state = key.partition("/")[0], state_of(key)
    try:
        if state == SILVER:
            return _look_at_silver(key, transform, silver.head(key))
        return _look_at_document(key, transform, state, quarantine)
    except (SilversmithError, OSError) as error:
        return _Look(key, error=error)


def _look_at_silver(key: str, transform: str, head: Head | None) -> _Look:
    lineage = Lineage.from_metadata(head.metadata) if head is not None else None
    if head is None or lineage is None or silver_key(transform, lineage.bronze_key) != key:
        return _Look(key)
    values = {
        FILE: lineage.bronze_key,
        ETAG: head.etag,
        "transform": transform,
        "state": SILVER,
        **{name: getattr(lineage, name) for name in ("bronze_etag", "bronze_version", "bronze_size", "fingerprint")},
        **{name: getattr(lineage, name) for name in ("lookups", "owner", "rows_read", "rows_written", "rows_rejected")},
        "schema_version": lineage.schema,
        "committed_at": _moment(lineage.committed_at),
    }
    return _Look(key, Subject(transform, SILVER, lineage.bronze_key), tuple(map(values.get, _NAMES)))


def _look_at_document(key: str, transform: str, state: str, quarantine: Store) -> _Look:
    """A document that counts tries has a row once the file is given up on. Documents are hostile until proven."""
    snapshot = read_snapshot(quarantine, key)
    try:
        document = json.loads(snapshot.body) if snapshot.etag is not None else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return _Look(key)
    bronze, error = (each if isinstance(each := document.get(name), dict) else {} for name in ("bronze", "error"))
    file, size = _text(bronze.get("key")), bronze.get("size")
    subject = Subject(transform, state, file)
    if not file or subject.key != key or (state == GIVEN_UP and document.get("dead") is not True):
        return _Look(key)
    values = {
        FILE: file,
        ETAG: snapshot.etag,
        "transform": transform,
        "state": state,
        "bronze_etag": _text(bronze.get("etag")),
        "bronze_version": _text(bronze.get("version")),
        "bronze_size": size if isinstance(size, int) and 0 <= size < 2**63 else None,
        **{name: _text(document.get(name)) for name in ("fingerprint", "lookups", "owner")},
        "committed_at": _moment(_text(document.get("at"))),
        "error": _text(error.get("code")),
    }
    return _Look(key, subject, tuple(map(values.get, _NAMES)))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _moment(written: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


# -- the table


def _is_of(transform: str, state: str = "") -> str:
    return f"transform = {text(transform)}" + (f" and state = {text(state)}" if state else "")


def _rows(gold: Format, snapshot: Snapshot | None, subjects: Iterable[Subject]) -> Iterator[tuple[Subject, Row | None]]:
    """The rows that the table has of these files, in any state."""
    files: dict[str, set[str]] = {}
    for subject in subjects:
        files.setdefault(subject.transform, set()).add(subject.file)
    for transform, names in files.items():
        ordered = sorted(names)
        for start in range(0, len(ordered), _ASKED):
            some = ordered[start : start + _ASKED]
            between = f"{FILE} between {text(some[0])} and {text(some[-1])}"
            yield from _asked(gold, snapshot, f"{_is_of(transform)} and {between} and {is_one_of(FILE, some)}")


def _asked(gold: Format, snapshot: Snapshot | None, where: str) -> Iterator[tuple[Subject, Row | None]]:
    """Rows by what they are about. Two rows about one thing are none: they are replaced."""
    if snapshot is None:
        return
    columns = ", ".join(map(quoted, _NAMES))
    rows: dict[Subject, Row | None] = {}
    for batch in gold.query({"t": snapshot}, f"select {columns} from t where {where}").batches:  # noqa: S608 -- quoted
        for row in zip(*(batch.column(name).to_pylist() for name in _NAMES), strict=True):
            values = dict(zip(_NAMES, row, strict=True))
            subject = Subject(values["transform"], values["state"], values[FILE])
            rows[subject] = () if subject in rows else row
    yield from rows.items()


def _commit(
    gold: Format, snapshot: Snapshot | None, changed: Mapping[Subject, Row | None], there: Mapping[Subject, Row | None]
) -> Snapshot:
    if snapshot is None:
        snapshot = gold.create(LINEAGE, COLUMNS, partition_by=PARTITIONS)
    files: dict[tuple[str, str], list[str]] = {}
    for subject in sorted(changed):
        files.setdefault((subject.transform, subject.state), []).append(subject.file)
    is_new = not any(subject in there for subject in changed)
    places = (f"({_is_of(*place)} and {is_one_of(FILE, names)})" for place, names in files.items())
    rows = [row for _, row in sorted(changed.items(), key=lambda item: item[0]) if row is not None]
    return snapshot.commit([_batch(rows)] if rows else [], where=None if is_new else " or ".join(places))


def _batch(rows: Sequence[Row]) -> RecordBatch:
    arrays = []
    for number, kind in enumerate(COLUMNS.values()):
        values = [row[number] for row in rows]
        if kind == "timestamp":
            micros = [None if value is None else round(value.timestamp() * 1_000_000) for value in values]
            arrays.append(Array(micros, DataType.int64()).cast(to_arrow(kind)))
        else:
            arrays.append(Array(values, to_arrow(kind)))
    return RecordBatch.from_arrays(arrays, schema=to_schema(COLUMNS))


def rows_of(file: str, transform: str, gold: Format) -> list[dict[str, Any]]:
    """The rows of a bronze key for one transform, a value by each column: one for each state that it is in.

    Raises:
        GoldFailed: gold cannot be read.
    """
    rows = _rows(gold, gold.read(LINEAGE), [Subject(transform, SILVER, file)])
    return [dict(zip(_NAMES, row, strict=True)) for _, row in sorted(rows) if row]


# -- the comparison


def differing(
    transform: str, *, silver: Store, quarantine: Store, gold: Format, before: datetime | None = None
) -> list[str]:
    """The keys in silver and in quarantine of which the lineage has no row, one of another object, or too many.

    One listing of each, and the ETags of the table: for a lake on one machine. On S3 the reconciler compares in ranges.
    ``before``: objects that are younger are left out.
    """
    snapshot = gold.read(LINEAGE)
    etags = {subject.key: row[1] if row else "" for subject, row in _asked(gold, snapshot, _is_of(transform))}
    lacking: list[str] = []
    others: list[str] = []
    for store, states in ((silver, {SILVER}), (quarantine, {QUARANTINED, GIVEN_UP})):
        for head in store.list(f"{transform}/"):
            if state_of(head.key) not in states:
                continue
            etag = etags.pop(head.key, None)
            if etag != head.etag and (before is None or head.modified < before):
                (lacking if etag is None else others).append(head.key)
    looks = (_look(key, silver, quarantine) for key in lacking)
    return sorted([*(look.key for look in looks if look.row is not None or look.error is not None), *others, *etags])
