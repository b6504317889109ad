"""CSV: nothing is shifted, nothing is lost, and errors say where."""

from __future__ import annotations

import csv as python_csv
import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import ROW, Csv, Table, csv
from silversmith.formats.archives.content import Content, Scratch
from silversmith.formats.csv.records import IDLE_QUOTES, LONGEST_FIELD
from silversmith.formats.table import MOST_MALFORMED


def by_records(data: bytes, options: Csv | None = None, declared: tuple[str, ...] = ()) -> Table:
    """As small files are read."""
    return csv.read(Content("data.csv", data, None), options or Csv(), declared, small=len(data))


def by_polars(data: bytes, options: Csv | None = None, declared: tuple[str, ...] = (), block: int = 4096) -> Table:
    """As large files are read."""
    return csv.read(Content("data.csv", data, None), options or Csv(), declared, small=-1, block=block)


Read = Callable[..., Table]
BOTH = pytest.mark.parametrize("read", [by_records, by_polars])


def rows_of(table: Table) -> list[dict[str, object]]:
    rows = table.rows.drop(ROW).collect()
    assert table.height == rows.height
    assert table.records == rows.height + len(malformed_of(table))
    return rows.to_dicts()


def numbers_of(table: Table) -> list[int]:
    return table.rows.collect()[ROW].to_list()


def malformed_of(table: Table) -> list[tuple[object, ...]]:
    return [] if table.malformed is None else table.malformed.rows()


@pytest.mark.parametrize("start", ["x^", "x\x01", "x\u0680"])
@pytest.mark.parametrize("records", ["{},1\nb,2\n", "{},1\nb,2\nc\n", "a,1\n{},2\n"])
@pytest.mark.parametrize("header", ["{},n\n", "a,n\n", ""])
@pytest.mark.parametrize("in_memory", [True, False])
def test_text_that_begins_as_packed_data_does_is_text(
    start: str, records: str, header: str, in_memory: bool, tmp_path: Path
) -> None:
    data = (header + records).replace("{}", start).encode()
    path = tmp_path / "data.csv"
    path.write_bytes(data)
    content = (
        Content("data.csv", data, None) if in_memory else Content("data.csv", None, path, scratch=Scratch(tmp_path))
    )
    options = Csv(header=bool(header))
    table, expected = csv.read(content, options, (), small=-1, block=8), by_records(data, options)
    assert (numbers_of(table), rows_of(table)) == (numbers_of(expected), rows_of(expected))
    assert malformed_of(table) == malformed_of(expected)


@BOTH
def test_columns_get_types_and_rows_get_numbers(read: Read) -> None:
    table = read(b"flight,carrier,zip\n1,UA,00501\n2,,10001\n")
    assert rows_of(table) == [
        {"flight": 1, "carrier": "UA", "zip": "00501"},
        {"flight": 2, "carrier": None, "zip": "10001"},
    ]
    assert numbers_of(table) == [1, 2]
    assert table.rows.collect_schema()[ROW] == pl.UInt64
    assert table.format == "csv"
    assert table.malformed is None
    assert table.in_memory


@BOTH
def test_wanted_columns_stay_text(read: Read) -> None:
    assert rows_of(read(b"a,b\n1,2\n", declared=("b", "c"))) == [{"a": 1, "b": "2"}]


@BOTH
def test_a_record_of_another_width_is_set_aside_and_the_rest_kept(read: Read) -> None:
    table = read(b"a,b\n1,2\n3\n4,5,6\n7,8\n")
    assert rows_of(table) == [{"a": 1, "b": 2}, {"a": 7, "b": 8}]
    assert numbers_of(table) == [1, 4]
    assert malformed_of(table) == [
        (2, "3", "line 3: has 1 field, the header has 2"),
        (3, "4,5,6", "line 4: has 3 fields, the header has 2"),
    ]


@BOTH
def test_a_short_record_and_a_long_one_do_not_cancel_out(read: Read) -> None:
    table = read(b"a,b,c\n1,2\n1,2,3,4\n")
    assert rows_of(table) == []
    assert [number for number, _, _ in malformed_of(table)] == [1, 2]


