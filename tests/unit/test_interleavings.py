"""A model checker: whatever the order in which workers, uploads, deletions, deaths and messages meet, all ends right.

Every request of a worker to a bucket is a point at which hypothesis may let another one go on, kill the worker, put a
new version into bronze, or have a message come twice, late or never. Workers are threads that pass a baton: exactly one
runs at a time, so a run is made of its list of choices and of nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from silversmith import Contract, Pipeline
from silversmith.errors import DataError, PreconditionFailed
from silversmith.events import ObjectEvent
from silversmith.lineage import Lineage, error_key, rejected_key, silver_key
from silversmith.pipeline import Transform
from silversmith.process import Contended, Outcome, process
from silversmith.stores import Head, Lake, Source

CONTRACT = Contract(schema={"x": pl.Int64}, rules={"x is small": pl.col("x") < 100})


def _transforms() -> dict[str, Transform]:
    """The same transform before and after a deploy."""
    old, new = Pipeline("shop"), Pipeline("shop")

    @old.transform("*", contract=CONTRACT, name="t")
    def before(rows: pl.LazyFrame) -> pl.LazyFrame:
        if rows.collect()["x"].first() == 8:
            raise DataError("Eight", "the old code does not take an 8")
        return rows.with_columns(y=pl.col("x") * 2)

    @new.transform("*", contract=Contract(schema={"x": pl.Int64}, rules={"x is smaller": pl.col("x") < 50}), name="t")
    def after(rows: pl.LazyFrame) -> pl.LazyFrame:
        if rows.collect()["x"].first() == 9:
            raise DataError("Nine", "the new code does not take a 9")
        return rows.with_columns(y=pl.col("x") * 3)

    return {"old": old.find("t"), "new": new.find("t")}


TRANSFORMS = _transforms()
CODES = {transform.fingerprint: code for code, transform in TRANSFORMS.items()}

#: What lands in bronze, and what each code makes of it: the silver rows and the rejected values; None: it is broken.
CONTENTS: dict[bytes, dict[str, tuple[list[tuple[int, int]], list[str]] | None]] = {
    b"x\n1\n": {"old": ([(1, 2)], []), "new": ([(1, 3)], [])},
    b"x\n2\n500\n": {"old": ([(2, 4)], ["500"]), "new": ([(2, 6)], ["500"])},
    b"y\n1\n": {"old": None, "new": None},
    b"x\n3\n": {"old": ([(3, 6)], []), "new": ([(3, 9)], [])},
    b"x\n4\n70\n": {"old": ([(4, 8), (70, 140)], []), "new": ([(4, 12)], ["70"])},
    b"x\n8\n": {"old": None, "new": ([(8, 24)], [])},
    b"x\n9\n600\n": {"old": ([(9, 18)], ["600"]), "new": None},
}


def etag_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


ETAGS = {etag_of(content): content for content in CONTENTS}


class MemoryStore:
    """A :class:`~silversmith.stores.Store` in memory, as strict as S3. ``turn`` is called before every request."""

    def __init__(self, name: str, turn: Callable[[str], None]) -> None:
        self.objects: dict[str, tuple[bytes, Mapping[str, str]]] = {}
        self._name = name
        self._turn = turn

    def head(self, key: str) -> Head | None:
        self._turn(f"head {self._name}/{key}")
        return self._head(key)

    def _head(self, key: str) -> Head | None:
        if key not in self.objects:
            return None
        data, metadata = self.objects[key]
        return Head(key, etag_of(data), len(data), datetime(2026, 1, 1, tzinfo=UTC), metadata=metadata)

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        self._turn(f"get {self._name}/{key}")
        head = self._head(key)
        yield None if head is None else Source(head, self.objects[key][0], None)

    def verify(self, source: Source) -> None:
        """Bytes in memory never change."""

    def read(self, key: str) -> bytes | None:
        self._turn(f"get {self._name}/{key}")
        return self.objects[key][0] if key in self.objects else None

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        self._turn(f"put {self._name}/{key}")
        assert isinstance(body, bytes)
        self._require(key, if_match, if_none_match)
        self.objects[key] = body, dict(metadata or {})
        return etag_of(body)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._turn(f"delete {self._name}/{key}")
        self._require(key, if_match, False)
        self.objects.pop(key, None)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        raise AssertionError("processing one object never lists a bucket")

    def _require(self, key: str, if_match: str | None, if_none_match: bool) -> None:
        head = self._head(key)
        if (if_none_match and head is not None) or (if_match is not None and (head is None or head.etag != if_match)):
            raise PreconditionFailed(key)


class Killed(BaseException):
    """What ends a worker's thread: nothing in it may catch this, and no request of it has any effect any more."""


