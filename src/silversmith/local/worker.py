"""The worker process: it runs the handler with the very event that Lambda would get."""

from __future__ import annotations

import mmap
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson

from silversmith.errors import DefinitionError
from silversmith.function.handler import Handler, SystemUnavailable
from silversmith.function.outcome import Report
from silversmith.local import iam
from silversmith.local.iam import GuardedStore, Policy
from silversmith.local.lake import LakeFolder
from silversmith.local.stack import Bucket, Queue
from silversmith.pipeline import Pipeline, load
from silversmith.schemas import Owner
from silversmith.stores import Lake, Store

#: The position before the first message.
NOWHERE = -1


class Position:
    """An integer in memory that two processes share, by a file that both have mapped.

    Args:
        path: the file. One process makes it before the other opens it; the other removes it.
        new: whether this process makes it.
    """

    def __init__(self, path: Path, *, new: bool) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if new else 0), 0o600)
        try:
            if new:
                os.ftruncate(descriptor, mmap.PAGESIZE)
            else:
                path.unlink()
            self._numbers = memoryview(mmap.mmap(descriptor, mmap.PAGESIZE)).cast("i")
        finally:
            os.close(descriptor)
        if new:
            self.value = NOWHERE

    @property
    def value(self) -> int:
        return int(self._numbers[0])

    @value.setter
    def value(self, value: int) -> None:
        self._numbers[0] = value


#: The most small objects that are committed together: the disk is waited for once, and their memory is bounded.
TOGETHER = 100


@dataclass(frozen=True)
class FunctionConfig:
    """One function as a worker needs it: its environment, its role (an ARN) and the role's policy, the queue of
    ``SILVERSMITH_DLQ`` in its environment, and all buckets by name."""

    name: str
    environment: Mapping[str, str]
    role: str
    policy: Policy
    dead_letters: Queue
    buckets: Mapping[str, Bucket]


@dataclass(frozen=True)
class WorkerConfig:
    """Everything that a worker needs; it is pickled on its way to the process."""

    pipeline: str
    lake: Path
    functions: tuple[FunctionConfig, ...]


class LocalContext:
    """Lambda's context object, as far as handlers use it."""

    def __init__(self, name: str, timeout: float, memory: int) -> None:
        self.function_name = name
        self.memory_limit_in_mb = str(memory)
        self._deadline = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation is ended."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))


def main(connection: Connection, position: Path, config: WorkerConfig) -> None:
    """Run a worker: load the pipeline, report that it is ready, then run one dispatch after the other.

    ``position`` is the file of its :class:`~silversmith.local.worker.Position`.
    """
    # Each line in one piece, also under PYTHONUNBUFFERED: else those of two workers get into each other in the log.
    sys.stdout.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
    try:
        handlers = _Handlers(connection, Position(position, new=False), config)
        connection.send_bytes(orjson.dumps({"ready": os.getpid()}))
    except DefinitionError as error:
        connection.send_bytes(orjson.dumps({"broken": str(error)}))
        return
    while True:
        try:
            request = orjson.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        handlers.invoke(request)


class _Handlers:
    """The handler of each function, made from the environment that the template gives it."""

    def __init__(self, connection: Connection, position: Position, config: WorkerConfig) -> None:
        self._connection = connection
        self._position = position
        self._positions: dict[str, int] = {}
        self._lake = LakeFolder(config.lake)
        pipeline = load(config.pipeline)
        self._handlers = {function.name: self._build(pipeline, function) for function in config.functions}
        self._ended: dict[str, Any] = {}

    def _build(self, pipeline: Pipeline, function: FunctionConfig) -> Handler:
        environment = function.environment
        stores = self._lake.stores(pipeline, scratch=self._lake.engine_scratch)
        lake = Lake(
            bronze=self._guarded(stores.bronze, environment["SILVERSMITH_BRONZE"], function),
            silver=self._guarded(stores.silver, environment["SILVERSMITH_SILVER"], function),
            quarantine=self._guarded(stores.quarantine, environment["SILVERSMITH_QUARANTINE"], function),
        )
        return Handler(
            pipeline.find(environment["SILVERSMITH_TRANSFORM"]),
            bucket=environment["SILVERSMITH_BRONZE"],
            lake=lake,
            scratch=self._lake.engine_scratch,
            move_to_dlq=partial(self._require_dlq, function),
            began=self._began,
            ended=self._end,
            now=lambda: datetime.now(UTC),
            owner=Owner.of(environment),
        )

    def _require_dlq(self, function: FunctionConfig, record: Mapping[str, Any], error: Mapping[str, Any]) -> None:
        """Require that the role may send to the dead-letter queue. The engine moves the message, with the outcomes."""
        del record, error
        queue = function.dead_letters
        policies = (function.policy, queue.policy)
        iam.check(policies, "sqs:SendMessage", queue.arn, principal=function.role, context=_context(function))

    def _guarded(self, store: Store, bucket: str, function: FunctionConfig) -> GuardedStore:
        policies = (function.policy, function.buckets[bucket].policy)
        check = iam.checker(policies, principal=function.role, context=_context(function))
        return GuardedStore(store, arn=f"arn:aws:s3:::{bucket}", check=check)

    def invoke(self, request: Mapping[str, Any]) -> None:
        """Run the invocations of one dispatch together, and report the outcomes."""
        self._ended = {}
        records = [record for event in request["events"] for record in event["Records"]]
        self._positions = {record["messageId"]: position for position, record in enumerate(records)}
        context = LocalContext(request["function"], request["timeout"], request["memory"])
        handler = self._handlers[request["function"]]
        handler.group_size = 1 if request["careful"] else TOGETHER
        try:
            response = handler({"Records": records}, context)
            answer: dict[str, Any] = {"done": split(response, request["events"])}
        except SystemUnavailable as error:  # the messages come back when they said, and the worker goes on
            answer = {"done": split(error.response, request["events"])}
        except Exception as error:  # noqa: BLE001 -- the handler itself broke: the engine fails the batch, as Lambda would
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.flush()
        sys.stderr.flush()
        self._position.value = NOWHERE  # after this report the engine would take it for a position in the next batch
        self._connection.send_bytes(orjson.dumps({**answer, "ended": self._ended}))
        self._ended = {}

    def _began(self, message: str) -> None:
        """Report outcomes before the next message begins, which may kill the worker. That it has begun is written to
        memory that the engine reads after a death."""
        if self._ended:
            self._connection.send_bytes(orjson.dumps({"ended": self._ended}))
            self._ended = {}
        self._position.value = self._positions[message]

    def _end(self, report: Report) -> None:
        self._ended[report.message_id] = report.to_dict()


def _context(function: FunctionConfig) -> dict[str, str]:
    """The context of a function's requests, for IAM."""
    return {"aws:SecureTransport": "true", "aws:ResourceAccount": function.role.split(":")[4]}


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
