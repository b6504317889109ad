"""A lake, engines and commands that can be killed, and the question that counts: is everything accounted for?"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith.lineage import Lineage, failed_key, silver_key
from silversmith.local.lake import LakeFolder
from silversmith.schemas import schema_key

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("crash", on_delete="ON_DELETE")

@pipeline.transform("*.json", max_receive_count=PATIENCE, contract=Contract(
    schema={"id": pl.Int64}, rules={"id is small": pl.col("id") < 1000}, max_rejected=1.0,
))
def rows(rows):
    return rows.with_columns(double=pl.col("id") * 2)

@pipeline.transform("a/*", max_receive_count=PATIENCE)
def totals(rows):
    return rows.select(total=pl.col("id").sum())

@pipeline.transform("c/*", max_receive_count=3)
def fragile(rows):
    if UNLUCKY in rows.collect()["id"]:
        raise ValueError("of all numbers this one")
    return rows
"""

#: The number that ``fragile`` has a bug with.
UNLUCKY = -13

#: What is no JSON, and cannot become silver.
BROKEN = '[{"id": 1'

BUCKET = "dl-bronze-layer"


@dataclass
class Accounted:
    """Where the objects were found, by (transform, key)."""

    silver: set[tuple[str, str]] = field(default_factory=set)
    quarantined: set[tuple[str, str]] = field(default_factory=set)
    dead: set[tuple[str, str]] = field(default_factory=set)

    def __str__(self) -> str:
        return f"{len(self.silver)} in silver, {len(self.quarantined)} in quarantine, {len(self.dead)} in a DLQ"


