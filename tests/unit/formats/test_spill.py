"""Frames that are kept one after the other are the same rows, in memory and in files."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from silversmith.formats import ROW
from silversmith.formats.archives.content import Scratch
from silversmith.formats.spill import Spill, table_of

NAMES = st.sets(st.sampled_from(["a", "b", "*", "^a.*$"]), min_size=1)
FRAMES = st.lists(
    st.builds(
        lambda names, cells: pl.DataFrame({name: pl.Series(cells, dtype=pl.String) for name in sorted(names)}),
        NAMES,
        st.lists(st.sampled_from(["x", "long text " * 9, None]), max_size=5),
    ),
    min_size=1,
    max_size=8,
)


@given(frames=FRAMES, in_memory=st.sampled_from([0, 40, 300, 1_000_000]))
def test_the_same_rows_wherever_they_are_kept(frames: list[pl.DataFrame], in_memory: int) -> None:
    rows = [frame for place, frame in enumerate(frames) if frame.height or not place]
    expected = pl.concat(rows, how="diagonal")
    with tempfile.TemporaryDirectory() as folder:
        spill = Spill(Scratch(Path(folder)), in_memory=in_memory)
        for frame in frames:
            spill.add(frame)
        assert spill.height == expected.height
        whole = spill.frame()
        assert_frame_equal(spill.rows().collect(), expected, check_column_order=False)
        assert (whole is None) == bool(list(Path(folder).rglob("*.arrow")))
        if whole is not None:
            assert_frame_equal(whole, expected, check_column_order=False)


@pytest.mark.parametrize("in_memory", [0, 1000, 1_000_000])
def test_a_table_of_frames_numbers_its_rows(tmp_path: Path, in_memory: int) -> None:
    frames = (pl.DataFrame({"n": range(start, start + 100)}) for start in range(0, 1000, 100))
    table = table_of(frames, "numbers", Scratch(tmp_path), in_memory=in_memory)
    rows = table.rows.collect()
    assert rows["n"].to_list() == list(range(1000))
    assert rows[ROW].to_list() == list(range(1, 1001))
    assert rows.schema[ROW] == pl.UInt64
    assert (table.height, table.in_memory) == (1000, in_memory == 1_000_000)


def test_temporary_files_live_as_long_as_the_table(tmp_path: Path) -> None:
    table = table_of([pl.DataFrame({"n": [1, 2]})], "numbers", Scratch(tmp_path), in_memory=0)
    assert list(tmp_path.rglob("*.arrow"))
    assert table.rows.collect().height == 2
    del table
    gc.collect()
    assert not list(tmp_path.iterdir())
