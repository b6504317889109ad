"""Files without an event: there before, events that were lost, limits, a folder that goes away."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from watchdog.observers import Observer

from silversmith.local import inotify
from silversmith.local.files import FileRefused
from silversmith.local.inotify import InotifySource, WatchdogSource, WatchLimitReached
from silversmith.local.watcher import ChangeSource, Watcher, WatcherFailed
from silversmith.stores.local import LocalStore
from tests.unit.local.watching import DEADLINE, Reports, mark, pass_turn, scan, watch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket"


def test_a_scan_finds_what_is_whole(root: Path) -> None:
    for path in ("a", "d/b", "d/.hidden", "x.part", ".silversmith-keys/a-2f-2fb.key", "empty"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"" if path == "empty" else b"1")
    (root / "link").symlink_to("a")
    reports = Reports()
    changed = (root / "empty").stat().st_ctime
    with watch(root, reports) as watcher, (root / "open").open("w") as file:
        file.write("half")
        file.flush()
        assert scan(watcher, changed) == ["a", "a//b", "d/b"]  # the empty one may just have been created
        assert reports.refused[0][0] == "link"
        assert scan(watcher, changed + 1) == ["a", "a//b", "d/b", "empty"]
        watcher.recheck(1_000.0)
        pass_turn(root, reports)
        assert "empty" not in reports.files
        watcher.recheck(1_001.0)
        reports.until(lambda: "empty" in reports.files)
        assert "open" not in reports.files
        file.close()
        reports.until(lambda: reports.files[-1] == "open")


def test_a_scan_comes_in_batches_and_in_order(root: Path) -> None:
    names = [f"{number:03}" for number in range(250)]
    for name in reversed(names):
        (root / name).write_bytes(b"1")
    batches = list(watch(root, Reports()).scan(time.time()))
    assert max(map(len, batches)) <= 100
    assert [key for batch in batches for key in batch] == names


def test_a_scan_leaves_out_what_is_known_and_stops_after_as_many_all_the_same(root: Path) -> None:
    for number in range(250):
        (root / f"{number:03}").write_bytes(b"1")
    asked: list[str] = []

    def known(key: str) -> bool:
        asked.append(key)
        return key != "200"

    scan = watch(root, Reports()).scan(time.time(), known=known)
    steps = [(len(asked), batch) for batch in scan]
    assert [len(batch) for _, batch in steps] == [0, 0, 1]
    assert [number for number, _ in steps] == [99, 199, 250]


def test_a_quiet_file_is_whole_if_writers_are_unknown(root: Path) -> None:
    (root / "a").write_bytes(b"1")
    reports = Reports()
    with watch(root, reports, has_writer=lambda descriptor: None) as watcher:
        assert scan(watcher, time.time()) == []
        assert scan(watcher, time.time() + 2.5) == ["a"]
        (root / "a").write_bytes(b"2")  # that it is closed is told
        reports.until(lambda: reports.files == ["a"])
        os.link(root / "a", root / "linked")
        pass_turn(root, reports)
        watcher.recheck(10.0)
        pass_turn(root, reports)
        os.utime(root / "linked", (5, 5))
        watcher.recheck(12.0)
        pass_turn(root, reports)
        watcher.recheck(13.9)
        pass_turn(root, reports)
        assert "linked" not in reports.files
        watcher.recheck(14.0)
        reports.until(lambda: "linked" in reports.files)


def test_a_file_put_under_a_new_name_is_reported_at_the_next_look(root: Path, tmp_path: Path) -> None:
    """link() is the only event of it; it must not wait for a close that never comes."""
    store = LocalStore(root, scratch=tmp_path / "scratch", locks=tmp_path / "locks", foreign_writers=True)
    reports = Reports()
    with watch(root, reports) as watcher:
        store.put("a", b"1", if_none_match=True)
        pass_turn(root, reports)
        watcher.recheck(0.0)
        reports.until(lambda: "a" in reports.files)


def test_events_that_the_kernel_dropped_are_made_up_for(root: Path) -> None:
    reports, blocked, reached = Reports(), threading.Event(), threading.Event()

    def slow(files: list[str]) -> None:
        reached.set()
        blocked.wait()
        reports.on_files(files)

    with watch(root, reports, on_files=slow) as watcher:
        names = [root / "a", root / "b"]
        names[0].write_bytes(b"1")
        assert reached.wait(DEADLINE)
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        for number in range(limit + 10):  # by turns, for the kernel makes one of two that are alike
            os.close(os.open(names[number % 2], os.O_WRONLY | os.O_CREAT))
        (root / "unseen/deep").mkdir(parents=True)
        (root / "c").write_bytes(b"1")
        blocked.set()
        reports.until(lambda: reports.overflows)
        assert "max_queued_events" in reports.overflows[0]
        assert scan(watcher, time.time() + 3) == ["a", "b", "c"]
        (root / "unseen/deep/d").write_bytes(b"1")  # its folder's own event was dropped
        reports.until(lambda: "unseen/deep/d" in reports.files)
        watcher.recheck(0.0)


def test_a_file_that_may_not_be_read_is_reported_when_it_may(root: Path) -> None:
    """The denied access is simulated, for the tests may be run by root."""
    reports = Reports()
    may_read = False

    def look(descriptor: int) -> bool | None:
        if not may_read:
            raise FileRefused("it cannot be read: Permission denied", for_now=True)
        return False

    with watch(root, reports, has_writer=look) as watcher:
        (root / "a").write_bytes(b"1")
        reports.until(lambda: reports.refused)
        may_read = True
        watcher.recheck(0.0)
        reports.until(lambda: reports.files == ["a"])
        assert {path for path, _ in reports.refused} == {"a"}
        assert reports.overflows == []


def test_a_callback_that_fails_loses_nothing(root: Path) -> None:
    reports, calls = Reports(), 0

    def failing(files: list[str]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("the journal is locked")
        reports.on_files(files)

    with watch(root, reports, on_files=failing) as watcher:
        (root / "a").write_bytes(b"1")
        reports.until(lambda: reports.overflows == ["RuntimeError: the journal is locked"])
        assert scan(watcher, time.time()) == ["a"]
        mark(root, reports)


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
    watcher = watch(root, Reports(), source=InotifySource(str(root), Short))
    with pytest.raises(WatchLimitReached, match=r"sudo sysctl fs.inotify.max_user_watches=1048576"):
        watcher.start()
    watcher.stop()

    def none() -> inotify.Inotify:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(WatchLimitReached, match=r"fs.inotify.max_user_instances=1024"):
        watch(root, Reports(), source=InotifySource(str(root), none)).start()


def test_a_folder_over_the_limit_is_reported_and_tried_again(root: Path) -> None:
    Short.allowed = 1
    reports = Reports()
    with watch(root, reports, source=InotifySource(str(root), Short)) as watcher:
        (root / "a/b").mkdir(parents=True)
        reports.until(lambda: reports.refused)
        assert reports.refused[0][0] == "a/"
        assert "max_user_watches" in reports.refused[0][1]
        (root / "a/b/c").write_bytes(b"1")
        watcher.recheck(0.0)
        mark(root, reports)
        assert (reports.files, len(reports.refused)) == (["mark"], 1)
        Short.allowed = 10
        watcher.recheck(1.0)
        reports.until(lambda: reports.files == ["mark", "a/b/c"])
        (root / "a/b/d").write_bytes(b"1")
        reports.until(lambda: reports.files[2:] == ["a/b/d"])


@pytest.mark.parametrize("how", ["removed", "moved"])
@pytest.mark.parametrize("source", [InotifySource, WatchdogSource])
def test_a_root_that_goes_away_is_reported(root: Path, how: str, source: Callable[[str], ChangeSource]) -> None:
    if source is WatchdogSource and how == "moved":
        pytest.skip("watchdog does not tell of it on Linux")
    reports = Reports()
    watcher = watch(root, reports, source=source(str(root)))
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
    reports = Reports()
    for number in range(5):
        with watch(root, reports):
            mark(root, reports, str(number))
    watcher = watch(root, reports)
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

    watcher = watch(root, Reports(), on_files=stop)
    watcher.start()
    thread = watcher._thread
    assert thread is not None
    (root / "a").write_bytes(b"1")
    assert stopped.wait(DEADLINE)
    thread.join(DEADLINE)
    assert not thread.is_alive()
    watcher.stop()


def test_with_watchdog_a_quiet_file_is_whole(root: Path, tmp_path: Path) -> None:
    """As on macOS, where no event tells of a file's end: watchdog's events, except those that only Linux has."""

    class Deaf(WatchdogSource):
        def dispatch(self, event: object) -> None:
            if getattr(event, "event_type", "") != "closed":
                super().dispatch(event)  # type: ignore[arg-type]

    reports = Reports()
    now = 0.0

    def rechecked(condition: Callable[[], bool]) -> None:
        nonlocal now
        with reports.changed:
            end = time.monotonic() + DEADLINE
            while not condition():
                assert time.monotonic() < end, vars(reports)
                now += 1.0
                watcher.recheck(now)
                reports.changed.wait(0.01)

    with watch(root, reports, source=Deaf(str(root), Observer), has_writer=lambda descriptor: None) as watcher:
        (root / "a").write_bytes(b"1")
        rechecked(lambda: "a" in reports.files)
        full = tmp_path / "full"
        full.mkdir()
        (full / "b").write_bytes(b"1")
        full.rename(root / "in")
        rechecked(lambda: "in/b" in reports.files)
        (root / "a").rename(root / "c")
        rechecked(lambda: "c" in reports.files)
        assert reports.gone == ["a"]
        (root / "c").unlink()
        rechecked(lambda: reports.gone == ["a", "c"])
        (root / "in").rename(root / "on")
        rechecked(lambda: "on/b" in reports.files)
        assert reports.folders_gone == ["in/"]
    assert not any(thread.name == "watcher" for thread in threading.enumerate())
