"""The rooms of the engine, made from the template's resources and connected as it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from silversmith.errors import AccessDenied
from silversmith.function.retries import transform_tries
from silversmith.local import bus, invocation, queue, topic
from silversmith.local.bucket import Bucket
from silversmith.local.courier import Courier, Room
from silversmith.local.function import Function
from silversmith.local.iam import Policy
from silversmith.local.journal import Journal
from silversmith.local.queue import Queue
from silversmith.local.stack import Stack
from silversmith.local.worker import FunctionConfig


@dataclass(frozen=True)
class Chain:
    """The whole chain: what lands in ``bucket`` ends in one of the ``functions``, or in one of the ``dead_letters``."""

    bucket: Bucket
    courier: Courier
    queues: dict[str, Queue]
    functions: tuple[Function, ...]
    dead_letters: tuple[Queue, ...]


def build(stack: Stack, journal: Journal, *, bronze: str, clock: Callable[[], float]) -> Chain:
    """Make the rooms of a stack.

    Args:
        stack: the resources of the compiled template.
        journal: where the rooms keep what they know.
        bronze: the name of the bucket whose events start everything.
        clock: the time in Unix seconds.
    """
    queues = {found.arn: _queue(stack, journal, found.arn) for found in stack.queues}
    bus_arn = f"arn:aws:events:{stack.region}:{stack.account}:event-bus/default"
    rooms: dict[str, tuple[str, Room]] = {bus_arn: ("bus", _bus(stack, journal))}
    for found in stack.topics:
        rooms[found.arn] = ("topic", _topic(stack, journal, found.arn))
    for arn, room in queues.items():
        rooms[arn] = ("queue", room)
    dead_letters = {
        **{rule.arn: queues[target.dead_letter_arn] for rule in stack.rules for target in rule.targets
           if target.dead_letter_arn},
        **{found.arn: queues[found.dead_letter_arn] for found in stack.subscriptions if found.dead_letter_arn},
    }  # fmt: skip
    source = next(found for found in stack.buckets if found.name == bronze)
    _require_open_ends(stack)
    names = {found.dead_letter_arn for found in stack.queues if found.dead_letter_arn}
    ends = names | {queue.settings.arn for queue in dead_letters.values()}
    return Chain(
        bucket=Bucket(
            journal,
            name=source.name,
            arn=source.arn,
            bus=bus_arn,
            account=stack.account,
            region=stack.region,
            clock=clock,
        ),
        courier=Courier(journal, rooms=rooms, dead_letters=dead_letters),
        queues=queues,
        functions=tuple(_functions(stack, journal, queues)),
        dead_letters=tuple(queues[arn] for arn in sorted(ends)),
    )


def worker_functions(stack: Stack) -> tuple[FunctionConfig, ...]:
    """What a worker must know of each transform's function. The reconciler is none: the engine does its own rounds."""
    arns = {queue.url: queue.arn for queue in stack.queues}
    return tuple(
        FunctionConfig(
            found.name,
            found.environment,
            found.role_arn,
            found.policy,
            arns[found.environment["SILVERSMITH_DLQ"]],
        )
        for found in stack.functions
        if "SILVERSMITH_TRANSFORM" in found.environment
    )


def _queue(stack: Stack, journal: Journal, arn: str) -> Queue:
    found = next(item for item in stack.queues if item.arn == arn)
    retention = {item.arn: item.retention for item in stack.queues}
    settings = queue.Settings(
        name=found.name,
        arn=found.arn,
        visibility_timeout=found.visibility_timeout,
        retention=found.retention,
        delay=found.delay,
        dead_letter=found.dead_letter_arn,
        dead_letter_retention=retention.get(found.dead_letter_arn or "", 1_209_600),
        max_receives=found.max_receive_count or 0,
    )
    return Queue(journal, settings, refusal=_refusal(stack, found.policy, "sqs:SendMessage", arn, "sns.amazonaws.com"))


def _bus(stack: Stack, journal: Journal) -> bus.Bus:
    return bus.Bus(
        journal,
        rules=[
            bus.Rule(rule.name, rule.arn, rule.matcher, tuple(target.arn for target in rule.targets))
            for rule in stack.rules
        ],
    )


def _topic(stack: Stack, journal: Journal, arn: str) -> topic.Topic:
    found = next(item for item in stack.topics if item.arn == arn)
    subscriptions = [
        topic.Subscription(item.arn.rpartition(":")[2], item.arn, item.queue_arn, item.raw, item.filter)
        for item in stack.subscriptions
        if item.topic_arn == arn
    ]
    refusal = _refusal(stack, found.policy, "sns:Publish", arn, "events.amazonaws.com")
    return topic.Topic(journal, name=found.name, arn=arn, subscriptions=subscriptions, refusal=refusal)


def _functions(stack: Stack, journal: Journal, queues: dict[str, Queue]) -> list[Function]:
    found = {item.arn: item for item in stack.functions}
    functions = []
    for mapping in stack.mappings:
        target = found[mapping.function_arn]
        settings = invocation.Settings(
            name=target.name,
            transform=target.environment["SILVERSMITH_TRANSFORM"],
            queue_arn=mapping.queue_arn,
            region=stack.region,
            timeout=target.timeout,
            memory=target.memory,
            batch_size=mapping.batch_size,
            window=mapping.window,
            maximum_concurrency=mapping.maximum_concurrency or 0,
            tries=transform_tries(most) if (most := queues[mapping.queue_arn].settings.max_receives) else 0,
        )
        functions.append(Function(journal, settings, queues[mapping.queue_arn]))
    return functions


def _require_open_ends(stack: Stack) -> None:
    """A dead-letter queue that may not be sent to is a hole that messages fall through, on AWS without a sound."""
    policies = {found.arn: found.policy for found in stack.queues}
    ends = [
        *(
            (target.dead_letter_arn, rule.arn, "events.amazonaws.com")
            for rule in stack.rules
            for target in rule.targets
        ),
        *((found.dead_letter_arn, found.topic_arn, "sns.amazonaws.com") for found in stack.subscriptions),
    ]
    for end, source, service in ends:
        if end and (reason := _refusal(stack, policies[end], "sqs:SendMessage", end, service)(source)):
            raise AccessDenied(f"messages would be lost: {reason}, which is a dead-letter queue of it")


def _refusal(stack: Stack, policy: Policy, action: str, resource: str, service: str) -> Callable[[str], str | None]:
    """Why a service may not do this on behalf of a source, by the resource's own policy; decided once a source."""
    known: dict[str, str | None] = {}

    def refusal(source: str) -> str | None:
        if source not in known:
            # EventBridge tells a topic nothing of the rule it publishes for; SNS does tell a queue.
            # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
            told = {} if action == "sns:Publish" else {"aws:SourceArn": source, "aws:SourceAccount": stack.account}
            context = {"aws:SecureTransport": "true", **told}
            allowed = policy.allows(action, resource, principal=service, context=context)
            known[source] = None if allowed else f"no policy allows {service} {action} on {resource} for {source}"
        return known[source]

    return refusal
