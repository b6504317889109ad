"""CPU time of the handler for objects in S3, in a process of its own.

    python -m bench.jobs.handle_on_s3 PIPELINE WARM KEY ...

``WARM`` is handled first and does not count; the others come in batches of ten. The environment is a function's. The
last line: CPU seconds of all threads, seconds, and the requests to S3, of which ``puts`` are priced as such.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections import Counter
from typing import Any

import boto3

from bench.measure import cpu_seconds
from bench.messages import Context, batch
from silversmith.function.handler import build
from silversmith.stores.s3 import connect


def main() -> None:
    _, target, warm, *keys = sys.argv
    s3 = connect()
    requests: Counter[str] = Counter()

    def count(model: Any, **_: object) -> None:
        requests["puts" if model.name.startswith(("Put", "Create", "Complete", "Upload", "List")) else "gets"] += 1

    s3.meta.events.register("before-call.s3", count)
    names = {"SILVERSMITH_PIPELINE": target, "SILVERSMITH_TRANSFORM": os.environ["BENCH_TRANSFORM"]}
    sqs = boto3.client("sqs")
    handler = build({**os.environ, **names}, s3=s3, sqs=lambda: sqs)
    bucket = os.environ["SILVERSMITH_BRONZE"]
    with contextlib.redirect_stdout(io.StringIO()) as log:
        handler(batch(bucket, [warm]), Context())
        requests.clear()
        cpu, began = cpu_seconds(), time.perf_counter()
        for start in range(0, len(keys), 10):
            some = keys[start : start + 10]
            handler(batch(bucket, some, size=None if len(keys) == 1 else 4096), Context())
        cpu, seconds = cpu_seconds() - cpu, time.perf_counter() - began
    done = sum(json.loads(line).get("FilesCommitted", 0) for line in log.getvalue().splitlines())
    if done != len(keys) + 1:
        raise SystemExit(f"of {len(keys) + 1} files {done} were committed: {log.getvalue()[-300:]}")
    print(f"\n{json.dumps({'cpu': cpu, 'seconds': seconds, **requests})}")


if __name__ == "__main__":
    main()
