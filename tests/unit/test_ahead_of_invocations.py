"""A function that Lambda starts ahead of its first invocation has done by then what it does only once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith.function.handler import after_restore, is_ahead, warm_up

PIPELINE = """
from pathlib import Path
from silversmith import Pipeline
pipeline = Pipeline("shop")
@pipeline.transform("orders/*.csv")
def orders(rows):
    Path("called").touch()
    return rows
"""

#: Prints what there is after the import of the handler, and two random numbers of environments of one snapshot.
SCRIPT = """
import random, sys
from silversmith.function import handler
built = handler._from_environment.cache_info().currsize
hooks = []
if "snapshot_restore_py" in sys.modules:
    from snapshot_restore_py import get_after_restore
    hooks = [function.__name__ for function, _, _ in get_after_restore()]
print(built, *hooks)
"""


class Client:
    """A client that opens no connection."""

    def __init__(self) -> None:
        self.signed: list[tuple[str, Any]] = []

    def generate_presigned_url(self, operation: str, *, Params: Any) -> None:  # noqa: N803 -- boto3's name
        self.signed.append((operation, Params))


def start(folder: Path, *, kind: str, text: str = PIPELINE) -> subprocess.CompletedProcess[str]:
    """Import the handler as Lambda does."""
    (folder / "pipeline.py").write_text(text)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **{f"SILVERSMITH_{role}": f"dl-{role.lower()}-layer" for role in ("BRONZE", "SILVER", "QUARANTINE")},
        "SILVERSMITH_PIPELINE": str(folder / "pipeline.py"),
        "SILVERSMITH_TRANSFORM": "orders",
        "SILVERSMITH_QUEUE": "https://sqs.invalid/queue",
        "SILVERSMITH_DLQ": "https://sqs.invalid/dlq",
        "SILVERSMITH_STACK": "shop",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_INITIALIZATION_TYPE": kind,
    }
    script = [sys.executable, "-c", SCRIPT]
    return subprocess.run(script, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("kind", ["snap-start", "provisioned-concurrency"])
def test_samples_are_converted_and_clients_made_without_a_connection(kind: str) -> None:
    asked: dict[str, Client] = {}
    environment = {"AWS_LAMBDA_INITIALIZATION_TYPE": kind, "SILVERSMITH_BRONZE": "dl-bronze-layer"}
    assert is_ahead(environment)
    warm_up(lambda service: asked.setdefault(service, Client()), environment)
    assert set(asked) == {"s3", "sqs"}
    assert asked["s3"].signed == [("head_object", {"Bucket": "dl-bronze-layer", "Key": "sample"})]


def test_nothing_is_ahead_of_an_ordinary_start() -> None:
    assert not is_ahead({})
    assert not is_ahead({"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"})


def test_environments_of_one_snapshot_draw_different_numbers() -> None:
    before = random.getstate()
    numbers = pl.int_range(1_000_000, eager=True)
    drawn = set()
    try:
        for _ in range(2):
            random.seed(1)
            pl.set_random_seed(1)
            after_restore()
            drawn.add((random.getrandbits(64), numbers.sample(1).item()))
    finally:
        random.setstate(before)
    assert len({first for first, _ in drawn}) == len({second for _, second in drawn}) == 2


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "says"),
    [("snap-start", "1 after_restore"), ("provisioned-concurrency", "1"), ("on-demand", "0")],
)
def test_the_function_is_built_by_the_import(tmp_path: Path, kind: str, says: str) -> None:
    done = start(tmp_path, kind=kind)
    assert done.stdout.split("\n")[0].strip() == says, done.stderr
    assert not (tmp_path / "called").exists()


@pytest.mark.full
def test_a_pipeline_that_cannot_be_loaded_fails_the_start(tmp_path: Path) -> None:
    """So the deploy fails, and the version before goes on."""
    done = start(tmp_path, kind="snap-start", text="import no_such_module")
    assert done.returncode == 1
    assert "no_such_module" in done.stderr
