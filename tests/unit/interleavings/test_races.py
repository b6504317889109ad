"""Races that were found, or thought of, one by one: each is a moment at which something else happens."""

from __future__ import annotations

import pytest

from silversmith.function.outcome import Verdict
from silversmith.function.process import TRIES
from silversmith.function.task import OVERWRITES_EXPECTED, NewKeys
from tests.unit.interleavings.conftest import (
    BETTER,
    BROKEN,
    GOOD,
    KEY,
    ONLY_NEW,
    PICKY,
    REJECTS,
    WORSE,
    Message,
    Worker,
    World,
    etag_of,
)
from tests.unit.interleavings.states import check_accounted, check_rejected, check_truth, look

#: More requests than any file needs that is alone.
MOST_REQUESTS = 20


def received(world: World, content: bytes | None = None, code: str = "old") -> Worker:
    """A worker that has the message of this new version in hand, or a copy of the last."""
    if content is None:
        world.queue.append(Message(KEY))
    else:
        world.land(content)
    return world.receive(code, len(world.queue) - 1)


def done(world: World, content: bytes | None = None, code: str = "old") -> Verdict | None:
    worker = received(world, content, code)
    world.finish(worker)
    return worker.outcome.verdict if worker.outcome else None


def requests(world: World, content: bytes | None = None) -> list[str]:
    begin = len(world.trace)
    done(world, content)
    lines = [line.partition(": ")[2] for line in world.trace[begin:]]
    return [line for line in lines if line and line.split()[0] in {"head", "get", "put", "delete"}]


def test_the_requests_of_each_kind_of_file(world: World) -> None:
    assert requests(world, GOOD) == ["get bronze", "put silver", "head error"], "a new file"
    world.silver.objects.clear()
    assert requests(world, REJECTS) == [
        "get bronze", "head silver", "head rejected", "put rejected", "put silver", "head rejected", "head error",
    ]  # fmt: skip
    world.silver.objects.clear()
    assert requests(world, BROKEN) == ["get bronze", "head silver", "head error", "put error", "head bronze"]


def test_the_requests_of_files_of_a_known_key(world: World) -> None:
    """The first is read in vain; then silver is headed before."""
    world.new_keys = NewKeys()
    done(world, GOOD)
    assert requests(world, REJECTS) == [
        "get bronze", "head silver",
        "head silver", "head bronze", "get bronze", "head rejected", "put rejected", "put silver", "head bronze",
        "head rejected", "head error",
    ]  # fmt: skip
    assert requests(world) == ["head silver", "head bronze", "head rejected", "head error"]
    assert requests(world, GOOD) == [
        "head silver", "head bronze", "get bronze", "put silver", "head bronze",
        "head error", "head rejected", "head bronze", "delete rejected", "head silver",
    ]  # fmt: skip
    assert requests(world) == ["head silver", "head bronze", "head error", "head rejected"]
    assert requests(world, BROKEN) == [
        "head silver", "head bronze", "get bronze", "head error", "put error", "head bronze",
    ]  # fmt: skip


