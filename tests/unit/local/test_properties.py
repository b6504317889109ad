"""Each property that the engine reads of a template is obeyed by the assembled engine, or the template is refused.

The rooms and the worker's handlers are the engine's own; time is passed in, and there are no processes.
"""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from ctypes import c_int
from dataclasses import dataclass
from itertools import count
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import orjson
import pytest

from silversmith import Deployment
from silversmith.errors import AccessDenied
from silversmith.local.invocation import WorkerConfig
from silversmith.local.journal import Journal
from silversmith.local.kinds import KINDS, UnsupportedTemplate
from silversmith.local.lake import LakeFolder
from silversmith.local.services.bucket import Landed
from silversmith.local.services.function import FunctionService, Invocation
from silversmith.local.stack import read
from silversmith.local.wiring import build, worker_functions
from silversmith.local.worker import _Handlers
from silversmith.local.workers import Dispatch
from silversmith.pipeline import Pipeline, load
from silversmith.template import compile as compile_template

DEFINITION = """
from silversmith import Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv", batch_size=2, max_receive_count=2, maximum_concurrency=5)
def orders(rows):
    if 666 in rows.collect()["x"]:
        raise RuntimeError("no such thing")
    return rows

@pipeline.transform("others/*.csv", batch_size=2)
def others(rows):
    return rows
"""

#: With versions and aliases of the functions, and a limit for each.
DEPLOYMENT = Deployment(snap_start=True, reserved_concurrency=5)

NOON = 1_767_355_200.0

FILES = {f"orders/{number}.csv": 666 if number == 3 else number for number in range(9)} | {"others/a.csv": 1}

Json = dict[str, Any]
Edit = Callable[[Json], object]


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("definition") / "pipeline.py"
    path.write_text(DEFINITION)
    return path


@pytest.fixture(scope="module")
def compiled(definition: Path) -> Json:
    return compile_template(load(str(definition)), deployment=DEPLOYMENT)


class Engine:
    """An engine over a template, and what can be seen of it."""

    files = FILES

    def __init__(self, template: Json, definition: Path, folder: Path, journal: Journal) -> None:
        pipeline: Pipeline = load(str(definition))
        self._lake = LakeFolder(folder)
        self._lake.create(pipeline.bronze, pipeline.silver, pipeline.quarantine)
        self._bronze = self._lake.store(pipeline.bronze, foreign_writers=True)
        self._silver = pipeline.silver
        self._journal = journal
        self._now = NOON
        stack = read(template)
        self._services = build(
            stack,
            journal,
            bronze=pipeline.bronze,
            silver=pipeline.silver,
            quarantine=pipeline.quarantine,
            clock=lambda: self._now,
        )
        config = WorkerConfig(str(definition), folder, worker_functions(stack))
        self._answers, connection = Pipe()
        self._handlers = _Handlers(connection, c_int(), config)

    def observe(self) -> dict[str, Any]:
        """Files land, pass the rooms, and are worked on; one message is received until its queue gives up on it."""
        self.land_all()
        self._services.delivery.deliver(self._now)
        messages = self._messages()
        begun = [(function, invocation) for function in self._services.functions for invocation in self._poll(function)]
        return {
            "messages": sorted((queue, key, *times) for queue, key, _, *times in messages),
            "events": [_event(body) for _, key, body, *_ in messages if key == "orders/0.csv"],
            "batches": [_shape(invocation) for _, invocation in begun],
            "hidden": sorted({visible for *_, visible, _ in self._messages()}),
            "answers": sorted(answer for function, invocation in begun for answer in self._work(function, invocation)),
            "owner": self._owners(),
            "receives": self._exhaust(),
            "trace": [row[4:8] for row in self._journal.rows("hops", key="others/a.csv") if row[4] != "function"],
            "dead": self._dead(),
        }

    def land_all(self) -> None:
        for key, value in self.files.items():
            self._land(key, value)

    def _land(self, key: str, value: int) -> None:
        path = self._lake.bucket(self._services.bucket.name) / key
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"x\n{value}\n")
        glance, head = self._bronze.glance(key), self._bronze.head(key)
        assert glance is not None
        assert head is not None
        self._services.bucket.notice([Landed(key, glance.identity, head.etag, head.size)])

    def _messages(self) -> list[tuple[Any, ...]]:
        """Queue, key, body, and the seconds until each message may be received and until it expires."""
        rows = self._sql("SELECT arn, key, body, visible, expires FROM messages JOIN queues ON queue = queues.id")
        return [(*row[:3], row[3] - self._now, row[4] - self._now) for row in rows]

    def _dead(self) -> list[tuple[Any, ...]]:
        return self._sql(
            "SELECT arn, key, dead_source, dead_reason, expires - sent FROM messages "
            "JOIN queues ON queue = queues.id WHERE dead_at IS NOT NULL ORDER BY arn, key"
        )

    def _sql(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._lake.journal)) as connection:
            return connection.execute(query).fetchall()

    def _poll(self, function: FunctionService) -> Iterator[Invocation]:
        while invocations := function.poll(self._now):
            yield from invocations

    def _work(self, function: FunctionService, invocation: Invocation) -> list[tuple[str, str, str]]:
        """As a worker and the engine do; of each file the function's name, and what became of it."""
        self._handlers.invoke(Dispatch.of([invocation]).request(careful=False))
        response: object = None
        while response is None:
            answer = orjson.loads(self._answers.recv_bytes())
            invocation.outcomes |= answer["ended"]
            response = answer.get("done") or answer.get("error")
        assert isinstance(response, list), response
        function.complete([(invocation, response[0])], self._now)
        return [
            (invocation.messages[name].key, function.settings.name, str((outcome["verdict"], outcome.get("error"))))
            for name, outcome in invocation.outcomes.items()
        ]

    def _owners(self) -> list[str]:
        schemas = self._lake.bucket(self._silver) / "_schemas"
        return [orjson.loads(path.read_bytes())["owner"] for path in sorted(schemas.glob("*.json"))]

    def _exhaust(self) -> int:
        """Receive what failed, and never end, until nothing is received any more; how often."""
        receives = 0
        for queue in self._services.queues.values():
            while queue.settings.dead_letter_arn and (visible := queue.next_visible()) is not None:
                self._now = max(self._now, visible)
                receives += len(queue.receive(100, self._now))
        return receives


