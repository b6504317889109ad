"""The bus and the topic: the services that pass a message on to every target whose pattern it matches.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rules.html
https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson

from silversmith import faults
from silversmith.local.journal import Journal
from silversmith.local.services import Accepted, MessageRefused, ServiceMessage, hop_row, write
from silversmith.local.stack import Rule, SubscriptionResource, Topic
from silversmith.patterns import Dialect, Matcher

#: SNS's limit for one message, in bytes.
LARGEST_MESSAGE = 256 * 1024


class BusService:
    """The default event bus with its rules.

    Args:
        journal: where the trace is written.
        rules: from the template.
        entry: the ARN of the bucket that people put files in. An event of it that no rule matches is told in the trace;
            silver that no table is made of is nothing to tell.
    """

    def __init__(self, journal: Journal, *, rules: Sequence[Rule], entry: str) -> None:
        self._journal = journal
        self._rules = tuple(rules)
        self._entry = entry

    def accept(self, messages: Sequence[ServiceMessage], now: float) -> Accepted:
        """Send each event to the targets of the rules that it matches. In the caller's transaction."""
        onward, hops, unmatched = [], [], 0
        for message in messages:
            event = orjson.loads(message.body)
            matched = [rule for rule in self._rules if rule.matcher.matches(event)]
            if not matched and message.source == self._entry:
                unmatched += 1
                hops.append(hop_row(message.key, message.version, at=now, room="rule", name="-", what="unmatched"))
            for rule in matched:
                hops.append(hop_row(message.key, message.version, at=now, room="rule", name=rule.name, what="matched"))
                onward += [
                    message.forward(source=rule.arn, target=target, delivery=rule.arn, now=now)
                    for target in rule.targets
                ]
        write(self._journal, hops=hops)
        self._journal.count("bus.events", len(messages))
        if unmatched:
            self._journal.count("bus.unmatched", unmatched)
        faults.point("bus.before_commit")
        return Accepted(onward=onward)


class TopicService:
    """One topic.

    Args:
        journal: where the trace is written.
        topic: from the template.
        subscriptions: those of this topic.
        refusal: why a source may not publish here, or None when the topic's policy allows it.
    """

    def __init__(
        self,
        journal: Journal,
        topic: Topic,
        *,
        subscriptions: Sequence[SubscriptionResource],
        refusal: Callable[[str], str | None],
    ) -> None:
        self._journal = journal
        self._topic = topic
        self._subscriptions = tuple(subscriptions)
        self._refusal = refusal

    def accept(self, messages: Sequence[ServiceMessage], now: float) -> Accepted:
        """Publish each message to the subscriptions whose filter it passes. In the caller's transaction."""
        onward, hops, refused = [], [], []
        for message in messages:
            reason = self._refusal(message.source) or _too_large(message)
            if reason:
                refused.append(MessageRefused(message, reason))
                continue
            subscriptions, identifier = self._matching(message), str(uuid4())
            detail = {"subscriptions": [subscription.name for subscription in subscriptions]}
            hops.append(
                hop_row(
                    message.key, message.version, at=now, room="topic", name=self._topic.name,
                    what="published", detail=detail,
                )
            )  # fmt: skip
            for subscription in subscriptions:
                body = None if subscription.raw else self._envelope(message, subscription, identifier, now)
                onward.append(
                    message.forward(
                        source=self._topic.arn, target=subscription.queue_arn,
                        delivery=subscription.arn, now=now, body=body,
                    )
                )  # fmt: skip
        write(self._journal, hops=hops)
        self._journal.count("topic.published", len(messages) - len(refused))
        faults.point("topic.before_commit")
        return Accepted(refused, onward)

    def _matching(self, message: ServiceMessage) -> list[SubscriptionResource]:
        """A message that is no JSON passes no filter policy over its body."""
        body = _parsed(message.body)
        return [each for each in self._subscriptions if each.filter is None or _passes(each.filter, body)]

    def _envelope(
        self, message: ServiceMessage, subscription: SubscriptionResource, message_id: str, now: float
    ) -> bytes:
        """SNS's envelope. Nobody has signed this one, so the place of the signature says so.

        https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
        """
        moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        host = f"https://sns.{self._topic.arn.split(':')[3]}.amazonaws.com"
        return orjson.dumps(
            {
                "Type": "Notification",
                "MessageId": message_id,
                "TopicArn": self._topic.arn,
                "Message": message.body.decode(),
                "Timestamp": moment,
                "SignatureVersion": "1",
                "Signature": "UNSIGNED",
                "SigningCertURL": f"{host}/UNSIGNED.pem",
                "UnsubscribeURL": f"{host}/?Action=Unsubscribe&SubscriptionArn={subscription.arn}",
            }
        )


def _passes(policy: Matcher, body: Any) -> bool:
    """Messages that EventBridge publishes have no message attributes."""
    return policy.matches({} if policy.dialect is Dialect.SNS_MESSAGE_ATTRIBUTES else body)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _too_large(message: ServiceMessage) -> str | None:
    if len(message.body) <= LARGEST_MESSAGE:
        return None
    return f"the message has {len(message.body)} bytes; a topic takes {LARGEST_MESSAGE}"
