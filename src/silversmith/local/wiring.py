"""The services of a template, connected as it says, and the delivery of messages from one to the next.

All hops of some messages are one transaction, and nothing lies in the outbox between them. A crash repeats nothing and
loses nothing: a message is in the outbox, or its effect is in the journal, never both, never neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

from silversmith import faults
from silversmith.errors import AccessDenied
from silversmith.local import iam
from silversmith.local.invocation import FunctionConfig
from silversmith.local.journal import Journal
from silversmith.local.kinds import UnsupportedTemplate
from silversmith.local.services import Accepted, Change, MessageRefused, Service, ServiceMessage, hop_row, write
from silversmith.local.services.bucket import BucketService
from silversmith.local.services.bus import BusService, TopicService
from silversmith.local.services.function import FunctionService, Settings
from silversmith.local.services.queue import QueueService
from silversmith.local.stack import Bucket, StackResources, SubscriptionResource, Topic

#: What a role must be allowed, or Lambda makes no mapping for its function.
#: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
POLLING = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")

_T = TypeVar("_T")


class Delivery:
    """Delivers messages to services, and what the services send on to the next ones.

    Args:
        journal: where the outbox is.
        services: by ARN, a name for the fault points and the service.
        dead_letters: by the ARN of a rule or subscription, the queue for messages that its target refuses.
        most: the most messages of one transaction.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        services: Mapping[str, tuple[str, Service]],
        dead_letters: Mapping[str, QueueService],
        most: int = 500,
    ) -> None:
        self._journal = journal
        self._services = services
        self._dead_letters = dead_letters
        self._most = most

    def deliver(self, now: float) -> None:
        """Deliver what is due in the outbox, hop by hop, until nothing is."""
        while rows := self._journal.rows("due", now=now, most=self._most):
            messages = [ServiceMessage._make(row) for row in rows]
            with self._journal.transaction():
                self._journal.change_many("delivered", [(message.id,) for message in messages])
                passed = self.carry(messages, now)
            for name in passed:
                faults.point(f"{name}.after_commit")

    def carry(self, messages: Sequence[ServiceMessage], now: float) -> list[str]:
        """Make all hops of these messages, in the transaction that is open. Returns the names of the targets."""
        passed: dict[str, None] = {}
        while messages:
            names, messages = self.hop(messages, now)
            passed |= dict.fromkeys(names)
        return list(filter(None, passed))

    def hop(self, messages: Sequence[ServiceMessage], now: float) -> tuple[list[str], list[ServiceMessage]]:
        """Hand each message to its target. Returns the names of the targets, and the messages that go on from there."""
        names: list[str] = []
        onward: list[ServiceMessage] = []
        by_target = attrgetter("target")
        for target, group in groupby(sorted(messages, key=by_target), key=by_target):
            name, service = self._services.get(target, ("", None))
            if service is None:
                accepted = Accepted(
                    [MessageRefused(message, f"there is no such target: {target}") for message in group]
                )
            else:
                accepted = service.accept(list(group), now)
                names.append(name)
            for refused in accepted.refused:
                self._move_to_dlq(refused, now)
            onward += accepted.onward
        return names, onward

    def _move_to_dlq(self, refused: MessageRefused, now: float) -> None:
        """A refusal by policy is final, as on AWS: no retry would change it, so it goes to the dead-letter queue.

        https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
        https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html
        """
        message = refused.message
        queue = self._dead_letters.get(message.delivery)
        if queue is not None:
            queue.accept_dead(message, now, source=message.delivery, reason=refused.reason)
            return
        detail = {"reason": refused.reason, "from": message.source, "to": message.target}
        hop = hop_row(message.key, message.version, at=now, room="courier", name="-", what="dropped", detail=detail)
        write(self._journal, hops=[hop])
        self._journal.count("dropped")


@dataclass(frozen=True)
class Services:
    """All services of a template. Objects that land in ``bucket`` start everything; ``queues`` are by ARN.

    ``functions`` are those of transforms; ``tables`` is the one that makes tables of ``silver``, if there are any.
    """

    bucket: BucketService
    delivery: Delivery
    queues: dict[str, QueueService]
    functions: tuple[FunctionService, ...]
    tables: FunctionService | None
    dead_letters: tuple[QueueService, ...]


