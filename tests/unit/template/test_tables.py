"""The stage of gold: what a table adds to the template, and what it leaves as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import DefinitionError, Deployment, Pipeline
from silversmith.local.stack import Template, read
from silversmith.patterns import compile_pattern
from silversmith.template import compile as compile_template
from silversmith.template.messaging import LONGEST_EVENT_PATTERN
from silversmith.template.plan import Plan

Json = dict[str, Any]


def shop(*, tables: bool = True) -> Pipeline:
    pipeline = Pipeline("web-shop")
    pipeline.sql("orders/*.csv", "SELECT * FROM rows")
    pipeline.sql("clicks/*.csv", "SELECT * FROM rows")
    if tables:
        pipeline.table("orders", of="orders")
        pipeline.view("totals", "select sum(total) as total from orders")
    return pipeline


def compiled(pipeline: Pipeline | None = None, **options: Any) -> Json:
    return compile_template(pipeline or shop(), deployment=Deployment(**options))


PLAIN, GOLD = compiled(shop(tables=False)), compiled()


def properties(template: Json, logical: str) -> Json:
    actual: Json = template["Resources"][logical]["Properties"]
    return actual


def event(key: str, *, kind: str = "Object Created", bucket: str = "dl-silver-layer") -> Json:
    return {
        "source": "aws.s3",
        "detail-type": kind,
        "detail": {"bucket": {"name": bucket}, "object": {"key": key}},
    }


def test_a_table_adds_its_stage_and_silver_speaks() -> None:
    before, after = PLAIN["Resources"], GOLD["Resources"]
    assert {name for name in before if after[name] != before[name]} == {
        *("SilverBucket", "RoleOfReconciler", "Schedule"),
        *("RoleOfSchedule", "ReconcilerDLQAlarm"),
    }
    assert len(after) - len(before) == 23 + 2 + 2  # the bucket and its policy; a table and a view
    changed = {**before["SilverBucket"]["Properties"]}
    changed["NotificationConfiguration"] = {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    assert after["SilverBucket"]["Properties"] == changed
    assert set(GOLD["Parameters"]) - set(PLAIN["Parameters"]) == {"TablesCodeKey"}
    assert set(PLAIN["Outputs"]) < set(GOLD["Outputs"])


def test_gold_is_made_as_silver_is() -> None:
    silver, gold = (json.dumps(PLAIN["Resources"][f"{role}Bucket"]) for role in ("Silver", "Bronze"))
    assert json.dumps(GOLD["Resources"]["GoldBucket"]) == silver.replace("dl-silver-layer", "dl-gold-layer") != gold


@given(st.text(max_size=20), st.sampled_from(["Object Created", "Object Deleted", "Object Tags Added"]))
def test_the_rule_takes_what_comes_and_goes_below_the_transforms_with_tables(rest: str, kind: str) -> None:
    matcher = compile_pattern(properties(GOLD, "SilverRule")["EventPattern"])
    assert matcher.matches(event(f"orders/{rest}", kind=kind)) is (kind != "Object Tags Added")
    assert not matcher.matches(event(f"orders{rest.lstrip('/')}", kind=kind))
    assert not matcher.matches(event(f"clicks/{rest}", kind=kind))
    assert not matcher.matches(event(f"orders/{rest}", kind=kind, bucket="dl-bronze-layer"))


def test_more_transforms_than_a_rule_holds_get_several_rules() -> None:
    pipeline = Pipeline("p")
    names = [f"{'a' * 35}-{number:03}" for number in range(22)]
    for name in names:
        pipeline.sql(f"{name}/*.csv", "SELECT * FROM rows", name=name)
    pipeline.table("one", of=names[0])
    for number, name in enumerate(names):
        pipeline.table(f"t{number}", of=name)
    template = compiled(pipeline)
    patterns = [
        resource["Properties"]["EventPattern"]
        for logical, resource in template["Resources"].items()
        if logical.startswith("SilverRule") and resource["Type"] == "AWS::Events::Rule"
    ]
    assert all(len(json.dumps(pattern)) <= LONGEST_EVENT_PATTERN for pattern in patterns)
    for name in names:
        assert [compile_pattern(pattern).matches(event(f"{name}/x")) for pattern in patterns].count(True) == 1


def test_the_local_engine_finds_the_chain() -> None:
    stack = read(GOLD)
    names = {
        **{queue.arn: queue.name for queue in stack.queues},
        **{topic.arn: topic.name for topic in stack.topics},
        **{function.arn: function.name for function in stack.functions},
    }
    (subscription,) = (each for each in stack.subscriptions if names[each.queue_arn] == "web-shop_Tables")
    (mapping,) = (each for each in stack.mappings if names[each.queue_arn] == "web-shop_Tables")
    (queue,) = (each for each in stack.queues if each.name == "web-shop_Tables")
    (rule,) = (each for each in stack.rules if each.name == "web-shop_SilverRule")
    assert [names[target] for target in rule.targets] == ["web-shop_SilverTopic"]
    assert (names[subscription.topic_arn], subscription.raw, subscription.filter) == (
        "web-shop_SilverTopic",
        True,
        None,
    )
    assert (names[mapping.function_arn], mapping.batch_size, mapping.window) == ("web-shop_Tables", 10_000, 60)
    assert queue.visibility_timeout == 6 * 300 + 60
    assert names[queue.dead_letter_arn or ""] == "web-shop_TablesDLQ"


def test_a_schedule_has_the_function_compare_silver_and_gold() -> None:
    compiled_ = compiled(reconcile_hours=6)
    schedule = properties(compiled_, "ScheduleOfTables")
    assert schedule["ScheduleExpression"] == "rate(6 hours)"
    target = Template(compiled_, account="123456789012", region="eu-central-1").value(schedule["Target"])
    (function,) = (each for each in read(compiled_).functions if each.name == "web-shop_Tables")
    assert target["Arn"].rpartition(":")[2] == function.name
    (queue,) = (each for each in read(compiled_).queues if each.name == "web-shop_Tables")
    url = queue.url.replace("000000000000", "123456789012").replace("us-east-1", "eu-central-1")
    assert json.loads(target["Input"]) == {"reconcile": True, "queue": url}
    dead = {"Fn::GetAtt": ["ReconcilerDLQ", "Arn"]}
    assert properties(compiled_, "Tables")["DeadLetterConfig"] == {"TargetArn": dead}


def test_without_rounds_nothing_is_left_of_them() -> None:
    rest = compiled(reconcile_hours=0)
    assert not [name for name in rest["Resources"] if "Sched" in name or "Reconciler" in name]
    assert "Reconciler" not in json.dumps(rest["Resources"]["Tables"]) + json.dumps(rest["Resources"]["RoleOfTables"])


def test_another_view_is_another_fingerprint() -> None:
    pipeline = shop()
    pipeline.view("most", "select max(total) as total from orders")
    before, after = GOLD["Resources"], compiled(pipeline)["Resources"]
    assert {name for name in before if before[name] != after[name]} == {"RoleOfTables", "Tables"}
    assert set(after) - set(before) == {"MostGlueTable"}
    old, new = (each["Tables"]["Properties"]["Environment"]["Variables"] for each in (before, after))
    assert {name for name in old if old[name] != new[name]} == {"SILVERSMITH_FINGERPRINT"}


def test_the_options_of_the_function() -> None:
    result = properties(compiled(tables_memory=4096, tables_timeout=600, ephemeral_storage={"orders": 2048}), "Tables")
    assert (result["MemorySize"], result["Timeout"], result["EphemeralStorage"]) == (4096, 600, {"Size": 2048})
    assert "EphemeralStorage" not in properties(compiled(ephemeral_storage={"clicks": 2048}), "Tables")


def test_existing_buckets_are_not_touched() -> None:
    template = compiled(existing_buckets=("silver", "gold"), prefix="test", bronze="raw", silver="clean")
    assert not {"SilverBucket", "GoldBucket"} & set(template["Resources"])
    assert template["Outputs"]["GoldBucketName"]["Value"] == "dl-gold-layer"
    assert properties(template, "SilverRule")["EventPattern"]["detail"]["bucket"] == {"name": ["clean"]}


@pytest.mark.parametrize(
    ("options", "name"), [({}, "web_shop"), ({"prefix": "test"}, "test_web_shop"), ({"glue_database": "lake"}, "lake")]
)
def test_athena_finds_the_tables_by_name(options: Json, name: str) -> None:
    template = compiled(**options)
    assert properties(template, "GlueDatabase")["DatabaseInput"]["Name"] == name
    for logical in ("Orders", "Totals"):
        table = properties(template, f"{logical}GlueTable")["TableInput"]
        bucket = template["Resources"]["GoldBucket"]["Properties"]["BucketName"]
        assert table["Parameters"]["spark.sql.sources.provider"] == "delta"
        assert table["StorageDescriptor"]["Location"] == f"s3://{bucket}/{table['Name']}/"
        assert table["StorageDescriptor"]["SerdeInfo"]["Parameters"]["path"] == f"s3://{bucket}/{table['Name']}/"


def test_more_tables_than_a_role_can_name_are_explained() -> None:
    pipeline = shop(tables=False)
    for number in range(150):
        pipeline.table(f"{'orders' * 9}_{number:03}", of="orders")
    with pytest.raises(DefinitionError, match=r"the 150 tables and views .* more than a role's policy can name"):
        compile_template(pipeline)


def test_a_plan_names_gold_only_where_there_are_tables() -> None:
    assert "gold" not in Plan.of(shop(tables=False), Deployment(gold="mine"), "m:p").buckets
    assert Plan.of(shop(), Deployment(gold="mine"), "m:p").buckets["gold"] == "mine"


def test_gold_must_be_a_bucket_of_its_own() -> None:
    with pytest.raises(DefinitionError, match="silver and gold are both"):
        compiled(gold="dl-silver-layer")


def test_without_the_packages_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['deltalake'] = None\n"
        "from silversmith import Pipeline; from silversmith.template import compile\n"
        "p = Pipeline('p'); p.sql('a/*.csv', 'SELECT * FROM rows'); compile(p)\n"
        "p.table('a', of='a')\n"
        "try: compile(p)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("DefinitionError the pipeline 'p' has tables, and deltalake cannot be imported")
    assert "pip install 'silversmith[tables]'" in done.stdout


def test_the_lineage_alone_has_the_stage_of_gold_for_all_transforms_and_for_quarantine() -> None:
    pipeline = Pipeline("web-shop", lineage=True)
    pipeline.sql("orders/*.csv", "SELECT * FROM rows")
    pipeline.sql("clicks/*.csv", "SELECT * FROM rows")
    template = compiled(pipeline)
    rules = [compile_pattern(properties(template, title)["EventPattern"]) for title in ("SilverRule", "SilverRule2")]

    def is_told(key: str, bucket: str) -> bool:
        return any(rule.matches(event(key, bucket=bucket)) for rule in rules)

    assert is_told("clicks/a.csv.parquet", "dl-silver-layer")
    assert is_told("orders/a.csv.error.json", "dl-quarantine-layer")
    assert is_told("orders/a.csv.failed.json", "dl-quarantine-layer")
    assert not is_told("orders/a.csv.rejected.parquet", "dl-quarantine-layer")
    assert not is_told("others/a.csv.error.json", "dl-quarantine-layer")
    assert "NotificationConfiguration" in properties(template, "QuarantineBucket")
    variables = properties(template, "Tables")["Environment"]["Variables"]
    assert {"SILVERSMITH_SILVER", "SILVERSMITH_QUARANTINE", "SILVERSMITH_GOLD"} <= set(variables)
    role = json.dumps(properties(template, "RoleOfTables"))
    assert "dl-quarantine-layer/orders/*.error.json" in role
    assert "dl-gold-layer/_lineage/*" in role


def test_the_reconciler_may_read_the_lineage_and_tell_the_tables_what_it_is_behind_of() -> None:
    pipeline = Pipeline("web-shop", lineage=True)
    pipeline.sql("orders/*.csv", "SELECT * FROM rows")
    template = compiled(pipeline)
    statements = properties(template, "RoleOfReconciler")["Policies"][0]["PolicyDocument"]["Statement"]
    by_sid = {each["Sid"]: each for each in statements}
    assert "dl-gold-layer/_lineage/*" in json.dumps(by_sid["ReadLineage"]["Resource"])
    assert json.dumps(by_sid["TellTables"]["Resource"]).endswith(':web-shop_Tables"}')
    leases = json.dumps(by_sid["HoldLease"]["Resource"])
    assert "_reconcile/web-shop_Reconciler.json" in leases
    assert "_reconcile/web-shop_Reconciler/*.json" in leases, "those of branches"
    assert by_sid["SeeAges"]["Action"] == "cloudwatch:GetMetricStatistics"
    assert properties(template, "Reconciler")["Environment"]["Variables"]["SILVERSMITH_GOLD"] == "dl-gold-layer"
    event = Template(template, account="123456789012", region="eu-west-1").value(
        properties(template, "Schedule")["Target"]["Input"]
    )
    document = json.loads(event)
    assert document["tables"].endswith("/web-shop_Tables")
    assert document["buckets"] == {"silver": "dl-silver-layer", "quarantine": "dl-quarantine-layer"}
    assert {"ReadLineage", "TellTables", "SeeAges"}.isdisjoint(json.dumps(properties(GOLD, "RoleOfReconciler")))


def test_pipelines_without_lineage_are_deployed_as_before() -> None:
    """Its fingerprint is in the template: a new option must not change it."""
    assert "lineage" not in shop().tables.to_json()
    assert "SILVERSMITH_QUARANTINE" not in properties(GOLD, "Tables")["Environment"]["Variables"]