@BOTH
def test_a_stray_quote_is_a_character_and_hides_no_line(read: Read) -> None:
    table = read(b'part,price\n5" pipe,2\n6" pipe,3\n')
    assert rows_of(table) == [{"part": '5" pipe', "price": 2}, {"part": '6" pipe', "price": 3}]


@BOTH
def test_text_after_a_closing_quote_is_malformed(read: Read) -> None:
    table = read(b'a,b\n"x"y,1\n"z",2\n')
    assert rows_of(table) == [{"a": "z", "b": 2}]
    assert malformed_of(table) == [(1, '"x"y,1', f"line 2: {IDLE_QUOTES}")]


@BOTH
def test_quoted_fields_may_hold_anything(read: Read) -> None:
    table = read(b'a,b\r\n"x, ""y""\r\nz",1\r\n" ",2\r\n')
    assert rows_of(table) == [{"a": 'x, "y"\r\nz', "b": 1}, {"a": " ", "b": 2}]


@BOTH
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_and_none_at_the_end(read: Read, end: bytes) -> None:
    assert rows_of(read(end.join([b"a,b", b"1,2", b"3,4"]))) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


@BOTH
def test_blank_lines_are_no_records(read: Read) -> None:
    table = read(b"\n\na\n\n1\n\r\n2\n\n")
    assert rows_of(table) == [{"a": 1}, {"a": 2}]
    assert numbers_of(table) == [1, 2]


@BOTH
def test_an_empty_cell_is_null_quoted_or_not(read: Read) -> None:
    assert rows_of(read(b'a,b\n"",1\n,2\n')) == [{"a": None, "b": 1}, {"a": None, "b": 2}]
    assert rows_of(read(b'a\n""\nx\n')) == [{"a": None}, {"a": "x"}]


@BOTH
def test_a_header_alone_has_no_rows(read: Read) -> None:
    table = read(b"a,b\n")
    assert rows_of(table) == []
    assert table.rows.collect_schema() == {"a": pl.String, "b": pl.String, ROW: pl.UInt64}


@BOTH
def test_a_wide_table(read: Read) -> None:
    names = [f"c{number}" for number in range(250)]
    cells = [str(number) if number % 2 else f"0{number}" for number in range(250)]
    rows = rows_of(read(f"{','.join(names)}\n{','.join(cells)}\n".encode(), declared=("c1",)))
    assert rows == [
        {
            name: int(cell) if at % 2 and at != 1 else cell
            for at, (name, cell) in enumerate(zip(names, cells, strict=True))
        }
    ]


@BOTH
def test_a_byte_order_mark_is_no_part_of_a_name(read: Read) -> None:
    assert rows_of(read(b"\xef\xbb\xbfa\n1\n")) == [{"a": 1}]


@BOTH
def test_names_that_polars_would_take_for_patterns(read: Read) -> None:
    table = read(b'*,^a.*$,ab,__row,"x\ny"\n1,2,,z,""\n')
    assert rows_of(table) == [{"*": 1, "^a.*$": 2, "ab": None, "__row": "z", "x\ny": None}]


@BOTH
def test_columns_without_a_name_are_called_after_their_place(read: Read) -> None:
    assert rows_of(read(b",a\n0,1\n")) == [{"column_1": 0, "a": 1}]


@BOTH
@pytest.mark.parametrize(
    ("options", "data", "expected"),
    [
        (Csv(separator="::"[0]), b"a:b\n1:2\n", [{"a": 1, "b": 2}]),
        (Csv(quote="'"), b"a,b\n'x,y','it''s'\n", [{"a": "x,y", "b": "it's"}]),
        (Csv(quote=None), b'a,b\n"x,y"\n', [{"a": '"x', "b": 'y"'}]),
        (Csv(header=False), b"1,2\n", [{"column_1": 1, "column_2": 2}]),
        (Csv(header=False, columns=["x", "y"]), b"1,2\n", [{"x": 1, "y": 2}]),
        (Csv(columns=["x", "y"]), b"a,b\n1,2\n", [{"x": 1, "y": 2}]),
        (Csv(null_values=["NA", "-"]), b"a,b\nNA,1\n-,2\nn,-\n", [
            {"a": None, "b": 1}, {"a": None, "b": 2}, {"a": "n", "b": None},
        ]),
        (Csv(encoding="cp1252"), "a\nMünchen €\n".encode("cp1252"), [{"a": "München €"}]),
        (Csv(encoding="utf-16"), "a\nMünchen\n".encode("utf-16"), [{"a": "München"}]),
        (Csv(skip_lines=2), b"made by x\n\na,b\n1,2\n", [{"a": 1, "b": 2}]),
        (Csv(comment="#"), b"# by x\na,b\n1,2\n#3,4\n'#5,6\n", [{"a": "1", "b": 2}, {"a": "'#5", "b": 6}]),
        (Csv(decimal_comma=True), b"a;b\n1,5;2\n", [{"a": 1.5, "b": 2}]),
    ],
)  # fmt: skip
def test_options(read: Read, options: Csv, data: bytes, expected: list[dict[str, object]]) -> None:
    assert rows_of(read(data, options)) == expected


