"""Answers of S3 alone while an object is committed."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from silversmith import Pipeline
from silversmith.events import ObjectEvent
from silversmith.function.outcome import Verdict
from silversmith.function.process import run
from silversmith.function.task import Task
from silversmith.pipeline.lookups import Lookups
from silversmith.stores import Lake
from silversmith.stores.s3 import S3Store
from tests.stand_in import S3Server
from tests.stand_in.faults import CONFLICT


def test_a_conflict_of_deletes_leaves_no_error_document(tmp_path: Path) -> None:
    pipeline = Pipeline("shop")

    @pipeline.transform("*.csv")
    def rows(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    names = ["bronze", "silver", "quarantine"]
    with S3Server() as server:
        bronze, _, quarantine = (server.bucket(name) for name in names)
        bronze.put("a.csv", b"x\n1\n")
        quarantine.put("rows/a.csv.error.json", b"{}")
        server.plan = lambda request: CONFLICT if request.operation == "DeleteObject" and request.nth <= 2 else None
        client = server.client()
        lake = Lake(*(S3Store(name, client=client, scratch=tmp_path) for name in names))
        transform = pipeline.transforms[0]
        lookups = Lookups(lake.bronze, transform.lookups, tmp_path, name=transform.name)
        outcome = run(Task(ObjectEvent("bronze", "a.csv"), transform, lake, tmp_path, lookups))
    assert outcome.verdict is Verdict.DUPLICATE  # committed, and looked at again to clear up
    assert list(quarantine.objects()) == []
