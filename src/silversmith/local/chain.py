"""The rooms of the engine, made from the template's resources and connected as it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from silversmith.errors import AccessDenied
from silversmith.local import iam
from silversmith.local import stack as stacks
from silversmith.local.bucket import Bucket
from silversmith.local.bus import Bus
from silversmith.local.courier import Courier, Room
from silversmith.local.function import Function
from silversmith.local.iam import Policy
from silversmith.local.intrinsics import UnsupportedTemplate
from silversmith.local.invocation import Settings
from silversmith.local.journal import Journal
from silversmith.local.queue import Queue
from silversmith.local.rounds import bus_arn
from silversmith.local.stack import Stack
from silversmith.local.topic import Topic
from silversmith.local.worker import FunctionConfig

#: What a role must be allowed, or Lambda makes no mapping for its function.
#: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
POLLING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")


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

    Raises:
        UnsupportedTemplate: something refers to what the template does not have.
        AccessDenied: a role may not receive from its function's queue, or a dead-letter queue may not be sent to.
    """
    queues = {item.arn: _queue(stack, journal, item) for item in stack.queues}
    rooms: dict[str, tuple[str, Room]] = {bus_arn(stack): ("bus", Bus(journal, rules=stack.rules))}
    for topic in stack.topics:
        rooms[topic.arn] = ("topic", _topic(stack, journal, topic))
    for arn, room in queues.items():
        rooms[arn] = ("queue", room)
    ends = [
        *((rule.arn, target.dead_letter_arn) for rule in stack.rules for target in rule.targets),
        *((item.arn, item.dead_letter_arn) for item in stack.subscriptions),
    ]
    dead_letters = {source: _find(queues, end, source) for source, end in ends if end}
    _require_open_ends(stack)
    names = {item.dead_letter_arn for item in stack.queues if item.dead_letter_arn}
    names |= {queue.settings.arn for queue in dead_letters.values()}
    return Chain(
        bucket=Bucket(
            journal,
            _find({item.name: item for item in stack.buckets}, bronze, "the pipeline"),
            bus=bus_arn(stack),
            account=stack.account,
            region=stack.region,
            clock=clock,
        ),
        courier=Courier(journal, rooms=rooms, dead_letters=dead_letters),
        queues=queues,
        functions=tuple(_functions(stack, journal, queues)),
        dead_letters=tuple(queues[arn] for arn in sorted(names)),
    )


def worker_functions(stack: Stack) -> tuple[FunctionConfig, ...]:
    """What a worker must know of each transform's function. The reconciler is none: the engine does its own rounds.

    Raises:
        UnsupportedTemplate: a function's environment names a queue or a bucket that the template does not have.
    """
    queues = {queue.url: queue for queue in stack.queues}
    buckets = {bucket.name: bucket for bucket in stack.buckets}
    functions = [item for item in stack.functions if "SILVERSMITH_TRANSFORM" in item.environment]
    for function in functions:
        for name in ("SILVERSMITH_BRONZE", "SILVERSMITH_SILVER", "SILVERSMITH_QUARANTINE"):
            _find(buckets, function.environment.get(name, ""), f"{name} of {function.name}")
    return tuple(
        FunctionConfig(
            item.name,
            item.environment,
            item.role_arn,
            item.policy,
            _find(queues, item.environment.get("SILVERSMITH_DLQ", ""), f"SILVERSMITH_DLQ of {item.name}"),
            buckets,
        )
        for item in functions
    )


_T = TypeVar("_T")


def _find(items: Mapping[str, _T], name: str, where: str) -> _T:
    if name not in items:
        raise UnsupportedTemplate(f"{where} refers to {name!r}, which the template does not have")
    return items[name]


def _queue(stack: Stack, journal: Journal, queue: stacks.Queue) -> Queue:
    refusal = _refusal(stack, queue.policy, "sqs:SendMessage", queue.arn, "sns.amazonaws.com")
    return Queue(journal, queue, refusal=refusal)


def _topic(stack: Stack, journal: Journal, topic: stacks.Topic) -> Topic:
    subscriptions = [item for item in stack.subscriptions if item.topic_arn == topic.arn]
    refusal = _refusal(stack, topic.policy, "sns:Publish", topic.arn, "events.amazonaws.com")
    return Topic(journal, name=topic.name, arn=topic.arn, subscriptions=subscriptions, refusal=refusal)


def _functions(stack: Stack, journal: Journal, queues: Mapping[str, Queue]) -> Iterator[Function]:
    transforms = {item.arn: item for item in stack.functions if "SILVERSMITH_TRANSFORM" in item.environment}
    urls = {item.url: item.arn for item in stack.queues}
    for mapping in stack.mappings:
        if mapping.function_arn not in transforms:
            raise UnsupportedTemplate(
                f"the mapping of {mapping.queue_arn} needs a transform's function that no other mapping has, and "
                f"{mapping.function_arn} is none"
            )
        function = transforms.pop(mapping.function_arn)
        queue = _find(queues, mapping.queue_arn, f"the mapping of {function.name}")
        if urls.get(function.environment.get("SILVERSMITH_DLQ", "")) != queue.settings.dead_letter_arn:
            raise UnsupportedTemplate(
                f"{function.name}: its SILVERSMITH_DLQ is not the dead-letter queue of {queue.settings.name}"
            )
        for action in POLLING:
            iam.check(
                (function.policy, queue.settings.policy),
                action,
                mapping.queue_arn,
                principal=function.role_arn,
                context={"aws:SecureTransport": "true", "aws:ResourceAccount": stack.account},
            )
        yield Function(journal, Settings(function, mapping, queue.settings), queue)


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
