"""A log as AWS puts it, through the assembled engine: typed silver, rejected lines, and rows of a table."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import Any

import polars as pl
from deltalake import DeltaTable, QueryBuilder

from silversmith import logs
from silversmith.lineage import rejected_key
from tests.engine.conftest import Bench

DEFINITION = """
from silversmith import Context
from silversmith.logs import alb, key_columns

pipeline = Pipeline("shop")

@pipeline.transform("AWSLogs/*/elasticloadbalancing/*.log.gz", reader=alb.reader, contract=alb.contract)
def requests(rows, context: Context):
    return rows.with_columns(**key_columns(context.key))

pipeline.table("requests", of=requests)
pipeline.view(
    "statuses", "select elb_status_code, count(*) as n from requests group by elb_status_code", by=["elb_status_code"]
)
"""

LINE = (
    "h2 2026-01-31T12:00:00.250000Z app/shop/0a1b 198.51.100.7:50001 10.0.3.4:8080 0.001 0.015 0.000 {} 200 310 4711 "
    '"GET https://shop.example:443/ HTTP/2.0" "curl/8" TLS_AES_128 TLSv1.3 arn:t "Root=1-67" "shop.example" "arn:c" 3 '
    '2026-01-31T12:00:00.234000Z "forward" "-" "-" "10.0.3.4:8080" "200" "-" "-" TID_9 "-" "-" "-"{}\n'
)
FOLDER = "AWSLogs/000123456789/elasticloadbalancing/eu-west-1/2026/01/31"


def statuses(bench: Bench) -> list[tuple[Any, ...]]:
    table = DeltaTable(str(bench.lake.bucket("dl-gold-layer") / "statuses"))
    sql = "select elb_status_code, n from statuses order by elb_status_code"
    batches = QueryBuilder().register("statuses", table).execute(sql).read_all().to_batches()
    return [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]


def put(bench: Bench, name: str, text: str) -> str:
    key = f"{FOLDER}/{name}.log.gz"
    path = bench.bronze / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))
    return key


def test_a_log_becomes_typed_silver_and_rows_of_a_table(bench: Bench) -> None:
    bench.define(DEFINITION)
    first = put(bench, "a", LINE.format(200, "") + "h2 2026-01-31T12:0\n" + LINE.format(502, ""))
    newer = put(bench, "b", LINE.format(200, ' 10.0.0.9 "brand new"'))
    progress, failed = bench.run()
    assert (progress.done, failed) == (2, 0)
    rows = bench.rows("requests", first)
    assert rows.schema == {
        **logs.alb.columns, "key_account": pl.String, "key_region": pl.String, "key_date": pl.Date,
    }  # fmt: skip
    assert rows.schema == bench.rows("requests", newer).schema
    assert rows["time"].to_list() == [datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)] * 2
    assert rows["client_port"].to_list() == [50001, 50001]
    assert bench.rows("requests", newer)["extra"].to_list() == ['10.0.0.9 "brand new"']
    assert bench.lineage("requests", first).format == "fields+gzip"
    rejected = pl.read_parquet(bench.quarantine / rejected_key("requests", first))
    assert rejected.select("row", "line", "text").rows() == [(2, 2, "h2 2026-01-31T12:0")]
    assert statuses(bench) == [(200, 2), (502, 1)]
