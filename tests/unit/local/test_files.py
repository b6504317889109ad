"""Which files are taken and when they are whole: pure rules, and one look at a real file."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.local import files as landing
from silversmith.local.files import (
    Evidence,
    FileRefused,
    FileState,
    examine,
    files_below,
    has_writer,
    is_temporary,
    is_whole,
)


@pytest.mark.parametrize(
    "key",
    [
        ".hidden", "a/.b.csv.x7Gh2", ".git/config", "a.csv~", "a.tmp", "a.TMP", "a.csv.part", "a.partial", "a.filepart",
        "a.crdownload", ".a.csv.swp", "a.swx", "#a.csv#", "~$a.xlsx", ".~lock.a.csv#", "new.tmp/a.csv",
        ".rsync-partial/a.csv", "a/...",
    ],
)  # fmt: skip
def test_names_for_nobody_else(key: str) -> None:
    assert is_temporary(key)


@pytest.mark.parametrize(
    "key",
    [
        "a", "a.csv", "a/b/c.csv.gz", "~a", "tmp", "part/a.csv", "a.tmp.csv", "#", "#a", "a#", "4913/a", "4913", "a/",
        "..", ".", "../a", "a/./b", "/a", "a//b", "partial", "a.parts", "é.csv", "$a.xlsx",
    ],
)  # fmt: skip
def test_names_as_any_other(key: str) -> None:
    assert not is_temporary(key)


@given(st.text(), st.sampled_from(["~", ".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", ".swx"]))
def test_an_ending_counts_whatever_is_before_it(text: str, ending: str) -> None:
    assert is_temporary(text + ending)
    assert is_temporary(text + ending + "/a.csv")


def sight(*, writer: bool | None, size: int = 1, links: int = 1) -> FileState:
    return FileState(writer, size, links, 0.0, ())


@given(st.sampled_from(Evidence), st.integers(0, 2), st.floats(0, 1e9))
def test_files_open_for_writing_are_never_whole(evidence: Evidence, size: int, still: float) -> None:
    assert not is_whole(evidence, sight(writer=True, size=size), still=still)


@pytest.mark.parametrize(
    ("evidence", "writer", "size", "still", "whole"),
    [
        (Evidence.CLOSED, False, 0, 0.0, True),
        (Evidence.CLOSED, None, 1, 0.0, True),
        (Evidence.FOUND, False, 1, 0.0, True),
        (Evidence.FOUND, False, 0, 0.09, False),  # it may have been created this instant
        (Evidence.FOUND, False, 0, 0.1, True),
        (Evidence.FOUND, None, 1, 1.9, False),
        (Evidence.FOUND, None, 1, 2.0, True),
        (Evidence.FOUND, None, 1, -5.0, False),
    ],
)
def test_the_rules_for_whole_files(
    evidence: Evidence, writer: bool | None, size: int, still: float, whole: bool
) -> None:
    assert is_whole(evidence, sight(writer=writer, size=size), still=still) is whole


def test_a_created_file_waits_to_be_closed_but_a_second_name_of_one_does_not() -> None:
    assert not is_whole(Evidence.CREATED, sight(writer=False), still=0.0)
    assert is_whole(Evidence.CREATED, sight(writer=False, links=2), still=0.0)
    assert not is_whole(Evidence.CREATED, sight(writer=None, links=2), still=0.0)


def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12")
    seen = examine(str(file), lambda descriptor: None)
    assert seen is not None
    assert (seen.has_writer, seen.size) == (None, 2)
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        with monkeypatch.context() as inside:
            inside.chdir(tmp_path)  # a socket's path may have 107 bytes, and temporary folders may lie deep
            listener.bind("socket")
        for path, reason in {
            str(tmp_path / "link"): "a symbolic link",
            str(tmp_path / "pipe"): "a named pipe",
            str(tmp_path / "socket"): "a socket",
            "/dev/null": "a device",
        }.items():
            with pytest.raises(FileRefused, match=reason):
                examine(path, has_writer)
    assert examine(str(tmp_path), has_writer) is None
    assert examine(str(tmp_path / "none"), has_writer) is None
    assert examine(str(file / "none"), has_writer) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases")
def test_a_writer_in_any_process_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"1")

    def written() -> bool | None:
        result = examine(str(file), has_writer)
        assert result is not None
        return result.has_writer

    assert written() is False
    with file.open("ab"):
        assert written() is True
    with file.open("rb"):
        assert written() is False
    script = "import sys; file = open(sys.argv[1], 'a'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert written() is True
        writer.communicate(b"")
    assert written() is False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases")
def test_a_writer_who_comes_during_the_look_is_not_harmed_nor_are_we(tmp_path: Path) -> None:
    """Opening a leased file signals its holder, by default with a signal that ends it."""
    file = tmp_path / "file"
    file.write_bytes(b"1")
    script = "import os, sys\nfor _ in range(20_000): os.close(os.open(sys.argv[1], os.O_WRONLY))"
    with subprocess.Popen([sys.executable, "-c", script, str(file)]) as writer:
        looks = 0
        while writer.poll() is None:
            examine(str(file), has_writer)
            looks += 1
    assert writer.returncode == 0
    assert looks > 100


@contextlib.contextmanager
def as_somebody_else() -> Iterator[None]:
    """Without root's rights over other people's files."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_file_that_may_not_be_read_is_refused_for_now(public: Path) -> None:
    file = public / "file"
    file.write_bytes(b"1")
    file.chmod(0)
    with as_somebody_else(), pytest.raises(FileRefused, match="cannot be read: Permission denied") as caught:
        examine(str(file), has_writer)
    assert caught.value.for_now


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_writers_of_other_peoples_files_are_unknown(public: Path) -> None:
    file = public / "file"
    file.write_bytes(b"1")
    file.chmod(0o644)
    with as_somebody_else():
        seen = examine(str(file), has_writer)
    assert seen is not None
    assert seen.has_writer is None


def test_the_entries_of_a_large_folder_are_sorted_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "_SORTED", 7)
    for number in range(40):
        (tmp_path / f"{number * 7 % 40:02}").write_bytes(b"")
    files = list(files_below(str(tmp_path), lambda path, reason: pytest.fail(reason)))
    assert sorted(files) == [f"{number:02}" for number in range(40)]
    runs = [files[start : start + 7] for start in range(0, 40, 7)]
    assert all(run == sorted(run) for run in runs)


def test_a_folder_that_may_not_be_read_is_reported(public: Path) -> None:
    (public / "file").write_bytes(b"1")
    (public / "closed").mkdir(mode=0)
    refused: list[tuple[str, str]] = []
    with as_somebody_else():
        assert list(files_below(str(public), lambda path, reason: refused.append((path, reason)))) == ["file"]
    assert refused == [("closed/", "the folder cannot be read: Permission denied")]
    (public / "closed").chmod(0o755)


def test_the_files_below_a_folder(tmp_path: Path) -> None:
    for path in ("a.csv", "d/b.csv", "d/.x/c.csv", "new.tmp/d.csv", ".silversmith-keys/61.key", "d/e/f"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "d")
    files = set(files_below(str(tmp_path), lambda path, reason: pytest.fail(reason)))
    assert files == {"a.csv", "d/b.csv", "d/e/f", ".silversmith-keys/61.key", "link"}
    with pytest.raises(FileNotFoundError):
        list(files_below(str(tmp_path / "none"), lambda path, reason: None))
