"""All rooms of the engine over real files and a real journal, worked by hand, with deaths and interruptions."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from silversmith import Contract, Pipeline
from silversmith.events import ObjectEvent
from silversmith.function.handler import Handler
from silversmith.function.outcome import Report
from silversmith.function.retries import parse
from silversmith.lineage import Lineage, error_key, failed_key, rejected_key, silver_key
from silversmith.local import iam, resend
from silversmith.local.iam import GuardedStore
from silversmith.local.journal import Compaction, open_or_rebuild
from silversmith.local.lake import LakeFolder
from silversmith.local.resend import Rounds
from silversmith.local.services.bucket import Landed
from silversmith.local.services.function import FunctionService, Invocation
from silversmith.local.services.queue import expire
from silversmith.local.stack import read
from silversmith.local.wiring import Delivery, build, worker_functions
from silversmith.local.worker import TOGETHER
from silversmith.pipeline import Transform
from silversmith.runtime.queue import SystemUnavailable
from silversmith.stores import Head, Lake, Put, Source, Store
from silversmith.stores.local import LocalStore
from silversmith.template import compile as compile_template
from tests.disturbance import DisturbedDelivery
from tests.unit.local.power import Plug

KEYS = ("orders/a.json", "orders/b.json", "c.json")

#: By what becomes of them: rows, one of which breaks the contract; no JSON; and 666, on which code 0 raises.
CONTENTS = (
    b'[{"x": 1}]',
    b'[{"x": 2}, {"x": 3}]',
    b'[{"x": 4}, {"x": -1}]',
    b'[{"x": 5',
    b'[{"x": 666}]',
)
CODES = 3


class Death(BaseException):
    """The worker is killed here."""


def pipeline(code: int) -> Pipeline:
    """The same pipeline as somebody changed its code: every version of it writes its number."""
    definition = Pipeline("whole")
    contract = Contract(schema={"x": pl.Int64}, rules={"x is positive": pl.col("x") > 0})

    @definition.transform("orders/*", contract=contract, max_receive_count=2, batch_size=3)
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        if code == 0 and 666 in rows.collect()["x"]:
            raise RuntimeError("no such thing")
        return rows.with_columns(code=pl.lit(code))

    @definition.transform("*.json", max_receive_count=2)
    def copies(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(code=pl.lit(code))

    return definition


PIPELINES = tuple(pipeline(code) for code in range(CODES))
CODE_OF = {
    transform.fingerprint: code for code, definition in enumerate(PIPELINES) for transform in definition.transforms
}  # fmt: skip


def etag(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def expected(transform: str, content: bytes) -> tuple[list[int], list[int]] | None:
    """The good and the rejected values of x; None where the bytes are at fault."""
    try:
        values = [row["x"] for row in orjson.loads(content)]
    except orjson.JSONDecodeError:
        return None
    if transform == "copies":
        return values, []
    return [value for value in values if value > 0], [value for value in values if value <= 0]


class Leisure:
    """A Lambda context with all the time there is."""

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


@dataclass(frozen=True)
class Interruptible:
    """A store at whose every request, before and after it, something else can happen."""

    store: Store
    point: Callable[[], None]

    def head(self, key: str) -> Head | None:
        with self._around():
            return self.store.head(key)

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        self.point()
        with self.store.open(key) as source:
            self.point()
            yield source

    def verify(self, source: Source) -> None:
        with self._around():
            self.store.verify(source)

    def read(self, key: str) -> bytes | None:
        with self._around():
            return self.store.read(key)

    def put(self, key: str, body: bytes | Path, **conditions: Any) -> str:
        with self._around():
            return self.store.put(key, body, **conditions)

    def put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        with self._around():
            return self.store.put_all(puts)

    def delete(self, key: str, **conditions: Any) -> None:
        with self._around():
            self.store.delete(key, **conditions)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        return self.store.list(prefix, start_after=start_after)

    @contextmanager
    def _around(self) -> Iterator[None]:
        self.point()
        yield
        self.point()


class World:
    """A lake with an engine's services. ``now`` is what every clock shows, ``working`` the key that was last begun."""

    def __init__(self, folder: Path, delivery: Callable[..., Delivery]) -> None:
        self.folder = LakeFolder(folder / "lake")
        self.folder.create(*self._buckets())
        self.now = 1_767_355_200.0
        self.plug = Plug()
        self._make_delivery = delivery
        self.code = 0
        self.bronze = self._store("dl-bronze-layer", foreign=True)
        self.lake = Lake(self.bronze, self._store("dl-silver-layer"), self._store("dl-quarantine-layer"))
        self.flights: list[tuple[FunctionService, Invocation]] = []
        self.working = ""
        self._interrupt: tuple[int, Callable[[], None]] | None = None
        self.start()

    @staticmethod
    def _buckets() -> tuple[str, str, str]:
        return "dl-bronze-layer", "dl-silver-layer", "dl-quarantine-layer"

    def _store(self, name: str, *, foreign: bool = False) -> LocalStore:
        """Nothing reaches a disk before it is synced: :meth:`cut` pulls the plug."""
        return LocalStore(
            self.folder.bucket(name),
            scratch=self.folder.scratch,
            locks=self.folder.locks,
            foreign_writers=foreign,
            fsync=self.plug.fsync,
        )

    @property
    def pipeline(self) -> Pipeline:
        return PIPELINES[self.code]

    # The engine's life

    def start(self) -> None:
        """As an engine starts over what is there."""
        self.journal = open_or_rebuild(self.folder.journal, warn=_no_damage)
        self.stack = read(compile_template(self.pipeline))
        self.services = build(
            self.stack,
            self.journal,
            bronze="dl-bronze-layer",
            silver="dl-silver-layer",
            quarantine="dl-quarantine-layer",
            clock=lambda: self.now,
            delivery=self._make_delivery,
        )
        self.routes = resend.routes(self.stack)
        self.compaction = Compaction(
            self.journal,
            bucket="dl-bronze-layer",
            expire=expire,
            sweep=lambda: self.services.bucket.sweep(lambda key: self.bronze.glance(key) is not None),
            seconds=float("inf"),  # the trace says what was lost
        )
        with self.journal.transaction():
            for queue in self.services.queues.values():
                queue.release_all(self.now)

    def die(self) -> None:
        """As an engine that is killed: what its workers were at is never heard of again."""
        self.journal.close()
        self.flights.clear()

    def cut(self, seed: int) -> None:
        """As when the power fails, and an engine starts when it is back: it searches bronze, and compares silver."""
        draw = random.Random(seed)
        files = [self.folder.journal, Path(f"{self.folder.journal}-wal")]
        written = [path.read_bytes() for path in files]
        self.die()
        for path, content in zip(files, written, strict=True):  # to close it was to write all of it
            path.write_bytes(content)
        os.truncate(files[1], draw.randint(0, len(written[1])))
        for bucket in self._buckets():
            self.plug.pull(self.folder.bucket(bucket), draw)
        self.folder.sweep()
        self.start()
        self._search()
        self.reconcile()

    def _search(self) -> None:
        for key in KEYS:
            glance, head = self.bronze.glance(key), self.bronze.head(key)
            if (
                glance
                and head
                and not self.services.bucket.unchanged(key, partial(str, glance.identity), trusting=False)
            ):
                self.services.bucket.notice([Landed(key, glance.identity, head.etag, head.size)])
        while self.services.bucket.sweep(lambda key: self.bronze.glance(key) is not None):
            pass

    # Bronze

    def land(self, key: str, content: bytes) -> None:
        path = self.folder.bucket("dl-bronze-layer") / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        glance, head = self.bronze.glance(key), self.bronze.head(key)
        assert glance is not None
        assert head is not None
        self.services.bucket.notice([Landed(key, glance.identity, head.etag, head.size)])

    def remove(self, key: str) -> None:
        (self.folder.bucket("dl-bronze-layer") / key).unlink(missing_ok=True)
        self.services.bucket.forget([key])

    def content(self, key: str) -> bytes | None:
        return self.bronze.read(key)

    # The functions

    def poll(self, function: FunctionService) -> tuple[FunctionService, Invocation] | None:
        invocations = function.poll(self.now, hurry=True)
        return (function, invocations[0]) if invocations else None

    def work(self, flight: tuple[FunctionService, Invocation]) -> None:
        """Run the handler, as a worker would, and tell the function what came of it."""
        function, invocation = flight
        outcomes = dict[str, Mapping[str, Any]]()
        last: str | None = None

        def began(message: str) -> None:
            invocation.outcomes.update(outcomes)  # it is told with the next word: a death in between loses it
            nonlocal last
            last = message
            self.working = invocation.messages[message].key

        def ended(report: Report) -> None:
            outcomes[report.message_id] = report.to_dict()

        try:
            response = self._handler(function.settings.name, began, ended)(invocation.event(), Leisure())
        except Death:
            function.crash(invocation, "it was killed", self.now, began=last)
        except SystemUnavailable as error:
            invocation.outcomes.update(outcomes)
            function.complete([(invocation, error.response)], self.now)
        else:
            invocation.outcomes.update(outcomes)
            function.complete([(invocation, response)], self.now)

    def _handler(self, name: str, began: Callable[[str], None], ended: Callable[[Report], None]) -> Handler:
        config = next(result for result in worker_functions(self.stack) if result.name == name)

        def guarded(store: Store, bucket: str) -> Interruptible:
            def check(action: str, resource: str) -> None:
                context = {"aws:SecureTransport": "true", "aws:ResourceAccount": config.role.split(":")[4]}
                iam.checker((config.policy,), principal=config.role, context=context)(action, resource)

            return Interruptible(GuardedStore(store, arn=f"arn:aws:s3:::{bucket}", check=check), self._point)

        stores = (self.lake.bronze, self.lake.silver, self.lake.quarantine)
        return Handler(
            self.pipeline.find(config.environment["SILVERSMITH_TRANSFORM"]),
            bucket="dl-bronze-layer",
            lake=Lake(*map(guarded, stores, self._buckets())),
            scratch=self.folder.scratch,
            began=began,
            ended=ended,
            now=lambda: datetime.fromtimestamp(self.now, UTC),
            group_size=TOGETHER,
        )

    @contextmanager
    def interrupted(self, at: int, by: Callable[[], None]) -> Iterator[None]:
        """Within the block, at this request of a worker (from 0), something happens, once."""
        self._interrupt = (at, by)
        try:
            yield
        finally:
            self._interrupt = None

    def _point(self) -> None:
        if self._interrupt is None:
            return
        left, action = self._interrupt
        self._interrupt = (left - 1, action) if left else None
        if not left:
            action()

    def settle(self) -> None:
        """Until nothing is left to do, however long that takes: undisturbed, and with nobody dying."""
        assert isinstance(self.services.delivery, DisturbedDelivery)
        self.services.delivery.is_calm = True
        while self.flights:
            self.work(self.flights.pop())
        for _ in range(10_000):
            self.services.delivery.deliver(self.now)
            flights = [flight for function in self.services.functions if (flight := self.poll(function))]
            for flight in flights:
                self.work(flight)
            if not flights and not self._wait_for_next():
                return
        raise AssertionError("it never comes to rest")

    def _wait_for_next(self) -> bool:
        due = [row[0] for row in self.journal.rows("next_due")]
        due += [
            self.services.queues[function.settings.queue.arn].next_visible() for function in self.services.functions
        ]
        times = [time for time in due if time is not None]
        self.now = max(self.now, min(times, default=self.now))
        return bool(times)

    # Operations

    def reconcile(self) -> None:
        """Reconcile, as the engine does at its start and once an hour."""
        rounds = Rounds(self.pipeline, self.lake, self.bronze, self.journal, self.routes)
        while not rounds.finished:
            rounds.step(self.now)

    def resend(self) -> None:
        """An event of every key to every transform that wants it."""
        for transform in self.pipeline.transforms:
            for key in KEYS:
                if transform.pattern.matches(key) and self.content(key) is not None:
                    event = ObjectEvent("dl-bronze-layer", key)
                    queue = self.routes[transform.name].queue
                    resend.send(self.journal, queue, [event], reason="reconcile", now=self.now)

    def redrive(self) -> None:
        transforms = {item.queue.arn: item for item in self.routes.values()}
        with self.journal.transaction():
            for queue in self.services.dead_letters:
                for row in self.journal.rows("dead_messages", queue=queue.settings.arn, after=0, most=1000):
                    place = transforms[row[7]]
                    assert resend.back_to_queue(self.journal, row[1], place.queue, now=self.now)

    # What there is

    def matching_objects(self) -> Iterator[tuple[Transform, str, bytes]]:
        """Every transform with every bronze object that it matches, and that object's bytes."""
        for transform in self.pipeline.transforms:
            for key in KEYS:
                content = self.content(key)
                if content is not None and transform.pattern.matches(key):
                    yield transform, key, content

    def lineage(self, transform: str, key: str) -> Lineage | None:
        head = self.lake.silver.head(silver_key(transform, key))
        return Lineage.from_metadata(head.metadata) if head else None

    def error(self, transform: str, key: str) -> dict[str, Any] | None:
        body = self.lake.quarantine.read(error_key(transform, key))
        return orjson.loads(body) if body else None

    def given_up(self, transform: str, key: str) -> str:
        """The etag of the bytes that the document says the code has failed on as often as it may; empty: of none."""
        document = parse(self.lake.quarantine.read(failed_key(transform, key)) or b"")
        return str(document["bronze"]["etag"]) if document is not None and document["dead"] else ""

    def rejected(self, transform: str, key: str) -> tuple[Lineage, pl.DataFrame] | None:
        name = rejected_key(transform, key)
        head = self.lake.quarantine.head(name)
        lineage = Lineage.from_metadata(head.metadata) if head else None
        path = self.folder.bucket("dl-quarantine-layer") / name
        return (lineage, pl.read_parquet(path)) if lineage else None

    def silver(self, transform: str, key: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder.bucket("dl-silver-layer") / silver_key(transform, key))

    def dead(self, transform: str, key: str) -> bool:
        arns = self.routes[transform].dead_letters
        rows = self.journal.rows("queued_for", queues=orjson.dumps(arns).decode(), keys=orjson.dumps([key]).decode())
        return bool(rows)

    def on_its_way(self, transform: str, key: str) -> bool:
        """Whether a message about the key is queued, in flight, or between two rooms."""
        place = self.routes[transform]
        queues = orjson.dumps([place.queue.arn]).decode()
        keys = orjson.dumps([key]).decode()
        posts = self.journal.rows("in_outbox_for", keys=keys)
        return bool(
            self.journal.rows("queued_for", queues=queues, keys=keys)
            or [target for target, _, _ in posts if target == place.queue.arn or ":sqs:" not in target]
        )

    def fate(self, key: str) -> set[str]:
        """The fate of the newest version of a key."""
        result = self.journal.row("object", bucket="dl-bronze-layer", key=key)
        return {row[6] for row in self.journal.rows("hops", key=key) if result and row[2] == result[2]}


def _no_damage(message: str) -> None:
    raise AssertionError(message)
