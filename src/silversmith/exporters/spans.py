"""Each version of a file as one OpenTelemetry trace, with one span for each hop, read from the journal as it grows.

The bucket's span is the root; its ids follow from bucket, key and version, so that a later run joins the same trace.
docs/observability.md
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from silversmith.local.journal import Journal
from silversmith.operations.target import Hop

#: How often the journal is looked at, in seconds, and how many hops are read at once.
EVERY = 0.5
AT_ONCE = 1_000


class Follower:
    """Tells of each hop once, from those on that come after it was made.

    Args:
        journal: a connection that is used in one thread only.
        tell: told the key and what happened to it.
    """

    def __init__(self, journal: Journal, tell: Callable[[str, Hop], None]) -> None:
        self._journal = journal
        self._tell = tell
        ((newest,),) = journal.rows("newest_hop")
        self._after = newest or 0

    def catch_up(self) -> None:
        """Tell all that has happened since."""
        while rows := self._journal.rows("hops_after", after=self._after, most=AT_ONCE):
            for number, key, version, at, room, name, what, detail in rows:
                self._after = number
                self._tell(key, Hop(version, at, room, name, what, orjson.loads(detail)))


@contextmanager
def following(path: Path, tell: Callable[[str, Hop], None]) -> Iterator[None]:
    """While the block lasts, and once more at its end, tell of what is new in the journal of this path."""
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        journal = Journal(path, readonly=True)
        try:
            follower = Follower(journal, tell)
            begun.set()
            while not ended.wait(EVERY):
                follower.catch_up()
            follower.catch_up()
        finally:
            begun.set()
            journal.close()

    thread = threading.Thread(target=work, name="spans", daemon=True)
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        ended.set()
        thread.join()


#: Of how many files it is remembered when they were where. Of older ones, the waiting times are not known.
REMEMBERED = 20_000

_KINDS = {"bucket": SpanKind.PRODUCER, "topic": SpanKind.PRODUCER, "queue": SpanKind.CONSUMER}

#: What of an outcome becomes an attribute of the function's span.
_TOLD = ("verdict", "transform", "silver", "etag", "size", "format", "rows_read", "rows_written", "rows_rejected")


class FileIds(RandomIdGenerator):
    """Random ids, but for a root, whose ids are given."""

    def __init__(self) -> None:
        self._given: SpanContext | None = None

    def generate_trace_id(self) -> int:
        return self._given.trace_id if self._given else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self._given.span_id if self._given else super().generate_span_id()

    @contextmanager
    def given(self, context: SpanContext) -> Iterator[None]:
        """While the block lasts, these ids and no others."""
        self._given = context
        try:
            yield
        finally:
            self._given = None


@dataclass
class _Known:
    """When a file was last where. ``queued`` by the name of the queue."""

    at: float
    queued: dict[str, float] = field(default_factory=dict)


class Spans:
    """Makes spans of hops, in the order in which they happened. For one thread.

    Args:
        pipeline: its name, which becomes the service's unless ``OTEL_SERVICE_NAME`` says otherwise.
        bucket: the bronze bucket's name.
        processor: where spans go.
    """

    def __init__(self, pipeline: str, bucket: str, processor: SpanProcessor) -> None:
        self._ids = FileIds()
        resource = Resource({"service.name": pipeline}).merge(Resource.create())
        if "unknown_service" in str(resource.attributes["service.name"]):
            resource = resource.merge(Resource({"service.name": pipeline}))
        self._provider = TracerProvider(id_generator=self._ids, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("silversmith")
        self._bucket = bucket
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def close(self) -> None:
        """Send what was not sent yet; that takes as long as the exporter's timeouts allow."""
        self._provider.shutdown()

    def tell(self, key: str, hop: Hop) -> None:
        """One thing happened to a version of an object."""
        root = self._root(key, hop.version)
        known = self._remember(key, hop)
        if hop.room == "queue" and hop.what == "queued":
            known.queued[hop.name] = hop.at  # how long it waits is known when a function has it
        elif hop.room == "function":
            self._function(key, hop, root, known)
        else:
            self._span(f"{hop.room} {hop.name}", hop, key, root, start=known.at)
        known.at = hop.at

    def _remember(self, key: str, hop: Hop) -> _Known:
        known = self._known.setdefault((key, hop.version), _Known(hop.at))
        self._known.move_to_end((key, hop.version))
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return known

    def _root(self, key: str, version: str) -> SpanContext:
        digest = hashlib.sha256("\0".join((self._bucket, key, version)).encode("utf-8", "surrogatepass")).digest()
        trace_id = int.from_bytes(digest[:16]) or 1
        decided = self._provider.sampler.should_sample(None, trace_id, "bucket").decision
        flags = TraceFlags.SAMPLED if decided is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT
        return SpanContext(trace_id, int.from_bytes(digest[16:24]) or 1, is_remote=True, trace_flags=TraceFlags(flags))

    def _function(self, key: str, hop: Hop, root: SpanContext, known: _Known) -> None:
        """The wait in the queue, the work, and the stages of the work. A batch's messages end together, so that the
        work of a message begins, as far as is known, so long before the end as its stages took."""
        stages = _stages(hop.detail)
        begin = hop.at - sum(stages.values())
        if (queued := known.queued.get(hop.name)) is not None:
            begin = max(begin, queued)
            waited = Hop(hop.version, begin, "queue", hop.name, "received", {})
            self._span(f"queue {hop.name}", waited, key, root, start=queued)
        known.queued[hop.name] = hop.at  # where it is again, if it failed
        told = {f"silversmith.{name}": hop.detail[name] for name in _TOLD if hop.detail.get(name) not in {None, ""}}
        told["silversmith.attempt"] = int(hop.detail.get("attempt") or 1)
        done = self._span(f"function {hop.name}", hop, key, root, start=begin, attributes=told)
        for stage, seconds in stages.items():
            end = min(begin + seconds, hop.at)
            self._span(stage, Hop(hop.version, end, "stage", stage, "done", {}), key, done, start=begin)
            begin = end

    def _span(
        self,
        name: str,
        hop: Hop,
        key: str,
        parent: SpanContext,
        *,
        start: float,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> SpanContext:
        is_root = hop.room == "bucket" and hop.what == "created"
        context = trace.set_span_in_context(NonRecordingSpan(parent)) if not is_root else None
        common = {"aws.s3.bucket": self._bucket, "aws.s3.key": key, "silversmith.version": hop.version}
        common |= {"silversmith.what": hop.what}

        def begun() -> trace.Span:
            return self._tracer.start_span(
                name,
                context,
                kind=_KINDS.get(hop.room, SpanKind.INTERNAL),
                attributes={**common, **(attributes or {})},
                start_time=_nanoseconds(min(start, hop.at)),
            )

        if is_root:
            with self._ids.given(parent):
                span = begun()
        else:
            span = begun()
        if error := hop.detail.get("error"):
            span.set_status(Status(StatusCode.ERROR, f"{error.get('code')}: {error.get('message')}"))
        span.end(_nanoseconds(hop.at))
        return span.get_span_context()


def _stages(detail: Mapping[str, object]) -> dict[str, float]:
    """Those of the work itself: what a message waited for its turn in the batch came before."""
    found = detail.get("stages")
    if not isinstance(found, dict):
        return {}
    return {str(name): float(seconds) for name, seconds in found.items() if name != "batch"}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
