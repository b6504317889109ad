"""A deployed pipeline as a target: its buckets, its queues on SQS, and its dead-letter queues.

A queue cannot be listed. Its messages are received, which hides them from others for a while, and made visible again at
the end. docs/decisions/0026-a-queue-is-read-by-receiving.md
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silversmith.aws.account import Account
from silversmith.aws.stack import Stack
from silversmith.errors import SilversmithError
from silversmith.events import NotAnEvent, ObjectEvent, object_created, unwrap
from silversmith.keypatterns import KeyPattern
from silversmith.lineage import error_key, failed_key, silver_key
from silversmith.operations import WrongCall, cloudwatch, tables_installed
from silversmith.operations.aws_queue import AT_ONCE, LONG_POLL, AwsMessage, AwsQueue, AwsTopic
from silversmith.operations.failures import ERROR, failed_tries
from silversmith.operations.target import (
    DayCounts,
    DeadKind,
    DeadMessage,
    Depth,
    FileTime,
    Hop,
    LastOutcome,
    Lately,
    LogLine,
    News,
    TransformQueues,
)
from silversmith.operations.text import count, moment
from silversmith.operations.versions import GoldFiles, S3Versions, Versions, log_groups, replicas
from silversmith.pipeline import Pipeline, Transform, as_deployed
from silversmith.pipeline.deployment import ROLES
from silversmith.reconcile.rows import LineageRows, LineageUnreadable, existing
from silversmith.runtime.queue import ERROR_CODE
from silversmith.runtime.telemetry import NAMESPACE
from silversmith.schemas import Owner
from silversmith.stores import Lake, batched, map_in_threads
from silversmith.stores.aws_errors import translate_aws_errors
from silversmith.stores.s3 import S3Store
from silversmith.template.plan import logical, physical
from silversmith.template.transform import CODE

if TYPE_CHECKING:
    from silversmith.tables.format import Format

#: Metrics of so many days say how long a file takes.
METRIC_DAYS = 14

#: The most seconds that an invocation may take.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LONGEST_INVOCATION = 900

#: A trace looks for its messages in queues of at most so many.
MOST_TRACED = 200

#: How many objects are headed at once: the SDK keeps so many connections.
WORKERS = 10

#: How many ranges of keys are listed at once: each waits for S3 most of the time.
LISTERS = 32

#: The endings of the outputs that name a dead-letter queue.
_DEAD = ("SubscriptionDLQUrl", "QueueDLQUrl", "RuleDLQUrl", "DLQOfTablesUrl")

#: The outputs that tell of the dead-letter queues of tables, with what gave up there.
_DEAD_OF_TABLES = {
    "SilverRuleDLQUrl": DeadKind.RULE,
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
    target = AwsTarget(
        deployed, state.outputs, account, name=name, place=f"stack {name} in {account.region}", tell=tell, wait=wait
    )
    try:
        yield deployed, target
    except BaseException:
        with suppress(SilversmithError):  # the first error is the one to report
            target.close()
        raise
    target.close()


def _metric(client: Any, namespace: str, name: str, dimensions: Mapping[str, str]) -> float:
    """The sum of a metric over the last :data:`METRIC_DAYS`."""
    start = datetime.now(UTC) - timedelta(days=METRIC_DAYS)
    answer = client.get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": dimension, "Value": value} for dimension, value in dimensions.items()],
        StartTime=start,
        EndTime=start + timedelta(days=METRIC_DAYS + 1),  # periods of a day, the last of which is not over
        Period=86_400,
        Statistics=["Sum"],
    )
    return float(sum(point["Sum"] for point in answer["Datapoints"]))


class AwsTarget:
    """A :class:`~silversmith.operations.target.Target` that is a stack.

    Args:
        pipeline: the deployed definition, with its buckets.
        outputs: the stack's outputs.
        account: the stack's account.
        name: the stack's name.
        place: the stack for a person.
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

    @cached_property
    def _sns(self) -> Any:
        return self._account.client("sns")

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

    @cached_property
    def gold(self) -> Format:
        with tables_installed():
            from silversmith.tables.delta import DeltaFormat
        bucket = self._outputs.get("GoldBucketName", self._pipeline.gold)
        return DeltaFormat(f"s3://{bucket}", scratch=Path(tempfile.gettempdir()), storage_options=self._s3_options())

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

    @property
    def listers(self) -> int:
        return LISTERS

    def rows(self) -> LineageRows | None:
        if not self._pipeline.lineage or not (bucket := self._outputs.get("GoldBucketName")):
            return None
        gold = S3Store(bucket, client=self._account.client("s3"), scratch=Path(tempfile.gettempdir()))
        options = {name.lower(): value for name, value in self._s3_options().items()}
        return existing(LineageRows(gold, f"s3://{bucket}", options))

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
        """By the metrics of the last two weeks: the durations of the function, and the files that it committed.

        Lambda bills a duration to the next millisecond.
        https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
        """
        function = self._outputs.get(f"{logical(transform, 'Function')}Name")
        if function is None:
            return None
        client, ours = self._account.client("cloudwatch"), {"Pipeline": self._name, "Transform": transform}
        with translate_aws_errors(f"CloudWatch's metrics of {function}"):
            milliseconds = _metric(client, "AWS/Lambda", "Duration", {"FunctionName": function})
            files = _metric(client, NAMESPACE, "FilesCommitted", ours)
            size = _metric(client, NAMESPACE, "Bytes", ours)
        if not milliseconds or not files:
            return None
        source = f"measured: the durations of {function} for {count(int(files), 'file')} in {METRIC_DAYS} days"
        return FileTime(milliseconds / 1000 / files, source, size / files, billed=True)

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

    def tables_queue(self) -> TransformQueues | None:
        url = self._outputs.get("QueueOfTablesUrl")
        if url is None:
            return None
        dead = tuple(
            self._dead[output].depth()
            for output, kind in _DEAD_OF_TABLES.items()
            if output in self._dead and kind is not DeadKind.RULE
        )
        return TransformQueues("", self._queue(url).depth(), dead)

    def rules_dead(self) -> list[Depth]:
        return [queue.depth() for output, queue in self._dead.items() if _kind(output) is DeadKind.RULE]

    def hops(self, key: str, most: int) -> list[Hop]:
        """Its dead messages: AWS keeps no other history. To look for one, all of a queue are received, which hides them
        from others: so a deep queue is left alone."""
        dead: list[DeadMessage] = []
        for output, queue in self._dead.items():
            if (deep := queue.depth().waiting) > MOST_TRACED:
                self._tell(
                    f"the queue {queue.name} holds about {deep:,} messages, too many for a trace to look through"
                )
                continue
            dead += (self._dead_message(output, queue, message) for message in queue.messages())
        messages = sorted((message for message in dead if message.key == key), key=lambda each: each.sent)
        return [
            Hop(dead.version, dead.sent, dead.kind.value, dead.source, "dead", {"reason": dead.reason})
            for dead in messages[-most:]
        ]

    def newest(self) -> int:
        return 0

    def news(self, after: int, most: int) -> list[News]:
        """None: AWS keeps no history."""
        del after, most
        return []

    def tallies(self, width: int, since: int) -> list[tuple[int, str, str, int]]:
        del width, since
        return []

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

    def alarms(self) -> None:
        return None

    def day_counts(self, since: float, now: float) -> dict[str, DayCounts]:
        names = [each.name for each in self._pipeline.transforms]
        with translate_aws_errors("CloudWatch's metrics"):
            client = self._account.client("cloudwatch")
            return cloudwatch.day_counts(client, self._name, names, since=since, now=now)

    def log_end(self, transform: str, most: int) -> list[LogLine]:
        group = f"/aws/lambda/{physical(self._name, transform) if transform else physical(self._name, kind='Tables')}"
        with translate_aws_errors(f"the log group {group}"):
            return cloudwatch.log_end(self._account.client("logs"), group, most)

    def lately(self, since: float, most: int) -> list[Lately]:
        """None: AWS keeps no history."""
        del since, most
        return []

    def dead(self) -> Iterator[DeadMessage]:
        """The messages in all dead-letter queues, also of transforms that the pipeline no longer has. See
        :meth:`Queue.messages`: a very deep queue is not read whole."""
        for output, queue in self._dead.items():
            for message in queue.messages():
                yield self._dead_message(output, queue, message)

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
        queue = self._queue(self._tables_url)
        dead = {_event(message).key for output in _DEAD_OF_TABLES for message in self._dead_messages(output)}
        keys = [key for key in keys if key not in dead]  # those are for a person, as on a lake
        with translate_aws_errors(f"the queue {queue.name}"):
            for batch in batched(keys, AT_ONCE):
                queue.send(
                    [object_created(ObjectEvent(self._pipeline.silver, key), reason=reason).decode() for key in batch]
                )
        return len(keys)

    def _dead_messages(self, output: str) -> Iterator[AwsMessage]:
        """The messages in the dead-letter queue of this output; none if the stack has no such queue."""
        queue = self._dead.get(output)
        return queue.messages() if queue is not None else iter(())

    @property
    def _tables_url(self) -> str:
        url = self._outputs.get("QueueOfTablesUrl")
        if url is None:
            raise WrongCall(f"the {self.place} has no tables: run `silversmith deploy` first")
        return url

    def redrive(self, messages: Sequence[DeadMessage]) -> int:
        """Each message is sent before it is deleted: after a failure between, it is there twice and does no harm."""
        done = 0
        for name, group in groupby(messages, key=lambda message: message.queue):
            output, queue = next(each for each in self._dead.items() if each[1].name == name)
            received = [message for dead in group if (message := queue.received(dead.message_id)) is not None]
            move = partial(self._move, output, queue)
            done += sum(map_in_threads(move, batched(received, AT_ONCE), WORKERS))
        return done

    def _move(self, output: str, queue: AwsQueue, batch: Sequence[AwsMessage]) -> int:
        """Give messages back, and return how many."""
        if not self._give_back(output, [message.body for message in batch]):
            return 0
        queue.delete(batch)
        return len(batch)

    @property
    def who(self) -> str:
        with translate_aws_errors("the caller's identity"):
            return str(self._account.client("sts").get_caller_identity()["Arn"])

    def versions(self, role: str) -> Versions:
        bucket = getattr(self._pipeline, role) if role != "gold" else self._gold_bucket
        return S3Versions(bucket, self._account.client("s3"))

    def gold_files(self) -> GoldFiles | None:
        if "GoldBucketName" not in self._outputs:
            return None
        store = S3Store(self._gold_bucket, client=self._account.client("s3"), scratch=Path(tempfile.gettempdir()))
        options = {name.lower(): value for name, value in self._s3_options().items()}
        return GoldFiles(store, f"s3://{self._gold_bucket}", options)

    @property
    def _gold_bucket(self) -> str:
        return self._outputs.get("GoldBucketName", self._pipeline.gold)

    def records(self, keys: Collection[str]) -> Mapping[str, int]:
        """The messages in dead-letter queues. Those of the queues themselves name keys, and are done in seconds."""
        number = sum(1 for _ in self._dead_about(keys))
        return {"messages": number} if number else {}

    def erase_records(self, keys: Collection[str]) -> list[str]:
        about = list(self._dead_about(keys))
        for queue, messages in groupby(about, key=lambda each: each[0]):
            queue.delete([message for _, message in messages])
        return [
            f"the queue {queue.name}: it holds more messages than are read, so nobody knows whether one names a key"
            for queue in self._dead.values()
            if queue.depth().waiting
        ]

    def _dead_about(self, keys: Collection[str]) -> Iterator[tuple[AwsQueue, AwsMessage]]:
        """The dead messages about keys, or about what is made of one."""
        made = {
            derive(transform.name, key)
            for key in keys
            for transform in self._pipeline.transforms
            for derive in (silver_key, error_key, failed_key)
        }
        for queue in self._dead.values():
            yield from ((queue, each) for each in queue.messages() if _event(each).key in made | {*keys})

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
        functions = [name for output, name in self._outputs.items() if _is_function(output)]
        client = self._account.client("s3")
        buckets = [self.versions(role).bucket for role in (*ROLES, "gold")]
        return [*log_groups(functions, keys), *(text for bucket in buckets for text in replicas(bucket, client))]

    def close(self) -> None:
        """Make every received message visible again."""
        for queue in self._dead.values():
            queue.release()

    def _give_back(self, output: str, bodies: list[str]) -> bool:
        """Send bodies to what gave up on them; False: the pipeline no longer has it."""
        kind, transform = _kind(output), self._transform_of.get(output)
        if kind is DeadKind.RULE:
            self._publish(bodies, self._outputs["SilverTopicArn" if output in _DEAD_OF_TABLES else "TopicArn"])
            return True
        if output in _DEAD_OF_TABLES:
            queue = self._queue(self._tables_url)
            with translate_aws_errors(f"the queue {queue.name}"):
                queue.send(bodies)
            return True
        if transform is None:
            return False
        with translate_aws_errors(f"the queue of {transform}"):
            self._queue(self._url(transform)).send(bodies)
        return True

    def _publish(self, bodies: list[str], topic: str) -> None:
        """Publish to a topic, because only S3 can send its events to the bus: ``PutEvents`` refuses ``aws.s3``.

        https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEventsRequestEntry.html
        """
        with translate_aws_errors(f"the topic {topic.rpartition(':')[2]}"):
            AwsTopic(topic, self._sns).publish(bodies)

    def _dead_message(self, output: str, queue: AwsQueue, message: AwsMessage) -> DeadMessage:
        transform = self._transform_of.get(output)
        kind = _kind(output)
        event = _event(message)
        key = event.key
        if output in _DEAD_OF_TABLES:
            transform, _, key = key.removesuffix(".parquet").partition("/")
        elif kind is not DeadKind.RULE and transform is None:
            kind = DeadKind.UNKNOWN
        return DeadMessage(
            message_id=message.id,
            kind=kind,
            source=self._source(output, transform, queue, message),
            queue=queue.name,
            transform=transform,
            key=key,
            version=event.version,
            reason=_reason(kind, message),
            sent=message.sent,
            dead_at=None,
            attempts=None,
            error=None,
            tables=output in _DEAD_OF_TABLES,
            size=event.size,
        )

    def _source(self, output: str, transform: str | None, queue: AwsQueue, message: AwsMessage) -> str:
        kind, is_of_tables = _kind(output), output in _DEAD_OF_TABLES
        if kind is DeadKind.RULE:
            return message.attributes.get("RULE_ARN", "").rpartition("/")[2] or "a rule"
        if kind is DeadKind.SUBSCRIPTION:
            return self._outputs["SilverTopicArn" if is_of_tables else "TopicArn"].rpartition(":")[2]
        if is_of_tables:
            return self._tables_url.rpartition("/")[2]
        return self._url(transform).rpartition("/")[2] if transform else queue.name

    @cached_property
    def _dead_etags(self) -> Mapping[str, Mapping[str, set[str]]]:
        """The etags of the dead messages, by transform and key, read once."""
        etags: dict[str, dict[str, set[str]]] = {each.name: {} for each in self._pipeline.transforms}
        for output, queue in self._dead.items():
            names = [self._transform_of[output]] if output in self._transform_of else []
            if output == "RuleDLQUrl":
                names = list(etags)
            for message in queue.messages():
                event = _event(message)
                for name in names:
                    etags[name].setdefault(event.key, set()).add(event.etag)
        return etags

    @cached_property
    def _dead(self) -> Mapping[str, AwsQueue]:
        """The dead-letter queues, by their outputs."""
        return {output: self._queue(url) for output, url in self._outputs.items() if output.endswith(_DEAD)}

    @cached_property
    def _transform_of(self) -> Mapping[str, str]:
        """The transform of a dead-letter queue, by its output."""
        return {
            f"{logical(each.name, kind)}Url": each.name
            for each in self._pipeline.transforms
            for kind in ("QueueDLQ", "SubscriptionDLQ")
        }

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


