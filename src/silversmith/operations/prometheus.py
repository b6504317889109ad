"""Metrics of a local run for Prometheus, in its text format, on 127.0.0.1.

A scrape reads the journal once; between two scrapes nothing is done. docs/observability.md lists the metrics.
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EACCES, EADDRINUSE

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from silversmith.operations import WrongCall
from silversmith.operations.reports import Status, TransformStatus

HOST = "127.0.0.1"

#: How a file can end, by the name that the status has for it.
_OUTCOMES = {
    "committed": "done",
    "duplicate": "duplicates",
    "gone": "gone",
    "removed": "removed",
    "marker": "markers",
    "archived": "archived",
    "failed": "retried",
}


class StatusCollector(Collector):
    """Everything that ``silversmith status`` shows, as metrics.

    Args:
        look: takes one look at the pipeline.
    """

    def __init__(self, look: Callable[[], Status]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape."""
        status = self._look()
        yield from _chain(status)
        yield from _files(status)
        yield from _queues(status)

    def describe(self) -> Iterator[Metric]:
        """No metrics: a registry that asked would look at a lake that is not there yet."""
        return iter(())


def _chain(status: Status) -> Iterator[Metric]:
    chain, labels = status.chain, [status.pipeline]
    counters = {
        "silversmith_objects_created": ("Versions of objects that landed in bronze.", chain.created),
        "silversmith_events": ("Events that reached the bus.", chain.events),
        "silversmith_events_unmatched": ("Events that no rule wanted.", chain.unmatched),
        "silversmith_messages_published": ("Messages that the topic took.", chain.published),
        "silversmith_messages_dropped": ("Messages refused where no dead-letter queue takes them.", chain.dropped),
    }
    for name, (text, value) in counters.items():
        counter = CounterMetricFamily(name, text, labels=["pipeline"])
        counter.add_metric(labels, value or 0)
        yield counter
    gauges = {
        "silversmith_messages_on_the_way": ("Messages between two services.", chain.on_the_way),
        "silversmith_rule_dead_messages": ("Messages in the rules' dead-letter queues.", chain.dead),
    }
    for name, (text, value) in gauges.items():
        gauge = GaugeMetricFamily(name, text, labels=["pipeline"])
        gauge.add_metric(labels, value or 0)
        yield gauge


def _files(status: Status) -> Iterator[Metric]:
    files = CounterMetricFamily(
        "silversmith_files", "How often work on a file ended so.", labels=["pipeline", "transform", "outcome"]
    )
    rows = CounterMetricFamily("silversmith_rows", "Rows written to silver.", labels=["pipeline", "transform"])
    rejected = CounterMetricFamily(
        "silversmith_rows_rejected", "Rows that broke the contract.", labels=["pipeline", "transform"]
    )
    for transform in status.transforms:
        labels = [status.pipeline, transform.name]
        for outcome, field in _OUTCOMES.items():
            files.add_metric([*labels, outcome], getattr(transform, field) or 0)
        rows.add_metric(labels, transform.rows or 0)
        rejected.add_metric(labels, transform.rejected or 0)
    yield from (files, rows, rejected)


def _queues(status: Status) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "silversmith_queue_messages", "Messages in a transform's queues.", labels=["pipeline", "transform", "state"]
    )
    age = GaugeMetricFamily(
        "silversmith_queue_oldest_seconds",
        "The age of the oldest message in a transform's queue; 0 where it is empty.",
        labels=["pipeline", "transform"],
    )
    quarantined = GaugeMetricFamily(
        "silversmith_quarantined_files", "Files in quarantine.", labels=["pipeline", "transform"]
    )
    for transform in status.transforms:
        labels = [status.pipeline, transform.name]
        for state, number in _states(transform).items():
            depth.add_metric([*labels, state], number)
        age.add_metric(labels, transform.oldest_seconds or 0)
        quarantined.add_metric(labels, transform.quarantined)
    yield from (depth, age, quarantined)


def _states(transform: TransformStatus) -> dict[str, int]:
    return {"waiting": transform.waiting, "in_flight": transform.in_flight, "dead": transform.dead}


@contextmanager
def serve(port: int, look: Callable[[], Status]) -> Iterator[str]:
    """Answer scrapes while the block lasts. Gives the address.

    Args:
        port: on 127.0.0.1; 0: any that is free.
        look: takes one look at the pipeline, in a thread of its own.

    Raises:
        WrongCall: the port is not to be had.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(look))
    try:
        server, thread = start_http_server(port, addr=HOST, registry=registry)
    except OSError as error:
        if error.errno not in {EADDRINUSE, EACCES}:
            raise
        raise WrongCall(f"--metrics {port}: the port cannot be had: {error.strerror}. Name another, or 0.") from error
    try:
        yield f"http://{HOST}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
