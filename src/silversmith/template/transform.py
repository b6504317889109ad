"""The resources of one transform: subscription, queues, the function with its role, log group and versions, alarms."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from troposphere import AWSObject, GetAtt, Join, Output, Ref, awslambda, iam, logs, sqs

from silversmith.errors import DefinitionError
from silversmith.pipeline import Transform
from silversmith.pipeline.deployment import STORAGE, Deployment
from silversmith.pipeline.since import DEPLOY
from silversmith.runtime.queue import queue_receives
from silversmith.schemas import schema_key
from silversmith.template import functions, messaging
from silversmith.template.alarms import age_alarm, data_alarms, dead_letter_alarm, function_alarm
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
    queue_policy,
    role,
    running,
    secret_use,
)
from silversmith.template.plan import Plan, logical, since_parameter

#: The end of the name of the output that tells which code is deployed.
CODE = "Code"

HANDLER = "silversmith.function.handler.handler"

#: A tenth of what an account has by default: the most invocations of a transform at once, if nothing else is said.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
DEFAULT_CONCURRENCY = 100


def resources(transform: Transform, plan: Plan) -> list[AWSObject]:
    """All resources of one transform, in the order in which they build on each other."""
    name, physical = transform.name, plan.physical(transform.name)
    # Six times the function's timeout, as AWS advises, and the time that a batch may wait to fill.
    # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    visibility_timeout = 6 * transform.timeout + transform.batch_window
    dead = messaging.dead_letter_queue(logical(name, "QueueDLQ"), plan.physical(name, "DLQ"), plan, source=physical)
    queue = messaging.queue(
        logical(name, "Queue"),
        physical,
        plan,
        dead=dead,
        visibility_timeout=visibility_timeout,
        receives=queue_receives(transform.max_receive_count),
    )
    undelivered = messaging.dead_letter_queue(
        logical(name, "SubscriptionDLQ"), plan.physical(name, "SubscriptionDLQ"), plan
    )
    delivery = [
        queue_policy(target, service="sns.amazonaws.com", sources=Ref("Topic")) for target in (queue, undelivered)
    ]
    log_group = functions.log_group(logical(name, "LogGroup"), plan, physical)
    function_role = _role(transform, plan, queue=queue, dead=dead, log_group=log_group)
    function = _function(transform, plan, role=function_role, log_group=log_group, queue=queue, dead=dead)
    versions = _versions(transform, plan, function)
    retry = "see `silversmith failures`, then `silversmith redrive`"
    return [
        dead,
        queue_policy(dead),
        queue,
        undelivered,
        *delivery,
        messaging.subscription(
            logical(name, "Subscription"),
            "Topic",
            queue,
            undelivered,
            filter_policy=messaging.filter_policy(transform.pattern),
            after=delivery,
        ),
        log_group,
        function_role,
        function,
        *versions,
        functions.mapping(
            logical(name, "Mapping"),
            queue,
            versions[-1] if versions else function,
            batch_size=transform.batch_size,
            batch_window=transform.batch_window,
            concurrency=concurrency(transform, plan.options),
        ),
        dead_letter_alarm(dead, plan, f"the transform {name} gave up on a file: {retry}"),
        dead_letter_alarm(undelivered, plan, f"an event did not reach the queue of the transform {name}: {retry}"),
        age_alarm(logical(name, "QueueAgeAlarm"), queue, plan, visibility_timeout),
        function_alarm(logical(name, "FunctionAlarm"), function, plan),
        *data_alarms(name, logical(name, ""), plan),
    ]


def concurrency(transform: Transform, options: Deployment) -> int:
    """The most invocations of a transform at once. Never more than are reserved for it: an invocation that Lambda
    refuses counts as received. For the same reason there is a limit by default: one transform with much to do must not
    take all that the account has.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
    """
    reserved = options.number("reserved_concurrency", transform.name)
    return min(transform.maximum_concurrency or reserved or DEFAULT_CONCURRENCY, 1_000)


def _role(transform: Transform, plan: Plan, *, queue: sqs.Queue, dead: sqs.Queue, log_group: logs.LogGroup) -> iam.Role:
    """The rights of the function. It sends what it gives up on to the dead-letter queue itself."""
    actions = ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes")
    statements = [
        *_object_rights(transform, plan),
        known_missing(plan),
        allow("ReceiveMessages", [f"sqs:{action}" for action in actions], GetAtt(queue, "Arn")),
        allow("GiveUpMessages", "sqs:SendMessage", GetAtt(dead, "Arn")),
        *key_use(plan, BUCKETS, QUEUES),
        *secret_use(transform.secrets.values(), plan.name),
        *running(plan, plan.physical(transform.name), log_group, transform=transform.name),
    ]
    declared = [dict(statement) for statement in transform.permissions]
    characters = length([*statements, *declared])
    if characters > LONGEST_IN_ROLE:
        raise DefinitionError(
            f"the transform {transform.name!r} cannot be deployed: its role's policies would have {characters:,} "
            f"characters, and IAM takes {LONGEST_IN_ROLE:,}: fewer permissions, secrets or lookups, or several actions "
            "and resources in one statement"
        )
    return role(logical(transform.name, "Role"), plan, "lambda.amazonaws.com", statements, declared=declared)


def _object_rights(transform: Transform, plan: Plan) -> list[Statement]:
    """A conditional put, and a conditional delete, need s3:GetObject too.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """

    def objects(bucket: str, key: str) -> Join:
        return Join("", [plan.bucket_arn(bucket), f"/{key}"])

    def may(sid: str, resource: Any, *actions: str) -> Statement:
        return allow(sid, [f"s3:{action}" for action in actions], resource, condition=ours())

    arns = [objects("bronze", f"{escaped(prefix)}*") for prefix in transform.pattern.prefixes]
    lookups = [objects("bronze", escaped(key)) for key in dict.fromkeys(transform.lookups)]
    own, write = f"{transform.name}/*", ("GetObject", "PutObject", "AbortMultipartUpload")
    return [
        may("ReadBronze", one_or_list(arns), "GetObject", "GetObjectVersion"),
        *([may("ReadLookups", lookups, "GetObject", "GetObjectVersion")] if lookups else []),
        may("WriteSilver", objects("silver", own), *write, *(["DeleteObject"] if transform.removes else [])),
        may("RecordSchema", objects("silver", schema_key(transform.name)), "GetObject", "PutObject"),
        may("WriteQuarantine", objects("quarantine", own), *write[:2], "DeleteObject", write[2]),
        *([may("ReadFormer", _former(transform.was, objects), "GetObject")] if transform.was else []),
    ]


def _former(was: str, objects: Callable[[str, str], Join]) -> list[Join]:
    """What there is under a transform's former name."""
    return [
        objects("silver", f"{was}/*"),
        objects("silver", schema_key(was)),
        objects("quarantine", f"{was}/*"),
    ]