def _is_function(output: str) -> bool:
    """Whether an output names a function."""
    return output in {"TablesName", "ReconcilerName"} or output.endswith("FunctionName")


def _kind(output: str) -> DeadKind:
    if output in _DEAD_OF_TABLES:
        return _DEAD_OF_TABLES[output]
    if output == "RuleDLQUrl":
        return DeadKind.RULE
    return DeadKind.SUBSCRIPTION if output.endswith("SubscriptionDLQUrl") else DeadKind.QUEUE


def _event(message: AwsMessage) -> ObjectEvent:
    """The first event of a message; one without a key where the message has none."""
    try:
        return next(iter(unwrap(message.body)), ObjectEvent("", ""))
    except NotAnEvent:
        return ObjectEvent("", "")


def _reason(kind: DeadKind, message: AwsMessage) -> str:
    """EventBridge adds to the event why it could not deliver it, and the function why it gave up.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    if kind is DeadKind.QUEUE and message.attributes.get(ERROR_CODE):
        return f"the function gave up on it: {message.attributes[ERROR_CODE]}"
    why = [message.attributes[name] for name in ("ERROR_CODE", "ERROR_MESSAGE") if message.attributes.get(name)]
    return f"{_REASONS[kind]}: {', '.join(why)}" if why else _REASONS[kind]
