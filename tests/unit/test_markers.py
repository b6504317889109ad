"""Markers of folders and of jobs lie beside data, and are none: they are passed over, counted and reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.events import ObjectEvent
from silversmith.function.outcome import Verdict
from silversmith.keypatterns import KeyPattern
from silversmith.lineage import error_key
from silversmith.operations.check import check, plan
from silversmith.operations.infer import Unreadable, infer
from silversmith.operations.reconcile import reconcile
from silversmith.operations.reports import status, trace
from silversmith.operations.send import Range, replay
from silversmith.testing import run
from tests.unit.shop import ORDERS, Shop

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

    Make = Callable[[Pipeline], Bench]

#: Objects of no bytes that stand for folders, and marks of jobs, which may have some.
FOLDERS = ["f/", "f/g/", "f_$folder$", "f/g_$folder$"]
JOBS = [
    "f/_SUCCESS",
    "f/_committed_123456",
    "f/_started_123456",
    "f/.part-0.csv.crc",
    "f/part-0.csv.crc",
    "f/_temporary/0/task_1/part-0.csv",
    "f/__magic/job-1/part-0.csv",
    "f/__magic_job-1/part-0.csv",
    "f/.spark-staging-1/part-0.csv",
    "f/.hive-staging_hive_1/part-0.csv",
]
DATA = [
    "f/_SUCCESS.csv",
    "f/SUCCESS",
    "f/my_SUCCESS",
    "f/_committed.csv/x",
    "f/_temporary.csv",
    "f/my_temporary/x.csv",
    "f/_orders.csv",
    "f/.orders.csv",
    "f/crc",
    "f/x.crc.csv",
    "f_$folder$/x.csv",
]
ALL = KeyPattern.parse("f*")


@pytest.mark.parametrize("key", FOLDERS)
def test_an_object_without_bytes_may_stand_for_a_folder(key: str) -> None:
    assert ALL.passes_over(key, 0)
    assert not ALL.passes_over(key, 1)
    assert not ALL.passes_over(key, None)


@pytest.mark.parametrize("key", JOBS)
@pytest.mark.parametrize("size", [0, 8, None])
def test_the_marks_of_jobs_are_known_by_their_names(key: str, size: int | None) -> None:
    assert ALL.passes_over(key, size)


@pytest.mark.parametrize("key", DATA)
@pytest.mark.parametrize("size", [0, 8, None])
def test_names_that_only_look_so_are_data(key: str, size: int | None) -> None:
    assert not ALL.passes_over(key, size)


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ("*/_SUCCESS", "f/_SUCCESS"),
        ("f/_SUCCESS", "f/_SUCCESS"),
        ("*/", "f/"),
        ("*_$folder$", "f_$folder$"),
        ("f/_committed_*", "f/_committed_1"),
        ("*.crc", "f/x.crc"),
        ("*/_temporary/*", "f/_temporary/0/x.csv"),
    ],
)
def test_a_pattern_that_names_markers_takes_them(pattern: str, key: str) -> None:
    assert KeyPattern.parse(pattern).matches(key)
    assert not KeyPattern.parse(pattern).passes_over(key, 0)


@given(st.text(min_size=1, max_size=20), st.integers(1, 10**6))
def test_objects_with_bytes_and_an_ordinary_name_are_data(key: str, size: int) -> None:
    is_marker = ALL.passes_over(key, size)
    assert not is_marker or any(word in key for word in ("_SUCCESS", "_committed_", "_started_", ".crc", "_temporary"))


@pytest.mark.parametrize("key", JOBS)
@pytest.mark.parametrize("content", [b"", b'{"id": 1}'])
def test_nothing_becomes_of_a_marker(tmp_path: Path, key: str, content: bytes) -> None:
    shop = Shop(tmp_path)
    outcome = shop.process(content, key=key)
    assert (outcome.verdict, outcome.size) == (Verdict.MARKER, len(content))
    assert list(shop.silver.list()) == list(shop.quarantine.list()) == []


def test_a_file_without_bytes_is_still_an_empty_file(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    outcome = shop.process(b"", key="orders/may.csv")
    assert outcome.verdict is Verdict.QUARANTINED
    assert outcome.error is not None
    assert outcome.error["code"] == "EmptyFile"


def test_a_marker_that_is_gone_is_gone(tmp_path: Path) -> None:
    assert Shop(tmp_path).process(key="f/_SUCCESS").verdict is Verdict.GONE


def test_documents_about_a_marker_leave_quarantine(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.quarantine.put(error_key("orders", "f/_SUCCESS"), b"{}")
    shop.process(b"", key="f/_SUCCESS")
    assert list(shop.quarantine.list()) == []


def test_a_transform_whose_pattern_names_a_marker_reads_it(tmp_path: Path) -> None:
    pipeline = Pipeline("shop")
    pipeline.transform("f/_SUCCESS", name="orders")(lambda rows: rows)
    outcome = Shop(tmp_path).process(
        b'{"id": 1}', pipeline.find("orders"), key="f/_SUCCESS", event=ObjectEvent("bronze", "f/_SUCCESS")
    )
    assert outcome.verdict is Verdict.COMMITTED
    assert ORDERS.name == outcome.transform


def shop() -> Pipeline:
    pipeline = Pipeline("shop")
    pipeline.transform("f/*", name="orders")(lambda rows: rows)
    return pipeline


def test_the_engine_counts_them_and_trace_tells(make: Make) -> None:
    bench = make(shop())
    bench.land("f/_SUCCESS", text="")
    bench.land("f/_committed_1", text="{}")
    bench.land("f/a.csv")
    assert sorted(report.outcomes[0].verdict.value for report in bench.work()) == ["committed", "marker", "marker"]
    with bench.opened() as target:
        (messages,) = status(bench.pipeline, target, now=bench.now).transforms
        assert (messages.markers, messages.done, messages.quarantined) == (2, 1, 0)
        (part,) = trace("f/_SUCCESS", bench.pipeline, target).transforms
        assert part.state == "marker"
        assert part.last is not None
        assert part.last.verdict == "marker"


def test_reconcile_and_replay_pass_them_over(make: Make) -> None:
    bench = make(shop())
    bench.land("f/_SUCCESS", "f/_temporary/0/x.csv", "f/a.csv")
    bench.lose()
    with bench.opened() as target:
        (sent,) = replay(bench.pipeline, target, Range(KeyPattern.parse("*")))
        assert (sent.keys, sent.markers) == (["f/a.csv"], 2)
    bench.work()
    with bench.opened() as target:
        (batch,) = reconcile(bench.pipeline, target)
    assert [finding.key for finding in batch.markers] == ["f/_SUCCESS", "f/_temporary/0/x.csv"]
    assert (batch.checked, list(batch.found)) == (3, [])


def test_infer_passes_them_over(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".a.csv.crc").write_bytes(b"crc\0")
    (tmp_path / "a.csv").write_text("x\n1\n")
    inferred = infer(plan([tmp_path], None), None)
    assert [Path(file.file).name for file in inferred.files] == ["a.csv"]


def test_infer_says_where_there_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(Unreadable, match="no data"):
        infer(plan([tmp_path], None), None)


def test_the_test_kit_passes_them_over() -> None:
    result = run(shop(), {"f/_SUCCESS": b"", "f/a.csv": b"x\n1\n"})
    assert not result.errors
    assert not result.failures
    assert len(result.silver) == 1


def test_check_passes_them_over(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.csv").touch()
    outcomes = {Path(each.file).name: each.outcome for each in check(plan([tmp_path], None), None, None)}
    assert outcomes == {"_SUCCESS": "marker", "a.csv": "silver", "b.csv": "quarantine"}
