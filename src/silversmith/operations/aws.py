"""A deployed pipeline as a target: its buckets, its queues on SQS, and its dead-letter queues.

A queue cannot be listed. Its messages are received, which hides them from others for a while, and made visible again at
the end. docs/decisions/0026-a-queue-is-read-by-receiving.md
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silversmith.aws.account import Account
from silversmith.aws.stack import Stack
from silversmith.errors import SilversmithError
from silversmith.events import ObjectEvent, object_created
from silversmith.keypatterns import KeyPattern
from silversmith.lineage import error_key, failed_key, silver_key
from silversmith.operations import WrongCall, aws_services, tables_installed
from silversmith.operations.aws_services import AT_ONCE, LONG_POLL, AwsMessage, AwsQueue, publish
from silversmith.operations.failures import ERROR, failed_tries
from silversmith.operations.target import (
    DayCounts,
    DeadKind,
    DeadMessage,
    Depth,
    FileTime,
    Hop,
    LastOutcome,
    LogLine,
    Target,
    TransformQueues,
    first_event,
)
from silversmith.operations.text import moment
from silversmith.operations.versions import GoldFiles, S3Versions, Versions, log_groups, replicas
from silversmith.pipeline import Pipeline, Transform, as_deployed
from silversmith.pipeline.deployment import ROLES
from silversmith.reconcile.rows import LineageRows, LineageUnreadable
from silversmith.runtime.queue import ERROR_CODE
from silversmith.schemas import Owner
from silversmith.stores import Lake, batched, map_in_threads
from silversmith.stores.aws_errors import translate_aws_errors
from silversmith.stores.s3 import S3Store
from silversmith.template.plan import logical, physical
from silversmith.template.transform import CODE

if TYPE_CHECKING:
    from silversmith.tables.format import Format

#: The most seconds that an invocation may take.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LONGEST_INVOCATION = 900

#: A trace looks for its messages in queues of at most so many.
MOST_TRACED = 200

#: How many objects are headed at once: the SDK keeps so many connections.
WORKERS = 10

#: How many ranges of keys are listed at once: each waits for S3 most of the time.
LISTERS = 32

#: The endings of the outputs that name a dead-letter queue, with what gave up there.
_DEAD = {
    "SubscriptionDLQUrl": DeadKind.SUBSCRIPTION,
    "QueueDLQUrl": DeadKind.QUEUE,
    "RuleDLQUrl": DeadKind.RULE,
    "SubscriptionDLQOfTablesUrl": DeadKind.SUBSCRIPTION,
    "DLQOfTablesUrl": DeadKind.QUEUE,
}

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
    """Open a stack: the pipeline with its buckets there, and the stack as a target.

    Its transforms have the deployed fingerprint, pattern and lookups, not the checkout's: silver is compared with the
    code that makes it.

    Args:
        account: the stack's account.
        name: the stack's name.
        pipeline: its definition.
        tell: gets notes on what could not be read whole, and on transforms that differ from the deployed ones.
        wait: seconds to wait for a message where there should be one.

    Raises:
        WrongCall: there is no such stack, or it is no pipeline's.
        AccessDenied, AwsFailed: AWS does not describe it.
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
    target = AwsTarget(deployed, state.outputs, account, name=name, tell=tell, wait=wait)
    try:
        yield deployed, target
    except BaseException:
        with suppress(SilversmithError):  # the first error is the one to report
            target.close()
        raise
    target.close()


@dataclass(frozen=True)
class _DeadQueue:
    """A dead-letter queue, and where its messages go back to. ``transform`` is None for a rule's and for the tables',
    and where the pipeline no longer has it. ``topic`` is the ARN, ``back`` the URL of the queue behind it."""

    queue: AwsQueue
    kind: DeadKind
    transform: str | None
    is_of_tables: bool
    topic: str
    back: str | None


