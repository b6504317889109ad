"""A patch over the compiled template: what is deployed, what runs here, and what is said of a bad one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.conftest import Call

PIPELINE = """
from silversmith import Deployment, Pipeline

pipeline = Pipeline("shop")
pipeline.sql("orders/*.csv", "SELECT * FROM rows", name="orders")

def elsewhere(template):
    resources = template["Resources"]
    resources["OrdersSubscription"]["Properties"]["FilterPolicy"]["detail"]["object"]["key"] = [{"prefix": "else/"}]
    resources["Board"] = {
        "Type": "AWS::CloudWatch::Dashboard",
        "Metadata": {"silversmith:ignored": True},
        "Properties": {"DashboardBody": "{}"},
    }

deployment = Deployment(prefix="live", customer_key=True, existing_buckets=("silver",), patch=elsewhere)
"""


def with_patch(body: str) -> str:
    return PIPELINE.replace("    resources = template", f"    {body}\n    resources = template")


def land(folder: Path, name: str) -> None:
    path = folder / "lake/dl-bronze-layer/orders" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("id\n1\n")


def test_the_patched_template_is_what_is_deployed(call: Call) -> None:
    resources = json.loads(call("template")[1])["Resources"]
    assert resources["Board"]["Type"] == "AWS::CloudWatch::Dashboard"
    assert resources["Topic"]["Properties"]["TopicName"] == "live-shop_Topic"
    assert "SilverBucket" not in resources


def subscribers(call: Call, key: str) -> list[str]:
    """The subscriptions that the topic delivered a file's event to."""
    (version,) = json.loads(call("trace", key, "--json")[1])["versions"]
    (published,) = [step["detail"] for step in version["steps"] if step["room"] == "topic"]
    return list(published["subscriptions"])


@pytest.mark.full
def test_the_engine_runs_the_patched_template(call: Call, tmp_path: Path) -> None:
    """Its filter lets no event through, so that reconciliation has to find the file."""
    land(tmp_path, "a.csv")
    assert call("run", "--until-idle", "--workers", "1")[0] == 0
    assert subscribers(call, "orders/a.csv") == []
    (tmp_path / "pipeline.py").write_text(PIPELINE.replace(", patch=elsewhere", ""))
    land(tmp_path, "b.csv")
    assert call("run", "--until-idle", "--workers", "1")[0] == 0
    assert len(subscribers(call, "orders/b.csv")) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('template["Resources"]["NoSuchQueue"]["Properties"] = 1', "KeyError: 'NoSuchQueue'"),
        ("return 7", "the patch elsewhere makes no template: it returned int"),
        ("return {}", "it has no Resources"),
        ('template["Resources"]["X"] = {"Properties": {}}', "the resource X has no Type"),
        ('template["Resources"]["X"] = {"Type": "AWS::SNS::Topic", "Properties": 7}', "of the resource X are no dict"),
        ('template["Resources"]["X"] = {"Type": "AWS::SNS::Topic", "Tags": {1, 2}}', "it is no JSON: .*set"),
        ('template["Outputs"] = []', "Outputs is list, no dictionary"),
    ],
)
def test_what_is_wrong_with_a_patch_is_said(call: Call, tmp_path: Path, body: str, says: str) -> None:
    (tmp_path / "pipeline.py").write_text(with_patch(body))
    for command in (("template",), ("run", "--until-idle")):
        code, out, errors = call(*command)
        assert (code, out) == (2, "")
        words = " ".join(errors.split())
        assert re.search(says, words), errors


def test_the_line_of_a_patch_that_fails_is_named(call: Call, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(with_patch('template["Resources"]["NoSuchQueue"]'))
    _, _, errors = call("template")
    assert "the patch elsewhere failed" in errors
    assert "pipeline.py" in errors
    assert "line 8" in errors


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            'template["Resources"]["OrdersQueue"]["Properties"]["FifoQueue"] = True',
            r'"silversmith:ignored": \["FifoQueue"',
        ),
        ('template["Resources"]["X"] = {"Type": "AWS::EC2::Vpc"}', "knows no resource type AWS::EC2::Vpc"),
        (
            'template["Resources"]["OrdersQueue"]["Metadata"] = {"silversmith:ignored": ["VisibilityTimeout"]}',
            "obeys VisibilityTimeout",
        ),
    ],
)
def test_what_the_engine_does_not_obey_is_refused_unless_the_patch_says_that_it_means_nothing(
    call: Call, tmp_path: Path, body: str, says: str
) -> None:
    (tmp_path / "pipeline.py").write_text(with_patch(body))
    assert call("template")[0] == 0
    code, _, errors = call("run", "--until-idle", "--workers", "1")
    assert code != 0
    assert re.search(says, " ".join(errors.split())), errors


def test_the_patch_that_runs_here_must_be_clear(call: Call, tmp_path: Path) -> None:
    several = PIPELINE.replace("deployment =", "one =") + "two = Deployment(patch=elsewhere)\n"
    (tmp_path / "pipeline.py").write_text(several)
    code, _, errors = call("run", "--until-idle", "--workers", "1")
    assert code == 2
    assert "one, two each have a patch" in " ".join(errors.split())
    assert call("template", "--deployment", "two")[0] == 0


def test_a_patch_is_a_function(call: Call, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE.replace("patch=elsewhere", 'patch="elsewhere"'))
    assert "patch='elsewhere' must be a function" in call("template")[2]


def test_yaml_is_the_same_template(call: Call, tmp_path: Path) -> None:
    printed = call("template", "--format", "yaml")[1]
    assert yaml.safe_load(printed) == json.loads(call("template")[1])
    assert "&id" not in printed
    assert "AWSTemplateFormatVersion: '2010-09-09'" in printed
    assert call("template", "--format", "yaml", "--output", "t.yaml")[0] == 0
    assert (tmp_path / "t.yaml").read_text() == printed