def build(
    stack: StackResources,
    journal: Journal,
    *,
    bronze: str,
    silver: str,
    quarantine: str,
    clock: Callable[[], float],
    delivery: Callable[..., Delivery] = Delivery,
) -> Services:
    """Make the services of a stack.

    Args:
        stack: the resources of the compiled template.
        journal: where the services keep their state.
        bronze: the name of the bucket whose events start everything.
        silver: the name of the bucket that functions put their objects in.
        quarantine: the name of the bucket for what cannot become silver.
        clock: the time in Unix seconds.
        delivery: makes what delivers messages; tests disturb them there.

    Raises:
        UnsupportedTemplate: something refers to what the template does not have.
        AccessDenied: a role may not receive from its function's queue, or a dead-letter queue may not be sent to.
    """
    queues = {
        queue.arn: QueueService(
            journal,
            queue,
            refusal=_refusal(stack, queue.policy, "sqs:SendMessage", queue.arn, "sns.amazonaws.com"),
        )
        for queue in stack.queues
    }
    buckets = {bucket.name: bucket for bucket in stack.buckets}
    landing = _find(buckets, bronze, "the pipeline")
    bus = BusService(journal, rules=stack.rules, entry=landing.arn)
    services: dict[str, tuple[str, Service]] = {stack.bus_arn: ("bus", bus)}
    services |= {topic.arn: ("topic", _topic(stack, journal, topic)) for topic in stack.topics}
    services |= {arn: ("queue", queue) for arn, queue in queues.items()}
    dead_letters = _dead_letters(stack, queues)
    dead_arns = {queue.dead_letter_arn for queue in stack.queues if queue.dead_letter_arn}
    dead_arns |= {queue.settings.arn for queue in dead_letters.values()}

    def bucket(settings: Bucket) -> BucketService:
        return BucketService(
            journal, settings, bus=stack.bus_arn, account=stack.account, region=stack.region, clock=clock
        )

    silver_bucket = bucket(_find(buckets, silver, "the pipeline"))
    quarantine_bucket = bucket(_find(buckets, quarantine, "the pipeline"))
    carrier = delivery(journal, services=services, dead_letters=dead_letters)

    def announce(changes: Sequence[Change], now: float) -> None:
        silver_bucket.announce([each for each in changes if not each.in_quarantine], now, carrier.carry)
        quarantine_bucket.announce([each for each in changes if each.in_quarantine], now, carrier.carry)

    functions = list(_functions(stack, journal, queues, announce))
    return Services(
        bucket=bucket(landing),
        delivery=carrier,
        queues=queues,
        functions=tuple(function for function in functions if not function.settings.is_of_tables),
        tables=next((function for function in functions if function.settings.is_of_tables), None),
        dead_letters=tuple(queues[arn] for arn in sorted(dead_arns)),
    )


#: The variables in the environment of a function that say what it runs, and those with the buckets that it then needs.
#: The reconciler has neither: the engine does its own rounds.
NEEDED = {
    "SILVERSMITH_TRANSFORM": ("SILVERSMITH_BRONZE", "SILVERSMITH_SILVER", "SILVERSMITH_QUARANTINE"),
    "SILVERSMITH_TABLES": ("SILVERSMITH_SILVER", "SILVERSMITH_GOLD"),
}


def worker_functions(stack: StackResources, kind: str = "SILVERSMITH_TRANSFORM") -> tuple[FunctionConfig, ...]:
    """The configuration of each function of a kind: the one of the variable, of :data:`NEEDED`, in its environment.

    Raises:
        UnsupportedTemplate: a function's environment names a queue or a bucket that the template does not have.
    """
    queues = {queue.url: queue for queue in stack.queues}
    buckets = {bucket.name: bucket for bucket in stack.buckets}
    configs = []
    for function in stack.functions:
        if kind not in function.environment:
            continue
        for name in NEEDED[kind]:
            _find(buckets, function.environment.get(name, ""), f"{name} of {function.name}")
        dlq = _find(queues, function.environment.get("SILVERSMITH_DLQ", ""), f"SILVERSMITH_DLQ of {function.name}")
        configs.append(
            FunctionConfig(function.name, function.environment, function.role_arn, function.policy, dlq, buckets)
        )
    return tuple(configs)


