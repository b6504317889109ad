"""Failures and their reasons: files in quarantine, rejected rows, and messages in dead-letter queues."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import polars as pl

from silversmith.contract import REASONS, ROW_NUMBER
from silversmith.function import retries
from silversmith.keypatterns import KeyPattern
from silversmith.lineage import Lineage, error_key, failed_key, rejected_key, silver_key
from silversmith.operations.target import DeadKind, DeadMessage, Target
from silversmith.operations.text import age, iso, moment
from silversmith.pipeline import Pipeline
from silversmith.reconcile.rows import LineageRows, LineageUnreadable
from silversmith.stores import Head, Source, Store, batched, map_in_threads
from silversmith.tables.spec import ETAG, FILE

#: The endings of the keys in quarantine.
ERROR = ".error.json"
REJECTED = ".rejected.parquet"
FAILED = ".failed.json"

#: The end of a key that lineage.py had to cut short.
_CUT = re.compile(r"~[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class ErrorDocument:
    """Why a file cannot become silver.

    ``code`` is a stable word, ``message`` what was wrong, ``hint`` what to do, ``help`` the command that explains the
    code, ``place`` where (line, row, column, text).
    ``at`` is in ISO 8601, ``size`` in bytes, ``document`` the document's key in quarantine.
    """

    transform: str
    key: str
    code: str
    message: str
    hint: str
    at: str
    etag: str
    version: str
    size: int
    attempt: int
    document: str
    place: Mapping[str, Any] = field(default_factory=dict)
    help: str = ""


def parse(key: str, body: bytes) -> ErrorDocument:
    """Parse the document at a quarantine key. An unreadable one is a failure all the same, and says so."""
    transform, _, rest = key.removesuffix(ERROR).partition("/")
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("error"), dict):
        return ErrorDocument(
            transform, rest,
            code="UnreadableDocument", message="the error document itself cannot be read",
            hint="Look at it, and delete it if it is nobody's.",
            at="", etag="", version="", size=0, attempt=0, document=key,
        )  # fmt: skip
    error, bronze = document["error"], document.get("bronze")
    bronze = bronze if isinstance(bronze, dict) else {}
    place = error.get("place")
    return ErrorDocument(
        transform=_text(document, "transform") or transform,
        key=_text(bronze, "key") or rest,
        code=_text(error, "code"),
        message=_text(error, "message"),
        hint=_text(error, "hint"),
        at=_text(document, "at"),
        etag=_text(bronze, "etag"),
        version=_text(bronze, "version"),
        size=_integer(bronze, "size"),
        attempt=_integer(document, "attempt"),
        document=key,
        place=place if isinstance(place, dict) else {},
        help=_text(error, "help"),
    )


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _integer(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def read_error(quarantine: Store, key: str) -> ErrorDocument | None:
    """The error document at a quarantine key; None where there is none."""
    body = quarantine.read(key)
    return None if body is None else parse(key, body)


def bronze_key(quarantine_key: str) -> str | None:
    """The bronze key of an object in quarantine; None where its name was cut short, so that it does not tell."""
    for ending, derive in ((ERROR, error_key), (REJECTED, rejected_key), (FAILED, failed_key)):
        transform, slash, rest = quarantine_key.partition("/")
        if slash and rest.endswith(ending):
            key = rest.removesuffix(ending)
            return None if _CUT.search(key) or derive(transform, key) != quarantine_key else key
    return None


class QuarantineKeys:
    """The keys in quarantine with these endings, of a transform and of bronze keys that match (None: all). Streams, and
    opens an object only where its key was cut short.

    ``most`` objects are looked at (None: all); then ``more`` says whether there are others. ``start_after``: a key in
    quarantine.
    """

    def __init__(
        self,
        quarantine: Store,
        transform: str | None,
        pattern: KeyPattern | None,
        *endings: str,
        most: int | None = None,
        start_after: str = "",
    ) -> None:
        self._quarantine = quarantine
        self._transform = transform
        self._pattern = pattern
        self._endings = endings
        self._most = most
        self._start_after = start_after
        self.more = False

    def __iter__(self) -> Iterator[str]:
        return (head.key for head in self.heads())

    def heads(self) -> Iterator[Head]:
        """Their heads."""
        prefix = f"{self._transform}/" if self._transform else ""
        for number, head in enumerate(self._quarantine.list(prefix, start_after=self._start_after)):
            if number == self._most:
                self.more = True
                return
            if head.key.endswith(self._endings) and self._matches(head.key):
                yield head

    def _matches(self, key: str) -> bool:
        return self._pattern is None or self._pattern.matches(subject_of(self._quarantine, key))


def subject_of(quarantine: Store, key: str) -> str:
    """The bronze key of an object in quarantine; empty where it is unknown."""
    subject = bronze_key(key)
    if subject is not None:
        return subject
    if key.endswith(FAILED):
        tries = retries.parse(quarantine.read(key) or b"")
        return str(tries["bronze"]["key"]) if tries is not None else ""
    document = read_error(quarantine, key) if key.endswith(ERROR) else read_rejected(quarantine, key)
    return document.key if document else ""


def failed_tries(quarantine: Store, transform: str, key: str) -> dict[str, Any] | None:
    """The document that counts the failed tries of the transform's code on a file; None where there is none."""
    body = quarantine.read(failed_key(transform, key))
    return retries.parse(body) if body is not None else None


