"""A model checker: whatever the order in which workers, uploads, deletions, deaths and messages meet, all ends right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.unit.interleavings.conftest import CONTENTS, World
from tests.unit.interleavings.states import check_buckets, check_truth

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
    lossy: bool = False
    lands: int = 4
    kills: int = 2
    copies: int = 2

    def play(self, check: Callable[[World], None]) -> None:
        world = World(lossy=self.lossy)
        try:
            for first, second in zip(self.choices[::2], self.choices[1::2], strict=False):
                actions = list(self._actions(world, second))
                actions[first % len(actions)]()
            world.drain(self.codes[0])
            check(world)
        finally:
            note("\n".join(world.trace))
            world.close()

    def _actions(self, world: World, more: int) -> Iterator[Callable[[], None]]:
        """Each as often as it shall be likely."""
        for worker in world.busy:
            yield from [lambda worker=worker: world.step(worker, most=1 + more % 10)] * 3
        if len(world.busy) < self.workers and world.queue:
            yield from [lambda: world.receive(self.codes[more % len(self.codes)], more % len(world.queue))] * 4
        if self.lands:
            yield from [lambda: self._land(world, more)] * 2
        yield lambda: None
        if self.kills:
            yield from [lambda worker=worker: self._kill(world, worker) for worker in world.busy]
        if self.copies and world.queue:
            yield lambda: self._copy(world, more)
        if self.lossy and world.queue:
            yield lambda: world.say(f"lost a message of {world.queue.pop(more % len(world.queue))}")

    def _land(self, world: World, more: int) -> None:
        """A new version; seldom a deletion."""
        self.lands -= 1
        key = KEYS[more % self.keys]
        which = more // self.keys
        if which % 8 == 7:
            world.delete(key)
        else:
            world.land(list(CONTENTS)[self.contents[which % len(self.contents)]], key)

    def _kill(self, world: World, worker: Worker) -> None:
        self.kills -= 1
        world.kill(worker)

    def _copy(self, world: World, more: int) -> None:
        self.copies -= 1
        world.say("a message comes twice")
        world.queue.append(world.queue[more % len(world.queue)])


RUNS = st.builds(
    Run,
    choices=st.binary(min_size=40, max_size=160),
    contents=st.lists(st.integers(0, len(CONTENTS) - 1), min_size=1, max_size=3),
    keys=st.sampled_from([1, 1, 1, 2]),
    workers=st.sampled_from([2, 2, 3]),
    kills=st.sampled_from([0, 1, 2]),
)
EXAMPLES = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@EXAMPLES
@given(RUNS)
def test_at_least_once_delivery_is_enough(run: Run) -> None:
    """Every message is worked on until it succeeds, in whatever order; nobody looks a second time."""

    def check(world: World) -> None:
        check_buckets(world, KEYS)
        for key in KEYS:
            check_truth(world, key)

    run.play(check)
