"""``estimate``: how long a burst of files takes on AWS, what slows it down, and what it costs. Pure.

Prices are AWS's list prices for US East (N. Virginia), those of docs/deploy.md. The limits are AWS's defaults, each
with its page. Cold starts, faults and other work in the account are left out, and batches are full. docs/scale.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from silversmith.function.batch import MOST_UNDER_WAY
from silversmith.function.handler import IO_THREADS
from silversmith.operations.target import FileTime
from silversmith.operations.text import duration
from silversmith.stores import IN_MEMORY

#: Dollars for a million requests, a GB, a GB-second, or an alarm and month; docs/deploy.md has the sources.
PRICES: Mapping[str, float] = {
    "put": 5.00,
    "get": 0.40,
    "stored": 0.023,
    "event": 1.00,
    "publish": 0.50,
    "filtered": 0.09,
    "message": 0.40,
    "invocation": 0.20,
    "gb_second": 0.0000133334,
    "logged": 0.50,
    "alarm": 0.10,
}

#: Requests a second that S3 takes for each partitioned prefix, at least.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
PUTS_PER_SECOND = 3_500

#: Events a second that EventBridge hands to targets in us-east-1, us-west-2 and eu-west-1; 1,100 in most other regions.
#: What is above is delayed. https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
EVENTS_PER_SECOND = 18_750

#: Invocations at once with which Lambda begins on a queue, how many more it adds a second, and the most.
#: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
FIRST_POLLERS, POLLERS_PER_SECOND, MOST_POLLERS = 5, 300 / 60, 1_000

#: Messages of a queue that may be received and not deleted.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
IN_FLIGHT = 120_000

#: MB of a function's memory for one vCPU. https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
ONE_CPU = 1_769

#: Where nothing was measured: seconds of one vCPU for a small file, and bytes a second, as docs/deploy.md assumes.
CPU_SECONDS, BYTES_PER_SECOND = 0.003, 50e6

#: Seconds of one vCPU that the SDK takes for the requests of a file (``json-s3`` of ``python -m bench.versions``), and
#: how many requests wait for S3.
SDK_SECONDS, REQUESTS = 0.002, 3

#: Seconds that S3 takes for a request on a small object: "roughly 100-200 milliseconds", says AWS's page above.
LATENCY = 0.1

#: Seconds that the tables' function takes for a file; how many of its invocations run at once, and the seconds that a
#: batch waits: as silversmith.template.tables has them.
TABLE_SECONDS, TABLE_CONCURRENCY, TABLE_WINDOW = 0.01, 2, 60

#: Bytes of silver for one of bronze; of a range that is read, and of a part that is written.
SILVER, RANGE, PART = 0.3, 2**23, 2**24


@dataclass(frozen=True)
class Burst:
    """So many files of so many bytes each land, ``rate`` of them a second; ``prefixes`` is how many partitions S3 has
    made of their keys, in bronze and in silver alike."""

    files: int
    size: int
    rate: float
    prefixes: int = 1


@dataclass(frozen=True)
class Functions:
    """What works on the files: a transform's function, its memory in MB, its batch size and how many run at once;
    ``table_memory`` of the tables' function; None: there are no tables."""

    memory: int
    batch_size: int
    concurrency: int
    table_memory: int | None = None


@dataclass(frozen=True)
class Limit:
    """A limit that slows the burst down: whose it is, what it does, and what can be done."""

    service: str
    effect: str
    do: str


@dataclass(frozen=True)
class Estimate:
    """The answer. Times in seconds since the first file landed; ``dollars`` by service, without what is kept."""

    burst: Burst
    functions: Functions
    file_seconds: float
    source: str
    landed: float
    silver: float
    gold: float | None
    invocations_at_once: int
    limits: tuple[Limit, ...]
    dollars: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "total_dollars": sum(self.dollars.values())}


def assumed(size: int) -> FileTime:
    """The time of a file of so many bytes where nothing was measured."""
    return FileTime(CPU_SECONDS + size / BYTES_PER_SECOND, "assumed: 3 ms a file and 50 MB/s on one vCPU", float(size))


