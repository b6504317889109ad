"""S3 and SQS on this machine, in a process of their own, for handlers to talk to."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.peers import NotAvailable

#: Seconds for it to start.
PATIENCE = 60

BUCKETS = {"BRONZE": "dl-bronze-layer", "SILVER": "dl-silver-layer", "QUARANTINE": "dl-quarantine-layer"}


@contextlib.contextmanager
def served() -> Iterator[dict[str, str]]:
    """moto's server, with three buckets and a queue; the environment of a function that works with them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=quiet, stderr=quiet)
    try:
        _await(port, process)
        url = f"http://127.0.0.1:{port}"
        s3, sqs = client(url, "s3"), client(url, "sqs")
        for bucket in BUCKETS.values():
            s3.create_bucket(Bucket=bucket)
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            **{f"SILVERSMITH_{role}": bucket for role, bucket in BUCKETS.items()},
            "SILVERSMITH_QUEUE": sqs.create_queue(QueueName="bench")["QueueUrl"],
            "SILVERSMITH_DLQ": sqs.create_queue(QueueName="bench_DLQ")["QueueUrl"],
        }
    finally:
        process.terminate()
        process.wait()


def client(url: str, service: str) -> Any:
    """A boto3 client of that server."""
    import boto3

    return boto3.session.Session("test", "test", region_name="us-east-1").client(service, endpoint_url=url)


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise NotAvailable("moto's server does not start")
