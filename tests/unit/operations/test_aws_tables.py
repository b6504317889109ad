"""The tables of a deployed pipeline: their queues by SQS, and gold by S3."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from silversmith.aws.account import Account, open_account
from silversmith.events import ObjectEvent, object_created, unwrap
from silversmith.operations import WrongCall, doctor
from silversmith.operations.aws import open_stack
from silversmith.operations.failures import Query, failures
from silversmith.operations.reconcile import reconcile_tables
from silversmith.operations.reports import status
from silversmith.operations.send import FailureSelection, redrive
from silversmith.operations.tables import reports
from silversmith.operations.target import DeadKind
from silversmith.reconcile.hops import check
from silversmith.tables.commit import bring
from tests.deployed import SHOP, Deployed, write

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

TABLE = 'pipeline.table("orders", of=orders)\n'
KEY, SILVER_KEY = "orders/a.csv", "orders/orders/a.csv.parquet"

#: A process of its own: this one cannot answer while it waits for delta-rs.
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


def session() -> boto3.session.Session:
    return boto3.session.Session("id", "secret", region_name="eu-central-1")


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield open_account(session())


@pytest.fixture
def shop(tmp_path: Path, account: Account) -> Deployed:
    return Deployed(write(tmp_path / "project", SHOP + TABLE), account)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Deployed]:
    """The same stack over a server, which delta-rs can reach, too."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        account = open_account(session(), endpoint_url=f"http://127.0.0.1:{int(server.stdout.readline())}")
        yield Deployed(write(tmp_path / "project", SHOP + TABLE), account)
        server.terminate()


def silver_event(key: str = SILVER_KEY) -> str:
    return object_created(ObjectEvent("dl-silver-layer", key), reason="PutObject").decode()


def keys_in(shop: Deployed, kind: str = "QueueOfTables") -> list[str]:
    return sorted(event.key for message in shop.receive("", kind) for event in unwrap(message["Body"]))


DEAD = {
    DeadKind.QUEUE: ("DLQOfTables", "shop_Tables"),
    DeadKind.SUBSCRIPTION: ("SubscriptionDLQOfTables", "shop_SilverTopic"),
    DeadKind.RULE: ("SilverRuleDLQ", "a rule"),
}


@pytest.mark.parametrize("kind", DEAD)
def test_dead_messages_of_tables_are_reported_and_tried_again(shop: Deployed, kind: DeadKind) -> None:
    """A rule's message is published to the topic of silver, to which the tables' queue is subscribed."""
    output, source = DEAD[kind]
    shop.sqs.send_message(QueueUrl=shop.url("", output), MessageBody=silver_event())
    with shop.opened() as (pipeline, target):
        (dead,) = failures(pipeline, target, Query(), now=0).dead
        assert (dead.kind, dead.tables, dead.transform, dead.key, dead.source) == (kind, True, "orders", KEY, source)
        (batch,) = redrive(pipeline, target, FailureSelection())
    assert (batch.sent, keys_in(shop), shop.waiting("", output)) == (1, [SILVER_KEY], 0)
    assert [shop.waiting(transform.name) for transform in shop.pipeline.transforms] == [0, 0]


def test_the_queues_of_tables_are_measured(shop: Deployed) -> None:
    for output, number in (("QueueOfTables", 3), ("DLQOfTables", 2), ("SubscriptionDLQOfTables", 1)):
        for _ in range(number):
            shop.sqs.send_message(QueueUrl=shop.url("", output), MessageBody=silver_event())
    with shop.opened() as (_, target):
        queues = target.tables_queue()
        rules = {depth.name: depth.waiting for depth in target.rules_dead()}
    assert queues is not None
    assert (queues.queue.waiting, [depth.waiting for depth in queues.dead_letters]) == (3, [2, 1])
    assert rules == {"shop_RuleDLQ": 0, "shop_SilverRuleDLQ": 0}


def test_many_keys_are_sent_to_the_tables_in_batches(shop: Deployed) -> None:
    keys = [f"orders/orders/{number:02}.csv.parquet" for number in range(23)]
    with shop.opened() as (_, target):
        target.send_to_tables(keys, reason="reconcile")
    assert sorted(key for _ in range(3) for key in keys_in(shop)) == keys


@pytest.mark.parametrize("kind", DEAD)
def test_keys_of_dead_messages_are_not_sent_to_the_tables_again(shop: Deployed, kind: DeadKind) -> None:
    output, _ = DEAD[kind]
    shop.sqs.send_message(QueueUrl=shop.url("", output), MessageBody=silver_event())
    with shop.opened() as (_, target):
        assert target.send_to_tables([SILVER_KEY, "orders/orders/b.csv.parquet"], reason="reconcile") == 1
    assert keys_in(shop) == ["orders/orders/b.csv.parquet"]
    assert shop.waiting("", output) == 1


def test_each_topic_s_hops_are_checked(shop: Deployed) -> None:
    """Moto does not give back that EventBridge is on."""

    def problems() -> list[str]:
        actual = [problem.message for problem in check(doctor.deployed_hops(shop.account, "shop"), shop.account.client)]
        return [text for text in actual if "EventBridge is switched off" not in text]

    assert problems() == []
    shop.account.client("events").remove_targets(Rule="shop_SilverRule", Ids=["SilverTopic"])
    assert problems() == ["the rule shop_SilverRule does not send to the topic shop_SilverTopic"]


def test_tables_that_are_not_deployed_yet(tmp_path: Path, account: Account) -> None:
    deployed = Deployed(write(tmp_path / "old"), account)
    newer = write(tmp_path / "new", SHOP + TABLE).pipeline
    with open_stack(deployed.account, "shop", newer, wait=0) as (_, target):
        assert target.tables_queue() is None
        with pytest.raises(WrongCall, match="the stack shop in eu-central-1 has no tables: run `silversmith deploy`"):
            target.send_to_tables([SILVER_KEY], reason="reconcile")


def test_gold_is_compared_with_silver_and_asked_by_the_account_s_credentials(served: Deployed) -> None:
    served.land(KEY)
    served.work("orders")
    with served.opened() as (pipeline, target):
        (table,) = reports(pipeline, target)
        assert (table.state, table.lacking, table.rows) == ("behind", 1, 0)
        (batch,) = reconcile_tables(pipeline, target)
        assert (batch.table, batch.keys, keys_in(served)) == ("orders", [SILVER_KEY], [SILVER_KEY])
        bring(pipeline.tables.tables[0], [SILVER_KEY], silver=target.lake.silver, gold=target.gold)
        (table,) = reports(pipeline, target)
        assert (table.state, table.lacking, table.rows) == ("current", 0, 2)
        assert list(reconcile_tables(pipeline, target)) == []
        report = status(pipeline, target, now=0)
        assert [(each.name, each.rows) for each in report.tables] == [("orders", 2)]
        (finding,) = doctor.tables_check(pipeline, target)
        assert (finding.state, finding.found) == (doctor.State.OK, "orders: version 1")
