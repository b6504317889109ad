"""The watcher over real files, written by real processes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from watchdog.observers import Observer

from silversmith.local import inotify
from silversmith.local.landing import Refused
from silversmith.local.portable import Portable
from silversmith.local.watcher import Changes, Watcher, WatcherFailed
from silversmith.local.watches import Watches, WatchLimitReached
from silversmith.stores import keys
from silversmith.stores.local import LocalStore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

#: Seconds after which something that should have been told will not be.
DEADLINE = 20.0


class Told:
    """What a watcher told, to wait for."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.files: list[str] = []
        self.gone: list[str] = []
        self.folders_gone: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.overflows: list[str] = []

    def on_files(self, told: list[str]) -> None:
        with self.changed:
            self.files += told
            self.changed.notify_all()

    def on_gone(self, told: list[str]) -> None:
        with self.changed:
            self.gone += told
            self.changed.notify_all()

    def on_folder_gone(self, prefix: str) -> None:
        with self.changed:
            self.folders_gone.append(prefix)
            self.changed.notify_all()

    def on_refused(self, path: str, reason: str) -> None:
        with self.changed:
            self.refused.append((path, reason))
            self.changed.notify_all()

    def on_overflow(self, reason: str) -> None:
        with self.changed:
            self.overflows.append(reason)
            self.changed.notify_all()

    def until(self, condition: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, DEADLINE), vars(self)


def watch(
    root: Path,
    told: Told,
    *,
    changes: Changes | None = None,
    has_writer: Callable[[int], bool | None] | None = None,
    on_files: Callable[[list[str]], None] | None = None,
) -> Watcher:
    root.mkdir(exist_ok=True)
    extra = {} if has_writer is None else {"has_writer": has_writer}
    return Watcher(
        root,
        on_files=on_files or told.on_files,
        on_gone=told.on_gone,
        on_folder_gone=told.on_folder_gone,
        on_refused=told.on_refused,
        on_overflow=told.on_overflow,
        changes=changes,
        **extra,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"


@pytest.fixture
def told(root: Path) -> Iterator[Told]:
    told = Told()
    with watch(root, told) as watcher:
        yield told
        watcher.recheck(0)  # raises if it has failed
    assert not any(thread.name == "watcher" for thread in threading.enumerate())


def mark(root: Path, told: Told, name: str = "mark") -> None:
    """Wait until everything that happened so far was told: events come in order."""
    (root / name).write_bytes(b"")
    told.until(lambda: name in told.files)


def pass_turn(root: Path, told: Told) -> None:
    """Wait until the watcher has done all that it was asked so far: first in its turn are events, then requests."""
    for _ in range(2):
        mark(root, told, f"turn-{len(told.files)}")


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)


