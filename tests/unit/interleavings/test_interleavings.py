"""A model checker: in whatever order workers, uploads, deletions, deaths and messages meet, all ends right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.unit.interleavings.conftest import CONTENTS, Message, Worker, World, etag_of
from tests.unit.interleavings.states import check_accounted, check_buckets, check_rejected, check_truth, look

KEYS = ("k.csv", "l.csv")


@dataclass
class Run:
    """A run of the world. Two bytes of ``choices`` say what happens next; when they are used up, everybody finishes.

    ``contents``: what may land, as numbers of CONTENTS; ``codes``: what workers run; ``workers``: how many at once.
    The rest is how often something may happen.
    """

    choices: bytes
    contents: list[int]
    keys: int = 1
    codes: tuple[str, ...] = ("old",)
    workers: int = 2
    spare: bool = False
    lands: int = 5
    kills: int = 2
    copies: int = 2
    removes: bool = False
    counts_receives: bool = True

    def play(self, check: Callable[[World], None], tell: Callable[[str], object] = note) -> None:
        world = World(removes=self.removes, counts_receives=self.counts_receives)
        try:
            for first, second in zip(self.choices[::2], self.choices[1::2], strict=False):
                actions = list(self._actions(world, second))
                actions[first % len(actions)]()
            world.drain(self.codes[0])
            check(world)
        finally:
            tell("\n".join(world.trace))
            world.close()

    def _actions(self, world: World, more: int) -> Iterator[Callable[[], object]]:
        """Each as often as it shall be likely: most runs are many steps, with few changes of who goes on."""
        for worker in world.busy:
            yield from [lambda worker=worker: world.step(worker, most=1 + more % 10)] * 3
        if len(world.busy) < self.workers and world.queue:
            yield from [lambda: world.receive(self.codes[more % len(self.codes)], more % len(world.queue))] * 3
        if self.lands:
            yield lambda: self._land(world, more)
        if self.kills and world.busy:
            yield lambda: self._kill(world, world.busy[more % len(world.busy)])
        if self.copies and world.queue:
            yield lambda: self._copy(world, more)
        if not (world.busy or world.queue or self.lands):
            yield lambda: None

    def _land(self, world: World, more: int) -> None:
        """A new version; seldom a deletion, or often where silver goes with it."""
        self.lands -= 1
        key = KEYS[more % self.keys]
        which = more // self.keys
        if which % 16 == 15 or (self.removes and which % 3 == 2):
            world.delete(key)
        else:
            world.land(list(CONTENTS)[self.contents[which % len(self.contents)]], key)

    def _kill(self, world: World, worker: Worker) -> None:
        self.kills -= 1
        world.kill(worker)

    def _copy(self, world: World, more: int) -> None:
        self.copies -= 1
        world.say("a message comes twice")
        world.queue.append(replace(world.queue[more % len(world.queue)], spare=self.spare))


def runs(*, codes: tuple[str, ...] = ("old",), spare: bool = False, removes: bool = False) -> st.SearchStrategy[Run]:
    return st.builds(
        Run,
        choices=st.binary(min_size=40, max_size=160),
        contents=st.lists(st.integers(0, len(CONTENTS) - 1), min_size=1, max_size=3),
        keys=st.sampled_from([1, 1, 1, 2]),
        codes=st.just(codes),
        workers=st.sampled_from([2, 2, 3]),
        spare=st.just(spare),
        kills=st.sampled_from([0, 1, 2]),
        removes=st.just(removes),
        counts_receives=st.booleans(),
    )


EXAMPLES = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@EXAMPLES
@given(runs())
def test_at_least_once_delivery_is_enough(run: Run) -> None:
    """Every message is worked on until it succeeds, in whatever order; nobody looks a second time."""

    def check(world: World) -> None:
        check_buckets(world, KEYS)
        for key in KEYS:
            check_truth(world, key)

    run.play(check)


@EXAMPLES
@given(runs(removes=True))
def test_deleted_bronze_takes_its_silver_with_it(run: Run) -> None:
    """Files are put, deleted and put back, in whatever order their messages are worked on."""

    def check(world: World) -> None:
        check_buckets(world, KEYS)
        for key in KEYS:
            check_truth(world, key)

    run.play(check)


@EXAMPLES
@given(runs(codes=("old", "new"), spare=True, removes=True))
def test_after_any_history_one_more_look_removes_what_is_left_of_deleted_files(run: Run) -> None:
    """Two codes flap, and copies die: then reconciliation looks at every key once more."""
    run.play(lambda world: ask_again(world, "old"))


@EXAMPLES
@given(runs(spare=True))
def test_a_copy_that_dies_leaves_too_much_but_never_too_little(run: Run) -> None:
    """Of each message one copy is worked on until it succeeds; of the others nobody knows. What they may leave behind,
    beside good silver, is an error document or rejected rows of their own version: the next message removes them."""

    def check(world: World) -> None:
        check_buckets(world, KEYS)
        for key in KEYS:
            check_accounted(world, key)
        ask_again(world, "old")

    run.play(check)


@EXAMPLES
@given(runs(codes=("old", "new")), st.sampled_from(["old", "new"]))
def test_during_a_deploy_the_code_that_looks_last_wins(run: Run, current: str) -> None:
    """Two codes flap on the same keys. Silver and its rejected rows agree all the same; and one look of the code that
    stays (``reconcile --changed``, ``replay``) makes all as it should be."""

    def check(world: World) -> None:
        check_buckets(world, KEYS)
        for key in KEYS:
            state = look(world, key)
            is_newest = state.bronze and state.silver and state.silver.bronze_etag == etag_of(state.bronze)
            if is_newest and state.error is None:
                check_rejected(state)
        ask_again(world, current)

    run.play(check)


def ask_again(world: World, code: str) -> None:
    """One more message for each key, as reconciliation or a redrive sends it, with nobody else at work."""
    assert not world.busy
    world.say(f"every key is looked at again, by the {code} code")
    world.queue[:] = [Message(key, reason="reconcile") for key in KEYS]
    world.drain(code)
    for key in KEYS:
        check_truth(world, key, code)
        if key not in world.bronze.objects:
            assert look(world, key).error is None, "an error document is about what is gone"
