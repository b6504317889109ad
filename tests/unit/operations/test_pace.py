"""The rate is kept, the brake stops what fails, and runs that go on where others stopped send everything together."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.local.lake import LakeFolder
from silversmith.operations import WrongCall
from silversmith.operations.pace import (
    FIRST_AHEAD,
    LEAST_KNOWN,
    LOOK_EVERY,
    MOST_AHEAD,
    WATCHED,
    WATCHED_FOR,
    Brake,
    Limiter,
    TooManyFailures,
    WatchedTarget,
    batch_of,
    paced,
)
from silversmith.operations.reconcile import reconcile
from silversmith.operations.send import FailureSelection, Place, Range, SentFile, redrive, replay
from silversmith.patterns import KeyPattern
from tests.unit.conftest import Bench as Lake

if TYPE_CHECKING:
    from tests.unit.conftest import Bench


@dataclass
class Clock:
    """Time that passes while somebody sleeps."""

    now: float = 1_000_000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass(frozen=True)
class Files:
    """A batch."""

    files: Sequence[SentFile]
    place: str = ""


def files(number: int, transform: str = "orders") -> list[SentFile]:
    return [SentFile(transform, f"{each}.csv", 1) for each in range(number)]


# -- the limiter


@given(
    rate=st.floats(0.1, 5000),
    most=st.integers(1, 500),
    sizes=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    pauses=st.lists(st.floats(0, 5), min_size=40, max_size=40),
)
def test_in_no_time_more_files_than_the_rate_and_one_batch(
    rate: float, most: int, sizes: list[float], pauses: list[float]
) -> None:
    clock = Clock()
    limiter = Limiter(rate, clock=clock, sleep=clock.sleep)
    size = batch_of(rate, most)
    sent: list[tuple[float, int]] = []
    for share, pause in zip(sizes, pauses, strict=False):
        number = max(1, round(share * size))
        sent.append((clock.now, number))
        limiter.add(number)
        clock.now += pause
        limiter.wait()
    for start in range(len(sent)):
        total = 0
        for at, number in sent[start:]:
            total += number
            assert total <= rate * (at - sent[start][0]) * (1 + 1e-6) + size + 1e-3


def test_the_rate_is_reached() -> None:
    clock = Clock()
    limiter = Limiter(50, clock=clock, sleep=clock.sleep)
    for _ in range(100):
        limiter.add(10)
        limiter.wait()
    assert clock.now - 1_000_000 == pytest.approx(20)


def test_without_a_rate_nobody_waits() -> None:
    clock = Clock()
    limiter = Limiter(None, clock=clock, sleep=clock.sleep)
    limiter.add(10**9)
    limiter.wait()
    assert clock.slept == []


@given(rate=st.one_of(st.none(), st.floats(0.001, 1e9)), most=st.integers(1, 1000))
def test_a_batch_is_no_more_than_a_second(rate: float | None, most: int) -> None:
    size = batch_of(rate, most)
    assert 1 <= size <= most
    assert rate is None or size <= max(1, rate)


# -- the brake


@dataclass
class World:
    """Functions that take some files a second, of which every so many fails."""

    clock: Clock
    fails: Callable[[int], bool]
    speed: float = 1000.0
    begun: float = 1_000_000.0
    sent: int = 0
    looks: int = 0

    def outcome(self, file: SentFile, since: float) -> bool | None:
        del since
        self.looks += 1
        number = int(file.key.removesuffix(".csv"))
        return None if number >= self.done else not self.fails(number)

    @property
    def done(self) -> float:
        return (self.clock.now - self.begun) * self.speed

    def backlog(self) -> int:
        return max(0, round(self.sent - self.done))


def run(world: World, number: int, *, limit: float = 0.1, batch: int = 100, tell: Callable[[str], None] = print) -> int:
    """Send so many files; how many were sent."""
    clock = world.clock
    brake = Brake(limit, world, clock=clock, sleep=clock.sleep, tell=tell)

    def batches() -> Iterator[Files]:
        every = files(number)
        for start in range(0, number, batch):
            world.sent = min(number, start + batch)
            clock.now += 0.05
            yield Files(every[start : start + batch])

    sent = 0
    for each in paced(batches(), Limiter(None, clock=clock, sleep=clock.sleep), brake):
        sent += len(each.files)
    return sent


@settings(max_examples=8)
@given(share=st.floats(0.3, 1), seed=st.integers(0, 2**16), speed=st.floats(50, 5000))
def test_where_many_fail_it_stops_before_most_are_sent(share: float, seed: int, speed: float) -> None:
    clock = Clock()
    world = World(clock, lambda number: (number * 2_654_435_761 + seed) % 1000 < share * 1000, speed)
    with pytest.raises(TooManyFailures, match=r"of the last \d+ files whose outcome is known failed"):
        run(world, 60_000, limit=0.1, tell=lambda _: None)
    assert world.sent <= 2 * MOST_AHEAD + speed * 3 * LOOK_EVERY


@settings(max_examples=30)
@given(speed=st.floats(200, 5000), number=st.integers(1, 20_000))
def test_where_none_fails_all_are_sent(speed: float, number: int) -> None:
    assert run(World(Clock(), lambda _: False, speed), number, limit=0.0, tell=lambda _: None) == number


def test_a_breakage_on_the_way_is_noticed() -> None:
    """Only the last outcomes count."""
    world = World(Clock(), lambda number: number > 30_000)
    with pytest.raises(TooManyFailures):
        run(world, 200_000, tell=lambda _: None)
    assert 30_000 < world.sent < 60_000


def test_it_does_not_run_ahead_of_the_functions() -> None:
    said: list[str] = []
    world = World(Clock(), lambda _: False, speed=10)

    class Watching(World):
        most = 0

        def backlog(self) -> int:
            Watching.most = max(Watching.most, world.sent - int(self.done))
            return super().backlog()

    watching = Watching(world.clock, lambda _: False, speed=10)
    world = watching
    assert run(watching, 8_000, tell=said.append) == 8_000
    assert Watching.most <= FIRST_AHEAD + 2 * FIRST_AHEAD + MOST_AHEAD
    (note,) = said
    assert "wait for the functions: the next files are sent when fewer than 1,000 do" in note


def test_a_few_failures_do_not_count_before_enough_is_known() -> None:
    clock = Clock()
    brake = Brake(0.0, World(clock, lambda _: True, speed=1e9), clock=clock, sleep=clock.sleep)
    brake.add(files(LEAST_KNOWN - 1))
    clock.now += LOOK_EVERY
    brake.check()
    brake.add(files(1))
    clock.now += LOOK_EVERY
    with pytest.raises(TooManyFailures):
        brake.check()


def test_few_files_are_watched_and_not_for_ever() -> None:
    clock = Clock()
    world = World(clock, lambda _: False, speed=0)
    brake = Brake(0.1, world, clock=clock, sleep=clock.sleep)
    brake.add(files(500))
    clock.now += LOOK_EVERY
    brake.check()
    brake.check()
    assert world.looks == WATCHED, "and not before it is time again"
    clock.now += WATCHED_FOR
    brake.check()
    brake.add(files(5))
    clock.now += LOOK_EVERY
    brake.check()
    assert world.looks == 2 * WATCHED + 5


def test_a_rules_message_is_not_watched() -> None:
    clock = Clock()
    world = World(clock, lambda _: True, speed=1e9)
    brake = Brake(0.0, world, clock=clock, sleep=clock.sleep)
    brake.add(files(50, transform=""))
    clock.now += LOOK_EVERY
    brake.check()
    assert world.looks == 0


# -- the outcome of a file


def shop(*, column: str = "x", bug: bool = False) -> Pipeline:
    from silversmith import Contract

    pipeline = Pipeline("shop")

    @pipeline.transform("in/*.csv", contract=Contract({column: pl.Int64}), max_receive_count=1)
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        if bug:
            raise RuntimeError("a bug")
        return rows

    @pipeline.transform("*")
    def copies(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


@pytest.mark.parametrize(("options", "outcome"), [({}, True), ({"column": "y"}, False), ({"bug": True}, False)])
def test_an_outcome_is_what_silver_and_quarantine_have_since(
    make: Callable[[Pipeline], Bench], options: dict[str, Any], outcome: bool
) -> None:
    bench = make(shop(**options))
    file = SentFile("orders", "in/a.csv", 1)
    bench.land("in/a.csv")
    with bench.opened(writable=False) as target:
        watched = WatchedTarget(target)
        assert watched.outcome(file, 0.0) is None
        bench.services.delivery.deliver(bench.now)
        assert watched.backlog() == 2
        bench.work()
        assert watched.outcome(file, 0.0) is outcome
        assert watched.outcome(file, 4e9) is None, "it was long before"
        assert watched.backlog() == 0


# -- the place

KEYS = ["in/a.csv", "in/a", "in/a-1.csv", "in/a.csv-1", "in/b/c.csv", "in/é.csv", "in/z.csv", "out", "in/A.csv"]


@contextmanager
def lake(keys: Sequence[str], **options: Any) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Lake(LakeFolder(Path(folder)), shop(**options))
        try:
            bench.land(*keys)
            yield bench
        finally:
            bench.journal.close()


def cut(batches: Iterator[Any], at: int) -> tuple[list[SentFile], str, bool]:
    """What is sent when it is cut short after so many batches, the last place, and whether it came to its end."""
    sent: list[SentFile] = []
    place = ""
    for number, batch in enumerate(batches):
        if number == at:
            return sent, place, False
        sent += batch.files
        place = batch.place or place
    return sent, place, True


def whole(begin: Callable[[Place | None], Iterator[Any]], cuts: Sequence[int]) -> list[SentFile]:
    """All that is sent by runs that are cut short, each going on where the last one stopped."""
    sent: list[SentFile] = []
    place = ""
    for at in (*cuts, 10**6):
        more, reached, ended = cut(begin(Place.parse(place)), at)
        sent += more
        place = reached or place
        if ended:
            return sent
    raise AssertionError("it never ends")


CUTS = st.lists(st.integers(0, 3), max_size=4)


@settings(max_examples=12)
@given(keys=st.sets(st.sampled_from(KEYS), min_size=1), cuts=CUTS, batch=st.integers(1, 3))
def test_replays_that_are_cut_short_send_each_file_once_together(keys: set[str], cuts: list[int], batch: int) -> None:
    with lake(sorted(keys)) as bench, bench.opened() as target:

        def begin(after: Place | None) -> Iterator[Any]:
            return replay(bench.pipeline, target, Range(KeyPattern.parse("*")), batch=batch, after=after)

        sent = [(file.transform, file.key) for file in whole(begin, cuts)]
    expected = [(each.name, key) for each in bench.pipeline.transforms for key in keys if each.pattern.matches(key)]
    assert Counter(sent) == Counter(expected)


@settings(max_examples=12)
@given(keys=st.sets(st.sampled_from(KEYS), min_size=1), cuts=CUTS, batch=st.integers(1, 3), at_once=st.integers(1, 3))
def test_reconciliations_that_are_cut_short_send_all_together(
    keys: set[str], cuts: list[int], batch: int, at_once: int
) -> None:
    with lake(sorted(keys)) as bench, bench.opened() as target:
        bench.lose()

        def begin(after: Place | None) -> Iterator[Any]:
            return reconcile(bench.pipeline, target, batch=batch, sent_at_once=at_once, after=after, dry_run=True)

        sent = {(file.transform, file.key) for file in whole(begin, cuts)}
    assert sent == {(each.name, key) for each in bench.pipeline.transforms for key in keys if each.pattern.matches(key)}


@settings(max_examples=8)
@given(keys=st.sets(st.sampled_from(KEYS), min_size=1), cuts=CUTS, batch=st.integers(1, 3))
def test_redrives_that_are_cut_short_send_each_failure_once_together(
    keys: set[str], cuts: list[int], batch: int
) -> None:
    with lake(sorted(keys), column="y") as bench:
        bench.work()
        ending = ".error.json"
        names = [head.key for head in bench.lake.quarantine.list() if head.key.endswith(ending)]
        failed = [tuple(name.removesuffix(ending).split("/", 1)) for name in names]
        with bench.opened() as target:

            def begin(after: Place | None) -> Iterator[Any]:
                return redrive(bench.pipeline, target, FailureSelection(), batch=batch, after=after)

            sent = Counter((file.transform, file.key) for file in whole(begin, cuts))
    assert sent == Counter(failed)


def test_the_places_of_a_replay_rise() -> None:
    with lake(KEYS) as bench, bench.opened() as target:
        batches = list(replay(bench.pipeline, target, Range(KeyPattern.parse("*")), batch=2))
    places = [Place.parse(batch.place) for batch in batches]
    order = [each.name for each in bench.pipeline.transforms]
    positions = [(order.index(place.transform), place.key.encode()) for place in places if place is not None]
    assert all(before < after for before, after in pairwise(positions))


@pytest.mark.parametrize("text", ["orders", "orders/", "/a.csv", "other/a.csv"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with lake(["in/a.csv"]) as bench, bench.opened() as target, pytest.raises(WrongCall, match="--after"):
        list(replay(bench.pipeline, target, Range(KeyPattern.parse("*")), after=Place.parse(text)))
