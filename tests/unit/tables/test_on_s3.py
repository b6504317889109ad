"""Tables on S3, over a server that others wrote: conditional puts decide there, too."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from silversmith.lineage import silver_key
from silversmith.reconcile.handler import build
from silversmith.reconcile.rows import LineageRows
from silversmith.stores.s3 import S3Store, connect
from silversmith.tables.delta import DeltaFormat
from silversmith.tables.format import Refused
from silversmith.tables.lineage import follow
from silversmith.tables.upkeep import keep
from silversmith.tables.views import Difference, compare, refresh
from tests.unit.conftest import Leisure
from tests.unit.tables.kit import TRANSFORM, GoldBench, nothing
from tests.unit.tables.kit import lineage as lineage_of
from tests.unit.tables.test_commit import once
from tests.unit.tables.test_views import DAILY, orders, views
from tests.unit.test_inventory import FOLDER, Delivery

SILVER, GOLD = "dl-silver-layer", "dl-gold-layer"


class BenchOnS3(GoldBench):
    """The same bench over buckets."""

    def __init__(self, root: Path, endpoint: str) -> None:
        super().__init__(root)
        session = boto3.session.Session("testing", "testing", region_name="eu-central-1")
        client: Any = connect(session, endpoint_url=endpoint)
        for bucket in (SILVER, GOLD):
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.client = client
        self.silver = S3Store(SILVER, client=client, scratch=root)
        options = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
        }
        self.options = options
        self.gold = DeltaFormat(f"s3://{GOLD}", scratch=root / "scratch", storage_options=options)

    def rows(self, name: str = "orders") -> list[tuple[Any, ...]]:
        batches = self.gold.query({"t": self.snapshot(name)}, "select * from t").batches
        rows = [tuple(row.values()) for batch in batches for row in batch.to_struct_array().to_pylist()]
        return sorted(((row[0], *row[2:]) for row in rows), key=repr)


#: A process of its own: this one cannot answer while it waits for delta-rs.
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=len(sys.argv) > 1)
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


@pytest.mark.full
@pytest.mark.parametrize("commits", [1, 25])  # without a checkpoint, and with one
def test_a_reconciler_reads_the_lineage_on_s3(bench: BenchOnS3, commits: int) -> None:
    quarantine = S3Store(SILVER, client=bench.client, scratch=bench.root)
    names = [f"{number:02}/it's ü.csv" for number in range(commits)]
    for name in names:
        key = silver_key(TRANSFORM, name)
        bench.silver.put(key, b"silver", metadata=lineage_of(name, TRANSFORM, 1).to_metadata())
        follow([TRANSFORM], [key], silver=bench.silver, quarantine=quarantine, gold=bench.gold, step=nothing)
    gold = S3Store(GOLD, client=bench.client, scratch=bench.root)
    options = {name.lower(): value for name, value in bench.options.items()}
    lineage = LineageRows(gold, f"s3://{GOLD}", options)
    etags = {head.key: head.etag for head in bench.silver.list(f"{TRANSFORM}/")}
    rows = lineage.between(TRANSFORM, "", "", 100).select("_file", "_etag", "state").rows()
    assert rows == [(name, etags[silver_key(TRANSFORM, name)], "silver") for name in names]
    assert lineage.between(TRANSFORM, names[0], names[-1], 100)["_file"].to_list() == names[1:]
    assert lineage.sizes() == {TRANSFORM: commits}


PIPELINE = f"""
from silversmith import Pipeline

