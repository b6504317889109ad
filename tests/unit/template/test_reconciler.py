"""The scheduled reconciler: its input, and that its rights fit into policies, however many transforms."""

from __future__ import annotations

import json
from typing import Any

import pytest

from silversmith import Deployment, Pipeline
from silversmith.lineage import error_key, silver_key
from silversmith.local.iam import Policy
from silversmith.local.stack import StackResources, Template, read
from silversmith.reconcile.hops import Hops, Subscription
from silversmith.template import compile as compile_template

OURS = {"aws:ResourceAccount": "000000000000"}

Json = dict[str, Any]

#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
IN_ROLE, MANAGED = 10_240, 6_144
LONG = "x" * 300


def wide(count: int) -> Pipeline:
    """As many transforms, with names and patterns as long as can be."""
    pipeline = Pipeline("a-pipeline-with-a-long-name")
    for number in range(count):
        name = f"t{number:02}_" + "n" * 32
        pipeline.sql(f"{number:02}/{LONG}*.csv", "SELECT * FROM rows", name=name)
    return pipeline


def resolved(compiled: Json, value: Any) -> Any:
    """In a partition, region and account whose names are long."""
    text = json.dumps(Template(compiled, account="123456789012", region="ap-southeast-1").value(value))
    return json.loads(text.replace("arn:aws:", "arn:aws-us-gov:"))


def sizes(compiled: Json) -> tuple[int, list[int]]:
    """The sizes of the role's own policies and of each attached one, without white space."""

    def size(document: Json) -> int:
        return len(json.dumps(resolved(compiled, document), separators=(",", ":")))

    resources = compiled["Resources"].values()
    role = compiled["Resources"]["RoleOfReconciler"]["Properties"]
    managed = [each["Properties"] for each in resources if each["Type"] == "AWS::IAM::ManagedPolicy"]
    own = sum(size(each["PolicyDocument"]) for each in role["Policies"])
    return own, [size(each["PolicyDocument"]) for each in managed]


@pytest.mark.parametrize("count", [1, 10, 29])
@pytest.mark.parametrize("deployment", [Deployment(), Deployment(customer_key=True)])
def test_its_rights_fit_into_policies(count: int, deployment: Deployment) -> None:
    own, managed = sizes(compile_template(wide(count), deployment=deployment))
    assert own <= IN_ROLE
    assert all(size <= MANAGED for size in managed)
    assert len(managed) <= 10


def test_few_transforms_need_no_policy_of_their_own() -> None:
    assert sizes(compile_template(wide(5)))[1] == []


def test_it_may_look_at_every_transform_and_send_to_each() -> None:
    pipeline = wide(29)
    stack = read(compile_template(pipeline))
    policy = reconciler(stack)
    queues = {queue.name: queue.arn for queue in stack.queues}
    for transform in pipeline.transforms:
        key = transform.pattern.literal_prefix + "1.csv"
        assert policy.allows("s3:GetObject", context=OURS, resource=f"arn:aws:s3:::dl-bronze-layer/{key}")
        assert policy.allows(
            "s3:GetObject", context=OURS, resource=f"arn:aws:s3:::dl-silver-layer/{silver_key(transform.name, key)}"
        )
        assert policy.allows(
            "s3:GetObject", context=OURS, resource=f"arn:aws:s3:::dl-quarantine-layer/{error_key(transform.name, key)}"
        )
        assert policy.allows("sqs:SendMessage", queues[f"{pipeline.name}_{transform.name}"])
    assert not policy.allows("s3:GetObject", context=OURS, resource="arn:aws:s3:::dl-bronze-layer/29/x.csv")
    assert not policy.allows("s3:GetObject", context=OURS, resource="arn:aws:s3:::dl-silver-layer/other/1.parquet")


def reconciler(stack: StackResources) -> Policy:
    (actual,) = (function.policy for function in stack.functions if "SILVERSMITH_TRANSFORM" not in function.environment)
    return actual


