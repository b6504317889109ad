"""A table function that works on files until it is killed, for bench/tables.py.

    python bench/jobs/commit_killed.py ROOT TURN

It overwrites files in silver and tells the function of them; each that the function has acknowledged it writes to
``ROOT/acknowledged``, with the number that its rows carry. With TURN ``last`` it only tells of all silver once more.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import polars as pl

from silversmith.tables.handler import TableHandler
from silversmith.tables.spec import GoldSpec, TableSpec
from tests.unit.conftest import Leisure
from tests.unit.tables.kit import TRANSFORM, GoldBench
from tests.unit.tables.test_handler import event, record

#: Files that are overwritten over and over, those of one batch, and the rows of each.
FILES, BATCH, ROWS = 500, 40, 10


def main(root: Path, turn: str) -> None:
    bench = GoldBench(root)
    spec = GoldSpec((TableSpec("orders", TRANSFORM),))
    handler = TableHandler(spec, bucket="silver", silver=bench.silver, gold=bench.gold)
    if turn == "last":
        keys = [head.key for head in bench.silver.list(f"{TRANSFORM}/")]
        assert handler({"Records": [record(key, event(key), 2) for key in keys]}, Leisure()) == {
            "batchItemFailures": []
        }
        return
    draw = random.Random(int(turn))
    with (root / "acknowledged").open("a") as log:
        log.write("\n")  # after a kill the last line may have no end
        log.flush()
        while True:
            number = time.time_ns()
            files = [f"{draw.randrange(FILES):03}.csv" for _ in range(BATCH)]
            frame = pl.DataFrame({"number": [number] * ROWS, "row": range(ROWS)})
            keys = [bench.put(file, frame) for file in dict.fromkeys(files)]
            # SQS may deliver twice, and what was received before is worked on in groups
            records = [record(f"{key} {copy}", event(key), 1 + copy) for key in keys for copy in range(2)]
            assert handler({"Records": records}, Leisure()) == {"batchItemFailures": []}
            log.write(json.dumps(dict.fromkeys(files, number)) + "\n")
            log.flush()
            os.fsync(log.fileno())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