@BOTH
def test_a_line_within_quotes_is_no_comment(read: Read) -> None:
    assert rows_of(read(b'a,b\n"x\n#y",1\n', Csv(comment="#"))) == [{"a": "x\n#y", "b": 1}]


@pytest.mark.parametrize(
    ("name", "data", "columns"),
    [
        ("x.csv", b"a,b\n1,2\n", ["a", "b"]),
        ("x.csv", b"a;b\n1,5;2,5\n", ["a", "b"]),
        ("x.csv", b"a;b,c\n1;2\n3;4\n", ["a", "b,c"]),
        ("x.csv", b"a|b\n1|2\n", ["a", "b"]),
        ("x.csv", b"a\tb,c\n1\t2\n", ["a", "b,c"]),
        ("x.csv", b'"a;b";c\n1;2\n', ["a;b", "c"]),
        ("x.csv", b"just one\n1\n", ["just one"]),
        ("x.tsv", b"a,b\tc\n1\t2\n", ["a,b", "c"]),
        ("x.psv", b"a,b|c\n1|2\n", ["a,b", "c"]),
        ("x.tsv", b"a,b\n1,2\n3,4\n", ["a", "b"]),  # what is in the file says more than its name
        ("x.tsv", b"a, b\nx\ny, z\n", ["a, b"]),
        ("x.tsv", b"a\n1,5\n", ["a"]),
        ("x.psv", b"a;b\n1;2\n", ["a", "b"]),
        ("x.csv", b"a;b, c\nA;x, y\nB;z, w\n", ["a", "b, c"]),  # a blank follows commas within text
    ],
)
def test_the_separator_is_inferred(name: str, data: bytes, columns: list[str]) -> None:
    table = csv.read(Content(name, data, None), Csv(), ())
    assert table.rows.drop(ROW).collect_schema().names() == columns


@BOTH
@pytest.mark.parametrize(
    ("data", "code", "line", "text"),
    [
        (b"", "EmptyFile", None, None),
        (b"\xef\xbb\xbf \r\n\n", "EmptyFile", None, None),
        (b"a,b,a\n1,2,3\n", "DuplicateColumns", 1, None),
        (b"a,__row__\n1,2\n", "ReservedColumn", 1, None),
        (b'a,b\n1,2\n1,"2\n3,4\n', "UnreadableCsv", 3, '1,"2'),
        (b'a,"b\n', "UnreadableCsv", 1, 'a,"b'),
        (b"a,b\n1,2\n1,\xff\n", "NotUtf8", 3, "1,\\xff"),
        (b"a,b\n1,2\n1,\x00\n", "NulByte", 3, "1,\\x00"),
        (b"\xff\xfea\x00\n", "WrongEncoding", None, None),
    ],
)
def test_errors_of_unreadable_files_say_where(read: Read, data: bytes, code: str, line: int, text: str) -> None:
    with pytest.raises(DataError) as caught:
        read(data)
    assert caught.value.code == code
    assert caught.value.hint
    assert caught.value.place.line == line
    if text is not None:
        assert caught.value.place.text == text


def test_a_byte_that_is_not_utf8_is_named_by_its_offset() -> None:
    with pytest.raises(DataError, match="the byte 0xe9 at offset 10 is"):
        by_polars(b"a,b\n1,2\n1,\xe9\n", block=8)


def test_utf16_that_was_not_announced_is_recognized() -> None:
    table = by_records("a,b\n1,2\n".encode("utf-16"))
    assert table.rows.drop(ROW).collect().rows() == [(1, 2)]
    assert table.dialect["encoding"] == "utf-16"


