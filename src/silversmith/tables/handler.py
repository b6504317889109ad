"""The Lambda entry point of a pipeline's tables: silver's events in, ``batchItemFailures`` out.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from silversmith import faults
from silversmith.errors import SilversmithError, SystemFault
from silversmith.events import unwrap
from silversmith.stores import Store
from silversmith.tables.commit import Brought, bring
from silversmith.tables.compare import differing as differing_keys
from silversmith.tables.delta import DeltaFormat
from silversmith.tables.format import Format
from silversmith.tables.spec import GoldSpec, TableSpec
from silversmith.tables.upkeep import Kept, keep
from silversmith.tables.views import Refresh, refresh

#: This share of the time is kept for the last commit, the views, and the answer.
RESERVE = 0.3

#: Upkeep is begun only with so much of the time left.
UPKEEP = 0.5

_log = logging.getLogger(__name__)


class NoTime(SystemFault):
    """What is not begun would not be done before the function's deadline."""


class Context(Protocol):
    """What Lambda tells a handler of its invocation."""

    def get_remaining_time_in_millis(self) -> int: ...


@dataclass
class TablesReport:
    """What an invocation did: for each table what became of its keys, for each view whether it was computed, and the
    messages that failed, each with its error. ``keys`` are those in silver, each with the messages that name it."""

    keys: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, Brought] = field(default_factory=dict)
    views: dict[str, Refresh] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)


@dataclass
class Comparison:
    """What a round found: the keys in silver that some table does not have as silver has them now, what became of each
    view, and the tables and views that failed, each with its error."""

    differing: list[str] = field(default_factory=list)
    views: dict[str, Refresh] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)


