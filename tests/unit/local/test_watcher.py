"""The watcher over real files, written by real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from silversmith.stores import keys
from silversmith.stores.local import LocalStore
from tests.unit.local.watching import Reports, mark, watch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"


@pytest.fixture
def reports(root: Path) -> Iterator[Reports]:
    reports = Reports()
    with watch(root, reports) as watcher:
        yield reports
        watcher.recheck(0)  # raises if it has failed
    assert not any(thread.name == "watcher" for thread in threading.enumerate())


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)


def test_any_way_to_write_a_file(root: Path, reports: Reports, tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_bytes(b"1")
    run("cp", outside, root / "copied.csv")
    reports.until(lambda: reports.files == ["copied.csv"])
    run("mv", outside, root / "moved.csv")
    reports.until(lambda: reports.files[1:] == ["moved.csv"])
    run("sh", "-c", f"echo 2 > '{root}/copied.csv'")
    reports.until(lambda: reports.files[2:] == ["copied.csv"])
    run("sh", "-c", f"echo 3 >> '{root}/copied.csv'")
    reports.until(lambda: reports.files[3:] == ["copied.csv"])
    run("ln", root / "copied.csv", root / "linked.csv")
    reports.until(lambda: reports.files[4:] == ["linked.csv"])
    run("touch", root / "empty")
    reports.until(lambda: reports.files[5:] == ["empty"])
    run("mv", root / "moved.csv", root / "again.csv")
    reports.until(lambda: reports.files[6:] == ["again.csv"])
    assert reports.gone == ["moved.csv"]
    run("rm", root / "again.csv")
    reports.until(lambda: reports.gone == ["moved.csv", "again.csv"])
    assert (reports.refused, reports.overflows) == ([], [])


def test_a_file_is_not_reported_until_it_is_closed(root: Path, reports: Reports) -> None:
    script = "import sys; f = open(sys.argv[1], 'w'); f.write('half'); f.flush(); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(root / "slow.csv")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        mark(root, reports)
        assert reports.files == ["mark"]
        writer.communicate(b"")
        reports.until(lambda: reports.files == ["mark", "slow.csv"])


def test_a_file_with_two_writers_is_reported_after_the_last(root: Path, reports: Reports) -> None:
    first = (root / "a").open("w")
    second = (root / "a").open("w")
    second.write("2")
    second.close()
    mark(root, reports)
    assert reports.files == ["mark"]
    first.close()
    reports.until(lambda: "a" in reports.files)


def test_an_editor_that_renames_over(root: Path, reports: Reports) -> None:
    (root / "a.csv").write_bytes(b"1")
    reports.until(lambda: reports.files == ["a.csv"])
    (root / ".a.csv.swp").write_bytes(b"")
    (root / "a.csv").rename(root / "a.csv~")
    (root / "a.csv").write_bytes(b"2")
    (root / "a.csv~").unlink()
    (root / ".a.csv.swp").unlink()
    mark(root, reports)
    assert reports.files == ["a.csv", "a.csv", "mark"]
    (root / "a.csv.tmp").write_bytes(b"3")
    (root / "a.csv.tmp").rename(root / "a.csv")
    mark(root, reports, "second")
    assert reports.files == ["a.csv", "a.csv", "mark", "a.csv", "second"]
    assert reports.refused == []


@pytest.mark.parametrize(
    "name", ["é ü 😀.csv", "a\nb", "'; rm -rf \"", "-rf", "a\x1b[31m", "x" * 255, "%2F", "~"[:0] + "="]
)
def test_any_name_that_can_be_a_key(root: Path, reports: Reports, name: str) -> None:
    (root / name).write_bytes(b"1")
    reports.until(lambda: reports.files == [name])


def test_paths_that_are_no_regular_files_are_refused(root: Path, reports: Reports, tmp_path: Path) -> None:
    (root / "link").symlink_to("/etc/passwd")
    (root / "folder-link").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    (root / os.fsdecode(b"bad-\xff")).write_bytes(b"1")
    reports.until(lambda: len(reports.refused) >= 4)
    mark(root, reports)
    refused = dict(reports.refused)
    assert set(refused) == {"link", "folder-link", "pipe", "bad-\\xff"}
    assert "symbolic link" in refused["link"]
    assert "named pipe" in refused["pipe"]
    assert "not UTF-8" in refused["bad-\\xff"]
    assert reports.files == ["mark"]


def test_keys_that_are_no_paths_are_reported_too(root: Path, reports: Reports, tmp_path: Path) -> None:
    store = LocalStore(root, scratch=tmp_path / "scratch", locks=tmp_path / "locks", foreign_writers=True)
    long = "x" * 900 + "//"
    for key in ("a//b", "..", "plain", "plain/x", long):
        store.put(key, b"1")
        reports.until(lambda: key in reports.files)  # noqa: B023 - it is done with before the next
    store.put("a//.hidden", b"1")
    store.delete("a//b")
    reports.until(lambda: "a//b" in reports.gone)
    assert "a//.hidden" not in reports.files
    (root / keys.RESERVED / "stranger").write_bytes(b"")
    reports.until(lambda: reports.refused)
    assert "kept for Silversmith" in reports.refused[0][1]


def test_new_folders_filled_fast(root: Path, reports: Reports) -> None:
    """Files land in a folder before it can be watched; none may be missed."""
    script = """
