"""A world in which one thing happens at a time, and a test says what: buckets in memory, a queue, workers, deaths.

Every request of a worker to a bucket is a point at which it waits for its turn. Workers are threads that pass a baton:
exactly one runs at a time, so what happens follows from the order of the turns and from nothing else.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from silversmith import Contract, Pipeline
from silversmith.errors import DataError, PreconditionFailed
from silversmith.events import ObjectEvent
from silversmith.function.outcome import Outcome
from silversmith.function.process import Contended, run
from silversmith.function.task import NewKeys, Task
from silversmith.pipeline import Transform
from silversmith.pipeline.lookups import Lookups
from silversmith.stores import Head, Lake, Put, Source, one_by_one

KEY = "k.csv"


def _transforms() -> dict[str, Transform]:
    """The same transform before and after a deploy."""
    old, new = Pipeline("shop"), Pipeline("shop")

    @old.transform("*", contract=Contract(schema={"x": pl.Int64}, rules={"small": pl.col("x") < 100}), name="t")
    def before(rows: pl.LazyFrame) -> pl.LazyFrame:
        if rows.collect()["x"].first() == 8:
            raise DataError("Eight", "the old code does not take an 8")
        return rows.with_columns(y=pl.col("x") * 2)

    @new.transform("*", contract=Contract(schema={"x": pl.Int64}, rules={"small": pl.col("x") < 50}), name="t")
    def after(rows: pl.LazyFrame) -> pl.LazyFrame:
        if rows.collect()["x"].first() == 9:
            raise DataError("Nine", "the new code does not take a 9")
        return rows.with_columns(y=pl.col("x") * 3)

    return {"old": old.find("t"), "new": new.find("t")}


TRANSFORMS = _transforms()

#: What a code makes of a file: the silver rows and the rejected values; None: the file is broken.
Made = tuple[list[tuple[int, int]], list[str]] | None

#: What may land in bronze, and what each code must make of it.
CONTENTS: dict[bytes, dict[str, Made]] = {
    b"x\n1\n": {"old": ([(1, 2)], []), "new": ([(1, 3)], [])},
    b"x\n2\n500\n": {"old": ([(2, 4)], ["500"]), "new": ([(2, 6)], ["500"])},
    b"y\n1\n": {"old": None, "new": None},
    b"x\n3\n": {"old": ([(3, 6)], []), "new": ([(3, 9)], [])},
    b"x\n600\n5\n700\n": {"old": ([(5, 10)], ["600", "700"]), "new": ([(5, 15)], ["600", "700"])},
    b"x\n4\n70\n": {"old": ([(4, 8), (70, 140)], []), "new": ([(4, 12)], ["70"])},
    b"x\n8\n": {"old": None, "new": ([(8, 24)], [])},
    b"x\n9\n900\n": {"old": ([(9, 18)], ["900"]), "new": None},
}
GOOD, REJECTS, BROKEN, BETTER, WORSE, PICKY, ONLY_NEW, ONLY_OLD = CONTENTS


def etag_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class MemoryStore:
    """A :class:`~silversmith.stores.Store` in memory, as strict as S3. ``turn`` is called before every request."""

    def __init__(self, name: str, turn: Callable[[str], None]) -> None:
        self.objects: dict[str, tuple[bytes, Mapping[str, str]]] = {}
        self._name = name
        self._turn = turn

    def head(self, key: str) -> Head | None:
        self._ask("head", key)
        return self._head(key)

    def _head(self, key: str) -> Head | None:
        if key not in self.objects:
            return None
        data, metadata = self.objects[key]
        return Head(key, etag_of(data), len(data), datetime(2026, 1, 1, tzinfo=UTC), metadata=metadata)

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        self._ask("get", key)
        head = self._head(key)
        yield None if head is None else Source(head, self.objects[key][0], None)

    def verify(self, source: Source) -> None:
        """Bytes in memory never change."""

    def read(self, key: str) -> bytes | None:
        self._ask("get", key)
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
        self._ask("put", key)
        assert isinstance(body, bytes)
        self._require(key, if_match, if_none_match)
        self.objects[key] = body, dict(metadata or {})
        return etag_of(body)

    def put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        return one_by_one(self, puts)

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._ask("delete", key)
        self._require(key, if_match, False)
        self.objects.pop(key, None)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        raise AssertionError("processing one object never lists a bucket")

    def _ask(self, verb: str, key: str) -> None:
        kind = next((kind for kind in ("rejected", "error") if f".{kind}." in key), self._name)
        self._turn(f"{verb} {kind}")

    def _require(self, key: str, if_match: str | None, if_none_match: bool) -> None:
        head = self._head(key)
        if (if_none_match and head is not None) or (if_match is not None and (head is None or head.etag != if_match)):
            raise PreconditionFailed(key)


@dataclass(frozen=True)
class Message:
    """A hint that a key may have changed. A ``spare`` one is a copy: who dies with it in hand takes it along.

    ``receives`` counts as SQS does; ``reason`` is S3's, or of a message that Silversmith itself sent.
    """

    key: str
    spare: bool = False
    receives: int = 0
    reason: str = ""


class Killed(BaseException):
    """The end of a worker's thread: no request of it has any effect any more."""