def _function(
    transform: Transform, plan: Plan, *, role: iam.Role, log_group: logs.LogGroup, queue: sqs.Queue, dead: sqs.Queue
) -> awslambda.Function:
    optional: dict[str, Any] = {}
    storage = plan.options.number("ephemeral_storage", transform.name) or STORAGE[0]
    if storage != STORAGE[0]:
        optional["EphemeralStorage"] = awslambda.EphemeralStorage(Size=storage)
    reserved = plan.options.number("reserved_concurrency", transform.name)
    if reserved is not None:
        optional["ReservedConcurrentExecutions"] = reserved
    if layers := plan.options.layers_of(transform.name):
        optional["Layers"] = list(layers)
    if plan.options.snap_start:
        optional["SnapStart"] = awslambda.SnapStart(ApplyOn="PublishedVersions")
    return functions.function(
        logical(transform.name, "Function"),
        plan,
        plan.physical(transform.name),
        transform=transform.name,
        handler=HANDLER,
        role=role,
        log_group=log_group,
        environment={
            **transform.environment,
            "SILVERSMITH_TRANSFORM": transform.name,
            "SILVERSMITH_QUEUE": Ref(queue),
            "SILVERSMITH_DLQ": Ref(dead),
            "SILVERSMITH_FINGERPRINT": transform.fingerprint,
            **functions.lineage_events(plan),
            **({"SILVERSMITH_SINCE": _since(transform)} if transform.since else {}),
        },
        Description=f"Makes {plan.buckets['silver']}/{transform.name}/ of what lands in {plan.buckets['bronze']}",
        MemorySize=transform.memory,
        Timeout=transform.timeout,
        **optional,
    )


def _since(transform: Transform) -> Any:
    """The time from which on it takes files."""
    return Ref(since_parameter(transform.name)) if transform.since == DEPLOY else transform.since


def _versions(transform: Transform, plan: Plan, function: awslambda.Function) -> list[AWSObject]:
    provisioned = plan.options.number("provisioned_concurrency", transform.name)
    if not plan.options.snap_start and provisioned is None:
        return []
    titles = logical(transform.name, "Version"), logical(transform.name, "Alias")
    return functions.published(*titles, function, provisioned=provisioned)


def outputs(transform: Transform) -> list[Output]:
    """Its queues and its function, and the code that is deployed."""
    queues = {
        "Queue": f"Files for the transform {transform.name}",
        "QueueDLQ": f"Files that the transform {transform.name} gave up on",
        "SubscriptionDLQ": f"Events that did not reach the queue of the transform {transform.name}",
    }
    urls = [
        Output(f"{logical(transform.name, kind)}Url", Description=text, Value=Ref(logical(transform.name, kind)))
        for kind, text in queues.items()
    ]
    function = logical(transform.name, "Function")
    # Commands over AWS must know this of the transform that is deployed, whatever is checked out.
    declared = {
        "fingerprint": transform.fingerprint,
        "pattern": one_or_list(list(transform.pattern.texts)),
        "lookups": list(transform.lookups),
    }
    since = logical(transform.name, "Since")
    since_text = f"From when on the transform {transform.name} takes files"
    return [
        *urls,
        *([Output(since, Description=since_text, Value=_since(transform))] if transform.since else []),
        Output(f"{function}Name", Description=f"Runs the transform {transform.name}", Value=Ref(function)),
        Output(
            logical(transform.name, CODE),
            Description=f"What is deployed of the transform {transform.name}",
            Value=json.dumps(declared),
        ),
    ]
