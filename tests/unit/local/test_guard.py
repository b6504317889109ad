"""A store behind a policy: each call asks for what S3 would ask for, and nothing happens that is not allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from silversmith import Pipeline
from silversmith.errors import AccessDenied
from silversmith.events import ObjectEvent
from silversmith.function.outcome import Verdict
from silversmith.function.process import run
from silversmith.function.task import Task
from silversmith.lineage import silver_key
from silversmith.local import iam
from silversmith.local.iam import GuardedStore, Policy
from silversmith.local.stack import read
from silversmith.pipeline import Transform
from silversmith.pipeline.lookups import Lookups
from silversmith.stores import Lake
from silversmith.stores.local import LocalStore
from silversmith.template import compile as compile_template
from tests.unit.shop import Shop

BUCKET = "arn:aws:s3:::bucket"
ROLE = "arn:aws:iam::000000000000:role/OrdersRole"
OURS = {"aws:SecureTransport": "true", "aws:ResourceAccount": "000000000000"}


@dataclass
class Guarded:
    """A bucket with one object, and a guard that writes down what it is asked."""

    store: LocalStore
    asked: list[tuple[str, str]]
    allowed: set[str]

    def check(self, action: str, resource: str) -> None:
        self.asked.append((action, resource))
        if action not in self.allowed:
            raise AccessDenied(f"{action} on {resource}")

    @property
    def guard(self) -> GuardedStore:
        return GuardedStore(self.store, arn=BUCKET, check=self.check)


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    store = LocalStore(
        tmp_path / "bucket", scratch=tmp_path / "scratch", locks=tmp_path / "locks", foreign_writers=True
    )
    store.put("here", b"old")
    return Guarded(store, [], set())


def opened(guard: GuardedStore, key: str) -> object:
    with guard.open(key) as source:
        return source and source.data


OBJECT = f"{BUCKET}/here"
GET, PUT, DELETE, LIST = "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"

#: What is called, and what S3 would check for it.
CALLS: dict[str, tuple[Callable[[GuardedStore], object], list[tuple[str, str]]]] = {
    "head": (lambda guard: guard.head("here"), [(GET, OBJECT)]),
    "open": (lambda guard: opened(guard, "here"), [(GET, OBJECT)]),
    "read": (lambda guard: guard.read("here"), [(GET, OBJECT)]),
    "head nothing": (lambda guard: guard.head("gone"), [(GET, f"{BUCKET}/gone"), (LIST, BUCKET)]),
    "open nothing": (lambda guard: opened(guard, "gone"), [(GET, f"{BUCKET}/gone"), (LIST, BUCKET)]),
    "read nothing": (lambda guard: guard.read("gone"), [(GET, f"{BUCKET}/gone"), (LIST, BUCKET)]),
    "put": (lambda guard: guard.put("here", b"new"), [(PUT, OBJECT)]),
    "put if none": (lambda guard: guard.put("gone", b"new", if_none_match=True), [(PUT, f"{BUCKET}/gone")]),
    "put if match": (lambda guard: guard.put("here", b"new", if_match=etag(guard)), [(PUT, OBJECT), (GET, OBJECT)]),
    "delete": (lambda guard: guard.delete("here"), [(DELETE, OBJECT)]),
    "delete if match": (lambda guard: guard.delete("here", if_match=etag(guard)), [(DELETE, OBJECT), (GET, OBJECT)]),
    "list": (lambda guard: list(guard.list("h")), [(LIST, BUCKET)]),
}


def etag(guard: GuardedStore) -> str:
    return "149603e6c03516362a8da23f624db945"  # the MD5 of "old"


@pytest.mark.parametrize("name", CALLS)
def test_each_call_is_checked_as_s3_does(guarded: Guarded, name: str) -> None:
    call, needed = CALLS[name]
    guarded.allowed = {action for action, _ in needed}
    call(guarded.guard)
    assert guarded.asked == needed


@pytest.mark.parametrize(
    ("name", "without"), [(name, action) for name, (_, needed) in CALLS.items() for action, _ in needed]
)
def test_without_one_of_its_actions_it_is_refused_and_nothing_happens(
    guarded: Guarded, name: str, without: str
) -> None:  # fmt: skip
    call, _ = CALLS[name]
    guarded.allowed = {GET, PUT, DELETE, LIST} - {without}
    with pytest.raises(AccessDenied, match=without):
        call(guarded.guard)
    assert [head.key for head in guarded.store.list()] == ["here"]
    assert guarded.store.read("here") == b"old"


def test_a_listing_is_refused_when_it_is_asked_for_not_when_it_is_read(guarded: Guarded) -> None:
    with pytest.raises(AccessDenied):
        guarded.guard.list()


@dataclass
class Compiled:
    """A pipeline's buckets behind the role that its template gives to one function."""

    transform: Transform
    shop: Shop
    policy: Policy

    def guard(self, name: str, store: LocalStore) -> GuardedStore:
        def check(action: str, resource: str) -> None:
            iam.checker((self.policy,), principal=ROLE, context=OURS)(action, resource)

        return GuardedStore(store, arn=f"arn:aws:s3:::dl-{name}-layer", check=check)

    @property
    def lake(self) -> Lake:
        stores = {"bronze": self.shop.bronze, "silver": self.shop.silver, "quarantine": self.shop.quarantine}
        return Lake(**{name: self.guard(name, store) for name, store in stores.items()})

    def process(self, key: str) -> Verdict:
        event = ObjectEvent("dl-bronze-layer", key)
        scratch = self.shop.folder / "scratch"
        lookups = Lookups(self.lake.bronze, self.transform.lookups, scratch, name=self.transform.name)
        return run(Task(event, self.transform, self.lake, scratch, lookups, now=lambda: self.shop.now)).verdict


