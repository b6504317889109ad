"""A large CSV file in one pass: what comes of it is what comes of it the careful way, whatever the bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from silversmith import Contract
from silversmith.contract.streaming import OnePass, one_pass
from silversmith.errors import DataError
from silversmith.formats import Csv, csv
from silversmith.formats.archives.content import Content, Scratch
from silversmith.formats.spill import IN_MEMORY

A_TO_C = {"a": pl.Int64, "b": pl.String, "c": pl.Float64}


class Result(NamedTuple):
    """The result of a file; ``careful`` counts the blocks that had to be read the careful way."""

    good: pl.DataFrame
    rejected: pl.DataFrame
    records: int
    careful: int


def careful(path: Path, contract: Contract, options: Csv) -> Result:
    """By the way that all files can be read."""
    table = csv.read(Content("data.csv", None, path), options, contract.declared)
    checked = contract.check(table)
    good, rejected = pl.collect_all([checked.good, checked.rejected], engine="streaming")
    return Result(good, rejected.sort("row"), table.records, 0)


def reading_of(path: Path, contract: Contract, options: Csv, block: int, in_memory: int = IN_MEMORY) -> OnePass | None:
    stream = csv.stream_of(Content("data.csv", None, path), options, contract.declared, block=block)
    return None if stream is None else one_pass(stream, contract, Scratch(path.parent), in_memory=in_memory)


def by_block(path: Path, contract: Contract, options: Csv, block: int) -> Result | None:
    """Block by block; None where the file is left to the careful way."""
    try:
        reading = reading_of(path, contract, options, block)
        if reading is None:
            return None
        good = reading.good().collect(engine="streaming")
        reading.finish()
    except (DataError, pl.exceptions.PolarsError):
        return None
    rows = reading.rejected_rows()
    rejected = pl.DataFrame() if rows is None else rows.collect()
    return Result(good, rejected, reading.records, reading.careful)


def both(data: bytes, contract: Contract, options: Csv | None = None, block: int = 1024 * 1024) -> Result | None:
    """The result of the file block by block, after the proof that the careful way has the same."""
    options = options or Csv()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.csv")
        path.write_bytes(data)
        result = by_block(path, contract, options, block)
        if result is not None:
            expected = careful(path, contract, options)
            assert_frame_equal(result.good, expected.good, check_exact=True)
            assert result.records == expected.records
            if expected.rejected.height or result.rejected.height:
                assert_frame_equal(result.rejected, expected.rejected, check_exact=True)
        return result


def seen(data: bytes, contract: Contract, options: Csv | None = None, block: int = 1024 * 1024) -> Result:
    result = both(data, contract, options, block)
    assert result is not None, "it is read block by block"
    return result


INTEGERS = ["1", "-7", "007", "+5", "-0", "", " ", " 4", "4 ", "1.0", "1.5", "1e3", "9223372036854775808", "300", "x"]
FLOATS = [
    "1.5",
    ".5",
    "5.",
    "1e5",
    "1e400",
    "inf",
    "-inf",
    "nan",
    "NaN",
    "",
    " 1.5",
    "1.5 ",
    "+1.5",
    "-0.0",
    "1_0",
    "0x1",
]
DAYS = ["2024-02-29", "2023-02-29", "2024-2-9", "29-02-2024", "2024/02/29", "0000-01-01", "20240229", " 2024-02-29", ""]
TEXTS = [
    "a",
    "",
    " ",
    "é",
    "\u00a0",
    '""',
    '"q"',
    '"a,b"',
    '"a""b"',
    '"a\nb"',
    '"a\r\nb"',
    "x^2",
    'a"b',
    '"a"b',
    '"',
    "NA",
    "true",
]
CELLS = st.sampled_from([*INTEGERS, *FLOATS, *DAYS, *TEXTS, '"1"', '"1.5"', '" 2"', '"2024-02-29"', "1,2", "TRUE", "0"])
GOOD = st.sampled_from(["1", "22", "-3", "", "2024-02-29", '"1"', "1.5"])
ENDS = st.sampled_from(["\n"] * 6 + ["\r\n", "\r", "\n\n", ""])
KINDS: st.SearchStrategy[pl.DataType] = st.sampled_from(
    [
        *(
            pl.Int64,
            pl.Int8,
            pl.UInt16,
            pl.UInt64,
            pl.Float64,
            pl.Float32,
            pl.String,
            pl.Boolean,
            pl.Date,
            pl.Datetime("us"),
        ),
        *(pl.Decimal(10, 2), pl.Time, pl.Datetime("ms", "Europe/Berlin")),
    ]
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Records of about three cells, mostly regular, with anything in them."""
    cells = draw(st.sampled_from([CELLS, GOOD, st.one_of(CELLS, GOOD, GOOD, GOOD)]))
    lines = []
    for _ in range(draw(st.integers(0, 12))):
        width = draw(st.sampled_from([3] * 12 + [1, 2, 4]))
        lines.append(",".join(draw(cells) for _ in range(width)) + draw(ENDS))
    return ("a,b,c\n" + "".join(lines)).encode()


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    schema: dict[str, pl.DataType] = {name: draw(KINDS) for name in "abc"}
    return Contract(
        schema=schema,
        rules={"b is not c": pl.col("b").is_null() | pl.col("c").is_not_null()} if draw(st.booleans()) else {},
        required=draw(st.sets(st.sampled_from("abc"), max_size=1)),
        defaults={"a": 3} if schema["a"] == pl.Int64 and draw(st.booleans()) else None,
        ranges={"a": (0, 100)} if schema["a"] == pl.Int64 and draw(st.booleans()) else None,
    )


