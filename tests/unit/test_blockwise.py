"""A large CSV file in one pass: what comes of it is what comes of it the careful way, whatever the bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from silversmith import Contract, blockwise
from silversmith.errors import DataError
from silversmith.formats import Csv, Unusual, csv
from silversmith.formats.content import Content
from silversmith.formats.csv_stream import stream_of
from silversmith.formats.scratch import Scratch

A_TO_C = {"a": pl.Int64, "b": pl.String, "c": pl.Float64}


class Found(NamedTuple):
    """What came of a file; ``careful`` counts the blocks that had to be read the careful way."""

    good: pl.DataFrame
    rejected: pl.DataFrame
    records: int
    careful: int


def careful(path: Path, contract: Contract, options: Csv) -> Found:
    """By the way that all files can be read."""
    table = csv.read(Content("data.csv", None, path), options, contract.wanted)
    checked = contract.check(table)
    good, rejected = pl.collect_all([checked.good, checked.rejected], engine="streaming")
    return Found(good, rejected.sort("row"), table.records, 0)


def reading_of(path: Path, contract: Contract, options: Csv, block: int) -> blockwise.Reading | None:
    stream = stream_of(Content("data.csv", None, path), options, contract.wanted, block=block)
    return None if stream is None else blockwise.reading(stream, contract, Scratch(path.parent))


def by_block(path: Path, contract: Contract, options: Csv, block: int) -> Found | None:
    """Block by block; None where the file is left to the careful way."""
    try:
        reading = reading_of(path, contract, options, block)
        if reading is None:
            return None
        good = reading.good().collect(engine="streaming")
        reading.finish()
    except (Unusual, DataError, pl.exceptions.PolarsError):
        return None
    rows = reading.rejected_rows()
    rejected = pl.DataFrame() if rows is None else rows.collect()
    return Found(good, rejected, reading.records, reading.careful)


def both(data: bytes, contract: Contract, options: Csv | None = None, block: int = 1024 * 1024) -> Found | None:
    """What came of the file block by block, after the proof that the careful way says the same."""
    options = options or Csv()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.csv")
        path.write_bytes(data)
        found = by_block(path, contract, options, block)
        if found is not None:
            expected = careful(path, contract, options)
            assert_frame_equal(found.good, expected.good, check_exact=True)
            assert found.records == expected.records
            if expected.rejected.height or found.rejected.height:
                assert_frame_equal(found.rejected, expected.rejected, check_exact=True)
        return found


def seen(data: bytes, contract: Contract, options: Csv | None = None, block: int = 1024 * 1024) -> Found:
    found = both(data, contract, options, block)
    assert found is not None, "it is read block by block"
    return found


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
@example(b'a,b,c\n1,"x\ny",2\n3,"z\n",4\n', Contract(A_TO_C), Csv(), 9)
def test_any_records_are_what_they_are_the_careful_way(
    data: bytes, contract: Contract, options: Csv, block: int
) -> None:
    both(data, contract, options, block)


@given(st.text('01 ,"\n\r.-ax+é\t\u00a0', max_size=60), contracts(), OPTIONS, BLOCKS)
def test_any_text_is_what_it_is_the_careful_way(text: str, contract: Contract, options: Csv, block: int) -> None:
    both(b"a,b,c\n" + text.encode(), contract, options, block)


@given(st.binary(max_size=60), BLOCKS)
def test_any_bytes_are_what_they_are_the_careful_way(data: bytes, block: int) -> None:
    both(b"a,b\n" + data, Contract({"a": pl.Int64, "b": pl.String}), Csv(), block)


@given(KINDS, st.lists(CELLS, min_size=1, max_size=8))
def test_any_cells_alone_on_their_lines(kind: pl.DataType, cells: list[str]) -> None:
    both("\n".join(["a", *cells]).encode(), Contract({"a": kind}))
