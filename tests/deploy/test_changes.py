"""The lines of a diff, and what of it a person is asked about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.aws.stack import Effect, StackChange, differences, of_change_set, of_new

GOLDEN = Path(__file__).parents[1] / "unit/template/golden"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def template(kind: str = "AWS::SQS::Queue", **more: Any) -> dict[str, Any]:
    return {"Resources": {"Thing": {"Type": kind, **more}}}


def change(action: str, kind: str = "AWS::SQS::Queue", **more: Any) -> dict[str, Any]:
    actual = {"Action": action, "LogicalResourceId": "Thing", "ResourceType": kind, "PhysicalResourceId": "url", **more}
    return {"Type": "Resource", "ResourceChange": actual}


@pytest.mark.parametrize(
    ("said", "old", "effect", "loses"),
    [
        (change("Add"), {}, Effect.ADD, False),
        (change("Import"), {}, Effect.ADOPT, False),
        (change("Modify", Replacement="False"), template(), Effect.CHANGE, False),
        (change("Modify", Replacement="True"), template(), Effect.REPLACE, True),
        (change("Modify", Replacement="Conditional"), template(), Effect.PERHAPS_REPLACE, True),
        (change("Dynamic"), template(), Effect.PERHAPS_REPLACE, True),
        (change("Remove"), template(), Effect.DELETE, True),
        (change("Remove"), template(DeletionPolicy="Retain"), Effect.LET_GO, False),
        (change("Remove", PolicyAction="Retain"), template(), Effect.LET_GO, False),
        (change("Remove", PolicyAction="Delete"), template(DeletionPolicy="Retain"), Effect.DELETE, True),
        (change("Modify", "AWS::Lambda::LayerVersion", Replacement="True"), template(), Effect.REPLACE, False),
        (change("Remove", "AWS::IAM::Role"), template(), Effect.DELETE, False),
        (change("Modify", "AWS::IAM::ManagedPolicy", Replacement="True"), template(), Effect.REPLACE, False),
        (change("Remove", "AWS::CloudWatch::Alarm"), template(), Effect.DELETE, False),
        (change("Remove", "AWS::Scheduler::Schedule"), template(), Effect.DELETE, False),
        (change("Remove", "AWS::Lambda::EventSourceMapping"), template(), Effect.DELETE, False),
        (change("Remove", "AWS::SNS::Subscription"), template(), Effect.DELETE, False),
        (change("Remove", "AWS::Lambda::Function"), template(), Effect.DELETE, False),
        (change("Remove", "AWS::SNS::Topic"), template(), Effect.DELETE, True),
        (change("Remove", "AWS::Logs::LogGroup"), template(), Effect.DELETE, True),
        (change("Remove", "AWS::DynamoDB::Table"), template(), Effect.DELETE, True),
        (change("Modify", Replacement="True"), template(UpdateReplacePolicy="Retain"), Effect.REPLACE, False),
        (change("Modify", Replacement="True", PolicyAction="ReplaceAndRetain"), template(), Effect.REPLACE, False),
        (
            change("Modify", Replacement="True", PolicyAction="ReplaceAndDelete"),
            template(UpdateReplacePolicy="Retain"),
            Effect.REPLACE,
            True,
        ),
        (change("Remove", "AWS::Lambda::Version"), template(), Effect.DELETE, False),
    ],
)
def test_changes_of_a_resource(said: dict[str, Any], old: dict[str, Any], effect: Effect, loses: bool) -> None:
    result = of_change_set([said], old, template())
    assert [(each.effect, each.loses) for each in result.changes] == [(effect, loses)]
    assert bool(result.losses) == loses
    assert ("lost" in result.lines()[0]) == loses


def test_every_kind_of_a_template_is_known_to_hold_something_or_nothing() -> None:
    """Only what a user's own template has is unknown, and asked about."""
    templates = [json.loads(path.read_text()) for path in GOLDEN.glob("*.json")]
    kinds = {each["Type"] for compiled in templates for each in compiled["Resources"].values()}
    unknown = [kind for kind in kinds if StackChange(Effect.DELETE, "X", kind).loss == "what it holds is lost"]
    assert unknown == []
    assert len(kinds) > 15


