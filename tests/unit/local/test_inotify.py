"""Folders that come, go and change places, and how much of it the watches have read at each moment."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from silversmith.local.files import Evidence
from silversmith.local.inotify import InotifySource
from tests.examples import examples

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

_PATHS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
_STEPS = st.one_of(
    st.tuples(st.just("make"), _PATHS),
    st.tuples(st.just("write"), _PATHS),
    st.tuples(st.just("remove"), _PATHS),
    st.tuples(st.just("move"), _PATHS, _PATHS),
    st.tuples(st.just("take out"), _PATHS),
    st.tuples(st.just("put back"), _PATHS),
    st.tuples(st.just("read")),
)


def do(root: Path, outside: Path, step: tuple[str, ...]) -> None:
    """One step, if it can be done."""
    kind, path = step[0], root / step[1]
    with contextlib.suppress(OSError):
        if kind == "make":
            path.mkdir(parents=True)
        elif kind == "write":
            (path / "file").write_bytes(b"1")
        elif kind == "remove":
            shutil.rmtree(path)
        elif kind == "move":
            path.rename(root / step[2])
        elif kind == "take out":
            path.rename(outside / "folder")
        else:
            (outside / "folder").rename(path)


def read(watches: InotifySource) -> dict[str, Evidence]:
    """Read reports until there are none: files of a new folder are reported together with the events."""
    files: dict[str, Evidence] = {}
    while actual := [news for news in watches.read() if news.files or news.folders_gone]:
        for news in actual:
            files |= news.files
    return files


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(_STEPS, min_size=5, max_size=40))
@example([("make", "a/b"), ("read",), ("make", "c"), ("move", "a/b", "c/b"), ("read",)])
@example([("make", "a/b/c"), ("read",), ("make", "c"), ("move", "a/b", "c/b"), ("take out", "c/b/c"), ("read",)])
@example([("make", "a"), ("write", "a"), ("read",), ("remove", "a"), ("make", "a"), ("write", "a"), ("read",)])
@example([("make", "a"), ("make", "b"), ("read",), ("remove", "a"), ("move", "b", "a"), ("read",)])
def test_each_folder_is_watched_where_it_is_and_no_file_is_missed(steps: list[tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, outside = Path(folder, "root"), Path(folder, "outside")
        root.mkdir()
        outside.mkdir()
        watches = InotifySource(str(root))
        watches.start(lambda: None)
        messages: dict[str, Evidence] = {}
        try:
            for step in steps:
                if step == ("read",):
                    messages |= read(watches)
                else:
                    do(root, outside, step)
            messages |= read(watches)
            folders = {str(path.relative_to(root)) + "/" for path in root.rglob("*") if path.is_dir()}
            assert sorted(watches._folders.values()) == sorted(folders | {""})
            files = {str(path.relative_to(root)) for path in root.rglob("file")}
            assert all(messages[path] is not Evidence.GONE for path in files)
            for path in files:
                (root / path).write_bytes(b"2")
            with contextlib.suppress(OSError):  # one outside has no news
                (outside / "folder/file").write_bytes(b"2")
            assert read(watches) == dict.fromkeys(files, Evidence.CLOSED)
        finally:
            watches.close()


def test_many_files_are_reported_in_parts(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    watches = InotifySource(str(tmp_path / "root"))
    watches.start(lambda: None)
    (tmp_path / "full").mkdir()
    for number in range(2_100):
        (tmp_path / f"full/{number}").touch()
    (tmp_path / "full").rename(tmp_path / "root/in")
    parts = [news.files for news in watches.read()]
    watches.close()
    assert [len(part) for part in parts] == [1_000, 1_000, 100]
    assert len({path for part in parts for path in part}) == 2_100
