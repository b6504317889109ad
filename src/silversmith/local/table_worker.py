"""The worker process of tables: it runs their handler with the very event that Lambda would get. No Polars here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson

from silversmith.errors import describe
from silversmith.local.iam import Check
from silversmith.local.invocation import (
    NOWHERE,
    LocalContext,
    Position,
    TablesConfig,
    begin,
    broken,
    flush,
    serve,
    split,
)
from silversmith.local.lake import LakeFolder
from silversmith.tables.delta import DeltaFormat, DeltaSnapshot
from silversmith.tables.handler import NoTime, TableHandler, TablesReport
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


def main(connection: Connection, position: Path, config: TablesConfig) -> None:
    """Run the process: report that it is ready, then run one dispatch after the other.

    ``position`` is the file of its :class:`~silversmith.local.invocation.Position`.
    """
    begin()
    serve(connection, Tables(connection, Position(position, new=False), config).invoke)


class Tables:
    """The handler of the tables, made from the environment that the template gives it."""

    def __init__(self, connection: Connection, position: Position, config: TablesConfig) -> None:
        position.value = NOWHERE  # a batch is committed as a whole, so a death is charged to all of it
        self._connection = connection
        lake, function = LakeFolder(config.lake), config.function
        silver, gold = (function.environment[f"SILVERSMITH_{name}"] for name in ("SILVER", "GOLD"))
        scratch = lake.engine_scratch
        self._gold = GuardedFormat(lake.bucket(gold), bucket=gold, check=function.check_of(gold), scratch=scratch)
        self._spec = GoldSpec.from_json(config.spec)
        self._handler = TableHandler(
            self._spec,
            bucket=silver,
            silver=function.guarded(lake.store(silver, foreign_writers=False, scratch=scratch), silver),
            gold=self._gold,
            ended=self._end,
        )
        self._report = TablesReport()

    def invoke(self, request: Mapping[str, Any]) -> None:
        """Run the invocations of one dispatch together, or one round, and report the outcomes."""
        self._report = TablesReport()
        context = LocalContext(request["function"], request["timeout"], request["memory"])
        answer: dict[str, Any]
        try:
            if request.get("reconcile"):
                answer = {"done": [], **self._reconcile()}
            else:
                records = [record for event in request["events"] for record in event["Records"]]
                response = self._handler({"Records": records}, context)
                answer = {"done": split(response, request["events"]), "ended": self._outcomes(records)}
            answer["tables"] = self._states()
        except Exception as error:  # noqa: BLE001
            answer = broken(error)
        flush()
        self._connection.send_bytes(orjson.dumps({"ended": {}, **answer}))

    def _end(self, report: TablesReport) -> None:
        self._report = report

    def _reconcile(self) -> dict[str, Any]:
        round_ = self._handler.compare()
        self._report.views |= round_.views
        return {
            "differing": round_.differing,
            "failed": {name: describe(error)["message"] for name, error in round_.failed.items()},
        }

    def _outcomes(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Of each message what became of it. One that there was no time for has no outcome: it was not begun."""
        versions: dict[str, dict[str, int | None]] = {}
        for key, messages in self._report.keys.items():
            of_key = {
                table.name: self._report.tables[table.name].version
                for table in self._spec.tables
                if key.startswith(f"{table.transform}/") and table.name in self._report.tables
            }
            for message in messages:
                versions.setdefault(message, {}).update(of_key)
        outcomes: dict[str, Any] = {}
        for record in records:
            message = record["messageId"]
            error = self._report.failed.get(message)
            if error is None:
                outcomes[message] = {"verdict": "in tables", "tables": versions.get(message, {})}
            elif not isinstance(error, NoTime):
                outcomes[message] = {"verdict": "failed", "failed": True, "error": describe(error)}
        return outcomes

    def _states(self) -> dict[str, dict[str, int]]:
        """The tables and views that were changed, as they are now."""
        names = [name for name, brought in self._report.tables.items() if brought.commits]
        names += [name for name, how in self._report.views.items() if how in {Refresh.GROUPS, Refresh.WHOLE}]
        snapshots = {name: self._gold.read(name) for name in names}
        return {
            name: {"rows": snapshot.extent.rows, "version": snapshot.version}
            for name, snapshot in snapshots.items()
            if snapshot is not None
        }