class TableHandler:
    """Handles the messages of the tables' queue, and compares the tables with silver.

    Args:
        spec: the tables and views.
        bucket: the silver bucket's name; events of another bucket are dropped.
        silver: the bucket.
        gold: where the tables are.
        ended: told what an invocation did.
        now: the time, in seconds since 1970.
        step: as :func:`silversmith.tables.commit.bring` has it.
    """

    def __init__(
        self,
        spec: GoldSpec,
        *,
        bucket: str,
        silver: Store,
        gold: Format,
        ended: Callable[[TablesReport], None] = lambda _: None,
        now: Callable[[], float] = time.time,
        step: Callable[[str], None] = faults.point,
    ) -> None:
        self._spec = spec
        self._bucket = bucket
        self._silver = silver
        self._gold = gold
        self._ended = ended
        self._now = now
        self._step = step

    def __call__(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Bring the tables and views up to date with silver. A message fails with any of its keys, in any of the tables
        and views that the key is for; then it comes back, and what is done already is found done."""
        total = context.get_remaining_time_in_millis()

        def has(share: float) -> bool:
            return context.get_remaining_time_in_millis() >= share * total

        report = TablesReport()
        keys = report.keys = self._keys(event, report)
        for table in self._spec.tables:
            self._bring(table, keys, report, lambda: has(RESERVE))
        self._refresh(keys, report)
        for table in self._spec.tables:
            if table.name in report.tables and has(UPKEEP):
                self._keep(table.name, table.sort_by, report)
        for name, refreshed in report.views.items():
            if refreshed in {Refresh.GROUPS, Refresh.WHOLE} and has(UPKEEP):
                self._keep(name, (), report)
        self._ended(report)
        return {"batchItemFailures": [{"itemIdentifier": message} for message in report.failed]}

    def compare(self) -> Comparison:
        """Find what events missed. What differs is for the queue, like any other change; views are brought up to date
        here, for of a view that was declared later there is no event."""
        comparison = Comparison()
        differing: dict[str, None] = {}
        for table in self._spec.tables:
            try:
                differing |= dict.fromkeys(differing_keys(table, self._silver, self._gold))
            except (SilversmithError, OSError) as error:
                comparison.failed[table.name] = error
        for view in self._spec.views:
            try:
                comparison.views |= refresh([view], self._gold, step=self._step)
            except (SilversmithError, OSError) as error:
                comparison.failed[view.name] = error
        comparison.differing = list(differing)
        return comparison

    def _keys(self, event: Mapping[str, Any], report: TablesReport) -> dict[str, list[str]]:
        """The keys in silver that the messages speak of, each with the messages."""
        keys: dict[str, list[str]] = {}
        for record in event.get("Records", []):
            try:
                for silver_event in unwrap(record["body"]):
                    if silver_event.bucket == self._bucket:
                        keys.setdefault(silver_event.key, []).append(record["messageId"])
            except SilversmithError as error:
                report.failed[record["messageId"]] = error
        return keys

    def _bring(
        self, table: TableSpec, keys: Mapping[str, list[str]], report: TablesReport, has_time: Callable[[], bool]
    ) -> None:
        mine = [key for key in keys if key.startswith(f"{table.transform}/")]
        if not mine:
            return
        try:
            brought = bring(table, mine, silver=self._silver, gold=self._gold, step=self._step, has_time=has_time)
        except (SilversmithError, OSError) as error:
            self._fail(mine, keys, error, report)
            return
        report.tables[table.name] = brought
        for key, reason in brought.failed.items():
            self._fail([key], keys, reason, report)
        self._fail(brought.left, keys, NoTime("there was no time for it: it comes back"), report)

    def _refresh(self, keys: Mapping[str, list[str]], report: TablesReport) -> None:
        """Though no table changed: an invocation before may have died between the table and the view."""
        for view in self._spec.views_over(report.tables):
            try:
                report.views |= refresh([view], self._gold, step=self._step)
            except (SilversmithError, OSError) as error:
                transforms = tuple(f"{table.transform}/" for table in self._spec.tables if table.name in report.tables)
                self._fail([key for key in keys if key.startswith(transforms)], keys, error, report)

    def _keep(self, name: str, sort_by: tuple[str, ...], report: TablesReport) -> None:
        try:
            report.kept[name] = keep(name, self._gold, now=self._now(), sort_by=sort_by, step=self._step)
        except (SilversmithError, OSError):
            _log.warning("the table %s could not be compacted or vacuumed: it is tried again", name, exc_info=True)

    @staticmethod
    def _fail(failed: list[str], keys: Mapping[str, list[str]], error: Exception, report: TablesReport) -> None:
        for key in failed:
            for message in keys[key]:
                report.failed.setdefault(message, error)


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """What Lambda calls. Configured by the environment that the template sets: ``SILVERSMITH_TABLES`` (the tables and
    views as :meth:`GoldSpec.to_json` has them, or the path of a file with that, in the bundle), ``SILVERSMITH_SILVER``
    and ``SILVERSMITH_GOLD`` (the buckets)."""
    return _from_environment()(event, context)


@cache
def _from_environment() -> TableHandler:
    """Built once per execution environment, so that warm invocations pay nothing for it."""
    from silversmith.stores.s3 import connect

    return build(os.environ, s3=connect())


def build(
    environment: Mapping[str, str], *, s3: Any, ended: Callable[[TablesReport], None] | None = None
) -> TableHandler:
    """The function that an environment describes. ``s3`` is a boto3 client."""
    from silversmith.stores.s3 import S3Store

    scratch = Path(tempfile.gettempdir())
    silver = environment["SILVERSMITH_SILVER"]
    return TableHandler(
        read_spec(environment["SILVERSMITH_TABLES"], Path(environment.get("LAMBDA_TASK_ROOT", ""))),
        bucket=silver,
        silver=S3Store(silver, client=s3, scratch=scratch),
        gold=DeltaFormat(
            f"s3://{environment['SILVERSMITH_GOLD']}", scratch=scratch, storage_options=storage_options(environment)
        ),
        ended=ended or logged,
    )


def storage_options(environment: Mapping[str, str]) -> dict[str, str]:
    """What delta-rs is told of S3 besides the credentials and the region, which it finds in the environment itself."""
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {}
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http:")).lower()}


def read_spec(text: str, folder: Path = Path()) -> GoldSpec:
    """The tables and views from their JSON, or from a file below a folder with it: an environment takes 4 KB in all.
    https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
    return GoldSpec.from_json(text if text.lstrip().startswith("{") else folder.joinpath(text).read_bytes())


def logged(report: TablesReport) -> None:
    """Write what an invocation did to the log."""
    for name, brought in report.tables.items():
        _log.info(
            "table %s: version %s, %s replaced, %s removed, %s unchanged, %s failed",
            name, brought.version, brought.replaced, brought.removed, brought.unchanged, len(brought.failed),
        )  # fmt: skip
    for name, refreshed in report.views.items():
        _log.info("view %s: %s", name, refreshed.value)
    for message, error in report.failed.items():
        _log.error("message %s failed: %s: %s", message, type(error).__name__, error)
