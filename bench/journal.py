"""Time that the engine's journal takes for one message, however much it holds already.

    python -m bench.journal [--stored 0 10000 100000] [--large] [--rounds 7]

For each size a journal is filled: so many objects, as many messages in one queue, as many outcomes, and five hops for
each in the trace. Then the same work is timed on all of them in turns, so that a noisy machine disturbs all alike; the
table shows medians. Every operation is a transaction of its own, as it is when files land one by one; receive and
delete take ten messages at once, as a function does, and are shown for each message.

Below the line: what is done once in a while, and may take longer the more there is.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from silversmith.local import stack as stacks
from silversmith.local.iam import Policy
from silversmith.local.journal import Compaction, Journal
from silversmith.local.services import ServiceMessage, hop_row, write
from silversmith.local.services.bucket import BucketService, Landed
from silversmith.local.services.queue import QueueService, expire

NOW = 1_767_355_200.0
BUCKET = stacks.Bucket("bronze", "arn:aws:s3:::bronze", eventbridge=True, versioned=True, policy=Policy.parse(""))
QUEUE = stacks.QueueResource("bench", "arn:aws:sqs:us-east-1:000000000000:bench_rows", visibility_timeout=1800)
ROOMS = ("bucket", "rule", "topic", "queue", "function")

#: Of each operation, so many are timed together.
TIMES = 100


class Filled:
    """A journal with so many files' worth of everything in it."""

    def __init__(self, path: Path, stored: int) -> None:
        self.path = path
        self.stored = stored
        self.journal = Journal(path)
        self.queue = QueueService(self.journal, QUEUE)
        self.bucket = BucketService(
            self.journal, BUCKET, bus="arn:bus", account="0" * 12, region="us-east-1",
            clock=lambda: NOW,
        )  # fmt: skip
        self.compaction = Compaction(self.journal, bucket="bronze", expire=expire)
        self._draw = random.Random(stored)
        self._held: list[str] = []
        self._now = NOW
        for start in range(0, stored, 5000):
            self._fill(range(start, min(start + 5000, stored)))

    def _fill(self, numbers: Sequence[int]) -> None:
        with self.journal.transaction():
            self.queue.accept([_post(number) for number in numbers], NOW)
            self.journal.change_many("put_object", [_object(number) for number in numbers])
            self.journal.change_many("put_outcome", [_outcome(number) for number in numbers])
            for room in ROOMS[:3] + ROOMS[4:]:  # the queue has noted its own
                rows = [hop_row(_key(n), _version(n), at=NOW, room=room, name="bench", what="done") for n in numbers]
                write(self.journal, hops=rows)

    def send(self) -> None:
        for _ in range(TIMES):
            with self.journal.transaction():
                self.queue.accept([_post(self._draw.randrange(10**9))], NOW)

    def receive(self) -> None:
        for _ in range(TIMES // 10):
            self._held += [message.receipt for message in self.queue.receive(10, NOW + 1)]

    def delete(self) -> None:
        for start in range(0, len(self._held), 10):
            with self.journal.transaction():
                self.queue.delete(self._held[start : start + 10])
        self._held.clear()

    def put(self) -> None:
        for number in range(TIMES):
            file = _object(number)
            self.bucket.notice([Landed(str(file["key"]), f"{self._draw.random()}", str(file["etag"]), 1000)])

    def trace(self) -> None:
        for _ in range(TIMES):
            self.journal.rows("recent_hops", key=_key(self._draw.randrange(self.stored or 1)), most=2001)

    def depth(self) -> None:
        for _ in range(TIMES):
            self.queue.depth(NOW)

    def compact(self) -> None:
        self._now += 1
        self.compaction.step(self._now)

    def check(self) -> None:
        assert self.journal.damage(thorough=False) == ""

    def mistrust(self) -> None:
        assert self.journal.damage() == ""

    def release(self) -> None:
        with self.journal.transaction():
            self.queue.release_all(NOW)


def _key(number: int) -> str:
    return f"orders/2026/{number % 365:03}/file-{number:09}.csv"


def _version(number: int) -> str:
    return f"{number:032}"


def _post(number: int) -> ServiceMessage:
    body = b'{"detail": {"object": {"key": "%s"}}, "filler": "%s"}' % (_key(number).encode(), b"x" * 600)
    return ServiceMessage("arn:topic", QUEUE.arn, "arn:subscription", _key(number), _version(number), body, NOW)


def _object(number: int) -> dict[str, object]:
    known = {"identity": f"{number}-1-2-3", "etag": f"{number:032x}", "version": _version(number)}
    return {"bucket": "bronze", "key": _key(number), **known, "sequencer": f"{number:018X}", "size": 1000}


def _outcome(number: int) -> dict[str, object]:
    what = {"verdict": "committed", "at": NOW, "detail": '{"rows_written": 100}'}
    return {"transform": "rows", "key": _key(number), "version": _version(number), **what}


def timed(work: Callable[[], None]) -> float:
    """Seconds of this process on a CPU, in SQLite and in the kernel: what else the machine does counts less so."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(journals: Sequence[Filled], name: str, rounds: int, seconds: dict[str, list[list[float]]]) -> None:
    """Time one operation on every journal in turns; its seconds join those of earlier rounds."""
    columns = seconds.setdefault(name, [[] for _ in journals])
    for _ in range(rounds):
        for column, journal in zip(columns, journals, strict=True):
            column.append(timed(getattr(journal, name)))


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", type=int, nargs="+", default=[0, 10_000, 100_000])
    parser.add_argument("--large", action="store_true", help="a million as well; takes minutes and 3 GB")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    sizes = [*options.stored, *([1_000_000] if options.large else [])]
    seconds: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        journals = [Filled(Path(name) / f"{size}.db", size) for size in sizes]
        for _ in range(options.rounds):
            for operation in ("send", "receive", "delete", "put", "trace", "depth"):
                measure(journals, operation, 1, seconds)
        for _ in range(3):
            for operation in ("compact", "release", "check", "mistrust"):
                measure(journals, operation, 1, seconds)
        megabytes = [sum(path.stat().st_size for path in Path(name).glob(f"{size}.db*")) / 1e6 for size in sizes]
        for journal in journals:
            journal.journal.close()
    print(f"Python {platform.python_version()}, {platform.machine()}; CPU time, medians of {options.rounds} rounds")
    print(f"{'':24}" + "".join(f"{size:>12,}" for size in sizes) + "   files stored")
    for operation in ("send", "receive", "delete", "put", "trace", "depth"):
        row = [statistics.median(column) / TIMES * 1e6 for column in seconds[operation]]
        print(f"{operation:9}{'µs each':15}" + "".join(f"{value:12.0f}" for value in row))
    print("-" * (24 + 12 * len(sizes)))
    for operation, what in (
        ("compact", "ms a step"),
        ("release", "ms a start"),
        ("check", "ms a start"),
        ("mistrust", "ms after a kill"),
    ):
        row = [statistics.median(column) * 1e3 for column in seconds[operation]]
        print(f"{operation:9}{what:15}" + "".join(f"{value:12.1f}" for value in row))
    print(f"{'size':9}{'MB':15}" + "".join(f"{value:12.1f}" for value in megabytes))


if __name__ == "__main__":
    main()