def test_keys_that_mean_something_in_policies_and_templates_are_meant_as_they_are() -> None:
    pipeline = Pipeline("p")
    pipeline.sql(r"late/\*$1\?${AWS::Region}/*.csv", "SELECT * FROM rows", name="late")
    policy = reconciler(read(compile_template(pipeline)))
    assert policy.allows(
        "s3:GetObject", context=OURS, resource="arn:aws:s3:::dl-bronze-layer/late/*$1?${AWS::Region}/a.csv"
    )
    assert not policy.allows(
        "s3:GetObject", context=OURS, resource="arn:aws:s3:::dl-bronze-layer/late/x$1y${AWS::Region}/a.csv"
    )


def test_the_schedule_names_each_transforms_queue() -> None:
    compiled = compile_template(wide(2))
    target = compiled["Resources"]["Schedule"]["Properties"]["Target"]
    document = json.loads(Template(compiled, account="123456789012", region="eu-central-1").value(target["Input"]))
    start = "https://sqs.eu-central-1.amazonaws.com/123456789012/"
    queues = {each.name: f"{start}a-pipeline-with-a-long-name_{each.name}" for each in wide(2).transforms}
    (hops,) = document.pop("hops")
    assert document == {
        "queues": queues,
        "dead": {name: f"{url}_DLQ" for name, url in queues.items()},
        "changed": False,
        "round": "<aws.scheduler.schedule-arn> <aws.scheduler.scheduled-time>",
    }
    stack = read(compiled, account="123456789012", region="eu-central-1")
    assert Hops.of(hops) == Hops(
        "dl-bronze-layer",
        stack.topics[0].arn,
        tuple(rule.name for rule in stack.rules),
        tuple(
            Subscription(each.queue_arn, compiled["Resources"][name]["Properties"]["FilterPolicy"])
            for each in stack.subscriptions
            for name in [each.arn.rpartition(":")[2]]
        ),
        tuple(
            name for name, each in compiled["Resources"].items() if each["Type"] == "AWS::Lambda::EventSourceMapping"
        ),
    )


def test_a_filter_that_looks_like_a_reference_is_none() -> None:
    pipeline = Pipeline("p")
    pipeline.sql("late/${AWS::Region}/*.csv", "SELECT * FROM rows", name="late")
    compiled = compile_template(pipeline)
    target = compiled["Resources"]["Schedule"]["Properties"]["Target"]
    document = json.loads(Template(compiled, account="123456789012", region="eu-central-1").value(target["Input"]))
    (subscription,) = document["hops"][0]["subscriptions"]
    assert subscription["filter"] == {"detail": {"object": {"key": [{"prefix": "late/${AWS::Region}/"}]}}}


@pytest.mark.parametrize(("hours", "expression"), [(1, "rate(1 hour)"), (24, "rate(24 hours)")])
def test_the_schedule_s_rate(hours: int, expression: str) -> None:
    compiled = compile_template(wide(1), deployment=Deployment(reconcile_hours=hours))
    assert compiled["Resources"]["Schedule"]["Properties"]["ScheduleExpression"] == expression
    assert compiled["Outputs"]["ReconcilerName"]["Value"] == {"Ref": "Reconciler"}


def test_without_a_schedule_there_is_no_reconciler() -> None:
    compiled = compile_template(wide(1), deployment=Deployment(reconcile_hours=0))
    assert not [name for name in (*compiled["Resources"], *compiled["Outputs"]) if "econcil" in name or "Sched" in name]


@pytest.mark.parametrize(("hours", "minutes"), [(1, 15), (4, 60), (24, 60)])
def test_the_rounds_of_an_account_do_not_all_begin_at_once(hours: int, minutes: int) -> None:
    """Within a window that is shorter than the time between two rounds."""
    pipeline = Pipeline("flights")
    pipeline.sql("late/*.csv", "SELECT * FROM rows", name="late")
    pipeline.table("late_ones", of="late")
    resources = compile_template(pipeline, deployment=Deployment(reconcile_hours=hours))["Resources"].values()
    windows = [
        each["Properties"]["FlexibleTimeWindow"] for each in resources if each["Type"] == "AWS::Scheduler::Schedule"
    ]
    assert windows == [{"Mode": "FLEXIBLE", "MaximumWindowInMinutes": minutes}] * 2
