"""Worksheets: every cell is what it is, and no cell becomes null because others are of another kind."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from typing import Any
from xml.sax.saxutils import escape

import polars as pl
import pytest
import xlsxwriter  # type: ignore[import-untyped]
import xlwt  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import ROW, Csv, Excel, read
from silversmith.formats.excel import sheets
from silversmith.formats.excel.sheets import as_text
from silversmith.stores import Source
from tests.examples import examples

Opener = Callable[..., Source]
Cells = Sequence[Sequence[Any]]
Write = Callable[[dict[str, Cells]], bytes]


def xlsx(book: dict[str, Cells]) -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True, "default_date_format": "yyyy-mm-dd hh:mm"}) as workbook:
        for name, rows in book.items():
            sheet = workbook.add_worksheet(name)
            for number, row in enumerate(rows):
                for place, cell in enumerate(row):
                    if isinstance(cell, str) and cell.startswith("#"):
                        sheet.write_formula(number, place, "=1/0", None, cell)
                    elif cell is not None and cell != "":
                        sheet.write(number, place, cell)
    return buffer.getvalue()


def xls(book: dict[str, Cells]) -> bytes:
    workbook = xlwt.Workbook(encoding="utf-8")
    codes = {datetime: "YYYY-MM-DD HH:MM", date: "YYYY-MM-DD", time: "HH:MM"}
    styles = {kind: xlwt.easyxf(num_format_str=code) for kind, code in codes.items()}
    for name, rows in book.items():
        sheet = workbook.add_sheet(name)
        for number, row in enumerate(rows):
            for place, cell in enumerate(row):
                if isinstance(cell, str) and cell.startswith("#"):
                    sheet.row(number).set_cell_error(place, {"#N/A": "#N/A!"}.get(cell, cell))  # as xlwt calls it
                elif cell is not None and cell != "":
                    sheet.write(number, place, cell, *([styles[type(cell)]] if type(cell) in styles else []))
    buffer = io.BytesIO()
    workbook.save(buffer)
    return buffer.getvalue()


def ods(book: dict[str, Cells]) -> bytes:
    text = ODS_HEAD
    for name, rows in book.items():
        text += f"<table:table table:name='{escape(name)}'>"
        for row in rows:
            text += "<table:table-row>" + "".join(map(_ods_cell, row)) + "</table:table-row>"
        text += "</table:table>"
    return ods_of(text + ODS_TAIL)


ODS_HEAD = (
    "<office:document-content xmlns:office='urn:oasis:names:tc:opendocument:xmlns:office:1.0' "
    "xmlns:table='urn:oasis:names:tc:opendocument:xmlns:table:1.0' "
    "xmlns:text='urn:oasis:names:tc:opendocument:xmlns:text:1.0' "
    "xmlns:calcext='urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0'>"
    "<office:body><office:spreadsheet>"
)
ODS_TAIL = "</office:spreadsheet></office:body></office:document-content>"


def ods_of(content: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
    return buffer.getvalue()


def _ods_cell(cell: Any) -> str:
    if cell is None or cell == "":
        return "<table:table-cell/>"
    if isinstance(cell, bool):
        kind = f"office:value-type='boolean' office:boolean-value='{str(cell).lower()}'"
    elif isinstance(cell, int | float):
        kind = f"office:value-type='float' office:value='{cell!r}'"
    elif isinstance(cell, date):
        kind = f"office:value-type='date' office:date-value='{cell.isoformat()}'"
    elif isinstance(cell, time):
        kind = f"office:value-type='time' office:time-value='PT{cell:%H}H{cell:%M}M{cell:%S}S'"
    elif cell.startswith("#"):
        kind = "office:value-type='string' office:string-value='' calcext:value-type='error'"
    else:
        kind = "office:value-type='string'"
    return f"<table:table-cell {kind}><text:p>{escape(str(cell))}</text:p></table:table-cell>"


WRITERS: dict[str, Write] = {"xlsx": xlsx, "xls": xls, "ods": ods}
EACH = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def columns(source: Source, reader: Excel | None = None) -> dict[str, list[Any]]:
    return read(source, reader).rows.drop(ROW).collect().to_dict(as_series=False)


def refused(source: Source, reader: Any = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read(source, reader)
    assert caught.value.hint
    return caught.value


@EACH
def test_every_kind_of_cell(in_memory: Opener, in_file: Opener, write: Write) -> None:
    rows: list[list[Any]] = [
        ["whole", "broken", "text", "day", "moment", "clock", "flag", "empty"],
        [1, 0.1, "a", date(2026, 1, 2), datetime(2026, 1, 2, 3, 4), time(5, 6), True, None],  # noqa: DTZ001
        [-2, 1e300, " b ", date(1999, 12, 31), datetime(2026, 1, 2), time(23, 59), False, None],  # noqa: DTZ001
        [None, None, None, None, None, None, None, None],
        [2**53, 3, "0012", None, None, None, None, None],
    ]
    for opened in (in_memory, in_file):
        table = read(opened(write({"Sheet": rows})))
        frame = table.rows.collect()
        assert table.format in WRITERS
        assert table.dialect == {"sheet": "Sheet", "header_row": 1}
        assert frame.schema == {
            "whole": pl.Int64,
            "broken": pl.Float64,
            "text": pl.String,
            "day": pl.Date,
            "moment": pl.Datetime("ms"),
            "clock": pl.Time,
            "flag": pl.Boolean,
            "empty": pl.String,
            ROW: pl.UInt64,
        }
        kept = [row for row in rows[1:] if any(cell is not None for cell in row)]
        frame = frame.with_columns(pl.col("moment").cast(pl.Datetime("us")))
        assert [list(row[:-1]) for row in frame.iter_rows()] == kept
        assert frame[ROW].to_list() == [1, 2, 3]


@EACH
def test_one_cell_of_another_kind_makes_text_of_all(in_memory: Opener, write: Write) -> None:
    odd_cells = ["n/a", True, date(2026, 1, 2), "#N/A", "#DIV/0!"]
    said = ["n/a", "true", "2026-01-02", "#N/A", "#DIV/0!"]
    for cell, text in zip(odd_cells, said, strict=True):
        rows: list[list[Any]] = [["a"], *[[number] for number in range(5000)], [0.5], [cell]]
        cells = columns(in_memory(write({"S": rows})))["a"]
        assert cells == [*[str(row[0]) for row in rows[1:-2]], "0.5", text]


CELL = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(-1e300, 1e300, allow_subnormal=False),
    st.text(
        st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff#="), max_size=8
    ),
    st.datetimes(datetime(1901, 1, 1), datetime(9999, 12, 30)).map(lambda moment: moment.replace(microsecond=0)),  # noqa: DTZ001
)


@EACH
@given(rows=st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cells_come_back_or_all_are_text(in_memory: Opener, write: Write, rows: list[list[Any]]) -> None:
    book = write({"S": [["a", "b", "c"], *rows]})
    present = [row for row in rows if any(cell is not None and not _is_blank(cell) for cell in row)]
    if not present:
        assert read(in_memory(book)).height == 0
        return
    frame = read(in_memory(book)).rows.drop(ROW).collect()
    for place, name in enumerate("abc"):
        cells = [None if row[place] == "" else row[place] for row in present]
        kinds = {type(cell) for cell in cells if cell is not None}
        actual = frame[name].to_list()
        if kinds <= {int, float}:
            assert actual == [None if cell is None else pytest.approx(cell, rel=1e-15) for cell in cells]
        elif len(kinds) == 1:
            assert [_rounded(cell) for cell in actual] == [_rounded(cell) for cell in cells]
        else:
            assert [cell is None for cell in actual] == [cell is None for cell in cells]
            assert all(cell is None or isinstance(cell, str) for cell in actual)


def _is_blank(cell: Any) -> bool:
    return isinstance(cell, str) and not cell.strip()


def _rounded(cell: Any) -> Any:
    """A day and the moment of its midnight are one."""
    if isinstance(cell, date) and not isinstance(cell, datetime):
        return datetime.combine(cell, time(0))
    return cell


@EACH
def test_the_choice_of_a_sheet(in_memory: Opener, write: Write) -> None:
    book = write({"One": [["a"], [1]], "Empty": [], "Two": [["b"], [2]]})
    error = refused(in_memory(book))
    assert error.code == "SeveralSheets"
    assert '"One", "Two"' in error.message
    assert columns(in_memory(book), Excel(sheet="Two")) == {"b": [2]}
    assert columns(in_memory(book), Excel(sheet=1)) == {"a": [1]}
    assert columns(in_memory(book), Excel(sheet=3)) == {"b": [2]}
    assert refused(in_memory(book), Excel(sheet=4)).code == "MissingSheet"
    assert refused(in_memory(book), Excel(sheet="three")).code == "MissingSheet"
    assert refused(in_memory(book), Excel(sheet="Empty")).code == "EmptyFile"
    assert columns(in_memory(write({"Empty": [], "Two": [["b"], [2]]}))) == {"b": [2]}
    assert refused(in_memory(write({"A": [], "B": []}))).code == "EmptyFile"


@EACH
def test_titles_names_and_gaps(in_memory: Opener, write: Write) -> None:
    rows: list[list[Any]] = [["A title"], [], ["a", None, "b", None], [1, None, 2, 3], [], [4, None, 5, None]]
    book = in_memory(write({"S": rows}))
    reader = Excel(skip_rows=1)
    assert columns(book, reader) == {"a": [1, 4], "b": [2, 5], "column_4": [3, None]}
    assert read(book, reader).dialect["header_row"] == 3
    assert columns(book, Excel(skip_rows=3, header=False)) == {
        "column_1": [1, 4],
        "column_3": [2, 5],
        "column_4": [3, None],
    }
    assert columns(book, Excel(skip_rows=1, columns=["x", "y", "z"])) == {"x": [1, 4], "y": [2, 5], "z": [3, None]}
    assert refused(book, Excel(skip_rows=1, columns=["x"])).code == "WrongColumns"
    assert refused(book, Excel(skip_rows=9)).code == "EmptyFile"
    assert refused(in_memory(write({"S": [["a", "a"], [1, 2]]}))).code == "DuplicateColumns"


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_no_name_has_signs_that_nobody_sees(in_memory: Opener, write: Write) -> None:
    table = read(in_memory(write({"S": [["\u00a0order\u00a0no ", "x\u200b", "\u200b"], [1, 2, 3]]}), "x"))
    assert table.rows.drop(ROW).collect().to_dicts() == [{"order no": 1, "x": 2, "column_3": 3}]
    assert table.dialect["renamed"] == {"order no": "\u00a0order\u00a0no ", "x": "x\u200b", "column_3": "\u200b"}


def test_hidden_sheets_are_read_when_named(in_memory: Opener) -> None:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as workbook:
        workbook.add_worksheet("Shown").write_column(0, 0, ["a", 1])
        hidden = workbook.add_worksheet("Hidden")
        hidden.write_column(0, 0, ["b", 2])
        hidden.hide()
    assert columns(in_memory(buffer.getvalue())) == {"a": [1]}
    assert columns(in_memory(buffer.getvalue()), Excel(sheet="Hidden")) == {"b": [2]}


def test_rich_text_escapes_and_elapsed_time(in_memory: Opener) -> None:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as workbook:
        bold, elapsed = workbook.add_format({"bold": True}), workbook.add_format({"num_format": "[h]:mm"})
        sheet = workbook.add_worksheet()
        sheet.write_row(0, 0, ["rich", "odd", "long"])
        sheet.write_rich_string(1, 0, "plain ", bold, "bold", " plain")
        sheet.write_string(1, 1, "a_x0041_\x07\nb")
        sheet.write_number(1, 2, 1.5, elapsed)
    assert columns(in_memory(buffer.getvalue())) == {
        "rich": ["plain bold plain"],
        "odd": ["a_x0041_\x07\nb"],
        "long": [1.5],
    }


def test_days_since_1904(in_memory: Opener) -> None:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"date_1904": True, "default_date_format": "d/m/yy"}) as workbook:
        workbook.add_worksheet().write_column(0, 0, ["a", date(2026, 1, 2)])
    assert columns(in_memory(buffer.getvalue())) == {"a": [date(2026, 1, 2)]}


def test_words_that_go_on_in_another_record(in_memory: Opener) -> None:
    """The words of an .xls are cut every 8 KiB, within a word too, and go on in other letters' width."""
    words = [("short " if number % 3 else "Zürich € ") * (number % 97 + 1) + str(number) for number in range(600)]
    assert columns(in_memory(xls({"S": [["a"], *[[word] for word in words]]})))["a"] == words


