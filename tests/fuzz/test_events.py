"""Fuzz target: whatever lies in a queue, the handler says of each message whether it failed, and does its neighbours.

The short form runs with the tests, the long one by ``make fuzz``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import orjson
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.events import ObjectEvent, object_created
from silversmith.function.handler import Handler
from silversmith.function.outcome import Report
from silversmith.lineage import silver_key
from silversmith.pipeline import Transform
from silversmith.stores import Lake
from tests.unit.shop import Shop

KEY = "in/ä b.csv"
OBJECT = {"key": KEY, "size": 5, "etag": "abc", "version-id": "v1", "sequencer": "00A"}
EVENTBRIDGE = {
    "version": "0",
    "id": "e-1",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "time": "2026-01-02T03:04:05Z",
    "resources": ["arn:aws:s3:::bronze"],
    "detail": {"bucket": {"name": "bronze"}, "object": OBJECT, "reason": "PutObject"},
    "silversmith": {"made_after": "2026-01-01T00:00:00+00:00"},
}
S3 = {"bucket": {"name": "bronze"}, "object": {"key": quote_plus(KEY), "size": 5, "eTag": "abc", "sequencer": "00A"}}
NATIVE = {"Records": [{"eventName": "ObjectCreated:Put", "eventTime": "2026-01-02T03:04:05Z", "s3": S3}] * 2}


def in_sns(event: object) -> dict[str, Any]:
    return {"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": json.dumps(event)}


FORMS: list[Any] = [EVENTBRIDGE, NATIVE, in_sns(EVENTBRIDGE), in_sns(NATIVE), in_sns(in_sns(EVENTBRIDGE))]

#: Also what json.loads takes and no UTF-8 can hold, numbers that no float can, and keys that are no keys.
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["\ud800", "\0", "../../x", "/", "", "a" * 1025, "%FF", "%", "+", "{}", "[]", "null", 10**400, -1]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every part of a document."""
    yield path
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, name))


def changed(value: Any, path: Sequence[str | int], new: Any) -> Any:
    """The document with another value at one place; ``Ellipsis``: with nothing there."""
    if not path:
        return None if new is ... else new
    copy = dict(value) if isinstance(value, dict) else dict(enumerate(value))
    if new is ... and len(path) == 1:
        copy.pop(path[0])
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], new)
    return copy if isinstance(value, dict) else list(copy.values())


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """An event in which a few things are not what they should be."""
    form = draw(st.sampled_from(FORMS))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(places(form))))
        form = changed(form, path, draw(st.just(...) | VALUES | st.sampled_from(FORMS)))
    if isinstance(form, dict) and isinstance(form.get("Message"), str) and draw(st.booleans()):
        form = {**form, "Message": draw(st.sampled_from([form["Message"][:-1], form["Message"] + "}", "[" * 100_000]))}
    text = json.dumps(form, ensure_ascii=draw(st.booleans()))
    cut = draw(st.just(len(text)) | st.integers(0, len(text)))
    return text[:cut]


def same(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


def _transform() -> Transform:
    pipeline = Pipeline("fuzz")
    pipeline.transform("*", name="orders")(same)
    return pipeline.find("orders")


TRANSFORM = _transform()


class Unhurried:
    """Lambda's context, with time enough."""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def handled(shop: Shop, bodies: Sequence[str]) -> tuple[set[str], list[str], list[Report]]:
    """The ids of the messages that come back, those of the messages in the dead-letter queue, and all reports."""
    buried: list[str] = []
    reports: list[Report] = []
    handler = Handler(
        TRANSFORM,
        bucket="bronze",
        lake=Lake(shop.bronze, shop.silver, shop.quarantine),
        scratch=shop.folder / "scratch",
        ended=reports.append,
        move_to_dlq=lambda record, _: buried.append(record["messageId"]),
        now=partial(datetime.now, UTC),
    )
    records = [{"messageId": str(n), "receiptHandle": f"r{n}", "body": body} for n, body in enumerate(bodies)]
    response = handler({"Records": records}, Unhurried())
    return {item["itemIdentifier"] for item in response["batchItemFailures"]}, buried, reports


@given(st.lists(bodies() | st.text(), min_size=1, max_size=4))
def test_any_batch_is_answered_and_good_neighbours_are_done(strangers: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder) / "shop")
        shop.bronze.put(KEY, b"x\n1\n")
        shop.bronze.put("in/neighbour.csv", b"x\n2\n")
        neighbour = object_created(ObjectEvent("bronze", "in/neighbour.csv"), reason="PutObject").decode()
        failed, buried, reports = handled(shop, [*strangers, neighbour])
        assert len(reports) == len(strangers) + 1, "each has its report"
        assert failed == {report.message_id for report in reports if report.error is not None and not report.dead}
        assert buried == [report.message_id for report in reports if report.dead], "what is no event is dead at once"
        assert all(report.error["code"] == "NotAnEvent" for report in reports if report.dead and report.error)
        assert str(len(strangers)) not in failed
        assert shop.silver.head(silver_key("orders", "in/neighbour.csv")) is not None
        for report in reports:
            orjson.loads(orjson.dumps(report.to_dict()))  # as it passes to the engine, and on AWS to the log
        assert [path.name for path in Path(folder).iterdir()] == ["shop"], "nothing is outside of the lake"
