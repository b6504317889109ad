"""S3 Inventory instead of a listing of bronze: the newest complete list that S3 delivered, in the order of the keys.

S3 writes the keys and ETags of a bucket once a day, in files of no order that is promised. They are read once, each
against its MD5, and what lies in the ranges of keys to be compared is sorted by the disk: in runs, which are merged
where they are read. The list is a day old or two, and knows little of the hours before it: an object of which it says
something new is asked for itself, and what is younger is left to its event.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html
docs/decisions/0172-inventory-instead-of-a-listing.md
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote_plus

import polars as pl

from silversmith.errors import SilversmithError
from silversmith.reconcile.difference import KeyRange
from silversmith.reconcile.rows import LineageSource
from silversmith.stores import Source, Store
from silversmith.stores.listing import ListedObject, stamp

#: An older inventory is not used: a daily one is delivered within 48 hours.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/configure-inventory.html
MOST_AGE = timedelta(hours=72)

#: An inventory may lack what landed so long before it was begun.
MARGIN = timedelta(hours=1)

#: An inventory with fewer objects than this share of the lineage's rows does not list the whole bucket.
LEAST_SHARE = 0.9

#: Bytes of text, and rows, that are read at once; rows of a sorted run; rows between two keys of its index.
BLOCK, RUN, STEP = 8_000_000, 200_000, 1_000

#: So many steps of the index are read at once.
STEPS = 10

#: The columns of an inventory by what AWS calls them in a CSV schema, and in a Parquet one.
_NAMES = {"Key": "key", "ETag": "e_tag", "IsLatest": "is_latest", "IsDeleteMarker": "is_delete_marker"}

_FOLDER = re.compile(r"/(\d{4}-\d\d-\d\dT\d\d-\d\dZ)/manifest\.checksum\Z")


#: What a file raises that is torn, or no inventory.
_BROKEN = (
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
    *(OSError, EOFError, zlib.error, UnicodeDecodeError),
)


class InventoryUnusable(SilversmithError):
    """There is no inventory, or it is old, not complete, or not of this bucket: bronze is listed instead."""


@dataclass(frozen=True)
class InventoryFile:
    """A file of an inventory. ``md5`` in hexadecimal."""

    key: str
    md5: str


@dataclass(frozen=True)
class Inventory:
    """A complete inventory.

    Attributes:
        manifest: the key of its manifest.
        taken: when S3 began to look at the bucket.
        columns: of a CSV inventory, in order; empty: it is Parquet.
        files: of keys in no order.
    """

    manifest: str
    taken: datetime
    columns: Sequence[str]
    files: Sequence[InventoryFile]


class Inventories:
    """The inventories of one bucket.

    Args:
        store: the bucket that they are delivered to.
        folder: the folder there: ``{prefix}/{source bucket}/{id of the configuration}``.
        bucket: the name of the bucket that is listed.
    """

    def __init__(self, store: Store, folder: str, bucket: str) -> None:
        self._store = store
        self._folder = folder.strip("/")
        self._bucket = bucket

    def newest(self, now: datetime) -> Inventory:
        """The newest complete one.

        Raises:
            InventoryUnusable: there is none that is young enough.
        """
        oldest = f"{self._folder}/{now - MOST_AGE:%Y-%m-%dT%H-%MZ}"
        listed = (head.key for head in self._store.list(f"{self._folder}/2", start_after=oldest))
        problem = f"none younger than {MOST_AGE // timedelta(hours=1)} hours is in {self._folder}"
        for key in sorted((key for key in listed if _FOLDER.search(key)), reverse=True):
            try:
                return self.read(key.replace(".checksum", ".json"))
            except InventoryUnusable as error:
                problem = str(error)
        raise InventoryUnusable(problem)

    def read(self, manifest: str) -> Inventory:
        """The inventory of a manifest.

        Raises:
            InventoryUnusable: it is not there, not complete, or has not what is needed.
        """
        body = self._store.read(manifest)
        checksum = self._store.read(manifest.replace(".json", ".checksum"))
        if body is None or checksum is None:
            raise InventoryUnusable(f"{manifest} is not complete")
        if _md5(body) != checksum.strip().decode(errors="replace").lower():
            raise InventoryUnusable(f"{manifest} is not the one of its checksum")
        try:
            return self._parsed(manifest, json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise InventoryUnusable(f"{manifest} cannot be read: {error!r}") from error

    def _parsed(self, manifest: str, values: dict[str, Any]) -> Inventory:
        if values["sourceBucket"] != self._bucket:
            raise InventoryUnusable(f"{manifest} is about the bucket {values['sourceBucket']!r}")
        form, schema = values["fileFormat"], values["fileSchema"]
        if form not in {"CSV", "Parquet"}:
            raise InventoryUnusable(f"{manifest}: the format {form!r} cannot be read; take Parquet or CSV")
        columns = [name.strip() for name in schema.split(",")] if form == "CSV" else []
        if not {"Key", "ETag"} <= set(columns) and not ("e_tag" in schema and not columns):
            raise InventoryUnusable(f"{manifest} has no ETags: have them listed, too")
        taken = datetime.fromtimestamp(int(values["creationTimestamp"]) / 1000, UTC)
        files = [InventoryFile(str(each["key"]), str(each["MD5checksum"])) for each in values["files"]]
        return Inventory(manifest, taken, columns, files)

    def listing(
        self,
        inventory: Inventory,
        ranges: Sequence[KeyRange],
        folder: Path,
        *,
        least: int = 0,
        is_late: Callable[[], bool] = lambda: False,
    ) -> InventoryListing:
        """Read and sort what an inventory has in some ranges of keys.

        Args:
            inventory: the inventory.
            ranges: they may overlap.
            folder: for the sorted runs, an empty one.
            least: the rows that the lineage has of one transform.
            is_late: whether the time is up in which it must be read.

        Raises:
            InventoryUnusable: a file of it is missing, torn, or not the one of its MD5; it lists too little; or the
                time is up.
        """
        listing, total = InventoryListing(folder, inventory.taken), 0
        reach = together(ranges)
        for file in inventory.files:
            with self._store.open(file.key) as source:
                if source is None:
                    raise InventoryUnusable(f"{file.key} of {inventory.manifest} is not there")
                if _md5(source.data if source.data is not None else source.path) != file.md5.lower():
                    raise InventoryUnusable(f"{file.key} is not the one of its MD5 in {inventory.manifest}")
                try:
                    for frame in _frames(source, inventory.columns):
                        if is_late():
                            raise InventoryUnusable(f"{inventory.manifest} takes too long to read")
                        total += frame.height
                        listing.add(frame.filter(_inside(frame["key"], reach)))
                except _BROKEN as error:
                    raise InventoryUnusable(f"{file.key} cannot be read: {error}") from error
        if total < LEAST_SHARE * least:
            raise InventoryUnusable(
                f"{inventory.manifest} has {total:,} objects, the lineage {least:,}: does it list the whole bucket?"
            )
        listing.finish()
        return listing


class InventoryReader:
    """The inventories as one invocation uses them: each is read once, and one that cannot be used is told of. A context
    manager, which removes what was read.

    Args:
        inventories: None: there are none.
        now: the time of day, in UTC.
        log: told what is used, and what is not.
        remaining: the milliseconds that the invocation has left.
    """

    def __init__(
        self,
        inventories: Inventories | None,
        *,
        now: Callable[[], datetime],
        log: Callable[[dict[str, Any]], None],
        remaining: Callable[[], float],
    ) -> None:
        self._inventories = inventories
        self._now = now
        self._log = log
        self._remaining = remaining
        self._resources = ExitStack()
        self._newest: list[Inventory | None] = []
        self._listings: dict[str, InventoryListing | None] = {}

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def newest(self) -> Inventory | None:
        """The newest inventory; None: bronze is to be listed."""
        if self._inventories is None:
            return None
        if not self._newest:
            try:
                inventory = self._inventories.newest(self._now())
                hours = round((self._now() - inventory.taken) / timedelta(hours=1), 1)
                self._log({"inventory": inventory.manifest, "hours": hours})
                self._newest.append(inventory)
            except InventoryUnusable as error:
                self._log({"unusable": str(error)})
                self._newest.append(None)
        return self._newest[0]

    def listing(self, manifest: str, ranges: Sequence[KeyRange], rows: LineageSource) -> InventoryListing | None:
        """What the inventory of a manifest has in some ranges of keys; None: bronze is to be listed. More than half of
        the time that is left is not spent on it."""
        if self._inventories is None:
            return None
        if manifest not in self._listings:
            half = self._remaining() / 2
            folder = self._resources.enter_context(TemporaryDirectory(prefix="inventory-"))
            try:
                self._listings[manifest] = self._inventories.listing(
                    self._inventories.read(manifest),
                    ranges,
                    Path(folder),
                    least=max(rows.sizes().values(), default=0),
                    is_late=lambda: self._remaining() < half,
                )
            except InventoryUnusable as error:
                self._log({"unusable": str(error)})
                self._listings[manifest] = None
        return self._listings[manifest]


class InventoryListing:
    """What an inventory says of some keys, in their order: pages as a store lists them.

    Args:
        folder: for the sorted runs.
        taken: when the inventory was taken.
    """

    def __init__(self, folder: Path, taken: datetime) -> None:
        self._folder = folder
        self._modified = stamp(taken)
        self._waiting: list[pl.DataFrame] = []
        self._runs: list[tuple[str, str, Path]] = []
        self._index: list[str] = []

    def add(self, frame: pl.DataFrame) -> None:
        """Take some keys with their ETags."""
        if frame.height:
            self._waiting.append(frame)
        if sum(each.height for each in self._waiting) >= RUN:
            self._write()

    def finish(self) -> None:
        """All keys were taken."""
        self._write()
        self._index.sort()

    def _write(self) -> None:
        if not self._waiting:
            return
        run = pl.concat(self._waiting).sort("key")
        self._waiting.clear()
        path = self._folder / f"{len(self._runs):06}.parquet"
        run.write_parquet(path, compression="zstd", compression_level=1, row_group_size=4 * STEP)
        self._runs.append((run["key"][0], run["key"][-1], path))
        self._index += run["key"].gather_every(STEP)[1:].to_list()

    def pages(self, prefix: str, *, start_after: str = "") -> Iterator[Sequence[ListedObject]]:
        """The objects whose keys begin with ``prefix``, after ``start_after``. ``modified`` is when the inventory was
        taken."""
        bounds: list[str | None] = [*self._index[::STEPS], None]
        after = start_after
        for bound in bounds:
            if bound is not None and (bound <= after or bound < prefix):
                continue
            page = self._between(after, bound, prefix)
            if page:
                yield page
            if bound is None or (bound > prefix and not bound.startswith(prefix)):
                return
            after = bound

    def _between(self, after: str, until: str | None, prefix: str) -> Sequence[ListedObject]:
        runs = [path for low, high, path in self._runs if high > after and (until is None or low <= until)]
        if not runs:
            return []
        key = pl.col("key")
        wanted = (key > after) & key.str.starts_with(prefix) & (key >= prefix)
        rows = pl.scan_parquet(runs, glob=False).filter(wanted if until is None else wanted & (key <= until))
        frame = rows.unique("key").sort("key").collect()
        return [ListedObject(key, self._modified, etag, "0", "") for key, etag in frame.rows()]


def together(ranges: Sequence[KeyRange]) -> list[KeyRange]:
    """Ranges that cover the same keys, in order, of which no two touch."""
    merged: list[KeyRange] = []
    for keys in sorted(ranges):
        last = merged[-1] if merged else None
        if last is not None and (not last.until or keys.after <= last.until):
            until = "" if not last.until or not keys.until else max(last.until, keys.until)
            merged[-1] = KeyRange(last.after, until)
        else:
            merged.append(keys)
    return merged


def _inside(keys: pl.Series, ranges: Sequence[KeyRange]) -> pl.Series:
    """Which keys lie in one of these ranges, which are in order."""
    place = pl.Series([each.after for each in ranges], dtype=pl.String).search_sorted(keys, side="left").cast(pl.Int64)
    untils = pl.Series([each.until or None for each in ranges], dtype=pl.String).gather((place - 1).clip(0))
    return (place > 0) & (untils.is_null() | (keys <= untils)).fill_null(value=False)


def _md5(content: bytes | Path | None) -> str:
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return hashlib.md5(content or b"", usedforsecurity=False).hexdigest()


# -- the files


def _frames(source: Source, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The current objects in a file of an inventory: ``key`` and ``etag``."""
    for frame in _from_csv(source, columns) if columns else _from_parquet(source):
        is_there = pl.lit(value=True)
        if "is_latest" in frame.columns:
            is_there &= frame["is_latest"].cast(pl.String).str.to_lowercase().fill_null("true") == "true"
        if "is_delete_marker" in frame.columns:
            is_there &= frame["is_delete_marker"].cast(pl.String).str.to_lowercase().fill_null("false") == "false"
        yield frame.filter(is_there, pl.col("key").is_not_null()).select(
            "key", pl.col("e_tag").fill_null("").str.strip_chars('"').alias("etag")
        )


