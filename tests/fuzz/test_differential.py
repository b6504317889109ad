"""Fuzz target: random tables that other libraries have written come back equal, cell by cell, from every format.

The short form runs with the tests, the long one by ``make fuzz``. What it finds becomes a test beside the reader.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import fastavro
import odf.opendocument
import openpyxl
import polars as pl
import pyarrow as pa
import pytest
import xlsxwriter  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from odf.table import Table as OdfTable
from odf.table import TableCell, TableRow
from odf.text import P
from pyarrow import parquet as pq

from silversmith.formats import ROW, Csv, Excel, read, reading_errors
from silversmith.formats.excel.sheets import as_text
from silversmith.stores import Head, Source
from tests.examples import examples

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

#: One column: the type that it has in Arrow, and its cells.
Column = tuple[pa.DataType, list[Any]]

INTEGERS = {pa.int8(): 2**7, pa.int16(): 2**15, pa.int32(): 2**31, pa.int64(): 2**63}
UNSIGNED = {pa.uint8(): 2**8, pa.uint16(): 2**16, pa.uint32(): 2**32, pa.uint64(): 2**64}
MOMENTS = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))  # noqa: DTZ001
SCALARS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    *((kind, st.integers(-most, most - 1)) for kind, most in INTEGERS.items()),
    *((kind, st.integers(0, most - 1)) for kind, most in UNSIGNED.items()),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.text(max_size=20)),
    (pa.binary(), st.binary(max_size=20)),
    (pa.date32(), st.dates()),
    (pa.time64("us"), st.times()),
    (pa.timestamp("us"), MOMENTS),
    (pa.timestamp("ms"), MOMENTS.map(lambda moment: moment.replace(microsecond=0))),
    (pa.timestamp("ns"), MOMENTS),
    (pa.timestamp("us", "UTC"), MOMENTS.map(lambda moment: moment.replace(tzinfo=UTC))),
    (pa.decimal128(20, 3), st.decimals(-(10**15), 10**15, places=3)),
]


@st.composite
def columns(draw: st.DrawFn) -> list[Column]:
    """Columns of one height: of scalars, lists, or structs."""
    height = draw(st.integers(0, 30))
    drawn = []
    for _ in range(draw(st.integers(1, 4))):
        kind, cells = draw(st.sampled_from(SCALARS))
        shape = draw(st.sampled_from(["scalar", "scalar", "list", "struct"]))
        if shape == "list" and not pa.types.is_time(kind):
            kind, cells = pa.list_(kind), st.lists(st.none() | cells, max_size=3)
        elif shape == "struct" and not pa.types.is_time(kind):
            kind, cells = pa.struct([("x", kind)]), st.fixed_dictionaries({"x": st.none() | cells})
        optional = draw(st.booleans())
        drawn.append((kind, draw(st.lists(st.none() | cells if optional else cells, min_size=height, max_size=height))))
    return drawn


def arrow_of(drawn: list[Column]) -> pa.Table:
    names = [f"c{place}" for place in range(len(drawn))]
    return pa.table([pa.array(cells, kind) for kind, cells in drawn], names)


def read_back(data: bytes, name: str, reader: Any = None, **declared: pl.DataType) -> pl.DataFrame:
    table = read(Source(Head(name, "e", len(data), NOON), data, None), reader, declared=declared)
    with reading_errors(table):
        return table.rows.drop(ROW).collect()


def assert_same(actual: pl.DataFrame, table: pa.Table) -> None:
    """Polars' own conversion of Arrow's memory says what is right: no file is read for that."""
    expected = pl.DataFrame(pl.from_arrow(table))
    assert actual.columns == expected.columns
    for column, expected_column in zip(actual, expected, strict=True):
        assert column.equals(expected_column.cast(column.dtype)), (column, expected_column)


@given(
    drawn=columns(),
    version=st.sampled_from(["1.0", "2.4", "2.6"]),
    pages=st.sampled_from(["1.0", "2.0"]),
    compression=st.sampled_from(["none", "snappy", "zstd", "gzip", "brotli", "lz4"]),
    dictionary=st.booleans(),
    sums=st.booleans(),
    group=st.integers(1, 40),
)
@settings(max_examples=examples(60), deadline=None)
def test_parquet_by_pyarrow(
    drawn: list[Column], version: str, pages: str, compression: str, dictionary: bool, sums: bool, group: int
) -> None:
    table = arrow_of(drawn)
    buffer = io.BytesIO()
    pq.write_table(
        table, buffer, version=version, data_page_version=pages, compression=compression, use_dictionary=dictionary,
        write_page_checksum=sums, row_group_size=group, data_page_size=200,
    )  # fmt: skip
    if version != "2.6":
        table = pq.read_table(io.BytesIO(buffer.getvalue()))  # older versions have no nanoseconds and no UInt32
    assert_same(read_back(buffer.getvalue(), "x.parquet"), table)


@given(
    drawn=columns(),
    compression=st.sampled_from([None, "lz4", "zstd"]),
    is_stream=st.booleans(),
    batch=st.integers(1, 40),
)
@settings(max_examples=examples(60), deadline=None)
def test_arrow_by_pyarrow(drawn: list[Column], compression: str | None, is_stream: bool, batch: int) -> None:
    table = arrow_of(drawn)
    buffer = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    opened = pa.ipc.new_stream if is_stream else pa.ipc.new_file
    with opened(buffer, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch)
    assert_same(read_back(buffer.getvalue(), "x.arrow"), table)


AVRO_TYPES: dict[pa.DataType, Any] = {
    pa.int32(): "int",
    pa.int64(): "long",
    pa.float64(): "double",
    pa.float32(): "float",
    pa.bool_(): "boolean",
    pa.string(): "string",
    pa.binary(): "bytes",
    pa.date32(): {"type": "int", "logicalType": "date"},
    pa.timestamp("us", "UTC"): {"type": "long", "logicalType": "timestamp-micros"},
    pa.decimal128(20, 3): {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3},
}


def avro_type(kind: pa.DataType, place: int) -> Any:
    if pa.types.is_list(kind):
        return {"type": "array", "items": ["null", avro_type(kind.value_type, place)]}
    if pa.types.is_struct(kind):
        field = {"name": "x", "type": ["null", avro_type(kind.field(0).type, place)]}
        return {"type": "record", "name": f"r{place}", "fields": [field]}
    return AVRO_TYPES.get(kind)


def has_avro_type(column: Column) -> bool:
    kind = column[0]
    inner = kind.value_type if pa.types.is_list(kind) else kind.field(0).type if pa.types.is_struct(kind) else kind
    return inner in AVRO_TYPES


@given(
    drawn=columns().map(lambda drawn: [column for column in drawn if has_avro_type(column)]).filter(bool),
    codec=st.sampled_from(["null", "deflate", "bzip2", "xz", "zstandard"]),
    interval=st.integers(10, 2000),
)
@settings(max_examples=examples(60), deadline=None)
def test_avro_by_fastavro(drawn: list[Column], codec: str, interval: int) -> None:
    table = arrow_of(drawn)
    fields = [{"name": f"c{place}", "type": ["null", avro_type(kind, place)]} for place, (kind, _) in enumerate(drawn)]
    records = [
        dict(zip(table.column_names, row, strict=True)) for row in zip(*(cells for _, cells in drawn), strict=True)
    ]
    buffer = io.BytesIO()
    fastavro.writer(
        buffer, {"type": "record", "name": "r", "fields": fields}, records, codec=codec, sync_interval=interval
    )
    assert_same(read_back(buffer.getvalue(), "x.avro"), table)


# Worksheets: each cell has a kind of its own, and a column of several kinds is text.

LETTERS = st.characters(
    codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), exclude_characters="\ufffe\uffff=#"
)
PLAIN_TEXT = st.text(LETTERS, min_size=1, max_size=12).filter(lambda text: "_x" not in text)
DAYS = st.dates(date(1901, 1, 1), date(9999, 12, 30))
LAST = datetime(9999, 12, 30)  # noqa: DTZ001
SECONDS = st.datetimes(datetime(1901, 1, 1), LAST).map(lambda moment: moment.replace(microsecond=0))  # noqa: DTZ001
CELLS: list[st.SearchStrategy[Any]] = [
    st.integers(-(2**53), 2**53),
    st.floats(-1e300, 1e300, allow_subnormal=False).map(
        lambda number: float(f"{number:.14e}")
    ),  # writers cut what is longer
    PLAIN_TEXT,
    st.booleans(),
    DAYS,
    SECONDS,
    st.times().map(lambda moment: moment.replace(microsecond=0)),
]


@st.composite
def sheets(draw: st.DrawFn) -> list[list[Any]]:
    """The rows of a sheet."""
    kinds = draw(st.lists(st.lists(st.sampled_from(CELLS), min_size=1, max_size=2), min_size=1, max_size=5))
    row = st.tuples(*(st.one_of(st.none(), *cells) for cells in kinds)).map(list)
    return draw(st.lists(row, min_size=1, max_size=12))


def sheet_frame(rows: list[list[Any]]) -> pl.DataFrame:
    """The rows of a sheet, as docs/formats/excel.md says."""
    rows = [row for row in rows if any(cell is not None for cell in row)]
    columns = []
    for place in range(len(rows[0]) if rows else 0):
        cells = [_cell(row[place]) for row in rows]
        kinds = {type(cell) for cell in cells if cell is not None}
        if kinds:
            cells = cells if len(kinds) == 1 else [as_text(cell) for cell in cells]
            if kinds == {datetime} and all(cell is None or cell.time() == time(0) for cell in cells):
                cells = [None if cell is None else cell.date() for cell in cells]
            columns.append(pl.Series(f"column_{place + 1}", cells, strict=False))
    return pl.DataFrame(columns)


def _cell(cell: Any) -> Any:
    if isinstance(cell, int) and not isinstance(cell, bool):
        return float(cell)
    is_day = isinstance(cell, date) and not isinstance(cell, datetime)
    return datetime(cell.year, cell.month, cell.day) if is_day else cell  # noqa: DTZ001


def by_xlsxwriter(rows: list[list[Any]]) -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"constant_memory": len(rows) % 2 == 0}) as workbook:
        formats = {
            kind: workbook.add_format({"num_format": code})
            for kind, code in ((date, "yyyy-mm-dd"), (datetime, "d.m.yy hh:mm:ss"), (time, "h:mm:ss"))
        }
        sheet = workbook.add_worksheet("S")
        for number, row in enumerate(rows):
            for place, cell in enumerate(row):
                if isinstance(cell, str):
                    sheet.write_string(number, place, cell)
                elif cell is not None:
                    sheet.write(number, place, cell, formats.get(type(cell)))
    return buffer.getvalue()


def by_openpyxl(rows: list[list[Any]]) -> bytes:
    workbook = openpyxl.Workbook(write_only=len(rows) % 2 == 0)
    sheet = workbook.create_sheet("S") if workbook.write_only else workbook.active
    assert sheet is not None
    sheet.title = "S"
    for row in rows:
        sheet.append(row)
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def by_odfpy(rows: list[list[Any]]) -> bytes:
    document = odf.opendocument.OpenDocumentSpreadsheet()
    table = OdfTable(name="S")
    for row in rows:
        line = TableRow()
        for cell in row:
            line.addElement(odf_cell(cell))
        table.addElement(line)
    document.spreadsheet.addElement(table)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def odf_cell(cell: Any) -> Any:
    if cell is None:
        return TableCell()
    if isinstance(cell, bool):
        return TableCell(valuetype="boolean", booleanvalue=str(cell).lower())
    if isinstance(cell, int | float):
        return TableCell(valuetype="float", value=repr(cell))
    if isinstance(cell, date):
        return TableCell(valuetype="date", datevalue=cell.isoformat())
    if isinstance(cell, time):
        return TableCell(valuetype="time", timevalue=f"PT{cell:%H}H{cell:%M}M{cell:%S}S")
    text = TableCell(valuetype="string")
    text.addElement(P(text=cell))
    return text


SHEET_WRITERS: dict[str, Callable[[list[list[Any]]], bytes]] = {
    "xlsxwriter.xlsx": by_xlsxwriter,
    "openpyxl.xlsx": by_openpyxl,
    "odfpy.ods": by_odfpy,
}


@pytest.mark.parametrize("name", SHEET_WRITERS)
@given(rows=sheets())
@settings(max_examples=examples(40), deadline=None)
def test_a_worksheet(name: str, rows: list[list[Any]]) -> None:
    expected = sheet_frame(rows)
    if expected.width == 0:
        return
    actual = read_back(SHEET_WRITERS[name](rows), name, Excel(sheet="S", header=False))
    assert actual.columns == expected.columns
    for column, expected_column in zip(actual, expected, strict=True):
        assert column.to_list() == expected_column.cast(column.dtype, strict=False).to_list(), (column, expected_column)


# Separated text: one random dialect for each table, found out by the reader.

SEPARATORS = st.sampled_from([",", ";", "\t", "|"])
FIELD = st.text(st.sampled_from("ab1é,;|\t\"' \n."), max_size=6).map(str.strip)


@given(
    width=st.integers(2, 4),
    data=st.data(),
    separator=SEPARATORS,
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    said=st.booleans(),
    times=st.sampled_from([1, 1, 1, 200]),
)
@settings(max_examples=examples(150), deadline=None)
def test_separated_text_by_csv(
    width: int, data: st.DataObject, separator: str, quoting: int, end: str, encoding: str, said: bool, times: int
) -> None:
    row = st.lists(FIELD, min_size=width, max_size=width).filter(any)
    rows = data.draw(st.lists(row, min_size=3, max_size=20)) * times  # larger than what is read at once
    names = [f"name{place}" for place in range(width)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerows([names, *rows])
    reader = Csv(separator=separator, quote='"', escape=None, infer=False) if said else Csv(infer=False)
    actual = read_back(text.getvalue().encode(encoding), "x.csv", reader)
    assert actual.columns == names
    assert [list(row) for row in actual.iter_rows()] == [[field or None for field in row] for row in rows]


def test_lengths_of_time_and_decimals_are_among_the_cells() -> None:
    """They have no place in every format: a fixed example of each, so that none is left out by chance."""
    lengths = pa.array([timedelta(days=-1, microseconds=5), None], pa.duration("us"))
    decimals = pa.array([Decimal("-1.50"), Decimal("9" * 35 + ".99")], pa.decimal128(38, 2))
    table = pa.table({"length": lengths, "decimal": decimals})
    buffer = io.BytesIO()
    with pa.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    assert_same(read_back(buffer.getvalue(), "x.arrow"), table)
