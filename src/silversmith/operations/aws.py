"""A deployed pipeline as a target: its buckets, its queues on SQS, and what lies in its dead-letter queues.

A queue cannot be listed. Its messages are received, which hides them from others for a while, and made visible again at
the end. docs/decisions/0026-a-queue-is-read-by-receiving.md
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from silversmith.aws.account import Account
from silversmith.aws.stack import Stack
from silversmith.errors import AccessDenied, SilversmithError
from silversmith.events import NotAnEvent, ObjectEvent, object_created, unwrap
from silversmith.function.handler import ERROR_CODE
from silversmith.keypatterns import KeyPattern
from silversmith.operations import WrongCall
from silversmith.operations.failures import ERROR, failed_tries
from silversmith.operations.target import (
    DeadKind,
    DeadMessage,
    Depth,
    Hop,
    LastOutcome,
    Lately,
    News,
    TransformQueues,
)
from silversmith.operations.text import moment
from silversmith.pipeline import Pipeline, Transform, as_deployed
from silversmith.pipeline.deployment import ROLES
from silversmith.reconcile.handler import SqsQueue
from silversmith.schemas import Owner
from silversmith.stores import Lake, batched
from silversmith.stores.s3 import S3Store
from silversmith.template.plan import logical
from silversmith.template.transform import CODE

#: The most messages that SQS and SNS take or give at once.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
AT_ONCE = 10

#: Seconds for which a message that was looked at is hidden from others, should nobody make it visible again.
HIDDEN = 300

#: So many messages of a queue are held at a time: what lies behind them is not seen.
MOST_HELD = 5_000

#: Seconds to wait for a message where there should be some: then SQS asks all of its servers, not only a few.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
LONG_POLL = 1


class QueueFailed(SilversmithError):
    """SQS or SNS did not do what was asked, for all the SDK's own retries. Try again later."""


@dataclass(frozen=True)
class Message:
    """A message that is held. ``sent`` in Unix seconds; ``said`` is what the sender's attributes say, by name."""

    id: str
    body: str
    receipt: str
    sent: float
    said: Mapping[str, str]


class Queue:
    """A queue.

    Args:
        url: its URL.
        client: a boto3 SQS client.
        tell: told, for a person, where not all of it could be seen.
        most: how many messages are held at a time.
        wait: seconds, see :data:`LONG_POLL`.
    """

    def __init__(
        self,
        url: str,
        client: Any,
        *,
        tell: Callable[[str], None] = lambda _: None,
        most: int = MOST_HELD,
        wait: int = LONG_POLL,
    ) -> None:
        self.url = url
        self.name = url.rpartition("/")[2]
        self._client = client
        self._tell = tell
        self._most = most
        self._wait = wait
        self._held: dict[str, Message] = {}

    def depth(self) -> Depth:
        """About how deep it is. SQS does not tell when the oldest message was sent.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
        """
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with told(f"the queue {self.name}"):
            found = self._client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        waiting, in_flight = (int(found[name]) for name in names)
        return Depth(self.name, waiting, in_flight, oldest=None)

    def messages(self) -> Iterator[Message]:
        """Its messages, each of them held from then on. Of more than can be held, some are left out, and that is told.

        What somebody else holds at this moment is not seen.
        """
        yield from list(self._held.values())
        while len(self._held) < self._most:
            received = self._receive()
            if not received:
                return
            for message in received:
                # Who held it for too long has it again, with another receipt.
                fresh = message.id not in self._held
                self._held[message.id] = message
                if fresh:
                    yield message
        if left := self.depth().waiting:
            self._tell(f"the queue {self.name} holds about {left:,} messages more, which were not looked at")

    def held(self, message_id: str) -> Message | None:
        """A message that is held; None where it is not."""
        return self._held.get(message_id)

    def delete(self, messages: Collection[Message]) -> None:
        """Delete messages that are held. One that SQS does not delete is visible again after a while."""
        for some in batched(messages, AT_ONCE):
            entries = [{"Id": str(number), "ReceiptHandle": found.receipt} for number, found in enumerate(some)]
            with told(f"the queue {self.name}"):
                self._client.delete_message_batch(QueueUrl=self.url, Entries=entries)
            for found in some:
                self._held.pop(found.id, None)

    def release(self) -> None:
        """Make everything that is held visible again. What cannot be is so by itself after :data:`HIDDEN` seconds."""
        for some in batched(list(self._held.values()), AT_ONCE):
            entries = [
                {"Id": str(number), "ReceiptHandle": found.receipt, "VisibilityTimeout": 0}
                for number, found in enumerate(some)
            ]
            with told(f"the queue {self.name}"):
                self._client.change_message_visibility_batch(QueueUrl=self.url, Entries=entries)
        self._held.clear()

    def _receive(self) -> list[Message]:
        wait = self._wait if self._held or self.depth().waiting else 0
        with told(f"the queue {self.name}"):
            found = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=AT_ONCE,
                VisibilityTimeout=HIDDEN,
                WaitTimeSeconds=wait,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=["All"],
            )
        return [_message(each) for each in found.get("Messages", ())]


