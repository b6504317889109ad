"""What it takes to send a million dead messages back on AWS: requests, seconds, processor time, memory.

    python -m bench.redrive [--messages 1e6] [--walk 2e4] [--latency 20] [--quarantine | --failures]

The queues exist only as generators behind the HTTP answers of SQS and S3. Over them run the real clients (boto3's, with
our options) and the real ``silversmith redrive``; the clock is that of ``bench.scale``: waits for answers, side by side
where threads wait, and the processor's time. ``--walk`` messages are really sent, and the rest is in proportion.
``--quarantine``: files in quarantine instead of dead messages, with a lineage that speaks of them. ``--failures``: what
``silversmith failures`` takes over as many of them, none left out, by a listing and by the lineage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import polars as pl
from botocore.awsrequest import AWSResponse

from bench.markdown import number as digits
from bench.markdown import table
from bench.measure import machine
from bench.scale import LANDED, Clock, _Raw
from silversmith import Pipeline
from silversmith.events import ObjectEvent, object_created
from silversmith.lineage import error_key
from silversmith.operations.aws import AwsTarget
from silversmith.operations.failures import Query, failures
from silversmith.operations.send import FailureSelection, redrive
from silversmith.pipeline import as_deployed
from silversmith.pipeline.deployment import ROLES
from silversmith.reconcile.rows import LineageRows
from silversmith.schemas import Owner
from silversmith.stores.aws_errors import translate_aws_errors
from silversmith.stores.listing import PAGE
from silversmith.stores.local import LocalStore
from silversmith.stores.s3 import aws_client
from silversmith.tables.spec import LINEAGE
from silversmith.template.plan import logical

#: Dollars for a million requests. https://aws.amazon.com/s3/pricing/ https://aws.amazon.com/sqs/pricing/
PRICES = {"sqs": 0.40, "GET": 0.40, "HEAD": 0.40, "LIST": 5.00, "DELETE": 0.0, "POST": 0.0}


def key(number: int) -> str:
    return f"orders/{number:09d}.csv"


class GeneratedAws:
    """Answers the requests of clients of SQS and S3, by their event ``before-send``.

    Args:
        messages: so many are dead.
        documents: so many error documents are in quarantine.
        clock: told of each wait.
        latency: the seconds that each request takes.
    """

    endpoint_url = None
    session = None
    region = "us-east-1"

    def __init__(self, *, messages: int, documents: int, clock: Clock, latency: float) -> None:
        self.requests: Counter[str] = Counter()
        self.sent = 0
        self._messages, self._documents, self._clock, self._latency = messages, documents, clock, latency
        self._received = 0
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        session = boto3.session.Session("test", "test", region_name=self.region)
        client = aws_client(service, session, endpoint_url=f"http://{service}.invalid")
        client.meta.events.register(f"before-send.{service}", self._sqs if service == "sqs" else self._s3)
        return client

    def _answer(self, request: Any, kind: str, began: float, answer: tuple[int, dict[str, str], bytes]) -> Any:
        status, headers, body = answer
        with self._lock:
            self.requests[kind] += 1
        response = AWSResponse(request.url, status, headers | {"Content-Length": str(len(body))}, _Raw(body))
        self._clock.waited(self._latency, time.thread_time() - began)
        return response

    def _sqs(self, request: Any, **_: Any) -> Any:
        began = time.thread_time()
        operation = (
            str(request.headers["X-Amz-Target"], "ascii")
            if isinstance(request.headers["X-Amz-Target"], bytes)
            else request.headers["X-Amz-Target"]
        )
        operation = operation.rpartition(".")[2]
        values = json.loads(request.body)
        answer: dict[str, Any] = {}
        if operation == "GetQueueAttributes":
            is_dead = values["QueueUrl"].endswith("orders_DLQ")
            waiting = self._messages - self._received if is_dead else 0
            answer = {"Attributes": {name: str(waiting) for name in values["AttributeNames"]}}
            if "ApproximateNumberOfMessagesNotVisible" in answer["Attributes"]:
                answer["Attributes"]["ApproximateNumberOfMessagesNotVisible"] = "0"
        elif operation == "ReceiveMessage" and values["QueueUrl"].endswith("orders_DLQ"):
            with self._lock:
                first = self._received
                self._received = min(self._messages, first + 10)
                numbers = range(first, self._received)
            answer = {"Messages": [self._message(number) for number in numbers]}
        elif operation.endswith("Batch"):
            if operation == "SendMessageBatch":
                with self._lock:
                    self.sent += len(values["Entries"])
            answer = {"Successful": [{"Id": each["Id"], "MessageId": "m"} for each in values["Entries"]], "Failed": []}
        body = json.dumps(answer).encode()
        return self._answer(request, "sqs", began, (200, {"Content-Type": "application/x-amz-json-1.0"}, body))

    def _message(self, number: int) -> dict[str, Any]:
        body = object_created(ObjectEvent("bronze", key(number), etag="0" * 32, size=4096), reason="test").decode()
        attributes = {"ERROR_CODE": {"StringValue": "TransformError", "DataType": "String"}}
        sent = {"SentTimestamp": "1796040000000"}
        return {
            "MessageId": str(number), "ReceiptHandle": str(number), "Body": body, "Attributes": sent,
            "MessageAttributes": attributes,
        }  # fmt: skip

    def _s3(self, request: Any, **_: Any) -> Any:
        began = time.thread_time()
        url = urlsplit(request.url)
        bucket, name = unquote(url.path).lstrip("/").partition("/")[::2]
        query = {item: values[0] for item, values in parse_qs(url.query, keep_blank_values=True).items()}
        headers = {"ETag": f'"{"0" * 32}"', "Last-Modified": f"{LANDED:%a, %d %b %Y %H:%M:%S} GMT"}
        kind = "LIST" if "list-type" in query else str(request.method)
        if kind == "LIST":
            after = query.get("continuation-token", query.get("start-after", ""))
            first = int(after.rpartition("/")[2].partition(".")[0]) + 1 if after else 0
            last = min(self._documents, first + PAGE) if bucket == "quarantine" else first
            items = "".join(
                f"<Contents><Key>{error_key('orders', key(number))}</Key>"
                f"<LastModified>{LANDED:%Y-%m-%dT%H:%M:%S}.000Z</LastModified><ETag>&quot;{number:032d}&quot;</ETag>"
                "<Size>900</Size><StorageClass>STANDARD</StorageClass></Contents>"
                for number in range(first, last)
            )
            more = first < last < self._documents
            token = (
                f"<NextContinuationToken>{error_key('orders', key(last - 1))}</NextContinuationToken>" if more else ""
            )
            body = (
                '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult '
                f'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
                f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
            ).encode()
            return self._answer(request, kind, began, (200, {"Content-Type": "application/xml"}, body))
        if kind == "POST":
            body = b'<?xml version="1.0"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>'
            return self._answer(request, kind, began, (200, {"Content-Type": "application/xml"}, body))
        if kind == "DELETE":
            return self._answer(request, kind, began, (204, {}, b""))
        if bucket == "quarantine" and name.endswith((".failed.json", ".error.json")):
            bronze = name.partition("/")[2].rpartition(".")[0].rpartition(".")[0]
            body = _document(bronze)
            headers["ETag"] = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
            return self._answer(request, kind, began, (200, headers, b"" if kind == "HEAD" else body))
        return self._answer(request, kind, began, (404, {"Content-Type": "application/xml"}, b""))


def _document(bronze: str) -> bytes:
    error = {"code": "TransformError", "message": "pipeline.py:9 in orders(): ValueError: no", "hint": "Correct it."}
    at = {"key": bronze, "etag": "0" * 32, "version": "", "size": 4096}
    log = {"group": "g", "stream": "s", "request": "r"}
    document = {
        "transform": "orders", "bronze": at, "error": error, "at": "2026-11-30T12:00:00.000Z", "attempt": 5,
        "tries": 5, "dead": True, "log": log, "fingerprint": "f", "lookups": "",
    }  # fmt: skip
    return json.dumps(document).encode()


class Stack(AwsTarget):
    """A stack whose lineage is a folder."""

    def __init__(self, pipeline: Pipeline, account: Any, rows: LineageRows | None) -> None:
        outputs = {f"{logical('orders', kind)}Url": f"http://sqs.invalid/1/{name}" for kind, name in QUEUES.items()}
        super().__init__(pipeline, outputs, account, name="shop", wait=0)
        self._rows = rows

    def rows(self) -> LineageRows | None:
        return self._rows

    @property
    def owner(self) -> Owner:
        return Owner("", "silver", "quarantine")


QUEUES = {"Queue": "orders", "QueueDLQ": "orders_DLQ"}


def lineage_of(folder: Path, documents: int) -> LineageRows:
    """A lineage of so many files in quarantine, in data files of 100,000."""
    log = folder / LINEAGE / "_delta_log"
    log.mkdir(parents=True)
    lines = []
    for start in range(0, documents, 100_000):
        numbers = range(start, min(documents, start + 100_000))
        names = [key(number) for number in numbers]
        frame = pl.DataFrame(
            {
                "_file": names,
                "_etag": [f"{number:032d}" for number in numbers],
                "bronze_etag": "0" * 32, "bronze_version": "", "bronze_size": 4096, "error": "MissingColumn",
                "committed_at": datetime(2026, 11, 30, 12, tzinfo=UTC),
            }
        )  # fmt: skip
        frame.select("_file", "_etag", pl.exclude("_file", "_etag")).write_parquet(
            folder / LINEAGE / f"{start}.parquet", row_group_size=16_384
        )
        stats = {"numRecords": len(names), "minValues": {"_file": names[0]}, "maxValues": {"_file": names[-1]}}
        values = {"transform": "orders", "state": "quarantined"}
        add = {"path": f"{start}.parquet", "partitionValues": values, "stats": json.dumps(stats)}
        lines.append(json.dumps({"add": add}))
    (log / f"{0:020}.json").write_text("\n".join(lines))
    gold = LocalStore(folder, scratch=folder / ".s", locks=folder / ".l", foreign_writers=False)
    return LineageRows(gold, str(folder))


def shop() -> Pipeline:
    definition = Pipeline("shop")
    definition.sql("orders/*", "SELECT * FROM rows", name="orders")
    return as_deployed(definition, {role: role for role in ROLES}, definition.transforms)


def measure(walked: int, latency: float, *, quarantine: bool, folder: Path) -> dict[str, float]:
    """Send so many back."""
    pipeline = shop()
    rows = lineage_of(folder, walked) if quarantine else None
    clock = Clock(1_769, 1.0, 10)
    numbers = {"messages": 0, "documents": walked} if quarantine else {"messages": walked, "documents": 0}
    aws = GeneratedAws(**numbers, clock=clock, latency=latency)
    target = Stack(pipeline, aws, rows)
    with translate_aws_errors("the generated AWS"):
        sent = sum(batch.sent for batch in redrive(pipeline, target, FailureSelection()))
        target.close()
    assert sent == walked == aws.sent, (sent, walked, aws.sent)
    return _result(aws, clock)


def _result(aws: GeneratedAws, clock: Clock) -> dict[str, float]:
    dollars = sum(PRICES[kind] * number / 1e6 for kind, number in aws.requests.items())
    return {
        "requests": aws.requests.total(),
        **{kind: float(number) for kind, number in sorted(aws.requests.items())},
        "seconds": clock.seconds(),
        "cpu": clock.cpu,
        "dollars": dollars,
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_failures(documents: int, latency: float, *, lineage: bool, folder: Path) -> dict[str, float]:
    """List so many failures."""
    pipeline = shop()
    rows = lineage_of(folder, documents) if lineage else None
    clock = Clock(1_769, 1.0, 10)
    aws = GeneratedAws(messages=0, documents=documents, clock=clock, latency=latency)
    report = failures(pipeline, Stack(pipeline, aws, rows), Query(), now=time.time(), most_listed=documents)
    assert report.quarantined_total == documents
    return _result(aws, clock)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=float, default=1e6)
    parser.add_argument("--walk", type=float, default=2e4)
    parser.add_argument("--latency", type=float, default=20.0, help="milliseconds of a request")
    parser.add_argument("--quarantine", action="store_true")
    parser.add_argument("--failures", action="store_true")
    options = parser.parse_args(arguments)
    if options.failures:
        for lineage in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                result = measure_failures(
                    int(options.messages), options.latency / 1000, lineage=lineage, folder=Path(folder)
                )
            print(f"\n{digits(options.messages)} failures {'by the lineage' if lineage else 'by a listing'}\n")
            print(table(("what", "in all"), list(_rows(result, 1))))
        return
    walked = min(int(options.walk), int(options.messages))
    with tempfile.TemporaryDirectory() as folder:
        result = measure(walked, options.latency / 1000, quarantine=options.quarantine, folder=Path(folder))
    times = options.messages / walked
    print(machine())
    sent = f"{digits(options.messages)} failures, {digits(walked)} of them really sent"
    print(f"\n{sent}, {options.latency:g} ms a request\n")
    print(table(("what", "in all"), list(_rows(result, times))))


def _rows(result: dict[str, float], times: float) -> Iterator[tuple[str, str]]:
    for name, value in result.items():
        if name == "MiB":
            yield "memory, MiB", f"{value:.0f}"
        elif name == "dollars":
            yield "dollars", f"{value * times:.2f}"
        elif name in {"seconds", "cpu"}:
            yield {"seconds": "minutes", "cpu": "minutes of a processor"}[name], f"{value * times / 60:.1f}"
        else:
            yield (
                {"sqs": "requests to SQS", "requests": "requests"}.get(name, f"{name} requests"),
                digits(value * times),
            )


if __name__ == "__main__":
    main()
