"""The whole engine under chaos: whatever happens in whatever order, invariants 2 and 3 hold at every step.

``SILVERSMITH_WHOLE_EXAMPLES`` is how many histories are tried.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from silversmith.lineage import silver_key
from tests.disturbance import Rates, disturbed
from tests.examples import examples
from tests.unit.local.whole import CODE_OF, CODES, CONTENTS, KEYS, Death, World, etag, expected

EXAMPLES = int(os.environ.get("SILVERSMITH_WHOLE_EXAMPLES", "0")) or examples(15)

keys = st.sampled_from(KEYS)
contents = st.sampled_from(CONTENTS)
picks = st.integers(0, 1)
requests = st.integers(0, 11)


class Whole(RuleBasedStateMachine):
    """Everything that can happen to an engine."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.landed: dict[str, set[bytes]] = {key: set() for key in KEYS}

    @initialize(seed=st.integers(0, 2**16), loss=st.sampled_from([0, 0, 0.3]), rate=st.sampled_from([0, 0.3]))
    def begin(self, seed: int, loss: float, rate: float) -> None:
        delivery = disturbed(seed, Rates(loss=loss, duplicates=rate, delays=rate, longest_delay=100))
        self.world = World(Path(self.temporary.name), delivery)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.end()
            self.world.journal.close()
        self.temporary.cleanup()

    # What happens

    @rule(key=keys, content=contents)
    def land(self, key: str, content: bytes) -> None:
        self.landed[key].add(content)
        self.world.land(key, content)

    @rule(key=keys)
    def remove(self, key: str) -> None:
        self.world.remove(key)

    @rule(seconds=st.sampled_from([0.5, 5, 40, 2000, 6 * 86_400]))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds
        while self.world.compaction.step(self.world.now):
            self.world.now += 1

    @rule()
    def deliver(self) -> None:
        self.world.services.delivery.deliver(self.world.now)

    @rule(pick=picks)
    def work(self, pick: int) -> None:
        self.deliver()
        if flight := self.world.poll(self.world.services.functions[pick]):
            self.world.work(flight)

    @rule(key=keys, content=contents, pick=picks, at=requests)
    def die_at_work(self, key: str, content: bytes, pick: int, at: int) -> None:
        self.land(key, content)
        with self.world.interrupted(at, self._die):
            self.work(pick)

    @staticmethod
    def _die() -> None:
        raise Death

    @rule(key=keys, before=contents, after=contents, pick=picks, at=requests)
    def overwrite_what_is_worked_on(self, key: str, before: bytes, after: bytes, pick: int, at: int) -> None:
        self.land(key, before)
        with self.world.interrupted(at, lambda: self.land(self.world.working, after)):
            self.work(pick)

    @rule(key=keys, content=contents, pick=picks, at=requests)
    def remove_what_is_worked_on(self, key: str, content: bytes, pick: int, at: int) -> None:
        self.land(key, content)
        with self.world.interrupted(at, lambda: self.remove(self.world.working)):
            self.work(pick)

    @rule(key=keys, before=contents, after=contents, pick=picks, at=requests)
    def be_overtaken_by_another_worker(self, key: str, before: bytes, after: bytes, pick: int, at: int) -> None:
        def overtake() -> None:
            self.land(self.world.working, after)
            self.work(pick)

        self.land(key, before)
        with self.world.interrupted(at, overtake):
            self.work(pick)

    @rule(pick=picks)
    def begin_and_take_long(self, pick: int) -> None:
        self.deliver()
        if flight := self.world.poll(self.world.services.functions[pick]):
            self.world.flights.append(flight)

    @precondition(lambda self: self.world.flights)
    @rule(pick=st.integers(0, 9))
    def end_what_took_long(self, pick: int) -> None:
        self.world.work(self.world.flights.pop(pick % len(self.world.flights)))

    @precondition(lambda self: self.world.flights)
    @rule(pick=st.integers(0, 9))
    def abandon_what_took_long(self, pick: int) -> None:
        function, invocation = self.world.flights.pop(pick % len(self.world.flights))
        function.abandon(invocation, self.world.now)

    @rule()
    def kill_the_engine_and_start_it_again(self) -> None:
        self.world.die()
        self.world.start()

    @rule(seed=st.integers(0, 2**16))
    def cut_the_power(self, seed: int) -> None:
        self.world.cut(seed)
        for key in KEYS:  # what a power cut left of a file that was just being dropped is what the file is now
            if (content := self.world.content(key)) is not None:
                self.landed[key].add(content)

    @rule(code=st.integers(0, CODES - 1))
    def change_the_code(self, code: int) -> None:
        self.world.die()
        self.world.code = code
        self.world.start()

    @rule()
    def redrive(self) -> None:
        self.world.redrive()

    @rule()
    def reconcile(self) -> None:
        self.world.reconcile()

    # What must be true after each of it

    @invariant()
    def one_silver_object_for_each_key_whole_and_of_a_version_that_there_was(self) -> None:
        """Invariant 2, as far as it is true at every moment."""
        for transform in self.world.pipeline.transforms:
            for key in KEYS:
                self._silver_is_whole(transform.name, key)
            names = {head.key for head in self.world.lake.silver.list(f"{transform.name}/")}
            assert names <= {silver_key(transform.name, key) for key in KEYS}

    def _silver_is_whole(self, transform: str, key: str) -> None:
        lineage = self.world.lineage(transform, key)
        if lineage is None:
            return
        (content,) = [content for content in self.landed[key] if etag(content) == lineage.bronze_etag]
        result = expected(transform, content)
        assert result is not None, f"silver was made of bytes that are no JSON: {content!r}"
        rows = self.world.silver(transform, key)
        code = CODE_OF[lineage.fingerprint]
        assert rows.rows() == [(value, code) for value in result[0]]
        assert lineage.rows_rejected == len(result[1])

    @invariant()
    def every_bronze_object_is_accounted_for(self) -> None:
        """Invariant 3. What chaos loses, or a queue keeps no longer, the trace says."""
        for transform, key, content in self.world.matching_objects():
            name = transform.name
            lineage, error = self.world.lineage(name, key), self.world.error(name, key)
            assert (
                (lineage is not None and lineage.bronze_etag == etag(content))
                or (error is not None and error["bronze"]["etag"] == etag(content))
                or self.world.on_its_way(name, key)
                or self.world.dead(name, key)
                or self.world.given_up(name, key) == etag(content)
                or self.world.fate(key) & {"lost", "expired"}
            ), f"{key} is nowhere for {name}: {self.world.fate(key)}"

    # What must be true when all has come to rest

    def end(self) -> None:
        self.world.settle()
        self.world.reconcile()
        self.world.settle()
        for transform, key, content in self.world.matching_objects():
            lineage, error = self.world.lineage(transform.name, key), self.world.error(transform.name, key)
            assert (
                (lineage is not None and lineage.bronze_etag == etag(content))
                or (error is not None and error["bronze"]["etag"] == etag(content))
                or self.world.dead(transform.name, key)
            ), f"{key} is nowhere for {transform.name}, though all was reconciled"
        self.world.resend()
        self.world.settle()
        for transform, key, content in self.world.matching_objects():
            self._came_out_right(transform.name, transform.fingerprint, key, content)

    def _came_out_right(self, transform: str, fingerprint: str, key: str, content: bytes) -> None:
        lineage, error = self.world.lineage(transform, key), self.world.error(transform, key)
        rejected = self.world.rejected(transform, key)
        origin = (etag(content), fingerprint)
        result = expected(transform, content)
        if result is None:
            assert error is not None
            assert (error["bronze"]["etag"], error["fingerprint"]) == origin
        elif transform == "orders" and 666 in result[0] and self.world.code == 0:
            assert self.world.dead(transform, key)
        else:
            assert lineage is not None
            assert (lineage.bronze_etag, lineage.fingerprint) == origin
            assert error is None
            assert (rejected is not None) == bool(result[1])
            if rejected is not None:
                assert (rejected[0].bronze_etag, rejected[0].fingerprint) == origin
                assert rejected[1].height == len(result[1])


TestWhole = Whole.TestCase
TestWhole.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