BLOCKS = st.sampled_from([1, 7, 16, 40, 1024 * 1024])
OPTIONS = st.builds(
    Csv,
    quote=st.sampled_from(['"', '"', '"', None, "'"]),
    escape=st.none(),
    null_values=st.sampled_from([(), (), ("NA", "1")]),
    ragged=st.booleans(),
    header=st.just(value=True),
    padded=st.just(value=False),
)


@given(files(), contracts(), OPTIONS, BLOCKS)
@example(b'a,b,c\n1,"x,"y",z",2\n', Contract(dict.fromkeys("abc", pl.String)), Csv(), 1024)
@example(b"a,b,c\n1,x,2\n\n3,y,4\n", Contract(A_TO_C), Csv(), 1024)
@example(b"a,b,c\n1,x,2\n\xef\xbb\xbfy,z,4\n", Contract(dict.fromkeys("abc", pl.String)), Csv(), 6)
@example(b'a,b,c\n1,"x\ny",2\n3,"z\n",4\n', Contract(A_TO_C), Csv(), 9)
def test_any_records_are_what_they_are_the_careful_way(
    data: bytes, contract: Contract, options: Csv, block: int
) -> None:
    both(data, contract, options, block)


@pytest.mark.full
@given(st.text('01 ,"\n\r.-ax+é\t\u00a0', max_size=60), contracts(), OPTIONS, BLOCKS)
def test_any_text_is_what_it_is_the_careful_way(text: str, contract: Contract, options: Csv, block: int) -> None:
    both(b"a,b,c\n" + text.encode(), contract, options, block)


@given(st.binary(max_size=60), BLOCKS)
@example(b"\xef\xbb\xbf", 7)
@example(b"1,x\n\xef\xbb\xbf2,y\n", 4)
def test_any_bytes_are_what_they_are_the_careful_way(data: bytes, block: int) -> None:
    both(b"a,b\n" + data, Contract({"a": pl.Int64, "b": pl.String}), Csv(), block)


@pytest.mark.full
@given(KINDS, st.lists(CELLS, min_size=1, max_size=8))
def test_any_cells_alone_on_their_lines(kind: pl.DataType, cells: list[str]) -> None:
    both("\n".join(["a", *cells]).encode(), Contract({"a": kind}))


