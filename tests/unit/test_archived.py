"""Objects that S3 has and does not hand out: in an archive, or under a key of KMS that the function may not use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from silversmith import Pipeline
from silversmith.errors import AccessDenied, Archived
from silversmith.events import unwrap
from silversmith.function.handler import Handler
from silversmith.function.outcome import Report
from silversmith.keypatterns import KeyPattern
from silversmith.lineage import Decision, silver_key
from silversmith.operations.reconcile import reconcile
from silversmith.operations.send import Range, replay
from silversmith.operations.target import Target
from silversmith.patterns import compile_pattern
from silversmith.reconcile.compare import Finding, look
from silversmith.schemas import Owner
from silversmith.stores import Lake
from silversmith.stores.s3 import S3Store
from silversmith.template import compile as compile_template
from silversmith.testing import events
from tests.stand_in.buckets import Bucket
from tests.stand_in.server import S3Server

#: Tiers of archives, and the words that tell a person where an object is.
TIERS = {
    "GLACIER": "Glacier Flexible Retrieval",
    "DEEP_ARCHIVE": "Glacier Deep Archive",
    "ARCHIVE_ACCESS": "Archive Access tier of S3 Intelligent-Tiering",
    "DEEP_ARCHIVE_ACCESS": "Deep Archive Access tier of S3 Intelligent-Tiering",
}
EACH_TIER = pytest.mark.parametrize("tier", TIERS)
KMS_KEY = "arn:aws:kms:eu-central-1:999999999999:key/01234567"
KEY = "orders/may.csv"


def orders() -> Pipeline:
    pipeline = Pipeline("shop")
    pipeline.transform("orders/*.csv", name="orders")(lambda rows: rows)
    return pipeline


@dataclass
class World:
    """The transform over buckets on a stand-in for S3."""

    bronze: Bucket
    lake: Lake
    scratch: Path
    pipeline: Pipeline

    def handle(self, *keys: str, body: bytes | None = None) -> list[Report]:
        """The outcome of an event of each key."""
        reports: list[Report] = []
        bodies = [body] if body is not None else [events.eventbridge("bronze", key, size=8) for key in keys]
        handler = Handler(
            self.pipeline.find("orders"), bucket="bronze", lake=self.lake, scratch=self.scratch, ended=reports.append
        )
        assert handler(events.sqs(*bodies), events.LambdaContext()) == {"batchItemFailures": []}
        return reports

    def target(self, sent: list[str]) -> Target:
        """A target as operations need it; ``sent`` gets the keys of events."""
        return cast(
            "Target",
            SimpleNamespace(
                lake=self.lake,
                owner=Owner("shop", "silver", "quarantine"),
                workers=2,
                rows=lambda: None,
                waiting=lambda _transform, _etags: set(),
                send=lambda _transform, chosen, reason: sent.extend(event.key for event in chosen),
            ),
        )

    def findings(self) -> list[Finding]:
        seen = look(self.pipeline.find("orders"), self.lake, workers=2)
        return [key.finding for key in seen if key.finding is not None]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with S3Server() as server:
        buckets = {name: server.bucket(name) for name in ("bronze", "silver", "quarantine")}
        client = server.client()
        lake = Lake(*(S3Store(name, client=client, scratch=tmp_path) for name in buckets))
        yield World(buckets["bronze"], lake, tmp_path, orders())


@EACH_TIER
def test_an_archived_object_is_acknowledged_and_its_tier_named(world: World, tier: str) -> None:
    world.bronze.put(KEY, b"x\n1\n")
    world.bronze.archived[KEY] = tier
    (report,) = world.handle(KEY)
    (outcome,) = report.outcomes
    assert (report.error, outcome.verdict) == (None, "archived")
    assert outcome.error is not None
    assert TIERS[tier] in outcome.error["message"]
    assert list(world.lake.silver.list()) == list(world.lake.quarantine.list()) == []


@EACH_TIER
def test_reconcile_counts_it_and_sends_nothing(world: World, tier: str) -> None:
    for key in (KEY, "orders/june.csv"):
        world.bronze.put(key, b"x\n1\n")
    world.bronze.archived[KEY] = tier
    sent: list[str] = []
    (batch,) = reconcile(world.pipeline, world.target(sent))
    assert [(finding.key, finding.kind, finding.archived) for finding in batch.archived] == [
        (KEY, Decision.ARCHIVED, tier)
    ]
    assert [finding.key for finding in batch.found] == sent == ["orders/june.csv"]


@EACH_TIER
def test_replay_counts_it_and_sends_nothing(world: World, tier: str) -> None:
    for key in (KEY, "orders/june.csv"):
        world.bronze.put(key, b"x\n1\n")
    world.bronze.archived[KEY] = tier
    sent: list[str] = []
    (batch,) = replay(world.pipeline, world.target(sent), Range(KeyPattern.parse("*")))
    assert (batch.archived, batch.keys, sent) == ({KEY: tier}, ["orders/june.csv"], ["orders/june.csv"])


def test_an_object_of_a_class_that_may_be_archived_and_is_not_is_sent(world: World) -> None:
    """The listing says INTELLIGENT_TIERING, whatever the tier."""
    world.bronze.put(KEY, b"x\n1\n")
    world.bronze.storage[KEY] = "INTELLIGENT_TIERING"
    assert [finding.kind for finding in world.findings()] == [Decision.MISSING]


def test_bronze_whose_silver_exists_may_be_archived(world: World) -> None:
    world.bronze.put(KEY, b"x\n1\n")
    world.handle(KEY)
    world.bronze.archived[KEY] = "DEEP_ARCHIVE"
    assert world.findings() == []
    assert world.handle(KEY)[0].outcomes[0].verdict == "duplicate"


@pytest.mark.parametrize("tier", ["GLACIER", "DEEP_ARCHIVE"])
def test_a_restored_copy_is_read(world: World, tier: str) -> None:
    world.bronze.put(KEY, b"x\n1\n")
    world.bronze.storage[KEY] = tier
    world.bronze.restored.add(KEY)
    assert [finding.kind for finding in world.findings()] == [Decision.MISSING]
    assert world.handle(KEY)[0].outcomes[0].verdict == "committed"
    assert world.findings() == []


def test_the_event_that_it_is_restored_has_it_read(world: World) -> None:
    world.bronze.put(KEY, b"x\n1\n")
    world.bronze.archived[KEY] = "GLACIER"
    world.handle(KEY)
    del world.bronze.archived[KEY]
    restored = events.eventbridge("bronze", KEY, size=4, restored=True)
    assert json.loads(restored)["detail-type"] == "Object Restore Completed"
    (rule,) = (
        resource["Properties"]
        for resource in compile_template(world.pipeline)["Resources"].values()
        if resource["Type"] == "AWS::Events::Rule"
    )
    pattern = rule["EventPattern"]
    pattern["detail"]["bucket"]["name"] = ["bronze"]
    assert compile_pattern(pattern).matches(json.loads(restored))
    (report,) = world.handle(body=restored)
    assert report.outcomes[0].verdict == "committed"
    assert world.lake.silver.head(silver_key("orders", KEY)) is not None


def test_a_restore_in_s3s_own_notification_is_no_deletion() -> None:
    notification = json.loads(events.s3("bronze", KEY))
    notification["Records"][0]["eventName"] = "ObjectRestore:Completed"
    (event,) = unwrap(json.dumps(notification))
    assert (event.key, event.deleted) == (KEY, False)


def test_an_archived_lookup_is_reported_with_the_way_out(world: World) -> None:
    world.bronze.put("rates.csv", b"x\n1\n")
    world.bronze.archived["rates.csv"] = "GLACIER"
    with pytest.raises(Archived, match=r"s3://bronze/rates\.csv is archived in .*Flexible.*restore-object"):
        world.lake.bronze.read("rates.csv")


def test_a_denial_by_kms_names_the_key_and_both_statements(world: World) -> None:
    world.bronze.put(KEY, b"x\n1\n")
    world.bronze.forbidden[KEY] = KMS_KEY
    with pytest.raises(AccessDenied) as denied:
        world.lake.bronze.read(KEY)
    messages = str(denied.value)
    assert "KMS" in messages
    assert f'Deployment(existing_keys=["{KMS_KEY}"])' in messages
    statement = json.loads(messages[messages.index("{") : messages.rindex("}") + 1])
    assert statement == {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::111122223333:role/shop-orders"},
        "Action": "kms:Decrypt",
        "Resource": "*",
    }
    assert "is not authorized to perform" in messages


def test_a_denial_by_kms_is_no_fault_of_the_file(world: World) -> None:
    world.bronze.put(KEY, b"x\n1\n")
    world.bronze.put("orders/good.csv", b"x\n1\n")
    world.bronze.forbidden[KEY] = KMS_KEY
    reports: list[Report] = []
    handler = Handler(
        world.pipeline.find("orders"), bucket="bronze", lake=world.lake, scratch=world.scratch, ended=reports.append
    )
    bodies = [events.eventbridge("bronze", key) for key in (KEY, "orders/good.csv")]
    response = handler(events.sqs(*bodies), events.LambdaContext())
    assert len(response["batchItemFailures"]) == 1
    (failed,) = (report for report in reports if report.error is not None)
    assert failed.system
    assert failed.error is not None
    assert KMS_KEY in failed.error["message"]
    assert list(world.lake.quarantine.list()) == []


def test_a_denial_by_s3_names_no_key(world: World) -> None:
    world.bronze.put(KEY, b"x\n1\n")
    world.bronze.forbidden[KEY] = ""
    with pytest.raises(AccessDenied) as denied:
        world.lake.bronze.read(KEY)
    assert "KMS" not in str(denied.value).partition(": User")[0]
