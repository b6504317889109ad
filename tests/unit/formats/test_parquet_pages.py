"""Checksums of Parquet's pages: whoever changes a byte of a page is found out, and nothing else is."""

from __future__ import annotations

import io
from contextlib import suppress

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from silversmith.errors import DataError
from silversmith.formats import parquet_pages
from silversmith.formats.archives.content import Content

ROWS = pa.table(
    {"n": list(range(5000)), "s": [f"s{n % 40}" for n in range(5000)], "l": [[n] * (n % 3) for n in range(5000)]}
)


def written(**options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(ROWS, out, row_group_size=2000, **options)
    return out.getvalue()


def content(data: bytes) -> Content:
    return Content("rows.parquet", data, None)


PAGES = ("1.0", "2.0")
SUMMED = {version: written(write_page_checksum=True, data_page_version=version) for version in PAGES}
BARE = written()


@pytest.mark.parametrize("version", PAGES)
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_what_was_written_is_as_it_was_written(version: str, compression: str) -> None:
    parquet_pages.verify(content(written(write_page_checksum=True, data_page_version=version, compression=compression)))
    parquet_pages.verify(content(BARE))


@pytest.mark.parametrize("version", PAGES)
def test_a_changed_byte_is_found_and_its_column_named(version: str) -> None:
    data = bytearray(SUMMED[version])
    data[100] ^= 1  # within the dictionary of the first column
    with pytest.raises(DataError, match=r'page 1 of the column "n", at byte \d+, is not what was written') as caught:
        parquet_pages.verify(content(bytes(data)))
    assert (caught.value.code, caught.value.place.column) == ("UnreadableParquet", "n")


@given(version=st.sampled_from(PAGES), share=st.floats(0, 1), bit=st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_no_page_changes_unnoticed(version: str, share: float, bit: int) -> None:
    data = bytearray(SUMMED[version])
    footer = int.from_bytes(data[-8:-4], "little") + 8
    data[4 + int(share * (len(data) - footer - 5))] ^= 1 << bit
    try:
        read = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    except OSError as error:
        if "CRC" in str(error):  # else it is the header of a page that changed, which no checksum covers
            with pytest.raises(DataError, match="not what was written"):
                parquet_pages.verify(content(bytes(data)))
        return
    if read.equals(ROWS):
        parquet_pages.verify(content(bytes(data)))


@given(data=st.binary(max_size=400), footer=st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_bytes_at_all_crash_it(data: bytes, footer: bool) -> None:
    if footer:
        data = b"PAR1" + data + len(data).to_bytes(4, "little") + b"PAR1"
    with suppress(DataError):
        parquet_pages.verify(content(data))


@given(share=st.floats(0, 1), value=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_no_changed_footer_crashes_it(share: float, value: int) -> None:
    data = bytearray(SUMMED["1.0"])
    footer = int.from_bytes(data[-8:-4], "little")
    data[len(data) - 8 - footer + int(share * (footer - 1))] = value
    with suppress(DataError):
        parquet_pages.verify(content(bytes(data)))