def test_bytes_that_are_not_in_the_named_encoding() -> None:
    with pytest.raises(DataError) as caught:
        by_records(b"a\n\xff\xff\n", Csv(encoding="shift_jis"))
    assert caught.value.code == "WrongEncoding"


def test_names_for_another_number_of_columns() -> None:
    with pytest.raises(DataError) as caught:
        by_records(b"a,b\n1,2\n", Csv(columns=["x"]))
    assert caught.value.code == "WrongColumns"


@pytest.mark.full
def test_a_quote_that_is_never_closed_does_not_eat_memory() -> None:
    data = b'a,b\n"1,2\n' + b"3,4\n" * (LONGEST_FIELD // 4)
    with pytest.raises(DataError) as caught:
        by_polars(data, Csv(quote='"'), block=1024 * 1024)
    assert caught.value.code == "UnreadableCsv"
    assert caught.value.place.line == 2


def test_a_line_without_end_is_no_csv() -> None:
    with pytest.raises(DataError, match="longer than"):
        by_polars(b"a,b\n" + b"x" * (LONGEST_FIELD + 2))


def test_a_file_of_malformed_records_is_refused_as_a_whole() -> None:
    with pytest.raises(DataError) as caught:
        by_polars(b"a,b\n" + b"1,2,3\n" * (MOST_MALFORMED + 1))
    assert caught.value.code == "TooManyMalformed"


def test_too_many_columns() -> None:
    with pytest.raises(DataError) as caught:
        by_polars(b",".join(b"c%d" % number for number in range(30_000)) + b"\n")
    assert caught.value.code == "TooManyColumns"


@pytest.mark.parametrize(
    "wrong",
    [
        {"separator": ""},
        {"separator": "::"},
        {"separator": "→"},
        {"separator": "\n"},
        {"separator": ";", "quote": ";"},
        {"quote": "''"},
        {"columns": []},
        {"columns": "ab"},
        {"columns": ["a", "a"]},
        {"columns": ["a", ROW]},
        {"columns": [""]},
        {"null_values": "NA"},
        {"null_values": [None]},
        {"encoding": "klingon"},
        {"encoding": "base64"},
        {"encoding": 8},
        {"skip_lines": -1},
        {"padded": "yes"},
        {"skip_lines": True},
        {"comment": ""},
        {"comment": 1},
        {"decimal_comma": True, "separator": ","},
        {"escape": ",", "separator": ","},
        {"escape": "\\\\"},
        {"escape": '"', "quote": '"'},
        {"thousands": "1"},
        {"thousands": "."},
        {"thousands": ",", "decimal_comma": True},
    ],
)
def test_invalid_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DefinitionError, match=r"Csv\("):
        Csv(**wrong)  # type: ignore[arg-type]


def test_options_are_values() -> None:
    assert Csv(columns=["a"], null_values={"x", "y"}) == Csv(columns=("a",), null_values=["y", "x"])
    assert hash(Csv(null_values=["x"])) == hash(Csv(null_values=("x",)))


@BOTH
def test_a_doubtful_header_is_reported(read: Read) -> None:
    for title in (b"Report of 2026\n", b"Report of 2026\n\nby Ann\n"):
        with pytest.raises(DataError) as caught:
            read(title + b"a;b\n1;2\n3;4\n5;6\n", Csv(separator=";"))
        assert caught.value.code == "WrongHeader"
        assert "skip_lines" in caught.value.hint
    assert len(rows_of(read(title + b"a;b\n1;2\n3;4\n5;6\n", Csv(skip_lines=3)))) == 3


@BOTH
def test_escapes_where_they_are_said(read: Read) -> None:
    data = b'a,b\n"x \\"y\\", z",\\N\nC:\\new,"1\\\\"\np\\,q,"r\ns"\n'
    table = read(data, Csv(escape="\\", null_values=["\\N"]))
    assert rows_of(table) == [
        {"a": 'x "y", z', "b": None},
        {"a": "C:\\new", "b": "1\\"},
        {"a": "p,q", "b": "r\ns"},
    ]
    assert table.malformed is None
    assert table.dialect["escape"] == "\\"