def _find(items: Mapping[str, _T], name: str, where: str) -> _T:
    if name not in items:
        raise UnsupportedTemplate(f"{where} refers to {name!r}, which the template does not have")
    return items[name]


def _topic(stack: StackResources, journal: Journal, topic: Topic) -> TopicService:
    subscriptions: list[SubscriptionResource] = [item for item in stack.subscriptions if item.topic_arn == topic.arn]
    refusal = _refusal(stack, topic.policy, "sns:Publish", topic.arn, "events.amazonaws.com")
    return TopicService(journal, topic, subscriptions=subscriptions, refusal=refusal)


def _dead_letters(stack: StackResources, queues: Mapping[str, QueueService]) -> dict[str, QueueService]:
    """By the ARN of a rule or subscription, its dead-letter queue, which must accept what is sent there.

    Raises:
        AccessDenied: its policy does not allow that. On AWS such messages are lost without a sound.
    """
    ends = [
        *((rule.arn, rule.arn, rule.dead_letter_arn, "events.amazonaws.com") for rule in stack.rules),
        *((item.arn, item.topic_arn, item.dead_letter_arn, "sns.amazonaws.com") for item in stack.subscriptions),
    ]
    dead_letters = {}
    for delivery, source, arn, service in ends:
        if not arn:
            continue
        dead_letters[delivery] = queue = _find(queues, arn, delivery)
        reason = _refusal(stack, queue.settings.policy, "sqs:SendMessage", arn, service)(source)
        if reason:
            raise AccessDenied(f"messages would be lost: {reason}, which is a dead-letter queue of it")
    return dead_letters


def _functions(
    stack: StackResources,
    journal: Journal,
    queues: Mapping[str, QueueService],
    announce: Callable[[Sequence[Change], float], None],
) -> Iterator[FunctionService]:
    functions = {item.arn: item for item in stack.functions if NEEDED.keys() & item.environment.keys()}
    urls = {item.url: item.arn for item in stack.queues}
    for mapping in stack.mappings:
        if mapping.function_arn not in functions:
            raise UnsupportedTemplate(
                f"the mapping of {mapping.queue_arn} needs a function of a transform or of tables that no other "
                f"mapping has, and {mapping.function_arn} is none"
            )
        function = functions.pop(mapping.function_arn)
        queue = _find(queues, mapping.queue_arn, f"the mapping of {function.name}")
        is_of_tables = "SILVERSMITH_TABLES" in function.environment
        dlq = function.environment.get("SILVERSMITH_DLQ", "")
        if not is_of_tables and urls.get(dlq) != queue.settings.dead_letter_arn:
            raise UnsupportedTemplate(
                f"{function.name}: its SILVERSMITH_DLQ is not the dead-letter queue of {queue.settings.name}"
            )
        check = iam.checker(
            (function.policy, queue.settings.policy),
            principal=function.role_arn,
            context={"aws:SecureTransport": "true", "aws:ResourceAccount": stack.account},
        )
        for action in POLLING:
            check(action, mapping.queue_arn)
        if is_of_tables:  # a commit to a folder costs no request, so nothing is gained by waiting for more messages
            yield FunctionService(journal, Settings(function, replace(mapping, window=0), queue.settings), queue)
        else:
            yield FunctionService(journal, Settings(function, mapping, queue.settings), queue, announce=announce)


def _refusal(
    stack: StackResources, policy: iam.Policy, action: str, resource: str, service: str
) -> Callable[[str], str | None]:
    """Why a service may not do this on behalf of a source, by the resource's policy; decided once for each source."""
    refusals: dict[str, str | None] = {}

    def refusal(source: str) -> str | None:
        if source not in refusals:
            # EventBridge does not name to a topic the rule that it publishes for; SNS does name itself to a queue.
            # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
            context = {"aws:SecureTransport": "true"}
            if action != "sns:Publish":
                context |= {"aws:SourceArn": source, "aws:SourceAccount": stack.account}
            allowed = policy.allows(action, resource, principal=service, context=context)
            refusals[source] = None if allowed else f"no policy allows {service} {action} on {resource} for {source}"
        return refusals[source]

    return refusal
