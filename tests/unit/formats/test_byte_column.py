"""Bytes as a column: the same numbers, not copied, and let go of when the column is."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from silversmith.formats.byte_column import _held, byte_column


@given(st.binary())
def test_the_numbers_are_those_of_the_bytes(data: bytes) -> None:
    column = byte_column(data)
    assert column.dtype == pl.UInt8
    assert column.null_count() == 0
    assert column.to_list() == list(data)


def test_bytes_live_as_long_as_any_part_of_the_column_and_no_longer() -> None:
    before = len(_held)
    data = bytes(range(256)) * 1000
    column = byte_column(data)
    part = column.slice(255 * 1000)
    del data, column
    gc.collect()
    assert len(_held) == before + 1
    assert part.to_list() == list(bytes(range(256)) * 1000)[255 * 1000 :]
    del part
    assert len(_held) == before


def test_in_many_threads_and_by_the_engine() -> None:
    before = len(_held)

    def total(seed: int) -> bool:
        data = bytes([seed]) * 100_000
        frame = byte_column(data).alias("byte").to_frame()
        found = frame.lazy().select(pl.col("byte").cast(pl.Int64).sum()).collect(engine="streaming").item()
        return bool(found == seed * 100_000)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(total, range(200)))
    gc.collect()
    assert len(_held) == before
