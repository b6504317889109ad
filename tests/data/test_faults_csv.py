"""CSV files that were once read wrongly, each an example of its kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from silversmith.errors import DataError
from silversmith.formats import ROW, Csv, csv
from silversmith.formats.archives.content import Content

FAULTS = Path(__file__).with_name("faults")
BOTH = pytest.mark.parametrize("small", [1_000_000, -1], ids=["small", "by blocks"])


def read(data: bytes, small: int) -> list[dict[str, object]]:
    table = csv.read(Content("data.csv", data, None), Csv(), (), small=small)
    assert table.malformed is None
    return table.rows.drop(ROW).collect().to_dicts()


@BOTH
def test_the_sample_for_the_dialect_ends_where_a_record_ends(small: int) -> None:
    rows = read((FAULTS / "line50.csv").read_bytes(), small)
    assert list(rows[0]) == ["Price, EUR", "note"]
    assert len(rows) == 59
    assert rows[48] == {"Price, EUR": 49.5, "note": "two\nlines"}


@BOTH
@pytest.mark.parametrize("lines", [1, 2, 7])
@pytest.mark.parametrize("records", [45, 49, 50, 51, 60, 5000])
def test_a_record_over_several_lines_may_be_anywhere(small: int, records: int, lines: int) -> None:
    note = "\n".join(["two, or more"] * lines)
    data = "Price, EUR;note\n" + "".join(f'{n},50;"{note if n % 49 == 0 else "ok"}"\n' for n in range(records))
    rows = read(data.encode(), small)
    assert len(rows) == records
    assert list(rows[0]) == ["Price, EUR", "note"]


@BOTH
def test_separators_are_looked_for_in_the_first_record(small: int) -> None:
    rows = read((FAULTS / "hdr_newline.csv").read_bytes(), small)
    assert rows == [{"Amount\n(EUR)": 1, "Name": "Ann"}, {"Amount\n(EUR)": 2, "Name": "Bob"}]


@BOTH
@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
def test_a_header_over_several_lines_has_any_separator(small: int, separator: str) -> None:
    data = f'"Amount\n\n(EUR)"{separator}"Name"\n1{separator}Ann\n'
    assert read(data.encode(), small) == [{"Amount\n\n(EUR)": 1, "Name": "Ann"}]


@BOTH
@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
@pytest.mark.parametrize("title", ["Export of 2026-01-31\n", "Export of 2026-01-31\n\n", "Export\nby Ann\n"])
def test_a_title_above_a_table_is_no_header(small: int, separator: str, title: str) -> None:
    rows = [["id", "name", "amount"], ["1", "Ann", "10"], ["2", "Bob", "3"], ["3", "Eve", "4"]]
    data = title + "".join(separator.join(row) + "\n" for row in rows)
    with pytest.raises(DataError) as caught:
        read(data.encode(), small)
    assert caught.value.code == "WrongHeader"
    assert "skip_lines" in caught.value.hint


@BOTH
def test_a_title_above_decimal_commas(small: int) -> None:
    with pytest.raises(DataError) as caught:
        read((FAULTS / "preamble.csv").read_bytes(), small)
    assert caught.value.code == "WrongHeader"


@BOTH
def test_one_column_of_sentences_is_one_column(small: int) -> None:
    assert read(b"note\nfirst; then\nthis; that\n", small) == [{"note": "first; then"}, {"note": "this; that"}]