class Worker(threading.Thread):
    """One message in the hands of one process. It runs only between :meth:`step` and its next request to a bucket."""

    def __init__(self, number: int, key: str, code: str, work: Callable[[Worker], Outcome]) -> None:
        super().__init__(daemon=True)
        self.number, self.key, self.code = number, key, code
        self.at = "start"
        self.finished = self.killed = False
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self._work = work
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self.start()
        self._paused.acquire()

    def run(self) -> None:
        try:
            self.pause("start")
            self.outcome = self._work(self)
            self.pause("acknowledge")
        except (Killed, Contended):
            self.outcome = None
        except BaseException as error:  # noqa: BLE001 -- shown by the test's own thread
            self.error = error
        self.finished = True
        self._paused.release()

    def pause(self, at: str) -> None:
        """Called in the worker's own thread: wait until it is its turn."""
        self.at = at
        self._paused.release()
        self._go.acquire()
        if self.killed:
            raise Killed

    def step(self) -> None:
        self._go.release()
        self._paused.acquire()
        if self.error is not None:
            raise self.error

    def kill(self) -> None:
        self.killed = True
        self.step()


@dataclass
class World:
    """Three buckets, a queue and workers. ``choices`` says what happens next until there are no more of them.

    ``current``: the code that is deployed last; ``codes``: those that run. ``lossy``: messages get lost, also with the
    worker that has them; else every version that landed has a message that is worked on until it succeeds.
    """

    choices: bytes
    keys: tuple[str, ...] = ("k.csv",)
    codes: tuple[str, ...] = ("old",)
    current: str = "old"
    lossy: bool = False
    workers: int = 2
    lands: int = 4
    kills: int = 2
    copies: int = 2
    queue: list[str] = field(default_factory=list)
    busy: list[Worker] = field(default_factory=list)
    began: int = 0
    clock: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lake = Lake(*(MemoryStore(name, self._turn) for name in ("bronze", "silver", "quarantine")))

    def _turn(self, request: str) -> None:
        worker = threading.current_thread()
        if isinstance(worker, Worker):
            worker.pause(request)

    def _now(self) -> datetime:
        self.clock += timedelta(milliseconds=1)
        return self.clock

    def objects(self, bucket: str) -> dict[str, tuple[bytes, Mapping[str, str]]]:
        store = getattr(self.lake, bucket)
        assert isinstance(store, MemoryStore)
        return store.objects

    def play(self) -> None:
        """Follow the choices; then let everybody finish, and work on what is left in the queue."""
        for first, second in zip(self.choices[::2], self.choices[1::2], strict=False):
            choice = first * 256 + second
            actions = list(self._actions(choice))
            actions[choice % len(actions)]()
        while self.busy or self.queue:
            if not self.busy:
                self._receive(0, self.codes[0])
            self._step(self.busy[0])

    def last_word(self) -> None:
        """What reconciliation or a redrive would do: the current code looks at every key once more."""
        assert not self.busy
        self.lossy = False
        self.queue[:] = self.keys
        self.codes = (self.current,)
        self.choices = b""
        self.play()

    def close(self) -> None:
        for worker in self.busy:
            worker.kill()

    def _actions(self, choice: int) -> Iterator[Callable[[], None]]:
        more = choice // 64
        for worker in self.busy:
            yield from [lambda worker=worker: self._step(worker)] * 4
        if len(self.busy) < self.workers:
            for position in range(len(self.queue)):
                for code in self.codes:
                    yield from [lambda position=position, code=code: self._receive(position, code)] * 2
        if self.lands or not (self.busy or self.queue):
            yield lambda: self._land(more)
            yield lambda: self._land(more)
        if self.kills:
            for worker in self.busy:
                yield lambda worker=worker: self._kill(worker)
        if self.copies and self.queue:
            yield lambda: self._copy(more)
        if self.lossy and self.queue:
            yield lambda: self._lose(more)

    def _step(self, worker: Worker) -> None:
        self._say(f"{worker.number} {worker.at}")
        worker.step()
        if not worker.finished:
            return
        self.busy.remove(worker)
        self._say(f"{worker.number} ends: {worker.outcome and worker.outcome.verdict}")
        if worker.outcome is None:
            self.queue.append(worker.key)

    def _receive(self, position: int, code: str) -> None:
        key = self.queue.pop(position)
        self.began += 1
        event = ObjectEvent("bronze", key)
        self.busy.append(
            Worker(
                self.began,
                key,
                code,
                lambda worker: process(
                    event, TRANSFORMS[code], self.lake, attempt=1, now=self._now, scratch=Path("/nowhere")
                ),
            )
        )
        self._say(f"{self.began} receives {key} ({code} code)")

    def _land(self, more: int) -> None:
        """A new version, or (of those that are there) a deletion, of which there is no event."""
        self.lands = max(0, self.lands - 1)
        key = self.keys[more % len(self.keys)]
        which = (more // len(self.keys)) % (len(CONTENTS) + 1)
        if which == len(CONTENTS):
            self._say(f"{key} is deleted")
            self.objects("bronze").pop(key, None)
            return
        content = list(CONTENTS)[which]
        self._say(f"{key} is now {content!r}")
        self.objects("bronze")[key] = content, {}
        self.queue.append(key)

    def _kill(self, worker: Worker) -> None:
        self._say(f"{worker.number} dies before: {worker.at}")
        self.kills -= 1
        worker.kill()
        self.busy.remove(worker)
        if not self.lossy:
            self.queue.append(worker.key)

    def _copy(self, more: int) -> None:
        self.copies -= 1
        self.queue.append(self.queue[more % len(self.queue)])
        self._say("a message is there twice")

    def _lose(self, more: int) -> None:
        self._say(f"lost a message of {self.queue.pop(more % len(self.queue))}")

    def _say(self, text: str) -> None:
        self.trace.append(text)


@dataclass(frozen=True)
class State:
    """What the buckets hold of one key in the end."""

    bronze: bytes | None
    silver: Lineage | None
    rejected: Lineage | None
    error: Mapping[str, Any] | None


def look(world: World, key: str) -> State:
    """The state of a key; proves on the way that every object is genuine: its rows are those of its own lineage."""
    bronze = world.objects("bronze").get(key)
    error = world.objects("quarantine").get(error_key("t", key))
    return State(
        bronze=bronze[0] if bronze else None,
        silver=_genuine(world.objects("silver").get(silver_key("t", key)), 0),
        rejected=_genuine(world.objects("quarantine").get(rejected_key("t", key)), 1),
        error=json.loads(error[0]) if error else None,
    )


def _genuine(found: tuple[bytes, Mapping[str, str]] | None, part: int) -> Lineage | None:
    if found is None:
        return None
    lineage = Lineage.from_metadata(found[1])
    assert lineage is not None
    expected = CONTENTS[ETAGS[lineage.bronze_etag]][CODES[lineage.fingerprint]]
    assert expected is not None
    assert (lineage.rows_written, lineage.rows_rejected) == (len(expected[0]), len(expected[1]))
    frame = pl.read_parquet(io.BytesIO(found[0]))
    assert (frame.rows() if part == 0 else frame["x"].to_list()) == expected[part]
    return lineage


def check_buckets(world: World) -> None:
    """Nothing is anywhere but where it belongs."""
    assert set(world.objects("silver")) <= {silver_key("t", key) for key in world.keys}
    names = {name("t", key) for key in world.keys for name in (rejected_key, error_key)}
    assert set(world.objects("quarantine")) <= names


def check_accounted(world: World, key: str) -> None:
    """The newest version is in silver or has an error document, by the current code, and nothing tells of an older."""
    state = look(world, key)
    if state.bronze is None:
        return
    newest = etag_of(state.bronze), TRANSFORMS[world.current].fingerprint
    if CONTENTS[state.bronze][world.current] is None:
        assert state.error is not None, "a broken file is nowhere"
        assert (state.error["bronze"]["etag"], state.error["fingerprint"]) == newest
        return
    assert state.silver is not None, "a good file is nowhere"
    assert (state.silver.bronze_etag, state.silver.fingerprint) == newest, "silver is not of the newest version"
    assert state.error is None, "an error document is left beside a good silver object"
    check_rejected(state)


def check_rejected(state: State) -> None:
    """The rejected rows are there if silver says so, and are of the same version and code."""
    assert state.silver is not None
    if state.silver.rows_rejected == 0:
        assert state.rejected is None, "rejected rows are left of another version"
        return
    assert state.rejected is not None, "silver's rejected rows are nowhere"
    assert (state.rejected.bronze_etag, state.rejected.fingerprint) == (
        state.silver.bronze_etag,
        state.silver.fingerprint,
    ), "the rejected rows are of another version than silver"


CHOICES = st.binary(min_size=80, max_size=320)
EXAMPLES = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def played(world: World, check: Callable[[World], None]) -> None:
    try:
        world.play()
        check(world)
    finally:
        note("\n".join(world.trace))
        world.close()


@EXAMPLES
@given(CHOICES, st.integers(1, 2), st.integers(2, 3))
def test_what_landed_is_accounted_for_when_its_messages_are_done(choices: bytes, keys: int, workers: int) -> None:
    """No message is lost, and nobody looks a second time: at-least-once delivery alone must do."""

    def check(world: World) -> None:
        check_buckets(world)
        for key in world.keys:
            check_accounted(world, key)

    played(World(choices, keys=("k.csv", "l.csv")[:keys], workers=workers), check)
