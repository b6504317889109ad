"""Whole templates: held against golden files, and against cfn-lint.

After an intended change, rewrite the golden files, look at the difference, and commit it:

    SILVERSMITH_GOLDEN=write python -m pytest tests/unit/template
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith import Context, Contract, Csv, DefinitionError, Deployment, ObjectLock, Pipeline, Secret, Vpc
from silversmith.template import compile as compile_template

GOLDEN = Path(__file__).parent / "golden"


def flights() -> Pipeline:
    """The example of the first page."""
    pipeline = Pipeline("flights")
    contract = Contract(
        schema={"flight": pl.Int64, "carrier": pl.String, "distance": pl.Int64},
        rules={"distance is positive": pl.col("distance") > 0},
    )

    @pipeline.transform("flights/*.csv", contract=contract)
    def flights(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.filter(pl.col("carrier").is_not_null())

    return pipeline


def options() -> Pipeline:
    """Every option, and names and patterns that need care."""
    pipeline = Pipeline("night-shift", bronze="acme-bronze", silver="acme-silver", quarantine="acme-quarantine")

    @pipeline.transform(
        r"late/\*$1\?/*.csv.gz",
        name="a-b",
        reader=Csv(),
        batch_size=500,
        batch_window=20,
        memory=10_240,
        timeout=900,
        maximum_concurrency=2,
        max_receive_count=1,
        lookups=["lookup/r$tes?.csv", "lookup/airlines.csv"],
        environment={"COUNTRY": "CH", "SILVERSMITH_LOG_LEVEL": "DEBUG"},
        secrets={
            "token": Secret(parameter="/{stack}/token"),
            "api": Secret(secret="{stack}/api", key="arn:aws:kms:eu-central-1:123456789012:key/01234567"),
            "other": Secret(secret="arn:aws:secretsmanager:eu-central-1:999999999999:secret:shared-a1B2c3"),
        },
        permissions=[
            {
                "Sid": "ReadRates",
                "Action": "dynamodb:GetItem",
                "Resource": {"Fn::Sub": "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/rates"},
                "Condition": {"NumericLessThan": {"aws:MultiFactorAuthAge": "60"}},
            }
        ],
    )
    def late(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
        return rows

    pipeline.sql("*.json", "SELECT * FROM rows", name="a_b", batch_size=1, memory=128, timeout=1)
    pipeline.sql("*", "SELECT * FROM rows", name="everything")
    pipeline.sql("one/file.parquet", "SELECT * FROM rows", name="exactly_one")
    return pipeline


def long() -> Pipeline:
    """More than one rule can hold."""
    pipeline = Pipeline("long")
    for name in ("a", "b"):
        pipeline.sql(f"{name * 950}/*.csv", "SELECT * FROM rows", name=name)
    return pipeline


#: What a company with many rules wants.
STRICT = Deployment(
    prefix="prod",
    customer_key=True,
    tags={"team": "lake", "cost-center": "4711"},
    log_retention_days=365,
    alarm_email="ops@example.com",
    alarm_bad_share=0.05,
    architecture="x86_64",
    snap_start=True,
    vpc=Vpc(subnets=("subnet-0123456789abcdef0", "subnet-0123456789abcdef1"), security_groups=("sg-01234567",)),
    permissions_boundary="arn:aws:iam::123456789012:policy/boundary",
    reserved_concurrency=20,
)

#: A lake that was there before, and the options that exclude some of those above.
EXISTING = Deployment(
    bronze="acme-raw",
    existing_buckets=("bronze", "silver"),
    existing_keys=("arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef",),
    alarm_topic="arn:aws:sns:eu-central-1:123456789012:wake-me",
    reconcile_hours=1,
    ephemeral_storage=4096,
    provisioned_concurrency={"flights": 1},
    access_logs="acme-access-logs",
    layers={"flights": ("arn:aws:lambda:eu-central-1:123456789012:layer:tools:3",)},
)

#: Every option of the buckets.
KEPT = Deployment(
    old_versions_days=90,
    bucket_policies={
        "silver": [
            {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::210987654321:root"}, "Action": "s3:GetObject"}
        ]
    },
    access_logs="acme-access-logs",
    object_lock=ObjectLock(days=365, mode="compliance", buckets=("bronze", "gold")),
    replicate_to={"bronze": "acme-bronze-copy", "silver": "acme-silver-copy"},
)


def gold() -> Pipeline:
    """Tables of two transforms, and views over them; the third transform has none."""
    pipeline = Pipeline("web-shop")
    for name in ("orders", "customers", "clicks"):
        pipeline.sql(f"{name}/*.csv", "SELECT * FROM rows")
    pipeline.table("orders", of="orders", partition_by=["day"], sort_by=["customer"])
    pipeline.table("orders_again", of="orders")
    pipeline.table("customers_2", of="customers")
    pipeline.view("daily", "select day, count(*) as n from orders group by day", by=["day"])
    pipeline.view("busiest", "select * from daily order by n desc limit 10")
    return pipeline


#: Another bucket for gold, silver that was there before, and all options of the tables' function.
GOLD = Deployment(
    prefix="prod",
    gold="acme-gold",
    existing_buckets=("silver",),
    customer_key=True,
    ephemeral_storage={"customers": 2048, "clicks": 4096},
    glue_database="acme",
    tables_memory=4096,
    tables_timeout=900,
)


CASES: dict[str, tuple[Callable[[], Pipeline], Deployment | None]] = {
    "flights": (flights, None),
    "options": (options, None),
    "strict": (flights, STRICT),
    "existing": (flights, EXISTING),
    "gold": (gold, None),
    "gold_options": (gold, GOLD),
    "kept": (gold, KEPT),
    "image": (flights, Deployment(image=True, provisioned_concurrency={"flights": 1})),
}


def text(pipeline: Pipeline, deployment: Deployment | None = None) -> str:
    compiled = compile_template(pipeline, "jobs.lake:pipeline", deployment=deployment)
    return json.dumps(compiled, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("case", CASES)
def test_the_template_is_the_golden_one(case: str) -> None:
    golden = GOLDEN / f"{case}.json"
    declare, deployment = CASES[case]
    if os.environ.get("SILVERSMITH_GOLDEN") == "write":
        golden.write_text(text(declare(), deployment))
    assert text(declare(), deployment) == golden.read_text()


def test_there_is_no_golden_file_without_a_case() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.full
def test_cfn_lint_finds_nothing_wrong(tmp_path: Path) -> None:
    """Of the full tier: cfn-lint takes long to start, and a template that changes must become a golden file first."""
    (tmp_path / "long.json").write_text(text(long()))
    files = [*sorted(GOLDEN.glob("*.json")), tmp_path / "long.json"]
    ran = subprocess.run(
        [sys.executable, "-c", "import sys; from cfnlint.runner import main; sys.exit(main())", *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_several_rules_share_the_topic_and_the_dead_letter_queue() -> None:
    resources = compile_template(long())["Resources"]
    rules = {name: each for name, each in resources.items() if each["Type"] == "AWS::Events::Rule"}
    assert list(rules) == ["Rule", "Rule2"]
    (allow, _) = resources["RuleDLQPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    arns = [each["Fn::Sub"] for each in allow["Condition"]["ArnEquals"]["aws:SourceArn"]]
    assert [arn.rpartition("/")[2] for arn in arns] == [rule["Properties"]["Name"] for rule in rules.values()]
    assert {rule["Properties"]["Targets"][0]["Arn"]["Ref"] for rule in rules.values()} == {"Topic"}


@pytest.mark.full
def test_the_template_is_the_same_in_every_process() -> None:
    code = (
        "import json; from silversmith import Pipeline; from silversmith.template import compile\n"
        "p = Pipeline('p')\n"
        "for name in 'cab': p.sql(f'{name}/*.csv', 'SELECT * FROM rows')\n"
        "print(json.dumps(compile(p)))"
    )
    text = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(text) == 1


def test_another_transform_changes_nothing_of_those_before_it() -> None:
    pipeline = Pipeline("p")
    pipeline.sql("a/*.csv", "SELECT * FROM rows", name="a_b")
    before: dict[str, Any] = compile_template(pipeline)["Resources"]
    pipeline.sql("b/*.csv", "SELECT * FROM rows", name="a-b")
    after: dict[str, Any] = compile_template(pipeline)["Resources"]
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"Rule", "RoleOfReconciler", "Schedule"}  # what must know all of them
    assert len(after) - len(before) == 15


def test_a_batch_window_is_time_that_a_message_may_wait() -> None:
    pipeline = Pipeline("p")
    pipeline.sql("a/*.csv", "SELECT * FROM rows", timeout=60, batch_window=30)
    resources = compile_template(pipeline)["Resources"]
    assert resources["AQueue"]["Properties"]["VisibilityTimeout"] == 390


def test_a_pipeline_without_transforms_is_no_template() -> None:
    with pytest.raises(DefinitionError, match="'empty' has no transform"):
        compile_template(Pipeline("empty"))


def test_more_than_one_template_can_hold_is_explained() -> None:
    pipeline = Pipeline("wide")
    for number in range(31):
        pipeline.sql(f"s{number}/*.csv", "SELECT * FROM rows")
    assert len(compile_template(pipeline)["Resources"]) <= 500
    pipeline.sql("more/*.csv", "SELECT * FROM rows")
    with pytest.raises(DefinitionError, match=r"32 transforms .* CloudFormation takes 500"):
        compile_template(pipeline)


@pytest.mark.parametrize("prefix", ["", "test"])
def test_the_alarms_of_a_stage_watch_the_metrics_that_its_functions_write(prefix: str) -> None:
    resources = compile_template(gold(), deployment=replace(STRICT, prefix=prefix))["Resources"].values()
    written = {
        each["Properties"]["Environment"]["Variables"]["SILVERSMITH_STACK"]
        for each in resources
        if each["Type"] == "AWS::Lambda::Function"
    }
    watched = set(re.findall(r'"Name": "Pipeline", "Value": "([^"]+)"', json.dumps([*resources])))
    assert watched == written == {f"{prefix}-web-shop" if prefix else "web-shop"}


def test_every_alarm_and_output_is_documented() -> None:
    page = Path(__file__).parents[3].joinpath("docs/template.md").read_text("utf-8")
    compiled = compile_template(flights(), deployment=STRICT)
    alarms = [name for name, each in compiled["Resources"].items() if each["Type"] == "AWS::CloudWatch::Alarm"]
    assert len(alarms) == 11
    for name in (*alarms, *compiled["Outputs"]):
        assert f"`{name.replace('Flights', '…')}`" in page