def _event(body: bytes) -> object:
    """A message as it stands in a queue, without what is drawn by lot."""
    event = orjson.loads(body)
    if "Message" in event:
        return sorted(event)
    return event["resources"], sorted(event["detail"]["object"]), event["region"]


def _shape(invocation: Invocation) -> tuple[Any, ...]:
    request = Dispatch.of([invocation]).request(careful=False)
    sources = {record["eventSourceARN"] for event in request["events"] for record in event["Records"]}
    keys = [message.key for message in invocation.messages.values()]
    return request["function"], request["timeout"], request["memory"], invocation.deadline - NOON, sources, keys


# The table ------------------------------------------------------------------------------------------------------------

REFUSED = "refused"


def put(logical: str, *path: str | int, to: Any) -> Edit:
    """Set a property of a resource, by the path to it; None takes it away."""

    def edit(template: Json) -> None:
        place = template["Resources"][logical]["Properties"]
        for name in path[:-1]:
            place = place[name]
        if to is None:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return edit


def arn(logical: str) -> Json:
    return {"Fn::GetAtt": [logical, "Arn"]}


def deny(action: str, principal: object = "*") -> Json:
    statement = {"Effect": "Deny", "Principal": principal, "Action": action, "Resource": "*"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def allow(action: str) -> Json:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}


def nothing(_: Json) -> None:
    pass


def without(logical: str) -> Edit:
    return lambda template: template["Resources"].pop(logical)


def all_of(*edits: Edit) -> Edit:
    return lambda template: [edit(template) for edit in edits]


def forbid(logical: str) -> Edit:
    """Take the statement away by which a queue or a topic may be sent to."""
    return put(logical, "PolicyDocument", "Statement", to=[])


def attach(*arns: object) -> Edit:
    """The role of ``orders`` may do everything by a managed policy, and nothing else."""
    policy = {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {"ManagedPolicyName": "Extra", "PolicyDocument": allow("*")},
    }
    return all_of(
        lambda template: template["Resources"].update(Extra=policy),
        put("OrdersRole", "Policies", to=[]),
        put("OrdersRole", "ManagedPolicyArns", to=list(arns)),
    )


@dataclass(frozen=True)
class Row:
    """A property, an edit of it, and what changes by it: ``seen`` in the engine, or the template is refused. ``setup``
    edits the template first, so that there is something to change."""

    kind: str
    name: str
    edit: Edit
    seen: str
    setup: Edit = nothing

    def __str__(self) -> str:
        return f"{self.kind.rpartition('::')[2]}.{self.name}-{self.seen}"


