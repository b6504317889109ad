"""The members of an archive as one table: what goes together does so without loss, anything else is refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats import ROW, read
from silversmith.stores import Source
from tests.examples import examples

Opener = Callable[..., Source]


def zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


CELLS = st.sampled_from(["1", "007", "2.5", "n/a", "", "true", "2020-01-02", "2020-01-02 03:04", "-0", "1e5"])


@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 12), max_size=3),
    keep=st.booleans(),
)
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_csv_in_parts_is_what_it_is_in_one(
    in_memory: Opener, rows: list[tuple[str, str]], cuts: list[int], keep: bool
) -> None:
    """A blank line is no record, so that a record of nothing is written with its comma."""
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    text = [f"{left},{right}\n" for left, right in rows]
    parts = {
        f"{number}.csv": ("a,b\n" + "".join(text[start:end])).encode()
        for number, (start, end) in enumerate(pairwise(bounds))
    }
    declared = {"a": pl.Int64()} if keep else {}
    whole = read(in_memory(("a,b\n" + "".join(text)).encode()), declared=declared)
    joined = read(in_memory(zipped(parts), "x.zip"), declared=declared)
    assert joined.rows.collect().equals(whole.rows.collect())
    assert joined.height == whole.height


def test_columns_in_another_order(in_memory: Opener) -> None:
    table = read(in_memory(zipped({"a.csv": b"a,b\n1,2\n", "b.csv": b"b,a\n3,4\n"}), "x.zip"))
    assert table.rows.collect().to_dict(as_series=False) == {"a": [1, 4], "b": [2, 3], ROW: [1, 2]}
    assert table.dialect["members"] == 2


def test_records_that_are_no_rows_are_numbered_through(in_memory: Opener) -> None:
    table = read(in_memory(zipped({"a.csv": b"a,b\n1,2\n3\n", "b.csv": b"a,b\n4,5\n6\n7,8\n"}), "x.zip"))
    assert table.rows.collect()[ROW].to_list() == [1, 3, 5]
    assert table.malformed is not None
    assert table.malformed[ROW].to_list() == [2, 4]
    assert table.malformed["reason"].to_list() == [
        "a.csv: line 3: has 1 field, the header has 2",
        "b.csv: line 3: has 1 field, the header has 2",
    ]
    assert table.records == 5


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a.csv": b"a,b\n1,2\n", "c.csv": b"a,c\n1,2\n"}, '"a.csv" has the column "b", "c.csv" has not'),
        ({"a.csv": b"a\n1\n", "b.json": b'[{"a":1}]'}, '"a.csv" is csv+zip, "b.json" is json+zip'),
        (
            {"a.json": b'[{"a":1}]', "b.json": b'[{"a":"x"}]'},
            '"a.json" has "a" as Int64, "b.json" has it as String',
        ),
        ({"a.parquet": parquet(a=[1]), "b.parquet": parquet(a=[1.5])}, 'has "a" as Int64'),
    ],
)
def test_members_that_do_not_go_together_are_refused(in_memory: Opener, members: dict[str, bytes], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read(in_memory(zipped(members), "x.zip"))
    assert caught.value.code == "MembersDiffer"
    assert said in caught.value.message
    assert caught.value.hint


def test_nothing_but_nulls_takes_the_type_of_the_others(in_memory: Opener) -> None:
    members = {"a.json": b'[{"a":null}]', "b.json": b'[{"a":1.5}]', "c.json": b'[{"a":null}]'}
    rows = read(in_memory(zipped(members), "x.zip")).rows.collect()
    assert rows.schema["a"] == pl.Float64
    assert rows["a"].to_list() == [None, 1.5, None]


def test_parquet_files_after_one_another(in_memory: Opener, in_file: Opener) -> None:
    packed = zipped({"a.parquet": parquet(a=[1, 2], b=["x", None]), "b.parquet": parquet(b=["y"], a=[3])})
    for opened in (in_memory, in_file):
        table = read(opened(packed, "x.zip"))
        assert table.format == "parquet+zip"
        assert table.rows.collect().to_dict(as_series=False) == {"a": [1, 2, 3], "b": ["x", None, "y"], ROW: [1, 2, 3]}


def test_ndjson_files_are_one_file(in_memory: Opener) -> None:
    members = {
        "a.ndjson": b'\xef\xbb\xbf{"a":1}',
        "b.ndjson": b'\xef\xbb\xbf{"a":"x","b":true}\n\n',
        "c.json": b'{"a":3}\n{}',
    }
    table = read(in_memory(zipped(members), "x.zip"))
    assert table.rows.collect().to_dict(as_series=False) == {
        "a": ["1", "x", "3", None],
        "b": [None, True, None, None],
        ROW: [1, 2, 3, 4],
    }
    assert table.dialect["members"] == 3


def test_a_bad_line_is_named_with_its_file_and_place(in_memory: Opener) -> None:
    members = {"a.ndjson": b'{"a":1}\n{"a":2}\n', "b.ndjson": b'{"a":3}\n{"a":}\n'}
    with pytest.raises(DataError) as caught:
        read(in_memory(zipped(members), "x.zip"))
    assert caught.value.code == "UnreadableJson"
    assert '"b.ndjson"' in caught.value.message
    assert caught.value.place.line == 2


@pytest.mark.full
def test_large_members_stream(in_memory: Opener) -> None:
    many = b"n\n" + b"".join(b"%d\n" % number for number in range(1_500_000))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", many)
        archive.writestr("b.csv", b"n\n2.5\n")
    table = read(in_memory(buffer.getvalue(), "x.zip"))
    assert not table.in_memory
    assert table.height == 1_500_001
    sums = table.rows.select(pl.col("n").sum(), pl.col(ROW).max()).collect(engine="streaming")
    assert sums.row(0) == (1_500_000 * 1_499_999 / 2 + 2.5, 1_500_001)


def test_one_member_shows_the_decimal_comma_of_all(in_memory: Opener) -> None:
    parts = {"0.csv": b"a;b\n1;2\n", "1.csv": b"a;b\n1;2,5\n"}
    table = read(in_memory(zipped(parts), "x.zip"), declared={"b": pl.Float64()})
    assert table.decimal_comma
    assert table.rows.collect()["b"].to_list() == ["2", "2,5"]
