"""A handler that stays, for bench/versions.py: each line of its input is a batch, each line of its output its CPU time.

    python bench/jobs/serve_batches.py LAKE PIPELINE [s3]

A batch is a JSON object of keys with their sizes. The answer is the seconds of all threads. Nothing else of ``bench``
is imported, so that the job runs in the environment of any version of Silversmith. With ``s3`` the handler is that of
Lambda, with ten files in an invocation, and its requests to S3 are answered in this process: from the lake's bronze
folder, and as if there were nothing else. What the answers and a socket take is not counted.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import io
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.awsrequest import AWSResponse

from silversmith.events import ObjectEvent, object_created
from silversmith.local.lake import LakeFolder
from silversmith.pipeline import load

#: Where the handler is, the newest version first, and what the size of its groups is called there.
PACKAGES = ("silversmith.function", "silversmith")
GROUP_SIZES = ("group_size", "together")


class Invocation:
    """An invocation with all the time there is."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def record(bucket: str, key: str, size: int) -> dict[str, Any]:
    """The message of a landed object."""
    event = ObjectEvent(bucket=bucket, key=key, size=size, id=str(uuid.uuid4()), time="2026-01-01T00:00:00Z")
    body = object_created(event, reason="PutObject").decode()
    attributes = {"ApproximateReceiveCount": "1"}
    return {"messageId": event.id, "receiptHandle": event.id, "body": body, "attributes": attributes}


class Body(io.BytesIO):
    """A body as urllib3 hands it out."""

    def stream(self, amt: int = 2**16, **_: Any) -> Iterator[bytes]:
        while chunk := self.read(amt):
            yield chunk


class AnsweredS3:
    """Answers a client's requests: with a file of a folder, whose name is the object's key, with the schema
    that was put, or that there is none.

    ``seconds`` is the CPU time that this took.
    """

    def __init__(self, folder: Path) -> None:
        self.seconds = 0.0
        self._folder = folder
        self._schemas: dict[str, bytes] = {}

    def client(self) -> Any:
        from silversmith.stores.s3 import connect

        client = connect(endpoint_url="http://s3.invalid")
        client.meta.events.register("before-send.s3", self._answer)
        return client

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        began = time.thread_time()
        name = request.url.partition("?")[0].rpartition("/")[2]
        path = self._folder / name
        body, status = b"", 200
        if "/_schemas/" in request.url and request.method == "PUT":
            self._schemas[name] = request.body if isinstance(request.body, bytes) else request.body.read()
        elif "/_schemas/" in request.url and name in self._schemas:
            body = self._schemas[name]
        elif request.method == "GET" and self._folder.name in request.url and path.exists():
            body = path.read_bytes()
        elif request.method != "PUT":
            body, status = b"<Error><Code>NoSuchKey</Code></Error>", 404
        headers = {
            "ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"',
            "Content-Length": str(len(body)),
            "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        }
        response = AWSResponse(request.url, status, headers, Body(b"" if request.method == "HEAD" else body))
        self.seconds += time.thread_time() - began
        return response


def on_s3(bronze: Path) -> tuple[AnsweredS3, dict[str, Any]]:
    """S3, and the options of a handler that works on it."""
    from silversmith.function.handler import IO_THREADS
    from silversmith.stores import Lake
    from silversmith.stores.s3 import S3Store

    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_REGION="us-east-1")
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    s3 = AnsweredS3(bronze)
    client = s3.client()
    stores = (S3Store(name, client=client, scratch=Path("/tmp")) for name in (bronze.name, "silver", "quarantine"))
    return s3, {"lake": Lake(*stores), "io_threads": IO_THREADS}


def main() -> None:
    _, folder, target, *where = sys.argv
    lake, pipeline = LakeFolder(Path(folder)), load(target)
    lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
    (transform,) = pipeline.transforms
    package = next(name for name in PACKAGES if importlib.util.find_spec(name))
    handler_class = importlib.import_module(f"{package}.handler").Handler
    parameters = inspect.signature(handler_class).parameters
    s3, most = None, None
    if where:
        s3, options = on_s3(Path(folder) / pipeline.bronze)
        most = 10
        options |= {"counts_receives": True} if "counts_receives" in parameters else {}
    else:
        group_size = next(name for name in GROUP_SIZES if name in parameters)
        options = {"lake": lake.stores(pipeline, scratch=lake.engine_scratch), group_size: 100}
    verdicts: list[str] = []
    handler = handler_class(
        transform,
        bucket=pipeline.bronze,
        scratch=lake.engine_scratch,
        ended=lambda report: verdicts.append(report.to_dict()["verdict"]),
        **options,
    )
    for line in sys.stdin:
        verdicts.clear()
        records = [record(pipeline.bronze, key, size) for key, size in json.loads(line).items()]
        answering = s3.seconds if s3 is not None else 0.0
        began = time.process_time()
        for start in range(0, len(records), most or len(records)):
            handler({"Records": records[start : start + (most or len(records))]}, Invocation())
        seconds = time.process_time() - began - (s3.seconds - answering if s3 is not None else 0.0)
        if set(verdicts) != {"committed"}:
            raise SystemExit(f"not all were committed: {verdicts}")
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
