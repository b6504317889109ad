"""S3 Inventory in the place of a listing: what its files say, in order; and every way in which it cannot be used."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote_plus

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith.operations.doctor import inventory_check
from silversmith.reconcile import inventory as module
from silversmith.reconcile.difference import KeyRange
from silversmith.reconcile.inventory import MOST_AGE, Inventories, Inventory, InventoryUnusable, together
from silversmith.stores import Store
from silversmith.stores.listing import pages
from silversmith.stores.local import LocalStore
from tests.examples import examples
from tests.unit.test_difference import Bench
from tests.unit.test_round_by_difference import Function, make, shop

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
FOLDER = "inventories/dl-bronze-layer/silversmith"
FORMATS = ["CSV", "Parquet"]
SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag"


#: A row of an inventory: the key, whether it is the newest version, whether that is a delete marker, the ETag.
Row = tuple[str, bool, bool, str | None]

PARQUET_SCHEMA = "message s3.inventory { required binary key (UTF8); optional binary e_tag (UTF8); }"


def store(root: Path) -> LocalStore:
    return LocalStore(root / "inventories", scratch=root, locks=root / "locks", foreign_writers=False)


class Delivery:
    """What S3 delivers: by key the ETag; None: the key's newest version is a delete marker."""

    def __init__(self, root: Path, form: str = "CSV", place: Store | None = None) -> None:
        self.store = place or store(root)
        self.form = form
        self.scratch = root
        self.bucket = "dl-bronze-layer" if place is None else "bronze"
        self.inventories = Inventories(self.store, FOLDER, self.bucket)

    def file(self, number: int, objects: Mapping[str, str | None]) -> dict[str, Any]:
        """A file, with an older version of each object."""
        rows: list[Row] = []
        for key, etag in objects.items():
            rows += [(key, True, etag is None, etag), (key, False, False, "old")]
        body = self.csv(rows) if self.form == "CSV" else self.parquet(rows)
        key = f"{FOLDER}/data/{number}.{'csv.gz' if self.form == 'CSV' else 'parquet'}"
        self.store.put(key, body)
        return {"key": key, "size": len(body), "MD5checksum": hashlib.md5(body).hexdigest()}

    @staticmethod
    def csv(rows: Sequence[Row]) -> bytes:
        lines = (
            f'"dl-bronze-layer","{quote_plus(key)}","v","{str(latest).lower()}","{str(gone).lower()}","1",'
            f'"2026-03-01T00:00:00.000Z","{etag or ""}"\n'
            for key, latest, gone, etag in rows
        )
        return gzip.compress("".join(lines).encode())

    @staticmethod
    def parquet(rows: Sequence[Row]) -> bytes:
        buffer = io.BytesIO()
        columns = {"key": pl.String, "is_latest": pl.Boolean, "is_delete_marker": pl.Boolean, "e_tag": pl.String}
        pl.DataFrame(rows, schema=columns, orient="row").with_columns(bucket=pl.lit("dl-bronze-layer")).write_parquet(
            buffer, compression="snappy", row_group_size=max(3, len(rows) // 8)
        )
        return buffer.getvalue()

    def deliver(
        self, *objects: Mapping[str, str | None], taken: datetime = NOW - timedelta(hours=20), **more: Any
    ) -> str:
        """An inventory of so many files. Returns its folder."""
        schema = SCHEMA if self.form == "CSV" else PARQUET_SCHEMA
        manifest = {
            "sourceBucket": self.bucket,
            "destinationBucket": "arn:aws:s3:::any",
            "version": "2016-11-30",
            "creationTimestamp": str(int(taken.timestamp() * 1000)),
            "fileFormat": self.form,
            "fileSchema": schema,
            "files": [self.file(number, each) for number, each in enumerate(objects)],
            **more,
        }
        return self.publish(f"{FOLDER}/{taken:%Y-%m-%dT%H-%MZ}", json.dumps(manifest).encode())

    def publish(self, folder: str, body: bytes) -> str:
        self.store.put(f"{folder}/manifest.json", body)
        self.store.put(f"{folder}/manifest.checksum", hashlib.md5(body).hexdigest().encode() + b"\n")
        self.store.put(f"{FOLDER}/hive/dt=2026-03-01-00-00/symlink.txt", b"")
        return folder

    def newest(self) -> Inventory:
        return self.inventories.newest(NOW)

    def keys(self, *, ranges: Sequence[KeyRange] = (KeyRange(),), **options: Any) -> list[tuple[str, str]]:
        with TemporaryDirectory(dir=self.scratch) as folder:
            listing = self.inventories.listing(self.newest(), ranges, Path(folder), **options)
            return [(entry.key, entry.etag) for page in listing.pages("") for entry in page]


@pytest.fixture(params=FORMATS)
def delivery(request: pytest.FixtureRequest, tmp_path: Path) -> Delivery:
    return Delivery(tmp_path, request.param)


def test_current_objects_are_listed_in_the_order_of_their_keys(delivery: Delivery) -> None:
    delivery.deliver({"in/b c+d%.csv": "2", "gone": None}, {"in/é": "3", "in/a.csv": "1"})
    assert delivery.keys() == [("in/a.csv", "1"), ("in/b c+d%.csv", "2"), ("in/é", "3")]
    assert delivery.newest().taken == NOW - timedelta(hours=20)


KEYS = st.text("ab/é\U0001f600~", min_size=1, max_size=4)


@settings(max_examples=examples(60), deadline=None)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.dictionaries(KEYS, st.sampled_from(["1", "2", None]), max_size=12), max_size=3),
    st.lists(st.tuples(KEYS, KEYS), max_size=3),
    KEYS,
    KEYS,
)
def test_pages_are_those_of_a_listing_of_the_same_objects(
    form: str, files: list[dict[str, str | None]], pairs: list[tuple[str, str]], prefix: str, after: str
) -> None:
    seen: set[str] = set()
    files = [{key: etag for key, etag in each.items() if key not in seen and not seen.add(key)} for each in files]  # type: ignore[func-returns-value]
    objects = {key: etag for each in files for key, etag in each.items() if etag is not None}
    ranges = [KeyRange(*sorted(pair)) for pair in pairs] or [KeyRange()]
    inside = sorted(key for key in objects if any(key > low and (not high or key <= high) for low, high in ranges))
    with TemporaryDirectory() as root:
        delivery = Delivery(Path(root), form)
        delivery.deliver(*files)
        listing = delivery.inventories.listing(delivery.newest(), ranges, Path(root))
        found = [(each.key, each.etag) for page in pages(listing, prefix, start_after=after) for each in page]
    assert found == [(key, objects[key]) for key in inside if key.startswith(prefix) and key > after]


