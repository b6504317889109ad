"""The topic room: what is published goes to every subscription whose filter policy it passes.

https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from silversmith import faults
from silversmith.local.journal import Journal
from silversmith.local.post import Accepted, Post, Refused, note, send_on, uuids, write
from silversmith.local.stack import Subscription
from silversmith.patterns import Dialect, Matcher

#: SNS's limit for one message, in bytes.
LARGEST_MESSAGE = 256 * 1024


class Topic:
    """One topic.

    Args:
        journal: where the outgoing messages are kept.
        name: the topic's name.
        arn: its ARN.
        subscriptions: who gets what is published.
        refusal: why a source may not publish here, or None when the topic's policy allows it.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        name: str,
        arn: str,
        subscriptions: Sequence[Subscription],
        refusal: Callable[[str], str | None],
    ) -> None:
        self._journal = journal
        self._name = name
        self._arn = arn
        self._subscriptions = tuple(subscriptions)
        self._refusal = refusal

    def accept(self, posts: Sequence[Post], now: float) -> Accepted:
        """Publish each: on to the subscriptions it passes. In the caller's transaction."""
        onward, notes, refused = [], [], []
        for post, message_id in zip(posts, uuids(len(posts)), strict=True):  # one for a publish, whoever gets it
            reason = self._refusal(post.source) or _too_large(post)
            if reason:
                refused.append(Refused(post, reason))
                continue
            passed = self._passed(post)
            names = [subscription.name for subscription in passed]
            notes.append(
                note(
                    post.key, post.version, at=now, room="topic", name=self._name,
                    what="published", detail={"subscriptions": names},
                )
            )  # fmt: skip
            for subscription in passed:
                body = None if subscription.raw else self._envelope(post, subscription, message_id, now)
                onward.append(
                    send_on(
                        post, source=self._arn, target=subscription.queue_arn,
                        delivery=subscription.arn, now=now, body=body,
                    )
                )  # fmt: skip
        write(self._journal, notes=notes)
        self._journal.count("topic.published", len(posts) - len(refused))
        faults.point("topic.before_commit")
        return Accepted(refused, onward)

    def _passed(self, post: Post) -> list[Subscription]:
        """A message that is no JSON passes no filter policy over its body."""
        message = _parsed(post.body)
        return [found for found in self._subscriptions if found.filter is None or _passes(found.filter, message)]

    def _envelope(self, post: Post, subscription: Subscription, message_id: str, now: float) -> bytes:
        """What SNS wraps a message in. Nobody has signed this one, so it says so where the signature would be.

        https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
        """
        moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        host = f"https://sns.{self._arn.split(':')[3]}.amazonaws.com"
        return orjson.dumps(
            {
                "Type": "Notification",
                "MessageId": message_id,
                "TopicArn": self._arn,
                "Message": post.body.decode(),
                "Timestamp": moment,
                "SignatureVersion": "1",
                "Signature": "UNSIGNED",
                "SigningCertURL": f"{host}/UNSIGNED.pem",
                "UnsubscribeURL": f"{host}/?Action=Unsubscribe&SubscriptionArn={subscription.arn}",
            }
        )


def _passes(policy: Matcher, message: Any) -> bool:
    """Whatever EventBridge publishes has no message attributes."""
    return policy.matches({} if policy.dialect is Dialect.SNS_MESSAGE_ATTRIBUTES else message)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _too_large(post: Post) -> str | None:
    if len(post.body) <= LARGEST_MESSAGE:
        return None
    return f"the message has {len(post.body)} bytes; a topic takes {LARGEST_MESSAGE}"
