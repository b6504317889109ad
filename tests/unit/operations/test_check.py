"""Files are checked without a lake: every file gets an answer, whatever it does to its reader."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from silversmith.operations import WrongCall
from silversmith.operations.check import CheckedFile, Job, check, check_here, plan
from silversmith.pipeline import Pipeline, load

PIPELINE = """
import ctypes
import os
import time

import polars as pl

from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")


@pipeline.transform("orders/*.csv", contract=Contract(schema={"n": pl.Int64}, required=["n"]))
def orders(rows):
    print("not for the one who asked")
    return rows


@pipeline.transform("*.csv", timeout=30, memory=512)
def every(rows):
    return rows.filter(pl.col("n").is_not_null())


@pipeline.transform("bug.json")
def buggy(rows):
    return rows.select("no such column")


@pipeline.transform("sleep.json", timeout=1)
def sleepy(rows):
    time.sleep(600)


@pipeline.transform("grow.json", memory=256)
def greedy(rows):
    held = []
    while True:
        held.append(bytearray(16 * 1024 * 1024))
        time.sleep(0.01)


@pipeline.transform("die.json")
def deadly(rows):
    os._exit(3)


@pipeline.transform("segfault.json")
def wild(rows):
    ctypes.string_at(0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def put(path: Path, text: str = '{"a":1}') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def checked(*paths: Path, pipeline: str | None = None) -> list[CheckedFile]:
    loaded = load(pipeline) if pipeline is not None else None
    return list(check(plan(paths, loaded), loaded, pipeline))


def test_without_a_pipeline(folder: Path) -> None:
    good, bad = put(folder / "a.csv", "a;b\n1;2\n3\n"), put(folder / "b.json", "[1,\n2")
    first, second = checked(good, bad)
    assert first.to_dict() == {
        "file": str(good),
        "outcome": "silver",
        "rows": 1,
        "rejected": 1,
        "error": None,
        "format": "csv",
        "dialect": {**first.dialect, "separator": ";"},
    }
    assert first.first == [{"row": 2, "reasons": ["line 3: has 1 field, the header has 2"]}]
    assert (second.outcome, second.rows, second.rejected, second.format) == ("quarantine", 0, 0, "json")
    assert second.error is not None
    assert second.error["code"] == "UnreadableJson"
    assert second.error["place"]["line"] == 2
    assert second.error["hint"]


def test_it_says_where_the_rows_of_a_document_are(folder: Path) -> None:
    (answer,) = checked(put(folder / "a.json", '{"next": 2, "items": [{"n": 1}, {"n": 2}]}'))
    assert answer.rows == 1
    assert "Json(pointer='/items')" in answer.dialect["hint"]


def test_with_a_pipeline_every_transform_that_matches(folder: Path) -> None:
    put(folder / "orders/a.csv", "n\n1\nx\n")
    report = checked(Path("orders"), pipeline="pipeline.py")
    assert [(answer.transform, answer.outcome, answer.rows, answer.rejected) for answer in report] == [
        ("orders", "silver", 1, 1),
        ("every", "silver", 2, 0),
    ]
    assert report[0].first[0]["row"] == 2
    assert "is not Int64" in report[0].first[0]["reasons"][0]


def test_a_file_that_no_transform_matches(folder: Path) -> None:
    (answer,) = checked(put(folder / "a.xml"), pipeline="pipeline.py")
    assert (answer.outcome, answer.transform, answer.is_good) == ("unmatched", None, False)
    assert answer.error is not None
    assert answer.error["code"] == "NoTransform"


def test_the_user_s_own_bug_is_no_fault_of_the_data(folder: Path) -> None:
    (answer,) = checked(put(folder / "bug.json"), pipeline="pipeline.py")
    assert (answer.outcome, answer.is_good) == ("failed", False)
    assert answer.error is not None
    assert answer.error["code"] == "TransformError"
    assert "no such column" in answer.error["message"]


TABLE = """
import polars as pl

from silversmith import Pipeline

pipeline = Pipeline("shop")


@pipeline.transform("orders/*.csv")
def orders(rows):
    return rows.with_columns({cast})


pipeline.table("orders", of=orders, partition_by={partition_by})
"""


@pytest.mark.parametrize(
    ("cast", "partition_by", "code", "said"),
    [
        ("pl.col('n').cast(pl.Float64)", ["n"], "PartitionType", "'n', which is double"),
        ("pl.col('n').cast(pl.Decimal(9, 2))", ["n"], "PartitionType", "decimal(9,2)"),
        ("d=1", ["day"], "MissingColumn", "it has: n, d"),
        ("pl.col('n').cast(pl.UInt128)", [], "UnreadableSchema", "UInt128"),
    ],
)
def test_a_table_that_cannot_have_the_columns(
    folder: Path, cast: str, partition_by: list[str], code: str, said: str
) -> None:
    (folder / "pipeline.py").write_text(TABLE.format(cast=cast, partition_by=partition_by))
    rows, no_rows = checked(
        put(folder / "orders/a.csv", "n\n1\n"), put(folder / "orders/b.csv", "n\n"), pipeline="pipeline.py"
    )
    assert (rows.outcome, rows.is_good, no_rows.outcome) == ("failed", False, "silver")
    assert rows.error is not None
    assert rows.error["code"] == code
    assert said in rows.error["message"]
    assert rows.error["hint"]


def test_columns_that_silver_cannot_have(folder: Path) -> None:
    (folder / "pipeline.py").write_text(TABLE.format(cast="N=1", partition_by=["n"]))
    (answer,) = checked(put(folder / "orders/a.csv", "n\n1\n"), pipeline="pipeline.py")
    assert answer.outcome == "quarantine"
    assert answer.error is not None
    assert answer.error["code"] == "AmbiguousColumn"


def test_a_table_that_has_the_columns(folder: Path) -> None:
    (folder / "pipeline.py").write_text(TABLE.format(cast="pl.col('n').cast(pl.Int128)", partition_by=["n"]))
    (answer,) = checked(put(folder / "orders/a.csv", "n\n1\n"), pipeline="pipeline.py")
    assert (answer.outcome, answer.rows) == ("silver", 1)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        pytest.param("sleep.json", "TimedOut", "1 s", marks=pytest.mark.full),
        pytest.param("grow.json", "OutOfMemory", "the limit is 256 MB", marks=pytest.mark.full),
        ("die.json", "Crashed", "exit code 3"),
        pytest.param("segfault.json", "Crashed", "SIGSEGV", marks=pytest.mark.full),
    ],
)
def test_a_process_that_ends_badly_costs_one_file(folder: Path, name: str, code: str, said: str) -> None:
    paths = [put(folder / "a.csv", "n\n1\n"), put(folder / name), put(folder / "b.csv", "n\n1\n")]
    before, report, after = checked(*paths, pipeline="pipeline.py")
    assert (before.outcome, after.outcome) == ("silver", "silver")
    assert report.outcome == "failed"
    assert report.error is not None
    assert report.error["code"] == code
    assert said in report.error["message"]


