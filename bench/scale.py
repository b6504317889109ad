"""The cost of a round of reconciliation over 1, 10 and 100 million files: requests, dollars, minutes, memory.

    python -m bench.scale [--heads --walk 2e4] [--prove] [--chain] [--files 1e6 1e7 1e8] [--walk 2e6] [--latency 150]

The buckets exist only as a generator behind S3's HTTP answers. Over them run the real client (boto3's, with our
options), the real stores and the real reconciler, each size in a process of its own. One file in 100,000 is wrong: half
of these have no silver, half have silver of older bytes. The clock is simulated, from what this run measures:

    seconds = waits in the invocation's own thread
              + max(CPU / clock / min(memory / 1769, 1), waits in its pool's threads / threads)

because Python computes in one thread at a time. Of a round that is split into branches each has a clock of its own, and
the round takes as long as the longest of them, after its first invocation. Lambda starts each in half a second
(``--start``). CPU is that of the process, without what the generator takes to make
answers; what a socket and TLS take is in none of it. ``--latency`` is the milliseconds that S3 takes for each request:
AWS says "roughly 100-200 milliseconds" for small objects,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html; the default is between them.
``--walk`` is how many files are really walked: a larger bucket is computed from a whole round over so many, or, of a
round that is split, from the first invocation and as many whole branches as cover so many, one at least; the column
"walked" says it. 0: all are. Memory is the peak of the process. Prices are those of docs/deploy.md.

The lineage is generated, too: its data files by another process, read by the real plan from a folder. Each costs 4 GETs
and their waits wherever rows of it are read. ``--heads`` is a round without a lineage, which heads each silver object.
``--prove`` lists silver, too, as one round a week does.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

import boto3
import polars as pl
from botocore.awsrequest import AWSResponse

from bench.cost import GB_SECOND, GET, INVOCATION, PUT
from bench.markdown import number as digits
from bench.markdown import table
from bench.measure import machine, progress
from bench.peers import ROOT
from silversmith import Pipeline
from silversmith.events import unwrap
from silversmith.lineage import Lineage, silver_key
from silversmith.operations.estimate import ONE_CPU
from silversmith.reconcile.difference import KeyRange
from silversmith.reconcile.handler import BRANCH_ROWS, RESERVE, WORKERS, Reconciler
from silversmith.reconcile.lease import Lease, Phase, branch_key
from silversmith.reconcile.rows import DataFile, LineageRows
from silversmith.stores import Lake
from silversmith.stores.s3 import S3Store, aws_client
from silversmith.tables.spec import ETAG, FILE
from silversmith.template.reconciler import MEMORY, TIMEOUT

LEASE = "_reconcile/scale.json"

#: One file in so many is wrong: the first of them is this one.
WRONG_EVERY, FIRST_WRONG = 100_000, 2_777

#: When the simulated round begins, and when all files landed.
BEGUN = datetime(2026, 11, 30, 3, tzinfo=UTC)
LANDED = BEGUN - timedelta(days=2)

#: Files in one folder, and in one data file of the lineage.
IN_FOLDER, IN_DATA_FILE = 10_000, 500_000

#: ETags are multiples of this.
SPREAD = 90_000_000_019

#: Requests to S3 for each data file of which rows are read: its size, its footer, and its columns in two pieces.
READS = 4

#: Rows in a row group of the lineage, as silversmith.tables.delta writes it.
ROW_GROUP = 16_384


def pipeline() -> Pipeline:
    definition = Pipeline("scale")

    @definition.transform("events/*.csv")
    def events(rows: Any) -> Any:
        return rows

    return definition


class Clock:
    """The simulated time of one invocation after the other, from the CPU that they used and the waits that they were
    given.

    ``memory`` in MB decides the share of a processor; ``speed`` is Lambda's processor's, this machine's being 1.
    ``earlier``: the seconds that went by before it.
    """

    def __init__(self, memory: int, speed: float, threads: int) -> None:
        self._share = speed * min(memory / ONE_CPU, 1.0)
        self._threads = threads
        self._lock = threading.Lock()
        self.restart(0.0)

    def restart(self, earlier: float) -> None:
        """Another chain of invocations begins, when so many seconds have gone by."""
        self._earlier = earlier
        self._own, self._pool, self._generating = 0.0, 0.0, 0.0
        self._began = time.process_time()

    @property
    def cpu(self) -> float:
        """Seconds of CPU so far, without the generator's."""
        return time.process_time() - self._began - self._generating

    def seconds(self) -> float:
        """Since the round began."""
        return self._earlier + self._own + max(self.cpu / self._share, self._pool / self._threads)

    def waited(self, seconds: float, generating: float) -> None:
        """This thread waited for an answer, whose making took CPU that is not part of it."""
        with self._lock:
            self._generating += generating
            if threading.current_thread() is threading.main_thread():
                self._own += seconds
            else:
                self._pool += seconds


