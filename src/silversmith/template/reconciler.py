"""The function that compares bronze and silver once in a while, and the schedule that invokes it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from troposphere import AWSObject, GetAtt, Join, Output, Ref, Sub, awslambda, iam, logs, scheduler, sqs

from silversmith.lineage import error_key, failed_key
from silversmith.pipeline import Transform
from silversmith.pipeline.deployment import GOLD, ROLES
from silversmith.pipeline.since import DEPLOY
from silversmith.reconcile.lease import branch_key, lease_key
from silversmith.schemas import schema_key
from silversmith.tables.spec import LINEAGE
from silversmith.template import functions
from silversmith.template.alarms import dead_letter_alarm, round_alarm
from silversmith.template.messaging import (
    bronze_patterns,
    dead_letter_queue,
    filter_policy,
    rule_titles,
    silver_patterns,
)
from silversmith.template.permissions import (
    BUCKETS,
    LONGEST_IN_ROLE,
    QUEUES,
    Statement,
    allow,
    escaped,
    key_use,
    known_missing,
    length,
    one_or_list,
    ours,
    policy,
    queue_policy,
    role,
    running,
)
from silversmith.template.plan import MISSED, Plan, arn, logical, since_parameter

HANDLER = "silversmith.reconcile.handler.handler"

#: One whole processor, in MB of memory. https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
MEMORY = 1_769

#: Lambda's longest, in seconds.
TIMEOUT = 900

#: The size of ``/tmp`` in MB where an inventory is read: a file of it, and the sorted keys of a branch.
STORAGE = 4_096

#: How many seconds a round that did not take place is remembered: the next one makes up for it.
MISSED_RETENTION = 86_400

#: How often the schedule tries to invoke the function, and for how many seconds.
RETRY_ATTEMPTS = 10
RETRY_SECONDS = 3_600

#: A round begins within so many minutes after its time, or a quarter of the time between two, so that the rounds of an
#: account's stacks, and the two of one stack, do not all begin at once.
#: https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-flexible-time-windows.html
SPREAD_MINUTES = 60

#: The longest policy that stands by itself, in characters, with room to spare.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
LONGEST_MANAGED = 5_900

#: A longer prefix of bronze keys is not spelled out in a policy.
LONGEST_PREFIX = 100


def resources(plan: Plan) -> list[AWSObject]:
    """The reconciler, or nothing if the deployment wants none."""
    if plan.options.reconcile_hours == 0:
        return []
    name = plan.physical(kind="Reconciler")
    missed = dead_letter_queue(MISSED, plan.physical(kind="ReconcilerDLQ"), plan, retention=MISSED_RETENTION)
    log_group = functions.log_group("LogGroupOfReconciler", plan, name)
    managed, rights = _rights(plan, name, missed, log_group)
    function_role = role("RoleOfReconciler", plan, "lambda.amazonaws.com", rights, managed=managed)
    function = functions.function(
        "Reconciler",
        plan,
        name,
        handler=HANDLER,
        role=function_role,
        log_group=log_group,
        environment={"SILVERSMITH_INVENTORY": plan.inventory} if plan.inventory else {},
        roles=(*ROLES, GOLD) if plan.tables.lineage else ROLES,
        Description=f"Sends again what did not become silver in {plan.buckets['silver']}",
        MemorySize=MEMORY,
        Timeout=TIMEOUT,
        **({"EphemeralStorage": awslambda.EphemeralStorage(Size=STORAGE)} if plan.inventory else {}),
        RecursiveLoop="Allow",  # it invokes itself to go on, and stops by itself where it makes no progress
        DeadLetterConfig=awslambda.DeadLetterConfig(TargetArn=GetAtt(missed, "Arn")),
    )
    alarms = {
        "Missing": "events were lost, and their files were sent again: see `silversmith doctor --target aws`",
        "Unfinished": "the round before the last one was not completed: see the logs of the function",
        "ChainBroken": "files do not reach the functions: `silversmith doctor --target aws` says which hop is broken",
    }
    return [
        missed,
        queue_policy(missed),
        log_group,
        *managed,
        function_role,
        function,
        *_schedule(plan, function, missed),
        dead_letter_alarm(missed, plan, _not_compared(plan, name)),
        *(
            round_alarm(f"{metric}Alarm", function, plan, metric=metric, description=description)
            for metric, description in alarms.items()
        ),
    ]


def outputs(plan: Plan) -> list[Output]:
    """The function to invoke for a round out of turn."""
    if plan.options.reconcile_hours == 0:
        return []
    return [Output("ReconcilerName", Description="Compares bronze and silver", Value=Ref("Reconciler"))]


def _schedule(plan: Plan, function: awslambda.Function, missed: sqs.Queue) -> list[AWSObject]:
    """The schedules, in a group of their own: a role can be bound to nothing narrower.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
    """
    group_name = plan.physical(kind="Schedules")
    condition = {
        "StringEquals": {"aws:SourceAccount": Ref("AWS::AccountId")},
        "ArnEquals": {"aws:SourceArn": Sub(arn("scheduler", f"schedule-group/{group_name}"))},
    }
    group = scheduler.ScheduleGroup("ScheduleGroup", Name=group_name)
    tables = GetAtt("Tables", "Arn")
    rights = [
        allow("InvokeReconciler", "lambda:InvokeFunction", GetAtt(function, "Arn")),
        *([allow("InvokeTables", "lambda:InvokeFunction", tables)] if plan.tables else []),
        allow("BuryRounds", "sqs:SendMessage", GetAtt(missed, "Arn")),
        *key_use(plan, QUEUES),
    ]
    schedule_role = role("RoleOfSchedule", plan, "scheduler.amazonaws.com", rights, condition=condition)
    hours = plan.options.reconcile_hours
    spread = scheduler.FlexibleTimeWindow(Mode="FLEXIBLE", MaximumWindowInMinutes=min(SPREAD_MINUTES, 15 * hours))

    def every_so_often(title: str, kind: str, compared: str, target: GetAtt, event: str) -> scheduler.Schedule:
        return scheduler.Schedule(
            title,
            Name=plan.physical(kind=kind),
            GroupName=Ref(group),
            Description=f"Compares {compared}",
            ScheduleExpression=f"rate({hours} {'hours' if hours > 1 else 'hour'})",
            FlexibleTimeWindow=spread,
            State="ENABLED",
            Target=scheduler.Target(
                Arn=target,
                RoleArn=GetAtt(schedule_role, "Arn"),
                Input=Sub(event),
                DeadLetterConfig=scheduler.DeadLetterConfig(Arn=GetAtt(missed, "Arn")),
                RetryPolicy=scheduler.RetryPolicy(
                    MaximumEventAgeInSeconds=RETRY_SECONDS, MaximumRetryAttempts=RETRY_ATTEMPTS
                ),
            ),
        )

    schedules = [every_so_often("Schedule", "Reconciler", "bronze and silver", GetAtt(function, "Arn"), _input(plan))]
    if plan.tables:
        event = json.dumps({"reconcile": True, "queue": "${QueueOfTables}"})
        schedules.append(every_so_often("ScheduleOfTables", "Tables", "silver and gold", tables, event))
    return [group, schedule_role, *schedules]


def _not_compared(plan: Plan, name: str) -> str:
    if not plan.tables:
        return f"bronze and silver were not compared: see the logs of the function {name}"
    return (
        "bronze and silver, or silver and gold, were not compared: see the logs of the functions "
        f"{name} and {plan.physical(kind='Tables')}"
    )


def _input(plan: Plan) -> str:
    """The function's event, into which ``Fn::Sub`` puts URLs and ARNs, and the scheduler the values of its keywords.

    The round's name is the same however often the scheduler and Lambda try.
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
    """
    names = [transform.name for transform in plan.transforms]
    event = {
        "queues": {name: f"${{{logical(name, 'Queue')}}}" for name in names},
        "dead": {name: f"${{{logical(name, 'QueueDLQ')}}}" for name in names},
        "changed": False,
        "round": "<aws.scheduler.schedule-arn> <aws.scheduler.scheduled-time>",
        "hops": _hops(plan),
    }
    since = {each.name: f"${{{since_parameter(each.name)}}}" for each in plan.transforms if each.since == DEPLOY}
    if since:
        event["since"] = since
    if plan.tables.lineage:
        event |= {
            "tables": "${QueueOfTables}",
            "buckets": {role: plan.buckets[role] for role in ("silver", "quarantine")},
        }
    return json.dumps(event)


def _hops(plan: Plan) -> list[dict[str, Any]]:
    """The hops of every topic, see :class:`silversmith.reconcile.hops.Hops`."""
    hops = [
        {
            "bucket": plan.buckets["bronze"],
            "topic": "${Topic}",
            "rules": [f"${{{title}}}" for title in rule_titles(bronze_patterns(plan))],
            "subscriptions": [_subscription(transform) for transform in plan.transforms],
            "mappings": [f"${{{logical(transform.name, 'Mapping')}}}" for transform in plan.transforms],
        }
    ]
    if plan.tables:
        hops.append(
            {
                "bucket": plan.buckets["silver"],
                "topic": "${SilverTopic}",
                "rules": [f"${{{title}}}" for title in rule_titles(silver_patterns(plan), "SilverRule")],
                "subscriptions": [{"queue": "${QueueOfTables.Arn}", "filter": None}],
                "mappings": ["${MappingOfTables}"],
            }
        )
    return hops


def _subscription(transform: Transform) -> dict[str, Any]:
    """A ``${`` in a key pattern is no reference."""
    narrow = json.dumps(filter_policy(transform.pattern)).replace("${", "${!")
    return {"queue": f"${{{logical(transform.name, 'Queue')}.Arn}}", "filter": json.loads(narrow)}


def _rights(
    plan: Plan, name: str, missed: sqs.Queue, log_group: logs.LogGroup
) -> tuple[list[iam.ManagedPolicy], list[Statement]]:
    """The function's rights: in its role as much as fits there, the rest in policies of their own."""
    # A conditional put needs s3:GetObject too.
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    key = lease_key(name)
    keys = [key, branch_key(key, "*")] if plan.tables.lineage else [key]
    leases = one_or_list([Join("", [plan.bucket_arn("quarantine"), f"/{each}"]) for each in keys])
    always = [
        known_missing(plan, (*ROLES, GOLD) if plan.tables.lineage else ROLES),
        *_lineage_rights(plan),
        allow("GoOn", "lambda:InvokeFunction", Sub(arn("lambda", f"function:{name}"))),
        allow("BuryRounds", "sqs:SendMessage", GetAtt(missed, "Arn")),
        allow("MeasureQueues", "sqs:GetQueueAttributes", Sub(arn("sqs", f"{plan.name}_*"))),
        allow("HoldLease", ["s3:GetObject", "s3:PutObject"], leases, condition=ours()),
        *_hop_rights(plan),
        *key_use(plan, BUCKETS, QUEUES),
        *running(plan, name, log_group),
    ]
    first, *rest = _parts(plan, LONGEST_IN_ROLE - 2 * length(always))
    managed = [
        iam.ManagedPolicy(
            f"PolicyOfReconciler{number}",
            Description=f"More of what {name} needs",
            PolicyDocument=policy(*_transform_rights(part, plan)),
        )
        for number, part in enumerate(rest, start=2)
    ]
    return managed, [*_transform_rights(first, plan), *always]


def _lineage_rights(plan: Plan) -> list[Statement]:
    """Read the lineage, have it look again at what it is behind of, and see how old the messages of a busy queue are.
    A metric has no ARN: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html"""
    if not plan.tables.lineage:
        return []
    objects = Sub(f"arn:${{AWS::Partition}}:s3:::{plan.buckets[GOLD]}/{LINEAGE}/*")
    return [
        allow("ReadLineage", "s3:GetObject", objects, condition=ours()),
        allow("TellTables", "sqs:SendMessage", Sub(arn("sqs", plan.physical(kind="Tables")))),
        allow("SeeAges", "cloudwatch:GetMetricStatistics", "*"),
        *_inventory_rights(plan),
    ]


def _inventory_rights(plan: Plan) -> list[Statement]:
    """Read the inventories of bronze; a listing says which is the newest. Their files may lie beside their folder."""
    if not plan.inventory:
        return []
    bucket, _, folder = plan.inventory.partition("/")
    place = f"arn:${{AWS::Partition}}:s3:::{bucket}"
    keys = escaped(folder[: folder.rfind("/") + 1]).replace("${", "${!")
    rights = [allow("ReadInventories", "s3:GetObject", Sub(f"{place}/{keys}*"), condition=ours())]
    if bucket not in plan.buckets.values():
        rights.append(allow("ListInventories", "s3:ListBucket", Sub(place), condition=ours()))
    return rights


def _parts(plan: Plan, room: int) -> Iterator[list[Transform]]:
    """The transforms in as few parts as fit into policies; ``room`` is that of the first one."""
    part: list[Transform] = []
    for transform in plan.transforms:
        if part and length(_transform_rights([*part, transform], plan)) > room:
            yield part
            part, room = [], LONGEST_MANAGED
        part.append(transform)
    yield part


def _transform_rights(transforms: Sequence[Transform], plan: Plan) -> list[Statement]:
    """The function's rights for some transforms. It heads files, and reads documents in quarantine only.

    All ARNs are spelled out, so that their length is known here; none is longer than it is here.
    """

    def objects(role: str, keys: Iterable[str]) -> list[Sub]:
        bucket = plan.buckets[role]
        return [Sub(f"arn:${{AWS::Partition}}:s3:::{bucket}/{key.replace('${', '${!')}") for key in dict.fromkeys(keys)]

    prefixes = (prefix[:LONGEST_PREFIX] for transform in transforms for prefix in transform.pattern.prefixes)
    read = [
        *objects("bronze", (f"{escaped(prefix)}*" for prefix in prefixes)),
        *objects("bronze", (escaped(key) for transform in transforms for key in transform.lookups)),
        *objects("silver", (*(f"{transform.name}/*" for transform in transforms), schema_key("*"))),
        *objects(
            "quarantine", (key(transform.name, "*") for transform in transforms for key in (error_key, failed_key))
        ),
    ]
    queues = [Sub(arn("sqs", plan.physical(transform.name))) for transform in transforms]
    return [
        allow("CompareFiles", "s3:GetObject", read, condition=ours()),
        allow("SendAgain", "sqs:SendMessage", queues),
    ]


def _hop_rights(plan: Plan) -> list[Statement]:
    """The rights to see whether events can reach the functions. A subscription's ARN begins with its topic's; AWS names
    the topic as the resource of the right to see a subscription.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsns.html
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html
    """
    topics, titles = ["Topic"], rule_titles(bronze_patterns(plan))
    if plan.tables:
        topics.append("SilverTopic")
        titles += rule_titles(silver_patterns(plan), "SilverRule")
    topic_arns = [arn("sns", plan.physical(kind=title)) for title in topics]
    buckets = one_or_list([plan.bucket_arn(role) for role in plan.notifying])
    rules = [Sub(arn("events", f"rule/{plan.physical(kind=title)}")) for title in titles]
    mappings = {"ArnLike": {"lambda:FunctionArn": Sub(arn("lambda", f"function:{plan.name}_*"))}}
    return [
        allow("SeeNotifications", "s3:GetBucketNotification", buckets, condition=ours()),
        allow("SeeRules", ["events:DescribeRule", "events:ListTargetsByRule"], rules),
        allow(
            "SeeSubscriptions",
            ["sns:ListSubscriptionsByTopic", "sns:GetSubscriptionAttributes"],
            [Sub(each) for topic in topic_arns for each in (topic, f"{topic}:*")],
        ),
        allow(
            "SeeMappings",
            "lambda:GetEventSourceMapping",
            Sub(arn("lambda", "event-source-mapping:*")),
            condition=mappings,
        ),
    ]