@given(st.lists(st.tuples(KEYS, KEYS), min_size=1, max_size=6), KEYS)
def test_ranges_together_have_the_same_keys(pairs: list[tuple[str, str]], key: str) -> None:
    ranges = [KeyRange(*sorted(pair)) for pair in pairs]

    def has(keys: Sequence[KeyRange]) -> bool:
        return any(each.after < key and (not each.until or key <= each.until) for each in keys)

    merged = together(ranges)
    assert has(merged) == has(ranges)
    assert all(one.until < two.after for one, two in pairwise(merged))
    assert together([*ranges, KeyRange()]) == [KeyRange()]


@pytest.mark.full
def test_many_runs_are_merged(tmp_path: Path) -> None:
    """More rows than a run, in an order of their own; and few of them in memory at once."""
    delivery = Delivery(tmp_path, "Parquet")
    names = [f"in/{number * 7919 % 300_007:06}" for number in range(300_007)]
    middle = len(names) // 2
    delivery.deliver(dict.fromkeys(names[:middle], "1"), dict.fromkeys(names[middle:], "2"))
    with TemporaryDirectory(dir=tmp_path) as folder:
        listing = delivery.inventories.listing(delivery.newest(), [KeyRange()], Path(folder))
        assert len([*Path(folder).iterdir()]) >= 2
        sizes: list[int] = []
        last = ""
        for page in listing.pages("in/"):
            keys = [entry.key for entry in page]
            assert keys == sorted(keys)
            assert keys[0] > last
            sizes.append(len(keys))
            last = keys[-1]
    assert sum(sizes) == len(names)
    assert max(sizes) <= module.STEP * (module.STEPS + 4)


# -- which inventory