@dataclass(frozen=True)
class Files:
    """The files that there are, by their number, in the order of their keys."""

    count: int

    def key(self, number: int) -> str:
        return f"events/{number // IN_FOLDER:05d}/{number:09d}.csv"

    def after(self, key: str) -> int:
        """The number of the first file whose key comes after this one."""
        return bisect_right(range(self.count), key, key=self.key)

    @staticmethod
    def number(key: str) -> int:
        """Of the file with this key."""
        return int(key.rpartition("/")[2].partition(".")[0])

    @staticmethod
    def etag(number: int, *, old: bool = False) -> str:
        return f"{number * SPREAD + old:032d}"

    def wrong(self) -> range:
        """The files that are missing in silver, or that silver has of older bytes, in turn."""
        return range(FIRST_WRONG, self.count, WRONG_EVERY)

    def has_silver(self, number: int) -> bool:
        return number not in self.wrong()[::2]

    def is_stale(self, number: int) -> bool:
        return number in self.wrong()[1::2]


class Bucket:
    """A bucket of generated files: bronze itself, or what silver has of it. ``silver`` None: of bronze."""

    def __init__(self, files: Files, *, lineage: Lineage | None = None) -> None:
        self._files = files
        self._lineage = lineage

    def name(self, number: int) -> str:
        key = self._files.key(number)
        return key if self._lineage is None else silver_key("events", key)

    def find(self, key: str) -> int | None:
        """The number of the file of this object; None: there is no such object."""
        try:
            number = Files.number(key)
        except ValueError:
            return None
        is_there = 0 <= number < self._files.count and self.name(number) == key
        return number if is_there and self._has(number) else None

    def metadata(self, number: int) -> Mapping[str, str]:
        if self._lineage is None:
            return {}
        etag = self._files.etag(number, old=self._files.is_stale(number))
        return {**self._lineage.to_metadata(), "bronze-key": self._files.key(number), "bronze-etag": etag}

    def page(self, prefix: str, after: str, most: int) -> tuple[list[int], bool]:
        """The files of the next objects, and whether there are more."""
        first = bisect_right(range(self._files.count), max(after, prefix), key=self.name)
        numbers: list[int] = []
        for number in range(first, self._files.count):
            if not self.name(number).startswith(prefix):
                break
            if self._has(number):
                if len(numbers) == most:
                    return numbers, True
                numbers.append(number)
        return numbers, False

    def _has(self, number: int) -> bool:
        return self._lineage is None or self._files.has_silver(number)


