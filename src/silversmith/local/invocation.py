"""Shared by all worker processes: the configuration of functions, and the loop that invokes.

A process for tables must not import Polars, so nothing here does.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from silversmith.local.iam import Check, GuardedStore, Policy, checker
from silversmith.local.processes import WORKER, CpuShare
from silversmith.local.stack import Bucket, QueueResource
from silversmith.stores import Store

if TYPE_CHECKING:  # it imports Polars
    from silversmith.pipeline.needs import Secret

#: The end of the ARN of a secret on this machine: AWS chooses six characters.
_SUFFIX = "AbCdEf"


@dataclass(frozen=True)
class FunctionConfig:
    """One function as a worker needs it: its environment, its role (an ARN) and the role's policy, the queue of
    ``SILVERSMITH_DLQ`` in its environment, and all buckets by name."""

    name: str
    environment: Mapping[str, str]
    role: str
    policy: Policy
    dead_letters: QueueResource
    buckets: Mapping[str, Bucket]

    @property
    def context(self) -> dict[str, str]:
        """The context of its requests, for IAM."""
        return {"aws:SecureTransport": "true", "aws:ResourceAccount": self.role.split(":")[4]}

    def check_of(self, bucket: str) -> Check:
        """Raises AccessDenied for a request that its role and the bucket's policy do not allow."""
        return self._checker(self.buckets[bucket].policy)

    def _checker(self, *policies: Policy, **context: str) -> Check:
        return checker((self.policy, *policies), principal=self.role, context=self.context | context)

    def guarded(self, store: Store, bucket: str) -> GuardedStore:
        """A store that the function may use as its role allows."""
        return GuardedStore(store, arn=f"arn:aws:s3:::{bucket}", check=self.check_of(bucket))

    @property
    def variables(self) -> dict[str, str]:
        """The variables of the environment that are the transform's own."""
        return {name: value for name, value in self.environment.items() if not name.startswith("SILVERSMITH_")}

    def require_secret(self, secret: Secret) -> None:
        """Require that the role may read a secret, and decrypt it where a key is named."""
        _, partition, _, region, account, _ = self.dead_letters.arn.split(":", 5)
        place = secret.place(self.environment["SILVERSMITH_STACK"])
        last = secret.resource(self.environment["SILVERSMITH_STACK"], _SUFFIX)
        arn = place if place.startswith("arn:") else f"arn:{partition}:{secret.service}:{region}:{account}:{last}"
        self._checker()(secret.action, arn)
        if secret.key:
            via = {"kms:ViaService": f"{secret.service}.{region}.amazonaws.com", secret.context_key: arn}
            self._checker(**via)("kms:Decrypt", secret.key)

    def require_dlq(self, record: Mapping[str, Any], error: Mapping[str, Any]) -> None:
        """Require that the role may send to the dead-letter queue. The engine moves the message, with the outcomes."""
        del record, error
        self._checker(self.dead_letters.policy)("sqs:SendMessage", self.dead_letters.arn)


@dataclass(frozen=True)
class WorkerConfig:
    """Everything that a worker needs; it is pickled on its way to the process.

    ``definition`` says where the pipeline is loaded from; for the worker of tables it is their specification, which in
    Lambda is a file in the bundle. ``main`` is the function that the process runs. ``share`` is its share of the CPUs
    where that is another than the one it was started with.
    """

    definition: str
    lake: Path
    functions: tuple[FunctionConfig, ...]
    main: str = WORKER
    share: CpuShare | None = None


class LocalContext:
    """Lambda's context object, as far as handlers use it."""

    def __init__(self, name: str, timeout: float, memory: int) -> None:
        self.function_name = name
        self.memory_limit_in_mb = str(memory)
        self._deadline = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation is ended."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))


def serve(connection: Connection, invoke: Callable[[Mapping[str, Any]], None]) -> None:
    """Report that the process is ready, then run one dispatch after the other, until the engine is gone."""
    connection.send_bytes(orjson.dumps({"ready": os.getpid()}))
    while True:
        try:
            request = orjson.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        invoke(request)


def begin() -> None:
    """Set the process up, before anything is printed."""
    # Each line in one piece, also under PYTHONUNBUFFERED: else those of two workers get into each other in the log.
    sys.stdout.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]


def broken(error: Exception) -> dict[str, Any]:
    """The answer where the handler itself broke: the engine fails the batch, as Lambda would."""
    traceback.print_exception(error)
    return {"error": f"{type(error).__name__}: {error}"}


def flush() -> None:
    """Before an answer is sent, so that what the handler printed is in the log when the engine knows the outcome."""
    sys.stdout.flush()
    sys.stderr.flush()


def split(response: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A handler's response to the records of several events, as its response to each."""
    failed = {item["itemIdentifier"] for item in response["batchItemFailures"]}
    return [
        {
            "batchItemFailures": [
                {"itemIdentifier": record["messageId"]} for record in event["Records"] if record["messageId"] in failed
            ]
        }
        for event in events
    ]