@BOTH
def test_escapes_without_quotes(read: Read) -> None:
    data = b'a\tb\n5" pipe\tx\\\ty\n"\t\\\\\n'
    table = read(data, Csv(separator="\t", quote=None, escape="\\"))
    assert rows_of(table) == [{"a": '5" pipe', "b": "x\ty"}, {"a": '"', "b": "\\"}]


@BOTH
def test_quotes_and_escapes_are_inferred_if_nothing_else_makes_records(read: Read) -> None:
    single = read(b"a,b\n'x, y',1\n'z',2\n")
    assert rows_of(single) == [{"a": "x, y", "b": 1}, {"a": "z", "b": 2}]
    assert (single.dialect["quote"], "escape" in single.dialect) == ("'", False)
    escaped = read(b'a,b\n"x \\"y\\", z",1\n')
    assert rows_of(escaped) == [{"a": 'x "y", z', "b": 1}]
    assert escaped.dialect["escape"] == "\\"


@BOTH
def test_regular_files_are_not_guessed_at(read: Read) -> None:
    assert rows_of(read(b"a,b\n'x',1\nit's,2\n")) == [{"a": "'x'", "b": 1}, {"a": "it's", "b": 2}]
    assert rows_of(read(b'a,b\n"C:\\",1\n')) == [{"a": "C:\\", "b": 1}]
    assert len(malformed_of(read(b"a,b\n'x, y',1\nz,2\n", Csv(quote='"')))) == 1


@BOTH
def test_blanks_before_a_quote_are_recognized(read: Read) -> None:
    table = read(b'"a", "b", "c"\n"1,5", "x", "2"\n"y ""z""",  "w", 3\n')
    assert rows_of(table) == [{"a": "1,5", "b": "x", "c": 2}, {"a": 'y "z"', "b": "w", "c": 3}]
    assert table.dialect["padded"] is True
    assert rows_of(read(b"a, b\n1, x\n")) == [{"a": 1, "b": " x"}]  # nothing is quoted: blanks in a cell are text
    assert rows_of(read(b"a, b\n1, x\n", Csv(padded=True))) == [{"a": 1, "b": "x"}]
    assert rows_of(read(b'a, "b"\n1, "x"\n', Csv(padded=False))) == [{"a": 1, '"b"': ' "x"'}]


@BOTH
def test_a_dialect_that_splits_nothing_is_not_chosen(read: Read) -> None:
    """With ' for a quote each line is one regular field; to take that would lose all columns in silence."""
    with pytest.raises(DataError, match="text follows a closing quote"):
        read(b'"a":"b"\n"1":"it\'s"\n')


@BOTH
def test_a_file_of_which_hardly_anything_can_be_read_is_refused(read: Read) -> None:
    with pytest.raises(
        DataError, match=r"2 records cannot be read, and 0 can; the first: line 2: text follows"
    ) as caught:
        read(b'"a";"b"\n"1","2"\n"3","4"\n')
    assert (caught.value.code, caught.value.place.line, caught.value.place.row) == ("UnreadableCsv", 2, 1)


@BOTH
def test_ragged_records_where_they_are_allowed(read: Read) -> None:
    data = b"a,b,c\n1\n2,x\n3,y,z\n4,,,\n5,,,,w\n"
    table = read(data, Csv(ragged=True))
    assert rows_of(table) == [
        {"a": 1, "b": None, "c": None},
        {"a": 2, "b": "x", "c": None},
        {"a": 3, "b": "y", "c": "z"},
        {"a": 4, "b": None, "c": None},
    ]
    assert numbers_of(table) == [1, 2, 3, 4]
    assert [number for number, _, _ in malformed_of(table)] == [5]
    assert [number for number, _, _ in malformed_of(read(data))] == [1, 2, 4, 5]


