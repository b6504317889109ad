"""The start of a function before anybody waits for it: into a snapshot, or into an environment that is kept warm.

https://docs.aws.amazon.com/lambda/latest/dg/snapstart-best-practices.html
docs/decisions/0161-begin-before-the-first-invocation.md
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from silversmith.function.convert import convert
from silversmith.function.task import empty_lineage
from silversmith.pipeline import Pipeline
from silversmith.stores import Head, Source

#: The variable by which Lambda says how it starts a function, and its values where nobody waits.
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
TYPE, SNAPSHOT, KEPT_WARM = "AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start", "provisioned-concurrency"

#: Small files of the commonest formats, by key.
_SAMPLES = {
    "sample.csv": b"number,text,time\n1,a,2026-01-02\n2.5,b,2026-01-03\n",
    "sample.json": b'[{"number": 1, "text": "a"}, {"number": 2, "text": null}]',
    "sample.ndjson": b'{"number": 1, "text": "a"}\n{"number": 2, "text": null}\n',
}


def is_ahead(environment: Mapping[str, str]) -> bool:
    """Whether the function is started before anybody waits for it."""
    return environment.get(TYPE) in {SNAPSHOT, KEPT_WARM}


def warm_up(client: Callable[[str], Any], environment: Mapping[str, str]) -> None:
    """Do what a process does only once: make clients, and convert samples, by none of the user's code.

    No connection is opened: it would not outlive the snapshot.

    Args:
        client: gives the boto3 client of a service.
        environment: the function's.
    """
    client("sqs")
    sample = {"Bucket": environment["SILVERSMITH_BRONZE"], "Key": "sample"}
    client("s3").generate_presigned_url("head_object", Params=sample)  # endpoint rules, credentials, signer
    pipeline = Pipeline("warm-up")
    pipeline.transform("*", name="rows")(lambda rows: rows)
    transform = pipeline.find("rows")
    for key, data in _SAMPLES.items():
        head = Head(key, "0" * 32, len(data), datetime.now(UTC))
        with TemporaryDirectory() as scratch:
            convert(Source(head, data, None), transform, empty_lineage(key, transform), Path(scratch))
    if environment[TYPE] == SNAPSHOT:
        from snapshot_restore_py import register_after_restore

        register_after_restore(after_restore)


def after_restore() -> None:
    """All environments of one snapshot would draw the same random numbers: retries would come at the same time.

    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
    """
    random.seed()
    pl.set_random_seed(random.SystemRandom().getrandbits(63))