class Worker(threading.Thread):
    """One message in the hands of one process. It runs only from :meth:`step` to its next request to a bucket.

    ``at`` is that request: ``head silver``, ``get bronze``, ``put rejected``, ``delete error`` …
    """

    def __init__(self, name: str, message: Message, work: Callable[[], Outcome]) -> None:
        super().__init__(daemon=True, name=name)
        self.message = message
        self.at = "start"
        self.finished = False
        self.outcome: Outcome | None = None
        self._killed = False
        self._error: BaseException | None = None
        self._work = work
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self.start()
        self._paused.acquire()

    def run(self) -> None:
        try:
            self.pause("start")
            outcome = self._work()
            self.pause("acknowledge")
            self.outcome = outcome
        except (Killed, Contended):
            pass
        except BaseException as error:  # noqa: BLE001 -- raised again by the test's own thread
            self._error = error
        self.finished = True
        self._paused.release()

    def pause(self, at: str) -> None:
        """Called in the worker's own thread: wait for a turn."""
        self.at = at
        self._paused.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def step(self) -> None:
        self._go.release()
        self._paused.acquire()
        if self._error is not None:
            raise self._error

    def kill(self) -> None:
        self._killed = True
        self.step()


@dataclass
class World:
    """Three buckets, a queue (its order means nothing), and the workers that are at something.

    ``removes``: silver goes with a bronze object that is deleted. ``new_keys``: what the workers share of what they
    learned about silver; None: nothing. ``counts_receives``: workers rely on the number of receives, as on SQS.
    """

    removes: bool = False
    new_keys: NewKeys | None = None
    counts_receives: bool = True
    queue: list[Message] = field(default_factory=list)
    busy: list[Worker] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    requests: int = 0
    _began: int = 0
    _clock: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.bronze, self.silver, self.quarantine = (
            MemoryStore(name, self._turn) for name in ("bronze", "silver", "quarantine")
        )

    def _turn(self, request: str) -> None:
        worker = threading.current_thread()
        assert isinstance(worker, Worker)
        worker.pause(request)

    def _now(self) -> datetime:
        self._clock += timedelta(milliseconds=1)
        return self._clock

    def land(self, content: bytes, key: str = KEY) -> None:
        """A new version, and its message."""
        self.say(f"{key} is now {content!r}")
        self.bronze.objects[key] = content, {}
        self.queue.append(Message(key))

    def delete(self, key: str = KEY) -> None:
        """Of a deletion there is a message only where silver is to go, too."""
        self.say(f"{key} is deleted")
        self.bronze.objects.pop(key, None)
        if self.removes:
            self.queue.append(Message(key))

    def receive(self, code: str = "old", position: int = 0) -> Worker:
        """A worker with this code takes a message."""
        message = self.queue.pop(position)
        message = replace(message, receives=message.receives + 1)
        self._began += 1
        event = ObjectEvent("bronze", message.key, size=10, reason=message.reason)
        lake = Lake(self.bronze, self.silver, self.quarantine)

        def work() -> Outcome:
            transform, scratch = replace(TRANSFORMS[code], removes=self.removes), Path("/nowhere")
            lookups = Lookups(lake.bronze, transform.lookups, scratch, name=transform.name)
            new_keys = self.new_keys or NewKeys()
            return run(
                Task(
                    event, transform, lake, scratch, lookups,
                    receives=message.receives, was_received=message.receives > 1 or not self.counts_receives,
                    now=self._now, new_keys=new_keys,
                )
            )  # fmt: skip

        worker = Worker(f"worker {self._began}", message, work)
        self.say(f"{worker.name} receives {message.key} ({code} code)")
        self.busy.append(worker)
        return worker

    def step(self, worker: Worker, most: int = 1) -> None:
        """Let a worker make its next request, or the next few."""
        for _ in range(most):
            self.requests += 1
            self.say(f"{worker.name}: {worker.at}")
            worker.step()
            if worker.finished:
                self.busy.remove(worker)
                self.say(f"{worker.name} ends: {worker.outcome.verdict if worker.outcome else 'to be tried again'}")
                if worker.outcome is None:
                    self.queue.append(worker.message)
                return

    def until(self, worker: Worker, at: str) -> None:
        """Let a worker go on until this request would be its next."""
        while worker.at != at:
            self.step(worker)
            assert not worker.finished, f"it never came to: {at}"

    def finish(self, worker: Worker) -> None:
        while not worker.finished:
            self.step(worker)

    def kill(self, worker: Worker) -> None:
        self.say(f"{worker.name} dies before: {worker.at}")
        worker.kill()
        self.busy.remove(worker)
        if not worker.message.spare:
            self.queue.append(worker.message)

    def drain(self, code: str = "old") -> None:
        """Let everybody finish, and work on what is left in the queue."""
        while self.busy or self.queue:
            self.finish(self.busy[0] if self.busy else self.receive(code))

    def say(self, text: str) -> None:
        self.trace.append(text)

    def close(self) -> None:
        for worker in self.busy:
            worker.kill()


@pytest.fixture
def world() -> Iterator[World]:
    result = World()
    yield result
    result.close()
