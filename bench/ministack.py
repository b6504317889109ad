"""The chain that a user would build by hand, on MiniStack: S3, EventBridge, SNS, SQS, and a Lambda of pandas.

https://pypi.org/project/ministack/ runs without TLS, IAM and persistence here: that is its fastest.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.measure import Measured, Watched
from bench.peers import PEERS, NotAvailable

ACCOUNT, REGION = "000000000000", "us-east-1"
ARN = f"{REGION}:{ACCOUNT}"

#: Seconds for the server to start, and in which at least one more file must be done.
PATIENCE = 60

#: Two ways to write the function by hand: as awswrangler's users do, who get new clients with each call, and faster.
FUNCTIONS = {
    "awswrangler": """
import awswrangler as wr

def convert(key):
    frame = wr.s3.read_json(f"s3://bronze/{key}", orient="records", convert_dates=False)
    wr.s3.to_parquet(frame, f"s3://silver/{key}.parquet", compression="zstd")
""",
    "pandas": """
import io
import boto3, pandas as pd

s3 = boto3.client("s3")

def convert(key):
    body = s3.get_object(Bucket="bronze", Key=key)["Body"]
    target = io.BytesIO()
    pd.read_json(body, orient="records", convert_dates=False).to_parquet(target, compression="zstd")
    s3.put_object(Bucket="silver", Key=f"{key}.parquet", Body=target.getvalue())
""",
}

HANDLER = """
import json

def handler(event, context):
    failed = []
    for record in event["Records"]:
        try:
            convert(json.loads(record["body"])["detail"]["object"]["key"])
        except Exception as error:
            print(error)
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}
"""


def chain(function: str, source: Path, workers: int) -> Measured:
    """From the first put to the last silver object; ``working`` is the same, for the server runs already.

    ``function`` is one of ``FUNCTIONS``.

    Raises:
        NotAvailable: it cannot be installed, does not start, or stops making progress.
    """
    PEERS["ministack"].install()
    files = sorted(source.iterdir())
    with (
        tempfile.TemporaryDirectory(prefix="ministack-", ignore_cleanup_errors=True) as name,
        server(Path(name)) as (url, pid),
    ):
        watched = Watched(pid)
        try:
            s3, sqs = (_client(url, service) for service in ("s3", "sqs"))
            _deploy(url, s3, sqs, workers, FUNCTIONS[function])
            _process(s3, files[:1])  # the function's cold start, which the others leave out too
            began = time.perf_counter()
            _process(s3, files[1:])
            seconds = time.perf_counter() - began
        finally:
            peak = watched.close()
    share = len(files) / max(1, len(files) - 1)
    return Measured(seconds * share, seconds * share, peak)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, int]]:
    """MiniStack's address and process, until the block ends."""
    peer = PEERS["ministack"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "LOG_LEVEL": "ERROR"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(peer.program("ministack"))],
            env={**peer.variables(), **options, "IOT_MTLS_ENABLED": "0"},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url, process)
        yield url, process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/_ministack/health", timeout=5):
            return
        time.sleep(0.1)
    raise NotAvailable("MiniStack does not start")


def _client(url: str, service: str) -> Any:
    import boto3

    return boto3.session.Session("test", "test", region_name=REGION).client(service, endpoint_url=url)


def _deploy(url: str, s3: Any, sqs: Any, workers: int, function: str) -> None:
    """Create by hand the resources that our template declares."""
    for bucket in ("bronze", "silver"):
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_notification_configuration(
        Bucket="bronze", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    topic = _client(url, "sns").create_topic(Name="bench")["TopicArn"]
    sqs.create_queue(QueueName="bench", Attributes={"VisibilityTimeout": "360"})
    _client(url, "sns").subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{ARN}:bench", Attributes={"RawMessageDelivery": "true"}
    )
    events = _client(url, "events")
    pattern = {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {"bucket": {"name": ["bronze"]}}}
    events.put_rule(Name="bench", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="bench", Targets=[{"Id": "topic", "Arn": topic}])
    functions = _client(url, "lambda")
    functions.create_function(
        FunctionName="bench",
        Runtime="python3.13",
        Role=f"arn:aws:iam::{ACCOUNT}:role/bench",
        Handler="function.handler",
        Code={"ZipFile": _zipped(function)},
        Timeout=60,
        MemorySize=1769,
        Environment={"Variables": {"AWS_ENDPOINT_URL": url, "WR_S3_ENDPOINT_URL": url}},
    )
    functions.create_event_source_mapping(
        FunctionName="bench",
        EventSourceArn=f"arn:aws:sqs:{ARN}:bench",
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": max(2, workers)},
    )


def _zipped(function: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("function.py", function + HANDLER)
    return buffer.getvalue()


def _process(s3: Any, files: Sequence[Path]) -> None:
    """Put the files, and wait until silver holds as many more."""
    expected = _count(s3) + len(files)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda path: s3.put_object(Bucket="bronze", Key=path.name, Body=path.read_bytes()), files))
    done, moved = _count(s3), time.monotonic()
    while done < expected:
        time.sleep(0.2)
        count = _count(s3)
        if count > done:
            done, moved = count, time.monotonic()
        elif time.monotonic() - moved > PATIENCE:
            raise NotAvailable(f"MiniStack's chain stopped at {done} of {expected} files")


def _count(s3: Any) -> int:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="silver")
    return sum(page["KeyCount"] for page in pages)