class AwsTarget(Target):
    """A target that is a stack.

    Args:
        pipeline: the deployed definition, with its buckets.
        outputs: the stack's outputs.
        account: the stack's account.
        name: the stack's name.
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
        tell: Callable[[str], None] = lambda _: None,
        wait: int = LONG_POLL,
    ) -> None:
        self.pipeline = pipeline
        self._outputs = outputs
        self._account = account
        self._name = name
        self._tell = tell
        self._wait = wait

    @cached_property
    def _sqs(self) -> Any:
        return self._account.client("sqs")

    @property
    def place(self) -> str:
        return f"stack {self._name} in {self._account.region}"

    @cached_property
    def _s3(self) -> Any:
        return self._account.client("s3")

    def _store(self, bucket: str) -> S3Store:
        return S3Store(bucket, client=self._s3, scratch=Path(tempfile.gettempdir()))

    @cached_property
    def lake(self) -> Lake:
        return Lake(*(self._store(getattr(self.pipeline, role)) for role in ROLES))

    @cached_property
    def gold(self) -> Format:
        with tables_installed():
            from silversmith.tables.delta import DeltaFormat
        place, scratch = f"s3://{self._gold_bucket}", Path(tempfile.gettempdir())
        return DeltaFormat(place, scratch=scratch, storage_options=self._s3_options())

    def _s3_options(self) -> dict[str, str]:
        """The account as delta-rs takes it: by itself it looks for credentials in fewer places than boto3."""
        options = {"AWS_REGION": self._account.region}
        if self._account.endpoint_url:
            options |= {"AWS_ENDPOINT_URL": self._account.endpoint_url, "AWS_ALLOW_HTTP": "true"}
        if self._account.session is not None:
            credentials = self._account.session.get_credentials().get_frozen_credentials()
            options |= {"AWS_ACCESS_KEY_ID": credentials.access_key, "AWS_SECRET_ACCESS_KEY": credentials.secret_key}
            if credentials.token:
                options["AWS_SESSION_TOKEN"] = credentials.token
        return options

    @property
    def owner(self) -> Owner:
        return Owner(self._name, self.pipeline.silver, self.pipeline.quarantine)

    @property
    def no_history(self) -> str:
        return "AWS keeps none of single files; the logs of the functions tell what was done"

    @property
    def workers(self) -> int:
        return WORKERS

    @property
    def listers(self) -> int:
        return LISTERS

    def quarantined(self, transform: str) -> int:
        if self._lineage is not None:  # the log of the table says it, whatever lies in quarantine
            return self._lineage.sizes("quarantined").get(transform, 0)
        return sum(head.key.endswith(ERROR) for head in self.lake.quarantine.list(f"{transform}/"))

    @cached_property
    def _lineage(self) -> LineageRows | None:
        """The lineage as it was when it was first asked for; None also if it cannot be read."""
        with suppress(LineageUnreadable):
            return self.rows()
        return None

    def file_time(self, transform: str) -> FileTime | None:
        function = self._outputs.get(f"{logical(transform, 'Function')}Name")
        if function is None:
            return None
        with translate_aws_errors(f"CloudWatch's metrics of {function}"):
            client = self._account.client("cloudwatch")
            return aws_services.file_time(client, function, self._name, transform)

    def queues(self) -> list[TransformQueues]:
        return [self._depths(each.name, self._url(each.name)) for each in self.pipeline.transforms]

    def tables_queue(self) -> TransformQueues | None:
        url = self._outputs.get("QueueOfTablesUrl")
        return self._depths("", url) if url is not None else None

    def _depths(self, transform: str, url: str) -> TransformQueues:
        dead = sorted((each for each in self._dead if each.back == url), key=lambda each: each.kind)
        return TransformQueues(transform, self._queue(url).depth(), tuple(each.queue.depth() for each in dead))

    def rules_dead(self) -> list[Depth]:
        return [each.queue.depth() for each in self._dead if each.kind is DeadKind.RULE]

    def hops(self, key: str, most: int) -> list[Hop]:
        """Its dead messages: AWS keeps no other history. To look for one, all of a queue are received, which hides them
        from others: so a deep queue is left alone."""
        dead: list[DeadMessage] = []
        for each in self._dead:
            if (deep := each.queue.depth().waiting) > MOST_TRACED:
                self._tell(
                    f"the queue {each.queue.name} holds about {deep:,} messages, too many for a trace to look through"
                )
                continue
            dead += (self._dead_message(each, message) for message in each.queue.messages())
        messages = sorted((message for message in dead if message.key == key), key=lambda each: each.sent)
        return [
            Hop(dead.version, dead.sent, dead.kind.value, dead.source, "dead", {"reason": dead.reason})
            for dead in messages[-most:]
        ]

    def outcome(self, transform: str, key: str) -> LastOutcome | None:
        """A failure of the transform's code, by the document in quarantine about bronze's version now.

        Any other outcome is in silver, or in quarantine.
        """
        document = failed_tries(self.lake.quarantine, transform, key)
        bronze = self.lake.bronze.head(key) if document is not None else None
        if document is None or bronze is None or document["bronze"]["etag"] != bronze.etag:
            return None
        detail = {name: document[name] for name in ("error", "tries", "dead", "log")}
        return LastOutcome("failed", document["bronze"]["version"], moment(document["at"]) or 0.0, detail)

    def day_counts(self, since: float, now: float) -> dict[str, DayCounts]:
        names = [each.name for each in self.pipeline.transforms]
        with translate_aws_errors("CloudWatch's metrics"):
            client = self._account.client("cloudwatch")
            return aws_services.day_counts(client, self._name, names, since=since, now=now)

    def log_end(self, transform: str, most: int) -> list[LogLine]:
        group = f"/aws/lambda/{physical(self._name, transform) if transform else physical(self._name, kind='Tables')}"
        with translate_aws_errors(f"the log group {group}"):
            return aws_services.log_end(self._account.client("logs"), group, most)

    def dead(self) -> Iterator[DeadMessage]:
        """See :meth:`AwsQueue.messages`: a very deep queue is not read whole."""
        return (self._dead_message(each, message) for each in self._dead for message in each.queue.messages())

    def waiting(self, transform: str, etags: Mapping[str, str]) -> Set[str]:
        """The keys with a message in a dead-letter queue. AWS does not list the messages of the queue itself."""
        dead = self._dead_etags.get(transform, {})
        return {key for key, etag in etags.items() if dead.get(key, set()) & {"", etag}}

    def send(self, transform: str, events: Sequence[ObjectEvent], *, reason: str) -> None:
        queue = self._queue(self._url(transform))
        bodies = (object_created(event, reason=reason).decode() for event in events)
        with translate_aws_errors(f"the queue of {transform}"):
            for _ in map_in_threads(queue.send, batched(bodies, AT_ONCE), WORKERS):
                pass

    def begin_round(self, *, changed: bool, prove: bool) -> str:
        """Have the deployed reconciler begin a round now, with the input of its schedule; if one is going on, after
        that. Returns the function's name.

        Raises:
            WrongCall: the stack has no reconciler.
            AccessDenied, AwsFailed: it cannot be invoked.
        """
        name = self._outputs.get("ReconcilerName")
        if name is None:
            raise WrongCall("this stack has no reconciler (reconcile_hours=0): reconcile from here, without --there")
        with translate_aws_errors(f"the function {name}"):
            target = self._account.client("scheduler").get_schedule(
                Name=physical(self._name, kind="Reconciler"), GroupName=physical(self._name, kind="Schedules")
            )["Target"]
            # without the scheduler's keyword the round has a name of its own
            event = {key: value for key, value in json.loads(target["Input"]).items() if key != "round"}
            event |= {"changed": changed, "prove": prove, "follow": True}
            self._account.client("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=json.dumps(event))
        return name

    def send_to_tables(self, keys: Sequence[str], *, reason: str) -> int:
        url = self._outputs.get("QueueOfTablesUrl")
        if url is None:
            raise WrongCall(f"the {self.place} has no tables: run `silversmith deploy` first")
        queue = self._queue(url)
        of_tables = (each.queue for each in self._dead if each.is_of_tables)
        dead = {first_event(message.body).key for each in of_tables for message in each.messages()}
        keys = [key for key in keys if key not in dead]  # those are for a person, as on a lake
        with translate_aws_errors(f"the queue {queue.name}"):
            for batch in batched(keys, AT_ONCE):
                queue.send(
                    [object_created(ObjectEvent(self.pipeline.silver, key), reason=reason).decode() for key in batch]
                )
        return len(keys)

    def redrive(self, messages: Sequence[DeadMessage]) -> int:
        """Each message is sent before it is deleted: after a failure between, it is there twice and does no harm."""
        done = 0
        for name, group in groupby(messages, key=lambda message: message.queue):
            dead = next(each for each in self._dead if each.queue.name == name)
            received = [message for each in group if (message := dead.queue.received(each.message_id)) is not None]
            done += sum(map_in_threads(partial(self._give_back, dead), batched(received, AT_ONCE), WORKERS))
        return done

    @property
    def who(self) -> str:
        with translate_aws_errors("the caller's identity"):
            return str(self._account.client("sts").get_caller_identity()["Arn"])

    def versions(self, role: str) -> Versions:
        return S3Versions(getattr(self.pipeline, role) if role != "gold" else self._gold_bucket, self._s3)

    def gold_files(self) -> GoldFiles | None:
        if "GoldBucketName" not in self._outputs:
            return None
        options = {name.lower(): value for name, value in self._s3_options().items()}
        return GoldFiles(self._store(self._gold_bucket), f"s3://{self._gold_bucket}", options)

    @property
    def _gold_bucket(self) -> str:
        return self._outputs.get("GoldBucketName", self.pipeline.gold)

    def records(self, keys: Collection[str]) -> Mapping[str, int]:
        """The messages in dead-letter queues. Those of the queues themselves name keys, and are done in seconds."""
        number = sum(1 for _ in self._dead_about(keys))
        return {"messages": number} if number else {}

    def erase_records(self, keys: Collection[str]) -> list[str]:
        about = list(self._dead_about(keys))
        for queue, messages in groupby(about, key=lambda each: each[0]):
            queue.delete([message for _, message in messages])
        return [
            f"the queue {each.queue.name}: it holds more messages than are read, so nobody knows whether one names a "
            "key"
            for each in self._dead
            if each.queue.depth().waiting
        ]

    def _dead_about(self, keys: Collection[str]) -> Iterator[tuple[AwsQueue, AwsMessage]]:
        """The dead messages about keys, or about what is made of one."""
        names = {
            derive(transform.name, key)
            for key in keys
            for transform in self.pipeline.transforms
            for derive in (silver_key, error_key, failed_key)
        } | {*keys}
        for dead in self._dead:
            yield from ((dead.queue, each) for each in dead.queue.messages() if first_event(each.body).key in names)

    def settle(self, keys: Collection[str], transforms: Sequence[Transform], pause: Callable[[float], None]) -> None:
        """The longest time that an invocation takes. SQS counts what is in flight about, and not at once."""
        del keys
        names = [self._outputs.get(f"{logical(each.name, 'Function')}Name") for each in transforms]
        seconds = [self._timeout(name) for name in (*names, self._outputs.get("TablesName")) if name is not None]
        if seconds:
            self._tell(f"waiting {max(seconds):,} s, until no function is at work any more with what it has read")
            pause(max(seconds))

    def _timeout(self, function: str) -> int:
        """Of an invocation, in seconds; the longest that Lambda allows where it is not known."""
        try:
            with translate_aws_errors(f"the function {function}"):
                return int(self._account.client("lambda").get_function_configuration(FunctionName=function)["Timeout"])
        except SilversmithError:
            return LONGEST_INVOCATION

    def elsewhere(self, keys: Collection[str]) -> list[str]:
        functions = [
            name
            for output, name in self._outputs.items()
            if output in {"TablesName", "ReconcilerName"} or output.endswith("FunctionName")
        ]
        buckets = [self.versions(role).bucket for role in (*ROLES, "gold")]
        return [*log_groups(functions, keys), *(text for bucket in buckets for text in replicas(bucket, self._s3))]

    def close(self) -> None:
        """Make every received message visible again."""
        for each in self._dead:
            each.queue.release()

    def _give_back(self, dead: _DeadQueue, batch: Sequence[AwsMessage]) -> int:
        """Give messages back to what gave up on them, and return how many; none where the pipeline no longer has it.

        A rule's are published, because only S3 can send its events to the bus: ``PutEvents`` refuses ``aws.s3``.
        https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html
        """
        bodies = [message.body for message in batch]
        if dead.kind is DeadKind.RULE:
            with translate_aws_errors(f"the topic {_name(dead.topic)}"):
                publish(self._account.client("sns"), dead.topic, bodies)
        elif dead.back is not None:
            queue = self._queue(dead.back)
            with translate_aws_errors(
                f"the queue of {dead.transform}" if dead.transform else f"the queue {queue.name}"
            ):
                queue.send(bodies)
        else:
            return 0
        dead.queue.delete(batch)
        return len(batch)

    def _dead_message(self, dead: _DeadQueue, message: AwsMessage) -> DeadMessage:
        kind, transform, event = dead.kind, dead.transform, first_event(message.body)
        key = event.key
        source = _name(dead.back) if dead.back is not None else dead.queue.name
        if kind is DeadKind.RULE:
            source = message.attributes.get("RULE_ARN", "").rpartition("/")[2] or "a rule"
        elif kind is DeadKind.SUBSCRIPTION:
            source = _name(dead.topic)
        if dead.is_of_tables:
            transform, _, key = key.removesuffix(".parquet").partition("/")
        elif kind is not DeadKind.RULE and transform is None:
            kind = DeadKind.UNKNOWN
        return DeadMessage(
            message_id=message.id,
            kind=kind,
            source=source,
            queue=dead.queue.name,
            transform=transform,
            key=key,
            version=event.version,
            reason=_reason(kind, message),
            sent=message.sent,
            dead_at=None,
            attempts=None,
            error=None,
            tables=dead.is_of_tables,
            size=event.size,
        )

    @cached_property
    def _dead_etags(self) -> Mapping[str, Mapping[str, set[str]]]:
        """The etags of the dead messages, by transform and key, read once."""
        etags: dict[str, dict[str, set[str]]] = {each.name: {} for each in self.pipeline.transforms}
        for dead in self._dead:
            is_of_all = dead.kind is DeadKind.RULE and not dead.is_of_tables
            names = list(etags) if is_of_all else [dead.transform] if dead.transform else []
            for message in dead.queue.messages() if names else ():
                event = first_event(message.body)
                for name in names:
                    etags[name].setdefault(event.key, set()).add(event.etag)
        return etags

    @cached_property
    def _dead(self) -> Sequence[_DeadQueue]:
        """The dead-letter queues, in the order of the outputs."""
        outputs = self._outputs
        transforms = {
            f"{logical(each.name, kind)}Url": each.name
            for each in self.pipeline.transforms
            for kind in ("QueueDLQ", "SubscriptionDLQ")
        }
        queues = []
        for output, url in outputs.items():
            kind = next((kind for ending, kind in _DEAD.items() if output.endswith(ending)), None)
            if kind is None:
                continue
            transform, is_of_tables = transforms.get(output), output.endswith(("SilverRuleDLQUrl", "DLQOfTablesUrl"))
            back = outputs.get(f"{logical(transform, 'Queue')}Url") if transform is not None else None
            if is_of_tables and kind is not DeadKind.RULE:
                back = outputs.get("QueueOfTablesUrl")
            topic = outputs.get("SilverTopicArn" if is_of_tables else "TopicArn", "")
            queues.append(_DeadQueue(self._queue(url), kind, transform, is_of_tables, topic, back))
        return queues

    def _queue(self, url: str) -> AwsQueue:
        return AwsQueue(url, self._sqs, tell=self._tell, wait=self._wait)

    def _url(self, transform: str) -> str:
        url = self._outputs.get(f"{logical(transform, 'Queue')}Url")
        if url is None:
            raise WrongCall(f"the {self.place} has no transform {transform}: run `silversmith deploy` first")
        return url


def _deployed(transform: Transform, outputs: Mapping[str, str], tell: Callable[[str], None]) -> Transform:
    """The transform as the stack's output describes it.

    Without an output it is the checkout's: it is not deployed yet, or an older Silversmith deployed it.
    """
    text = outputs.get(logical(transform.name, CODE))
    if text is None:
        if f"{logical(transform.name, 'Queue')}Url" in outputs:
            tell(
                f"{transform.name}: the stack does not say which code is deployed, so it is compared with the "
                "checkout's; the next `silversmith deploy` records it"
            )
        return transform
    output = json.loads(text)
    deployed = replace(
        transform,
        since=outputs.get(logical(transform.name, "Since"), ""),
        fingerprint=output["fingerprint"],
        pattern=KeyPattern.any_of([output["pattern"]] if isinstance(output["pattern"], str) else output["pattern"]),
        lookups=tuple(output["lookups"]),
    )
    differences = [
        "code" if name == "fingerprint" else name
        for name in ("fingerprint", "pattern", "lookups")
        if getattr(deployed, name) != getattr(transform, name)
    ]
    if differences:
        tell(
            f"{transform.name}: the checkout differs from what is deployed ({', '.join(differences)}), and what is "
            "deployed counts: `silversmith diff`, `silversmith deploy`"
        )
    return deployed


def _name(place: str) -> str:
    """The name at the end of an ARN or of a queue's URL."""
    return re.split("[:/]", place)[-1]


def _reason(kind: DeadKind, message: AwsMessage) -> str:
    """EventBridge adds to the event why it could not deliver it, and the function why it gave up.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    if kind is DeadKind.QUEUE and message.attributes.get(ERROR_CODE):
        return f"the function gave up on it: {message.attributes[ERROR_CODE]}"
    why = [message.attributes[name] for name in ("ERROR_CODE", "ERROR_MESSAGE") if message.attributes.get(name)]
    return f"{_REASONS[kind]}: {', '.join(why)}" if why else _REASONS[kind]
