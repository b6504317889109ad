"""The worker process of tables: it runs their handler with the very event that Lambda would get. No Polars here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from ctypes import c_int
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson

from silversmith.errors import describe
from silversmith.local.iam import Check
from silversmith.local.invocation import LocalContext, WorkerConfig, begin, broken, flush, serve, split
from silversmith.local.lake import LakeFolder
from silversmith.runtime.queue import SystemUnavailable
from silversmith.stores import Store
from silversmith.tables.delta import DeltaFormat, DeltaSnapshot
from silversmith.tables.handler import TableHandler, TablesReport, Work
from silversmith.tables.spec import GoldSpec
from silversmith.tables.types import Columns
from silversmith.tables.views import Refresh

#: What the function's role must allow of everything in a table's folder, and of its bucket.
OBJECT_ACTIONS, BUCKET_ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"), ("s3:ListBucket",)


class GuardedFormat(DeltaFormat):
    """Tables in a folder. delta-rs asks for objects by itself, so all that it may do with a table is checked before the
    table is opened: with a role that may not do all of it nothing is done.

    Args:
        root: the bucket's folder.
        bucket: the bucket's name.
        check: raises AccessDenied for a request that no policy allows.
        scratch: a folder for temporary files.
    """

    def __init__(self, root: Path, *, bucket: str, check: Check, scratch: Path) -> None:
        super().__init__(root, scratch=scratch)
        self._bucket_arn = f"arn:aws:s3:::{bucket}"
        self._check = check

    def read(self, name: str, version: int | None = None) -> DeltaSnapshot | None:
        self._require(name)
        return super().read(name, version)

    def create(
        self, name: str, columns: Columns, *, partition_by: Sequence[str] = (), marks: Mapping[str, int] | None = None
    ) -> DeltaSnapshot:
        self._require(name)
        return super().create(name, columns, partition_by=partition_by, marks=marks)

    def _require(self, name: str) -> None:
        for action in BUCKET_ACTIONS:
            self._check(action, self._bucket_arn)
        for action in OBJECT_ACTIONS:
            self._check(action, f"{self._bucket_arn}/{name}/_delta_log/{0:020}.json")


def main(connection: Connection, _position: c_int, config: WorkerConfig) -> None:
    """Run the process: report that it is ready, then run one dispatch after the other.

    Messages are worked on in groups: the engine is sent which, so that their position says nothing.
    """
    begin()
    serve(connection, Tables(connection, config).invoke)


class Tables:
    """The handler of the tables, made from the environment that the template gives it."""

    def __init__(self, connection: Connection, config: WorkerConfig) -> None:
        self._connection = connection
        lake, (function,) = LakeFolder(config.lake), config.functions
        silver, gold = (function.environment[f"SILVERSMITH_{name}"] for name in ("SILVER", "GOLD"))
        scratch = lake.engine_scratch
        self._gold = GuardedFormat(lake.bucket(gold), bucket=gold, check=function.check_of(gold), scratch=scratch)
        quarantine = function.environment.get("SILVERSMITH_QUARANTINE")

        def store(bucket: str) -> Store:
            return function.guarded(lake.store(bucket, foreign_writers=False, scratch=scratch), bucket)

        self._handler = TableHandler(
            GoldSpec.from_json(config.definition),
            bucket=silver,
            silver=store(silver),
            quarantine=(quarantine, store(quarantine)) if quarantine is not None else None,
            gold=self._gold,
            began=self._began,
            ended=self._end,
            worked=self._worked,
            move_to_dlq=function.require_dlq,
            workers=1,
        )
        self._outcomes: dict[str, Any] = {}
        self._changed: dict[str, None] = {}

    def invoke(self, request: Mapping[str, Any]) -> None:
        """Run the invocations of one dispatch together, or one round, and report the outcomes."""
        self._outcomes, self._changed = {}, {}
        context = LocalContext(request["function"], request["timeout"], request["memory"])
        answer: dict[str, Any]
        try:
            if request.get("reconcile"):
                answer = {"done": [], **self._reconcile()}
            else:
                records = [record for event in request["events"] for record in event["Records"]]
                answer = {"done": split(self._respond(records, context), request["events"])}
            answer["tables"] = self._states()
        except Exception as error:  # noqa: BLE001
            answer = broken(error)
        flush()
        self._connection.send_bytes(orjson.dumps({**answer, "ended": self._outcomes}))

    def _respond(self, records: Sequence[Mapping[str, Any]], context: LocalContext) -> Mapping[str, Any]:
        try:
            return self._handler({"Records": records}, context)
        except SystemUnavailable as error:  # the messages come back when they said, and the process goes on
            return error.response

    def _began(self, messages: Sequence[str]) -> None:
        """Report outcomes before the next messages begin, which may kill the process."""
        self._connection.send_bytes(orjson.dumps({"ended": self._outcomes, "begun": messages}))
        self._outcomes = {}

    def _end(self, report: TablesReport) -> None:
        self._outcomes[report.message_id] = report.to_dict()

    def _worked(self, work: Work) -> None:
        if work.error is not None:
            print(f"{work.name}: {describe(work.error)['message']}", file=sys.stderr)  # noqa: T201 -- the log of tables
        if (work.brought is not None and work.brought.commits) or work.refreshed in {Refresh.GROUPS, Refresh.WHOLE}:
            self._changed[work.name] = None

    def _reconcile(self) -> dict[str, Any]:
        comparison = self._handler.compare()
        for name, refreshed in comparison.views.items():
            self._worked(Work(name, 0.0, refreshed=refreshed))
        return {
            "differing": comparison.differing,
            "failed": {name: describe(error)["message"] for name, error in comparison.failed.items()},
        }

    def _states(self) -> dict[str, dict[str, int]]:
        """The tables and views that were changed, as they are now."""
        snapshots = {name: self._gold.read(name) for name in self._changed}
        return {
            name: {"rows": snapshot.extent.rows, "version": snapshot.version}
            for name, snapshot in snapshots.items()
            if snapshot is not None
        }