@BOTH
@pytest.mark.parametrize(
    ("cells", "options", "numbers"),
    [
        (["1,234", "-12,345,678.5", "7", ""], {"thousands": ","}, [1234.0, -12345678.5, 7.0, None]),
        (["1.234", "12"], {"thousands": ".", "decimal_comma": True}, [1234, 12]),
        (["1.234,5", "0,25"], {"thousands": ".", "decimal_comma": True}, [1234.5, 0.25]),
        (["1 234", "1"], {"thousands": " "}, [1234, 1]),
        (["1'234'567"], {"thousands": "'"}, [1234567]),
        (["1,23", "1"], {"thousands": ","}, None),
        (["0,123", "1"], {"thousands": ","}, None),
        (["1,234", "n/a"], {"thousands": ","}, None),
        (["1,234"], {}, None),
    ],
)
def test_marks_between_thousands(
    read: Read, cells: list[str], options: dict[str, Any], numbers: list[float | None] | None
) -> None:
    data = ("n;t\n" + "".join(f"{cell};x\n" for cell in cells)).encode()
    actual = [row["n"] for row in rows_of(read(data, Csv(separator=";", **options)))]
    assert actual == (cells if numbers is None else numbers)


@BOTH
def test_the_contract_s_numbers_lose_their_marks_and_its_text_does_not(read: Read) -> None:
    declared: Any = {"n": pl.Int64(), "t": pl.String()}
    table = read(b"n;t\n1,234;1,234\nx,y;2\n", Csv(separator=";", thousands=","), declared)
    assert rows_of(table) == [{"n": "1234", "t": "1,234"}, {"n": "x,y", "t": "2"}]


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
SPIKY = st.text(st.sampled_from('a1",;\n\r# é'), max_size=6)


@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(st.one_of(TEXT, SPIKY), min_size=width, max_size=width), min_size=1, max_size=8)
    ),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([python_csv.QUOTE_MINIMAL, python_csv.QUOTE_ALL]),
    block=st.integers(1, 64),
)
def test_output_of_a_csv_writer_is_read_back_unchanged(
    rows: list[list[str]], end: str, quoting: int, block: int
) -> None:
    if end == "\n" and quoting == python_csv.QUOTE_MINIMAL:  # then Python does not quote a CR, which ends a record
        rows = [[cell.replace("\r", "") for cell in row] for row in rows]
    names = [f"column_{place}" for place in range(1, len(rows[0]) + 1)]
    out = io.StringIO()
    python_csv.writer(out, lineterminator=end, quoting=quoting).writerows([names, *rows])  # type: ignore[arg-type]
    expected = [dict(zip(names, [cell or None for cell in row], strict=True)) for row in rows]
    data, options = out.getvalue().encode(), Csv(separator=",")
    for table in (by_records(data, options, tuple(names)), by_polars(data, options, tuple(names), block)):
        assert rows_of(table) == expected
        assert table.malformed is None


PIECES = st.sampled_from(
    ["a", "1", "'", "\\", "1,000", "1'000", '"', '""', ",", '",', ',"', "\n", '"\n', "\r\n", "\r", " ", "é", "#", "NA"]
)


@given(
    body=st.lists(PIECES, max_size=30).map("".join),
    width=st.integers(1, 3),
    options=st.builds(
        Csv,
        separator=st.just(","),
        quote=st.sampled_from(['"', None, "auto"]),
        escape=st.sampled_from(["auto", "\\", None]),
        padded=st.sampled_from([None, True, False]),
        ragged=st.booleans(),
        thousands=st.sampled_from([None, ",", "'"]),
        comment=st.sampled_from([None, "#"]),
        header=st.booleans(),
        null_values=st.sampled_from([(), ("NA",)]),
    ),
    block=st.integers(1, 64),
)
@example(body='",a",\n"x"', width=2, options=Csv(separator=","), block=3)
def test_records_and_polars_read_the_same(body: str, width: int, options: Csv, block: int) -> None:
    data = (",".join(f"c{place}" for place in range(width)) + "\n" + body).encode()
    outcomes: list[object] = []
    for small in (len(data), -1):
        try:
            table = csv.read(Content("data.csv", data, None), options, (), small=small, block=block)
            frame = table.rows.collect()
            outcomes.append((frame.select(sorted(frame.columns)).to_dict(as_series=False), malformed_of(table)))
        except DataError as error:
            outcomes.append((error.code, error.message, error.place))
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=60))
def test_no_bytes_at_all_crash_it(data: bytes) -> None:
    records = data.count(b"\n") + data.count(b"\r") + 1
    for read in (by_records, by_polars):
        with suppress(DataError):
            table = read(data)
            assert table.rows.collect().height + len(malformed_of(table)) <= records
