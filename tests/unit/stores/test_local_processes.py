"""A folder as a bucket when processes are killed in the middle, and when many write at once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from silversmith.errors import PreconditionFailed
from silversmith.stores.local import LocalStore

#: In a child process: a store over the folder in argv[1], as `make` below opens it.
CHILD = """
import os, sys
from pathlib import Path
from silversmith.errors import PreconditionFailed
from silversmith.stores.local import LocalStore
lake = Path(sys.argv[1])
store = LocalStore(lake / "bucket", scratch=lake / "scratch", locks=lake / "locks",
                   foreign_writers=sys.argv[2] == "foreign", fsync=lambda descriptor: None)
"""


class Syncs:
    """Records what is made durable, by its path at that moment."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, descriptor: int) -> None:
        os.fsync(descriptor)
        self.paths.append(Path(f"/dev/fd/{descriptor}").resolve().name)


def make(lake: Path, *, foreign: bool, fsync: Syncs | None = None) -> LocalStore:
    return LocalStore(
        lake / "bucket",
        scratch=lake / "scratch",
        locks=lake / "locks",
        foreign_writers=foreign,
        fsync=fsync or (lambda descriptor: None),
    )


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return make(tmp_path, foreign=False)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def child(lake: Path, script: str, *, foreign: bool = False, arguments: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    kind = "foreign" if foreign else "own"
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + script, str(lake), kind, *arguments], stdout=subprocess.PIPE, text=True
    )


def stdout(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def test_everything_is_durable_before_a_put_returns(tmp_path: Path) -> None:
    syncs = Syncs()
    store = make(tmp_path, foreign=False, fsync=syncs)
    store.put("a/b/c", b"1")
    body, *rest = syncs.paths
    assert len(body) == 24  # its name in the scratch folder
    assert rest == ["bucket", "a", "b"]
    syncs.paths.clear()
    store.put("a/b/d", b"1", if_none_match=True)
    assert syncs.paths[1:] == ["b"]
    syncs.paths.clear()
    store.delete("a/b/c")
    assert syncs.paths == ["b"]
    store.delete("a/b/d")
    assert syncs.paths == ["b", "bucket"]


def test_a_put_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    broken = LocalStore(
        tmp_path / "bucket", scratch=tmp_path / "s", locks=tmp_path / "l", foreign_writers=False, fsync=fail
    )
    with pytest.raises(OSError, match="the disk is broken"):
        broken.put("a", b"1")
    assert files_below(tmp_path / "s") == []
    assert broken.head("a") is None


def test_a_body_on_another_file_system_is_copied(store: LocalStore) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == store._device:
        pytest.skip("there is no second file system here")
    body = shared / f"silversmith-test-{os.getpid()}"
    body.write_bytes(b"elsewhere")
    try:
        store.put("a", body)
        assert store.read("a") == b"elsewhere"
        with pytest.raises(OSError, match="must be on the file system of"):
            LocalStore(shared, scratch=Path(store._scratch), locks=Path(store._placing._locks), foreign_writers=False)
    finally:
        body.unlink()


def test_a_killed_writer_leaves_a_whole_object(tmp_path: Path) -> None:
    script = """
for number in range(10**9):
    store.put("a/b", (b"%d" % (number % 10)) * 300_000)
    print(number, flush=True)
"""
    store = make(tmp_path, foreign=False)
    for round_ in range(12):
        with child(tmp_path, script) as process:
            for _ in range(1 + round_ % 4):
                assert stdout(process).readline()
            process.send_signal(signal.SIGKILL)
            acknowledged = stdout(process).read().split()
        body = store.read("a/b")
        assert body is not None
        assert len(body) == 300_000
        assert len(set(body)) == 1
        if acknowledged:  # the last one that was, or the one after it
            assert body[:1] in {b"%d" % (int(acknowledged[-1]) % 10), b"%d" % ((int(acknowledged[-1]) + 1) % 10)}
        head = store.head("a/b")
        assert head is not None
        store.put("a/b", b"the lock is free", if_match=head.etag)


@pytest.mark.parametrize("foreign", [True, False])
def test_compare_and_swap_loses_no_update(tmp_path: Path, foreign: bool) -> None:
    script = """
done = 0
while done < 60:
    head = store.head("n/count")
    with store.open("n/count") as source:
        if source is None:
            number, condition = 0, {"if_none_match": True}
        else:
            number, condition = int(source.data), {"if_match": source.head.etag}
    try:
        store.put("n/count", b"%d" % (number + 1), **condition)
        done += 1
    except PreconditionFailed:
        pass
"""
    processes = [child(tmp_path, script, foreign=foreign) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    for process in processes:
        stdout(process).close()
    assert make(tmp_path, foreign=foreign).read("n/count") == b"240"


def test_only_one_of_many_creates(tmp_path: Path) -> None:
    script = """
for number in range(60):
    try:
        store.put(f"deep/{number}/a", sys.argv[3].encode(), if_none_match=True)
        print(number)
    except PreconditionFailed:
        pass
"""
    processes = [child(tmp_path, script, arguments=(str(index),)) for index in range(4)]
    won = [[int(line) for line in process.communicate(timeout=60)[0].split()] for process in processes]
    assert sorted(number for numbers in won for number in numbers) == list(range(60))
    store = make(tmp_path, foreign=False)
    for index, numbers in enumerate(won):
        assert all(store.read(f"deep/{number}/a") == b"%d" % index for number in numbers)


@pytest.mark.full
def test_puts_survive_the_pruning_of_their_folders(tmp_path: Path) -> None:
    script = """
for number in range(300):
    key = f"a/b/c/{sys.argv[3]}"
    store.put(key, b"%d" % number, if_none_match=number % 2 == 0)
    assert store.read(key) == b"%d" % number
    store.delete(key)
    assert store.head(key) is None
"""
    processes = [child(tmp_path, script, arguments=(str(index),)) for index in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 3
    for process in processes:
        stdout(process).close()
    assert files_below(tmp_path / "bucket") == []


def test_colliding_keys_from_many_processes_all_arrive(tmp_path: Path) -> None:
    script = """
for number in range(40):
    for key in ("a", "a/b", "a/b/c")[:: 1 if sys.argv[3] == "0" else -1]:
        store.put(f"{number}/{key}", key.encode())
"""
    processes = [child(tmp_path, script, arguments=(str(index),)) for index in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 2
    for process in processes:
        stdout(process).close()
    store = make(tmp_path, foreign=False)
    assert len(list(store.list())) == 120
    for head in store.list():
        assert store.read(head.key) == head.key.partition("/")[2].encode()


def test_no_descriptor_is_left_open(store: LocalStore, tmp_path: Path) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for key in ("a/b/c", "a", "a//b"):
        store.put(key, b"1")
        store.head(key)
        with pytest.raises(PreconditionFailed):
            store.put(key, b"2", if_none_match=True)
    next(store.list())
    (tmp_path / "bucket/link").symlink_to("a")
    store.put("link/b", b"")
    store.delete("a/b/c")
    assert len(list(Path("/dev/fd").iterdir())) == before
