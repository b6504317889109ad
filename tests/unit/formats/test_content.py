"""Compressed files are unpacked, within limits, and temporary files go when nobody needs them."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats import ROW, Csv, read
from silversmith.formats.archives.content import LEAST_UNPACKED, Content, Scratch
from silversmith.formats.archives.members import unpack_all
from silversmith.stores import IN_MEMORY, Source
from tests.examples import examples

Opener = Callable[..., Source]


def unpack(source: Source, scratch: Scratch) -> Content:
    (content,) = unpack_all(source, scratch)
    return content


# A comma first: some bytes are packed once more.
@given(data=st.binary(max_size=200).map(lambda data: b"," + data), cut=st.integers(0, 99), hit=st.integers(0, 99))
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_gzip_comes_back_or_is_refused(in_memory: Opener, data: bytes, cut: int, hit: int) -> None:
    packed = gzip.compress(data)
    assert unpack(in_memory(packed, "a.csv.gz"), Scratch()).read() == data
    assert unpack(in_memory(packed + packed, "a.csv.gz"), Scratch()).read() == data + data
    for damaged in (packed[: 2 + cut % (len(packed) - 2)], _flipped(packed, 2 + hit % (len(packed) - 2))):
        with suppress(DataError):  # some damage, to the time in the header, hurts nothing
            assert unpack(in_memory(damaged, "a.csv.gz"), Scratch()).read() == data


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def test_the_name_loses_its_ending_and_the_format_says_so(in_memory: Opener, in_file: Opener) -> None:
    packed = gzip.compress(b"a,b\n1,2\n")
    for opened in (in_memory, in_file):
        for key in ("x.csv.gz", "x.csv", "x.tsv.GZ"):
            table = read(opened(packed, key))
            assert table.format == "csv+gzip"
        assert read(opened(gzip.compress(b'[{"a":1}]'), "x.json.gz")).format == "json+gzip"
        assert read(opened(gzip.compress(b'{"a":1}'), "x.ndjson.gz")).format == "ndjson+gzip"


def test_gz_in_the_name_alone_is_a_mistake(in_memory: Opener) -> None:
    with pytest.raises(DataError) as caught:
        read(in_memory(b"\x8b\x08a,b\n", "x.csv.gz"))
    assert caught.value.code == "UnreadableGzip"
    with pytest.raises(DataError) as caught:
        read(in_memory(b"", "x.csv.gz"))
    assert caught.value.code == "EmptyFile"


def test_large_unpacked_content_goes_to_a_file(in_memory: Opener, tmp_path: Path) -> None:
    row = os.urandom(4000).hex().encode()
    data = b"a\n" + b"".join(b"%s\n" % row for _ in range(IN_MEMORY // len(row) + 1))
    table = read(in_memory(gzip.compress(data, 1), "x.csv.gz"), scratch=tmp_path)
    assert not table.in_memory
    assert list(tmp_path.iterdir())
    assert table.rows.drop(ROW).collect().height == IN_MEMORY // len(row) + 1


def test_a_bomb_is_defused(in_memory: Opener, tmp_path: Path) -> None:
    packer = zlib.compressobj(wbits=31)
    zeros = b"0" * 1024 * 1024
    bomb = b"".join(packer.compress(zeros) for _ in range(LEAST_UNPACKED // len(zeros) + 1)) + packer.flush()
    with pytest.raises(DataError) as caught:
        read(in_memory(bomb, "x.csv.gz"), scratch=tmp_path)
    assert caught.value.code == "TooLarge"
    assert not list(tmp_path.iterdir())


def test_recoding_a_file(in_file: Opener) -> None:
    data = "name\n".encode("utf-16") + "Zürich\n".encode("utf-16-le") * 3
    table = read(in_file(data), Csv(encoding="utf-16"))
    assert table.rows.drop(ROW).collect().to_dict(as_series=False) == {"name": ["Zürich"] * 3}
