"""When an MD5 may be remembered, with the time passed in."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from silversmith.stores.digests import RACY, Digests, identity, is_racy


class Counted(Digests):
    """Tells whether a digest was worked out again."""

    def __init__(self, seconds_later: float) -> None:
        super().__init__(lambda: time.time_ns() + int(seconds_later * 1e9))
        self.remembered = 0

    def _remember(self, path: str, seen: tuple[int, int, int, int, int], digest: str) -> None:
        self.remembered += 1
        super()._remember(path, seen, digest)


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
    other = tmp_path / "b"
    other.write_bytes(b"33")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest_of(digests, other) == hashlib.md5(b"33").hexdigest()
    assert digests.remembered == 3


def test_the_digest_of_a_young_file_is_not_remembered(tmp_path: Path) -> None:
    digests = Counted(seconds_later=0)
    file = tmp_path / "a"
    file.write_bytes(b"1")
    os.utime(file, (0, 0))  # what anybody can set does not count alone
    digest_of(digests, file)
    assert digests.remembered == 0


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
