"""The inbox: from keys that may be new to files that are known, in threads of its own."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from silversmith.local.lake import LakeFolder
from silversmith.local.services.bucket import DOUBTFUL, Inbox, Landed
from silversmith.stores import IN_MEMORY, Head
from silversmith.stores.local import LocalStore


@dataclass
class World:
    folder: LakeFolder
    awake: threading.Event = field(default_factory=threading.Event)
    store: LocalStore = field(init=False)
    inbox: Inbox = field(init=False)

    def __post_init__(self) -> None:
        self.folder.create("bronze")
        self.store = self.folder.store("bronze", foreign_writers=True)
        self.inbox = Inbox(self.store, self.awake.set)

    def write(self, key: str, data: bytes) -> Path:
        path = self.folder.bucket("bronze") / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def take(self) -> list[Landed]:
        """All files that were found, once they have been looked at."""
        actual: list[Landed] = []
        while True:
            actual += self.inbox.take(1000)
            if not self.inbox.pending:
                return actual
            assert self.awake.wait(20), "it never woke the engine"
            self.awake.clear()


@contextmanager
def opened(path: Path) -> Iterator[World]:
    world = World(LakeFolder(path / "lake"))
    try:
        yield world
    finally:
        world.inbox.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with opened(tmp_path) as result:
        yield result


def test_a_file_is_known_by_its_identity_etag_and_size(world: World) -> None:
    world.write("a/b.csv", b"x\n1\n")
    world.inbox.add(["a/b.csv"])
    (landed,) = world.take()
    glance = world.store.glance("a/b.csv")
    assert glance is not None
    assert (landed.key, landed.etag, landed.size) == ("a/b.csv", hashlib.md5(b"x\n1\n").hexdigest(), 4)
    assert landed.identity.removesuffix(DOUBTFUL) == glance.identity
    assert not landed.scanned


def test_small_files_come_in_the_order_in_which_they_landed(world: World) -> None:
    keys = [f"{number:02}" for number in range(50, 0, -1)]
    for key in keys:
        world.write(key, key.encode())
    world.inbox.add(keys[:20])
    world.inbox.add(keys[20:], scanned=True)
    landed = world.take()
    assert [file.key for file in landed] == keys
    assert [file.scanned for file in landed] == [False] * 20 + [True] * 30


def test_the_newest_state_of_a_key_found_twice_is_taken_once(world: World) -> None:
    world.write("a", b"1")
    world.write("b", b"1")
    world.inbox.add(["a", "b", "a"])
    while world.inbox.pending > 3 or not world.awake.wait(20):
        pass
    world.inbox.close()
    assert [file.key for file in world.inbox.take(10)] == ["b", "a"]
    assert world.inbox.pending == 0


def test_paths_that_are_gone_or_no_file_are_dropped(world: World) -> None:
    world.write("here", b"1")
    world.write("folder/x", b"1")
    world.inbox.add(["gone", "folder", "here", "no/such/folder", "\0", "k" * 2000])
    assert [file.key for file in world.take()] == ["here"]


def test_a_large_file_keeps_no_small_one_waiting(tmp_path: Path) -> None:
    with opened(tmp_path) as world:
        reading, go_on = threading.Event(), threading.Event()

        class Slow(LocalStore):
            def head(self, key: str) -> Head | None:
                if key == "large":
                    reading.set()
                    assert go_on.wait(20)
                return super().head(key)

        slow = Slow(
            world.folder.bucket("bronze"), scratch=world.folder.scratch, locks=world.folder.locks, foreign_writers=True
        )
        world.inbox.close()
        world.inbox = Inbox(slow, world.awake.set)
        with world.write("large", b"").open("r+b") as file:
            file.truncate(IN_MEMORY + 1)
        world.write("small", b"1")
        world.inbox.add(["large", "small"])
        assert reading.wait(20)
        actual: list[Landed] = []
        while not actual:
            assert world.awake.wait(20)
            world.awake.clear()
            actual = world.inbox.take(10)
        assert ([file.key for file in actual], world.inbox.pending) == (["small"], 1)
        go_on.set()
        (large,) = world.take()
        assert (large.key, large.size) == ("large", IN_MEMORY + 1)


def test_only_so_many_are_taken_at_once(world: World) -> None:
    keys = [f"{number}" for number in range(10)]
    for key in keys:
        world.write(key, b"1")
    world.inbox.add(keys)
    taken: list[Landed] = []
    while len(taken) < 10:
        some = world.inbox.take(4)
        assert len(some) <= 4
        taken += some
        if not some:
            assert world.awake.wait(20)
            world.awake.clear()
    assert [file.key for file in taken] == keys


def test_a_missing_file_is_reported_once_and_wakes_the_engine(world: World) -> None:
    world.inbox.remove(["a", "b"])
    world.inbox.remove_folder("c/")
    world.inbox.remove(["d"])
    assert world.awake.is_set()
    assert world.inbox.take_gone() == (["a", "b", "d"], ["c/"])
    assert world.inbox.take_gone() == ([], [])


def test_it_can_be_closed_with_work_left(tmp_path: Path) -> None:
    with opened(tmp_path) as world:
        keys = [f"{number}" for number in range(2000)]
        for key in keys[:50]:
            world.write(key, b"1")
        for key in keys:
            world.inbox.add([key])
    assert {file.key for file in world.inbox.take(5000)} <= set(keys)