REGULAR = b"a,b,c\n" + b"".join(b"%d,text %d,%d.5\n" % (n, n, n) for n in range(1000))


def test_regular_blocks_are_never_read_the_careful_way() -> None:
    result = seen(REGULAR, Contract(A_TO_C, {"a is small": pl.col("a") < 10_000}), block=512)
    assert (result.good.height, result.rejected.height, result.careful) == (1000, 0, 0)


def test_quotes_and_empty_cells_are_no_reason_to_read_the_careful_way() -> None:
    rows = b"".join(b'"%d","%s","%d.5"\r\n' % (n, b"a,b\nc" if n % 5 == 0 else b"", n) for n in range(300))
    result = seen(b"a,b,c\r\n" + rows, Contract(A_TO_C))
    assert (result.good.height, result.careful) == (300, 0)
    assert result.good["b"].null_count() == 240


def test_days_and_times_are_no_reason_to_read_the_careful_way() -> None:
    rows = b"".join(b"2024-02-%02d,2024-02-01T10:00:%02d,true\n" % (n % 29 + 1, n % 60) for n in range(5000))
    result = seen(b"a,b,c\n" + rows, Contract({"a": pl.Date, "b": pl.Datetime("us"), "c": pl.Boolean}))
    assert (result.good.height, result.careful) == (5000, 0)


def test_a_bad_cell_has_its_block_read_the_careful_way_and_no_other() -> None:
    data = REGULAR.replace(b"500,text 500,500.5", b'500,text 500,"many"').replace(b"900,text 900", b"900")
    result = seen(data, Contract(A_TO_C), block=512)
    assert result.records == 1000
    assert result.careful == 2
    assert result.rejected["row"].to_list() == [501, 901]
    assert result.rejected["reasons"].to_list() == [
        ['c: "many" is not Float64'],
        ["line 902: has 2 fields, the header has 3"],
    ]


def test_a_broken_rule_rejects_its_row_with_the_text_that_it_had() -> None:
    data = REGULAR.replace(b"\n7,text 7,7.5", b"\n 007,text 7,7.50")
    result = seen(data, Contract(A_TO_C, {"a is not 7": pl.col("a") != 7}), block=512)
    assert result.careful == 1
    assert result.rejected.row(0, named=True) == {
        "row": 8,
        "a": " 007",
        "b": "text 7",
        "c": "7.50",
        "reasons": ["a is not 7: the rule is broken by a 7"],
    }


def test_a_record_over_the_end_of_a_block_has_the_next_one_begin_after_it() -> None:
    data = b'a,b,c\n1,"' + b"x\n" * 40 + b'",2\n' + b"3,y,4\n" * 40
    result = seen(data, Contract(A_TO_C), block=32)
    assert result.good.height == 41
    assert 0 < result.careful < 10


def test_blank_lines_count_as_lines_and_not_as_records() -> None:
    data = b"a,b,c\n1,x,2\n\n\n3,y\n4,z,5\n"
    result = seen(data, Contract(A_TO_C))
    assert result.good["a"].to_list() == [1, 4]
    assert result.rejected["reasons"].to_list() == [["line 5: has 2 fields, the header has 3"]]


