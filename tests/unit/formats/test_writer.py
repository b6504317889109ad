"""Written files are Parquet that any reader reads, and carry their lineage."""

from __future__ import annotations

import io
import json
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.exceptions import ComputeError

from silversmith.formats.writer import (
    all_parquet_bytes,
    count_rows,
    fill_lineage,
    parquet_bytes,
    parquet_sink,
    read_lineage,
    write_parquet,
)
from silversmith.lineage import PARQUET_ENTRY, Lineage
from tests.examples import examples

FRAME = pl.DataFrame({"a": range(1000), "silversmith": ["x"] * 1000})


def lineage(read: int = 0, written: int = 0, rejected: int = 0) -> Lineage:
    return Lineage(
        "flights/ä.csv",
        "etag",
        "v1",
        9,
        "01",
        "flights",
        "f" * 64,
        read,
        written,
        rejected,
        committed_at="now",
        attempt=1,
    )


@pytest.mark.parametrize(("rows", "codec"), [(0, b"SNAPPY"), (40, b"SNAPPY"), (40_000, b"ZSTD")])
def test_small_files_are_written_for_quick_readers(rows: int, codec: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet_bytes(pl.DataFrame({"a": range(rows)}, schema={"a": pl.Int64}), "{}"))
    with duckdb.connect() as connection:
        codecs = connection.execute("select distinct compression from parquet_metadata(?)", [str(path)]).fetchall()
    assert codecs in ([(codec.decode(),)], [])
    assert pl.read_parquet(path).height == rows


def test_a_frame_and_its_lineage_come_back(tmp_path: Path) -> None:
    path = tmp_path / "[x].parquet"
    write_parquet(FRAME, path, lineage(read=5).to_json())
    assert pl.read_parquet(path, glob=False).equals(FRAME)
    actual = read_lineage(path)
    assert actual == read_lineage(path.read_bytes()) == lineage(read=5).to_metadata()
    assert Lineage.from_metadata(actual) == lineage(read=5)
    assert count_rows(path) == 1000


VALUES = {
    pl.Int64(): st.integers(-(2**63), 2**63 - 1),
    pl.String(): st.text(max_size=20),
    pl.Float64(): st.floats(allow_nan=False),
    pl.Boolean(): st.booleans(),
    pl.List(pl.Int64()): st.lists(st.integers(0, 9), max_size=3),
}


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    height = draw(st.integers(0, 12))
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=4))
    columns = [
        pl.Series(f"c{place}", draw(st.lists(st.none() | VALUES[kind], min_size=height, max_size=height)), dtype=kind)
        for place, kind in enumerate(kinds)
    ]
    return pl.DataFrame(columns)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.tuples(frames(), st.text(st.characters(codec="utf-8"), max_size=30)), max_size=6))
def test_written_together_each_is_what_it_would_be_alone(some: list[tuple[pl.DataFrame, str]]) -> None:
    written = all_parquet_bytes(some)
    assert written == [parquet_bytes(frame, text) for frame, text in some]
    for (frame, text), body in zip(some, written, strict=True):
        assert pl.read_parquet(body).equals(frame)
        assert pl.read_parquet_metadata(io.BytesIO(body))[PARQUET_ENTRY] == text


def test_a_stream_is_filled_in_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(FRAME.lazy(), path, lineage().to_json())
    before = path.read_bytes()
    full = lineage(read=2**63, written=count_rows(path), rejected=2**62)
    fill_lineage(path, full.to_json())
    assert path.stat().st_size == len(before)
    assert pl.read_parquet(path).equals(FRAME)
    assert Lineage.from_metadata(read_lineage(path) or {}) == full
    fill_lineage(path, lineage().to_json())
    assert Lineage.from_metadata(read_lineage(path) or {}) == lineage()


def test_two_files_in_one_pass(tmp_path: Path) -> None:
    paths = [tmp_path / "good.parquet", tmp_path / "bad.parquet"]
    rows = FRAME.lazy()
    plans = [
        parquet_sink(rows.filter(keep), path, "{}")
        for path, keep in zip(paths, [pl.col("a") < 900, pl.col("a") >= 900], strict=True)
    ]
    pl.collect_all(plans, engine="streaming")
    assert [count_rows(path) for path in paths] == [900, 100]


def test_there_must_be_room(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(parquet_bytes(FRAME, "{}"))
    with pytest.raises(ValueError, match="no room"):
        fill_lineage(path, '{"a": "b"}')
    FRAME.write_parquet(path)
    with pytest.raises(ValueError, match="no room"):
        fill_lineage(path, "{}")
    path.write_bytes(b"not parquet at all")
    with pytest.raises(ComputeError):
        fill_lineage(path, "{}")


def test_no_lineage_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    FRAME.write_parquet(path)
    assert read_lineage(path) is None
    assert read_lineage(b"garbage") is None
    assert read_lineage(parquet_bytes(FRAME, "no json")) is None
    assert read_lineage(parquet_bytes(FRAME, "[1]")) is None
    with pytest.raises(FileNotFoundError):
        read_lineage(tmp_path / "nothing")


@given(
    name=st.text(min_size=1, max_size=20),
    first=st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    second=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_filling_changes_nothing_else(tmp_path: Path, name: str, first: str, second: str) -> None:
    path = tmp_path / "x.parquet"
    before, after = json.dumps({"k": first}), json.dumps({"k": second})
    frame = pl.DataFrame({PARQUET_ENTRY: [before, after], f"{PARQUET_ENTRY}{len(name)}": [1, 2]})
    write_parquet(frame.lazy(), path, before)
    fill_lineage(path, after)
    assert pl.read_parquet(path).equals(frame)
    assert read_lineage(path) == {"k": second}
    metadata = pl.read_parquet_metadata(path)
    assert set(metadata) == {PARQUET_ENTRY, "ARROW:schema"}
