"""Every compression comes undone or is refused; nothing cut off is taken for whole."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import sys
import tarfile
from collections.abc import Callable
from typing import BinaryIO, cast

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.formats import ROW, Csv, read
from silversmith.formats.archives.compression import COMPRESSIONS, stripped
from silversmith.formats.archives.content import LEAST_UNPACKED, Content, Scratch
from silversmith.formats.archives.members import unpack_all
from silversmith.stores import IN_MEMORY, Source
from tests.examples import examples

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Opener = Callable[..., Source]
Pack = Callable[[bytes], bytes]

PACKERS: dict[str, tuple[str, Pack]] = {
    "gzip": (".gz", gzip.compress),
    "bzip2": (".bz2", bz2.compress),
    "xz": (".xz", lzma.compress),
    "zstd": (".zst", zstd.compress),
}
MAGICS = tuple(magic for compression in COMPRESSIONS for magic in compression.magics)
EACH = pytest.mark.parametrize("name", PACKERS)


def unpack(source: Source, scratch: Scratch) -> Content:
    (content,) = unpack_all(source, scratch)
    return content


@EACH
@given(data=st.binary(max_size=300), more=st.binary(max_size=20))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_comes_back(in_memory: Opener, name: str, data: bytes, more: bytes) -> None:
    ending, pack = PACKERS[name]
    assume(not (data + more).startswith(MAGICS) and not data.startswith(MAGICS))
    assert unpack(in_memory(pack(data), "a" + ending), Scratch()).read() == data
    two = unpack(in_memory(pack(data) + pack(more), "a"), Scratch())  # known by its bytes, whatever its name
    assert two.read() == data + more
    assert two.packing == f"+{name}"


@EACH
@given(data=st.binary(min_size=1, max_size=300), cut=st.integers(1, 10_000))
@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncated_files_are_refused(in_memory: Opener, name: str, data: bytes, cut: int) -> None:
    ending, pack = PACKERS[name]
    packed = pack(data)
    with pytest.raises(DataError) as caught:
        unpack(in_memory(packed[: len(packed) - 1 - cut % (len(packed) - 1)], "a" + ending), Scratch())
    assert caught.value.code == f"Unreadable{name.capitalize()}"
    assert caught.value.hint


@EACH
def test_bytes_after_the_end_must_be_another_stream(in_memory: Opener, name: str) -> None:
    ending, pack = PACKERS[name]
    with pytest.raises(DataError) as caught:
        unpack(in_memory(pack(b"a,b\n1,2\n") + b"rubbish after the end", "a.csv" + ending), Scratch())
    assert caught.value.code == f"Unreadable{name.capitalize()}"


def test_xz_may_have_zeros_after_it(in_memory: Opener) -> None:
    packed = lzma.compress(b"one") + bytes(8) + lzma.compress(b"two") + bytes(4)
    assert unpack(in_memory(packed, "a.xz"), Scratch()).read() == b"onetwo"


def test_zstandard_may_begin_with_a_frame_to_skip(in_memory: Opener) -> None:
    packed = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip" + zstd.compress(b"data")
    assert unpack(in_memory(packed, "a.zst"), Scratch()).read() == b"data"


@EACH
def test_a_name_over_other_bytes_is_a_mistake(in_memory: Opener, name: str) -> None:
    ending, pack = PACKERS[name]
    with pytest.raises(DataError) as caught:
        read(in_memory(pack(b"a,b\n1,2\n")[8:], "x.csv" + ending))
    assert caught.value.code == f"Unreadable{name.capitalize()}"
    with pytest.raises(DataError) as caught:
        read(in_memory(b"", "x.csv" + ending))
    assert caught.value.code == "EmptyFile"


@EACH
def test_every_text_format_is_read_from_it(in_memory: Opener, in_file: Opener, name: str) -> None:
    ending, pack = PACKERS[name]
    for opened in (in_memory, in_file):
        assert read(opened(pack(b"a,b\n1,2\n"), "x.csv" + ending)).format == f"csv+{name}"
        assert read(opened(pack(b'[{"a":1}]'), "x.json" + ending)).format == f"json+{name}"
        assert read(opened(pack(b'{"a":1}\n'), "x.ndjson" + ending)).format == f"ndjson+{name}"
        assert read(opened(pack(b"<a><b><c/></b></a>"), "x.xml" + ending)).format == f"xml+{name}"


@EACH
@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize("endings", [0, 1, 2])
def test_the_bytes_decide_how_often_it_is_packed(
    in_memory: Opener, in_file: Opener, name: str, times: int, endings: int
) -> None:
    ending, pack = PACKERS[name]
    data = b"a,b\n1,2\n"
    for _ in range(times):
        data = pack(data)
    for opened in (in_memory, in_file):
        table = read(opened(data, "x.csv" + endings * ending))
        assert table.format == "csv" + times * f"+{name}"
        assert table.rows.drop(ROW).collect().rows() == [(1, 2)]


@pytest.mark.parametrize(
    "data", ["a,b\n1,é\n".encode("cp1252"), "\ufeffa,b\n1,é\n".encode("utf-16-le"), "a,b\n1,é\n".encode()]
)
def test_text_in_any_encoding_under_a_name_of_gzip_is_text(in_memory: Opener, data: bytes) -> None:
    reader = Csv(encoding="cp1252") if b"\xe9" in data and b"\xff" not in data else None
    assert read(in_memory(data, "x.csv.gz"), reader).rows.drop(ROW).collect().rows() == [(1, "é")]


@EACH
def test_a_tar_within_two(in_memory: Opener, name: str) -> None:
    _, pack = PACKERS[name]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("a.csv")
        member.size = 8
        tar.addfile(member, io.BytesIO(b"a,b\n1,2\n"))
    assert read(in_memory(pack(pack(buffer.getvalue())), "x")).format == f"csv+tar+{name}+{name}"


@EACH
def test_three_times_is_too_much(in_memory: Opener, name: str) -> None:
    ending, pack = PACKERS[name]
    with pytest.raises(DataError) as caught:
        read(in_memory(pack(pack(pack(b"a,b\n"))), "x.csv" + ending + ending))
    assert caught.value.code == "NestedArchive"


@pytest.mark.parametrize(
    "name", [pytest.param("bzip2", marks=pytest.mark.full), pytest.param("xz", marks=pytest.mark.full), "zstd"]
)
def test_bombs_are_defused(in_memory: Opener, tmp_path: object, name: str) -> None:
    _, pack = PACKERS[name]
    piece = pack(b"0" * IN_MEMORY)
    bomb = piece * (LEAST_UNPACKED // IN_MEMORY + 1)
    assert len(bomb) * 100 < LEAST_UNPACKED
    with pytest.raises(DataError) as caught:
        unpack(in_memory(bomb, "x"), Scratch())
    assert caught.value.code == "TooLarge"


def test_windows_that_would_take_too_much_memory_are_refused(in_memory: Opener) -> None:
    big = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}
    packed = lzma.compress(b"data" * 1000, filters=[big])
    with pytest.raises(DataError) as caught:
        unpack(in_memory(packed, "x.xz"), Scratch())
    assert caught.value.code == "UnreadableXz"


class Failing(io.RawIOBase):
    """A disk that fails to read."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        raise OSError(errno.EIO, "Input/output error")


@EACH
def test_a_failing_disk_is_not_the_data_s_fault(name: str) -> None:
    compression = next(candidate for candidate in COMPRESSIONS if candidate.name == name)
    with pytest.raises(OSError, match="Input/output error"):
        list(compression.pieces(cast("BinaryIO", Failing())))


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("a.csv.gz", "a.csv"),
        ("a.CSV.GZ", "a.CSV"),
        ("a.tgz", "a.tar"),
        ("a.txz", "a.tar"),
        ("a.tar.zst", "a.tar"),
        ("a.csv", "a.csv"),
        ("gz", "gz"),
        (".gz", ""),
    ],
)
def test_names_lose_their_ending(name: str, rest: str) -> None:
    assert stripped(name) == rest