def test_very_many_rejected_rows_go_to_disk(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(REGULAR)
    contract = Contract(A_TO_C, {"a is even": pl.col("a") % 2 == 0})
    reading = reading_of(path, contract, Csv(), 512, in_memory=1000)
    assert reading is not None
    reading.finish()
    rows = reading.rejected_rows()
    assert rows is not None
    assert_frame_equal(rows.collect(), careful(path, contract, Csv()).rejected)
    assert list(tmp_path.glob("*/*.rejected.arrow"))


@pytest.mark.parametrize(
    "contract",
    [
        Contract(A_TO_C, unique=["a"]),
        Contract(A_TO_C, {"above the mean": pl.col("a") >= pl.col("a").mean() - 10_000}),
        Contract(A_TO_C, {"rising": (pl.col("a") > pl.col("a").shift()).fill_null(value=True)}),
        Contract({"a": pl.Int64, "b": pl.String}),
    ],
    ids=["unique", "mean", "shift", "a column without a type"],
)
def test_rules_over_all_rows_are_left_to_the_careful_way(contract: Contract) -> None:
    assert both(REGULAR, contract) is None


@pytest.mark.parametrize(
    "data",
    [b"a,b,c\n1,\xff,2\n", b"a,b,c\n1,\0,2\n", b'a,b,c\n1,"x,2\n', b"a,b,c\n1,2\n3,4\n5,6\n", b"a,b\n", b"\n\n"],
    ids=["no UTF-8", "NUL", "open quote", "wrong header", "missing column", "empty"],
)
def test_faults_of_the_whole_file_are_left_to_the_careful_way(data: bytes) -> None:
    assert both(data, Contract(A_TO_C)) is None


def plan_of(tmp_path: Path) -> OnePass:
    path = tmp_path / "data.csv"
    path.write_bytes(REGULAR.replace(b"\n999,", b"\nlast,"))
    reading = reading_of(path, Contract(A_TO_C), Csv(), 512)
    assert reading is not None
    return reading


@pytest.mark.parametrize(
    ("plan", "height"),
    [
        (lambda rows: rows.head(3), 3),
        (lambda rows: rows.filter(pl.col("a") < 7).select("c"), 7),
        (lambda rows: rows.head(20).filter(pl.col("a") < 7).select("b", "a"), 7),
        (lambda rows: rows.filter(pl.col("a") < 7).head(2), 2),
        (lambda rows: pl.LazyFrame({"x": [1, 2]}), 2),
        (lambda rows: pl.concat([rows, rows.filter(pl.col("a") < 7)]), 999 + 7),
        (lambda rows: rows.join(rows.group_by("a").agg(pl.len()), on="a"), 999),
    ],
    ids=["head", "filter", "head and filter", "filter and head", "none of it", "twice", "joined with itself"],
)
def test_all_records_are_counted_once_however_few_the_transform_takes(
    tmp_path: Path, plan: Callable[[pl.LazyFrame], pl.LazyFrame], height: int
) -> None:
    reading = plan_of(tmp_path)
    assert plan(reading.good()).collect(engine="streaming").height == height
    reading.finish()
    assert (reading.records, reading.rejected) == (1000, 1)


def test_the_newest_value_is_that_of_all_blocks(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"day\n2024-01-03\n2024-01-09\nx\n2024-01-01\n")
    contract = Contract({"day": pl.Date}, fresh={"day": timedelta(days=1)})
    reading = reading_of(path, contract, Csv(), 12)
    assert reading is not None
    reading.finish()
    assert reading.newest_values() == {"day": date(2024, 1, 9)}


def test_a_failure_that_the_plan_did_not_wait_for_is_raised_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(REGULAR + b"1,\xff,2\n")
    reading = reading_of(path, Contract(A_TO_C), Csv(), 512)
    assert reading is not None
    assert reading.good().head(2).collect(engine="streaming").height == 2
    with pytest.raises(DataError):
        reading.finish()


def test_a_column_whose_numbers_are_written_otherwise_is_no_number_before_its_cast(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("id;price\n" + "".join(f"{number};1.{number:03}\n" for number in range(100)))
    contract = Contract({"id": pl.Int64, "price": pl.Float64}, formats={"price": "1.234,56"})
    expected = careful(path, contract, Csv(separator=";", thousands=""))
    assert expected.good["price"].to_list() == [1000.0 + number for number in range(100)]
    result = by_block(path, contract, Csv(separator=";"), 200)
    assert result is not None
    assert_frame_equal(result.good, expected.good)
