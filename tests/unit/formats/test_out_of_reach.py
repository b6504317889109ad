"""Types that Polars lacks, and values beyond the range of their type: kept exactly or refused, never another value."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from datetime import UTC, datetime, time
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from silversmith.errors import DataError
from silversmith.formats import ROW, read
from silversmith.stores import Head, Source
from tests.examples import examples

Opener = Callable[..., Source]
DAY = 24 * 60 * 60

UNITS = [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)]


def as_file(table: Any) -> tuple[bytes, str]:
    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return out.getvalue(), "x.arrow"


def as_stream(table: Any) -> tuple[bytes, str]:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return out.getvalue(), "x.arrows"


def as_parquet(table: Any, **options: Any) -> tuple[bytes, str]:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue(), "x.parquet"


def times(seconds: list[int | None], unit: str, factor: int) -> Any:
    storage, kind = (pa.int32(), pa.time32) if unit in {"s", "ms"} else (pa.int64(), pa.time64)
    return pa.array([None if value is None else value * factor for value in seconds], storage).view(kind(unit))


@given(
    seconds=st.lists(st.none() | st.integers(0, DAY - 1) | st.sampled_from([-1, DAY, 2 * DAY]), min_size=1, max_size=6),
    unit=st.sampled_from(UNITS),
    write=st.sampled_from([as_file, as_stream, as_parquet]),
)
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_times_of_day_are_kept_or_refused(
    in_memory: Opener, seconds: list[int | None], unit: tuple[str, int], write: Callable[[Any], tuple[bytes, str]]
) -> None:
    table = pa.table({"l": [[1, 2]] * len(seconds), "t": times(seconds, *unit), "n": list(range(len(seconds)))})
    source = in_memory(*write(table))
    if all(second is None or 0 <= second < DAY for second in seconds):
        expected = [
            None if second is None else time(second // 3600, second // 60 % 60, second % 60) for second in seconds
        ]
        assert read(source).rows.collect()["t"].to_list() == expected
    else:
        with pytest.raises(DataError, match='"t" has') as caught:
            read(source)
        assert caught.value.code in {"UnsupportedArrow", "UnsupportedParquet"}


def test_times_of_day_without_statistics(in_memory: Opener) -> None:
    for seconds, good in (([1, 2], True), ([1, DAY], False), ([1, None], False)):
        table = pa.table({"t": times([*seconds], "us", 10**6)})
        source = in_memory(*as_parquet(table, write_statistics=False))
        if good:
            assert read(source).rows.collect().height == 2
        else:
            with pytest.raises(DataError, match="may have"):
                read(source)
    required = pa.table({"t": times([1, 2], "us", 10**6)}, pa.schema([pa.field("t", pa.time64("us"), nullable=False)]))
    assert read(in_memory(*as_parquet(required, write_statistics=False))).height == 2


@pytest.mark.parametrize("write", [as_file, as_stream, as_parquet])
def test_times_of_day_in_a_list_are_refused(in_memory: Opener, write: Callable[[Any], tuple[bytes, str]]) -> None:
    with pytest.raises(DataError, match="in a list") as caught:
        read(in_memory(*write(pa.table({"t": pa.array([[1]], pa.list_(pa.time32("s")))}))))
    assert caught.value.place.column.startswith("t")  # type: ignore[union-attr]


TYPES: dict[str, Any] = {
    "run-end encoded": pa.RunEndEncodedArray.from_arrays([2, 3], pa.array([1, 2])),
    "a list view": pa.array([[1, 2]] * 3, pa.list_view(pa.int64())),
    "a large list view": pa.array([[1, 2]] * 3, pa.large_list_view(pa.int64())),
    "a union": pa.UnionArray.from_sparse(
        pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])]
    ),
    "an interval": pa.array([(1, 2, 3)] * 3, pa.month_day_nano_interval()),
    "256 bits": pa.array([1, 2, 3], pa.decimal256(70, 2)),
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("write", [as_file, as_stream])
def test_types_that_polars_has_not_are_named(
    in_memory: Opener, in_file: Opener, name: str, write: Callable[[Any], tuple[bytes, str]]
) -> None:
    data, key = write(pa.table({"a": [1, 2, 3], "b": TYPES[name]}))
    for opened in (in_memory, in_file):
        with pytest.raises(DataError, match=name) as caught:
            read(opened(data, key))
        assert (caught.value.code, caught.value.place.column) == ("UnsupportedArrow", "b")


@pytest.mark.parametrize("write", [as_file, as_stream])
def test_two_fields_of_one_name_in_a_struct(in_memory: Opener, write: Any) -> None:
    cells = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(DataError, match='2 columns have the name "a"') as caught:
        read(in_memory(*write(pa.table({"s": cells}))))
    assert caught.value.code == "DuplicateColumns"


def with_int96(days: list[int], unit: str = "ns") -> bytes:
    """A Parquet file with a timestamp of 96 bits at the beginning of each Julian day; its Arrow schema has the unit."""
    first = [10**9 * (number + 1) for number in range(len(days))]
    data = bytearray(
        as_parquet(
            pa.table({"t": pa.array(first, pa.timestamp("ns")).cast(pa.timestamp(unit))}),
            use_deprecated_int96_timestamps=True,
            use_dictionary=False,
            compression="none",
        )[0]
    )
    at = bytes(data).index(struct.pack("<qI", first[0], 2440588))
    for number, day in enumerate(days):
        data[at + 12 * number : at + 12 * number + 12] = struct.pack("<qI", 0, day)
    return bytes(data)


@given(st.lists(st.integers(2440588 - 106751, 2440588 + 106751) | st.integers(0, 2**32 - 1), min_size=1, max_size=5))
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_old_timestamps_are_kept_or_refused(in_memory: Opener, days: list[int]) -> None:
    source = in_memory(with_int96(days), "x.parquet")
    if all(abs(day - 2440588) <= 106751 for day in days):
        actual = read(source).rows.select(pl.col("t").to_physical()).collect()["t"].to_list()
        assert actual == [(day - 2440588) * DAY * 10**9 for day in days]
    else:
        with pytest.raises(DataError, match="INT96") as caught:
            read(source)
        assert caught.value.code == "UnsupportedParquet"


@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("days", [106751, -106751, 106752, -106752, 2_932_896, -719_162])
def test_old_timestamps_whose_arrow_schema_has_another_unit(in_memory: Opener, days: int, unit: str) -> None:
    source = in_memory(with_int96([2440588, 2440588 + days], unit), "x.parquet")
    if abs(days) <= 106751:
        assert read(source).rows.collect()["t"].dt.epoch("s").to_list() == [0, days * DAY]
    else:
        with pytest.raises(DataError, match="INT96") as caught:
            read(source)
        assert caught.value.code == "UnsupportedParquet"


@pytest.mark.full
def test_no_word_of_a_panic_reaches_a_user(in_memory: Opener) -> None:
    data = bytearray(as_parquet(pa.table({"a": list(range(100)), "s": ["x" * 20] * 100}), compression="none")[0])
    seen = set()
    for at in range(4, len(data) - 8):
        changed = bytes(data[:at]) + bytes([data[at] ^ 0xFF]) + bytes(data[at + 1 :])
        try:
            read(in_memory(changed, "x.parquet")).rows.drop(ROW).collect()
        except DataError as error:
            seen.add(error.message)
    assert seen
    assert not [text for text in seen if "unwrap" in text or "Panic" in text or "panicked" in text]


@pytest.mark.parametrize("write", [as_file, as_stream])
@pytest.mark.parametrize(
    ("cells", "kind"),
    [([1, None, 3], pa.int64()), (["x", None, "z"], pa.string()), ([[1], None, [2]], pa.list_(pa.int64()))],
)
def test_nulls_that_a_batch_keeps_silent_are_nulls(
    in_memory: Opener, in_file: Opener, write: Callable[[Any], tuple[bytes, str]], cells: list[Any], kind: pa.DataType
) -> None:
    """Polars makes values of them: it believes the count."""
    data, key = write(pa.table({"a": pa.array(cells, kind), "b": [1, 2, 3]}))
    silent = data.replace(struct.pack("<qq", 2, 1), struct.pack("<qq", 2, 0))
    assert silent != data
    for opened in (in_memory, in_file):
        assert read(opened(silent, key)).rows.collect()["a"].to_list() == cells


MOST_SECONDS = (2**63 - 1) // 1000


@pytest.mark.parametrize("write", [as_file, as_stream])
@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("s", "Europe/Berlin"), pa.duration("s")])
@given(cells=st.lists(st.none() | st.integers(-MOST_SECONDS, MOST_SECONDS), min_size=1, max_size=5))
def test_seconds_are_kept(write: Callable[[Any], tuple[bytes, str]], kind: pa.DataType, cells: list[Any]) -> None:
    data, key = write(pa.table({"b": ["x"] * len(cells), "t": pa.array(cells, pa.int64()).view(kind)}))
    frame = read(Source(Head(key, "e", len(data), datetime.now(UTC)), data, None)).rows.collect()
    assert frame["t"].to_physical().to_list() == [None if cell is None else cell * 1000 for cell in cells]
    is_duration = pa.types.is_duration(kind)
    assert frame["t"].dtype == (pl.Duration("ms") if is_duration else pl.Datetime("ms", getattr(kind, "tz", None)))
    assert frame["b"].to_list() == ["x"] * len(cells)


@pytest.mark.parametrize("write", [as_file, as_stream])
@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.duration("s")])
@pytest.mark.parametrize("number", [MOST_SECONDS + 1, -MOST_SECONDS - 1, 2**62, 2**63 - 1, -(2**63)])
def test_seconds_that_overflow_are_refused(
    in_memory: Opener, write: Callable[[Any], tuple[bytes, str]], kind: pa.DataType, number: int
) -> None:
    seconds = pa.array([1, number], pa.int64()).view(kind)
    with pytest.raises(DataError, match="seconds") as caught:
        read(in_memory(*write(pa.table({"t": seconds}))))
    assert caught.value.code == "UnsupportedArrow"
    nested = pa.StructArray.from_arrays([seconds], ["x"])
    with pytest.raises(DataError, match="struct"):
        read(in_memory(*write(pa.table({"t": nested}))))
