"""Files of `tests/data/faults` that were read wrongly once, each made by hand for this project."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from silversmith.errors import DataError
from silversmith.formats import ROW, Table, read, reading_errors
from silversmith.stores import Head, Source

FAULTS = Path(__file__).parent / "faults"


@pytest.fixture(params=["in memory", "as a file"])
def as_source(request: pytest.FixtureRequest) -> object:
    def source(name: str) -> Source:
        path = FAULTS / name
        head = Head(name, "etag", path.stat().st_size, datetime.now(UTC))
        return Source(head, path.read_bytes(), None) if request.param == "in memory" else Source(head, None, path)

    return source


def rows(table: Table) -> list[dict[str, object]]:
    with reading_errors(table):
        return table.rows.drop(ROW).collect().to_dicts()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("snappy_empty.avro", []),
        ("gb18030_bom.csv", [{"a": 1, "b": 2}]),
        ("sjis.xml", [{"x": 1}]),
    ],
)
def test_it_is_read(as_source: object, name: str, expected: list[dict[str, object]]) -> None:
    assert rows(read(as_source(name))) == expected  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("int96.parquet", "UnsupportedParquet", ['"t"', "INT96"]),
        ("v2nulls.parquet", "UnreadableParquet", ['"a"', "0 nulls", "it has 1"]),
        ("new_logical_type.parquet", "UnsupportedParquet", ['"id"', "GEOMETRY"]),
        ("listview.arrow", "UnsupportedArrow", ['"a"', "list view"]),
        ("dup.arrow", "DuplicateColumns", ['"a"']),
        ("time24.arrow", "UnsupportedArrow", ['"t"', "24:00"]),
        ("pretty.jsonl", "UnreadableJson", ["JSON and not NDJSON"]),
    ],
)
def test_it_is_refused_and_says_why(as_source: object, name: str, code: str, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read(as_source(name))  # type: ignore[operator]
    assert caught.value.code == code
    assert all(word in caught.value.message for word in words)
    assert caught.value.hint


def test_a_file_that_unpacks_to_much_is_not_unpacked_into_memory(as_source: object) -> None:
    table = read(as_source("packed.parquet"))  # type: ignore[operator]
    assert not table.in_memory
    assert table.height == 240_000
    sums = table.rows.select(pl.col("id").sum(), pl.col("s").str.len_bytes().min()).collect(engine="streaming")
    assert sums.row(0)[0] == sum(range(240_000))
