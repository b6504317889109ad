"""Checksums of Parquet's pages: a changed byte of a page is noticed, and nothing else is."""

from __future__ import annotations

import io
from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from silversmith.errors import DataError
from silversmith.formats import parquet
from silversmith.formats.archives.content import Content
from silversmith.formats.parquet import read_footer, verify
from tests.examples import examples

ROWS = pa.table(
    {"n": list(range(5000)), "s": [f"s{n % 40}" for n in range(5000)], "l": [[n] * (n % 3) for n in range(5000)]}
)


def written(**options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(ROWS, out, row_group_size=2000, **options)
    return out.getvalue()


def check(data: bytes) -> None:
    content = Content("rows.parquet", data, None)
    footer = read_footer(content)
    if footer is not None:
        verify(content, footer)


PAGES = ("1.0", "2.0")
SUMMED = {version: written(write_page_checksum=True, data_page_version=version) for version in PAGES}
BARE = written()


@pytest.mark.parametrize("version", PAGES)
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_files_we_wrote_are_recognized(version: str, compression: str) -> None:
    check(written(write_page_checksum=True, data_page_version=version, compression=compression))
    check(BARE)


@pytest.mark.parametrize("version", PAGES)
def test_a_changed_byte_is_found_and_its_column_named(version: str) -> None:
    data = bytearray(SUMMED[version])
    data[100] ^= 1  # within the dictionary of the first column
    with pytest.raises(DataError, match=r'page 1 of the column "n", at byte \d+, is not what was written') as caught:
        check(bytes(data))
    assert (caught.value.code, caught.value.place.column) == ("UnreadableParquet", "n")


@given(version=st.sampled_from(PAGES), share=st.floats(0, 1), bit=st.integers(0, 7))
@settings(max_examples=examples(100), deadline=None)
def test_no_page_changes_unnoticed(version: str, share: float, bit: int) -> None:
    data = bytearray(SUMMED[version])
    footer = int.from_bytes(data[-8:-4], "little") + 8
    data[4 + int(share * (len(data) - footer - 5))] ^= 1 << bit
    try:
        read = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    except OSError as error:
        if "CRC" in str(error):  # else it is the header of a page that changed, which no checksum covers
            with pytest.raises(DataError, match="not what was written"):
                check(bytes(data))
        return
    if read.equals(ROWS):
        check(bytes(data))


@given(data=st.binary(max_size=400), footer=st.booleans())
@settings(max_examples=examples(300), deadline=None)
def test_no_bytes_at_all_crash_it(data: bytes, footer: bool) -> None:
    if footer:
        data = b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1"
    with suppress(DataError):
        check(data)


@given(share=st.floats(0, 1), value=st.integers(0, 255))
@settings(max_examples=examples(200), deadline=None)
def test_no_changed_footer_crashes_it(share: float, value: int) -> None:
    data = bytearray(SUMMED["1.0"])
    footer = int.from_bytes(data[-8:-4], "little")
    data[len(data) - 8 - footer + int(share * (footer - 1))] = value
    with suppress(DataError):
        check(bytes(data))


NESTED = st.lists(st.none() | st.lists(st.none() | st.integers(0, 3), max_size=3), min_size=1, max_size=60)


@given(rows=NESTED, flat=st.lists(st.none() | st.booleans(), min_size=60, max_size=60))
@settings(max_examples=examples(60), deadline=None)
def test_right_counts_of_nulls_are_taken_for_right(
    rows: list[list[int | None] | None], flat: list[bool | None]
) -> None:
    out = io.BytesIO()
    table = pa.table({"l": pa.array(rows, pa.list_(pa.int64())), "b": flat[: len(rows)]})
    pq.write_table(table, out, data_page_version="2.0", data_page_size=64, write_batch_size=8)
    check(out.getvalue())


def test_counts_that_disagree_are_noticed() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": [1] * 5000}), out, write_statistics=False, use_dictionary=False)
    data = out.getvalue()
    rows = b"\x16" + b"\x90\x4e"  # a field of 64 bits, and 5,000 in zigzag
    assert data.count(rows) >= 2
    at = data.index(rows)
    wrong = data[:at] + b"\x16\x92\x4e" + data[at + 3 :]
    with pytest.raises(DataError, match=r"5,00[01]") as caught:
        check(wrong)
    assert caught.value.code == "UnreadableParquet"


@pytest.mark.parametrize(("number", "name"), [(16, "VARIANT"), (40, "number 40")])
def test_a_group_of_a_type_that_polars_does_not_know_is_named(number: int, name: str) -> None:
    """The logical type of a list, in the words of Thrift's compact protocol, becomes another one."""
    data = BARE
    at = data.index(b"\x4c\x3c\x00\x00", len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    footer = data[at:-8].replace(b"\x4c\x3c\x00\x00", b"\x4c\x0c" + bytes([2 * number]) + b"\x00\x00", 1)
    length = int.from_bytes(data[-8:-4], "little") + 1
    content = Content("rows.parquet", data[:at] + footer + length.to_bytes(4, "little") + b"PAR1", None)
    with pytest.raises(DataError, match=name) as caught:
        parquet.read(content)
    assert caught.value.code == "UnsupportedParquet"
