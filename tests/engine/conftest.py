"""A pipeline, a lake and real engines over it: real processes, real files, real SQLite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from silversmith.lineage import Lineage, silver_key
from silversmith.local.engine import Engine, Progress
from silversmith.local.lake import LakeFolder
from silversmith.pipeline import load

HEADER = "import os, signal, time\nimport polars as pl\nfrom silversmith import Contract, Csv, Pipeline\n\n"


@dataclass
class Bench:
    """A folder with a pipeline.py and a lake."""

    folder: Path

    @property
    def pipeline(self) -> Path:
        return self.folder / "pipeline.py"

    @property
    def lake(self) -> LakeFolder:
        return LakeFolder(self.folder / "lake")

    @property
    def bronze(self) -> Path:
        return self.lake.bucket("dl-bronze-layer")

    @property
    def silver(self) -> Path:
        return self.lake.bucket("dl-silver-layer")

    @property
    def quarantine(self) -> Path:
        return self.lake.bucket("dl-quarantine-layer")

    def define(self, text: str) -> None:
        self.pipeline.write_text(HEADER + text)

    def drop(self, key: str, text: str) -> Path:
        path = self.bronze / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def engine(self, workers: int = 1) -> Engine:
        target = str(self.pipeline)
        return Engine(self.lake, load(target), target=target, workers=workers)

    def run(self, workers: int = 1) -> tuple[Progress, int]:
        """Run until idle; the progress, and how many files failed."""
        engine = self.engine(workers)
        try:
            progress = engine.run(until_idle=True, stopped=lambda: False, tick=lambda _: None)
            return progress, engine.failed_files()
        finally:
            engine.close()

    def rows(self, transform: str, key: str) -> pl.DataFrame:
        return pl.read_parquet(self.silver / silver_key(transform, key))

    def lineage(self, transform: str, key: str) -> Lineage:
        head = self.lake.store("dl-silver-layer", foreign_writers=False).head(silver_key(transform, key))
        assert head is not None
        result = Lineage.from_metadata(head.metadata)
        assert result is not None
        return result


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    result = Bench(tmp_path)
    result.bronze.mkdir(parents=True)
    return result
