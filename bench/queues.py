"""Messages per second of the engine's queue, empty and deep, beside other queues that lie in SQLite.

    python -m bench.queues [--depths 0 1000000] [--messages 5000] [--runs 3] [--without PEER ...] [--short]

Messages of 1 KB are sent, received and deleted: one at a time, each call a transaction of its own, and ours also in
batches of ten, as SQS has them and as a function gets them; the peers have none. "All three" is the way of a message
through all of them. The file is new for each run and filled up to its depth first, in large transactions; what these
left in the write-ahead log is moved into the file before the clock starts, so that it is not charged to the first
messages. (The name is plural, because a ``queue.py`` beside other scripts would stand before Python's own.)

``--short`` takes depths of 0 and 20,000, 2,000 messages and one run.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.markdown import number, ratio, table
from bench.measure import Contender, Measured, in_turns, machine, run
from bench.peers import PEERS, ROOT
from silversmith.local import stack as stacks
from silversmith.local.journal import Journal
from silversmith.local.services import ServiceMessage
from silversmith.local.services.queue import QueueService

JOBS = ROOT / "bench/jobs/queues.py"
SETTINGS = stacks.QueueResource("bench", "arn:aws:sqs:us-east-1:000000000000:bench", visibility_timeout=1800)
NOW = 1_767_355_200.0
GOAL = "goal: 20,000 messages/s through all three in batches, and the same at any depth"
#: Seconds for one run of a peer: at a depth of a million some would take hours.
PATIENCE = 300
OPERATIONS = ("send", "receive", "delete")


def post(index: int) -> ServiceMessage:
    """A message with a body of 1 KB."""
    return ServiceMessage("", SETTINGS.arn, "", f"orders/{index}.csv", "1", b"x" * 1000, NOW)


@contextlib.contextmanager
def filled(depth: int) -> Iterator[tuple[Journal, QueueService]]:
    """A journal with so many messages in the queue."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        journal = Journal(Path(name) / "journal.db")
        try:
            queue = QueueService(journal, SETTINGS)
            for start in range(0, depth, 5000):
                with journal.transaction():
                    queue.accept([post(index) for index in range(start, min(start + 5000, depth))], NOW)
            with contextlib.closing(sqlite3.connect(Path(name) / "journal.db")) as database:
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")
            yield journal, queue
        finally:
            journal.close()


def ours(depth: int, messages: int, size: int) -> Measured:
    """The engine's queue, so many messages in one call."""
    with filled(depth) as (journal, queue):
        seconds = {}
        posts = [post(depth + index) for index in range(messages)]
        began = time.perf_counter()
        for start in range(0, messages, size):
            with journal.transaction():
                queue.accept(posts[start : start + size], NOW)
        seconds["send"] = time.perf_counter() - began
        began = time.perf_counter()
        batches = [queue.receive(size, NOW + 1) for _ in range(0, messages, size)]
        seconds["receive"] = time.perf_counter() - began
        receipts = [[message.receipt for message in batch] for batch in batches]
        assert sum(map(len, receipts)) >= messages, "a message is missing"
        began = time.perf_counter()
        for some in receipts:
            with journal.transaction():
                queue.delete(some)
        seconds["delete"] = time.perf_counter() - began
    whole = sum(seconds.values())
    return Measured(whole, whole, said={name: messages / taken for name, taken in seconds.items()})


def job(name: str, depth: int, messages: int) -> Measured:
    """One of bench/jobs/queues.py."""
    PEERS[name].install()
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        command: list[str | Path] = [PEERS[name].python, JOBS, name, folder, str(depth), str(messages)]
        return run(command, cwd=Path(folder), environment=PEERS[name].variables(), timeout=PATIENCE)


def contenders(depth: int, options: argparse.Namespace) -> list[Contender]:
    """Ours first."""
    ours_only = [
        Contender("Silversmith, batches of 10", partial(ours, depth, options.messages, 10)),
        Contender("Silversmith, single", partial(ours, depth, options.messages, 1)),
    ]
    names = [name for name in ("litequeue", "persist-queue", "huey") if name not in options.without]
    return ours_only + [Contender(PEERS[name].label, partial(job, name, depth, options.messages)) for name in names]


def rates(contender: Contender) -> list[float]:
    """Medians of messages per second; last the whole way. An operation that there is not, is 0."""
    medians = [statistics.median(run.said[name] for run in contender.runs) for name in OPERATIONS]
    return [*medians, 1 / sum(1 / rate for rate in medians if rate)]


def show(depths: Sequence[int], contenders_by_depth: Sequence[Sequence[Contender]]) -> str:
    """For each side a row for each depth. The last column compares the whole way with that of the first depth."""
    rows = []
    for sides in zip(*contenders_by_depth, strict=True):
        shallow = 0.0
        for depth, contender in zip(depths, sides, strict=True):
            if contender.missing:
                rows.append([contender.label, contender.missing])
                continue
            cells = rates(contender)
            shallow = shallow or cells[-1]
            numbers = [number(cell) if cell else "-" for cell in cells]
            rows.append([contender.label, f"{depth:,}", *numbers, ratio(cells[-1] / shallow)])
    return table(["messages/s", "depth", *OPERATIONS, "all three", "of the first depth"], rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[0, 1_000_000])
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    choice = ["litequeue", "persist-queue", "huey"]
    parser.add_argument("--without", nargs="*", default=[], choices=choice, metavar="PEER", help=", ".join(choice))
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args(arguments)
    if options.short:
        options.depths, options.messages, options.runs = [0, 20_000], 2000, 1
    return options


def main() -> None:
    """All depths and sides in turns, then the table."""
    options = parse()
    (ROOT / "build").mkdir(exist_ok=True)
    contenders_by_depth = [contenders(depth, options) for depth in options.depths]
    in_turns([contender for sides in contenders_by_depth for contender in sides], options.runs)
    print(f"Queues in SQLite, {options.messages:,} messages of 1 KB, medians of {options.runs} runs; {GOAL}")
    print(f"{machine()}\n\n{show(options.depths, contenders_by_depth)}")


if __name__ == "__main__":
    main()
