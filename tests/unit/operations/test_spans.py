"""The way of a file as spans: one trace for each version, every hop in it, times as they were."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from silversmith.local.journal import Journal
from silversmith.local.services import hop_row, write
from silversmith.operations.profile import following
from silversmith.operations.spans import Spans
from silversmith.operations.target import Hop

STAGES = {"look": 0.1, "convert": 0.5, "commit": 0.2}

WAY = [
    Hop("v1", 100.0, "bucket", "bronze", "created", {}),
    Hop("v1", 100.25, "rule", "shop_Rule", "matched", {}),
    Hop("v1", 100.5, "topic", "shop_Topic", "published", {}),
    Hop("v1", 100.5, "queue", "shop_orders", "queued", {}),
    Hop("v1", 102.0, "function", "shop_orders", "committed", {"verdict": "committed", "rows_written": 3, "attempt": 1}),
]


def spans(*messages: tuple[str, Hop]) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    created = Spans("shop", "bronze", SimpleSpanProcessor(exporter))
    for key, hop in messages:
        created.add_hop(key, hop)
    created.close()
    return list(exporter.get_finished_spans())


def seconds(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time / 1e9, span.end_time / 1e9


def test_one_file_is_one_trace_with_a_span_for_each_hop() -> None:
    last = replace(WAY[-1], detail={**WAY[-1].detail, "stages": STAGES})
    result = spans(*(("orders/a.csv", hop) for hop in [*WAY[:-1], last]))
    by_name = {span.name: span for span in result}
    hops = ["bucket bronze", "rule shop_Rule", "topic shop_Topic", "queue shop_orders", "function shop_orders"]
    assert list(by_name) == [*hops, *STAGES]
    assert len({span.context.trace_id for span in result if span.context}) == 1
    root = by_name["bucket bronze"]
    assert root.parent is None
    assert root.context is not None
    assert {span.parent.span_id for name in hops[1:] if (span := by_name[name]).parent} == {root.context.span_id}
    work = by_name["function shop_orders"]
    assert work.context is not None
    assert {span.parent.span_id for name in STAGES if (span := by_name[name]).parent} == {work.context.span_id}
    assert seconds(by_name["rule shop_Rule"]) == (100.0, 100.25)
    assert seconds(by_name["queue shop_orders"]) == pytest.approx((100.5, 101.2))
    assert seconds(work) == pytest.approx((101.2, 102.0))
    assert seconds(by_name["convert"]) == pytest.approx((101.3, 101.8))
    assert work.attributes is not None
    assert work.attributes["aws.s3.key"] == "orders/a.csv"
    assert work.attributes["silversmith.rows_written"] == 3
    assert root.resource.attributes["service.name"] == "shop"


def test_a_failure_is_an_error_and_its_next_try_is_in_the_same_trace() -> None:
    error = {"code": "TransformError", "message": "no such column"}
    failed = Hop("v1", 102.0, "function", "shop_orders", "failed", {"verdict": "failed", "error": error, "attempt": 1})
    again = Hop("v1", 106.0, "function", "shop_orders", "committed", {"verdict": "committed", "attempt": 2})
    result = spans(*(("a", hop) for hop in [*WAY[:-1], failed, again]))
    tries = [span for span in result if span.name == "function shop_orders"]
    assert [span.status.status_code for span in tries] == [StatusCode.ERROR, StatusCode.UNSET]
    assert tries[0].status.description == "TransformError: no such column"
    assert len({span.context.trace_id for span in result if span.context}) == 1
    waits = [seconds(span) for span in result if span.name == "queue shop_orders"]
    assert waits == [pytest.approx((100.5, 102.0)), pytest.approx((102.0, 106.0))]


hops = st.builds(
    Hop,
    st.sampled_from(["v1", "v2"]),
    st.floats(0, 10**6),
    st.sampled_from(["bucket", "rule", "topic", "queue", "function", "courier", "operations"]),
    st.sampled_from(["a", "b", "-"]),
    st.sampled_from(["created", "queued", "failed", "committed", "dead"]),
    st.fixed_dictionaries(
        {}, optional={"stages": st.dictionaries(st.text(min_size=1), st.floats(0, 10**4), max_size=3)}
    ),
)


@given(st.lists(st.tuples(st.text(max_size=3), hops), max_size=20))
def test_every_version_has_one_trace_and_no_time_goes_back(journal_hops: list[tuple[str, Hop]]) -> None:
    traces = defaultdict(set)
    for span in spans(*journal_hops):
        assert span.context is not None
        assert span.attributes is not None
        traces[span.attributes["aws.s3.key"], span.attributes["silversmith.version"]].add(span.context.trace_id)
        start, end = seconds(span)
        assert start <= end
    assert all(len(ids) == 1 for ids in traces.values())
    assert len(set.union(set(), *traces.values())) == len(traces)


def test_two_runs_agree_on_the_trace() -> None:
    first, second = spans(("a", WAY[0])), spans(("a", WAY[1]))
    assert first[0].context is not None
    assert second[0].parent is not None
    assert second[0].parent.span_id == first[0].context.span_id


def test_hops_of_the_journal_are_exported_once_and_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    messages: list[tuple[str, Hop]] = []

    def happens(number: int) -> None:
        hop = hop_row(str(number), "v", at=1.0, room="bucket", name="b", what="created", detail={"size": 1})
        with journal.transaction():
            write(journal, hops=[hop])

    happens(0)
    with following(journal.path, lambda key, hop: messages.append((key, hop))):
        for number in range(1, 4):
            happens(number)
    assert [key for key, _ in messages] == ["1", "2", "3"]
    assert messages[0][1] == Hop("v", 1.0, "bucket", "b", "created", {"size": 1})
    journal.close()
