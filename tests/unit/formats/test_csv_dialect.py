"""How CSV files are written that are not as they should be: names, marks and numbers that do not say what they mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats import ROW, Csv, Table, csv, read
from silversmith.formats.archives.content import Content, Scratch
from silversmith.formats.csv import stream_of
from silversmith.formats.table import clean_name
from silversmith.stores import Source

Opener = Callable[..., Source]

Read = Callable[..., Table]


def by_records(data: bytes, options: Csv | None = None) -> Table:
    """As small files are read."""
    return csv.read(Content("data.csv", data, None), options or Csv(), (), small=len(data))


def by_blocks(data: bytes, options: Csv | None = None) -> Table:
    """As large files are read."""
    return csv.read(Content("data.csv", data, None), options or Csv(), (), small=-1, block=64)


BOTH = pytest.mark.parametrize("read", [by_records, by_blocks])


def rows_of(table: Table) -> list[dict[str, object]]:
    return table.rows.drop(ROW).collect().to_dicts()


def reasons_of(table: Table) -> list[str]:
    return [] if table.malformed is None else table.malformed["reason"].to_list()


# Names.


@BOTH
@pytest.mark.parametrize(
    ("label", "name"),
    [
        (" a ", "a"),
        ("\ta", "a"),
        ("\u200ba", "a"),
        ("a\u200b", "a"),
        ("\ufeffa", "a"),
        ("\u00a0a\u00a0", "a"),
        ("order\u00a0no", "order no"),
        ("order\u202fno", "order no"),
        ("or\u00adder", "order"),
        ("\u200eorder\u200f", "order"),
        ("\u2060order", "order"),
        ("\u3000order\u3000", "order"),
        ("\u200dorder\u200c", "order"),
    ],
)
def test_no_name_has_signs_that_nobody_sees(read: Read, label: str, name: str) -> None:
    table = read(f"x;{label}\n1;2\n".encode(), Csv(separator=";"))
    assert rows_of(table) == [{"x": 1, name: 2}]
    assert table.dialect["renamed"] == {name: label}


@BOTH
@pytest.mark.parametrize("name", ["\u0645\u06cc\u200c\u062e", "क्\u200dष", "東京", "a b", "Amount\n(EUR)", "a\u0308"])
def test_a_name_that_is_seen_as_it_is_stays(read: Read, name: str) -> None:
    table = read(f'"{name}",x\n1,2\n'.encode())
    assert rows_of(table) == [{name: 1, "x": 2}]
    assert "renamed" not in table.dialect


@BOTH
def test_a_name_of_signs_that_nobody_sees_is_none(read: Read) -> None:
    assert rows_of(read("a,\u200b,\u00a0\n1,2,3\n".encode())) == [{"a": 1, "column_2": 2, "column_3": 3}]


@BOTH
def test_names_that_look_alike_are_one_name_twice(read: Read) -> None:
    with pytest.raises(DataError) as caught:
        read(b"a, a\n1,2\n")
    assert caught.value.code == "DuplicateColumns"


@BOTH
def test_names_of_the_reader_are_taken_as_they_are(read: Read) -> None:
    table = read(b" a ,b\n1,2\n", Csv(columns=[" x ", "y"]))
    assert rows_of(table) == [{" x ": 1, "y": 2}]
    assert "renamed" not in table.dialect


@given(st.text())
def test_a_clean_name_is_clean(name: str) -> None:
    clean = clean_name(name)
    assert clean_name(clean) == clean == clean.strip()
    assert not set("\u200b\ufeff\u00a0\u2060\u00ad") & set(clean)


# Separators at the end of records.


@BOTH
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("more", [1, 2, 3])
@pytest.mark.parametrize("records", [1, 2, 49, 60, 500])
def test_separators_at_the_end_of_every_record(read: Read, separator: str, more: int, records: int) -> None:
    rows = "".join(f"{number}{separator}x{more * separator}\n" for number in range(records))
    table = read(f"a{separator}b\n{rows}".encode())
    assert rows_of(table) == [{"a": number, "b": "x"} for number in range(records)]
    assert reasons_of(table) == []
    assert table.dialect["trailing"] == more


@BOTH
def test_the_last_column_may_be_empty_before_the_separator_at_the_end(read: Read) -> None:
    assert rows_of(read(b"a,b\n1,,\n,2,\n,,\n")) == [{"a": 1, "b": None}, {"a": None, "b": 2}, {"a": None, "b": None}]


@BOTH
def test_separators_at_the_end_of_records_without_a_header(read: Read) -> None:
    options = Csv(header=False, columns=["a", "b"])
    assert rows_of(read(b"1,2,\n3,4,\n", options)) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


@BOTH
def test_a_record_that_differs_from_those_with_a_separator_at_their_end(read: Read) -> None:
    good = b"1,2,\n" * 60
    table = read(b"a,b\n" + good + b"3,4\n5,6,7\n8,\n9,9,,\n")
    assert rows_of(table)[60:] == [{"a": 3, "b": 4}, {"a": 8, "b": None}]
    assert reasons_of(table) == ["line 63: has 3 fields, the header has 2", "line 65: has 4 fields, the header has 2"]


@BOTH
def test_fields_beyond_the_header_that_are_not_all_empty_are_no_separators_at_the_end(read: Read) -> None:
    with pytest.raises(DataError) as caught:
        read(b"a,b\n1,2,\n3,4,\n5,6,7\n8,9,\n")
    assert caught.value.code == "WrongHeader"


@BOTH
def test_separators_at_the_end_do_not_hide_the_separator(read: Read) -> None:
    assert rows_of(read(b"Price, EUR;note\n1,5;x;\n2,5;y;\n")) == [
        {"Price, EUR": 1.5, "note": "x"},
        {"Price, EUR": 2.5, "note": "y"},
    ]


def test_a_stream_of_records_with_a_separator_at_their_end(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"a,b\n" + b"1,x,\n" * 100 + b"2,y\n3,z,z\n" + b"4,x,\n" * 100)
    content = Content("data.csv", None, path, scratch=Scratch(tmp_path))
    stream = stream_of(content, Csv(), {"a": pl.Int64(), "b": pl.String()}, block=50)
    assert stream is not None
    with_parts = list(stream.parts(lambda frame: frame))
    assert sum(part.records for part in with_parts) == 202
    good = [part.good for part in with_parts if part.good is not None]
    assert good
    assert all(frame.schema == {"a": pl.Int64, "b": pl.String} for frame in good)
    (malformed,) = (
        part.table.malformed for part in with_parts if part.table is not None and part.table.malformed is not None
    )
    assert malformed["reason"].to_list() == ["line 103: has 3 fields, the header has 2"]


# Numbers.


@BOTH
@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_point_before_three_digits_may_be_either(read: Read, separator: str) -> None:
    data = "a{}b\nx{}1.234\ny{}2.500\n".replace("{}", separator).encode()
    table = read(data)
    assert [row["b"] for row in rows_of(table)] == [1.234, 2.5]
    ambiguous = str(table.dialect["ambiguous"])
    assert "b: 1.234 may be 1234" in ambiguous
    for option in ('Csv(decimal_comma=True, thousands=".")', 'Csv(thousands="")'):
        assert option in ambiguous


@BOTH
def test_the_options_that_are_named_settle_it(read: Read) -> None:
    data = b"a;b\nx;1.234\ny;2.500\n"
    groups, decimals = read(data, Csv(decimal_comma=True, thousands=".")), read(data, Csv(thousands=""))
    assert [row["b"] for row in rows_of(groups)] == [1234, 2500]
    assert [row["b"] for row in rows_of(decimals)] == [1.234, 2.5]
    assert "ambiguous" not in groups.dialect
    assert "ambiguous" not in decimals.dialect


@BOTH
@pytest.mark.parametrize("cell", ["1.5", "0.234", "1234.500", "-1.23", "1.2345", "01.234", "x", "1.234e1"])
def test_one_cell_can_show_which(read: Read, cell: str) -> None:
    rows = "x;1.234\n" * 60 + f"y;{cell}\n"
    assert "ambiguous" not in read(f"a;b\n{rows}".encode()).dialect


@BOTH
def test_numbers_between_commas_have_decimal_points(read: Read) -> None:
    assert "ambiguous" not in read(b"a,b\nx,1.234\n").dialect


@BOTH
def test_a_column_without_a_name_can_be_ambiguous(read: Read) -> None:
    assert "column_2: 1.234" in str(read(b"x;1.234\n", Csv(header=False)).dialect["ambiguous"])


# Quotes.


@BOTH
@pytest.mark.parametrize("before", [0, 5, 70])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_quotes_that_mean_nothing_stay(read: Read, before: int, separator: str) -> None:
    names = ["Bob"] * before + ['"Weird Al" Yankovic', '12" vinyl', 'the "King"', '"Heroes"', "Eve", "Zoe"]
    rows = "".join(f"{name}{separator}{number}\n" for number, name in enumerate(names))
    table = read(f"name{separator}n\n{rows}".encode())
    assert rows_of(table) == [{"name": name, "n": number} for number, name in enumerate(names)]
    assert table.dialect["quote"] is None


@BOTH
def test_a_column_that_is_quoted_throughout_is_quoted(read: Read) -> None:
    table = read(b'name,n\n"Ann",1\n"Bob" x,2\n"Eve",3\n')
    assert rows_of(table) == [{"name": "Ann", "n": 1}, {"name": "Eve", "n": 3}]
    assert table.dialect["quote"] == '"'
    assert "Csv(quote=None)" in reasons_of(table)[0]


@BOTH
def test_a_separator_within_quotes_shows_that_they_mean_something(read: Read) -> None:
    table = read(b'name,n\n"Al, Weird",1\n"Weird Al" x,2\nBob,3\nEve,4\n')
    assert [row["name"] for row in rows_of(table)] == ["Al, Weird", "Bob", "Eve"]
    assert len(reasons_of(table)) == 1


@BOTH
@pytest.mark.parametrize("data", [b'name,n\nBob,1\n"Ann,2\n', b'name,n\nBob,1\n"Ann', b'name\tn\n"Ann\t1\nBob\t2\n'])
def test_a_quote_that_is_never_closed_is_not_taken_for_text(read: Read, data: bytes) -> None:
    with pytest.raises(DataError) as caught:
        read(data)
    assert caught.value.code == "UnreadableCsv"
    assert "Csv(quote=None)" in caught.value.hint


@BOTH
@pytest.mark.parametrize("before", [0, 5, 70])
@pytest.mark.parametrize("after", [11, 500])
def test_a_quote_that_many_records_follow_means_nothing(read: Read, before: int, after: int) -> None:
    names = ["Bob"] * before + ['"Weird', *["Eve"] * after]
    rows = "".join(f"{name}\t{number}\n" for number, name in enumerate(names))
    table = read(f"name\tn\n{rows}".encode())
    assert [row["name"] for row in rows_of(table)] == names


@BOTH
@pytest.mark.parametrize("lines", [11, 500])
@pytest.mark.parametrize("header", ["note\n", "id;note\n1;"])
def test_a_long_text_that_is_cut_off_is_not_taken_for_records(read: Read, header: str, lines: int) -> None:
    with pytest.raises(DataError) as caught:
        read((header + '"' + "Dear Sir\n" * lines).encode())
    assert caught.value.code == "UnreadableCsv"


@BOTH
def test_a_long_text_that_ends_after_the_sample_is_one_cell(read: Read) -> None:
    note = "Dear Sir\n" * 20_000
    for header in ("note\n", "id;note\n1;"):
        (row,) = rows_of(read(f'{header}"{note}"\n'.encode()))
        assert row["note"] == note


@BOTH
def test_names_in_quotes_show_that_they_mean_something(read: Read) -> None:
    table = read(b'"name","n"\n"Ann" A,1\n"Bob" B,2\nEve,3\nZoe,4\n')
    assert [row["name"] for row in rows_of(table)] == ["Eve", "Zoe"]


# Titles.


@BOTH
@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize(
    "title",
    [
        "Export\n",
        "Report: 10,5 EUR\n",
        "Sales, 2026\n",
        "Sales,2026\n",
        "Export\nby Ann\n",
        "Sales, 2026\nAnn\n\n",
        "a\nb\nc\nd\n",
    ],
)
@pytest.mark.parametrize("records", [2, 3, 60])
def test_a_title_above_a_table_of_any_separator(read: Read, separator: str, title: str, records: int) -> None:
    rows = [["id", "name", "amount"], *([str(number), "Ann", "10,5"] for number in range(records))]
    data = title + "".join(separator.join(row) + "\n" for row in rows)
    with pytest.raises(DataError) as caught:
        read(data.encode())
    assert caught.value.code == "WrongHeader"
    assert "skip_lines" in caught.value.hint


@BOTH
def test_a_separator_of_sentences_makes_no_title_of_the_header(read: Read) -> None:
    assert rows_of(read(b"id,note\n1,a;b\n2,c;d\n")) == [{"id": 1, "note": "a;b"}, {"id": 2, "note": "c;d"}]


@BOTH
def test_lines_that_are_cut_make_no_title_of_the_header(read: Read) -> None:
    table = read(b"id,note\n1,a;b\n2\n3,c;d\n4,e;f\n")
    assert [row["id"] for row in rows_of(table)] == [1, 3, 4]
    assert reasons_of(table) == ["line 3: has 1 field, the header has 2"]


@BOTH
def test_lines_at_the_end_with_more_fields_make_no_title_of_the_header(read: Read) -> None:
    table = read(b"note\n" + b"x\n" * 40 + b"a,b\nc,d\n", Csv(separator=","))
    assert table.height == 40
    assert len(reasons_of(table)) == 2


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "text",
    [
        "Report,,\nid,total,x\n1,2,3\n4,5,6\n",
        '"Report",,\n,,\nid,total,x\n1,2,3\n',
        "Report,,\nJanuary,,\n\nid,name,city\n1,a,b\n2,c,d\n",
        "Report,,\nland,name,city\nq,a,b\nr,c,d\n",
        "Report,\nid,total\n1,2.5\n,\n3,-4\n",
        ",Report,\nid,total,x\n1,2,3\n",
        "Report,,,\nid,total,x,\n1,2,3,\n",
    ],
)
@pytest.mark.parametrize("times", [1, 3000])
def test_a_title_filled_up_with_separators_is_no_header(text: str, mark: str, times: int, in_memory: Opener) -> None:
    *above, last = text.splitlines(keepends=True)
    data = ("".join(above) + last * times).replace(",", mark).encode()
    with pytest.raises(DataError, match="a title") as caught:
        read(in_memory(data, "x.csv"))
    assert caught.value.code == "WrongHeader"
    titles = next(number for number, line in enumerate(above) if "name" in line or "total" in line)
    assert read(in_memory(data, "x.csv"), Csv(skip_lines=titles)).rows.collect().height > 0


@pytest.mark.parametrize(
    "text",
    [
        "id,,\n1,2,3\n4,5,6\n",
        ",a\nx,1\ny,2\n",
        ",name\nx,Ann\ny,Bob\n",
        "name,\nx,Ann\ny,Bob\n",
        "a,,\nx,,\ny,,\n",
        "a,,\n",
        "name,,\nAnn,Rome,\nBob,Oslo,\n",
        "a,,\nx,y,\nz,w,1\n",
        "day,,\n2026-01-31,x,y\n2026-02-01,z,w\n",
    ],
)
def test_columns_without_a_name_are_no_title(text: str, in_memory: Opener) -> None:
    rows = read(in_memory(text.encode(), "x.csv")).rows.collect()
    assert rows.height == text.count("\n") - 1


@BOTH
@pytest.mark.parametrize(
    ("rows", "values"),
    [
        ("x;1,5\ny;2\n", [1.5, 2.0]),
        ("x;1.234,5\ny;2.345\n", [1234.5, 2345.0]),
        ("x;-0,25\ny;+1,234\n", None),
        ("x;12,50\ny;\n", [12.5, None]),
    ],
)
def test_a_decimal_comma_that_leaves_no_doubt_is_read_as_one_and_said(
    read: Read, rows: str, values: list[float | None] | None
) -> None:
    table = read(f"a;b\n{rows}".encode())
    assert table.decimal_comma
    assert table.dialect["decimal_comma"] is True
    assert "ambiguous" not in table.dialect
    if values is not None:
        assert [row["b"] for row in rows_of(table)] == values


@BOTH
@pytest.mark.parametrize(
    "rows",
    [
        "x;1,234\ny;2,345\n",  # groups of three digits, or decimals
        "1.5;1,5\n2.5;2,5\n",  # two columns that disagree
        "x;1,5 kg\ny;2,5 kg\n",
        "x;1,2,3\ny;4,5\n",
        "x;a\ny;b\nz;1,5\n",  # a word that looks like a number
        "x;1,234.5\ny;2,345.6\n",
    ],
)
def test_doubtful_commas_are_no_decimal_commas(read: Read, rows: str) -> None:
    table = read(f"a;b\n{rows}".encode())
    assert not table.decimal_comma
    assert "decimal_comma" not in table.dialect


@BOTH
def test_words_beside_decimal_commas_and_options_that_are_named(read: Read) -> None:
    data = b"a;b\nx;1,5\ny;n/a\nz;2,5\n"
    assert read(data).decimal_comma
    assert not read(data, Csv(thousands="")).decimal_comma
    assert not read(data, Csv(thousands=",")).decimal_comma
    assert not read(b'a,b\nx,"1,5"\ny,"2,5"\n').decimal_comma
