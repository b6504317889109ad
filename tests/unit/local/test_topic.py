"""The topic room: policies, filter policies, and SNS's envelope."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from silversmith.events import unwrap
from silversmith.local.iam import Policy
from silversmith.local.journal import Journal
from silversmith.local.services import MessageRefused, ServiceMessage, write
from silversmith.local.services.bus import LARGEST_MESSAGE, TopicService
from silversmith.local.stack import SubscriptionResource, Topic
from silversmith.patterns import Dialect, compile_pattern

TOPIC = "arn:aws:sns:eu-central-1:000000000000:shop_Topic"
NOW = 1_767_355_200.25


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def subscription(
    name: str, policy: Mapping[str, Any] | None = None, *, raw: bool = True, scope: str = "MessageBody"
) -> SubscriptionResource:
    matcher = None if policy is None else compile_pattern(policy, dialect=Dialect(scope))
    return SubscriptionResource(f"{TOPIC}:{name}", TOPIC, f"arn:queue:{name}", raw, matcher)


def topic(
    journal: Journal, *subscriptions: SubscriptionResource, refusal: Callable[[str], str | None] = lambda _: None
) -> TopicService:
    return TopicService(
        journal, Topic("shop_Topic", TOPIC, Policy.parse("")), subscriptions=subscriptions, refusal=refusal
    )


def message(key: str = "a/b.csv", body: bytes | None = None) -> ServiceMessage:
    event = {"source": "aws.s3", "detail": {"bucket": {"name": "b"}, "object": {"key": key}}}
    return ServiceMessage("arn:rule", TOPIC, "arn:rule", key, "v1", orjson.dumps(event) if body is None else body, 5.0)


def publish(journal: Journal, room: TopicService, *posts: ServiceMessage) -> list[MessageRefused]:
    with journal.transaction():
        accepted = room.accept(posts, NOW)
        write(journal, messages=accepted.onward)
    return list(accepted.refused)


def delivered(journal: Journal) -> dict[str, bytes]:
    rows = journal.rows("due", now=1e12, most=1000)
    assert all(row[0] == TOPIC and row[2].startswith(TOPIC + ":") for row in rows)
    return {row[1].removeprefix("arn:queue:"): row[5] for row in rows}


def test_each_subscription_gets_what_its_filter_policy_lets_through(journal: Journal) -> None:
    keys = {"detail": {"object": {"key": [{"prefix": "a/"}]}}}
    others = {"detail": {"object": {"key": [{"prefix": "b/"}]}}}
    room = topic(journal, subscription("all"), subscription("mine", keys), subscription("others", others))
    assert publish(journal, room, message()) == []
    assert delivered(journal) == {"all": message().body, "mine": message().body}
    (hop,) = journal.rows("hops", key="a/b.csv")
    assert (hop[4:7], orjson.loads(hop[7])) == (
        ("topic", "shop_Topic", "published"),
        {"subscriptions": ["all", "mine"]},
    )


def test_a_policy_over_attributes_lets_nothing_through_that_eventbridge_publishes(journal: Journal) -> None:
    """EventBridge sets no message attributes; and the body is none."""
    room = topic(
        journal,
        subscription("equal", {"source": ["aws.s3"]}, scope="MessageAttributes"),
        subscription("absent", {"source": [{"exists": False}]}, scope="MessageAttributes"),
    )
    publish(journal, room, message())
    assert list(delivered(journal)) == ["absent"]


@pytest.mark.parametrize("body", [b"no JSON", b"[1]", b"5", b"null", b""])
def test_a_body_that_is_no_object_passes_no_policy_over_it(journal: Journal, body: bytes) -> None:
    room = topic(journal, subscription("all"), subscription("some", {"a": [{"exists": False}]}))
    assert publish(journal, room, message(body=body)) == []
    assert delivered(journal) == {"all": body}


def test_without_raw_delivery_the_message_is_in_an_envelope(journal: Journal) -> None:
    room = topic(journal, subscription("one", raw=False), subscription("two", raw=False), subscription("raw"))
    publish(journal, room, message("ü.csv"))
    result = delivered(journal)
    envelope, second = orjson.loads(result["one"]), orjson.loads(result["two"])
    assert envelope["MessageId"] == second["MessageId"], "one publish has one id, whoever gets it"
    assert envelope.pop("UnsubscribeURL").endswith(f"&SubscriptionArn={TOPIC}:one")
    assert envelope.pop("SigningCertURL").startswith("https://sns.eu-central-1.amazonaws.com/")
    assert envelope.pop("Signature")
    assert len(envelope.pop("MessageId")) == 36
    assert envelope == {
        "Type": "Notification",
        "TopicArn": TOPIC,
        "Message": message("ü.csv").body.decode(),
        "Timestamp": "2026-01-02T12:00:00.250Z",
        "SignatureVersion": "1",
    }
    assert unwrap(result["one"]) == unwrap(result["raw"])


def test_a_timestamp_has_milliseconds_also_on_the_full_second(journal: Journal) -> None:
    room = topic(journal, subscription("one", raw=False))
    with journal.transaction():
        write(journal, messages=room.accept([message()], 1_767_355_200).onward)
    assert orjson.loads(delivered(journal)["one"])["Timestamp"] == "2026-01-02T12:00:00.000Z"


def test_a_sender_without_the_right_to_publish_is_refused(journal: Journal) -> None:
    room = topic(journal, subscription("all"), refusal=lambda source: f"not for {source}")
    (refused,) = publish(journal, room, message())
    assert refused.reason == "not for arn:rule"
    assert delivered(journal) == {}
    assert journal.counter("topic.published") == 0


def test_a_message_may_have_256_kib(journal: Journal) -> None:
    room = topic(journal, subscription("all"))
    fits, too_large = message(body=b"x" * LARGEST_MESSAGE), message(body=b"x" * (LARGEST_MESSAGE + 1))
    (refused,) = publish(journal, room, fits, too_large)
    assert refused.message is too_large
    assert "262145 bytes" in refused.reason
    assert len(delivered(journal)["all"]) == LARGEST_MESSAGE
