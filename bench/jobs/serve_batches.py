"""A handler that stays, for bench/versions.py: each line of its input is a batch, each line of its output its CPU time.

    python bench/jobs/serve_batches.py LAKE PIPELINE

A batch is a JSON object of keys with their sizes. The answer is the seconds of all threads. Nothing else of ``bench``
is imported, so that the job runs in the environment of any version of Silversmith.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

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


def main() -> None:
    _, folder, target = sys.argv
    lake, pipeline = LakeFolder(Path(folder)), load(target)
    lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
    (transform,) = pipeline.transforms
    package = next(name for name in PACKAGES if importlib.util.find_spec(name))
    handler_class = importlib.import_module(f"{package}.handler").Handler
    group_size = next(name for name in GROUP_SIZES if name in inspect.signature(handler_class).parameters)
    verdicts: list[str] = []
    handler = handler_class(
        transform,
        bucket=pipeline.bronze,
        lake=lake.stores(pipeline, scratch=lake.engine_scratch),
        scratch=lake.engine_scratch,
        ended=lambda report: verdicts.append(report.to_dict()["verdict"]),
        **{group_size: 100},
    )
    for line in sys.stdin:
        verdicts.clear()
        records = [record(pipeline.bronze, key, size) for key, size in json.loads(line).items()]
        began = time.process_time()
        handler({"Records": records}, Invocation())
        seconds = time.process_time() - began
        if set(verdicts) != {"committed"}:
            raise SystemExit(f"not all were committed: {verdicts}")
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