def billed_seconds(burst: Burst, functions: Functions, time: FileTime, latency: float = LATENCY) -> float:
    """The seconds of Lambda that a file takes in a full batch.

    Files wait for S3 side by side, but computing is one after the other: as bench/cost.py says.
    """
    seconds = time.seconds * (max(1.0, burst.size / time.size) if time.size else 1.0)
    if time.billed:
        return seconds
    computing = (seconds + SDK_SECONDS) / min(functions.memory / ONE_CPU, 1.0)
    lanes = max(1, min(IO_THREADS, MOST_UNDER_WAY // max(1, burst.size)))
    files, waiting = functions.batch_size, REQUESTS * latency
    whole = max(files * computing + waiting, math.ceil(files / lanes) * (computing + waiting))
    return whole / files


def estimate(
    burst: Burst, functions: Functions, time: FileTime, *, events: int = EVENTS_PER_SECOND, latency: float = LATENCY
) -> Estimate:
    """When silver and gold have a burst of files, by AWS's limits, and what it costs.

    ``events`` is the region's number of events a second, ``latency`` of a request to S3, in seconds.
    """
    seconds = billed_seconds(burst, functions, time, latency)
    puts = PUTS_PER_SECOND * burst.prefixes
    landing = min(burst.rate, puts)
    arriving = min(landing, events)
    most = min(functions.concurrency, MOST_POLLERS, max(1, IN_FLIGHT // functions.batch_size))
    useful = min(float(most), puts * seconds)
    arrived, batch = burst.files / arriving, seconds * functions.batch_size
    drained = _drained(burst.files, useful, seconds)
    silver = max(arrived, drained) + batch
    needed = arriving * seconds
    gold = None
    if functions.table_memory is not None:
        gold = max(silver, burst.files * TABLE_SECONDS / TABLE_CONCURRENCY) + TABLE_WINDOW
    return Estimate(
        burst,
        functions,
        seconds,
        time.source,
        burst.files / landing,
        silver,
        gold,
        math.ceil(min(useful, max(needed, FIRST_POLLERS), _pollers(drained))),
        tuple(_limits(burst, functions, seconds, events, most=most, silver=silver, gold=gold)),
        costs(burst, functions, seconds),
    )


def costs(burst: Burst, functions: Functions, seconds: float) -> dict[str, float]:
    """Dollars by service: ``million_files`` of docs/deploy.md for so many files, and ``million_files_in_tables``.

    A file of more than 8 MiB is read in ranges and written in parts.
    """
    million, batch = burst.files / 1e6, functions.batch_size
    is_large = burst.size > IN_MEMORY
    gets = 2 + is_large * (math.ceil(burst.size / RANGE) + 1)
    puts = 1 + is_large * (math.ceil(burst.size * SILVER / PART) + 1)
    price = PRICES
    dollars = {
        "EventBridge": price["event"],
        "SNS": price["publish"] + price["filtered"],
        "SQS": price["message"] * (1 + 2 / batch),
        "Lambda": price["invocation"] / batch + 1e6 * seconds * functions.memory / 1024 * price["gb_second"],
        "S3": puts * price["put"] + gets * price["get"],
        "CloudWatch": price["logged"] * (0.5 + 0.5 / batch),
    }
    if functions.table_memory is not None:
        dollars["tables"] = (
            price["event"]
            + price["publish"]
            + price["message"] * (1 + 2 / 10)
            + 1e6 * TABLE_SECONDS * functions.table_memory / 1024 * price["gb_second"]
            + 2 * price["get"]
        )
    return {service: million * sum_ for service, sum_ in dollars.items()}


def _pollers(at: float) -> float:
    """How many invocations Lambda allows after so many seconds of backlog."""
    return FIRST_POLLERS + POLLERS_PER_SECOND * at


def _drained(files: int, most: float, seconds: float) -> float:
    """When so many files are done, where so many invocations are of use, and there is always a file that waits."""
    first = min(most, FIRST_POLLERS)
    ramp = max(0.0, (most - FIRST_POLLERS) / POLLERS_PER_SECOND)  # until Lambda has added as many as are of use
    work = files * seconds
    in_ramp = first * ramp + POLLERS_PER_SECOND * ramp**2 / 2
    if work >= in_ramp:
        return ramp + (work - in_ramp) / most
    return (math.sqrt(first**2 + 2 * POLLERS_PER_SECOND * work) - first) / POLLERS_PER_SECOND


def _limits(
    burst: Burst, functions: Functions, seconds: float, events: int, *, most: int, silver: float, gold: float | None
) -> Iterator[Limit]:
    puts = PUTS_PER_SECOND * burst.prefixes
    if burst.rate > puts:
        yield Limit(
            "S3",
            f"takes {puts:,} PUTs a second on {burst.prefixes:,} partitioned prefix{'es' * (burst.prefixes > 1)}, and "
            f"answers the others with 503 Slow Down: the files land in {duration(burst.files / puts)}, not in "
            f"{duration(burst.files / burst.rate)}",
            "spread the keys over prefixes that S3 has split, which it does under load in 30 to 60 minutes",
        )
    landing = min(burst.rate, puts)
    if landing > events:
        yield Limit(
            "EventBridge",
            f"delivers {events:,} events a second, and delays the others: none is lost",
            "ask AWS for a higher quota of invocations",
        )
    needed = min(landing, events) * seconds
    if needed > min(most, _pollers(0)) and silver > burst.files / landing + 2 * seconds * functions.batch_size:
        end, do = "the work is done before that", "land them more slowly"
        if _pollers(max(0.0, silver)) >= most:
            end, do = "that many are reached", "raise maximum_concurrency, or memory where it is below 1,769 MB"
        yield Limit(
            "Lambda",
            f"{math.ceil(needed):,} invocations at once would keep up with the files. It begins with {FIRST_POLLERS} "
            f"and adds {POLLERS_PER_SECOND * 60:.0f} a minute, up to {most:,}; {end}",
            do,
        )
    if puts * seconds < most and needed > puts * seconds:
        yield Limit("S3", f"takes {puts:,} PUTs of silver a second", "as above")
    if gold is not None and gold > silver + 2 * TABLE_WINDOW:
        yield Limit(
            "tables",
            f"{TABLE_CONCURRENCY} invocations at once take {TABLE_CONCURRENCY / TABLE_SECONDS:,.0f} files a second",
            "land fewer, larger files",
        )