class GeneratedS3:
    """Answers the requests of a boto3 client, by its event ``before-send``: of generated buckets, and of small objects
    that were put.

    Args:
        buckets: by their names; any other one begins empty.
        clock: told of each wait.
        latency: the seconds that each request takes.
    """

    def __init__(self, buckets: Mapping[str, Bucket], clock: Clock, latency: float) -> None:
        self.requests: Counter[str] = Counter()
        self._buckets = buckets
        self._clock = clock
        self._latency = latency
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def client(self) -> Any:
        """The client with our options, whose requests come here."""
        session = boto3.session.Session("test", "test", region_name="us-east-1")
        client = aws_client("s3", session, endpoint_url="http://s3.invalid")
        client.meta.events.register("before-send.s3", self._answer)
        return client

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        began = time.thread_time()
        url = urlsplit(request.url)
        bucket, key = unquote(url.path).lstrip("/").partition("/")[::2]
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        kind = "LIST" if "list-type" in query else request.method
        if kind == "LIST":
            answer = self._page(bucket, query)
        elif kind == "PUT":
            answer = self._put(f"{bucket}/{key}", request)
        else:
            answer = self._get(bucket, key)
        status, headers, body = answer
        response = AWSResponse(request.url, status, headers, _Raw(b"" if kind == "HEAD" else body))
        self.ask(kind, 1, time.thread_time() - began)
        return response

    def ask(self, kind: str, times: int, generating: float = 0.0) -> None:
        """Count requests, one after the other, and wait for them. ``generating``: the CPU that their answers took."""
        with self._lock:
            self.requests[kind] += times
        self._clock.waited(times * self._latency, generating)

    def _page(self, bucket: str, query: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        after = query.get("continuation-token", query.get("start-after", ""))
        generated = self._buckets.get(bucket)
        most = int(query.get("max-keys", 1000))
        assert generated is not None, f"{bucket} is not listed"
        numbers, is_truncated = generated.page(query.get("prefix", ""), after, most)
        items = "".join(_item(generated, file) for file in numbers)
        token = f"<NextContinuationToken>{generated.name(numbers[-1])}</NextContinuationToken>" if is_truncated else ""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{quote(query.get('prefix', ''))}</Prefix><EncodingType>url</EncodingType>"
            f"<KeyCount>{len(numbers)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
        ).encode()
        return 200, {"Content-Type": "application/xml", "Content-Length": str(len(body))}, body

    def _get(self, bucket: str, key: str) -> tuple[int, dict[str, str], bytes]:
        generated = self._buckets.get(bucket)
        file = generated.find(key) if generated else None
        stored = self._objects.get(f"{bucket}/{key}")
        if generated is not None and file is not None:
            metadata = {f"x-amz-meta-{name}": value for name, value in generated.metadata(file).items()}
            return 200, _headers(Files.etag(file), 4096) | metadata, b"x" * 4096
        if stored is not None:
            return 200, _headers(hashlib.md5(stored, usedforsecurity=False).hexdigest(), len(stored)), stored
        missing = f"<Error><Code>NoSuchKey</Code><Message>none</Message><Key>{escape(key)}</Key></Error>".encode()
        return 404, {"Content-Type": "application/xml", "Content-Length": str(len(missing))}, missing

    def _put(self, place: str, request: Any) -> tuple[int, dict[str, str], bytes]:
        body = request.body if isinstance(request.body, bytes) else request.body.read()
        self._objects[place] = body
        return 200, _headers(hashlib.md5(body, usedforsecurity=False).hexdigest(), 0), b""