BUCKET, RULE, TOPIC, QUEUE = "AWS::S3::Bucket", "AWS::Events::Rule", "AWS::SNS::Topic", "AWS::SQS::Queue"
SUBSCRIPTION, FUNCTION = "AWS::SNS::Subscription", "AWS::Lambda::Function"
MAPPING = "AWS::Lambda::EventSourceMapping"
ELSEWHERE = "arn:aws:sqs:us-east-1:000000000000:elsewhere"
VARIABLES = ("Environment", "Variables")
NO_SUBSCRIPTION = forbid("OrdersQueuePolicy")
FILTERS = {"Filters": [{"Pattern": '{"body": {"detail": {"object": {"key": [{"suffix": "0.csv"}]}}}}'}]}
ROLE_ARN = "arn:aws:iam::000000000000:role/OrdersRole"

TABLE = (
    Row(BUCKET, "BucketName", put("BronzeBucket", "BucketName", to="elsewhere"), REFUSED),
    Row(BUCKET, "BucketName", put("SilverBucket", "BucketName", to="elsewhere"), REFUSED),
    Row(BUCKET, "NotificationConfiguration", put("BronzeBucket", "NotificationConfiguration", to=None), "messages"),
    Row(BUCKET, "VersioningConfiguration", put("BronzeBucket", "VersioningConfiguration", to=None), "events"),
    Row(BUCKET, "VersioningConfiguration",
        put("BronzeBucket", "VersioningConfiguration", "Status", to="Suspended"), REFUSED),
    Row("AWS::S3::BucketPolicy", "PolicyDocument",
        put("SilverBucketPolicy", "PolicyDocument", to=deny("s3:PutObject")), "answers"),
    Row("AWS::S3::BucketPolicy", "Bucket", put("SilverBucketPolicy", "Bucket", to="elsewhere"), "answers",
        setup=put("SilverBucketPolicy", "PolicyDocument", to=deny("s3:PutObject"))),
    Row(RULE, "Name", put("Rule", "Name", to="another"), "trace",
        setup=put("RuleDLQPolicy", "PolicyDocument", to={"Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}]})),
    Row(RULE, "EventPattern", put("Rule", "EventPattern", "source", to=["another"]), "messages"),
    Row(RULE, "State", put("Rule", "State", to="DISABLED"), REFUSED),
    Row(RULE, "Targets", put("Rule", "Targets", 0, "Arn", to=ELSEWHERE), "dead"),
    Row(RULE, "Targets", put("Rule", "Targets", 0, "DeadLetterConfig", to=None), "dead", setup=forbid("TopicPolicy")),
    Row(RULE, "Targets", put("Rule", "Targets", 0, "DeadLetterConfig", to={"Arn": ELSEWHERE}), REFUSED),
    Row(RULE, "Targets", lambda template: template["Resources"]["Rule"]["Properties"]["Targets"].append(
        {"Id": "Second", "Arn": ELSEWHERE}), REFUSED),
    Row(TOPIC, "TopicName", put("Topic", "TopicName", to="another"), "trace"),
    Row("AWS::SNS::TopicPolicy", "Topics", put("TopicPolicy", "Topics", to=[]), "dead"),
    Row("AWS::SNS::TopicPolicy", "PolicyDocument", forbid("TopicPolicy"), "dead"),
    Row(SUBSCRIPTION, "TopicArn", put("OrdersSubscription", "TopicArn", to="arn:aws:sns:::elsewhere"), "messages",
        setup=put("OrdersSubscription", "RedrivePolicy", to=None)),
    Row(SUBSCRIPTION, "Protocol", put("OrdersSubscription", "Protocol", to="https"), REFUSED),
    Row(SUBSCRIPTION, "Endpoint", put("OrdersSubscription", "Endpoint", to=ELSEWHERE), "dead"),
    Row(SUBSCRIPTION, "RawMessageDelivery", put("OrdersSubscription", "RawMessageDelivery", to=False), "events"),
    Row(SUBSCRIPTION, "FilterPolicy", put("OrdersSubscription", "FilterPolicy", to={"source": ["another"]}),
        "messages"),
    Row(SUBSCRIPTION, "FilterPolicyScope", put("OrdersSubscription", "FilterPolicyScope", to="MessageAttributes"),
        "messages", setup=put("OrdersSubscription", "FilterPolicy", to={"source": ["aws.s3"]})),
    Row(SUBSCRIPTION, "RedrivePolicy", put("OrdersSubscription", "RedrivePolicy", to=None), "dead",
        setup=NO_SUBSCRIPTION),
    Row(SUBSCRIPTION, "RedrivePolicy",
        put("OrdersSubscription", "RedrivePolicy", "deadLetterTargetArn", to=ELSEWHERE), REFUSED),
    Row(QUEUE, "QueueName", put("OrdersQueue", "QueueName", to="another"), "messages"),
    Row(QUEUE, "VisibilityTimeout", put("OrdersQueue", "VisibilityTimeout", to=77), "hidden"),
    Row(QUEUE, "MessageRetentionPeriod", put("OrdersQueue", "MessageRetentionPeriod", to=77_777), "messages"),
    Row(QUEUE, "MessageRetentionPeriod", put("OrdersQueueDLQ", "MessageRetentionPeriod", to=77_777), "dead"),
    Row(QUEUE, "DelaySeconds", put("OrdersQueue", "DelaySeconds", to=7), "messages"),
    Row(QUEUE, "RedrivePolicy", put("OrdersQueue", "RedrivePolicy", "maxReceiveCount", to=7), "receives"),
    Row(QUEUE, "RedrivePolicy", put("OrdersQueue", "RedrivePolicy", "maxReceiveCount", to=None), REFUSED),
    Row(QUEUE, "RedrivePolicy",
        put("OrdersQueue", "RedrivePolicy", "deadLetterTargetArn", to=arn("OthersQueueDLQ")), REFUSED),
    Row(QUEUE, "RedrivePolicy", put("OrdersQueue", "RedrivePolicy", to=None), REFUSED),
    Row("AWS::SQS::QueuePolicy", "Queues", put("OrdersQueuePolicy", "Queues", to=[]), "dead"),
    Row("AWS::SQS::QueuePolicy", "PolicyDocument", forbid("OrdersQueuePolicy"), "dead"),
    Row("AWS::SQS::QueuePolicy", "PolicyDocument", forbid("OrdersSubscriptionDLQPolicy"), REFUSED),
    Row("AWS::IAM::Role", "RoleName", put("OrdersRole", "RoleName", to="another"), "answers",
        setup=put("SilverBucketPolicy", "PolicyDocument", to=deny("s3:PutObject", {"AWS": ROLE_ARN}))),
    Row("AWS::IAM::Role", "Policies", put("OrdersRole", "Policies", 0, "PolicyDocument", to=allow("sqs:*")),
        "answers"),
    Row("AWS::IAM::Role", "Policies", put("OrdersRole", "Policies", to=[]), REFUSED),
    Row("AWS::IAM::Role", "ManagedPolicyArns", put("OrdersRole", "ManagedPolicyArns", to=[]), REFUSED,
        setup=attach({"Ref": "Extra"})),
    Row("AWS::IAM::ManagedPolicy", "PolicyDocument", put("Extra", "PolicyDocument", to=allow("sqs:*")), "answers",
        setup=attach({"Ref": "Extra"})),
    Row("AWS::IAM::ManagedPolicy", "ManagedPolicyName", put("Extra", "ManagedPolicyName", to="another"), REFUSED,
        setup=attach("arn:aws:iam::000000000000:policy/Extra")),
    Row(FUNCTION, "FunctionName", put("OrdersFunction", "FunctionName", to="another"), "batches"),
    Row(FUNCTION, "MemorySize", put("OrdersFunction", "MemorySize", to=777), "batches"),
    Row(FUNCTION, "Timeout", put("OrdersFunction", "Timeout", to=7), "batches"),
    Row(FUNCTION, "Environment", put("OrdersFunction", *VARIABLES, "SILVERSMITH_TRANSFORM", to="others"), "answers"),
    Row(FUNCTION, "Environment",
        put("OrdersFunction", *VARIABLES, "SILVERSMITH_SILVER", to="dl-bronze-layer"), "answers"),
    Row(FUNCTION, "Environment", put("OrdersFunction", *VARIABLES, "SILVERSMITH_BRONZE", to="elsewhere"), REFUSED),
    Row(FUNCTION, "Environment", put("OrdersFunction", *VARIABLES, "SILVERSMITH_STACK", to="another"), "owner"),
    Row(FUNCTION, "Environment",
        put("OrdersFunction", *VARIABLES, "SILVERSMITH_DLQ", to={"Ref": "OthersQueueDLQ"}), REFUSED),
    Row(FUNCTION, "Role", put("OrdersFunction", "Role", to=arn("RoleOfReconciler")), REFUSED),
    Row(FUNCTION, "Role", put("OrdersFunction", "Role", to="arn:aws:iam::1:role/elsewhere"), REFUSED),
    Row(FUNCTION, "ReservedConcurrentExecutions", put("OrdersFunction", "ReservedConcurrentExecutions", to=2),
        "batches"),
    Row(FUNCTION, "ReservedConcurrentExecutions", put("OrdersFunction", "ReservedConcurrentExecutions", to=0),
        "batches"),
    Row("AWS::Lambda::Alias", "FunctionName", put("OrdersAlias", "FunctionName", to={"Ref": "OthersFunction"}),
        REFUSED),
    Row(MAPPING, "EventSourceArn", put("OrdersMapping", "EventSourceArn", to=arn("OthersQueue")), REFUSED),
    Row(MAPPING, "EventSourceArn", put("OrdersMapping", "EventSourceArn", to=ELSEWHERE), REFUSED),
    Row(MAPPING, "FunctionName", put("OrdersMapping", "FunctionName", to={"Ref": "Reconciler"}), REFUSED),
    Row(MAPPING, "BatchSize", put("OrdersMapping", "BatchSize", to=3), "batches"),
    Row(MAPPING, "MaximumBatchingWindowInSeconds", put("OthersMapping", "MaximumBatchingWindowInSeconds", to=7),
        "batches"),
    Row(MAPPING, "FunctionResponseTypes", put("OrdersMapping", "FunctionResponseTypes", to=None), REFUSED),
    Row(MAPPING, "ScalingConfig", put("OrdersMapping", "ScalingConfig", to={"MaximumConcurrency": 2}), "batches"),
    Row(MAPPING, "FilterCriteria", put("OrdersMapping", "FilterCriteria", to=FILTERS), "batches"),
)  # fmt: skip


@pytest.fixture
def observe(definition: Path, tmp_path: Path) -> Callable[[Json], dict[str, Any]]:
    """Every observable fact of an engine over a template, in a lake of its own."""
    numbers = count()

    def observed(template: Json) -> dict[str, Any]:
        folder = tmp_path / str(next(numbers))
        LakeFolder(folder).create()
        with closing(Journal(LakeFolder(folder).journal)) as journal:
            seen = Engine(template, definition, folder, journal).observe()
        return {name: orjson.loads(orjson.dumps(value, default=sorted)) for name, value in seen.items()}

    return observed


Observe = Callable[[Json], dict[str, Any]]


def edited(template: Json, *edits: Edit) -> Json:
    changed = copy.deepcopy(template)
    for edit in edits:
        edit(changed)
    return changed


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_an_edit_of_what_is_read_changes_the_engine_or_is_refused(compiled: Json, observe: Observe, row: Row) -> None:
    before = observe(edited(compiled, row.setup))
    template = edited(compiled, row.setup, row.edit)
    if row.seen == REFUSED:
        with pytest.raises((UnsupportedTemplate, AccessDenied)):
            observe(template)
    else:
        assert observe(template)[row.seen] != before[row.seen]


def test_the_same_template_is_seen_the_same(compiled: Json, observe: Observe) -> None:
    """Else an edit could seem to change something that is drawn by lot."""
    assert observe(compiled) == observe(compiled)


def test_the_table_has_every_property_that_is_read() -> None:
    reads = {(kind, name) for kind, known in KINDS.items() for name in known.read}
    assert {(row.kind, row.name) for row in TABLE} == reads


#: Patterns and policies have languages of their own; a function may have any variables; the values of tags are theirs.
OPAQUE = {"EventPattern", "FilterPolicy", "PolicyDocument", "Variables"}


def objects(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all objects below a property that are not references."""
    if isinstance(value, Mapping) and not any(name == "Ref" or name.startswith("Fn::") for name in value):
        yield path
        for name, item in value.items():
            if name not in OPAQUE:
                yield from objects(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from objects(item, (*path, number))


def test_unknown_parts_of_a_property_are_refused(compiled: Json) -> None:
    template = edited(compiled, put("OrdersMapping", "FilterCriteria", to=FILTERS))
    refused = 0
    for logical, resource in template["Resources"].items():
        for name, value in resource.get("Properties", {}).items():
            if name not in KINDS[resource["Type"]].read - OPAQUE:
                continue
            for path in objects(value, (name,)):
                with pytest.raises(UnsupportedTemplate, match="Surprise"):
                    read(edited(template, put(logical, *path, "Surprise", to=1)))
                refused += 1
    assert refused > 20


def test_the_docs_list_what_is_ignored() -> None:
    page = (Path(__file__).parents[3] / "docs" / "template.md").read_text()
    section = page.partition("## What the local engine does differently")[2].partition("\n## ")[0]
    ignored = {name for kind in KINDS.values() for name in kind.ignored} | {"Tags", "RetryPolicy", "GroupName"}
    assert not {name for name in ignored if f"`{name}`" not in section}
