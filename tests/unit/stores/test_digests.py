"""Etags of files, and when they may be remembered, with the time passed in."""

from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path

import pytest
import xxhash

from silversmith.errors import SourceChanged
from silversmith.stores import IN_MEMORY
from silversmith.stores.digests import RACY, Digests, identity, is_racy, of_data, of_file
from silversmith.stores.files import require_whole


class Counted(Digests):
    """Tells whether a digest was worked out again."""

    def __init__(self, seconds_later: float) -> None:
        super().__init__(lambda: time.time_ns() + int(seconds_later * 1e9))
        self.remembered = 0

    def _remember(self, path: str, seen: tuple[int, int, int, int, int], digest: str) -> None:
        self.remembered += 1
        super()._remember(path, seen, digest)


@pytest.mark.parametrize(("size", "parts"), [(0, 0), (5, 0), (IN_MEMORY, 0), (IN_MEMORY + 1, 2), (2 * IN_MEMORY, 2)])
def test_an_etag_has_the_shape_of_s3s(tmp_path: Path, size: int, parts: int) -> None:
    data = b"0123456789abcde\n" * (size // 16) + b"x" * (size % 16)
    (tmp_path / "a").write_bytes(data)
    with (tmp_path / "a").open("rb", buffering=0) as file:
        file.seek(3)
        result = of_file(file, size)
        assert file.tell() == 3, "others read it, too"
    expected = f"{xxhash.xxh3_128(data).hexdigest()}-{parts}" if parts else hashlib.md5(data).hexdigest()
    assert result == of_data(data) == expected


def digest_of(digests: Digests, file: Path, path: str = "a") -> str:
    with file.open("rb", buffering=0) as opened:
        return digests.of(path, opened)


def test_the_digest_of_an_old_file_is_worked_out_once(tmp_path: Path) -> None:
    digests = Counted(seconds_later=10)
    file = tmp_path / "a"
    file.write_bytes(b"1")
    for _ in range(3):
        assert digest_of(digests, file) == hashlib.md5(b"1").hexdigest()
    assert digests.remembered == 1


def test_a_change_or_another_file_is_worked_out_again(tmp_path: Path) -> None:
    digests = Counted(seconds_later=10)
    file = tmp_path / "a"
    file.write_bytes(b"1")
    digest_of(digests, file)
    before = file.stat()
    file.write_bytes(b"22")
    assert digest_of(digests, file) == hashlib.md5(b"22").hexdigest()
    second = tmp_path / "b"
    second.write_bytes(b"33")
    os.utime(second, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest_of(digests, second) == hashlib.md5(b"33").hexdigest()
    assert digests.remembered == 3


def test_the_digest_of_a_young_file_is_not_remembered(tmp_path: Path) -> None:
    digests = Counted(seconds_later=0)
    file = tmp_path / "a"
    file.write_bytes(b"1")
    os.utime(file, (0, 0))  # what anybody can set does not count alone
    digest_of(digests, file)
    assert digests.remembered == 0


def test_the_digest_of_a_young_file_that_the_clock_has_passed_is_remembered_if_it_is_large(tmp_path: Path) -> None:
    asked: list[int] = []

    def passed(stat: os.stat_result) -> bool:
        asked.append(stat.st_size)
        return True

    digests = Digests(passed=passed)
    for size, known in ((1, False), (IN_MEMORY + 1, True)):
        file = tmp_path / f"{size}"
        file.write_bytes(b"x" * size)
        result = digest_of(digests, file, f"{size}")
        assert (digests.known(f"{size}", file.stat()) == result) is known
    assert asked == [IN_MEMORY + 1]


def test_an_etag_background_is_remembered_if_the_file_is_still_the_same(tmp_path: Path) -> None:
    digests = Digests()
    file = tmp_path / "a"
    file.write_bytes(b"x" * 10_000_000)
    with file.open("rb", buffering=0) as opened:
        stat = file.stat()
        result = digests.background("a", opened, stat).etag()
        assert result == digests.known("a", stat) == of_data(file.read_bytes())
        os.utime(file, (0, 0))
        digests.background("b", opened, stat).etag()
        assert digests.known("b", stat) is None


def test_only_so_many_digests_are_remembered(tmp_path: Path) -> None:
    digests = Counted(seconds_later=10)
    file = tmp_path / "a"
    file.write_bytes(b"1")
    with file.open("rb", buffering=0) as opened:
        seen = identity(os.fstat(opened.fileno()))
        for number in range(65_536):
            digests._remember(f"n{number}", seen, "digest")
        assert digests.of("n0", opened) == "digest"
        digests.of("another", opened)
        assert digests.of("n0", opened) == hashlib.md5(b"1").hexdigest()


@pytest.mark.parametrize(("nanoseconds", "racy"), [(0, True), (RACY - 1, True), (RACY, False), (-1, True)])
def test_how_old_is_old(tmp_path: Path, nanoseconds: int, racy: bool) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"")
    stat = file.stat()
    assert is_racy(stat, max(stat.st_mtime_ns, stat.st_ctime_ns) + nanoseconds) is racy


@pytest.mark.parametrize("size", [IN_MEMORY, IN_MEMORY + 1])
def test_a_file_that_gets_shorter_while_it_is_read_has_no_etag(tmp_path: Path, size: int) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * size)

    def cut() -> bool:
        os.truncate(file, size // 2)
        return False

    with file.open("rb", buffering=0) as opened, pytest.raises(SourceChanged, match=f"a file of {size:,} bytes ended"):
        of_file(opened, size, cut)


def test_the_etag_that_is_worked_out_beside_the_reading_is_none_of_a_part(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x" * (IN_MEMORY + 1))
    with file.open("rb", buffering=0) as opened:
        stat = os.fstat(opened.fileno())
        os.truncate(file, IN_MEMORY)
        background = Digests().background("a", opened, stat)
        with pytest.raises(SourceChanged):
            background.etag()


def test_all_bytes_of_a_file_must_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"123")
    with file.open("rb", buffering=0) as opened:
        assert isinstance(opened, io.FileIO)
        require_whole("a", opened, b"123")
        for data in (b"12", b"1234"):
            with pytest.raises(SourceChanged, match=f"a has 3 bytes, and {len(data)} were read"):
                require_whole("a", opened, data)
