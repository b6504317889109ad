"""Metrics of a local run for Prometheus, in its text format, on 127.0.0.1.

A scrape reads the journal once; between two scrapes nothing is done. docs/observability.md lists the metrics.
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from errno import EACCES, EADDRINUSE

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from silversmith.operations import WrongCall
from silversmith.operations.reports import ChainStatus, Status

HOST = "127.0.0.1"

_Kind = type[CounterMetricFamily] | type[GaugeMetricFamily]


def _of_the_chain(chain: ChainStatus) -> list[tuple[_Kind, str, str, int | None]]:
    counter, gauge = CounterMetricFamily, GaugeMetricFamily
    return [
        (counter, "objects_created", "Versions of objects that landed in bronze.", chain.created),
        (counter, "events", "Events that reached the bus.", chain.events),
        (counter, "events_unmatched", "Events that no rule wanted.", chain.unmatched),
        (counter, "messages_published", "Messages that the topic took.", chain.published),
        (counter, "messages_dropped", "Messages refused where no dead-letter queue takes them.", chain.dropped),
        (gauge, "messages_on_the_way", "Messages between two services.", chain.on_the_way),
        (gauge, "rule_dead_messages", "Messages in the rules' dead-letter queues.", chain.dead),
    ]


#: How a file can end, by the name that the status has for it.
_OUTCOMES = {
    "done": ["committed"],
    "duplicates": ["duplicate"],
    "gone": ["gone"],
    "removed": ["removed"],
    "markers": ["marker"],
    "archived": ["archived"],
    "retried": ["failed"],
}
_STATES = {name: [name] for name in ("waiting", "in_flight", "dead")}

#: The metrics of each transform: a label of their own, and its values by the name that the status has for the number.
_OF_TRANSFORMS: list[tuple[_Kind, str, str, list[str], Mapping[str, list[str]]]] = [
    (CounterMetricFamily, "files", "How often work on a file ended so.", ["outcome"], _OUTCOMES),
    (CounterMetricFamily, "rows", "Rows written to silver.", [], {"rows": []}),
    (CounterMetricFamily, "rows_rejected", "Rows that broke the contract.", [], {"rejected": []}),
    (GaugeMetricFamily, "queue_messages", "Messages in a transform's queues.", ["state"], _STATES),
    (
        GaugeMetricFamily, "queue_oldest_seconds",
        "The age of the oldest message in a transform's queue; 0 where it is empty.", [], {"oldest_seconds": []},
    ),
    (GaugeMetricFamily, "quarantined_files", "Files in quarantine.", [], {"quarantined": []}),
]  # fmt: skip


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
        for kind, name, text, value in _of_the_chain(status.chain):
            metric = kind(f"silversmith_{name}", text, labels=["pipeline"])
            metric.add_metric([status.pipeline], value or 0)
            yield metric
        for kind, name, text, label, values in _OF_TRANSFORMS:
            metric = kind(f"silversmith_{name}", text, labels=["pipeline", "transform", *label])
            for transform in status.transforms:
                for field, own in values.items():
                    metric.add_metric([status.pipeline, transform.name, *own], getattr(transform, field) or 0)
            yield metric

    def describe(self) -> Iterator[Metric]:
        """No metrics: a registry that asked would look at a lake that is not there yet."""
        return iter(())


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