def with_error(quarantine: Store, message: DeadMessage) -> DeadMessage:
    """The message, with its last error from quarantine unless the target knew it."""
    if message.error is not None or not _is_of_transform(message):
        return message
    assert message.transform is not None
    document = failed_tries(quarantine, message.transform, message.key)
    if document is None or (message.version and document["bronze"]["version"] not in {"", message.version}):
        return message  # the document is about another version
    return replace(
        message,
        error=document["error"],
        attempts=document["tries"],
        log_group=document["log"]["group"],
        log_stream=document["log"]["stream"],
        request_id=document["log"]["request"],
    )


def _is_of_transform(message: DeadMessage) -> bool:
    """Whether a transform's function has tried it, which counts its tries."""
    is_tried = message.kind is DeadKind.QUEUE and not message.tables
    return is_tried and message.transform is not None and bool(message.key)


def forget_tries(quarantine: Store, message: DeadMessage) -> None:
    """Delete the count of a message's failed tries, because it is sent again as new."""
    if not _is_of_transform(message):
        return
    assert message.transform is not None
    quarantine.delete(failed_key(message.transform, message.key))


#: So many rejected rows of a file are shown.
FIRST = 5


@dataclass(frozen=True)
class RejectedRow:
    """A rejected row: its number in the file, from 1 (None where it is unknown), and what is wrong with it."""

    row: int | None
    reasons: Sequence[str]


@dataclass(frozen=True)
class RejectedFile:
    """The rejected rows of one bronze object. ``at`` in ISO 8601, ``document`` their Parquet file's key in quarantine.

    ``rows`` counts them, ``rows_read`` all rows of the file.
    """

    transform: str
    key: str
    rows: int
    rows_read: int
    at: str
    document: str
    first: Sequence[RejectedRow]


def read_rejected(quarantine: Store, key: str, *, most: int = FIRST) -> RejectedFile | None:
    """The rejected rows at a quarantine key; None where there are none. Reads the first ``most`` rows only."""
    with quarantine.open(key) as source:
        if source is None:
            return None
        first, rows = _first_rows(source, most)
        lineage = Lineage.from_metadata(source.head.metadata)
    transform, _, bronze = key.removesuffix(REJECTED).partition("/")
    if lineage is None:
        return RejectedFile(transform, bronze, rows, rows, "", key, first)
    return RejectedFile(
        transform,  # the lineage names who made it, maybe under a former name
        lineage.bronze_key,
        lineage.rows_rejected,
        lineage.rows_read,
        lineage.committed_at,
        key,
        first,
    )


def _first_rows(source: Source, most: int) -> tuple[list[RejectedRow], int]:
    """The first rows, and how many there are. A file that cannot be read shows none."""
    file = io.BytesIO(source.data) if source.data is not None else source.path
    assert file is not None
    try:
        rows = pl.scan_parquet(file)
        count = int(rows.select(pl.len()).collect().item())
        first = rows.select(ROW_NUMBER, REASONS).head(most).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return [], 0
    rejected = [
        RejectedRow(
            number if isinstance(number, int) else None,
            [str(reason) for reason in reasons] if isinstance(reasons, list) else [],
        )
        for number, reasons in first.iter_rows()
    ]
    return rejected, count