def test_any_way_to_write_a_file(root: Path, told: Told, tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_bytes(b"1")
    run("cp", outside, root / "copied.csv")
    told.until(lambda: told.files == ["copied.csv"])
    run("mv", outside, root / "moved.csv")
    told.until(lambda: told.files[1:] == ["moved.csv"])
    run("sh", "-c", f"echo 2 > '{root}/copied.csv'")
    told.until(lambda: told.files[2:] == ["copied.csv"])
    run("sh", "-c", f"echo 3 >> '{root}/copied.csv'")
    told.until(lambda: told.files[3:] == ["copied.csv"])
    run("ln", root / "copied.csv", root / "linked.csv")
    told.until(lambda: told.files[4:] == ["linked.csv"])
    run("touch", root / "empty")
    told.until(lambda: told.files[5:] == ["empty"])
    run("mv", root / "moved.csv", root / "again.csv")
    told.until(lambda: told.files[6:] == ["again.csv"])
    assert told.gone == ["moved.csv"]
    run("rm", root / "again.csv")
    told.until(lambda: told.gone == ["moved.csv", "again.csv"])
    assert (told.refused, told.overflows) == ([], [])


def test_a_file_is_not_told_until_it_is_closed(root: Path, told: Told) -> None:
    script = "import sys; f = open(sys.argv[1], 'w'); f.write('half'); f.flush(); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(root / "slow.csv")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        mark(root, told)
        assert told.files == ["mark"]
        writer.communicate(b"")
        told.until(lambda: told.files == ["mark", "slow.csv"])


def test_a_file_that_two_write_is_told_after_the_last(root: Path, told: Told) -> None:
    first = (root / "a").open("w")
    second = (root / "a").open("w")
    second.write("2")
    second.close()
    mark(root, told)
    assert told.files == ["mark"]
    first.close()
    told.until(lambda: "a" in told.files)


def test_an_editor_that_renames_over(root: Path, told: Told) -> None:
    (root / "a.csv").write_bytes(b"1")
    told.until(lambda: told.files == ["a.csv"])
    (root / ".a.csv.swp").write_bytes(b"")
    (root / "a.csv").rename(root / "a.csv~")
    (root / "a.csv").write_bytes(b"2")
    (root / "a.csv~").unlink()
    (root / ".a.csv.swp").unlink()
    mark(root, told)
    assert told.files == ["a.csv", "a.csv", "mark"]
    (root / "a.csv.tmp").write_bytes(b"3")
    (root / "a.csv.tmp").rename(root / "a.csv")
    mark(root, told, "second")
    assert told.files == ["a.csv", "a.csv", "mark", "a.csv", "second"]
    assert told.refused == []


@pytest.mark.parametrize(
    "name", ["é ü 😀.csv", "a\nb", "'; rm -rf \"", "-rf", "a\x1b[31m", "x" * 255, "%2F", "~"[:0] + "="]
)
def test_any_name_that_can_be_a_key(root: Path, told: Told, name: str) -> None:
    (root / name).write_bytes(b"1")
    told.until(lambda: told.files == [name])


def test_what_is_no_file_to_take_is_refused(root: Path, told: Told, tmp_path: Path) -> None:
    (root / "link").symlink_to("/etc/passwd")
    (root / "folder-link").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    (root / os.fsdecode(b"bad-\xff")).write_bytes(b"1")
    told.until(lambda: len(told.refused) >= 4)
    mark(root, told)
    refused = dict(told.refused)
    assert set(refused) == {"link", "folder-link", "pipe", "bad-\\xff"}
    assert "symbolic link" in refused["link"]
    assert "named pipe" in refused["pipe"]
    assert "not UTF-8" in refused["bad-\\xff"]
    assert told.files == ["mark"]


def test_keys_that_are_no_paths_are_told_too(root: Path, told: Told, tmp_path: Path) -> None:
    store = LocalStore(root, scratch=tmp_path / "scratch", locks=tmp_path / "locks", foreign_writers=True)
    long = "x" * 900 + "//"
    for key in ("a//b", "..", "plain", "plain/x", long):
        store.put(key, b"1")
        told.until(lambda: key in told.files)  # noqa: B023 - it is done with before the next
    store.put("a//.hidden", b"1")
    store.delete("a//b")
    told.until(lambda: "a//b" in told.gone)
    assert "a//.hidden" not in told.files
    (root / keys.RESERVED / "stranger").write_bytes(b"")
    told.until(lambda: told.refused)
    assert "kept for Silversmith" in told.refused[0][1]


def test_new_folders_filled_fast(root: Path, told: Told) -> None:
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
        told.until(lambda: expected <= set(told.files))
    assert writer.returncode == 0
    assert set(told.files) == expected
    for key in expected:  # and each of them is watched from now on
        (root / key).write_bytes(b"again")
    told.until(lambda: len(told.files) >= 2 * len(expected))


def test_folders_that_are_moved(root: Path, told: Told, tmp_path: Path) -> None:
    full = tmp_path / "full/sub"
    full.mkdir(parents=True)
    for number in range(3):
        (full / str(number)).write_bytes(b"1")
    (tmp_path / "full").rename(root / "in")
    told.until(lambda: set(told.files) == {"in/sub/0", "in/sub/1", "in/sub/2"})
    (root / "in").rename(root / "on")
    told.until(lambda: set(told.files[3:]) == {"on/sub/0", "on/sub/1", "on/sub/2"})
    assert told.folders_gone == ["in/"]
    (root / "on/sub/new").write_bytes(b"1")
    told.until(lambda: told.files[6:] == ["on/sub/new"])
    (root / "on").rename(tmp_path / "out")
    told.until(lambda: told.folders_gone == ["in/", "on/"])
    (tmp_path / "out/sub/elsewhere").write_bytes(b"1")
    mark(root, told)
    assert told.files[7:] == ["mark"]
    (root / "a/b/c").mkdir(parents=True)
    mark(root, told, "second")
    (root / "a/b/c").rename(root / "c")  # a watch keeps to its folder, wherever that goes
    (root / "a/b").rename(tmp_path / "b")
    (tmp_path / "b/x").write_bytes(b"1")
    (root / "c/y").write_bytes(b"1")
    told.until(lambda: told.files[8:] == ["second", "c/y"])


def test_a_folder_is_hidden_until_it_has_its_lasting_name(root: Path, told: Told) -> None:
    (root / "new.tmp/sub").mkdir(parents=True)
    (root / "new.tmp/sub/a").write_bytes(b"1")
    mark(root, told)
    assert told.files == ["mark"]
    (root / "new.tmp").rename(root / "new")
    told.until(lambda: told.files == ["mark", "new/sub/a"])
    assert told.folders_gone == []


def test_removed_folders_and_ones_of_the_same_name(root: Path, told: Told) -> None:
    for round_ in range(20):
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/c").write_bytes(b"1")
        if round_ % 2:
            told.until(lambda: "a/b/c" in told.files)
            told.files.clear()
        shutil.rmtree(root / "a")
    (root / "a/b").mkdir(parents=True)
    mark(root, told)
    (root / "a/b/last").write_bytes(b"1")
    told.until(lambda: told.files[-1] == "a/b/last")


def test_a_storm_of_moves_between_folders(root: Path, told: Told) -> None:
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
    told.until(lambda: expected <= set(told.files))
    told.files.clear()
    for key in expected:
        (root / key).write_bytes(b"2")
    told.until(lambda: expected <= set(told.files))
    assert set(told.files) == expected


# Scanning


def scan(watcher: Watcher, now: float) -> list[str]:
    return sorted(key for batch in watcher.scan(now) for key in batch)


def test_a_scan_finds_what_is_whole(root: Path) -> None:
    for path in ("a", "d/b", "d/.hidden", "x.part", ".silversmith-keys/a-2f-2fb.key", "empty"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"" if path == "empty" else b"1")
    (root / "link").symlink_to("a")
    told = Told()
    changed = (root / "empty").stat().st_ctime
    with watch(root, told) as watcher, (root / "open").open("w") as file:
        file.write("half")
        file.flush()
        assert scan(watcher, changed) == ["a", "a//b", "d/b"]  # the empty one may just have been created
        assert told.refused[0][0] == "link"
        assert scan(watcher, changed + 1) == ["a", "a//b", "d/b", "empty"]
        watcher.recheck(1_000.0)
        pass_turn(root, told)
        assert "empty" not in told.files
        watcher.recheck(1_001.0)
        told.until(lambda: "empty" in told.files)
        assert "open" not in told.files
        file.close()
        told.until(lambda: told.files[-1] == "open")


def test_a_scan_comes_in_batches(root: Path) -> None:
    for number in range(2_500):
        (root / str(number)).write_bytes(b"1")
    batches = list(watch(root, Told()).scan(time.time()))
    assert [len(batch) for batch in batches] == [1_000, 1_000, 500]
    assert len({key for batch in batches for key in batch}) == 2_500


def test_where_nothing_tells_of_writers_a_quiet_file_is_whole(root: Path) -> None:
    (root / "a").write_bytes(b"1")
    told = Told()
    with watch(root, told, has_writer=lambda descriptor: None) as watcher:
        assert scan(watcher, time.time()) == []
        assert scan(watcher, time.time() + 2.5) == ["a"]
        (root / "a").write_bytes(b"2")  # that it is closed is told
        told.until(lambda: told.files == ["a"])
        os.link(root / "a", root / "linked")
        pass_turn(root, told)
        watcher.recheck(10.0)
        pass_turn(root, told)
        os.utime(root / "linked", (5, 5))
        watcher.recheck(12.0)
        pass_turn(root, told)
        watcher.recheck(13.9)
        pass_turn(root, told)
        assert "linked" not in told.files
        watcher.recheck(14.0)
        told.until(lambda: "linked" in told.files)


def test_a_file_put_under_a_new_name_is_told_at_the_next_look(root: Path, tmp_path: Path) -> None:
    """link() is the only event of it; it must not wait for a close that never comes."""
    store = LocalStore(root, scratch=tmp_path / "scratch", locks=tmp_path / "locks", foreign_writers=True)
    told = Told()
    with watch(root, told) as watcher:
        store.put("a", b"1", if_none_match=True)
        pass_turn(root, told)
        watcher.recheck(0.0)
        told.until(lambda: "a" in told.files)


# When it does not work


def test_what_the_kernel_dropped_is_asked_for(root: Path) -> None:
    told, blocked, reached = Told(), threading.Event(), threading.Event()

    def slow(files: list[str]) -> None:
        reached.set()
        blocked.wait()
        told.on_files(files)

    with watch(root, told, on_files=slow) as watcher:
        names = [root / "a", root / "b"]
        names[0].write_bytes(b"1")
        assert reached.wait(DEADLINE)
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        for number in range(limit + 10):  # by turns, for the kernel makes one of two that are alike
            os.close(os.open(names[number % 2], os.O_WRONLY | os.O_CREAT))
        (root / "unseen/deep").mkdir(parents=True)
        (root / "c").write_bytes(b"1")
        blocked.set()
        told.until(lambda: told.overflows)
        assert "max_queued_events" in told.overflows[0]
        assert scan(watcher, time.time() + 3) == ["a", "b", "c"]
        (root / "unseen/deep/d").write_bytes(b"1")  # its folder's own event was dropped
        told.until(lambda: "unseen/deep/d" in told.files)
        watcher.recheck(0.0)


def test_a_file_that_may_not_be_read_is_told_when_it_may(root: Path) -> None:
    """That it may not is pretended, for the tests may be run by root."""
    told = Told()
    may_read = False

    def look(descriptor: int) -> bool | None:
        if not may_read:
            raise Refused("it cannot be read: Permission denied", for_now=True)
        return False

    with watch(root, told, has_writer=look) as watcher:
        (root / "a").write_bytes(b"1")
        told.until(lambda: told.refused)
        may_read = True
        watcher.recheck(0.0)
        told.until(lambda: told.files == ["a"])
        assert {path for path, _ in told.refused} == {"a"}
        assert told.overflows == []


def test_a_callback_that_fails_loses_nothing(root: Path) -> None:
    told, calls = Told(), 0

    def failing(files: list[str]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("the journal is locked")
        told.on_files(files)

    with watch(root, told, on_files=failing) as watcher:
        (root / "a").write_bytes(b"1")
        told.until(lambda: told.overflows == ["RuntimeError: the journal is locked"])
        assert scan(watcher, time.time()) == ["a"]
        mark(root, told)


class Short(inotify.Inotify):
    """A kernel that allows only so many watches."""

    allowed = 3

    def add(self, folder: str, extra: int = 0) -> int:
        if Short.allowed == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        Short.allowed -= 1
        return super().add(folder, extra)


def test_the_limit_of_watches_is_explained(root: Path) -> None:
    for name in "abcd":
        (root / name).mkdir()
    Short.allowed = 3
    watcher = watch(root, Told(), changes=Watches(str(root), Short))
    with pytest.raises(WatchLimitReached, match=r"sudo sysctl fs.inotify.max_user_watches=1048576"):
        watcher.start()
    watcher.stop()

    def none() -> inotify.Inotify:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(WatchLimitReached, match=r"fs.inotify.max_user_instances=1024"):
        watch(root, Told(), changes=Watches(str(root), none)).start()


def test_a_folder_over_the_limit_is_told_of_and_tried_again(root: Path) -> None:
    Short.allowed = 1
    told = Told()
    with watch(root, told, changes=Watches(str(root), Short)) as watcher:
        (root / "a/b").mkdir(parents=True)
        told.until(lambda: told.refused)
        assert told.refused[0][0] == "a/"
        assert "max_user_watches" in told.refused[0][1]
        (root / "a/b/c").write_bytes(b"1")
        watcher.recheck(0.0)
        mark(root, told)
        assert (told.files, len(told.refused)) == (["mark"], 1)
        Short.allowed = 10
        watcher.recheck(1.0)
        told.until(lambda: told.files == ["mark", "a/b/c"])
        (root / "a/b/d").write_bytes(b"1")
        told.until(lambda: told.files[2:] == ["a/b/d"])


@pytest.mark.parametrize("how", ["removed", "moved"])
@pytest.mark.parametrize("changes", [Watches, Portable])
def test_a_root_that_goes_away_is_told(root: Path, how: str, changes: Callable[[str], Changes]) -> None:
    if changes is Portable and how == "moved":
        pytest.skip("watchdog does not tell of it on Linux")
    told = Told()
    watcher = watch(root, told, changes=changes(str(root)))
    watcher.start()
    thread = watcher._thread
    assert thread is not None
    if how == "removed":
        root.rmdir()
    else:
        root.rename(root.with_name("elsewhere"))
    thread.join(DEADLINE)
    with pytest.raises(WatcherFailed, match="is no longer watched"):
        watcher.recheck(0.0)
    watcher.stop()


def test_a_root_that_is_none_is_an_error(root: Path) -> None:
    (root / "file").write_bytes(b"")
    for path in (root / "none", root / "file"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            Watcher(
                path, on_files=print, on_gone=print, on_folder_gone=print, on_refused=print, on_overflow=print
            ).start()


def test_nothing_is_left_behind(root: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    told = Told()
    for number in range(5):
        with watch(root, told):
            mark(root, told, str(number))
    watcher = watch(root, told)
    watcher.stop()
    watcher.start()
    watcher.stop()
    watcher.stop()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not any(thread.name == "watcher" for thread in threading.enumerate())


def test_it_can_be_stopped_in_a_callback(root: Path) -> None:
    stopped = threading.Event()

    def stop(files: list[str]) -> None:
        watcher.stop()
        stopped.set()

    watcher = watch(root, Told(), on_files=stop)
    watcher.start()
    thread = watcher._thread
    assert thread is not None
    (root / "a").write_bytes(b"1")
    assert stopped.wait(DEADLINE)
    thread.join(DEADLINE)
    assert not thread.is_alive()
    watcher.stop()


# Without inotify's own events


def test_with_watchdog_a_quiet_file_is_whole(root: Path, tmp_path: Path) -> None:
    """As on macOS, where nothing is told of a file's end: watchdog's events, but for those that only Linux has."""

    class Deaf(Portable):
        def dispatch(self, event: object) -> None:
            if getattr(event, "event_type", "") != "closed":
                super().dispatch(event)  # type: ignore[arg-type]

    told = Told()
    now = 0.0

    def rechecked(condition: Callable[[], bool]) -> None:
        nonlocal now
        with told.changed:
            end = time.monotonic() + DEADLINE
            while not condition():
                assert time.monotonic() < end, vars(told)
                now += 1.0
                watcher.recheck(now)
                told.changed.wait(0.01)

    with watch(root, told, changes=Deaf(str(root), Observer), has_writer=lambda descriptor: None) as watcher:
        (root / "a").write_bytes(b"1")
        rechecked(lambda: "a" in told.files)
        full = tmp_path / "full"
        full.mkdir()
        (full / "b").write_bytes(b"1")
        full.rename(root / "in")
        rechecked(lambda: "in/b" in told.files)
        (root / "a").rename(root / "c")
        rechecked(lambda: "c" in told.files)
        assert told.gone == ["a"]
        (root / "c").unlink()
        rechecked(lambda: told.gone == ["a", "c"])
        (root / "in").rename(root / "on")
        rechecked(lambda: "on/b" in told.files)
        assert told.folders_gone == ["in/"]
    assert not any(thread.name == "watcher" for thread in threading.enumerate())
