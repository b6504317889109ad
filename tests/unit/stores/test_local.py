"""Peculiarities of a folder as a bucket: names that collide, links, strangers who write in it."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import xxhash

from silversmith.errors import PreconditionFailed, SourceChanged
from silversmith.stores import IN_MEMORY, Store, keys
from silversmith.stores.local import LocalStore


def make(lake: Path, *, foreign: bool, passed: Callable[[os.stat_result], bool] | None = None) -> LocalStore:
    return LocalStore(
        lake / "bucket",
        scratch=lake / "scratch",
        locks=lake / "locks",
        foreign_writers=foreign,
        fsync=lambda descriptor: None,
        passed=passed,
    )


@pytest.fixture
def silver(tmp_path: Path) -> LocalStore:
    return make(tmp_path, foreign=False)


@pytest.fixture
def bronze(tmp_path: Path) -> LocalStore:
    return make(tmp_path, foreign=True)


def keys_of(store: Store) -> list[str]:
    return [head.key for head in store.list()]


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


# Names


def test_plain_keys_are_the_files_that_people_see(silver: LocalStore, tmp_path: Path) -> None:
    silver.put("flights/a b.csv", b"1")
    silver.put("é", b"2")
    silver.put("a//b", b"3")
    assert (tmp_path / "bucket/flights/a b.csv").read_bytes() == b"1"
    assert (tmp_path / "bucket/é").read_bytes() == b"2"
    assert (tmp_path / "bucket" / keys.escaped("a//b")).read_bytes() == b"3"
    assert files_below(tmp_path / "scratch") == []


@pytest.mark.parametrize("order", [("a", "a/b", "a/b/c"), ("a/b/c", "a/b", "a"), ("a/b", "a", "a/b/c")])
def test_keys_that_collide_as_paths_live_side_by_side(
    silver: LocalStore, tmp_path: Path, order: tuple[str, ...]
) -> None:
    for key in order:
        silver.put(key, key.encode())
        with pytest.raises(PreconditionFailed):
            silver.put(key, b"", if_none_match=True)
    assert keys_of(silver) == sorted(order)
    for key in order:
        assert silver.read(key) == key.encode()
    silver.delete(order[0])
    before = files_below(tmp_path / "bucket")
    for key in order[1:]:
        assert silver.read(key) == key.encode()
        silver.put(key, b"again")
    assert keys_of(silver) == sorted(order[1:])
    # An object stays in its place, also where the better one is free by now: a reader who has just looked there
    # would miss it on its way.
    assert files_below(tmp_path / "bucket") == before


def test_a_strangers_file_in_the_plain_place_is_the_object(bronze: LocalStore, tmp_path: Path) -> None:
    bronze.put("a/b", b"")
    bronze.put("a", b"escaped")
    bronze.delete("a/b")
    (tmp_path / "bucket/a").write_bytes(b"dropped")
    assert bronze.read("a") == b"dropped"
    assert keys_of(bronze) == ["a"]
    bronze.put("a", b"put")
    assert files_below(tmp_path / "bucket") == ["a"]
    hidden = tmp_path / "bucket" / keys.escaped("a")
    hidden.write_bytes(b"hidden")
    bronze.delete("a")
    assert bronze.head("a") is None
    assert files_below(tmp_path / "bucket") == []


def test_a_reserved_folder_that_is_a_file_is_explained(bronze: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "bucket/.silversmith-keys").write_bytes(b"")
    with pytest.raises(FileExistsError, match="must be a folder that only Silversmith writes"):
        bronze.put("a//b", b"")


def test_names_that_are_no_keys_are_not_listed(bronze: LocalStore, tmp_path: Path) -> None:
    bucket = os.fsencode(tmp_path / "bucket")
    Path(os.fsdecode(bucket + b"/bad-\xff.csv")).write_bytes(b"")
    Path(os.fsdecode(bucket + b"/bad-\xfe")).mkdir()
    Path(os.fsdecode(bucket + b"/bad-\xfe/a")).write_bytes(b"")
    (tmp_path / "bucket/.silversmith-keys").mkdir()
    (tmp_path / "bucket/.silversmith-keys/Stranger.key").write_bytes(b"")
    (tmp_path / "bucket/.silversmith-keys/stranger").write_bytes(b"")
    (tmp_path / "bucket/.silversmith-keys/=ff.key").write_bytes(b"")
    deep = tmp_path / "bucket"
    for _ in range(6):
        deep /= "d" * 200
    deep.mkdir(parents=True)
    (deep / "too-long").write_bytes(b"")
    (tmp_path / "bucket/good").write_bytes(b"")
    assert keys_of(bronze) == ["good"]
    assert [head.key for head in bronze.list("\udcff")] == []


def test_deleting_prunes_the_folders_it_empties(silver: LocalStore, tmp_path: Path) -> None:
    silver.put("a/b/c/1", b"")
    silver.put("a/b/2", b"")
    silver.delete("a/b/c/1")
    assert not (tmp_path / "bucket/a/b/c").exists()
    assert (tmp_path / "bucket/a/b").is_dir()
    silver.delete("a/b/2")
    silver.put("a//b", b"")
    silver.delete("a//b")
    assert list((tmp_path / "bucket").iterdir()) == []


def test_a_listing_walks_no_unrelated_folder(silver: LocalStore, tmp_path: Path) -> None:
    for key in ("a/1", "b/c/1", "b/c/2", "b/d/1", "b/e/1", "c/1", "x//y"):
        silver.put(key, b"")
    scanned: list[str] = []
    listening = True

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "os.scandir":
            scanned.append(str(Path(f"/proc/self/fd/{arguments[0]}").readlink()))

    if sys.platform == "linux":
        sys.addaudithook(hear)
    assert [head.key for head in silver.list("b/", start_after="b/c/2")] == ["b/d/1", "b/e/1"]
    assert [head.key for head in silver.list("c/1")] == ["c/1"]
    listening = False
    bucket = str(tmp_path / "bucket")
    if sys.platform == "linux":
        assert {path.removeprefix(bucket) for path in scanned} == {
            "/b", "/b/c", "/b/d", "/b/e", "/c", "/.silversmith-keys",
        }  # fmt: skip


# Links and other files that are none


def test_no_link_is_followed(bronze: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    bucket = tmp_path / "bucket"
    (bucket / "file").symlink_to(outside / "secret")
    (bucket / "folder").symlink_to(outside)
    (bucket / "real").mkdir()
    (bucket / "real/up").symlink_to("../../outside")
    for key in ("file", "folder/secret", "real/up/secret", "folder", "real"):
        assert bronze.head(key) is None
        assert bronze.read(key) is None
        bronze.delete(key)
    assert keys_of(bronze) == []
    (bucket / "other").symlink_to(outside / "secret")
    bronze.put("other", b"mine")
    bronze.delete("other")
    for key in ("file", "folder/secret", "folder/new", "real/up/secret"):
        bronze.put(key, b"mine", if_none_match=True)
        bronze.put(key, b"again")
        assert bronze.read(key) == b"again"
    assert keys_of(bronze) == ["file", "folder/new", "folder/secret", "real/up/secret"]
    assert files_below(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"
    assert (bucket / "file").is_symlink()
    assert (bucket / "other").is_symlink()


def test_a_reserved_folder_that_is_a_link_is_not_followed(bronze: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / Path(keys.escaped("a//b")).name).write_bytes(b"secret")
    (tmp_path / "bucket/.silversmith-keys").symlink_to(tmp_path / "outside")
    assert bronze.read("a//b") is None
    bronze.delete("a//b")
    assert keys_of(bronze) == []
    assert len(files_below(tmp_path / "outside")) == 1


def test_a_pipe_is_no_object_and_never_waited_for(bronze: LocalStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "bucket/pipe")
    assert bronze.head("pipe") is None
    assert bronze.read("pipe") is None
    bronze.delete("pipe")
    assert keys_of(bronze) == []
    bronze.put("pipe", b"beside it")
    assert bronze.read("pipe") == b"beside it"
    assert (tmp_path / "bucket/pipe").is_fifo()


def test_a_hard_link_is_a_file_as_any_other(bronze: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"1")
    os.link(tmp_path / "elsewhere", tmp_path / "bucket/a")
    assert bronze.read("a") == b"1"


def test_any_time_that_a_file_can_have_is_survived(bronze: LocalStore, tmp_path: Path) -> None:
    for name, seconds in {"past": -(10**10), "future": 10**10, "beyond": 2**40}.items():
        (tmp_path / "bucket" / name).write_bytes(b"")
        os.utime(tmp_path / "bucket" / name, (seconds, seconds))
    assert [head.size for head in bronze.list()] == [0, 0, 0]


# Etags


def test_in_a_shared_folder_the_etag_is_the_md5_of_the_bytes(bronze: LocalStore, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"2")
    assert bronze.put("a", b"1") == hashlib.md5(b"1").hexdigest()
    assert bronze.put("a", body) == hashlib.md5(b"2").hexdigest()
    (tmp_path / "bucket/a").write_bytes(b"3")
    head = bronze.head("a")
    assert head is not None
    assert head.etag == hashlib.md5(b"3").hexdigest()
    assert next(bronze.list()).etag == head.etag


def test_an_overwrite_that_no_clock_shows_is_seen(bronze: LocalStore, tmp_path: Path) -> None:
    file = tmp_path / "bucket/a"
    for number in range(200):  # of the same size, as fast as can be
        file.write_bytes(b"%03d" % number)
        head = bronze.head("a")
        assert head is not None
        assert head.etag == hashlib.md5(b"%03d" % number).hexdigest()


def test_the_etag_of_a_listed_object_that_is_gone_is_empty(bronze: LocalStore) -> None:
    bronze.put("a", b"1")
    (listed,) = bronze.list()
    bronze.delete("a")
    assert listed.etag == ""
    with pytest.raises(AttributeError):
        _ = listed.nothing  # type: ignore[attr-defined]


def test_an_object_is_as_old_as_its_put(silver: LocalStore, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"1")
    os.utime(body, (0, 0))
    silver.put("a", body)
    head = silver.head("a")
    assert head is not None
    assert abs(head.modified - datetime.now(UTC)) < timedelta(minutes=1)


def test_etags_of_our_own_writes_never_come_again(silver: LocalStore) -> None:
    # Inode numbers come again at once, and so do the kernel's file times.
    etags = [silver.put("a", b"same size") for _ in range(2_000)]
    assert len(set(etags)) == len(etags)


def test_metadata_that_is_none_is_none(silver: LocalStore, bronze: LocalStore) -> None:
    for body in (b"", b"PAR1", b"PAR1" * 10, b"PAR1\xff\xff\xff\x7fPAR1"):
        for store in (silver, bronze):
            store.put("a.parquet", body)
            head = store.head("a.parquet")
            assert head is not None
            assert head.metadata == {}


# Files that change while they are read


def large_etag(data: bytes, *, parts: int) -> str:
    return f"{xxhash.xxh3_128(data).hexdigest()}-{parts}"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    (tmp_path / "bucket").mkdir(exist_ok=True)
    file = tmp_path / "bucket/large"
    file.write_bytes(b"x" * (IN_MEMORY + 1))
    return file


def test_a_large_file_written_in_place_is_noticed(bronze: LocalStore, large: Path) -> None:
    with bronze.open("large") as source:
        assert source is not None
        assert source.head.etag == large_etag(b"x" * (IN_MEMORY + 1), parts=2)
        bronze.verify(source)
        with large.open("r+b") as file:
            file.write(b"y")
        with pytest.raises(SourceChanged, match="large"):
            bronze.verify(source)


def test_a_large_file_that_gets_shorter_is_noticed(bronze: LocalStore, large: Path) -> None:
    """Also while its etag is worked out: that of a part would be another file's."""
    with bronze.open("large") as source:
        assert source is not None
        os.truncate(large, IN_MEMORY // 2)
        with pytest.raises(SourceChanged):
            bronze.verify(source)


def test_a_large_file_written_in_place_without_a_trace_is_noticed(large: Path, tmp_path: Path) -> None:
    """The times a file shows may be the same after a write within the same tick; here they are made so."""
    store = make(tmp_path, foreign=True, passed=lambda stat: False)
    with store.open("large") as source:
        assert source is not None
        store.verify(source)
        with large.open("r+b") as file:
            file.write(b"y")
        object.__setattr__(source, "seen", large.stat())
        with pytest.raises(SourceChanged):
            store.verify(source)


def test_a_large_file_that_the_clock_has_passed_is_read_once_for_its_etag(large: Path, tmp_path: Path) -> None:
    asked = []

    def passed(stat: os.stat_result) -> bool:
        asked.append(stat.st_size)
        return True

    store = make(tmp_path, foreign=True, passed=passed)
    with store.open("large") as source:
        assert source is not None
        store.verify(source)
    large.chmod(0o400)
    os.utime(large, (0, 0))
    assert asked == [IN_MEMORY + 1]
    with store.open("large") as again:
        assert again is not None
        assert again.head.etag == source.head.etag == store.put("other", large.read_bytes())
    assert len(asked) == 2, "its times are others now"


def test_an_etag_is_of_the_bytes_that_were_there_until_it_was_known(large: Path, tmp_path: Path) -> None:
    """A file that is written to while its etag is worked out: whatever comes of that, it is not verified."""
    store = make(tmp_path, foreign=True)
    with store.open("large") as source:
        assert source is not None
        with large.open("r+b") as file:
            file.seek(IN_MEMORY)
            file.write(b"y")
        with pytest.raises(SourceChanged):
            store.verify(source)
    head = store.head("large")
    assert head is not None
    assert head.etag == large_etag(b"x" * IN_MEMORY + b"y", parts=2)


def test_a_large_file_that_nobody_reads_to_its_end_is_let_go(large: Path, bronze: LocalStore) -> None:
    os.truncate(large, 4 * 2**30)
    with bronze.open("large") as source:
        assert source is not None
    assert all(thread.name != "etag" for thread in threading.enumerate())
    assert bronze._digests.known("large", large.stat()) is None


def test_a_small_file_that_grows_large_while_it_is_read_is_a_large_one(bronze: LocalStore, tmp_path: Path) -> None:
    class Growing(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            with (tmp_path / "bucket/a").open("ab") as file:
                file.write(b"x" * 1024 * 1024)
            return super().read(min(size or 0, 1024 * 1024)) or b""

    bronze.put("a", b"small")
    with Growing(tmp_path / "bucket/a") as file:
        source = bronze._source("a", "a", file)
        assert source.data is None
        with pytest.raises(SourceChanged):
            bronze.verify(source)


@pytest.mark.parametrize("foreign", [True, False])
def test_a_large_file_replaced_or_removed_is_noticed(large: Path, tmp_path: Path, foreign: bool) -> None:
    store = make(tmp_path, foreign=foreign)
    with store.open("large") as source:
        assert source is not None
        store.verify(source)
        store.put("large", large.read_bytes())
        with pytest.raises(SourceChanged):
            store.verify(source)
    with store.open("large") as source:
        assert source is not None
        store.delete("large")
        with pytest.raises(SourceChanged):
            store.verify(source)
