"""Two stacks over one silver bucket, and a checkout that is not what is deployed: the operations, over moto."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from silversmith.aws.account import Account, open_account
from silversmith.errors import NotOurs
from silversmith.operations.aws import open_stack
from silversmith.operations.reconcile import reconcile
from silversmith.operations.reports import schema_history, status, trace
from silversmith.operations.send import FailureSelection, Range, redrive, replay
from silversmith.patterns import KeyPattern
from silversmith.pipeline import Pipeline
from silversmith.pipeline.deployment import Deployment
from silversmith.reconcile.compare import look
from silversmith.reconcile.handler import build as build_reconciler
from silversmith.schemas.recorded import take_over
from tests.deployed import BAD, SHOP, Clock, Deployed, write

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

KEYS = ("orders/a.csv", "orders/b.csv", "orders/c.csv")

#: What the functions of before were not told.
NOT_OWNED = ("SILVERSMITH_STACK",)


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield open_account(boto3.session.Session("id", "secret", region_name="eu-central-1"))


class Two:
    """Two stages of a shop with bronze buckets of their own; the second writes into the silver of the first."""

    def __init__(self, folder: Path, account: Account) -> None:
        self.commits: list[str] = []
        located = write(folder)
        silver = {"existing_buckets": ("silver",), "silver": "one-dl-silver-layer"}
        self.first = Deployed(located, account, Deployment(prefix="one"))
        self.second = Deployed(located, account, Deployment(prefix="two", **silver))  # type: ignore[arg-type]
        for number, shop in enumerate((self.first, self.second)):
            shop.s3.meta.events.register("before-parameter-build.s3.PutObject", self._put)
            for key in KEYS:
                shop.land(key, f"id,total\n{number},1\n".encode())
        self.commits.clear()

    def _put(self, params: Any, **_: Any) -> None:
        if params["Bucket"] == "one-dl-silver-layer" and params["Key"].startswith("orders/"):
            self.commits.append(params["Key"])

    def rounds(self, number: int, *, without: Collection[str] = ()) -> int:
        """Each reconciles as a Silversmith did that knew of no owners, and works. How often silver was put."""
        self.commits.clear()
        for _ in range(number):
            for shop in (self.first, self.second):
                with shop.opened() as (pipeline, target):
                    looked = look(pipeline.find("orders"), target.lake)
                    events = [item.finding.event(pipeline.bronze) for item in looked if item.finding is not None]
                    if events:
                        target.send("orders", events, reason="reconcile")
                shop.work("orders", without=without)
        return len(self.commits)


@pytest.mark.full
def test_they_overwrote_each_other_for_ever(tmp_path: Path, account: Account) -> None:
    two = Two(tmp_path, account)
    assert two.rounds(5, without=NOT_OWNED) == 2 * 5 * len(KEYS)
    assert two.rounds(5, without=NOT_OWNED) == 2 * 5 * len(KEYS)


def test_now_the_second_is_refused_and_nothing_is_written(tmp_path: Path, account: Account) -> None:
    two = Two(tmp_path, account)
    assert two.rounds(1) == len(KEYS)
    before = {key: two.first.silver(f"orders/{key}.parquet") for key in KEYS}
    assert two.rounds(5) == 0
    assert {key: two.first.silver(f"orders/{key}.parquet") for key in KEYS} == before
    assert two.first.waiting("orders", "QueueDLQ") == 0
    assert two.second.waiting("orders", "QueueDLQ") >= len(KEYS), "what is refused ends in the dead-letter queue"
    with two.second.opened() as (_, target):
        assert list(target.lake.quarantine.list()) == [], "the data is not at fault"


def test_silver_of_before_is_the_first_owners(tmp_path: Path, account: Account) -> None:
    two = Two(tmp_path, account)
    two.first.work("orders", without=NOT_OWNED)
    two.second.work("orders")
    assert two.second.waiting("orders", "QueueDLQ") == 0
    for key in KEYS:
        two.first.land(key, b"id,total\n5,5\n")
    two.first.work("orders")
    assert two.first.waiting("orders", "QueueDLQ") == len(KEYS)


def test_the_operations_say_whose_it_is(tmp_path: Path, account: Account) -> None:
    two = Two(tmp_path, account)
    two.first.work("orders")
    two.second.work("orders")
    every = Range(KeyPattern.parse("*"))
    with two.second.opened() as (pipeline, target):
        for operation in (
            reconcile(pipeline, target),
            reconcile(pipeline, target, changed=True, dry_run=True),
            replay(pipeline, target, every, transform="orders"),
            redrive(pipeline, target, FailureSelection(transform="orders")),
        ):
            with pytest.raises(NotOurs, match=r"_schemas/orders\.json belongs to the pipeline one-shop"):
                list(operation)
        assert two.second.waiting("orders") == 0
        orders, copies = status(pipeline, target, now=0.0).transforms
        assert (orders.owner, copies.owner) == ("one-shop", "")
        orders_too, _ = trace(KEYS[0], pipeline, target).transforms
        assert (orders_too.state, orders_too.owner) == ("foreign", "one-shop")
        assert schema_history(pipeline.find("orders"), target).owner == "one-shop"
    with two.first.opened() as (pipeline, target):
        assert [batch.found for batch in reconcile(pipeline, target, transform="orders")] == [[]]
        assert trace(KEYS[0], pipeline, target).transforms[0].state == "current"


def test_the_scheduled_reconciler_leaves_it_alone_and_does_the_rest(tmp_path: Path, account: Account) -> None:
    two = Two(tmp_path, account)
    two.first.work("orders")
    two.second.work("orders")
    shop = two.second
    environment = {**shop.environment("orders"), "AWS_LAMBDA_FUNCTION_NAME": "reconciler"}
    reconciler = build_reconciler(environment, s3=shop.s3, sqs=shop.sqs, functions=None)
    while shop.receive("late_copies"):
        pass
    queues = {name: shop.url(name) for name in ("orders", "late_copies")}
    assert reconciler({"queues": queues, "settled_seconds": 0}, Clock()) == {"done": True}
    assert (shop.waiting("orders"), shop.waiting("late_copies")) == (0, len(KEYS))


def test_one_object_of_another_pipeline_is_reported_and_not_sent(tmp_path: Path, account: Account) -> None:
    two = Two(tmp_path, account)
    two.first.work("orders")
    body = json.dumps({"transform": "orders", "owner": "two-shop", "schemas": [], "history": []})
    two.first.s3.put_object(Bucket="one-dl-silver-layer", Key="_schemas/orders.json", Body=body.encode())
    with two.second.opened() as (pipeline, target):
        (batch,) = reconcile(pipeline, target, transform="orders")
    assert (len(batch.foreign), batch.found, batch.orphaned) == (len(KEYS), [], [])


def test_taken_over(tmp_path: Path, account: Account) -> None:
    two = Two(tmp_path, account)
    two.first.work("orders")
    with two.second.opened() as (pipeline, target):
        assert take_over(target.lake.silver, target.lake.quarantine, "orders", target.owner) == ("one-shop",)
        (batch,) = reconcile(pipeline, target, transform="orders", dry_run=True)
        assert len(batch.found) == len(KEYS)
    two.second.work("orders")
    with two.second.opened() as (pipeline, target):
        assert [batch.found for batch in reconcile(pipeline, target, transform="orders")] == [[]]
    with two.first.opened() as (pipeline, target), pytest.raises(NotOurs):
        list(reconcile(pipeline, target, transform="orders"))


EDITED = SHOP.replace("    return rows\n", "    return rows.reverse()\n", 1)
assert EDITED != SHOP


def changed(shop: Deployed, pipeline: Pipeline, lines: list[str]) -> int:
    """How many keys ``reconcile --changed`` and ``replay --changed`` send of the first transform."""
    every = Range(KeyPattern.parse("*"))
    with open_stack(shop.account, shop.name, pipeline, tell=lines.append, wait=0) as (deployed, target):
        result = sum(len(batch.found) for batch in reconcile(deployed, target, transform="orders", changed=True))
        return result + sum(
            len(each.keys) for each in replay(deployed, target, every, transform="orders", changed=True)
        )


@pytest.fixture
def shop(tmp_path: Path, account: Account) -> Deployed:
    """With silver of three files, and one in quarantine."""
    shop = Deployed(write(tmp_path / "project"), account)
    for key in KEYS:
        shop.land(key)
    shop.land("orders/bad.csv", BAD)
    shop.work("orders")
    return shop


def test_an_edit_that_is_not_deployed_resends_nothing(shop: Deployed, tmp_path: Path) -> None:
    messages: list[str] = []
    edited = write(tmp_path / "edited", EDITED).pipeline
    assert edited.find("orders").fingerprint != shop.pipeline.find("orders").fingerprint
    assert [changed(shop, edited, messages) for _ in range(2)] == [0, 0]
    text = (
        "orders: the checkout differs from what is deployed (code), and what is deployed counts: `silversmith diff`, "
        "`silversmith deploy`"
    )
    assert messages == [text] * 2
    with open_stack(shop.account, shop.name, edited, wait=0) as (deployed, target):
        assert trace(KEYS[0], deployed, target).transforms[0].state == "current"
        assert [schema.current for schema in schema_history(deployed.find("orders"), target).schemas] == [True]


def test_a_stack_that_does_not_say_what_is_deployed(shop: Deployed, tmp_path: Path) -> None:
    """As every stack of before: the checkout's code counts, and what it does not match was sent again each time."""
    forget(shop)
    messages: list[str] = []
    assert changed(shop, shop.pipeline, messages) == 0
    assert all("the stack does not say which code is deployed" in line for line in messages)
    assert changed(shop, write(tmp_path / "edited", EDITED).pipeline, messages) == 2 * len(KEYS) + 1
    shop.work("orders")
    assert changed(shop, write(tmp_path / "again", EDITED).pipeline, messages) == 2 * len(KEYS) + 1, "in vain"


