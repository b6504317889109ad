"""Each version of a file as one OpenTelemetry trace, with one span for each hop.

The bucket's span is the root; its ids follow from bucket, key and version, so that a later run joins the same trace.
docs/observability.md
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from silversmith.operations.target import Hop

#: The most files whose last hop is remembered. Of older ones, the waiting times are not known.
REMEMBERED = 20_000

_KINDS = {"bucket": SpanKind.PRODUCER, "topic": SpanKind.PRODUCER, "queue": SpanKind.CONSUMER}

#: The fields of an outcome that become attributes of the function's span.
_ATTRIBUTES = ("verdict", "transform", "silver", "etag", "size", "format", "rows_read", "rows_written", "rows_rejected")


class FileIds(RandomIdGenerator):
    """Random ids, except for a root span, whose ids are set."""

    root: SpanContext | None = None

    def generate_trace_id(self) -> int:
        return self.root.trace_id if self.root else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self.root.span_id if self.root else super().generate_span_id()


@dataclass
class _LastHop:
    """The time of a file's last hop, and by the name of a queue when it came there. Unix seconds."""

    at: float
    queued: dict[str, float] = field(default_factory=dict)


class Spans:
    """Exports a span for each hop, in the order in which they happened. For one thread.

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
        self._last_hops: OrderedDict[tuple[str, str], _LastHop] = OrderedDict()

    def close(self) -> None:
        """Send what was not sent yet; that takes as long as the exporter's timeouts allow."""
        self._provider.shutdown()

    def add_hop(self, key: str, hop: Hop) -> None:
        """Export the spans of one hop."""
        root = self._root(key, hop.version)
        last = self._remember(key, hop)
        if hop.room == "queue" and hop.what == "queued":
            last.queued[hop.name] = hop.at  # how long it waits is known when a function has it
        elif hop.room == "function":
            self._function(key, hop, root, last)
        else:
            self._span(f"{hop.room} {hop.name}", hop, key, root, start=last.at)
        last.at = hop.at

    def _remember(self, key: str, hop: Hop) -> _LastHop:
        last = self._last_hops.setdefault((key, hop.version), _LastHop(hop.at))
        self._last_hops.move_to_end((key, hop.version))
        if len(self._last_hops) > REMEMBERED:
            self._last_hops.popitem(last=False)
        return last

    def _root(self, key: str, version: str) -> SpanContext:
        digest = hashlib.sha256("\0".join((self._bucket, key, version)).encode("utf-8", "surrogatepass")).digest()
        trace_id = int.from_bytes(digest[:16]) or 1
        decided = self._provider.sampler.should_sample(None, trace_id, "bucket").decision
        flags = TraceFlags.SAMPLED if decided is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT
        return SpanContext(trace_id, int.from_bytes(digest[16:24]) or 1, is_remote=True, trace_flags=TraceFlags(flags))

    def _function(self, key: str, hop: Hop, root: SpanContext, last: _LastHop) -> None:
        """Spans of the wait in the queue, of the work, and of its stages. The messages of a batch end together, so the
        work of one begins at the end less the sum of its stages."""
        stages = _stages(hop.detail)
        begin = hop.at - sum(stages.values())
        if (queued := last.queued.get(hop.name)) is not None:
            begin = max(begin, queued)
            waited = Hop(hop.version, begin, "queue", hop.name, "received", {})
            self._span(f"queue {hop.name}", waited, key, root, start=queued)
        last.queued[hop.name] = hop.at  # it is there again, if it failed
        attributes: dict[str, AttributeValue] = {
            f"silversmith.{name}": hop.detail[name] for name in _ATTRIBUTES if hop.detail.get(name) not in {None, ""}
        }
        attributes["silversmith.attempt"] = int(hop.detail.get("attempt") or 1)
        work = self._span(f"function {hop.name}", hop, key, root, start=begin, attributes=attributes)
        for stage, seconds in stages.items():
            end = min(begin + seconds, hop.at)
            self._span(stage, Hop(hop.version, end, "stage", stage, "done", {}), key, work, start=begin)
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
        self._ids.root = parent if is_root else None
        span = self._tracer.start_span(
            name,
            context,
            kind=_KINDS.get(hop.room, SpanKind.INTERNAL),
            attributes={**common, "silversmith.what": hop.what, **(attributes or {})},
            start_time=_nanoseconds(min(start, hop.at)),
        )
        self._ids.root = None
        if error := hop.detail.get("error"):
            span.set_status(Status(StatusCode.ERROR, f"{error.get('code')}: {error.get('message')}"))
        span.end(_nanoseconds(hop.at))
        return span.get_span_context()


def _stages(detail: Mapping[str, object]) -> dict[str, float]:
    """The stages of the work itself: the wait for its turn in the batch comes before it."""
    stages = detail.get("stages")
    if not isinstance(stages, dict):
        return {}
    return {str(name): float(seconds) for name, seconds in stages.items() if name != "batch"}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