@dataclass(frozen=True)
class Query:
    """The failures to list: of one transform, of the keys that match, at most so many of each kind."""

    transform: str | None = None
    pattern: KeyPattern | None = None
    most: int = 100


#: So many objects in quarantine are looked at where no lineage counts them: 100 requests to S3.
MOST_LISTED = 100_000

#: So many files that the code was given up on, of a transform, are compared with the dead messages.
MOST_COMPARED = 10_000


@dataclass(frozen=True)
class FailureCount:
    """So many files of a transform failed with one code on one day (in UTC; empty: it is unknown).

    ``state`` is ``quarantined``, or ``given_up``: the transform's code has failed on it as often as it may, whether or
    not a dead message of it is left.
    """

    transform: str
    state: str
    code: str
    day: str
    files: int


@dataclass(frozen=True)
class Failures:
    """The first failures of each kind, and how many there are in all. ``now`` is in Unix seconds.

    With a lineage ``counts`` has all files that failed, the newest day and the most files first, and of each cause the
    newest files are shown. Without one it is empty, and ``more`` says that quarantine was not looked through whole.
    """

    quarantined: Sequence[ErrorDocument]
    quarantined_total: int
    dead: Sequence[DeadMessage]
    dead_total: int
    now: float
    counts: Sequence[FailureCount] = ()
    more: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; each failure with its age in seconds."""
        return {
            "quarantined": [
                {**asdict(document), "age_seconds": age(moment(document.at), self.now)} for document in self.quarantined
            ],
            "quarantined_total": self.quarantined_total,
            "dead": [
                {
                    **asdict(message),
                    "sent": iso(message.sent),
                    "dead_at": iso(message.dead_at),
                    "age_seconds": age(message.failed_at, self.now),
                }
                for message in self.dead
            ],
            "dead_total": self.dead_total,
            "counts": [asdict(each) for each in self.counts],
            "more": self.more,
        }


@dataclass(frozen=True)
class RejectedFiles:
    """The first files with rejected rows, and how many there are in all; ``more`` as in :class:`Failures`."""

    files: Sequence[RejectedFile]
    total: int
    more: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "rejected": [asdict(file) for file in self.files],
            "rejected_total": self.total,
            "more": self.more,
        }


def failures(
    pipeline: Pipeline, target: Target, query: Query, *, now: float, most_listed: int = MOST_LISTED
) -> Failures:
    """Everything that failed and was not repaired since, by the lineage, the buckets and queues as they are.

    A lineage is read where there is one: it may be a minute behind quarantine. Else at most ``most_listed`` objects in
    quarantine are looked at.

    Raises:
        DefinitionError: the pipeline has no transform of this name.
    """
    transform = pipeline.find(query.transform) if query.transform is not None else None
    quarantine, pattern = target.lake.quarantine, query.pattern
    counted = _by_lineage(pipeline, target, query)
    counts: Sequence[FailureCount] = ()
    more = False
    if counted is not None:
        quarantined, quarantined_total, counts = counted
    else:
        keys = QuarantineKeys(quarantine, query.transform, pattern, ERROR, FAILED, most=most_listed)
        quarantined, quarantined_total = _take(
            _quarantined(pipeline, target, keys),
            query.most,
            lambda item: read_error(quarantine, item) if isinstance(item, str) else item,
        )
        more = keys.more
    messages = (
        message
        for message in target.dead()
        if (pattern is None or pattern.matches(message.key)) and message.concerns(transform)
    )
    dead, dead_total = _take(messages, query.most, lambda message: with_error(quarantine, message))
    return Failures(quarantined, quarantined_total, dead, dead_total, now, counts, more)


def rejected(pipeline: Pipeline, target: Target, query: Query, *, most_listed: int = MOST_LISTED) -> RejectedFiles:
    """The files of which some rows broke the contract. Their other rows are in silver.

    Raises:
        DefinitionError: the pipeline has no transform of this name.
    """
    if query.transform is not None:
        pipeline.find(query.transform)
    quarantine = target.lake.quarantine
    keys = QuarantineKeys(quarantine, query.transform, query.pattern, REJECTED, most=most_listed)
    files, total = _take(iter(keys), query.most, lambda key: read_rejected(quarantine, key))
    return RejectedFiles(files, total, keys.more)


_Item = TypeVar("_Item")
_Shown = TypeVar("_Shown")


def _take(items: Iterator[_Item], most: int, read: Callable[[_Item], _Shown | None]) -> tuple[list[_Shown], int]:
    """Read the first ``most`` items, and count all. An item that is gone meanwhile does not count."""
    taken: list[_Shown] = []
    total = 0
    for item in items:
        if len(taken) < most:
            value = read(item)
            if value is None:
                continue
            taken.append(value)
        total += 1
    return taken, total


def _quarantined(pipeline: Pipeline, target: Target, keys: Iterable[str]) -> Iterator[str | ErrorDocument]:
    """The keys of error documents; and documents of files whose tries are spent and whose dead message is gone, because
    queues do not keep messages for ever."""
    for key in keys:
        if key.endswith(ERROR):
            yield key
        elif document := _without_message(pipeline, target, key):
            yield document


def _without_message(pipeline: Pipeline, target: Target, document: str) -> ErrorDocument | None:
    tries = retries.parse(target.lake.quarantine.read(document) or b"")
    if tries is None or not tries["dead"] or tries["transform"] not in {each.name for each in pipeline.transforms}:
        return None
    transform, key, etag = tries["transform"], tries["bronze"]["key"], tries["bronze"]["etag"]
    bronze = target.lake.bronze.head(key)
    silver = target.lake.silver.head(silver_key(transform, key))
    lineage = Lineage.from_metadata(silver.metadata) if silver is not None else None
    is_over = bronze is None or bronze.etag != etag or (lineage is not None and lineage.bronze_etag == etag)
    if is_over or target.waiting(transform, {key: etag}):
        return None
    return ErrorDocument(
        transform, key,
        code=tries["error"]["code"], message=tries["error"]["message"],
        hint="No message of it is left: correct the cause, then `silversmith reconcile --dead`.",
        at=tries["at"], etag=etag, version=tries["bronze"]["version"], size=tries["bronze"]["size"],
        attempt=tries["tries"], document=document,
    )  # fmt: skip


# -- by the lineage


def _by_lineage(
    pipeline: Pipeline, target: Target, query: Query
) -> tuple[list[ErrorDocument], int, list[FailureCount]] | None:
    """The first failures, how many there are, and their counts; None: no lineage tells of them."""
    try:
        rows = target.rows()
        failed = None if rows is None else failed_rows(rows, query.transform, query.pattern)
        if failed is None:
            return None if rows is None else ([], 0, [])
        counts = _counts(failed)
        quarantined = sum(each.files for each in counts if each.state == "quarantined")
        documents, gone = _examples(failed.filter(pl.col("state") == "quarantined"), target, query.most)
        given_up, given_up_total = _given_up(failed, pipeline, target, query.most)
    except (LineageUnreadable, FileNotFoundError, pl.exceptions.ComputeError):
        return None
    return [*documents, *given_up][: query.most], quarantined - gone + given_up_total, counts


def failed_rows(rows: LineageRows, transform: str | None, pattern: KeyPattern | None) -> pl.LazyFrame | None:
    """The rows of the lineage about files that failed, of a transform and of bronze keys that match (None: all)."""
    failed = rows.scan("quarantined", "given_up", transform=transform)
    return failed if failed is None or pattern is None else failed.filter(matches(pattern))


def matches(pattern: KeyPattern) -> pl.Expr:
    """Whether the bronze key of a row of the lineage matches."""
    test = pattern.matches
    return pl.col(FILE).map_batches(
        lambda keys: pl.Series([test(key) for key in keys], dtype=pl.Boolean), return_dtype=pl.Boolean
    )


def _counts(failed: pl.LazyFrame) -> list[FailureCount]:
    day = pl.col("committed_at").dt.strftime("%Y-%m-%d").fill_null("").alias("day")
    code = pl.col("error").fill_null("").alias("code")
    counts = failed.group_by("transform", "state", code, day).agg(pl.len().alias("files"))
    ordered = counts.sort("day", "files", "transform", "code", "state", descending=[True, True, False, False, False])
    return [FailureCount(**row) for row in ordered.collect(engine="streaming").iter_rows(named=True)]


def _examples(quarantined: pl.LazyFrame, target: Target, most: int) -> tuple[list[ErrorDocument], int]:
    """Documents of the newest files of each cause, those of the most frequent first; and how many were gone."""
    cause = ("transform", "error")
    age = pl.col("committed_at").rank("ordinal", descending=True).over(cause).alias("age")
    ranked = quarantined.select(*cause, FILE, pl.len().over(cause).alias("frequency"), age)
    # the newest file of every cause, then the second of every one
    chosen = (
        ranked.sort("age", *cause).head(most).sort("frequency", *cause, "age", descending=[True, False, False, False])
    )
    keys = [error_key(name, key) for name, key in chosen.select("transform", FILE).collect().iter_rows()]
    quarantine = target.lake.quarantine
    documents = list(map_in_threads(lambda key: read_error(quarantine, key), keys, target.workers))
    return [document for document in documents if document is not None], documents.count(None)


def _given_up(failed: pl.LazyFrame, pipeline: Pipeline, target: Target, most: int) -> tuple[list[ErrorDocument], int]:
    """The first files without a dead message among those that the code was given up on, and how many there are.

    Of the newest :data:`MOST_COMPARED` of a transform those with a dead message are left out, because they are reported
    as such.
    """
    documents: list[ErrorDocument] = []
    total = 0
    for transform in pipeline.transforms:
        rows = failed.filter((pl.col("state") == "given_up") & (pl.col("transform") == transform.name))
        every = int(rows.select(pl.len()).collect(engine="streaming").item())
        newest = rows.select(FILE, "bronze_etag", "committed_at").top_k(MOST_COMPARED, by="committed_at").collect()
        total += every - newest.height
        for some in batched(newest.select(FILE, "bronze_etag").iter_rows(), 500):
            waiting = target.waiting(transform.name, dict(some))
            for key, _ in some:
                if key in waiting:
                    continue
                if len(documents) >= most:
                    total += 1
                elif document := _without_message(pipeline, target, failed_key(transform.name, key)):
                    documents.append(document)
                    total += 1
    return documents, total


def rows_or_none(target: Target) -> LineageRows | None:
    """The lineage; None also if it cannot be read."""
    try:
        return target.rows()
    except LineageUnreadable:
        return None


def recorded_documents(rows: LineageRows, heads: Sequence[Head]) -> dict[str, ErrorDocument]:
    """By their keys, those error documents of which the lineage has a row, and which have not changed since: without
    message and hint."""
    listed: dict[str, dict[str, Head]] = {}
    for each in heads:
        if file := bronze_key(each.key):
            listed.setdefault(each.key.partition("/")[0], {})[file] = each
    documents: dict[str, ErrorDocument] = {}
    for transform, files in listed.items():
        first, last = min(files), max(files)
        scan = rows.scan("quarantined", transform=transform, first=first, last=last)
        if scan is None:
            continue
        names = (FILE, ETAG, "error", "committed_at", "bronze_etag", "bronze_version", "bronze_size")
        try:
            recorded = (
                scan.filter(pl.col(FILE).is_between(pl.lit(first), pl.lit(last)))
                .select(names)
                .collect(engine="streaming")
            )
        except (FileNotFoundError, pl.exceptions.ComputeError):
            continue
        for file, etag, code, at, bronze_etag, version, size in recorded.iter_rows():
            head = files.get(file)
            if head is not None and head.etag == etag:
                documents[head.key] = ErrorDocument(
                    transform, file, code=code or "", message="", hint="", at="" if at is None else at.isoformat(),
                    etag=bronze_etag or "", version=version or "", size=size or 0, attempt=0, document=head.key,
                )  # fmt: skip
    return documents