def forget(shop: Deployed) -> None:
    """Without the outputs that say it."""
    cloudformation = shop.account.client("cloudformation")
    template = cloudformation.get_template(StackName=shop.name)["TemplateBody"]
    template = json.loads(template) if isinstance(template, str) else template
    outputs = {name: each for name, each in template["Outputs"].items() if not name.endswith("Code")}
    parameters = [{"ParameterKey": name, "ParameterValue": "x"} for name in template["Parameters"]]
    cloudformation.update_stack(
        StackName=shop.name,
        TemplateBody=json.dumps({**template, "Outputs": outputs}),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=parameters,
    )


def test_a_pattern_that_is_not_deployed_resends_nothing(shop: Deployed, tmp_path: Path) -> None:
    """The functions would drop what they do not match, and the next reconciliation would send it again."""
    messages: list[str] = []
    shop.land("other/d.csv", tell=False)
    wider = write(tmp_path / "wider", SHOP.replace('"orders/*.csv"', '"*/*.csv"')).pipeline
    with open_stack(shop.account, shop.name, wider, tell=messages.append, wait=0) as (deployed, target):
        assert [batch.found for batch in reconcile(deployed, target, transform="orders")] == [[]]
    assert "differs from what is deployed (pattern)" in messages[0]


def test_the_function_says_when_its_code_is_not_the_templates(shop: Deployed, caplog: pytest.LogCaptureFixture) -> None:
    from silversmith.function.handler import build

    environment = shop.environment("orders")
    build(environment, s3=shop.s3, sqs=lambda: shop.sqs)
    assert "fingerprint" not in caplog.text
    build({**environment, "SILVERSMITH_FINGERPRINT": "0" * 32}, s3=shop.s3, sqs=lambda: shop.sqs)
    assert f"has the fingerprint {shop.pipeline.find('orders').fingerprint}, and the template says 000" in caplog.text
