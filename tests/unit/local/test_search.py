"""The search for files without an event: step by step, not ahead of the inbox, and over real files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from silversmith.local import watcher as search
from silversmith.local.services.bucket import Inbox, Landed
from silversmith.local.watcher import Search
from silversmith.stores.local import LocalStore
from tests.unit.local.watching import Reports, watch


class World:
    """A folder with files, and a search over it. ``seen``: the identities of files that were noticed."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "bronze"
        self.store = LocalStore(self.root, scratch=folder / "scratch", locks=folder / "locks", foreign_writers=True)
        self.inbox = Inbox(self.store, lambda: None)
        self.reports = Reports()
        self.seen: dict[str, str] = {}
        self.search = Search(watch(self.root, self.reports), self.store, self.inbox, self.unchanged)

    def unchanged(self, key: str, identity: Callable[[], str | None], *, trusting: bool) -> bool:
        return key in self.seen and self.seen[key].removesuffix("?" if trusting else "") == identity()

    def put(self, *keys: str) -> None:
        for key in keys:
            path = self.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"1")

    def take(self, number: int) -> list[Landed]:
        """So many files, as soon as they have been looked at."""
        actual: list[Landed] = []
        deadline = time.monotonic() + 30
        while len(actual) < number:
            assert time.monotonic() < deadline
            actual += self.inbox.take(number - len(actual))
        self.seen |= {file.key: file.identity for file in actual}
        return actual

    def finish(self) -> int:
        """Take all steps until there is nothing more; how many."""
        steps = 0
        while self.search.busy:
            self.search.step(time.time())
            steps += 1
        return steps


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.inbox.close()


def test_it_finds_what_was_not_noticed_and_ends(world: World) -> None:
    world.put("a", "d/b", "d/e/c")
    assert world.search.busy, "the first one is wanted from the beginning"
    world.finish()
    assert {(file.key, file.scanned) for file in world.take(3)} == {("a", True), ("d/b", True), ("d/e/c", True)}
    world.put("d/new")
    assert not world.search.busy
    world.search.step(time.time())
    assert world.inbox.pending == 0, "nobody asked for another"
    world.seen = {key: identity.removesuffix("?") for key, identity in world.seen.items()}
    world.search.again()
    world.finish()
    assert [file.key for file in world.take(1)] == ["d/new"]


def test_it_waits_while_much_is_not_taken_in(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_PENDING", 150)
    world.put(*(f"{number:03}" for number in range(500)))
    while world.search.ready:
        world.search.step(time.time())
    assert world.search.busy
    assert 150 <= world.inbox.pending < 250
    world.search.step(time.time())
    assert world.inbox.pending < 250, "there is no room for more"
    actual = 0
    while world.search.busy:
        actual += len(world.take(min(100, world.inbox.pending)))
        world.search.step(time.time())
    assert actual + len(world.take(world.inbox.pending)) == 500


def test_another_search_begins_when_the_one_under_way_has_ended(world: World) -> None:
    world.put("a")
    world.search.step(time.time())
    world.take(1)
    world.put("b")
    world.search.again()
    world.seen = {"a": world.seen["a"].removesuffix("?")}
    world.finish()
    assert [file.key for file in world.take(1)] == ["b"]
    assert world.inbox.pending == 0


@pytest.mark.parametrize("trusting", [False, True])
def test_only_the_last_believes_an_identity_that_is_in_doubt(world: World, trusting: bool) -> None:
    world.put("a")
    soon = time.time() + 3600
    os.utime(world.root / "a", (soon, soon))
    world.finish()
    (file,) = world.take(1)
    assert file.identity.endswith("?"), "it could be written again and look the same"
    if trusting:
        assert not world.search.last(time.time())
    else:
        world.search.again()
        world.finish()
        assert [result.key for result in world.take(1)] == ["a"]


def test_the_last_search_reports_whether_there_was_more(world: World) -> None:
    assert not world.search.last(time.time())
    world.put(*(f"{number:03}" for number in range(250)))
    assert world.search.last(time.time())
    assert len(world.take(250)) == 250


def test_a_link_in_a_files_place_is_reported(world: World) -> None:
    world.put("a")
    world.finish()
    world.take(1)
    (world.root / "a").unlink()
    (world.root / "a").symlink_to("/etc/hostname")
    world.search.again()
    world.finish()
    assert world.reports.refused[0][0] == "a"
    assert world.inbox.pending == 0