def test_texts_that_are_written_many_times(in_memory: Opener) -> None:
    def table(row: str) -> bytes:
        head = f"{ODS_HEAD}<table:table table:name='S'>"
        cell = "<table:table-cell office:value-type='string'><text:p>a</text:p></table:table-cell>"
        return ods_of(f"{head}<table:table-row>{cell}</table:table-row>{row}</table:table>{ODS_TAIL}")

    number = "<table:table-cell office:value-type='float' office:value='5'{}/>"
    wide = " table:number-columns-repeated='16384'"
    deep = "<table:table-row table:number-rows-repeated='{}'>{}</table:table-row>"
    assert columns(in_memory(table(deep.format(3, number.format(""))))) == {"a": [5, 5, 5]}
    empty = deep.format(1_048_000, f"<table:table-cell{wide}/>")
    assert columns(in_memory(table(empty + deep.format(1, number.format(""))))) == {"a": [5]}
    assert refused(in_memory(table(deep.format(1_048_000, number.format(wide))))).code == "TooLarge"
    assert refused(in_memory(table(deep.format("9" * 30, number.format(""))))).code == "UnreadableExcel"
    assert refused(in_memory(table(deep.format(1, number.format(wide) * 2)))).code == "UnreadableExcel"


def test_a_sheet_that_is_too_large(in_memory: Opener) -> None:
    """Cells far apart would take all the memory there is between them."""
    assert columns(in_memory(xlsx({"S": [["a"], *[[] for _ in range(1000)], [1]]}))) == {"a": [1]}
    many = sheets.SheetColumns("S")
    cells = [(1 + place // 4, place % 16_000, sheets.CellKind.NUMBER, 1.0, None) for place in range(16_000)]
    with pytest.raises(DataError) as caught:
        many.add(pl.DataFrame(cells, schema=sheets.CELLS, orient="row"))
    assert caught.value.code == "TooLarge"


@EACH
def test_within_other_packing(in_memory: Opener, write: Write) -> None:
    import gzip

    book = write({"S": [["a"], [1]]})
    kind = next(name for name, writer in WRITERS.items() if writer is write)
    assert read(in_memory(gzip.compress(book), "x.gz")).format == f"{kind}+gzip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("one", book)
        archive.writestr("two", write({"S": [["a"], [2]]}))
    table = read(in_memory(buffer.getvalue(), "x.zip"))
    assert (table.format, table.rows.collect()["a"].to_list()) == (f"{kind}+zip", [1, 2])


@EACH
def test_another_reader_was_asked_for(in_memory: Opener, write: Write) -> None:
    assert refused(in_memory(write({"S": [["a"], [1]]})), Csv()).code == "UnknownFormat"


def test_files_that_are_no_workbook(in_memory: Opener) -> None:
    assert refused(in_memory(b"", "x.xlsx")).code == "EmptyFile"
    assert refused(in_memory(b"a,b\n1,2\n", "x.xlsx")).code == "UnreadableExcel"
    assert refused(in_memory(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "x.xls")).code == "UnreadableExcel"
    for part, code in (("word/document.xml", "UnknownFormat"), ("xl/workbook.bin", "UnreadableExcel")):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(part, "x")
        assert refused(in_memory(buffer.getvalue(), "x")).code == code


SEEDS = {
    name: write({"S": [["a", "b", "c"], *[[n, f"w{n}", n / 7] for n in range(20)]]}) for name, write in WRITERS.items()
}


@pytest.mark.full  # as tests/fuzz
@pytest.mark.parametrize("name", SEEDS)
@given(at=st.floats(0, 1, exclude_max=True), new=st.binary(max_size=6), gone=st.integers(0, 6))
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_an_error_or_does_no_harm(in_memory: Opener, name: str, at: float, new: bytes, gone: int) -> None:
    seed = SEEDS[name]
    place = int(at * len(seed))
    with suppress(DataError):
        read(in_memory(seed[:place] + new + seed[place + gone :], f"x.{name}"))


PARTS = [
    ("<v>1</v>", "<v>1</v><w>"),
    ('t="s"', 't="z"'),
    ("<v>0</v>", "<v>999999</v>"),
    ('r="A2"', 'r="2A"'),
    ('r="A2"', 'r="A0"'),
    ('r="A2"', 'r="A1048577"'),
    ('r="A2"', 'r="XFE2"'),
    ("<v>1</v>", "<v>NaN</v>"),
    ("<v>1</v>", "<v>1e999</v>"),
    ("<v>1</v>", "<v>x</v>"),
    ("<worksheet", "<!DOCTYPE a><worksheet"),
]


@pytest.mark.parametrize(("old", "new"), PARTS)
def test_sheets_that_no_program_writes(in_memory: Opener, old: str, new: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(xlsx({"S": [["a"], [1]]}))) as before, zipfile.ZipFile(buffer, "w") as after:
        for part in before.namelist():
            text = before.read(part)
            if part == "xl/worksheets/sheet1.xml":
                assert old.encode() in text
                text = text.replace(old.encode(), new.encode(), 1)
            after.writestr(part, text)
    assert refused(in_memory(buffer.getvalue(), "x.xlsx")).code == "UnreadableExcel"


@pytest.mark.parametrize(
    ("code", "number", "expected"),
    [
        ("yyyy-mm-dd", 40000, date(2009, 7, 6)),
        ("h:mm", 0.5, time(12)),
        ("h:mm", -0.25, -0.25),
        ('d "of" mmm', 1, date(1900, 1, 1)),
        ("[$-409]d-mmm-yy;@", 61, date(1900, 3, 1)),
        (14, 2_958_466, 2_958_466),
        (14, -1, -1),
        (22, 40000.5, datetime(2009, 7, 6, 12)),  # noqa: DTZ001
        (46, 1.25, 1.25),
        ("0.00", -1.5, -1.5),
        ('0 "days"', 1, 1),
        ("[Red]0", 1, 1),
        ("[h]:mm", 1.5, 1.5),
        ("[ss].00", 0.25, 0.25),
        ("0\\d", 1, 1),
        ("_-* #,##0_d", 1, 1),
    ],
)
def test_formats_of_days(in_memory: Opener, code: str | int, number: float, expected: Any) -> None:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write_string(0, 0, "a")
        sheet.write_number(1, 0, number, workbook.add_format({"num_format": code}))
    assert columns(in_memory(buffer.getvalue())) == {"a": [expected]}


def test_cells_as_text() -> None:
    cells = [
        None,
        "a",
        True,
        1.0,
        1.5,
        1e300,
        2.0**60,
        time(3, 4),
        datetime(2026, 1, 2),  # noqa: DTZ001
        timedelta(hours=30, seconds=1.5),
    ]
    said = [None, "a", "true", "1", "1.5", "1e+300", "1.152921504606847e+18", "03:04:00", "2026-01-02", "30:00:01.5"]
    assert [as_text(cell) for cell in cells] == said


@pytest.mark.parametrize(
    "options",
    [
        {"sheet": 0},
        {"sheet": ""},
        {"sheet": True},
        {"sheet": 1.5},
        {"skip_rows": -1},
        {"skip_rows": "1"},
        {"columns": "ab"},
        {"columns": []},
        {"columns": ["a", "a"]},
        {"columns": ["a", ""]},
        {"columns": ["__row__"]},
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="Excel"):
        Excel(**options)
