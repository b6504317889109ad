"""The bucket room: what it makes of files, and what it remembers of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.events import unwrap
from silversmith.local import stack as stacks
from silversmith.local.iam import Policy
from silversmith.local.journal import Journal
from silversmith.local.services import ServiceMessage
from silversmith.local.services.bucket import DOUBTFUL, BucketService, Landed
from tests.examples import examples

NOON = 1_767_355_200.0
keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300).filter(lambda key: len(key.encode()) <= 1024)


@dataclass
class World:
    journal: Journal
    now: float = NOON
    bucket: BucketService = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.bucket = BucketService(
            self.journal,
            stacks.Bucket("bronze", "arn:aws:s3:::bronze", eventbridge=True, versioned=True, policy=Policy.parse("")),
            bus="arn:bus",
            account="000000000000",
            region="eu-central-1",
            clock=lambda: self.now,
        )

    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(row[5]) for row in self.journal.rows("due", now=self.now, most=1000)]

    def known(self) -> list[str]:
        return [row[0] for row in self.journal.rows("objects_after", bucket="bronze", after="", most=1000)]


def newer(sequencer: str, than: str) -> bool:
    """As S3 compares the sequencers of one key: after padding the shorter with zeros.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    width = max(len(sequencer), len(than))
    return sequencer.ljust(width, "0").upper() > than.ljust(width, "0").upper()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield World(journal)


def landed(key: str, etag: str = "e", *, identity: str = "i", scanned: bool = False) -> Landed:
    return Landed(key, identity, etag, 5, scanned)


def test_the_event_is_the_one_that_s3_sends_by_eventbridge(world: World) -> None:
    world.bucket.notice([landed("a b+ü/c.csv", "0cc175b9c0f1b6a831c399e269772661")])
    (event,) = world.events()
    identifiers = [event.pop("id"), event["detail"].pop("request-id"), event["detail"]["object"].pop("version-id")]
    assert [bool(re.fullmatch(pattern, result)) for pattern, result in zip(
        [r"[0-9a-f-]{36}", r"[0-9A-F]{16}", r"[\w-]{32}"], identifiers, strict=True)] == [True] * 3  # fmt: skip
    assert re.fullmatch(r"[0-9A-F]{18}", event["detail"]["object"].pop("sequencer"))
    assert event == {
        "version": "0",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "000000000000",
        "time": "2026-01-02T12:00:00Z",
        "region": "eu-central-1",
        "resources": ["arn:aws:s3:::bronze"],
        "detail": {
            "version": "0",
            "bucket": {"name": "bronze"},
            "object": {"key": "a b+ü/c.csv", "size": 5, "etag": "0cc175b9c0f1b6a831c399e269772661"},
            "requester": "000000000000",
            "source-ip-address": "127.0.0.1",
            "reason": "PutObject",
        },
    }


def test_events_may_go_on_in_the_same_transaction(world: World) -> None:
    reader = Journal(world.journal.path, readonly=True)
    carried: list[tuple[list[str], float]] = []

    def carry(posts: Sequence[ServiceMessage], now: float) -> list[str]:
        assert reader.rows("objects_after", bucket="bronze", after="", most=9) == [], "the transaction is still open"
        carried.append(([post[3] for post in posts], now))
        return ["bus"]

    world.bucket.notice([landed("a"), landed("b")], carry=carry)
    reader.close()
    assert carried == [(["a", "b"], NOON)]
    assert world.events() == [], "nothing lies in the outbox"
    assert world.known() == ["a", "b"]


def test_an_event_that_the_bus_refuses_was_not_noticed(world: World) -> None:
    def carry(posts: Sequence[ServiceMessage], now: float) -> list[str]:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        world.bucket.notice([landed("a")], carry=carry)
    assert (world.known(), world.journal.rows("hops", key="a")) == ([], [])


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys)
def test_a_key_is_data(world: World, key: str) -> None:
    world.bucket.notice([landed(key)])
    (result,) = unwrap(orjson.dumps(world.events()[-1]))
    assert (result.bucket, result.key) == ("bronze", key)
    world.bucket.forget([key])
    assert [row[6] for row in world.journal.rows("hops", key=key)][-2:] == ["created", "deleted"]


def test_every_write_is_a_new_version(world: World) -> None:
    world.bucket.notice([landed("a", identity="i1")])
    world.bucket.notice([landed("a", identity="i2")])
    first, second = world.events()
    assert first["detail"]["object"]["version-id"] != second["detail"]["object"]["version-id"]
    assert newer(second["detail"]["object"]["sequencer"], first["detail"]["object"]["sequencer"])
    assert world.journal.counter("bucket.created") == 2


