"""Bronze, silver, quarantine, a queue and functions, with every fault that a seed gives; then calm, and a look at all.

The functions are the real handler over boto3 and a socket. Time is simulated: no back-off takes any. In a run with one
lane everything happens in one thread, in an order that only the seed decides: a second function runs, or bronze is
overwritten, between two requests of the first.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from threading import RLock, current_thread, main_thread
from typing import Any

import polars as pl

from silversmith.errors import SilversmithError
from silversmith.events import ObjectEvent, object_created, unwrap
from silversmith.function.handler import Handler
from silversmith.lineage import PARQUET_ENTRY, Lineage, error_key, rejected_key, silver_key
from silversmith.reconcile.handler import Reconciler
from silversmith.reconcile.lease import lease_key
from silversmith.runtime.queue import SystemUnavailable, queue_receives
from silversmith.schemas.document import schema_key
from silversmith.stores import IN_MEMORY, Lake
from silversmith.stores.s3 import S3Store
from tests.faults.files import File, file, pipeline
from tests.faults.queue import Queue
from tests.faults.weather import Weather
from tests.stand_in import S3Server, Version
from tests.stand_in.buckets import ALGORITHMS, Upload

KEYS, OVERWRITES = 80, 60
BUCKETS = ["bronze", "silver", "quarantine"]

#: 2026-01-02T12:00:00Z, at which each run begins.
NOON = 1_767_355_200.0

#: Seconds of the simulation: within which files land, after which all faults are over, and of one request.
LANDING, STORM, REQUEST = 3600, 8 * 3600, 0.05

#: Of the requests of a function: before or after how many it dies, and before how many something else happens.
DEATHS, OTHERS = 0.006, 0.06

#: A message meets fewer deaths than what its transform allows, or it would rightly be dead.
MOST_DEATHS = 3

#: How often the SDK sends a request, and how many seconds it waits for an answer.
ATTEMPTS, READ_TIMEOUT = 2, 0.3


class Died(BaseException):
    """The function ended at this instruction."""


class Leisure:
    """A Lambda context with all the time there is."""

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


@dataclass
class Result:
    """Right and wrong keys in the end, and the numbers of events."""

    seed: int
    files: int = 0
    right: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    wrongly_quarantined: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    unacknowledged: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    receives: int = 0

    @property
    def problems(self) -> dict[str, list[str]]:
        """Violated rules, by their kind."""
        kinds = ("lost", "false", "dead", "wrongly_quarantined", "unexplained", "unacknowledged")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


class World:
    """One run.

    Args:
        seed: decides everything.
        scratch: a folder for temporary files.
        keys: how many files land.
        overwrites: how many of them are replaced, some more than once.
        io_threads: as a handler has it. With any the order of requests is the threads'.
        large: whether one of the files is large, so that its ranges are fetched in threads.
    """

    def __init__(
        self,
        seed: int,
        scratch: Path,
        *,
        keys: int = KEYS,
        overwrites: int = OVERWRITES,
        io_threads: int = 0,
        large: bool = True,
    ) -> None:
        self.now = NOON
        self.pipeline = pipeline()
        (self.transform,) = self.pipeline.transforms
        self.weather = Weather(seed, lambda: self.now - NOON, BUCKETS)
        self.server = S3Server(plan=self.weather, clock=lambda: self.now)
        self.deaths = 0
        self._random = Random(seed)
        self._seed = seed
        self._scratch = scratch
        self._io_threads = io_threads
        self._lock = RLock()
        self._died: Counter[str] = Counter()
        self._idle: list[Function] = []
        self._depth = 0
        self._rounds = 0
        self._newest: dict[str, File] = {}
        self._silent: set[str] = set()
        most = queue_receives(self.transform.max_receive_count)
        self.queue = Queue(self._random, visibility=6 * self.transform.timeout, most_receives=most)
        encryption = "aws:kms" if seed % 2 else "AES256"
        for name in BUCKETS:
            self.server.bucket(name, versioned=name == "bronze" or seed % 3 == 0, encryption=encryption)
        self._bronze = self.server.buckets["bronze"]
        self._landings = self._plan_landings(keys, overwrites, large=large)

    def run(self) -> Result:
        """Storm, calm, reconciliation; then the result."""
        with self.server:
            return self._run()

    def story(self) -> list[tuple[str, str, str, str]]:
        """The requests of the functions, in their order, and what each met."""
        return [
            (request.operation, request.bucket, request.key, str(fault))
            for request, fault in self.server.log
            if not request.headers["x-client"]
        ]

    def _run(self) -> Result:
        reconciled = self.now + 1.5 * 3600
        while self.now - NOON < STORM and (self._landings or self.queue.messages):
            self._advance(min(filter(None, [self._next(), reconciled])))
            if self.now >= reconciled:
                self._reconcile()
                reconciled += 1.5 * 3600
            self._invoke()
        self.weather.is_over = True
        self._drain()
        result = Result(self._seed, unacknowledged=self._not_right(self._newest.keys() - self._silent))
        self._reconcile()
        self._drain()
        return self._judge(result)

    def _next(self) -> float | None:
        times = [self.queue.next_visible(), self._landings[0][0] if self._landings else None]
        return min((time for time in times if time is not None), default=None)

    def _drain(self) -> None:
        while (time := self._next()) is not None:
            self._advance(time)
            self._invoke()

    def _advance(self, time: float) -> None:
        self.now = max(self.now, time)
        while self._landings and self._landings[0][0] <= self.now:
            self._land()

    # What lands

    def _plan_landings(self, keys: int, overwrites: int, *, large: bool) -> list[tuple[float, File]]:
        names = [f"in/{number:03} ü.csv" for number in range(keys)]
        all_names = names + self._random.choices(names, k=overwrites)
        files = [file(self._random, name, large=large and name == names[0]) for name in all_names]
        return sorted(((NOON + self._random.uniform(0, LANDING), file) for file in files), key=lambda item: item[0])

    def _land(self) -> None:
        """A file is put, and its events are sent: one, several, or none; soon, or much later."""
        _, landed = self._landings.pop(0)
        version = self._put(landed)
        self._newest[landed.key] = landed
        event = ObjectEvent("bronze", landed.key, etag=version.etag, version=version.id, size=len(landed.body))
        copies = self._random.choices([0, 1, 2, 3], [10, 70, 15, 5])[0]
        for _ in range(copies):
            late = self._random.choice([0.5, 5, 60, 1800])
            body = object_created(event, reason="PutObject").decode()
            self.queue.send(body, self.now + self._random.uniform(0, late))
        if copies:
            self._silent.discard(landed.key)
        else:
            self._silent.add(landed.key)

    def _put(self, landed: File) -> Version:
        """With one of the checksums that S3 knows; a large file in parts, and with a checksum of their checksums."""
        if len(landed.body) > IN_MEMORY:
            parts = {1: landed.body[:IN_MEMORY], 2: landed.body[IN_MEMORY:]}
            self._bronze.uploads["1"] = Upload(landed.key, {}, "crc32", "COMPOSITE", self._bronze.encryption, parts)
            return self._bronze.complete("1", [1, 2])
        # What was put before S3 added a checksum of its own to each object has none, and an ETag to go by.
        self._bronze.checksum = self._random.choice(
            [*ALGORITHMS, *([None] if self._bronze.encryption == "AES256" else [])]
        )
        return self._bronze.put(landed.key, landed.body)

    # What works on it

    def _invoke(self) -> None:
        """One function works on one batch, as Lambda's poller would have it."""
        batch = self.queue.receive(self.now, self._random.randint(1, 10))
        if not batch:
            return
        function = self._idle.pop() if self._idle else Function(self)
        function.may_die = all(self._died[message.id] < MOST_DEATHS for message in batch)
        self._depth += 1
        try:
            response = function.handler({"Records": [message.record() for message in batch]}, Leisure())
        except Died:
            self.deaths += 1
            self._died.update(message.id for message in batch)
            return
        except SystemUnavailable:
            response = {"batchItemFailures": [{"itemIdentifier": message.id} for message in batch]}
        finally:
            self._depth -= 1
        self._idle.append(function)
        failed = {item["itemIdentifier"] for item in response["batchItemFailures"]}
        self.queue.delete(message.receipt for message in batch if message.id not in failed)

    def before_request(self, function: Function) -> None:
        """Something may happen first: the function dies, a file lands, another function runs."""
        if self.weather.is_over or self._is_beside():
            return
        with self._lock:
            self.now += REQUEST
            self.maybe_die(function)
            if self._random.random() < OTHERS:
                if self._landings and self._random.random() < 0.3:
                    self._land()
                elif self._io_threads == 0 and self._depth < 3:
                    self._invoke()

    def maybe_die(self, function: Function) -> None:
        if self.weather.is_over or not function.may_die or self._is_beside():
            return
        with self._lock:
            if self._random.random() < DEATHS / 2:
                raise Died

    def _is_beside(self) -> bool:
        """In a thread that fetches a range: there order is by chance, and whoever waits for it may have the lock."""
        return self._io_threads == 0 and current_thread() is not main_thread()

    def _reconcile(self) -> None:
        """The scheduled function. What fails of it in a storm is done by the next round."""
        # It heads objects in threads and stops at a failure: how many it has asked for by then must decide nothing.
        self._rounds += 1
        client = connect(self.server, name=f"round {self._rounds}")
        reconciler = Reconciler(
            self.pipeline,
            bucket="bronze",
            lake=self.lake(client),
            lease=lease_key("reconciler"),
            queue=lambda _: self,
            again=lambda event: None,
            now=self.time,
        )
        try:
            reconciler({"queues": {self.transform.name: "queue"}, "settled_seconds": 0}, Leisure())
        except (SilversmithError, OSError):
            assert not self.weather.is_over

    def waiting(self) -> int:
        """As the reconciler sees the queue."""
        return len(self.queue.messages)

    def send(self, bodies: Sequence[str]) -> None:
        for body in bodies:
            self.queue.send(body, self.now)

    def time(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def lake(self, client: Any) -> Lake:
        return Lake(*(S3Store(name, client=client, scratch=self._scratch) for name in BUCKETS))

    def handler(self, client: Any) -> Handler:
        """As a new execution environment has it."""
        return Handler(
            self.transform,
            bucket="bronze",
            lake=self.lake(client),
            scratch=self._scratch,
            release=lambda receipt, seconds: self.queue.change_visibility(receipt, self.now + seconds),
            move_to_dlq=lambda record, error: self.queue.bury(record["body"], str(error["code"])),
            acknowledge=self.queue.delete,
            now=self.time,
            io_threads=self._io_threads,
        )

    # What has become of it

    def _judge(self, result: Result) -> Result:
        names = {
            "silver": {schema_key(self.transform.name)},
            "quarantine": set[str](),
        }
        dead = {event.key for body, _ in self.queue.dead for event in unwrap(body)}
        quarantine = self.server.buckets["quarantine"]
        result.files = len(self._newest)
        result.lost = self._not_right(self._newest)
        result.right = sorted(self._newest.keys() - set(result.lost))
        result.dead = sorted(dead)
        for key, newest in self._newest.items():
            etag = self._bronze.find(key).etag
            silver = self.server.buckets["silver"].newest(silver_key(self.transform.name, key))
            names["silver"].add(silver_key(self.transform.name, key))
            if newest.rows is None:
                names["quarantine"].add(error_key(self.transform.name, key))
                # The last good silver stays, and with it the rows that were rejected of it.
                names["quarantine"].add(rejected_key(self.transform.name, key))
            elif quarantine.newest(error_key(self.transform.name, key)):
                result.wrongly_quarantined.append(key)
            if newest.rejected:
                names["quarantine"].add(rejected_key(self.transform.name, key))
            lineage = Lineage.from_metadata(silver.metadata) if silver else None
            if silver and lineage and lineage.bronze_etag == etag and not _has_rows(silver.content, newest):
                result.false.append(key)
        names["quarantine"].add(lease_key("reconciler"))
        for name, expected in names.items():
            actual = {version.key for version in self.server.buckets[name].objects()}
            result.unexplained += [f"{name}/{key}" for key in sorted(actual - expected)]
        result.unexplained += [f"an upload to {name}" for name in BUCKETS if self.server.buckets[name].uploads]
        result.faults = Counter(_kind(fault) for _, fault in self.server.log if fault is not None)
        result.faults["death"] = self.deaths
        result.requests, result.receives = len(self.server.log), self.queue.receives
        return result

    def _not_right(self, keys: Any) -> list[str]:
        return sorted(key for key in keys if not self._is_right(key, self._newest[key]))

    def _is_right(self, key: str, newest: File) -> bool:
        """Silver of these bytes with these rows, and the rejected ones beside it; or the reason in quarantine."""
        etag = self._bronze.find(key).etag
        quarantine = self.server.buckets["quarantine"]
        if newest.rows is None:
            document = quarantine.newest(error_key(self.transform.name, key))
            if document is None:
                return False
            said = json.loads(document.content)
            return bool(said["error"]["code"] and said["error"]["message"] and said["bronze"]["etag"] == etag)
        silver = self.server.buckets["silver"].newest(silver_key(self.transform.name, key))
        lineage = Lineage.from_metadata(silver.metadata) if silver else None
        if silver is None or lineage is None or lineage.bronze_etag != etag or not _has_rows(silver.content, newest):
            return False
        rejected = quarantine.newest(rejected_key(self.transform.name, key))
        if rejected is None:
            return newest.rejected == 0
        origin = Lineage.from_metadata(rejected.metadata)
        rows = pl.read_parquet(io.BytesIO(rejected.content)).height
        return origin is not None and origin.bronze_etag == etag and rows == newest.rejected


class Function:
    """An execution environment: a handler with a client of its own, which may die at each of its requests."""

    def __init__(self, world: World) -> None:
        self.may_die = True
        client = connect(world.server)
        client.meta.events.register("before-send.s3", lambda **_: world.before_request(self))
        client.meta.events.register("response-received.s3", lambda **_: world.maybe_die(self))
        self.handler = world.handler(client)


def connect(server: S3Server, name: str = "") -> Any:
    """A client whose retries take no time: in the place of the SDK's own, which wait. ``name`` tells it from others."""

    def sign(request: Any, **_: Any) -> None:
        request.headers["x-client"] = name

    def retry(attempts: int, response: Any, **_: Any) -> float | None:
        failed = response is None or response[0].status_code >= 500
        return 0.0 if failed and attempts < ATTEMPTS else None

    client = server.client(
        retries={"mode": "standard", "total_max_attempts": 1},
        read_timeout=READ_TIMEOUT,
        max_pool_connections=32,
    )
    client.meta.events.register("needs-retry.s3", retry)
    client.meta.events.register("before-send.s3", sign)
    return client


def _has_rows(parquet: bytes, newest: File) -> bool:
    rows = pl.read_parquet(io.BytesIO(parquet)).select("n", "text", "twice").rows()
    said = pl.read_parquet_metadata(io.BytesIO(parquet)).get(PARQUET_ENTRY, "{}")
    return rows == newest.good and json.loads(said).get("rows-written") == str(len(rows))


def table(results: Sequence[Result]) -> str:
    """Events and results, a line for each seed and one for all; then the faults by their kind."""
    numbers = ["seed", "files", "faults", "deaths", "requests", "receives", "right"]
    kinds = ["lost", "false", "dead", "wrongly_quarantined", "unacknowledged", "unexplained"]
    lines = [[str(result.seed), *map(str, _row(result))] for result in results]
    lines.append(["all", *map(str, map(sum, zip(*map(_row, results), strict=True)))])
    faults = sum((result.faults for result in results), Counter[str]())
    rows = [numbers + [kind.replace("_", " ") for kind in kinds], ["---:"] * (len(numbers) + len(kinds)), *lines]
    counted = ["| fault | times |", "| --- | ---: |", *(f"| {kind} | {n} |" for kind, n in faults.most_common())]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", *counted])


def _row(result: Result) -> list[int]:
    deaths = result.faults["death"]
    counted = [result.files, result.faults.total() - deaths, deaths, result.requests, result.receives]
    kinds = (result.right, result.lost, result.false, result.dead, result.wrongly_quarantined)
    return counted + [len(kind) for kind in (*kinds, result.unacknowledged, result.unexplained)]


def _kind(fault: Any) -> str:
    code = getattr(fault, "code", "")
    kind = code or type(fault).__name__.lower()
    return f"{kind} (done)" if getattr(fault, "applied", False) else kind
