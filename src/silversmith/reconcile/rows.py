"""The rows of the lineage in the order of their keys, by Polars: a reconciler's bundle has no deltalake.

The log of the table says which Parquet files its newest version has. Only this program writes it, without deletion
vectors and without column mapping: another table is refused.
https://github.com/delta-io/delta/blob/master/PROTOCOL.md#delta-table-specification
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

import polars as pl

from silversmith.errors import SystemFault
from silversmith.stores import Store
from silversmith.tables.spec import ETAG, FILE, LINEAGE

_LOG = f"{LINEAGE}/_delta_log/"
_COMMIT = re.compile(r"(\d{20})\.json\Z")

#: The columns that a comparison reads.
COLUMNS = (FILE, ETAG, "bronze_etag", "fingerprint", "lookups", "schema_version", "owner")

#: So many quantiles of the keys in a data file are looked for.
QUANTILES = 512


class LineageUnreadable(SystemFault):
    """The log of the lineage cannot be read: reconciliation asks every silver object instead."""


@dataclass(frozen=True)
class DataFile:
    """A data file of the table's newest version. ``low`` and ``high`` bound the keys in it, as texts; None: unknown."""

    path: str
    transform: str
    state: str
    rows: int
    low: str | None = None
    high: str | None = None

    def reaches(self, after: str, until: str, *, equal: bool = False) -> bool:
        """Whether it may have keys after the one (or with ``equal``: from it on) and up to the other. An empty
        ``until``: to the end."""
        is_above = self.high is None or self.high > after or (equal and self.high == after)
        return is_above and (not until or self.low is None or self.low <= until)


class LineageSource(Protocol):
    """The lineage as a comparison reads it. Tests and simulations have others."""

    def between(self, transform: str, after: str, until: str, most: int) -> pl.DataFrame:
        """The rows of a transform with keys after the one and up to the other, the first ``most`` in the order of their
        keys: :data:`COLUMNS` and ``state``. An empty ``until``: to the end."""

    def split(self, transform: str, parts: int) -> list[str]:
        """Keys at which the rows of a transform come apart in up to so many parts of about one size."""

    def sizes(self, state: str = "silver") -> dict[str, int]:
        """How many rows of a state there are by transform."""