def test_the_newest_complete_one_is_taken(delivery: Delivery) -> None:
    delivery.deliver({"a": "1"}, taken=NOW - timedelta(hours=60))
    older = delivery.deliver({"a": "2"}, taken=NOW - timedelta(hours=40))
    newer = delivery.deliver({"a": "3"}, taken=NOW - timedelta(hours=10))
    assert delivery.newest().manifest == f"{newer}/manifest.json"
    delivery.store.put(f"{newer}/manifest.json", b"{}")
    assert delivery.newest().manifest == f"{older}/manifest.json"
    delivery.store.delete(f"{newer}/manifest.json")
    assert delivery.newest().manifest == f"{older}/manifest.json"
    delivery.store.delete(f"{older}/manifest.checksum")
    assert delivery.newest().taken == NOW - timedelta(hours=60)


def test_an_old_one_is_not_used(delivery: Delivery) -> None:
    with pytest.raises(InventoryUnusable, match="none younger than 72 hours is in inventories/dl-bronze-layer"):
        delivery.newest()
    delivery.deliver({"a": "1"}, taken=NOW - MOST_AGE - timedelta(minutes=1))
    with pytest.raises(InventoryUnusable, match="none younger than 72 hours"):
        delivery.newest()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sourceBucket": "other"}, "is about the bucket 'other'"),
        ({"fileFormat": "ORC"}, "the format 'ORC' cannot be read"),
        ({"fileSchema": "Bucket, Key, Size"}, "has no ETags"),
        (
            {"fileFormat": "Parquet", "fileSchema": "message s3.inventory { required binary key (UTF8); }"},
            "has no ETags",
        ),
        ({"creationTimestamp": "soon"}, "cannot be read"),
        ({"creationTimestamp": "9" * 30}, "cannot be read"),
        ({"files": None}, "cannot be read"),
        ({"files": [{"key": "a"}]}, "cannot be read"),
        ({"fileSchema": 1}, "cannot be read"),
    ],
)
def test_a_manifest_without_what_is_needed_is_not_used(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    delivery = Delivery(tmp_path)
    delivery.deliver({"a": "1"}, **changes)
    with pytest.raises(InventoryUnusable, match=problem):
        delivery.newest()


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"1", b'{"files":' + b"[" * 100_000])
def test_bytes_that_are_no_manifest_are_not_used(tmp_path: Path, body: bytes) -> None:
    delivery = Delivery(tmp_path)
    delivery.publish(f"{FOLDER}/{NOW:%Y-%m-%dT%H-%MZ}", body)
    with pytest.raises(InventoryUnusable, match="cannot be read"):
        delivery.newest()


def test_doctor_says_how_old_the_newest_one_is(delivery: Delivery) -> None:
    finding = inventory_check(delivery.store, FOLDER, "dl-bronze-layer", NOW)
    assert (finding.state, "none younger than 72 hours" in finding.found) == ("warn", True)
    delivery.deliver({"a": "1"})
    finding = inventory_check(delivery.store, FOLDER, "dl-bronze-layer", NOW)
    assert (finding.state, finding.found) == ("ok", "the newest one is of 20 hours ago")


# -- files


def test_a_file_that_is_missing(delivery: Delivery) -> None:
    delivery.deliver({"a": "1"}, {"b": "2"})
    delivery.store.delete(delivery.newest().files[1].key)
    with pytest.raises(InventoryUnusable, match="is not there"):
        delivery.keys()


def test_a_file_that_is_not_the_one_of_its_md5(delivery: Delivery) -> None:
    delivery.deliver({"a": "1"}, {"b": "2"})
    first, second = (each.key for each in delivery.newest().files)
    delivery.store.put(second, delivery.store.read(first) or b"")
    with pytest.raises(InventoryUnusable, match="is not the one of its MD5"):
        delivery.keys()


@pytest.mark.parametrize("cut", [0, 1, 10, 20, 40, -1, -8, -9])
def test_a_file_that_is_torn_though_its_md5_is_right(delivery: Delivery, cut: int) -> None:
    inventory = delivery.deliver({f"in/{number}": "1" for number in range(50)})
    body = json.loads(delivery.store.read(f"{inventory}/manifest.json") or b"")
    key = body["files"][0]["key"]
    torn = (delivery.store.read(key) or b"")[:cut]
    delivery.store.put(key, torn)
    body["files"][0]["MD5checksum"] = hashlib.md5(torn).hexdigest()
    delivery.publish(inventory, json.dumps(body).encode())
    with pytest.raises(InventoryUnusable, match=r"cannot be read|has 0 objects"):
        delivery.keys(least=1)


