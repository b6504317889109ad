"""Proofs about the bytes of a block of CSV, against a regular expression that says the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.formats.csv.blocks import COMPARED, empty_fields
from silversmith.formats.csv.dialect import CsvDialect

PAIRED = re.compile(rb'(?:[^"]*+(?<![^,\n])"[^"]*+"(?![^,\r\n]))*+[^"]*+')
COMMA = CsvDialect(",", '"')

FIELD = st.sampled_from(["a", "", '"a"', '""', '"a,b"', '"a\nb"', '"', 'a"', '"a""b"', '"a"b', 'a"b"', '"\r"', "ü"])
RECORD = st.tuples(st.lists(FIELD, min_size=1), st.sampled_from(["\n", "\r\n", "\r", ""]))


@given(
    st.one_of(
        st.text(alphabet='",\n\ra', min_size=1),
        st.lists(RECORD, min_size=1).map(lambda records: "".join(",".join(fields) + end for fields, end in records)),
    ).filter(bool)
)
def test_quotes_around_whole_fields_and_no_others(text: str) -> None:
    data = text.encode()
    assert (empty_fields(data, COMMA) is not None) is (PAIRED.fullmatch(data) is not None)


@given(st.lists(RECORD, min_size=1))
def test_empty_quoted_fields_are_counted(records: list[tuple[list[str], str]]) -> None:
    data = "".join(",".join(fields) + end for fields, end in records).encode()
    count = empty_fields(data, COMMA) if data else None
    if count is not None:
        assert bool(count) is (b'""' in data)


@pytest.mark.parametrize("cell", ['"a"', '""', 'a"b', '"a', '"\n"'])
@pytest.mark.parametrize("place", range(-8, 8))
def test_at_the_ends_of_the_pieces_that_are_compared(cell: str, place: int) -> None:
    data = b"x" * (COMPARED + place - 3) + b",y," + cell.encode() + b',"z"\n' + b'"w",v\n' * 100
    assert (empty_fields(data, COMMA) is not None) is (PAIRED.fullmatch(data) is not None)


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_with_another_separator(separator: str) -> None:
    assert empty_fields(f'a{separator}"b"\n'.encode(), CsvDialect(separator, '"')) is not None
    assert empty_fields(b'a,"b"\n', CsvDialect(separator, '"')) is None


def test_a_quote_of_several_bytes_proves_nothing() -> None:
    assert empty_fields("«a«,b\n".encode(), CsvDialect(",", "«")) is None
