"""Whether the clock of a file system is past a file's time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from silversmith.stores.digests import FileClock


def test_a_file_written_just_now_is_waited_for_until_a_write_would_show(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    file = tmp_path / "a"
    clock = FileClock(tmp_path / "scratch")
    for _ in range(30):
        file.write_bytes(b"1")
        before = file.stat()
        assert clock.has_passed(before)
        with file.open("r+b") as opened:
            opened.write(b"2")
        assert file.stat().st_ctime_ns > before.st_ctime_ns
    assert not list((tmp_path / "scratch").iterdir())


def test_a_clock_that_does_not_move_is_not_waited_for_for_long(tmp_path: Path) -> None:
    slept: list[float] = []
    file = tmp_path / "a"
    file.write_bytes(b"1")
    future = os.stat_result(list(file.stat()), {"st_ctime_ns": time.time_ns() + 10**12})
    assert not FileClock(tmp_path, slept.append).has_passed(future)
    assert sum(slept) == pytest.approx(0.05)


def test_nothing_is_known_of_another_file_system(tmp_path: Path) -> None:
    slept: list[float] = []
    stat = list(tmp_path.stat())
    stat[2] += 1  # st_dev
    foreign = os.stat_result(stat, {"st_ctime_ns": 0})
    assert not FileClock(tmp_path, slept.append).has_passed(foreign)
    assert not slept
