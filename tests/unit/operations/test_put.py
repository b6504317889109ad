"""The keys of files, and that a file gets there whole while the user's own stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.operations import WrongCall
from silversmith.operations.send import Upload, plan, put
from silversmith.stores import IN_MEMORY

if TYPE_CHECKING:
    from tests.unit.conftest import Bench


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def keys(uploads: list[Upload]) -> list[str]:
    return [upload.key for upload in uploads]


def test_a_file_has_its_name_as_key(tmp_path: Path) -> None:
    tree(tmp_path, "in/a.csv")
    assert plan([tmp_path / "in/a.csv"]) == [Upload(tmp_path / "in/a.csv", "a.csv")]


def test_a_file_can_be_given_a_key(tmp_path: Path) -> None:
    tree(tmp_path, "a.csv")
    assert keys(plan([tmp_path / "a.csv"], key="orders/2026/x.csv")) == ["orders/2026/x.csv"]


@pytest.mark.parametrize("prefix", ["orders", "orders/"])
def test_a_prefix_goes_before_every_key_with_one_slash(tmp_path: Path, prefix: str) -> None:
    tree(tmp_path, "a.csv", "b.csv")
    assert keys(plan([tmp_path / "a.csv", tmp_path / "b.csv"], prefix=prefix)) == ["orders/a.csv", "orders/b.csv"]


def test_every_file_below_a_folder_has_its_path_as_key(tmp_path: Path) -> None:
    tree(tmp_path, "in/b.csv", "in/deep/er/a.csv", "in/a.csv")
    assert keys(plan([tmp_path / "in"])) == ["a.csv", "b.csv", "deep/er/a.csv"]


def test_links_to_folders_pipes_and_dangling_links_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "in/a.csv", "out/secret.csv")
    (tmp_path / "in/round").symlink_to(tmp_path / "in")
    (tmp_path / "in/away").symlink_to(tmp_path / "out")
    (tmp_path / "in/dangling.csv").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "in/pipe.csv")
    assert keys(plan([tmp_path / "in"])) == ["a.csv"]


def test_an_empty_folder_is_nothing_to_put(tmp_path: Path) -> None:
    assert plan([tmp_path]) == []


def test_two_files_of_one_key_are_refused_and_both_named(tmp_path: Path) -> None:
    tree(tmp_path, "one/a.csv", "two/a.csv")
    with pytest.raises(WrongCall, match=r"one/a\.csv and .*two/a\.csv would both have the key a\.csv"):
        plan([tmp_path / "one", tmp_path / "two"])


def test_several_files_may_not_have_one_key(tmp_path: Path) -> None:
    tree(tmp_path, "a.csv", "b.csv")
    with pytest.raises(WrongCall, match="there are 2 files"):
        plan([tmp_path / "a.csv", tmp_path / "b.csv"], key="k")
    with pytest.raises(WrongCall, match="is a folder"):
        plan([tmp_path], key="k")


@pytest.mark.parametrize("key", [None, "k"])
def test_paths_that_are_missing_or_no_file_are_refused(tmp_path: Path, key: str | None) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WrongCall, match=r"missing\.csv does not exist"):
        plan([tmp_path / "missing.csv"], key=key)
    with pytest.raises(WrongCall, match="pipe is neither a file nor a folder"):
        plan([tmp_path / "pipe"], key=key)


@pytest.mark.parametrize("key", ["", "k" * 1025, "é" * 513, "\udcff"])
def test_invalid_keys_are_refused(tmp_path: Path, key: str) -> None:
    tree(tmp_path, "a.csv")
    with pytest.raises(WrongCall, match="cannot be put"):
        plan([tmp_path / "a.csv"], key=key)


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_put(tmp_path: Path) -> None:
    tree(tmp_path, "in/a.csv")
    with Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/\xff.csv")).open("w"):
        pass
    with pytest.raises(WrongCall, match=r"\\xff\.csv.*not UTF-8"):
        plan([tmp_path / "in"])


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=250))
def test_any_key_s3_takes_is_taken_as_it_is(key: str) -> None:
    assert plan([Path(__file__)], key=key)[0].key == key


@pytest.mark.parametrize("key", ["../../escape.csv", "/absolute.csv", "a/../b.csv", "new\nline.csv", "a//b.csv", "."])
def test_a_hostile_key_is_a_key_and_stays_in_the_lake(bench: Bench, tmp_path: Path, key: str) -> None:
    tree(tmp_path, "a.csv")
    before = {path for path in tmp_path.rglob("*") if bench.folder.path not in (path, *path.parents)}
    (done,) = put(plan([tmp_path / "a.csv"], key=key), bench.pipeline, bench.lake.bronze, scratch=bench.folder.scratch)
    assert (done.key, bench.lake.bronze.read(key)) == (key, b"a.csv")
    assert {path for path in tmp_path.rglob("*") if bench.folder.path not in (path, *path.parents)} == before


@pytest.mark.parametrize("size", [0, 5, IN_MEMORY, IN_MEMORY + 1])
def test_the_object_is_whole_and_the_users_file_stays(bench: Bench, tmp_path: Path, size: int) -> None:
    data = b"x" * size
    (tmp_path / "a.csv").write_bytes(data)
    (done,) = put(plan([tmp_path / "a.csv"]), bench.pipeline, bench.lake.bronze, scratch=bench.folder.scratch)
    head = bench.lake.bronze.head("a.csv")
    assert head is not None
    assert (done.size, done.etag) == (size, head.etag)
    assert bench.lake.bronze.read("a.csv") == data
    assert (tmp_path / "a.csv").read_bytes() == data
    assert list(bench.folder.scratch.iterdir()) == []


def test_the_transforms_that_will_take_it_are_named(bench: Bench, tmp_path: Path) -> None:
    tree(tmp_path, "in/orders/a.csv", "in/b.csv", "in/readme.txt")
    result = put(plan([tmp_path / "in"]), bench.pipeline, bench.lake.bronze, scratch=bench.folder.scratch)
    assert {done.key: list(done.transforms) for done in result} == {
        "orders/a.csv": ["orders", "copies"],
        "b.csv": ["copies"],
        "readme.txt": [],
    }
