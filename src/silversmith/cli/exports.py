"""The options of ``silversmith run`` that tell other systems what it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from silversmith.cli.screen import warn

if TYPE_CHECKING:
    from silversmith.local.lake import LakeFolder
    from silversmith.operations.status import Status
    from silversmith.pipeline import Pipeline


def require(*, metrics: int | None, otel: bool) -> None:
    """Have what the options need, before anything is begun.

    Raises:
        NotInstalled: an optional package is missing.
    """
    from silversmith import exporters

    if metrics is not None:
        exporters.require("prometheus_client", extra="prometheus", option="--metrics")
    if otel:
        exporters.require("opentelemetry.exporter.otlp.proto.http", extra="otel", option="--otel")


@contextmanager
def exporting(folder: LakeFolder, pipeline: Pipeline, *, metrics: int | None, otel: bool) -> Iterator[None]:
    """While the block lasts, whatever the options ask for. The engine must have made its journal."""
    with ExitStack() as stack:
        if metrics is not None:
            _metrics(stack, folder, pipeline, metrics)
        if otel:
            _spans(stack, folder, pipeline)
        yield


def _metrics(stack: ExitStack, folder: LakeFolder, pipeline: Pipeline, port: int) -> None:
    import time

    from silversmith.exporters.prometheus import serve
    from silversmith.operations.local import open_lake
    from silversmith.operations.status import status

    def look() -> Status:
        with open_lake(folder, pipeline) as target:
            return status(pipeline, target, now=time.time())

    address = stack.enter_context(serve(port, look))
    warn(f"metrics for Prometheus: {address}")


def _spans(stack: ExitStack, folder: LakeFolder, pipeline: Pipeline) -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from silversmith.exporters.spans import Spans, following

    spans = Spans(pipeline.name, pipeline.bronze, BatchSpanProcessor(OTLPSpanExporter()))
    stack.callback(spans.close)
    stack.enter_context(following(folder.journal, spans.tell))