class LineageRows:
    """The newest version of the table, as it is when this is made.

    Args:
        gold: the bucket.
        root: where Polars finds the bucket: a folder, or ``s3://bucket``.
        options: what Polars is told of S3; by default the environment says it.

    Raises:
        LineageUnreadable: there is a table, and its log cannot be read.
    """

    def __init__(self, gold: Store, root: str, options: Mapping[str, str] | None = None) -> None:
        self._root = root.rstrip("/")
        self._options = dict(options) if options else None
        self.version, self.files = _newest(gold)

    def between(self, transform: str, after: str, until: str, most: int) -> pl.DataFrame:
        by_state: dict[str, list[DataFile]] = {}
        for file in self.files:
            if file.transform == transform and file.reaches(after, until):
                by_state.setdefault(file.state, []).append(file)
        key = pl.col(FILE)
        is_inside = key > after if not until else (key > after) & (key <= until)
        parts = [
            self._scan(files).filter(is_inside).select(*COLUMNS, pl.lit(state).alias("state"))
            for state, files in by_state.items()
        ]
        if not parts:
            return pl.DataFrame(schema=dict.fromkeys((*COLUMNS, "state"), pl.String) | {"schema_version": pl.Int64})
        return pl.concat(parts).sort(FILE).head(most).collect(engine="streaming")

    def split(self, transform: str, parts: int) -> list[str]:
        """Mostly files hold the keys of one time each, and their beginnings say enough. Where the largest overlaps most
        others, its own keys are a sample of all."""
        files = [file for file in self.files if file.transform == transform and file.low is not None]
        if not files or parts < 2:
            return []
        largest = max(files, key=lambda file: file.rows)
        overlapping = sum(
            file.rows for file in files if largest.low is not None and file.reaches(largest.low, largest.high or "")
        )
        if 2 * overlapping > sum(file.rows for file in files):
            names = self._scan([largest]).select(pl.col(FILE).sort().gather_every(max(1, largest.rows // QUANTILES)))
            weighted = [(name, 1) for name in names.collect()[FILE].to_list()]
        else:
            weighted = sorted((str(file.low), file.rows) for file in files)
        return list(dict.fromkeys(_quantiles(weighted, parts)))

    def scan(self, *states: str, transform: str | None = None, first: str = "", last: str = "") -> pl.LazyFrame | None:
        """The rows in these states, of one transform or of all, with every column, and at least those with keys from
        ``first`` to ``last`` (empty: all); None: there are none."""
        places: dict[tuple[str, str], list[DataFile]] = {}
        for file in self.files:
            if file.state in states and transform in {None, file.transform} and file.reaches(first, last, equal=True):
                places.setdefault((file.transform, file.state), []).append(file)
        parts = [
            self._scan(files).with_columns(pl.lit(name).alias("transform"), pl.lit(state).alias("state"))
            for (name, state), files in places.items()
        ]
        return pl.concat(parts, how="diagonal") if parts else None

    def sizes(self, state: str = "silver") -> dict[str, int]:
        """How many rows of a state there are by transform: the log says it."""
        sizes: Counter[str] = Counter()
        for file in self.files:
            sizes[file.transform] += file.rows if file.state == state else 0
        return dict(sizes)

    def _scan(self, files: Iterable[DataFile]) -> pl.LazyFrame:
        places = [f"{self._root}/{LINEAGE}/{file.path}" for file in files]
        return pl.scan_parquet(
            places, storage_options=self._options, hive_partitioning=False, glob=False, missing_columns="insert"
        )


def existing(rows: LineageRows) -> LineageRows | None:
    """The same, or None where there is no table yet: then nothing is known, and every object is asked."""
    return rows if rows.version is not None else None


def _quantiles(weighted: Sequence[tuple[str, int]], parts: int) -> Iterator[str]:
    total, gone, number = sum(weight for _, weight in weighted), 0, 1
    for key, weight in weighted:
        if gone * parts >= total * number:
            yield key
            number = gone * parts // total + 1
        gone += weight


# -- the log


def _newest(gold: Store) -> tuple[int | None, list[DataFile]]:
    """The newest version and its files; None where there is no table."""
    try:
        checkpoint, files = _checkpoint(gold)
        version = checkpoint
        start = f"{_LOG}{checkpoint:020}.json" if checkpoint is not None else _LOG
        for head in gold.list(_LOG, start_after=start):
            commit = _COMMIT.search(head.key)
            if commit is None:
                continue
            if int(commit[1]) != (0 if version is None else version + 1):
                raise ValueError(f"version {commit[1]} follows on {version}")
            version = int(commit[1])
            for line in (gold.read(head.key) or b"").splitlines():
                _apply(json.loads(line), files)
    except (ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError) as error:
        raise LineageUnreadable(f"the log of the table {LINEAGE} cannot be read: {error}") from error
    return version, sorted(files.values(), key=lambda file: file.low or "")


def _checkpoint(gold: Store) -> tuple[int | None, dict[str, DataFile]]:
    """The files that the last checkpoint names; without one, none."""
    body = gold.read(f"{_LOG}_last_checkpoint")
    if body is None:
        return None, {}
    last = json.loads(body)
    version, parts = int(last["version"]), last.get("parts")
    names = [f"{version:020}.checkpoint.parquet"]
    if parts:
        names = [f"{version:020}.checkpoint.{part:010}.{parts:010}.parquet" for part in range(1, parts + 1)]
    files: dict[str, DataFile] = {}
    for name in names:
        content = gold.read(_LOG + name)
        if content is None:
            raise ValueError(f"{name} is not there")
        frame = pl.read_parquet(io.BytesIO(content), columns=["add"]).filter(pl.col("add").is_not_null())
        for add in frame["add"].to_list():
            values = add["partitionValues"]
            pairs = values if isinstance(values, Mapping) else {each["key"]: each["value"] for each in values}
            _apply({"add": {**add, "partitionValues": pairs}}, files)
    return version, files


def _apply(action: Mapping[str, Any], files: dict[str, DataFile]) -> None:
    if not isinstance(action, dict):
        raise ValueError(f"{action!r} is no action")
    if "remove" in action:
        files.pop(action["remove"]["path"], None)
    if "add" in action:
        add = action["add"]
        if add.get("deletionVector"):
            raise ValueError("it has a deletion vector: another program wrote it")
        stats = json.loads(add.get("stats") or "{}")
        values = add["partitionValues"]
        low, high = (stats.get(name, {}).get(FILE) for name in ("minValues", "maxValues"))
        files[add["path"]] = DataFile(
            unquote(add["path"]), values["transform"], values["state"], int(stats.get("numRecords", 0)), low, high
        )