def _from_parquet(source: Source) -> Iterator[pl.DataFrame]:
    file = pl.scan_parquet(source.path if source.path is not None else source.data or b"", glob=False)
    names = [name for name in file.collect_schema().names() if name in _NAMES.values()]
    rows = file.select(pl.len()).collect().item()
    for start in range(0, rows, RUN):
        yield file.select(names).slice(start, RUN).collect()


def _from_csv(source: Source, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Keys are encoded as in a URL, so no line end stands in a value."""
    schema = {_NAMES.get(name, name): pl.String() for name in columns}
    with gzip.open(source.path if source.path is not None else io.BytesIO(source.data or b"")) as file:
        rest = b""
        while block := file.read(BLOCK):
            whole, end, rest = (rest + block).rpartition(b"\n")
            if len(rest) > BLOCK:
                raise EOFError("a line has no end")
            if whole:
                yield _parsed_csv(whole + end, schema)
        if rest:
            yield _parsed_csv(rest, schema)


def _parsed_csv(block: bytes, schema: dict[str, Any]) -> pl.DataFrame:
    frame = pl.read_csv(block, has_header=False, schema=schema)
    names = [name for name in frame.columns if name in _NAMES.values()]
    encoded = frame["key"].str.contains("[%+]").fill_null(value=False)
    if encoded.any():
        decoded = [unquote_plus(key, errors="strict") if key is not None else None for key in frame["key"]]
        frame = frame.with_columns(pl.Series("key", decoded, pl.String))
    return frame.select(names)
