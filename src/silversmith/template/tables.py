"""The resources of gold: from silver's events to the function that makes the tables, and their names in Glue.

The chain is the one from bronze to silver once more: a rule on the events of silver, a topic, a queue, a function. Only
where a pipeline has tables.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from troposphere import AWSObject, GetAtt, Output, Ref, Sub, awslambda, glue, iam, logs, sqs

from silversmith.errors import DefinitionError
from silversmith.lineage import error_key, failed_key
from silversmith.pipeline.deployment import GOLD, STORAGE
from silversmith.runtime.queue import queue_receives
from silversmith.schemas import schema_key
from silversmith.tables.spec import TRIES
from silversmith.template import functions, messaging
from silversmith.template.alarms import age_alarm, dead_letter_alarm, function_alarm
from silversmith.template.permissions import (
    BUCKETS,
    LONGEST_IN_ROLE,
    QUEUES,
    Statement,
    allow,
    key_use,
    known_missing,
    length,
    ours,
    queue_policy,
    role,
    running,
)
from silversmith.template.plan import MISSED, Plan, logical

HANDLER = "silversmith.tables.handler.handler"

#: The parameter with the key of the function's code: it has a bundle of its own.
CODE_KEY = "TablesCodeKey"

#: The file with the tables and views in the bundle. An environment takes 4 KB, and the queries alone may be longer.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
SPEC = "tables.json"

#: Messages that an invocation takes at most, and the seconds that it waits for them: a commit costs the same for one
#: silver object and for thousands, and each is a version of the table.
BATCH_SIZE, BATCH_WINDOW = 10_000, 60

#: Of two invocations that commit to one table at once, one begins again: more side by side would only do so more often.
#: It is Lambda's least. https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
CONCURRENCY = 2


def _reads(plan: Plan) -> tuple[str, ...]:
    """The roles of the buckets that the function knows."""
    return ("silver", *(("quarantine",) if plan.tables.lineage else ()), GOLD)


def require_packages(pipeline: str) -> None:
    """
    Raises:
        DefinitionError: what makes tables is not installed here.
    """
    missing = [name for name in ("deltalake", "arro3") if find_spec(name) is None]
    if missing:
        raise DefinitionError(
            f"the pipeline {pipeline!r} has tables, and {' and '.join(missing)} cannot be imported: install what they "
            "need, pip install 'silversmith[tables]'"
        )


def resources(plan: Plan) -> list[AWSObject]:
    """All resources of gold but the bucket, or nothing where the pipeline has no tables."""
    if not plan.tables:
        return []
    name = plan.physical(kind="Tables")
    timeout = plan.options.tables_timeout
    visibility_timeout = 6 * timeout + BATCH_WINDOW  # as a transform's
    dead = messaging.dead_letter_queue("DLQOfTables", plan.physical(kind="TablesDLQ"), plan, source=name)
    queue = messaging.queue(
        "QueueOfTables", name, plan, dead=dead, visibility_timeout=visibility_timeout, receives=queue_receives(TRIES)
    )
    undelivered = messaging.dead_letter_queue(
        "SubscriptionDLQOfTables", plan.physical(kind="TablesSubscriptionDLQ"), plan
    )
    delivery = [
        queue_policy(target, service="sns.amazonaws.com", sources=Ref("SilverTopic")) for target in (queue, undelivered)
    ]
    subscription = messaging.subscription(
        "SubscriptionOfTables", "SilverTopic", queue, undelivered, filter_policy=None, after=delivery
    )
    log_group = functions.log_group("LogGroupOfTables", plan, name)
    function_role = _role(plan, name, queue=queue, dead=dead, log_group=log_group)
    function = _function(plan, name, role=function_role, log_group=log_group, queue=queue, dead=dead)
    retry = "see `silversmith failures`, then `silversmith redrive`"
    return [
        *messaging.routing(
            plan,
            messaging.silver_patterns(plan),
            topic_title="SilverTopic",
            rule_title="SilverRule",
            description="Silver that a table is made of",
            undelivered=f"an event of silver did not reach the topic: {retry}",
            after=[subscription.title],
        ),
        dead,
        queue_policy(dead),
        queue,
        undelivered,
        *delivery,
        subscription,
        log_group,
        function_role,
        function,
        functions.mapping(
            "MappingOfTables",
            queue,
            function,
            batch_size=BATCH_SIZE,
            batch_window=BATCH_WINDOW,
            concurrency=CONCURRENCY,
        ),
        dead_letter_alarm(dead, plan, f"a table could not be brought up to date with a file of silver: {retry}"),
        dead_letter_alarm(undelivered, plan, f"an event of silver did not reach the queue of the tables: {retry}"),
        age_alarm(
            "QueueOfTablesAgeAlarm",
            queue,
            plan,
            visibility_timeout,
            waits="silver has been waiting too long to become rows of a table",
        ),
        function_alarm("TablesAlarm", function, plan),
        *_glue(plan),
    ]


def _function(
    plan: Plan, name: str, *, role: iam.Role, log_group: logs.LogGroup, queue: sqs.Queue, dead: sqs.Queue
) -> awslambda.Function:
    """A large silver object is read by way of the disk: so it has as much as the largest of the transforms."""
    storage = max(
        plan.options.number("ephemeral_storage", transform) or STORAGE[0] for transform in plan.tables.transforms
    )
    optional: dict[str, Any] = {}
    if storage != STORAGE[0]:
        optional["EphemeralStorage"] = awslambda.EphemeralStorage(Size=storage)
    if plan.options.reconcile_hours:
        optional["DeadLetterConfig"] = awslambda.DeadLetterConfig(TargetArn=GetAtt(MISSED, "Arn"))
    return functions.function(
        "Tables",
        plan,
        name,
        handler=HANDLER,
        role=role,
        log_group=log_group,
        environment={
            "SILVERSMITH_TABLES": SPEC,
            "SILVERSMITH_QUEUE": Ref(queue),
            "SILVERSMITH_DLQ": Ref(dead),
            "SILVERSMITH_FINGERPRINT": fingerprint(plan),
            **functions.lineage_events(plan),
        },
        roles=_reads(plan),
        code=CODE_KEY,
        Description=f"Makes the tables in {plan.buckets[GOLD]} of {plan.buckets['silver']}",
        MemorySize=plan.options.tables_memory,
        Timeout=plan.options.tables_timeout,
        **optional,
    )


def fingerprint(plan: Plan) -> str:
    """It changes when a table or view does."""
    return hashlib.sha256(plan.tables.to_json().encode()).hexdigest()[:16]


def _role(plan: Plan, name: str, *, queue: sqs.Queue, dead: sqs.Queue, log_group: logs.LogGroup) -> iam.Role:
    """The rights of the function. It sends what it gives up on to the dead-letter queue itself, and in a round what it
    misses to its own queue.

    Raises:
        DefinitionError: there are more tables and views than a role's policy can name.
    """
    actions = ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes")
    rounds = [
        allow("SendAgain", "sqs:SendMessage", GetAtt(queue, "Arn")),
        allow("BuryRounds", "sqs:SendMessage", GetAtt(MISSED, "Arn")),
    ]
    statements = [
        *_object_rights(plan),
        known_missing(plan, _reads(plan)),
        allow("ReceiveMessages", [f"sqs:{action}" for action in actions], GetAtt(queue, "Arn")),
        allow("GiveUpMessages", "sqs:SendMessage", GetAtt(dead, "Arn")),
        *(rounds if plan.options.reconcile_hours else []),
        *key_use(plan, BUCKETS, QUEUES),
        *running(plan, name, log_group),
    ]
    if length(statements) > LONGEST_IN_ROLE:
        raise DefinitionError(
            f"the {len(plan.tables.names)} tables and views of the pipeline {plan.name!r} are more than a role's "
            "policy can name: make two pipelines of it, or shorten their names"
        )
    return role("RoleOfTables", plan, "lambda.amazonaws.com", statements)


def _object_rights(plan: Plan) -> list[Statement]:
    """Read silver; read, commit and vacuum gold. All ARNs are spelled out, so that their length is known."""

    def objects(role: str, keys: Iterable[str]) -> list[Sub]:
        return [Sub(f"arn:${{AWS::Partition}}:s3:::{plan.buckets[role]}/{key}") for key in keys]

    transforms = plan.tables.transforms
    read = [key for transform in transforms for key in (f"{transform}/*", schema_key(transform))]
    documents = [key(transform, "*") for transform in plan.tables.lineage for key in (error_key, failed_key)]
    write = [f"s3:{action}" for action in ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload")]
    own = objects(GOLD, (f"{name}/*" for name in plan.tables.names))
    sources = [*objects("silver", read), *objects("quarantine", documents)]
    return [
        allow("ReadSilver", "s3:GetObject", sources, condition=ours()),
        allow("WriteGold", write, own, condition=ours()),
    ]


def _glue(plan: Plan) -> list[AWSObject]:
    """The tables and views by name, for Athena and whatever reads Glue. Their columns stand in Delta Lake's log alone,
    so the columns here only fill the place, as AWS has it.

    https://docs.aws.amazon.com/athena/latest/ug/delta-lake-tables-syncing-metadata.html
    """
    database = glue.Database(
        "GlueDatabase",
        CatalogId=Ref("AWS::AccountId"),
        DatabaseInput=glue.DatabaseInput(
            Name=plan.options.glue_database or plan.name.replace("-", "_"),
            Description=f"The tables of the Silversmith pipeline {plan.name}",
        ),
    )
    return [database, *(_glue_table(name, plan, database) for name in plan.tables.names)]


def _glue_table(name: str, plan: Plan, database: glue.Database) -> glue.Table:
    location = f"s3://{plan.buckets[GOLD]}/{name}/"
    return glue.Table(
        logical(name, "GlueTable"),
        CatalogId=Ref("AWS::AccountId"),
        DatabaseName=Ref(database),
        TableInput=glue.TableInput(
            Name=name,
            TableType="EXTERNAL_TABLE",
            Parameters={"EXTERNAL": "TRUE", "spark.sql.sources.provider": "delta"},
            PartitionKeys=[],
            StorageDescriptor=glue.StorageDescriptor(
                Columns=[glue.Column(Name="col", Type="array<string>")],
                Location=location,
                SerdeInfo=glue.SerdeInfo(Parameters={"serialization.format": "1", "path": location}),
            ),
        ),
    )


def outputs(plan: Plan) -> list[Output]:
    """The queues and the function, the code that is deployed, and where to query."""
    if not plan.tables:
        return []
    queues = {
        "SilverRuleDLQ": "Events of silver that did not reach the topic",
        "QueueOfTables": "Silver that is to become rows of tables",
        "DLQOfTables": "Silver that the tables' function gave up on",
        "SubscriptionDLQOfTables": "Events of silver that did not reach the queue of the tables",
    }
    topic = "All silver that a table is made of: subscribe to it"
    return [
        Output("SilverTopicArn", Description=topic, Value=Ref("SilverTopic")),
        *(Output(f"{title}Url", Description=text, Value=Ref(title)) for title, text in queues.items()),
        Output("TablesName", Description="Makes the tables", Value=Ref("Tables")),
        Output(
            "CodeOfTables",
            Description="What is deployed of the tables",
            Value=json.dumps({"fingerprint": fingerprint(plan)}),
        ),
        Output("GlueDatabaseName", Description="The tables by name, for Athena", Value=Ref("GlueDatabase")),
    ]