pipeline = Pipeline("shop", lineage=True)
pipeline.sql("in/*", "SELECT * FROM rows", name={TRANSFORM!r})
"""


class Idle:
    """An SQS client whose queues are empty."""

    def get_queue_attributes(self, **inputs: Any) -> dict[str, Any]:
        return {"Attributes": dict.fromkeys(inputs["AttributeNames"], "0")}


@pytest.mark.full
def test_a_deployed_round_reads_an_inventory_on_s3(
    bench: BenchOnS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The inventory has more keys than bronze, so that what was compared says which of them was read."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION"):
        monkeypatch.setenv(f"AWS_{name}", bench.options[f"AWS_{name}"])
    for bucket in ("bronze", "quarantine", "lists"):
        bench.client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    store = {name: S3Store(name, client=bench.client, scratch=tmp_path) for name in ("bronze", "quarantine", "lists")}
    etag, key = store["bronze"].put("in/a.csv", b"x"), silver_key(TRANSFORM, "in/a.csv")
    said = replace(lineage_of("in/a.csv", TRANSFORM, 1), bronze_etag=etag)
    bench.silver.put(key, b"silver", metadata=said.to_metadata())
    follow([TRANSFORM], [key], silver=bench.silver, quarantine=store["quarantine"], gold=bench.gold, step=nothing)
    delivery = Delivery(tmp_path, "Parquet", store["lists"])
    delivery.deliver({"in/a.csv": etag}, {"in/gone.csv": "e"}, taken=datetime.now(UTC) - timedelta(hours=20))
    (tmp_path / "shop.py").write_text(PIPELINE)
    environment = {
        "AWS_LAMBDA_FUNCTION_NAME": "shop_Reconciler",
        "AWS_ENDPOINT_URL": bench.options["AWS_ENDPOINT_URL"],
        "SILVERSMITH_PIPELINE": str(tmp_path / "shop.py"),
        "SILVERSMITH_BRONZE": "bronze",
        "SILVERSMITH_SILVER": SILVER,
        "SILVERSMITH_QUARANTINE": "quarantine",
        "SILVERSMITH_GOLD": GOLD,
        "SILVERSMITH_INVENTORY": f"lists/{FOLDER}",
    }
    caplog.set_level(logging.INFO, "silversmith")
    reconciler = build(environment, s3=bench.client, sqs=Idle(), functions=None)
    assert reconciler({"queues": {TRANSFORM: "https://sqs/orders"}}, Leisure()) == {"done": True}
    lines = [vars(record) for record in caplog.records]
    assert [line["hours"] for line in lines if "hours" in line] == [20.0]
    assert [(line["checked"], line["sent"]) for line in lines if "checked" in line] == [(2, 0)]


#: Versions between two checkpoints.
INTERVAL = 20


@pytest.mark.full
def test_a_commit_asks_as_much_after_a_thousand_versions(tmp_path: Path) -> None:
    """The versions are made in a folder, and copied: then the requests of one commit are counted."""
    local = GoldBench(tmp_path / "local")
    local.bring(local.put("a.csv", {"x": [1]}))
    newest = local.snapshot()
    requests = tmp_path / "requests"
    command = [sys.executable, "-c", SERVER, "verbose"]
    with (
        requests.open("wb") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as server,
    ):
        assert server.stdout is not None
        assert server.stdout.readline().startswith(b"Starting")
        bench = BenchOnS3(tmp_path, f"http://127.0.0.1:{int(server.stdout.readline())}")
        client: Any = bench.client
        copied: set[str] = set()

        def requests_at(version: int) -> int:
            """How many requests one new file takes where the table is at this version, which stays the newest."""
            nonlocal newest
            while newest.version < version:
                newest = newest.commit([])
            root = local.root / "gold"
            for path in (path for path in root.rglob("*") if path.is_file()):
                key = path.relative_to(root).as_posix()
                if key not in copied or path.name == "_last_checkpoint":
                    client.put_object(Bucket=GOLD, Key=key, Body=path.read_bytes())
                    copied.add(key)
            key = bench.put(f"{version}.csv", {"x": [version]})
            began = len(requests.read_bytes())
            assert bench.bring(key).commits == 1
            taken = requests.read_bytes()[began:].count(b" HTTP/1.1")
            client.delete_object(Bucket=GOLD, Key=f"orders/_delta_log/{version + 1:020}.json")
            return taken

        few = requests_at(2 * INTERVAL + 5)
        assert requests_at(50 * INTERVAL + 5) == few
        server.terminate()
