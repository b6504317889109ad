"""The worker process of transforms: it runs their handlers with the very event that Lambda would get."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ctypes import c_int
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson

from silversmith.errors import DefinitionError
from silversmith.function.handler import Handler
from silversmith.function.outcome import Report
from silversmith.local.invocation import FunctionConfig, LocalContext, WorkerConfig, begin, broken, flush, serve, split
from silversmith.local.lake import LakeFolder
from silversmith.local.processes import NOWHERE, change_share
from silversmith.pipeline import Pipeline, locate
from silversmith.pipeline.needs import LOCAL_FILE, LOCAL_VARIABLE, SECRET_NAME, Fetch, Secret, SecretMissing
from silversmith.pipeline.tables import QUERIES_ARE_CHECKED
from silversmith.runtime.queue import SystemUnavailable
from silversmith.schemas import Owner
from silversmith.stores import Lake

#: The most small objects that are committed together: the disk is waited for once, and their memory is bounded.
TOGETHER = 100


def main(connection: Connection, position: c_int, config: WorkerConfig) -> None:
    """Run a worker: load the pipeline, report that it is ready, then run one dispatch after the other.

    ``position`` is that of the message that it began last, which the engine reads after a death.
    """
    begin()
    if config.share is not None:
        change_share(config.share)  # before the pipeline is loaded, which uses Polars
    QUERIES_ARE_CHECKED.set(True)
    try:
        handlers = _Handlers(connection, position, config)
    except DefinitionError as error:
        connection.send_bytes(orjson.dumps({"broken": str(error)}))
        return
    serve(connection, handlers.invoke)


class _Handlers:
    """The handler of each function, made from the environment that the template gives it."""

    def __init__(self, connection: Connection, position: c_int, config: WorkerConfig) -> None:
        self._connection = connection
        self._position = position
        self._positions: dict[str, int] = {}
        self._lake = LakeFolder(config.lake)
        located = locate(config.definition)
        self._fetch = from_machine(located.root)
        self._handlers = {function.name: self._build(located.pipeline, function) for function in config.functions}
        self._ended: dict[str, Any] = {}

    def _build(self, pipeline: Pipeline, function: FunctionConfig) -> Handler:
        environment = function.environment
        stores = self._lake.stores(pipeline, scratch=self._lake.engine_scratch)
        lake = Lake(
            bronze=function.guarded(stores.bronze, environment["SILVERSMITH_BRONZE"]),
            silver=function.guarded(stores.silver, environment["SILVERSMITH_SILVER"]),
            quarantine=function.guarded(stores.quarantine, environment["SILVERSMITH_QUARANTINE"]),
        )
        transform = pipeline.find(environment["SILVERSMITH_TRANSFORM"])
        return Handler(
            replace(transform, since=environment.get("SILVERSMITH_SINCE", "")),
            bucket=environment["SILVERSMITH_BRONZE"],
            lake=lake,
            scratch=self._lake.engine_scratch,
            move_to_dlq=function.require_dlq,
            began=self._began,
            ended=self._end,
            now=lambda: datetime.now(UTC),
            owner=Owner.of(environment),
            environment=function.variables,
            fetch=self._guarded(function),
        )

    def _guarded(self, function: FunctionConfig) -> Fetch:
        """Reads the stand-ins of secrets on this machine, where the function's role may read the secrets."""

        def fetch(name: str, secret: Secret) -> str:
            function.require_secret(secret)
            return self._fetch(name, secret)

        return fetch

    def invoke(self, request: Mapping[str, Any]) -> None:
        """Run the invocations of one dispatch together, and report the outcomes."""
        self._ended = {}
        records = [record for event in request["events"] for record in event["Records"]]
        self._positions = {record["messageId"]: position for position, record in enumerate(records)}
        context = LocalContext(request["function"], request["timeout"], request["memory"])
        os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = context.memory_limit_in_mb
        handler = self._handlers[request["function"]]
        handler.group_size = 1 if request["careful"] else TOGETHER
        try:
            response = handler({"Records": records}, context)
            answer: dict[str, Any] = {"done": split(response, request["events"])}
        except SystemUnavailable as error:  # the messages come back when they said, and the worker goes on
            answer = {"done": split(error.response, request["events"])}
        except Exception as error:  # noqa: BLE001
            answer = broken(error)
        flush()
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


def from_machine(folder: Path, environment: Mapping[str, str] = os.environ) -> Fetch:
    """Stand-ins for secrets on one machine: from a variable of the environment, or the file ``.secrets.env`` in the
    pipeline's folder."""

    def fetch(name: str, secret: Secret) -> str:
        del secret
        value = environment.get(f"{LOCAL_VARIABLE}{name.upper()}")
        value = local_values(folder).get(name) if value is None else value
        if value is None:
            raise SecretMissing(
                f"the secret {name!r} has no value on this machine: write {name}=… into {folder / LOCAL_FILE}, or set "
                f"{LOCAL_VARIABLE}{name.upper()}"
            )
        return value

    return fetch


def local_values(folder: Path) -> dict[str, str]:
    """The values in ``.secrets.env``: lines ``name=value``; quotes around a value, ``export`` and comments are left
    out.

    Raises:
        DefinitionError: a line is none of that. Its text stays out of the message.
    """
    path = folder / LOCAL_FILE
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path} cannot be read: {type(error).__name__}") from None
    values = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.removeprefix("export ").partition("=")
        if not equals or not SECRET_NAME.fullmatch(name.strip().lower()):
            raise DefinitionError(f"{path}:{number}: a line must be name=value, with the name of a secret")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[name.strip().lower()] = value
    return values