def _message(found: Mapping[str, Any]) -> Message:
    said = {name: value.get("StringValue", "") for name, value in found.get("MessageAttributes", {}).items()}
    sent = int(found.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
    return Message(found["MessageId"], found["Body"], found["ReceiptHandle"], sent, said)


@contextmanager
def told(place: str) -> Iterator[None]:
    """Raise what the SDK raises as our own errors. ``place`` is which queue or topic, for the text.

    Raises:
        AccessDenied: the caller has not the right; which one is in docs/operations.md.
        QueueFailed: anything else.
    """
    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        text = f"{place}: {error.operation_name}: {details.get('Message') or details.get('Code') or error}"
        if str(details.get("Code", "")).rpartition(".")[2] in {"AccessDenied", "AccessDeniedException"}:
            raise AccessDenied(f"{text}. The rights of who operates a pipeline are in docs/operations.md.") from error
        raise QueueFailed(text) from error
    except BotoCoreError as error:
        raise QueueFailed(f"{place}: {error}") from error


#: How many objects are headed at once: the SDK keeps so many connections.
WORKERS = 10

#: What the outputs that tell of a dead-letter queue end in.
_DEAD = ("SubscriptionDLQUrl", "QueueDLQUrl", "RuleDLQUrl")

_REASONS = {
    DeadKind.QUEUE: "received as often as the queue allows, without success (maxReceiveCount)",
    DeadKind.SUBSCRIPTION: "the topic could not deliver it to the transform's queue",
    DeadKind.RULE: "the event bus could not deliver it to the topic",
    DeadKind.UNKNOWN: "given up on by what the pipeline no longer has",
}


@contextmanager
def open_stack(
    account: Account,
    name: str,
    pipeline: Pipeline,
    *,
    tell: Callable[[str], None] = lambda _: None,
    wait: int = LONG_POLL,
) -> Iterator[tuple[Pipeline, AwsTarget]]:
    """A deployed pipeline, with the buckets that it has there, and the stack as a target, while the block lasts.

    Its transforms have the fingerprint, the pattern and the lookups that are deployed, whatever is checked out: silver
    is compared with the code that makes it.

    Args:
        account: where it is.
        name: the stack's name.
        pipeline: what is deployed there.
        tell: told, for a person, where something could not be seen whole, and which transforms differ from what is
            deployed.
        wait: seconds to wait for a message where there should be one.

    Raises:
        WrongCall: there is no such stack, or it is another pipeline's.
        DeployError: AWS does not tell.
    """
    state = Stack(account, name).state()
    if state is None or state.is_empty or state.status in {"REVIEW_IN_PROGRESS", "DELETE_COMPLETE"}:
        raise WrongCall(
            f"there is no stack {name} in {account.region} of the account {account.id}: deploy it with "
            "`silversmith deploy`, or name another --deployment or region"
        )
    buckets = {role: state.outputs.get(f"{role.capitalize()}BucketName", "") for role in ROLES}
    if not all(buckets.values()) or "TopicArn" not in state.outputs:
        raise WrongCall(f"the stack {name} ({state.status}) has no outputs of a pipeline: `silversmith deploy` first")
    deployed = as_deployed(pipeline, buckets, [_deployed(each, state.outputs, tell) for each in pipeline.transforms])
    target = AwsTarget(
        deployed, state.outputs, account, name=name, place=f"stack {name} in {account.region}", tell=tell, wait=wait
    )
    try:
        yield deployed, target
    except BaseException:
        with suppress(SilversmithError):  # what went wrong first is what must be told
            target.close()
        raise
    target.close()


class AwsTarget:
    """A :class:`~silversmith.operations.target.Target` that is a stack.

    Args:
        pipeline: what is deployed, with the buckets that it has there.
        outputs: of its stack.
        account: where it is.
        name: of the stack.
        place: which one it is, for a person.
        tell: see :func:`open_stack`.
        wait: likewise.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        outputs: Mapping[str, str],
        account: Account,
        *,
        name: str,
        place: str,
        tell: Callable[[str], None] = lambda _: None,
        wait: int = LONG_POLL,
    ) -> None:
        self._pipeline = pipeline
        self._outputs = outputs
        self._account = account
        self._name = name
        self._place = place
        self._tell = tell
        self._wait = wait

    @cached_property
    def _sqs(self) -> Any:
        return self._account.client("sqs")

    @property
    def place(self) -> str:
        return self._place

    @cached_property
    def lake(self) -> Lake:
        client, scratch = self._account.client("s3"), Path(tempfile.gettempdir())
        bronze, silver, quarantine = (
            S3Store(getattr(self._pipeline, role), client=client, scratch=scratch) for role in ROLES
        )
        return Lake(bronze, silver, quarantine)

    @property
    def owner(self) -> Owner:
        return Owner(self._name, self._pipeline.silver, self._pipeline.quarantine)

    @property
    def remembers(self) -> bool:
        return False

    @property
    def no_history(self) -> str:
        return "AWS keeps none of single files; the logs of the functions tell what was done"

    def running(self) -> bool:
        return True

    def totals(self) -> None:
        return None

    def on_the_way(self) -> None:
        return None

    @property
    def workers(self) -> int:
        return WORKERS

    def quarantined(self, transform: str) -> int:
        return sum(head.key.endswith(ERROR) for head in self.lake.quarantine.list(f"{transform}/"))

    def queues(self) -> list[TransformQueues]:
        return [
            TransformQueues(
                each.name,
                self._queue(self._url(each.name)).depth(),
                tuple(
                    self._dead[f"{logical(each.name, kind)}Url"].depth()
                    for kind in ("QueueDLQ", "SubscriptionDLQ")
                    if f"{logical(each.name, kind)}Url" in self._dead
                ),
            )
            for each in self._pipeline.transforms
        ]

    def rules_dead(self) -> list[Depth]:
        return [queue.depth() for output, queue in self._dead.items() if _kind(output) is DeadKind.RULE]

    def hops(self, key: str, most: int) -> list[Hop]:
        """What lies in the dead-letter queues of it; of the rest AWS keeps no memory."""
        found = sorted((message for message in self.dead() if message.key == key), key=lambda message: message.sent)
        return [
            Hop(dead.version, dead.sent, dead.kind.value, dead.source, "dead", {"reason": dead.reason})
            for dead in found[-most:]
        ]

    def newest(self) -> int:
        return 0

    def news(self, after: int, most: int) -> list[News]:
        """None: nothing here remembers."""
        del after, most
        return []

    def outcome(self, transform: str, key: str) -> LastOutcome | None:
        """That the transform's code failed on it, as far as the document in quarantine speaks of what bronze has now.
        What came of it else is in silver, or in quarantine."""
        document = failed_tries(self.lake.quarantine, transform, key)
        bronze = self.lake.bronze.head(key) if document is not None else None
        if document is None or bronze is None or document["bronze"]["etag"] != bronze.etag:
            return None
        detail = {name: document[name] for name in ("error", "tries", "dead", "log")}
        return LastOutcome("failed", document["bronze"]["version"], moment(document["at"]) or 0.0, detail)

    def lately(self, since: float, most: int) -> list[Lately]:
        """None: nothing here remembers."""
        del since, most
        return []

    def dead(self) -> Iterator[DeadMessage]:
        """As :meth:`Queue.messages` says: a queue that is very deep is not seen whole.

        Also those of transforms that the pipeline no longer has: nothing that was given up may be out of sight.
        """
        for output, queue in self._dead.items():
            for message in queue.messages():
                yield self._told_of(output, queue, message)

    def waiting(self, transform: str, etags: Mapping[str, str]) -> Set[str]:
        """Those of which a dead-letter queue has a message. What waits in the queue itself AWS does not tell."""
        known = self._given_up.get(transform, {})
        return {key for key, etag in etags.items() if known.get(key, set()) & {"", etag}}

    def send(self, transform: str, events: Sequence[ObjectEvent], *, reason: str) -> None:
        outbox = SqsQueue(self._url(transform), self._sqs)
        with told(f"the queue of {transform}"):
            for some in batched(events, AT_ONCE):
                outbox.send([object_created(event, reason=reason).decode() for event in some])

    def redrive(self, messages: Sequence[DeadMessage]) -> int:
        """Each message is sent before it is deleted: what fails between is there twice, and does no harm."""
        done = 0
        for dead, some in groupby(messages, key=lambda message: message.queue):
            queue, output = self._queue_named(dead)
            held = [found for message in some if (found := queue.held(message.message_id)) is not None]
            for batch in batched(held, AT_ONCE):
                if self._give_back(output, [message.body for message in batch]):
                    queue.delete(batch)
                    done += len(batch)
        return done

    def close(self) -> None:
        """Let go of every message that was looked at."""
        for queue in self._dead.values():
            queue.release()

    def _give_back(self, output: str, bodies: list[str]) -> bool:
        """False: there is nothing any more to give them back to."""
        kind, transform = _kind(output), self._transform_of.get(output)
        if kind is DeadKind.RULE:
            self._publish(bodies)
            return True
        if transform is None:
            return False
        with told(f"the queue of {transform}"):
            SqsQueue(self._url(transform), self._sqs).send(bodies)
        return True

    def _publish(self, bodies: list[str]) -> None:
        """To the topic, for nobody but S3 can send its events to the bus: ``PutEvents`` refuses the source ``aws.s3``.

        https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html
        """
        topic, client = self._outputs["TopicArn"], self._account.client("sns")
        with told(f"the topic {topic.rpartition(':')[2]}"):
            for body in bodies:
                client.publish(TopicArn=topic, Message=body)

    def _told_of(self, output: str, queue: Queue, message: Message) -> DeadMessage:
        transform = self._transform_of.get(output)
        kind = _kind(output)
        if kind is not DeadKind.RULE and transform is None:
            kind = DeadKind.UNKNOWN
        event = _event(message)
        return DeadMessage(
            message_id=message.id,
            kind=kind,
            source=self._source(kind, transform, queue, message),
            queue=queue.name,
            transform=transform,
            key=event.key,
            version=event.version,
            reason=_reason(kind, message),
            sent=message.sent,
            dead_at=None,
            attempts=None,
            error=None,
        )

    def _source(self, kind: DeadKind, transform: str | None, queue: Queue, message: Message) -> str:
        if kind is DeadKind.RULE:
            return message.said.get("RULE_ARN", "").rpartition("/")[2] or "a rule"
        if kind is DeadKind.SUBSCRIPTION:
            return self._outputs["TopicArn"].rpartition(":")[2]
        return self._url(transform).rpartition("/")[2] if transform else queue.name

    @cached_property
    def _given_up(self) -> Mapping[str, Mapping[str, set[str]]]:
        """By transform and key, the etags of which the dead-letter queues tell, read once."""
        found: dict[str, dict[str, set[str]]] = {each.name: {} for each in self._pipeline.transforms}
        for output, queue in self._dead.items():
            names = [self._transform_of[output]] if output in self._transform_of else []
            if _kind(output) is DeadKind.RULE:
                names = list(found)
            for message in queue.messages():
                event = _event(message)
                for name in names:
                    found[name].setdefault(event.key, set()).add(event.etag)
        return found

    @cached_property
    def _dead(self) -> Mapping[str, Queue]:
        """The dead-letter queues, by their outputs."""
        return {output: self._queue(url) for output, url in self._outputs.items() if output.endswith(_DEAD)}

    @cached_property
    def _transform_of(self) -> Mapping[str, str]:
        """By output of a dead-letter queue, whose it is."""
        return {
            f"{logical(each.name, kind)}Url": each.name
            for each in self._pipeline.transforms
            for kind in ("QueueDLQ", "SubscriptionDLQ")
        }

    def _queue(self, url: str) -> Queue:
        return Queue(url, self._sqs, tell=self._tell, wait=self._wait)

    def _queue_named(self, name: str) -> tuple[Queue, str]:
        return next((queue, output) for output, queue in self._dead.items() if queue.name == name)

    def _url(self, transform: str) -> str:
        url = self._outputs.get(f"{logical(transform, 'Queue')}Url")
        if url is None:
            raise WrongCall(f"the {self.place} has no transform {transform}: run `silversmith deploy` first")
        return url


def _deployed(transform: Transform, outputs: Mapping[str, str], tell: Callable[[str], None]) -> Transform:
    """The transform with what the stack's output says of it. Without one it is taken as it is checked out: it is not
    deployed yet, or was by a Silversmith that did not tell."""
    text = outputs.get(logical(transform.name, CODE))
    if text is None:
        if f"{logical(transform.name, 'Queue')}Url" in outputs:
            tell(
                f"{transform.name}: the stack does not say which code is deployed, so it is compared with the "
                "checkout's; the next `silversmith deploy` records it"
            )
        return transform
    said = json.loads(text)
    deployed = replace(
        transform,
        fingerprint=said["fingerprint"],
        pattern=KeyPattern.parse(said["pattern"]),
        lookups=tuple(said["lookups"]),
    )
    differs = [
        what
        for what, name in (("code", "fingerprint"), ("pattern", "pattern"), ("lookups", "lookups"))
        if getattr(deployed, name) != getattr(transform, name)
    ]
    if differs:
        tell(
            f"{transform.name}: the checkout differs from what is deployed ({', '.join(differs)}), and what is "
            "deployed counts: `silversmith diff`, `silversmith deploy`"
        )
    return deployed


def _kind(output: str) -> DeadKind:
    if output == "RuleDLQUrl":
        return DeadKind.RULE
    return DeadKind.SUBSCRIPTION if output.endswith("SubscriptionDLQUrl") else DeadKind.QUEUE


def _event(message: Message) -> ObjectEvent:
    """The first object that a message tells of; one without a key where it tells of none."""
    try:
        return next(iter(unwrap(message.body)), ObjectEvent("", ""))
    except NotAnEvent:
        return ObjectEvent("", "")


def _reason(kind: DeadKind, message: Message) -> str:
    """EventBridge says with the event why it could not deliver it, and the function why it gave up.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    if kind is DeadKind.QUEUE and message.said.get(ERROR_CODE):
        return f"the function gave up on it: {message.said[ERROR_CODE]}"
    said = [message.said[name] for name in ("ERROR_CODE", "ERROR_MESSAGE") if message.said.get(name)]
    return f"{_REASONS[kind]}: {', '.join(said)}" if said else _REASONS[kind]