@dataclass
class Crashable:
    """A folder with a pipeline and a lake, and engines that run over it."""

    folder: Path

    @property
    def lake(self) -> LakeFolder:
        return LakeFolder(self.folder / "lake")

    @property
    def bronze(self) -> Path:
        return self.lake.bucket(BUCKET)

    def define(self, unlucky: int | None, *, patience: int = 950, on_delete: str = "keep") -> None:
        """The pipeline. ``unlucky`` None: its bug is corrected. ``patience``: of the transforms without one."""
        text = PIPELINE.replace("UNLUCKY", str(unlucky)).replace("PATIENCE", str(patience))
        (self.folder / "pipeline.py").write_text(text.replace("ON_DELETE", on_delete))

    def drop(self, key: str, ids: list[int]) -> None:
        """Write a file in place, as a careless program would: no rename."""
        self.write(key, "[" + ",".join(f'{{"id": {number}}}' for number in ids) + "]")

    def write(self, key: str, text: str) -> None:
        path = self.bronze / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def command(self, *arguments: str, fault: str = "") -> subprocess.Popen[bytes]:
        """A command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "silversmith.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, "SILVERSMITH_FAULT": fault},
            stdout=subprocess.PIPE if "--json" in arguments else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def start(self, *, fault: str = "", until_idle: bool = True, workers: int = 1) -> subprocess.Popen[bytes]:
        """An engine in a process of its own."""
        more = ["--until-idle"] if until_idle else []
        return self.command("run", "pipeline.py", "--no-page", "--workers", str(workers), *more, fault=fault)

    def output(self, *arguments: str) -> Any:
        """The JSON of a command, which must succeed."""
        actual, errors = (process := self.command(*arguments, "--json")).communicate(timeout=240)
        assert process.returncode == 0, errors.decode()
        return json.loads(actual)

    def finish(self, *, fails: bool = False) -> None:
        """Run without any fault until nothing is left to do. ``fails``: some files may have failed."""
        process = self.start(workers=2)
        _, errors = process.communicate(timeout=240)
        assert process.returncode in ({0, 1} if fails else {0}), errors.decode()
        assert b"Traceback" not in errors, errors.decode()

    def check(self, *, unlucky: int | None = UNLUCKY) -> Accounted:
        """Every bronze object is in silver once, from its newest version, with the right rows; or, of its newest
        version, in quarantine if it is broken; or in a dead-letter queue if the transform has a bug with it."""
        result = Accounted()
        failures = self.output("failures", "--limit", "1000000")
        quarantined = {(item["transform"], item["key"], item["etag"]) for item in failures["quarantined"]}
        dead = {(item["transform"], item["key"]) for item in failures["dead"]}
        rejected = {head.key for head in self.lake.store("dl-quarantine-layer", foreign_writers=False).list()}
        for path in self.bronze.rglob("*.json"):
            key = str(path.relative_to(self.bronze))
            content = path.read_bytes()
            for transform in {"a": ("rows", "totals"), "c": ("rows", "fragile")}.get(key.split("/", 1)[0], ("rows",)):
                if content == BROKEN.encode():
                    assert (transform, key, hashlib.md5(content).hexdigest()) in quarantined, f"{key} is nowhere"
                    result.quarantined.add((transform, key))
                    rejected -= {f"{transform}/{key}.error.json", f"{transform}/{key}.rejected.parquet"}
                elif transform == "fragile" and unlucky in (ids := pl.read_json(content)["id"].to_list()):
                    assert (transform, key) in dead, f"{key} with {ids} is nowhere"
                    result.dead.add((transform, key))
                    rejected -= {f"{transform}/{key}.error.json"}  # of an older version: silver's turn has not come
                    self._check_given_up(transform, key, content, rejected)
                else:
                    self._check_silver(transform, key, content, rejected)
                    result.silver.add((transform, key))
        assert dead == result.dead, "what is in silver is in no dead-letter queue"
        self._check_names(result)
        assert not rejected, f"left in quarantine: {sorted(rejected)}"
        return result

    def _check_given_up(self, transform: str, key: str, content: bytes, quarantined: set[str]) -> None:
        """Files that the code's bug killed have a document in quarantine, or reconciliation would send them again."""
        name = failed_key(transform, key)
        assert name in quarantined, f"nothing says that {transform} gave up on {key}"
        document = json.loads((self.lake.bucket("dl-quarantine-layer") / name).read_bytes())
        assert (document["dead"], document["bronze"]["etag"]) == (True, hashlib.md5(content).hexdigest())
        quarantined.discard(name)

    def _check_names(self, actual: Accounted) -> None:
        """Nothing else is in silver, except earlier results of failed files."""
        silver = {head.key for head in self.lake.store("dl-silver-layer", foreign_writers=False).list()}
        good = {silver_key(transform, key) for transform, key in actual.silver}
        may = {silver_key(transform, key) for transform, key in actual.quarantined | actual.dead}
        assert good <= silver
        schemas = {schema_key(transform) for transform in ("rows", "totals", "fragile")}
        assert silver <= good | may | schemas, "silver of nothing"

    def _check_silver(self, transform: str, key: str, content: bytes, quarantined: set[str]) -> None:
        ids = pl.read_json(content)["id"].to_list()
        name = silver_key(transform, key)
        head = self.lake.store("dl-silver-layer", foreign_writers=False).head(name)
        lineage = Lineage.from_metadata(head.metadata) if head else None
        assert lineage is not None, f"{key} is nowhere"
        assert (lineage.bronze_etag, lineage.bronze_key) == (hashlib.md5(content).hexdigest(), key)
        frame = pl.read_parquet(self.lake.bucket("dl-silver-layer") / name)
        if transform == "totals":
            assert frame["total"].to_list() == [sum(ids)]
            return
        if transform == "fragile":
            assert frame["id"].to_list() == ids
            return
        good = [number for number in ids if number < 1000]
        assert frame.rows() == [(number, number * 2) for number in good]
        bad = len(ids) - len(good)
        assert lineage.rows_rejected == bad
        name = f"{transform}/{key}.rejected.parquet"
        if bad:
            assert name in quarantined, f"{bad} rows of {key} are nowhere"
            assert pl.read_parquet(self.lake.bucket("dl-quarantine-layer") / name).height == bad
            quarantined.discard(name)


@pytest.fixture
def crashable(tmp_path: Path) -> Crashable:
    result = Crashable(tmp_path)
    result.define(UNLUCKY)
    result.bronze.mkdir(parents=True)
    return result


def kill(process: subprocess.Popen[bytes]) -> None:
    """As a power switch would; its workers go with it."""
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    assert process.stderr is not None
    process.stderr.close()
