"""The handler over one file of a lake, with no engine around it: what a Lambda would do with it.

    python -m bench.jobs.handle_file LAKE PIPELINE KEY

The last line is the seconds without the start.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bench.messages import Context, batch
from silversmith.function.handler import Handler
from silversmith.function.outcome import Report
from silversmith.local.lake import LakeFolder
from silversmith.pipeline import load


def main() -> None:
    _, folder, target, key = sys.argv
    lake, pipeline = LakeFolder(Path(folder)), load(target)
    lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
    reports: list[Report] = []
    (transform,) = pipeline.transforms
    handler = Handler(
        transform,
        bucket=pipeline.bronze,
        lake=lake.stores(pipeline, scratch=lake.engine_scratch),
        scratch=lake.engine_scratch,
        ended=reports.append,
    )
    began = time.perf_counter()
    handler(batch(pipeline.bronze, [key]), Context())
    seconds = time.perf_counter() - began
    outcome = reports[0].to_dict()
    if outcome["verdict"] != "committed":
        raise SystemExit(f"{key}: {outcome['verdict']}: {outcome['error']}")
    print(f"\n{json.dumps({'seconds': seconds, 'rows': outcome['rows_written']})}")


if __name__ == "__main__":
    main()