def test_lines_tell_what_changes_and_why_a_new_one_is_needed() -> None:
    old = template(Properties={"QueueName": "a", "DelaySeconds": 1, "Tags": [{"Key": "k", "Value": "v"}]})
    new = template(Properties={"QueueName": "b", "Tags": [{"Key": "k", "Value": "w"}]})
    details = [{"Target": {"Attribute": "Properties", "Name": "QueueName", "RequiresRecreation": "Always"}}]
    result = of_change_set([change("Modify", Replacement="True", Details=details)], old, new)
    assert result.lines() == [
        "! replace: Thing (AWS::SQS::Queue) url   ← its messages are lost",
        '    QueueName: "a" → "b" (needs a new one)',
        "    DelaySeconds: 1 → nothing",
        '    Tags[0].Value: "v" → "w"',
    ]
    assert result.to_dict()["changes"][0]["effect"] == "replace"


def test_a_new_value_of_a_parameter_is_shown_where_it_is_used() -> None:
    both = template("AWS::Lambda::Function", Properties={"Code": {"S3Key": {"Ref": "CodeKey"}}})
    said = change("Modify", "AWS::Lambda::Function", Replacement="False")
    result = of_change_set([said], both, both, ({"CodeKey": "old.zip"}, {"CodeKey": "new.zip"}))
    assert result.lines()[1] == '    Code.S3Key: "old.zip" → "new.zip"'


def test_a_change_that_only_follows_another_names_it() -> None:
    said = change("Modify", Replacement="False", Details=[{"CausingEntity": "PackagesLayer", "Target": {}}])
    assert of_change_set([said], template(), template()).lines()[1] == "    because of PackagesLayer"


def versions(days: int) -> dict[str, Any]:
    rule = {"Id": "OldVersions", "NoncurrentVersionExpiration": {"NoncurrentDays": days}}
    rules = [{"Id": "AbandonedUploads"}, *([rule] if days else [])]
    return template("AWS::S3::Bucket", Properties={"LifecycleConfiguration": {"Rules": rules}})


@pytest.mark.parametrize(
    ("before", "after", "says"), [(0, 30, True), (90, 30, True), (30, 90, False), (30, 0, False), (0, 0, False)]
)
def test_a_rule_that_deletes_old_versions_is_not_only_a_rule(before: int, after: int, says: bool) -> None:
    said = change("Modify", "AWS::S3::Bucket", Replacement="False")
    lines = of_change_set([said], versions(before), versions(after)).lines()
    assert any(f"old versions of its objects are deleted after {after} days" in line for line in lines) is says


def test_a_replaced_resource_that_stays_is_no_loss() -> None:
    old = template("AWS::S3::Bucket", UpdateReplacePolicy="Retain", Properties={"BucketName": "a"})
    new = template("AWS::S3::Bucket", UpdateReplacePolicy="Retain", Properties={"BucketName": "b"})
    result = of_change_set([change("Modify", "AWS::S3::Bucket", Replacement="True")], old, new)
    assert result.lines()[0].endswith("← the old one stays")


def test_losses_come_first() -> None:
    gone = change("Remove")
    gone["ResourceChange"]["LogicalResourceId"] = "Zulu"
    result = of_change_set([change("Add"), gone], {}, {})
    assert [each.logical for each in result.changes] == ["Zulu", "Thing"]


def test_everything_of_a_new_stack_is_added() -> None:
    assert of_new(template()).lines() == ["+ add: Thing (AWS::SQS::Queue)"]


def test_no_change_is_said_so() -> None:
    assert of_change_set([], {}, {}).lines() == ["nothing changes"]


@given(JSON, JSON)
def test_there_are_differences_between_what_differs_and_only_there(one: Any, other: Any) -> None:
    same = one == other and repr_typed(one) == repr_typed(other)
    assert (not list(differences(one, other))) == same


def repr_typed(value: Any) -> Any:
    """Told apart also where Python says that they are equal, as 1 and True."""
    if isinstance(value, dict):
        return {name: repr_typed(inner) for name, inner in value.items()}
    return [repr_typed(inner) for inner in value] if isinstance(value, list) else (type(value), value)


@given(JSON)
def test_nothing_differs_from_itself(value: Any) -> None:
    assert not list(differences(value, value))