def _item(bucket: Bucket, file: int) -> str:
    return (
        f"<Contents><Key>{quote(bucket.name(file))}</Key><LastModified>{LANDED:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
        f"<ETag>&quot;{Files.etag(file)}&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>"
        "<ChecksumType>FULL_OBJECT</ChecksumType><Size>4096</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _headers(etag: str, size: int) -> dict[str, str]:
    modified = f"{LANDED:%a, %d %b %Y %H:%M:%S} GMT"
    return {"ETag": f'"{etag}"', "Content-Length": str(size), "Last-Modified": modified}


class _Raw(io.BytesIO):
    """A body as urllib3 hands it out."""

    def stream(self, amt: int = 2**16, **_: Any) -> Iterator[bytes]:
        while chunk := self.read(amt):
            yield chunk


class GeneratedRows(LineageRows):
    """The lineage, of which each data file is made when it is first read, by another process: that takes no CPU here.

    Args:
        files: the files that there are.
        fingerprint: of the code that made silver of them.
        s3: told of each request.
        folder: for data files.
    """

    def __init__(self, files: Files, fingerprint: str, s3: GeneratedS3, folder: Path) -> None:  # reads no log
        self._files, self._fingerprint, self._folder, self._s3 = files, fingerprint, folder, s3
        self._maker = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self._lock = threading.Lock()
        starts = range(0, files.count, IN_DATA_FILE)
        ends = (min(start + IN_DATA_FILE, files.count) for start in starts)
        self.files = [
            DataFile(str(start), "events", "silver", end - start, files.key(start), files.key(end - 1))
            for start, end in zip(starts, ends, strict=True)
        ]

    def _scan(self, files: Iterable[DataFile]) -> pl.LazyFrame:
        paths = [self._made(file) for file in files]
        return pl.scan_parquet(paths, hive_partitioning=False, glob=False)

    def _made(self, file: DataFile) -> Path:
        path = self._folder / f"{file.path}.parquet"
        with self._lock:
            if not path.exists():
                start = int(file.path)
                self._maker.submit(make_rows, self._files, self._fingerprint, start, start + file.rows, path).result()
        self._s3.ask("GET", READS)
        return path

    def close(self) -> None:
        self._maker.shutdown()


def make_rows(files: Files, fingerprint: str, start: int, end: int, path: Path) -> None:
    """Write the rows of some files as the table has them."""
    number, wrong = pl.col("number"), files.wrong()
    folder, name = (number // IN_FOLDER).cast(pl.String).str.zfill(5), number.cast(pl.String).str.zfill(9)
    etag = (number * SPREAD).cast(pl.String).str.zfill(32)
    old = (number * SPREAD + number.is_in(list(wrong[1::2])).cast(pl.Int64)).cast(pl.String).str.zfill(32)
    texts = {"fingerprint": fingerprint, "lookups": "", "owner": "scale"}
    pl.DataFrame({"number": range(start, end)}, schema={"number": pl.Int64}).filter(
        ~number.is_in(list(wrong[::2]))
    ).select(
        pl.concat_str(pl.lit("events/"), folder, pl.lit("/"), name, pl.lit(".csv")).alias(FILE),
        etag.alias(ETAG),
        old.alias("bronze_etag"),
        *(pl.lit(text).alias(column) for column, text in texts.items()),
        pl.lit(0, pl.Int64).alias("schema_version"),
    ).write_parquet(path.with_suffix(".new"), compression="zstd", row_group_size=ROW_GROUP)
    path.with_suffix(".new").rename(path)


@dataclass
class SentKeys:
    """A queue that remembers the keys that it was sent."""

    keys: set[str] = field(default_factory=set)
    requests: int = 0

    def waiting(self) -> int:
        return 0

    def send(self, bodies: Sequence[str]) -> None:
        self.requests += 1
        self.keys.update(unwrap(body)[0].key for body in bodies)


@dataclass(frozen=True)
class Round:
    """The measurements of a round over ``counted`` files, of which ``walked`` were really walked, and what follows for
    so many ``files``."""

    files: int
    counted: int
    walked: int
    wrong: int
    differences: int
    seconds: float
    billed: float
    cpu: float
    invocations: int
    branches: int
    requests: Mapping[str, int]
    peak: int
    memory: int

    @cached_property
    def times(self) -> float:
        """How many times as much the whole bucket is."""
        return self.files / self.counted

    @property
    def dollars(self) -> float:
        """Of requests to S3, and of Lambda."""
        requests = (self.requests.get("LIST", 0) + self.requests.get("PUT", 0)) * PUT
        requests += (self.requests.get("HEAD", 0) + self.requests.get("GET", 0)) * GET
        duration = self.billed * self.memory / 1024 * GB_SECOND
        return (requests + duration) * self.times + self.whole_invocations * INVOCATION

    @property
    def whole_invocations(self) -> int:
        """Of the whole round: each has Lambda's longest time, without its reserve."""
        usable = TIMEOUT - RESERVE / 1000
        return self.invocations if self.counted == self.files else math.ceil(self.seconds * self.times / usable)

    def row(self) -> list[str]:
        requests = self.requests
        return [
            f"{self.files:,}",
            f"{self.walked:,}",
            f"{self.differences} of {self.wrong}",
            digits(requests.get("LIST", 0) * self.times),
            digits((requests.get("HEAD", 0) + requests.get("GET", 0)) * self.times),
            digits(self.cpu / self.walked * 1e6),
            digits(self.seconds * self.times / 60),
            f"{self.whole_invocations:,} in {max(self.branches, 1)}",
            f"{self.dollars:.2f}",
            f"{self.peak / 2**20:,.0f}",
        ]


class Invocation:
    """An invocation's context: its time is up by the simulated clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends = clock.seconds() + TIMEOUT

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends - self._clock.seconds()) * 1000)


def walk(
    files: int,
    *,
    latency: float,
    memory: int,
    speed: float,
    heads: bool = False,
    prove: bool = False,
    walked_files: float = 0,
    branch_rows: int = BRANCH_ROWS,
    start: float = 0.5,
) -> Round:
    """A round over so many files, in this process. ``heads``: without a lineage.
    ``walked_files``: of a round that is split, as many branches are walked as cover so many; 0: all. ``branch_rows``:
    as the reconciler has it. ``start``: the seconds from an asynchronous invocation to its beginning.
    """
    clock = Clock(memory, speed, WORKERS)
    there = Files(files)
    definition = pipeline()
    fingerprint = definition.transforms[0].fingerprint
    lineage = Lineage(
        "", "", "", 4096, "", "events", fingerprint, 40, 40, 0, LANDED.isoformat(), 1, "csv", owner="scale"
    )
    s3 = GeneratedS3({"bronze": Bucket(there), "silver": Bucket(there, lineage=lineage)}, clock, latency)
    client = s3.client()
    lines: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    queue = SentKeys()
    (ROOT / "build").mkdir(exist_ok=True)
    folder = tempfile.TemporaryDirectory(dir=ROOT / "build")
    scratch = Path(folder.name)
    rows = None if heads else GeneratedRows(there, fingerprint, s3, scratch)
    lake = Lake(*(S3Store(name, client=client, scratch=scratch) for name in ("bronze", "silver", "quarantine")))
    if not prove:
        mark = {
            "pattern": definition.transforms[0].pattern.text,
            "until": LANDED.isoformat(),
            "proven": LANDED.isoformat(),
        }
        done = Lease("yesterday", 0, Phase.DONE, "", LANDED, memory={"events": mark})
        lake.quarantine.put(LEASE, done.to_json())
    reconciler = Reconciler(
        definition,
        bucket="bronze",
        lake=lake,
        lease=LEASE,
        queue=lambda _: queue,
        again=events.append,
        now=lambda: BEGUN + timedelta(seconds=clock.seconds()),
        log=lines.append,
        rows=lambda: rows,
        branch_rows=branch_rows,
    )

    def chain(event: dict[str, Any]) -> int:
        """An invocation, and those that go on from it; those of branches are left. Returns how many."""
        events.append(event)
        invocations = 0
        while events and events[-1].get("branch") == event.get("branch"):
            invocations += 1
            reconciler(events.pop(), Invocation(clock))
        return invocations

    invocations = chain({"queues": {"events": "events"}})
    seconds = billed = begun = clock.seconds()
    cpu, requests = clock.cpu, Counter(s3.requests)
    branches, wrong = [*events], {there.key(file) for file in there.wrong()}
    events.clear()
    walked = branches[: max(1, round((walked_files or files) * len(branches) / files))]
    scale = len(branches) / len(walked) if walked else 1.0
    if walked:
        ranges = [keys for branch in range(len(walked)) for keys in _ranges(lake, branch)]
        wrong = {key for key in wrong if any(key > keys.after and key <= (keys.until or key) for keys in ranges)}
    for event in walked:  # one after the other, as if at once
        clock.restart(begun + start)
        invocations, cpu = invocations + round(chain(event) * scale), cpu + clock.cpu
        seconds = max(seconds, clock.seconds())
        billed += (clock.seconds() - begun - start) * scale
    ended = [line for line in lines if "stopped" not in line and ("branch" in line) == bool(walked)]
    checked = sum(line.get("checked", 0) for line in ended)
    if len(walked) == len(branches) and checked != files:
        raise SystemExit(f"not all of {files:,} files were compared: {lines[-1]}")
    if rows is not None:
        rows.close()
    folder.cleanup()
    rest = Counter(s3.requests) - requests
    return Round(
        files,
        files,
        checked,
        len(wrong),
        len(queue.keys & wrong),
        seconds,
        billed,
        cpu,
        invocations,
        len(branches),
        {kind: round(requests[kind] + rest[kind] * scale) for kind in {**requests, **rest}},
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        memory,
    )


def _ranges(lake: Lake, branch: int) -> list[KeyRange]:
    """The ranges of keys that a branch is to compare."""
    lease = Lease.from_json(lake.quarantine.read(branch_key(LEASE, branch)) or b"")
    assert lease is not None
    return [KeyRange(*keys) for cursor in lease.progress["cursors"] for keys in cursor["ranges"]]


def measured(files: int, options: argparse.Namespace) -> Round:
    """A round in a process of its own, whose memory is measured."""
    is_split = not options.chain and not options.heads and files > BRANCH_ROWS
    walked = files if is_split else min(files, int(options.walk) or files)
    command = [sys.executable, "-m", "bench.scale", "--one", str(walked)]
    command += ["--latency", str(options.latency), "--memory", str(options.memory), "--clock", str(options.clock)]
    command += ["--walk", str(options.walk), "--start", str(options.start)] + ["--chain"] * options.chain
    command += ["--heads"] * options.heads + ["--prove"] * options.prove
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return replace(Round(**json.loads(done.stdout)), files=files)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=float, nargs="+", default=[1e6, 1e7, 1e8], help="in bronze")
    parser.add_argument("--walk", type=float, default=2e6, help="files really walked; 0: all")
    parser.add_argument("--latency", type=float, default=150, metavar="MS", help="of a request to S3")
    parser.add_argument("--memory", type=int, default=MEMORY, metavar="MB", help="of the function")
    parser.add_argument("--clock", type=float, default=1.0, help="speed of Lambda's processor; this one's is 1")
    parser.add_argument("--heads", action="store_true", help="without a lineage: each silver object is headed")
    parser.add_argument("--prove", action="store_true", help="list silver, too, as one round a week does")
    parser.add_argument("--chain", action="store_true", help="do not split the round into branches")
    parser.add_argument("--start", type=float, default=0.5, metavar="S", help="until a branch begins")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.short:
        options.files, options.walk = [1e6], 2e5
    return options


def main() -> None:
    options = parse()
    if options.one:
        round_ = walk(
            options.one,
            latency=options.latency / 1000,
            memory=options.memory,
            speed=options.clock,
            heads=options.heads,
            prove=options.prove,
            walked_files=options.walk,
            branch_rows=10**12 if options.chain else BRANCH_ROWS,
            start=options.start,
        )
        print(json.dumps(asdict(round_)))
        return
    rows = []
    for files in options.files:
        progress(f"{int(files):,} files")
        rows.append(measured(int(files), options).row())
    progress("")
    print(
        f"A round of reconciliation; S3 waits {options.latency:g} ms a request, the function has {options.memory:,} MB"
    )
    print(machine() + "\n")
    head = [
        "files",
        "walked",
        "found",
        "LIST",
        "HEAD, GET",
        "CPU us/file",
        "minutes",
        "invocations in branches",
        "$",
        "MiB",
    ]
    print(table(head, rows))


if __name__ == "__main__":
    main()
