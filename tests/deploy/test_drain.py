"""A transform that is removed: its subscription goes, its queue gets empty, then the rest goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from silversmith import Pipeline
from silversmith.aws.account import Account, DeployError
from silversmith.aws.stack import ChangeSet, Diff, Effect, StackChange
from silversmith.aws.transforms import EMPTY_FOR, LONGEST, drain, leaving, silenced
from silversmith.template import compile as compile_template


def shop(*names: str) -> Pipeline:
    pipeline = Pipeline("shop")
    for name in names:
        pipeline.sql(f"{name}/*.csv", "SELECT * FROM rows", name=name)
    return pipeline


OLD, NEW = compile_template(shop("orders", "returns")), compile_template(shop("orders"))
GONE = tuple(
    StackChange(Effect.DELETE, logical, resource["Type"])
    for logical, resource in OLD["Resources"].items()
    if logical not in NEW["Resources"]
)
QUEUE = frozenset({"ReturnsQueue"})


def test_the_queue_of_a_removed_transform_is_drained_and_its_dead_letter_queues_are_lost() -> None:
    assert leaving(Diff(GONE), OLD) == QUEUE
    diff = Diff(GONE).draining(QUEUE)
    losses = {change.logical for change in diff.losses}
    assert losses == {"ReturnsQueueDLQ", "ReturnsSubscriptionDLQ", "ReturnsLogGroup"}
    (line,) = [line for line in diff.lines() if line.startswith("- delete: ReturnsQueue ")]
    assert line.endswith("← its messages are processed first")


def test_a_queue_that_is_replaced_or_keeps_its_mapping_is_not_drained() -> None:
    replaced = StackChange(Effect.REPLACE, "ReturnsQueue", "AWS::SQS::Queue")
    assert leaving(Diff((replaced,)), OLD) == frozenset()
    alone = StackChange(Effect.DELETE, "ReturnsQueue", "AWS::SQS::Queue")
    assert leaving(Diff((alone,)), OLD) == frozenset()
    assert leaving(Diff(GONE), {}) == frozenset()


def test_a_silenced_stack_lacks_the_subscription_and_nothing_else() -> None:
    result = silenced(OLD, QUEUE)
    assert set(OLD["Resources"]) - set(result["Resources"]) == {"ReturnsSubscription"}
    assert result["Resources"]["Rule"]["DependsOn"] == [
        name for name in OLD["Resources"]["Rule"]["DependsOn"] if name != "ReturnsSubscription"
    ]
    assert {name: each for name, each in result.items() if name != "Resources"} == {
        name: each for name, each in OLD.items() if name != "Resources"
    }
    assert silenced(result, QUEUE) == result


@dataclass
class World:
    """A stack whose queue has so many messages at each look, then the last number for ever."""

    messages: list[int]
    waited: float = 0.0
    done: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def template(self) -> Mapping[str, Any]:
        return OLD

    def resources(self) -> list[dict[str, str]]:
        return [{"LogicalResourceId": "ReturnsQueue", "PhysicalResourceId": "https://sqs/1/shop_returns"}]

    def execute(self, change_set: ChangeSet) -> None:
        self.done.append(f"execute {change_set.arn}")

    def get_queue_attributes(self, **asked: Any) -> dict[str, Any]:
        assert asked["QueueUrl"] == "https://sqs/1/shop_returns"
        self.done.append("look")
        number = self.messages.pop(0) if len(self.messages) > 1 else self.messages[0]
        return {"Attributes": {"ApproximateNumberOfMessagesNotVisible": str(number)}}

    def propose(self, template: Mapping[str, Any]) -> ChangeSet | None:
        return ChangeSet("silence", "id", Diff(())) if "ReturnsSubscription" not in template["Resources"] else None

    def pause(self, seconds: float) -> None:
        self.waited += seconds

    def drain(self) -> None:
        account = Account("1" * 12, "eu-central-1", lambda _: self)
        drain(self, account, QUEUE, self.propose, tell=self.told.append, pause=self.pause)  # type: ignore[arg-type]


def test_the_queue_must_be_empty_for_a_while() -> None:
    """What SQS says may be a minute old: one look is none."""
    world = World([3, 0, 2, 0])
    world.drain()
    assert world.done[0] == "execute silence"
    assert world.told == [f"waiting for the queues of what goes: {each} left" for each in (
        "3 messages", "0 messages", "2 messages", "0 messages"
    )]  # fmt: skip
    assert world.waited == pytest.approx(3 * 10 + EMPTY_FOR)


def test_a_queue_that_does_not_get_empty_is_left_as_it_is() -> None:
    world = World([7])
    with pytest.raises(DeployError, match=r"after 60 minutes messages wait in shop_returns \(7\): .*--no-drain"):
        world.drain()
    assert LONGEST <= world.waited <= LONGEST + 10
