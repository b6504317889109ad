"""Engines, workers and the process of tables are killed at random: afterwards a table has silver's rows, each once, and
the lineage says what every object of silver says."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import psutil
from deltalake import DeltaTable, QueryBuilder

from silversmith.lineage import Lineage
from tests.crash.conftest import Crashable, kill

KILLS = int(os.environ.get("SILVERSMITH_CRASH_KILLS", "4"))
SEED = int(os.environ.get("SILVERSMITH_CRASH_SEED", "1"))
FILES = 200

PIPELINE = """
from silversmith import Pipeline

pipeline = Pipeline("crash", lineage=True)

@pipeline.transform("rows/*.json", max_receive_count=900)
def rows(rows):
    return rows

pipeline.table("rows", of=rows)
pipeline.view("totals", "select id, count(*) as n from rows group by id", by=["id"])
"""


def read(folder: Path, sql: str) -> list[tuple[object, ...]]:
    name = folder.name
    batches = QueryBuilder().register(name, DeltaTable(str(folder))).execute(sql).read_all().to_batches()
    return [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]


LINEAGE = "select _file, _etag, bronze_etag, rows_written from _lineage where state = 'silver' and transform = 'rows'"


def lineages(crashable: Crashable) -> Iterator[tuple[str, str, str, int]]:
    """What the objects of silver say of themselves, as the lineage has it."""
    store = crashable.lake.store("dl-silver-layer", foreign_writers=False)
    for listed in store.list("rows/"):
        head = store.head(listed.key)
        said = Lineage.from_metadata(head.metadata) if head is not None else None
        assert head is not None
        assert said is not None
        yield said.bronze_key, head.etag, said.bronze_etag, said.rows_written


def test_kill_nine_at_random_moments(tmp_path: Path) -> None:
    crashable = Crashable(tmp_path)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    draw = random.Random(SEED)
    killed = 0
    for _ in range(KILLS):
        for _ in range(FILES // 2):
            crashable.drop(f"rows/{draw.randrange(FILES)}.json", [draw.randrange(1000) for _ in range(3)])
        process = crashable.start(until_idle=False, workers=2)
        end = time.monotonic() + draw.uniform(3, 12)
        while time.monotonic() < end:
            time.sleep(draw.uniform(0.1, 0.6))
            children = psutil.Process(process.pid).children() if process.poll() is None else []
            if children and draw.random() < 0.2:
                draw.choice(children).kill()
                killed += 1
        kill(process)
    crashable.finish()
    gold = crashable.lake.bucket("dl-gold-layer")
    silver = {
        f"rows/{path.stem.removesuffix('.json')}.json": pl.read_parquet(path)["id"].to_list()
        for path in crashable.lake.bucket("dl-silver-layer").glob("rows/rows/*.parquet")
    }
    bronze = {f"rows/{path.name}": pl.read_json(path)["id"].to_list() for path in (crashable.bronze / "rows").iterdir()}
    assert silver == bronze
    expected = Counter((key, number) for key, numbers in silver.items() for number in numbers)
    assert Counter(read(gold / "rows", "select _file, id from rows")) == expected
    totals = Counter[int]()
    for (_, number), times in expected.items():
        totals[number] += times
    assert sorted(read(gold / "totals", "select id, n from totals")) == sorted(totals.items())
    objects = sorted(lineages(crashable))
    assert sorted(read(gold / "_lineage", LINEAGE)) == objects
    assert len(objects) == len(silver)
    print(f"{KILLS} engines and {killed} children killed, seed {SEED}: {sum(expected.values())} rows, each once")