@pytest.mark.parametrize(
    "lines",
    [b'"only","two"\n', b'"a","%ff","v","true","false","1","t","e"\n', b"x" * (module.BLOCK + 10), b"\xff\xfe\x00\n"],
)
def test_lines_that_are_no_inventory(tmp_path: Path, lines: bytes) -> None:
    delivery = Delivery(tmp_path)
    inventory = delivery.deliver({"a": "1"})
    body = json.loads(delivery.store.read(f"{inventory}/manifest.json") or b"")
    packed = gzip.compress(lines)
    delivery.store.put(body["files"][0]["key"], packed)
    body["files"][0]["MD5checksum"] = hashlib.md5(packed).hexdigest()
    delivery.publish(inventory, json.dumps(body).encode())
    with pytest.raises(InventoryUnusable, match="cannot be read"):
        delivery.keys()


def test_an_inventory_that_does_not_list_the_whole_bucket(delivery: Delivery) -> None:
    delivery.deliver({"a": "1", "b": "2"})
    assert len(delivery.keys(least=2)) == 2
    with pytest.raises(InventoryUnusable, match="has 2 objects, the lineage 3: does it list the whole bucket"):
        delivery.keys(least=3)


def test_one_that_takes_too_long_to_read(delivery: Delivery) -> None:
    delivery.deliver({"a": "1"})
    with pytest.raises(InventoryUnusable, match="takes too long"):
        delivery.keys(is_late=lambda: True)


# -- a round


@pytest.fixture
def function(tmp_path: Path, delivery: Delivery) -> Function:
    """The scheduled function over three files with silver and lineage, of whose bucket inventories are delivered."""
    bench = Bench(tmp_path / "lake", shop().transforms[0])
    make(bench, *(f"in/{number}.csv" for number in range(3)))
    bench.follow()
    return Function(bench, inventories=delivery.inventories)


def etags(bench: Bench, **more: str) -> dict[str, str | None]:
    return {**{head.key: head.etag for head in bench.lake.bronze.list("in/")}, **more}


def later(function: Function, **event: Any) -> list[str]:
    """The keys that a round two days later sends: all files landed before the inventory then."""
    function.invoke(round="later", **event)
    return function.queues["orders"].keys


def test_a_round_asks_only_for_what_an_inventory_says_otherwise(function: Function, delivery: Delivery) -> None:
    bench = function.bench
    bench.land("in/new.csv")
    bench.land("in/1.csv", b"other bytes")
    function.now += timedelta(hours=40)
    delivery.deliver(etags(bench), taken=function.now - timedelta(hours=30))
    lists, heads = bench.stores["bronze"].lists, bench.stores["bronze"].heads
    assert later(function) == ["in/1.csv", "in/new.csv"]
    assert bench.stores["bronze"].lists == lists
    assert bench.stores["bronze"].heads == heads + 2
    assert function.log[0] == {"inventory": function.log[0]["inventory"], "hours": 30.0}
    assert function.log[-1]["checked"] == 4


def test_what_is_younger_than_the_inventory_is_left_alone(function: Function, delivery: Delivery) -> None:
    """New files, overwritten and deleted ones: of each the inventory says something else than bronze."""
    bench = function.bench
    delivery.deliver(etags(bench, **{"in/gone.csv": "e"}), taken=function.now - timedelta(hours=4))
    bench.land("in/new.csv")
    bench.land("in/1.csv", b"other bytes")
    bench.land("in/made.csv")
    bench.silvered("in/made.csv")
    bench.silvered("in/1.csv")
    bench.follow()
    assert later(function) == []
    assert function.log[-1]["orphaned"] == 0
    assert function.queues["tables"].keys == []


@pytest.mark.parametrize("fault", ["old", "missing file"])
def test_an_inventory_that_cannot_be_used_is_told_of_and_bronze_listed(
    function: Function, delivery: Delivery, fault: str
) -> None:
    function.bench.land("in/new.csv")
    if fault == "old":
        function.now += MOST_AGE
    else:
        function.now += timedelta(hours=40)
        delivery.deliver({"a": "1"}, taken=function.now - timedelta(hours=20))
        delivery.store.delete(delivery.inventories.newest(function.now).files[0].key)
    lists = function.bench.stores["bronze"].lists
    assert later(function) == ["in/new.csv"]
    assert function.bench.stores["bronze"].lists > lists
    assert [line["unusable"] for line in function.log if "unusable" in line]
