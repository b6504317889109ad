"""Tables on S3, over a server that others wrote: conditional puts decide there, too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from silversmith.stores.s3 import S3Store, connect
from silversmith.tables.delta import DeltaFormat
from silversmith.tables.format import Refused
from silversmith.tables.upkeep import keep
from silversmith.tables.views import Difference, compare, refresh
from tests.unit.tables.kit import GoldBench, nothing
from tests.unit.tables.test_commit import once
from tests.unit.tables.test_views import DAILY, orders, views

SILVER, GOLD = "dl-silver-layer", "dl-gold-layer"


class BenchOnS3(GoldBench):
    """The same bench over buckets."""

    def __init__(self, root: Path, endpoint: str) -> None:
        super().__init__(root)
        session = boto3.session.Session("testing", "testing", region_name="eu-central-1")
        client: Any = connect(session, endpoint_url=endpoint)
        for bucket in (SILVER, GOLD):
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.silver = S3Store(SILVER, client=client, scratch=root)
        options = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
        }
        self.gold = DeltaFormat(f"s3://{GOLD}", scratch=root / "scratch", storage_options=options)

    def rows(self, name: str = "orders") -> list[tuple[Any, ...]]:
        batches = self.gold.query({"t": self.snapshot(name)}, "select * from t").batches
        rows = [tuple(row.values()) for batch in batches for row in batch.to_struct_array().to_pylist()]
        return sorted(((row[0], *row[2:]) for row in rows), key=repr)


#: A process of its own: this one cannot answer while it waits for delta-rs.
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[BenchOnS3]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield BenchOnS3(tmp_path, f"http://127.0.0.1:{int(server.stdout.readline())}")
        server.terminate()


@pytest.mark.full
def test_a_table_on_s3(bench: BenchOnS3) -> None:
    spec = views(("daily", DAILY, ["day"]))
    keys = [bench.put("a.csv", orders(("mo", 1, 5))), bench.put("it's.csv", orders(("tu", 1, 7)))]
    bench.bring(*keys)
    refresh(spec.views, bench.gold, step=nothing)
    bench.put("a.csv", orders(("mo", 1, 6)))
    bench.delete("it's.csv")

    def overtake() -> None:
        bench.bring(bench.put("c.csv", orders(("we", 1, 1))))
        bench.put("a.csv", orders(("mo", 1, 8)))

    bench.bring(*keys, step=once("tables.read", overtake))
    assert bench.rows() == [("a.csv", "mo", 1, 8, None), ("c.csv", "we", 1, 1, None)]
    old = bench.snapshot()
    assert keep("orders", bench.gold, now=0, force=True, step=nothing).vacuumed
    with pytest.raises(Refused):
        old.commit([], where="_file = 'a.csv'")
    with pytest.raises(Refused):
        bench.gold.create("orders", old.columns)
    refresh(spec.views, bench.gold, step=nothing)
    assert compare(spec.views[0], bench.gold) == Difference(0, 0)
    assert bench.bring(*keys).commits == 0