import os, sys
for number in range(50):
    folder = f"{sys.argv[1]}/{number % 5}/{number}/deep"
    os.makedirs(folder)
    for file in range(10):
        with open(f"{folder}/{file}", "w") as opened:
            opened.write("x")
"""
    with subprocess.Popen([sys.executable, "-c", script, str(root)]) as writer:
        expected = {f"{number % 5}/{number}/deep/{file}" for number in range(50) for file in range(10)}
        reports.until(lambda: expected <= set(reports.files))
    assert writer.returncode == 0
    assert set(reports.files) == expected
    for key in expected:  # and each of them is watched from now on
        (root / key).write_bytes(b"again")
    reports.until(lambda: len(reports.files) >= 2 * len(expected))


def test_folders_that_are_moved(root: Path, reports: Reports, tmp_path: Path) -> None:
    full = tmp_path / "full/sub"
    full.mkdir(parents=True)
    for number in range(3):
        (full / str(number)).write_bytes(b"1")
    (tmp_path / "full").rename(root / "in")
    reports.until(lambda: set(reports.files) == {"in/sub/0", "in/sub/1", "in/sub/2"})
    (root / "in").rename(root / "on")
    reports.until(lambda: set(reports.files[3:]) == {"on/sub/0", "on/sub/1", "on/sub/2"})
    assert reports.folders_gone == ["in/"]
    (root / "on/sub/new").write_bytes(b"1")
    reports.until(lambda: reports.files[6:] == ["on/sub/new"])
    (root / "on").rename(tmp_path / "out")
    reports.until(lambda: reports.folders_gone == ["in/", "on/"])
    (tmp_path / "out/sub/elsewhere").write_bytes(b"1")
    mark(root, reports)
    assert reports.files[7:] == ["mark"]
    (root / "a/b/c").mkdir(parents=True)
    mark(root, reports, "second")
    (root / "a/b/c").rename(root / "c")  # a watch keeps to its folder, wherever that goes
    (root / "a/b").rename(tmp_path / "b")
    (tmp_path / "b/x").write_bytes(b"1")
    (root / "c/y").write_bytes(b"1")
    # Who looks into the folder late sees the file there, and is told of it all the same: twice is as good as once.
    reports.until(lambda: set(reports.files[8:]) == {"second", "c/y"})


def test_a_folder_is_hidden_until_it_has_its_lasting_name(root: Path, reports: Reports) -> None:
    (root / "new.tmp/sub").mkdir(parents=True)
    (root / "new.tmp/sub/a").write_bytes(b"1")
    mark(root, reports)
    assert reports.files == ["mark"]
    (root / "new.tmp").rename(root / "new")
    reports.until(lambda: reports.files == ["mark", "new/sub/a"])
    assert reports.folders_gone == []


def test_removed_folders_and_ones_of_the_same_name(root: Path, reports: Reports) -> None:
    for round_ in range(20):
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/c").write_bytes(b"1")
        if round_ % 2:
            reports.until(lambda: "a/b/c" in reports.files)
            reports.files.clear()
        shutil.rmtree(root / "a")
    (root / "a/b").mkdir(parents=True)
    mark(root, reports)
    (root / "a/b/last").write_bytes(b"1")
    reports.until(lambda: reports.files[-1] == "a/b/last")


def test_a_storm_of_moves_between_folders(root: Path, reports: Reports) -> None:
    """Folders change places while they are entered; in the end every file is known by its last path."""
    for name in ("x", "y"):
        (root / name).mkdir()
    for number in range(60):
        here, there = ("x", "y") if number % 2 else ("y", "x")
        (root / here / "d/e").mkdir(parents=True)
        (root / here / "d/e/f").write_bytes(b"1")
        (root / here / "d").rename(root / there / f"d{number}")
        (root / there / f"d{number}/e/g").write_bytes(b"1")
    expected = {f"{'yx'[number % 2 == 0]}/d{number}/e/{name}" for number in range(60) for name in "fg"}
    reports.until(lambda: expected <= set(reports.files))
    reports.files.clear()
    for key in expected:
        (root / key).write_bytes(b"2")
    reports.until(lambda: expected <= set(reports.files))
    assert set(reports.files) == expected