def test_a_file_that_cannot_be_opened(folder: Path) -> None:
    path = put(folder / "a.csv", "a\n1\n")
    jobs = plan([path], None)
    path.unlink()
    (answer,) = check(jobs, None, None)
    assert (answer.outcome, answer.error and answer.error["code"]) == ("failed", "FileNotFoundError")


def test_names_that_are_no_text(folder: Path) -> None:
    path = os.fsencode(folder) + b"/caf\xe9.csv"
    with open(path, "wb") as file:  # noqa: PTH123 -- a path of bytes
        file.write(b"a\n1\n")
    (answer,) = checked(Path(os.fsdecode(path)))
    assert answer.outcome == "silver"
    assert answer.file == os.fsdecode(path)


@pytest.mark.full
def test_nothing_is_left_behind(folder: Path, tmp_path: Path) -> None:
    put(folder / "data/a.csv", "a\n" + "1\n" * 5_000_000)
    (answer,) = checked(folder / "data")
    assert (answer.outcome, answer.rows) == ("silver", 5_000_000)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.csv", "pipeline.py"]


def test_the_files_to_check(folder: Path) -> None:
    pipeline = Pipeline("p")
    for name, pattern in (("by_name", "a.csv"), ("by_path", "data/a.csv"), ("below", "deep/b.csv")):
        pipeline.transform(pattern, name=name)(lambda rows: rows)
    put(folder / "data/a.csv")
    put(folder / "data/deep/b.csv")
    jobs = plan([Path("data")], pipeline)
    assert [(job.key, job.transform) for job in jobs] == [("data/a.csv", "by_path"), ("deep/b.csv", "below")]
    pipeline.transform("*.csv", name="any")(lambda rows: rows)
    (folder / "elsewhere").mkdir()
    os.chdir(folder / "elsewhere")
    jobs = plan([folder / "data/deep/b.csv"], pipeline)
    assert [(job.key, job.transform) for job in jobs] == [("deep/b.csv", "below"), ("deep/b.csv", "any")], (
        "the one key that most transforms match"
    )
    os.chdir(folder)
    with pytest.raises(WrongCall, match="does not exist"):
        plan([folder / "nowhere"], None)
    (folder / "empty").mkdir()
    with pytest.raises(WrongCall, match="no files"):
        plan([folder / "empty"], None)


def test_half_characters_in_messages_are_spelled_out(folder: Path) -> None:
    path = put(folder / "a.json", '{"\\ud800":1,')
    answer = check_here(Job(str(path), "a.json"), None, folder)
    str(answer).encode()
    assert answer["outcome"] == "quarantine"
