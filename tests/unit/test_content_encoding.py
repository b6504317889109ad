"""Objects with ``Content-Encoding: gzip``, as Firehose puts them: the bytes decide, on S3 and in a folder."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from silversmith import Pipeline
from silversmith.function.handler import Handler
from silversmith.function.outcome import Report
from silversmith.lineage import Lineage, silver_key
from silversmith.stores import IN_MEMORY, Lake, Store
from silversmith.stores.local import LocalStore
from silversmith.stores.s3 import S3Store
from silversmith.testing import events
from tests.stand_in.server import S3Server

PLAIN = b"x,y\n1,a\n2,b\n"
LARGE = b"x,y\n" + b"1,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n" * (IN_MEMORY // 30)
BODIES: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "twice": lambda data: gzip.compress(gzip.compress(data)),
}

MakeLake = Callable[[str, bytes], Lake]


@pytest.fixture(params=["S3", "folder"])
def make_lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeLake]:
    """A lake with one object in bronze, which says that it is gzip where metadata can say so."""
    (tmp_path / "scratch").mkdir()

    def in_folders(key: str, body: bytes) -> Lake:
        stores: list[Store] = [
            LocalStore(
                tmp_path / name,
                scratch=tmp_path / "scratch",
                locks=tmp_path / "locks",
                foreign_writers=name == "bronze",
                fsync=lambda _: None,
            )
            for name in ("bronze", "silver", "quarantine")
        ]
        stores[0].put(key, body)
        return Lake(*stores)

    def on_s3(key: str, body: bytes) -> Lake:
        for name in ("bronze", "silver", "quarantine"):
            server.bucket(name)
        server.buckets["bronze"].put(key, body)
        server.buckets["bronze"].encodings[key] = "gzip"
        return Lake(*(S3Store(name, client=server.client(), scratch=tmp_path) for name in server.buckets))

    with S3Server() as server:
        yield on_s3 if request.param == "S3" else in_folders


@pytest.mark.parametrize("key", ["f/a.csv", "f/a.csv.gz", "f/2026/10/stream-1-2026-10-01"])
@pytest.mark.parametrize("form", BODIES)
@pytest.mark.parametrize("data", [PLAIN, pytest.param(LARGE, marks=pytest.mark.full)], ids=["small", "large"])
def test_the_bytes_decide(make_lake: MakeLake, tmp_path: Path, key: str, form: str, data: bytes) -> None:
    lake = make_lake(key, BODIES[form](data))
    pipeline = Pipeline("shop")
    pipeline.transform("f/*", name="orders")(lambda rows: rows)
    reports: list[Report] = []
    handler = Handler(
        pipeline.find("orders"), bucket="bronze", lake=lake, scratch=tmp_path / "scratch", ended=reports.append
    )
    assert handler(events.sqs(events.eventbridge("bronze", key)), events.LambdaContext()) == {"batchItemFailures": []}
    assert [report.outcomes[0].verdict for report in reports] == ["committed"]
    with lake.silver.open(silver_key("orders", key)) as source:
        assert source is not None
        lineage = Lineage.from_metadata(source.head.metadata)
        rows = pl.read_parquet(source.data if source.data is not None else source.path)  # type: ignore[arg-type]
    assert lineage is not None
    assert lineage.format == "csv" + {"plain": "", "gzip": "+gzip", "twice": "+gzip+gzip"}[form]
    assert rows.height == data.count(b"\n") - 1
    assert rows.columns[:2] == ["x", "y"]