@pytest.mark.parametrize(("first", "second"), [("i", "i"), ("i" + DOUBTFUL, "i"), ("i" + DOUBTFUL, "i" + DOUBTFUL)])
def test_one_write_that_is_noticed_twice_is_one_version(world: World, first: str, second: str) -> None:
    """In a new folder a file may be found by a listing, and its notification arrives after."""
    world.bucket.notice([landed("a", identity=first, scanned=True)])
    world.bucket.notice([landed("a", identity=second)])
    assert len(world.events()) == 1
    world.bucket.notice([landed("a", "e2", identity=second)])
    assert len(world.events()) == 2, "a write within the same tick of the clock, of other bytes"


def test_a_file_that_was_only_found_is_no_version_if_its_bytes_are_known(world: World) -> None:
    world.bucket.notice([landed("a", "e1", identity="i1")])
    world.bucket.notice([landed("a", "e1", identity="i2", scanned=True), landed("b", "e", scanned=True)])
    assert [event["detail"]["object"]["key"] for event in world.events()] == ["a", "b"]
    assert world.bucket.unchanged("a", lambda: "i2", trusting=False), "the identity of now is known"
    world.bucket.notice([landed("a", "e2", identity="i3", scanned=True)])
    assert len(world.events()) == 3


def test_a_doubtful_identity_is_believed_only_by_who_trusts(world: World) -> None:
    world.bucket.notice([landed("a", identity="i" + DOUBTFUL)])
    assert not world.bucket.unchanged("a", lambda: "i", trusting=False)
    assert world.bucket.unchanged("a", lambda: "i", trusting=True)
    assert not world.bucket.unchanged("a", lambda: "other", trusting=True)
    assert world.bucket.unchanged("a", lambda: None, trusting=False), "it is gone"
    assert not world.bucket.unchanged("b", pytest.fail, trusting=True), "a new key's file need not be looked at"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), min_size=2, max_size=12))
def test_sequencers_rise_whatever_the_clock_does(world: World, steps: list[tuple[float, bool]]) -> None:
    before = len(world.events())
    for number, (seconds, restarted) in enumerate(steps, before):
        world.now = NOON + seconds
        if restarted:
            world.restart()
        world.bucket.notice([landed("a", identity=str(number))])
    world.now = NOON + 1e7
    rows = world.journal.rows("due", now=world.now, most=1000)
    events = [orjson.loads(row[5]) for row in sorted(rows, key=lambda row: row[8])][before:]
    sequencers = [event["detail"]["object"]["sequencer"] for event in events]
    assert len(sequencers) == len(steps)
    assert all(newer(later, earlier) for earlier, later in pairwise(sequencers))


def test_a_deletion_sends_its_event(world: World) -> None:
    world.bucket.notice([landed("a")])
    world.bucket.forget(["a", "nothing"])
    created, deleted = world.events()
    assert deleted["detail-type"] == "Object Deleted"
    assert deleted["detail"]["deletion-type"] == "Delete Marker Created"
    assert deleted["detail"]["reason"] == "DeleteObject"
    (event,) = unwrap(orjson.dumps(deleted))
    assert (event.bucket, event.key, event.deleted, event.etag, event.size) == ("bronze", "a", True, "", None)
    assert newer(event.sequencer, created["detail"]["object"]["sequencer"])
    assert event.version == created["detail"]["object"]["version-id"], "the trace of the version tells of its end"


def test_nothing_noticed_is_nothing_written(world: World) -> None:
    world.bucket.notice([])
    world.bucket.forget([])
    assert world.journal.rows("counters") == []


def test_a_folder_that_is_gone_takes_what_was_in_it_and_nothing_else(world: World) -> None:
    names = ["a", "a/1", "a/b/2", "a0", "a-", "b/a/3", "ä/4"]
    world.bucket.notice([landed(name) for name in names])
    world.bucket.forget([], folders=["a/"])
    assert world.known() == sorted(["a", "a0", "a-", "b/a/3", "ä/4"], key=str.encode)
    world.bucket.forget(["a", "nothing"])
    assert "a" not in world.known()
    assert world.journal.rows("hops", key="nothing") == []
    (_, version, *_) = world.journal.rows("hops", key="a")[0][1:]
    assert [row[2] for row in world.journal.rows("hops", key="a")] == [version, version]


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)), st.integers(1, 50))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_sweep_forgets_exactly_what_is_no_more(world: World, known: set[int], there: set[int], most: int) -> None:
    world.bucket.forget(world.known())
    world.bucket.notice([landed(f"{number}") for number in known])
    asked = []

    def exists(key: str) -> bool:
        asked.append(key)
        return int(key) in there

    while world.bucket.sweep(exists, most=most):
        assert len(asked) % most == 0
    assert set(world.known()) == {str(number) for number in known & there}
    assert sorted(asked) == sorted(str(number) for number in known), "each was asked for once"
