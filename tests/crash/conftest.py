"""A lake, engines that can be killed, and the question that counts: is everything accounted for?"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from silversmith.lineage import Lineage, silver_key
from silversmith.local.lake import LakeFolder
from silversmith.schemas import schema_key

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("crash")

@pipeline.transform("*.json", contract=Contract(schema={"id": pl.Int64}, rules={"id is small": pl.col("id") < 1000}),
                    max_receive_count=1000)
def rows(rows):
    return rows.with_columns(double=pl.col("id") * 2)

@pipeline.transform("a/*", max_receive_count=1000)
def totals(rows):
    return rows.select(total=pl.col("id").sum())
"""


@dataclass
class Crashable:
    """A folder with a pipeline and a lake, and engines that run over it."""

    folder: Path

    @property
    def lake(self) -> LakeFolder:
        return LakeFolder(self.folder / "lake")

    @property
    def bronze(self) -> Path:
        return self.lake.bucket("dl-bronze-layer")

    def drop(self, key: str, ids: list[int]) -> None:
        """Write a file in place, as a careless program would: no rename."""
        path = self.bronze / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[" + ",".join(f'{{"id": {number}}}' for number in ids) + "]")

    def start(self, *, fault: str = "", until_idle: bool = True, workers: int = 1) -> subprocess.Popen[bytes]:
        """An engine in a process of its own."""
        command = [sys.executable, "-m", "silversmith.cli", "run", "pipeline.py", "--workers", str(workers)]
        environment = {**os.environ, "SILVERSMITH_FAULT": fault}
        return subprocess.Popen(
            [*command, *(["--until-idle"] if until_idle else [])],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def finish(self) -> None:
        """Run without any fault until nothing is left to do."""
        process = self.start(workers=2)
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()

    def check(self) -> int:
        """Every bronze object is in silver once, from its newest version, with the right rows. How many there are."""
        expected: dict[str, tuple[str, str]] = {}
        for path in self.bronze.rglob("*.json"):
            key = str(path.relative_to(self.bronze))
            for transform in ("rows", "totals") if key.startswith("a/") else ("rows",):
                expected[silver_key(transform, key)] = (transform, key)
        silver = self.lake.store("dl-silver-layer", foreign_writers=False)
        quarantine = self.lake.store("dl-quarantine-layer", foreign_writers=False)
        schemas = {schema_key(transform) for transform, _ in expected.values()}
        assert [head.key for head in silver.list()] == sorted({*expected, *schemas})
        rejected = {head.key for head in quarantine.list()}
        for name, (transform, key) in expected.items():
            self._check_one(name, transform, key, rejected)
        assert not rejected, f"left in quarantine: {sorted(rejected)}"
        return len(expected)

    def _check_one(self, name: str, transform: str, key: str, quarantined: set[str]) -> None:
        content = (self.bronze / key).read_bytes()
        ids = pl.read_json(content)["id"].to_list()
        head = self.lake.store("dl-silver-layer", foreign_writers=False).head(name)
        lineage = Lineage.from_metadata(head.metadata) if head else None
        assert lineage is not None
        assert (lineage.bronze_etag, lineage.bronze_key) == (hashlib.md5(content).hexdigest(), key)
        found = pl.read_parquet(self.lake.bucket("dl-silver-layer") / name)
        if transform == "totals":
            assert found["total"].to_list() == [sum(ids)]
            return
        good = [number for number in ids if number < 1000]
        assert found.rows() == [(number, number * 2) for number in good]
        bad = len(ids) - len(good)
        assert lineage.rows_rejected == bad
        name = f"{transform}/{key}.rejected.parquet"
        if bad:
            assert name in quarantined, f"{bad} rows of {key} are nowhere"
            assert pl.read_parquet(self.lake.bucket("dl-quarantine-layer") / name).height == bad
            quarantined.discard(name)


@pytest.fixture
def crashable(tmp_path: Path) -> Crashable:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    found = Crashable(tmp_path)
    found.bronze.mkdir(parents=True)
    return found


def kill(process: subprocess.Popen[bytes]) -> None:
    """As a power switch would; its workers go with it."""
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert process.stderr is not None
    process.stderr.close()