def test_silver_is_headed_for_a_while_after_a_key_was_known_and_then_no_more(world: World) -> None:
    world.new_keys = NewKeys()
    done(world, GOOD)
    done(world)
    first = [requests(world, content)[0] for content in [GOOD, BETTER] * (OVERWRITES_EXPECTED // 2)]
    assert first == ["head silver"] * (OVERWRITES_EXPECTED - 1) + ["get bronze"]


@pytest.mark.parametrize("before", [None, GOOD, REJECTS], ids=["nothing", "good", "rejects"])
@pytest.mark.parametrize("first", [GOOD, REJECTS, BROKEN], ids=["good", "rejects", "broken"])
@pytest.mark.parametrize("second", [GOOD, WORSE, BROKEN], ids=["good", "worse", "broken"])
def test_a_newer_version_is_done_between_any_two_requests(before: bytes | None, first: bytes, second: bytes) -> None:
    for requests in range(MOST_REQUESTS):
        world = World()
        if before:
            done(world, before)
        slow = received(world, first)
        world.step(slow, requests)
        assert done(world, second) is not None
        if not slow.finished:
            world.finish(slow)
        check_truth(world)


@pytest.mark.parametrize("content", [GOOD, REJECTS, BROKEN], ids=["good", "rejects", "broken"])
def test_a_worker_dies_between_any_two_requests(content: bytes) -> None:
    for requests in range(1, MOST_REQUESTS):
        world = World()
        done(world, WORSE)
        worker = received(world, content)
        world.step(worker, requests)
        if worker.finished:
            break
        world.kill(worker)
        world.drain()
        check_truth(world)
    else:
        raise AssertionError("it never came to its end")


@pytest.mark.parametrize("content", [GOOD, REJECTS, BROKEN], ids=["good", "rejects", "broken"])
def test_the_file_is_deleted_between_any_two_requests(content: bytes) -> None:
    for requests in range(1, MOST_REQUESTS):
        world = World()
        worker = received(world, content)
        world.step(worker, requests)
        world.delete()
        if not worker.finished:
            world.finish(worker)
        assert worker.outcome is not None
        done(world)
        assert look(world).error is None


@pytest.mark.parametrize("before", [None, GOOD, REJECTS, BROKEN], ids=["nothing", "good", "rejects", "broken"])
@pytest.mark.parametrize("content", [GOOD, REJECTS, BROKEN], ids=["good", "rejects", "broken"])
def test_the_file_is_deleted_and_its_silver_removed_between_any_two_requests(
    before: bytes | None, content: bytes
) -> None:
    for requests in range(MOST_REQUESTS):
        world = World(removes=True)
        if before:
            done(world, before)
        slow = received(world, content)
        world.step(slow, requests)
        world.delete()
        removing = world.receive(position=len(world.queue) - 1)
        world.finish(removing)
        assert removing.outcome is not None
        assert removing.outcome.verdict in {Verdict.REMOVED, Verdict.GONE}
        world.drain()
        check_truth(world)


@pytest.mark.parametrize("again", [GOOD, REJECTS, BROKEN], ids=["good", "rejects", "broken"])
@pytest.mark.parametrize("content", [GOOD, REJECTS, BROKEN], ids=["good", "rejects", "broken"])
def test_the_file_is_put_back_between_any_two_requests_of_its_removal(content: bytes, again: bytes) -> None:
    """Also as it was: the worker of that finds silver of these very bytes, and nothing to do."""
    for requests in range(MOST_REQUESTS):
        world = World(removes=True)
        done(world, content)
        world.delete()
        slow = world.receive()
        world.step(slow, requests)
        assert done(world, again) is not None
        world.drain()
        check_truth(world)


@pytest.mark.parametrize("content", [GOOD, REJECTS, BROKEN], ids=["good", "rejects", "broken"])
def test_a_worker_dies_between_any_two_requests_of_a_removal(content: bytes) -> None:
    for requests in range(1, MOST_REQUESTS):
        world = World(removes=True)
        done(world, content)
        world.delete()
        worker = world.receive()
        world.step(worker, requests)
        if worker.finished:
            break
        world.kill(worker)
        world.drain()
        check_truth(world)
    else:
        raise AssertionError("it never came to its end")


@pytest.mark.parametrize("content", [GOOD, REJECTS], ids=["good", "rejects"])
def test_a_commit_of_what_is_deleted_by_now_is_taken_back(world: World, content: bytes) -> None:
    """The deletion's own message finds nothing: silver is put a moment later."""
    world.removes = True
    slow = received(world, content)
    world.until(slow, "put silver")
    world.delete()
    world.finish(world.receive())
    world.finish(slow)
    assert slow.outcome is not None
    assert slow.outcome.verdict is Verdict.REMOVED
    check_truth(world)


def test_a_removal_spares_the_silver_of_what_landed_since(world: World) -> None:
    world.removes = True
    done(world, GOOD)
    world.delete()
    slow = world.receive()
    world.until(slow, "delete silver")
    done(world, BETTER)
    world.step(slow)
    check_truth(world)
    world.finish(slow)
    check_truth(world)


def test_a_removal_costs(world: World) -> None:
    world.removes = True
    assert requests(world, GOOD)[:3] == ["get bronze", "put silver", "head bronze"]
    world.delete()
    world.queue.clear()
    assert requests(world) == [
        "get bronze", "head silver", "head bronze", "get bronze", "head error", "head quarantine", "head rejected",
        "delete silver", "head bronze",
    ]  # fmt: skip
    assert requests(world) == [
        "get bronze", "head silver", "get bronze", "head error", "head quarantine", "head rejected", "head bronze",
    ]  # fmt: skip


def test_a_commit_spares_the_error_of_a_newer_version(world: World) -> None:
    slow = received(world, GOOD)
    world.until(slow, "head error")
    assert done(world, BROKEN) is Verdict.QUARANTINED
    world.finish(slow)
    check_truth(world)
    silver = look(world).silver
    assert silver is not None
    assert silver.bronze_etag == etag_of(GOOD), "the last good silver stays"


def test_a_duplicate_spares_the_rejected_rows_of_a_newer_version(world: World) -> None:
    done(world, GOOD)
    slow = received(world)
    world.until(slow, "head rejected")
    done(world, REJECTS)
    world.finish(slow)
    check_truth(world)


def test_bronze_is_put_back_to_what_silver_was_made_of(world: World) -> None:
    """A slow worker has the version in between; the one for the version that is back finds nothing to do."""
    done(world, GOOD)
    slow = received(world, BETTER)
    world.until(slow, "put silver")
    assert done(world, GOOD) is Verdict.DUPLICATE
    world.finish(slow)
    check_truth(world)


def test_a_slow_worker_puts_no_error_over_that_of_a_newer_version(world: World) -> None:
    world.land(BROKEN)
    world.queue[0] = Message(KEY, spare=True)
    slow = world.receive()
    world.until(slow, "head error")
    done(world, ONLY_NEW)
    world.step(slow, 2)
    world.kill(slow)
    check_accounted(world)


def test_a_slow_worker_puts_no_rejected_rows_over_those_of_a_newer_version(world: World) -> None:
    world.land(REJECTS)
    world.queue[0] = Message(KEY, spare=True)
    slow = world.receive()
    world.until(slow, "head rejected")
    done(world, WORSE)
    world.step(slow, 2)
    world.kill(slow)
    check_truth(world)


@pytest.mark.parametrize(
    ("slow_one", "fast_one", "at"),
    [(BROKEN, ONLY_NEW, "put error"), (REJECTS, WORSE, "put rejected")],
    ids=["error", "rejected rows"],
)
def test_a_slow_worker_had_seen_nothing_in_quarantine(world: World, slow_one: bytes, fast_one: bytes, at: str) -> None:
    world.land(slow_one)
    world.queue[0] = Message(KEY, spare=True)
    slow = world.receive()
    world.until(slow, at)
    done(world, fast_one)
    world.step(slow)
    world.kill(slow)
    check_truth(world)


def test_a_commit_has_seen_an_old_error_which_meanwhile_is_a_new_one(world: World) -> None:
    done(world, BROKEN)
    slow = received(world, GOOD)
    world.until(slow, "delete error")
    done(world, ONLY_NEW)
    world.finish(slow)
    check_truth(world)


def test_another_worker_removes_the_error_first(world: World) -> None:
    done(world, BROKEN)
    slow = received(world, GOOD)
    world.until(slow, "delete error")
    assert done(world) is Verdict.DUPLICATE
    world.finish(slow)
    assert slow.outcome is not None
    assert slow.outcome.verdict is Verdict.COMMITTED
    check_truth(world)


def test_an_error_that_came_too_late_is_taken_back(world: World) -> None:
    slow = received(world, BROKEN)
    world.until(slow, "put error")
    done(world, GOOD)
    world.finish(slow)
    check_truth(world)


def test_a_worker_that_misses_bronze_spares_the_error_of_a_newer_file(world: World) -> None:
    done(world, BROKEN)
    world.delete()
    slow = received(world)
    world.until(slow, "head error")
    done(world, ONLY_NEW)
    world.finish(slow)
    check_truth(world)


def test_two_codes_one_removes_the_rejected_rows_that_the_other_is_about_to_commit(world: World) -> None:
    """The old code takes all of these rows, the new one rejects some."""
    done(world, REJECTS, "old")
    old = received(world, PICKY, "old")
    world.until(old, "head rejected")
    new = received(world, code="new")
    world.until(new, "put silver")
    world.until(old, "head silver")
    world.finish(old)
    world.finish(new)
    check_rejected(look(world))
    check_truth(world, code="new")


def test_two_codes_one_removes_the_rejected_rows_that_the_other_has_just_committed(world: World) -> None:
    done(world, REJECTS, "old")
    old = received(world, PICKY, "old")
    world.until(old, "head rejected")
    new = received(world, code="new")
    world.until(new, "put silver")
    world.until(old, "delete rejected")
    world.finish(new)
    world.finish(old)
    check_rejected(look(world))
    check_truth(world, code="old")


def test_two_codes_one_dies_with_its_rejected_rows_put_over_those_of_the_other(world: World) -> None:
    done(world, REJECTS, "old")
    new = received(world, code="new")
    world.until(new, "put silver")
    world.kill(new)
    assert done(world, code="old") is Verdict.COMMITTED
    check_rejected(look(world))


def test_a_late_message_of_the_old_code_is_healed_by_the_new(world: World) -> None:
    late = received(world, GOOD, "old")
    world.until(late, "get bronze")
    done(world, code="new")
    world.finish(late)
    check_truth(world, code="old")
    assert done(world, code="new") is Verdict.COMMITTED
    check_truth(world, code="new")


def test_always_too_late(world: World) -> None:
    slow = received(world, GOOD)
    for number in range(TRIES):
        world.until(slow, "put silver")
        assert done(world) is Verdict.COMMITTED
        world.step(slow)
        if number < TRIES - 1:
            world.until(slow, "head bronze")
            world.land([BETTER, GOOD][number % 2])
    assert slow.finished
    assert slow.outcome is None, "it is contended, and the queue brings it back"
    assert Message(KEY) in world.queue
    world.drain()
    check_truth(world)
