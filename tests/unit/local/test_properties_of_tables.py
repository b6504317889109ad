"""Each property of the table stage that the engine reads is obeyed by its services and the process of tables.

As ``test_properties.py`` has it of the transforms, whose kinds of resources these are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from itertools import count
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import orjson
import pytest

from silversmith.errors import AccessDenied
from silversmith.local.invocation import WorkerConfig
from silversmith.local.journal import Journal
from silversmith.local.kinds import UnsupportedTemplate
from silversmith.local.lake import LakeFolder
from silversmith.local.processes import TABLE_WORKER
from silversmith.local.stack import read
from silversmith.local.table_worker import Tables
from silversmith.local.wiring import worker_functions
from silversmith.local.workers import Dispatch
from silversmith.pipeline import load
from silversmith.template import compile as compile_template
from tests.unit.local.test_properties import (
    BUCKET,
    ELSEWHERE,
    FUNCTION,
    MAPPING,
    QUEUE,
    REFUSED,
    RULE,
    SUBSCRIPTION,
    VARIABLES,
    Engine,
    Json,
    Row,
    _shape,
    allow,
    deny,
    edited,
    forbid,
    put,
)

DEFINITION = """
from silversmith import Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv")
def orders(rows):
    return rows

pipeline.table("orders", of=orders)
"""

FILES = {f"orders/{number}.csv": number for number in range(3)}

TABLE = (
    Row(BUCKET, "BucketName", put("GoldBucket", "BucketName", to="elsewhere"), REFUSED),
    Row("AWS::S3::BucketPolicy", "PolicyDocument",
        put("GoldBucketPolicy", "PolicyDocument", to=deny("s3:PutObject")), "answers"),
    Row("AWS::S3::BucketPolicy", "PolicyDocument",
        put("GoldBucketPolicy", "PolicyDocument", to=deny("s3:ListBucket")), "answers"),
    Row("AWS::S3::BucketPolicy", "PolicyDocument",
        put("GoldBucketPolicy", "PolicyDocument", to=deny("s3:DeleteObject")), "answers"),
    Row("AWS::IAM::Role", "Policies", put("RoleOfTables", "Policies", 0, "PolicyDocument", to=allow("sqs:*")),
        "answers"),
    Row("AWS::IAM::Role", "Policies", put("RoleOfTables", "Policies", 0, "PolicyDocument", "Statement", to=[]),
        REFUSED),
    Row(BUCKET, "NotificationConfiguration", put("SilverBucket", "NotificationConfiguration", to=None), "messages"),
    Row(RULE, "EventPattern", put("SilverRule", "EventPattern", "source", to=["another"]), "messages"),
    Row(RULE, "Targets", put("SilverRule", "Targets", 0, "Arn", to=ELSEWHERE), "dead"),
    Row("AWS::SNS::TopicPolicy", "PolicyDocument", forbid("SilverTopicPolicy"), "dead"),
    Row(SUBSCRIPTION, "Endpoint", put("SubscriptionOfTables", "Endpoint", to=ELSEWHERE), "dead"),
    Row(SUBSCRIPTION, "FilterPolicy", put("SubscriptionOfTables", "FilterPolicy", to={"source": ["another"]}),
        "messages"),
    Row(QUEUE, "QueueName", put("QueueOfTables", "QueueName", to="another"), "messages"),
    Row(QUEUE, "VisibilityTimeout", put("QueueOfTables", "VisibilityTimeout", to=777), "hidden"),
    Row(QUEUE, "MessageRetentionPeriod", put("QueueOfTables", "MessageRetentionPeriod", to=77_777), "messages"),
    Row("AWS::SQS::QueuePolicy", "PolicyDocument", forbid("QueueOfTablesPolicy"), "dead"),
    Row(FUNCTION, "FunctionName", put("Tables", "FunctionName", to="another"), "batches"),
    Row(FUNCTION, "MemorySize", put("Tables", "MemorySize", to=777), "batches"),
    Row(FUNCTION, "Timeout", put("Tables", "Timeout", to=77), "batches"),
    Row(FUNCTION, "Environment", put("Tables", *VARIABLES, "SILVERSMITH_SILVER", to="dl-bronze-layer"), "answers"),
    Row(FUNCTION, "Environment", put("Tables", *VARIABLES, "SILVERSMITH_GOLD", to="dl-bronze-layer"), "answers"),
    Row(FUNCTION, "Environment", put("Tables", *VARIABLES, "SILVERSMITH_GOLD", to="elsewhere"), REFUSED),
    Row(FUNCTION, "Environment", put("Tables", *VARIABLES, "SILVERSMITH_DLQ", to=ELSEWHERE), REFUSED),
    Row(MAPPING, "BatchSize", put("MappingOfTables", "BatchSize", to=2), "batches"),
)  # fmt: skip


class TablesEngine(Engine):
    """An engine over a template with a table, and what can be seen of its stage."""

    files = FILES

    def __init__(self, template: Json, definition: Path, folder: Path, journal: Journal) -> None:
        super().__init__(template, definition, folder, journal)
        (function,) = worker_functions(read(template), "SILVERSMITH_TABLES")
        self._lake.create(function.environment["SILVERSMITH_GOLD"])
        config = WorkerConfig(load(str(definition)).tables.to_json(), folder, (function,), main=TABLE_WORKER)
        self._reports, connection = Pipe()
        self._tables = Tables(connection, config)

    def observe(self) -> dict[str, Any]:
        """Silver is made, its events pass the services, and the process of tables works on the messages."""
        self.land_all()
        self._services.delivery.deliver(self._now)
        for function in self._services.functions:
            for invocation in self._poll(function):
                self._work(function, invocation)
        self._services.delivery.deliver(self._now)
        tables = self._services.tables
        assert tables is not None
        messages = self._messages()
        begun = [*self._poll(tables)]
        return {
            "messages": sorted((queue, key, *times) for queue, key, _, *times in messages),
            "batches": [_shape(invocation) for invocation in begun],
            "hidden": sorted({visible for *_, visible, _ in self._messages()}),
            "answers": [answer for invocation in begun for answer in self._bring(invocation)],
            "dead": self._dead(),
        }

    def _bring(self, invocation: Any) -> list[Any]:
        self._tables.invoke(Dispatch.of([invocation]).request(careful=False))
        answers: list[Any] = []
        while True:
            answer = orjson.loads(self._reports.recv_bytes())
            for outcome in answer["ended"].values():
                error = outcome.get("error") or {}
                answers.append((outcome["key"], outcome["verdict"], error.get("code"), outcome.get("tables")))
            if "done" in answer or "error" in answer:
                return [*sorted(answers, key=str), answer.get("error"), answer.get("tables")]


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("definition") / "pipeline.py"
    path.write_text(DEFINITION)
    return path


@pytest.fixture(scope="module")
def compiled(definition: Path) -> Json:
    return compile_template(load(str(definition)))


Observe = Callable[[Json], dict[str, Any]]


@pytest.fixture
def observe(definition: Path, tmp_path: Path) -> Observe:
    numbers = count()

    def observed(template: Json) -> dict[str, Any]:
        folder = tmp_path / str(next(numbers))
        LakeFolder(folder).create()
        with closing(Journal(LakeFolder(folder).journal)) as journal:
            return TablesEngine(template, definition, folder, journal).observe()

    return observed


def test_the_stage_as_it_is(compiled: Json, observe: Observe) -> None:
    seen = observe(compiled)
    assert [answer[:2] for answer in seen["answers"][:3]] == [(key, "in tables") for key in FILES]
    assert seen["dead"] == []


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_an_edit_of_what_is_read_changes_the_stage_or_is_refused(compiled: Json, observe: Observe, row: Row) -> None:
    before = observe(compiled)
    template = edited(compiled, row.edit)
    if row.seen == REFUSED:
        with pytest.raises((UnsupportedTemplate, AccessDenied)):
            observe(template)
    else:
        assert observe(template)[row.seen] != before[row.seen]


@pytest.mark.parametrize("action", ["s3:ListBucket", "s3:PutObject", "s3:GetObject", "s3:DeleteObject"])
def test_a_table_is_not_touched_where_the_role_may_not_do_all_of_it(
    compiled: Json, observe: Observe, tmp_path: Path, action: str
) -> None:
    """delta-rs asks by itself, and nobody would see which request was one too many."""
    seen = observe(edited(compiled, put("GoldBucketPolicy", "PolicyDocument", to=deny(action))))
    assert {answer[1:3] for answer in seen["answers"][:3]} == {("failed", "AccessDenied")}
    assert list((tmp_path / "0" / "dl-gold-layer").iterdir()) == []