@pytest.fixture
def compiled(tmp_path: Path) -> Compiled:
    pipeline = Pipeline("shop")

    @pipeline.transform("orders/*.csv", name="orders")
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    function = next(template for template in read(compile_template(pipeline)).functions)
    return Compiled(pipeline.find("orders"), Shop(tmp_path), function.policy)


def test_the_templates_role_is_enough_for_every_way_in_which_a_file_can_end(compiled: Compiled) -> None:
    key, bronze = "orders/a.csv", compiled.shop.bronze
    bronze.put(key, b"x\n1\n2,3\n")
    assert compiled.process(key) is Verdict.COMMITTED, "one row is rejected"
    assert compiled.process(key) is Verdict.DUPLICATE
    bronze.put(key, b"x,x\n1,2\n")
    assert compiled.process(key) is Verdict.QUARANTINED
    assert compiled.process(key) is Verdict.QUARANTINED, "its document is put over the last"
    bronze.put(key, b"x\n1\n")
    assert compiled.process(key) is Verdict.COMMITTED
    assert list(compiled.shop.quarantine.list()) == []
    bronze.delete(key)
    assert compiled.process(key) is Verdict.GONE


def test_the_templates_role_is_for_its_own_files_only(compiled: Compiled) -> None:
    lake = compiled.lake
    compiled.shop.bronze.put("other/a.csv", b"x\n1\n")
    with pytest.raises(AccessDenied, match=r"other/a\.csv"):
        compiled.process("other/a.csv")
    for refused in (
        lambda: lake.bronze.put("orders/a.csv", b""),
        lambda: lake.bronze.delete("orders/a.csv"),
        lambda: lake.silver.put(silver_key("another", "orders/a.csv"), b""),
        lambda: lake.silver.delete(silver_key("orders", "orders/a.csv")),
        lambda: lake.quarantine.read("another/orders/a.csv.error.json"),
    ):
        with pytest.raises(AccessDenied, match="in the template"):
            refused()
