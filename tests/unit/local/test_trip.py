"""Several batches that a worker has at once: each an invocation of its own."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from silversmith.events import ObjectEvent, object_created
from silversmith.local.invocation import Invocation
from silversmith.local.queue import Message
from silversmith.local.trip import Trip, split
from tests.unit.local.settings import function_settings

SETTINGS = function_settings()


def batch(*names: str) -> Invocation:
    def message(name: str) -> Message:
        body = object_created(ObjectEvent("bronze", name, size=1), reason="PutObject")
        return Message(1, name, f"{name}.csv", "v", body, 0.0, 1, 0.0, f"1-{name}")

    return Invocation(1, SETTINGS, {name: message(name) for name in names}, started=5.0)


def test_messages_are_sent_in_order_and_belong_to_their_invocations() -> None:
    first, second = batch("a", "b"), batch("c")
    trip = Trip([first, second])
    assert trip.messages == ["a", "b", "c"]
    assert (trip.of("b"), trip.of("c")) == (first, second)
    request = trip.request(careful=True)
    assert [[record["messageId"] for record in event["Records"]] for event in request["events"]] == [["a", "b"], ["c"]]
    assert request["events"][1] == second.event(), "the very event that Lambda would pass"
    assert {name: value for name, value in request.items() if name != "events"} == {
        "function": "shop_orders", "timeout": 60, "memory": 512, "careful": True,
    }  # fmt: skip


def test_all_begin_when_the_worker_does() -> None:
    trip = Trip([batch("a"), batch("b")])
    assert (trip.started, trip.deadline) == (5.0, 65.0)
    trip.started = 9.0
    assert [found.deadline for found in trip.invocations] == [69.0, 69.0]


@given(st.lists(st.lists(st.booleans(), max_size=4), max_size=5))
def test_a_response_is_split_as_the_records_were(fails: list[list[bool]]) -> None:
    """Each event's response names those of its own records that failed, in their order, and no others."""
    events: list[dict[str, Any]] = [
        {"Records": [{"messageId": f"{place}-{number}"} for number in range(len(some))]}
        for place, some in enumerate(fails)
    ]
    failed = [f"{place}-{number}" for place, some in enumerate(fails) for number, fail in enumerate(some) if fail]
    response = {"batchItemFailures": [{"itemIdentifier": message} for message in reversed(failed)]}
    found = split(response, events)
    assert len(found) == len(events)
    assert [item["itemIdentifier"] for one in found for item in one["batchItemFailures"]] == failed
    for place, one in enumerate(found):
        assert all(item["itemIdentifier"].startswith(f"{place}-") for item in one["batchItemFailures"])
