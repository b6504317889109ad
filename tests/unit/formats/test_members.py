"""Archives: their members are data, their names are harmless, and what is too much or too deep is refused."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError, DefinitionError
from silversmith.formats import Archive, Csv, read
from silversmith.formats.archives.content import LEAST_UNPACKED, Scratch
from silversmith.formats.archives.members import MOST_MEMBERS, NOISE, unpack_all
from silversmith.formats.archives.zips import MOST_ENTRIES, office
from silversmith.stores import IN_MEMORY, Source
from tests.examples import examples

Opener = Callable[..., Source]
Pack = Callable[[Mapping[str, bytes]], bytes]

CSV = b"a,b\n1,x\n2,y\n"


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: Mapping[str, bytes], style: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def gnu(members: Mapping[str, bytes]) -> bytes:
    return tarred(members, tarfile.GNU_FORMAT)


PACKERS: dict[str, Pack] = {"zip": zipped, "tar": tarred, "gnu": gnu}
EACH = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


def refused(source: Source, reader: Archive | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read(source, reader)
    assert caught.value.hint
    return caught.value


@EACH
@given(
    members=st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1, max_size=150), st.binary(), min_size=1)
)
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_members_come_back_whatever_they_are_called(in_memory: Opener, pack: Pack, members: dict[str, bytes]) -> None:
    """NUL ends a name in archives, a slash at the end makes it a folder, what systems add is left out, and no packing
    goes into another."""
    plain = {name.replace("\0", "").strip("/"): b"-" + data for name, data in members.items()}
    plain = {name: data for name, data in plain.items() if name and not name.startswith(("./", "__MACOSX", "._"))}
    packed = ("z", "zst", ".zstd", "bz2", ".gzip")  # names that say that something is packed
    plain = {name: data for name, data in plain.items() if "/._" not in name and not name.lower().endswith(packed)}
    plain = {name: data for name, data in plain.items() if name.rpartition("/")[2] not in NOISE}
    if not plain or office(
        zipfile.ZipFile(io.BytesIO(zipped(plain)))
    ):  # a zip archive with the parts of a workbook is one
        return
    unpacked = unpack_all(in_memory(pack(plain), "x"), Scratch())
    assert [content.read() for content in unpacked] == list(plain.values())
    assert [content.member for content in unpacked] == list(plain)


@EACH
def test_names_never_become_paths(in_memory: Opener, pack: Pack, tmp_path: Path) -> None:
    large = b"line\n" + b"x" * IN_MEMORY + b"\n"
    members = {"../../escape.log": large, "/etc/escape.log": large, "a/../../b.log": large}
    source, scratch = in_memory(pack(members), "x"), Scratch(tmp_path)
    contents = unpack_all(source, scratch)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 3
    assert all(path.name.removesuffix(".unpacked").isdigit() for path in files)
    assert {content.path for content in contents} == set(files)
    assert not (tmp_path.parent / "escape.log").exists()


@EACH
def test_the_format_is_said(in_memory: Opener, in_file: Opener, pack: Pack) -> None:
    kind = "zip" if pack is zipped else "tar"
    for opened in (in_memory, in_file):
        assert read(opened(pack({"a.csv": CSV}), f"x.{kind}")).format == f"csv+{kind}"
        assert read(opened(pack({"a.csv": CSV}), "x")).format == f"csv+{kind}"
    if kind == "tar":
        assert read(in_memory(gzip.compress(pack({"a.csv": CSV})), "x.tgz")).format == "csv+tar+gzip"


@EACH
def test_packing_within_packing_is_refused(in_memory: Opener, pack: Pack) -> None:
    for inner in (zipped({"a.csv": CSV}), tarred({"a.csv": CSV}), gzip.compress(CSV)):
        error = refused(in_memory(pack({"inner": inner}), "x"))
        assert error.code == "NestedArchive"
        assert "inner" in error.message
    assert refused(in_memory(gzip.compress(zipped({"a.csv": CSV})), "x.zip.gz")).code == "NestedArchive"


@EACH
def test_noise_is_passed_over_and_all_else_counts(in_memory: Opener, pack: Pack) -> None:
    noise = {"__MACOSX/._a.csv": b"\0", "d/.DS_Store": b"\0", "._a.csv": b"\0", "Thumbs.db": b"\0"}
    assert read(in_memory(pack({**noise, "a.csv": CSV}), "x")).height == 2
    error = refused(in_memory(pack({"a.csv": CSV, "README": b"hello"}), "x"))
    assert error.code == "UnknownFormat"
    assert "README" in error.message
    assert "Archive(members=" in error.hint
    assert read(in_memory(pack({"a.csv": CSV, "README": b"hello"}), "x"), Archive(members="*.csv")).height == 2


@EACH
def test_nothing_in_it(in_memory: Opener, pack: Pack) -> None:
    assert refused(in_memory(pack({".DS_Store": b"x"}), "x")).code == "EmptyFile"
    error = refused(in_memory(pack({"a.csv": CSV}), "x"), Archive(members="b*"))
    assert error.code == "NoMembers"
    assert "a.csv" in error.message


@EACH
def test_errors_of_a_member_have_its_name(in_memory: Opener, pack: Pack) -> None:
    error = refused(in_memory(pack({"good.csv": CSV, "bad.csv": b"a,b\n1,2\n3,\0\n"}), "x"))
    assert error.code == "NulByte"
    assert error.message.startswith('in the member "bad.csv": ')
    assert error.place.line == 3


@pytest.mark.parametrize("pack", [zipped, pytest.param(tarred, marks=pytest.mark.full)])
def test_a_bomb_of_many_members_is_defused(in_memory: Opener, pack: Pack, tmp_path: Path) -> None:
    members = {f"{number}.log": b"0" * IN_MEMORY for number in range(LEAST_UNPACKED // IN_MEMORY + 1)}
    packed = pack(members) if pack is zipped else gzip.compress(pack(members), 6)
    with pytest.raises(DataError) as caught:
        read(in_memory(packed, "x"), scratch=tmp_path)
    assert caught.value.code == "TooLarge"
    assert not list(tmp_path.iterdir())


@EACH
def test_too_many_members(in_memory: Opener, pack: Pack) -> None:
    many = {f"{number}.log": b"x\n" for number in range(MOST_MEMBERS + 1)}
    assert refused(in_memory(pack(many), "x")).code == "TooManyMembers"
    assert read(in_memory(pack(many), "x"), Archive(members="1*.log")).height == 112
    very_many = {f"{number}": b"" for number in range(MOST_ENTRIES + 1)}
    assert refused(in_memory(pack(very_many), "x"), Archive(members="1")).code == "TooManyMembers"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_is_refused(in_memory: Opener) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("a.csv", CSV)
    assert refused(in_memory(buffer.getvalue(), "x.zip")).code == "DuplicateMembers"


@EACH
@given(at=st.integers(0, 10_000), byte=st.integers(1, 255), cut=st.booleans())
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_an_error_or_does_no_harm(in_memory: Opener, pack: Pack, at: int, byte: int, cut: bool) -> None:
    packed = bytearray(pack({"a.csv": CSV * 20, "b.csv": CSV}))
    at %= len(packed)
    if cut:
        del packed[at:]
    else:
        packed[at] ^= byte
    try:
        contents = unpack_all(in_memory(bytes(packed), "x.zip" if pack is zipped else "x.tar"), Scratch())
    except DataError:
        return
    if pack is zipped:  # it has checksums; tar has them for its headers only
        assert {content.read() for content in contents} <= {CSV * 20, CSV, bytes(packed)}


def test_folders_and_their_files(in_memory: Opener) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("data")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        member = tarfile.TarInfo("./data/a.csv")
        member.size = len(CSV)
        archive.addfile(member, io.BytesIO(CSV))
    assert read(in_memory(buffer.getvalue(), "x.tar"), Archive(members="data/*.csv")).height == 2
    packed = zipped({"data/": b"", "data/a.csv": CSV})
    assert read(in_memory(packed, "x.zip"), Archive(members="data/*")).height == 2


def test_tars_hold_files_only(in_memory: Opener) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo("a.csv")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        error = refused(in_memory(buffer.getvalue(), "x.tar"))
        assert error.code == "UnreadableTar"
        assert "a.csv" in error.message


def test_a_tar_must_end(in_memory: Opener) -> None:
    packed = tarred({"a.csv": CSV})
    for length in (512, 700, 1024):
        assert refused(in_memory(packed[:length], "x.tar")).code == "UnreadableTar"


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_damaged_header_is_not_the_end(in_memory: Opener, style: int) -> None:
    """``tarfile`` alone takes it for the end, and the members after it would be lost unnoticed."""
    packed = bytearray(tarred({"a.csv": CSV, "b.csv": CSV}, style))
    packed[packed.index(b"b.csv")] ^= 1
    assert refused(in_memory(bytes(packed), "x.tar")).code == "UnreadableTar"


@pytest.mark.parametrize("value", [b"-1", b"1e3", b"99999999999999999999999"])
def test_a_size_that_no_member_has(in_memory: Opener, value: bytes) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.csv")
        member.size, member.pax_headers = len(CSV), {"size": value.decode()}
        archive.addfile(member, io.BytesIO(CSV))
    assert refused(in_memory(buffer.getvalue(), "x.tar")).code == "UnreadableTar"


def test_extended_headers_without_end(in_memory: Opener) -> None:
    header = tarfile.TarInfo("x")
    header.type = b"L"
    packed = header.tobuf(tarfile.GNU_FORMAT) * 5000
    assert refused(in_memory(packed, "x.tar")).code == "UnreadableTar"


def test_a_tar_with_a_header_that_is_too_long(in_memory: Opener) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("a.csv")
        member.pax_headers = {"comment": "x" * (2 * 1024 * 1024)}
        archive.addfile(member)
    assert refused(in_memory(buffer.getvalue(), "x.tar")).code == "UnreadableTar"


def test_a_zip_with_a_password(in_memory: Opener) -> None:
    packed = bytearray(zipped({"a.csv": CSV}))
    for at in (6, packed.index(b"PK\x01\x02") + 8):
        packed[at] |= 1
    error = refused(in_memory(bytes(packed), "x.zip"))
    assert error.code == "UnreadableZip"
    assert "encrypted" in error.message


def test_a_zip_in_a_way_that_is_not_read(in_memory: Opener) -> None:
    error = refused(in_memory(zipped({"a.csv": CSV}, zipfile.ZIP_LZMA), "x.zip"))
    assert error.code == "UnreadableZip"
    assert "method 14" in error.message
    assert read(in_memory(zipped({"a.csv": CSV}, zipfile.ZIP_BZIP2), "x.zip")).height == 2


def test_a_directory_that_lies(in_memory: Opener) -> None:
    packed = zipped({"a.csv": CSV})
    end = packed.index(b"PK\x05\x06")
    for at, length, number in ((12, 4, 2**31), (12, 4, 0), (16, 4, 2**31), (16, 4, 0)):
        lying = bytearray(packed)
        lying[end + at : end + at + length] = number.to_bytes(length, "little")
        assert refused(in_memory(bytes(lying), "x.zip")).code in {"UnreadableZip", "TooManyMembers", "EmptyFile"}


@pytest.mark.parametrize(
    "options",
    [{"members": ""}, {"members": "/a"}, {"members": "a?"}, {"members": 5}, {"reader": Archive()}, {"reader": "csv"}],
)
def test_invalid_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(DefinitionError, match="Archive"):
        Archive(**options)  # type: ignore[arg-type]


def test_a_reader_for_members(in_memory: Opener) -> None:
    packed = zipped({"a.txt": b"a;b\n1;2\n"})
    assert read(in_memory(packed, "x.zip"), Archive(reader=Csv(separator=";"))).format == "csv+zip"
    assert read(in_memory(b"a;b\n1;2\n", "x.txt"), Archive(reader=Csv(separator=";"))).format == "csv"
    assert read(in_memory(packed, "x.zip"), Csv(separator=";")).format == "csv+zip"
