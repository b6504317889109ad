"""``Deployment(inventory=…)``: S3 may deliver the list, and the reconciler, and nobody else, reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from silversmith import DefinitionError, Deployment, Pipeline
from silversmith.local.iam import Policy
from silversmith.local.stack import Template, read
from silversmith.template import compile as compile_template

ACCOUNT = "123456789012"
OURS = {"aws:ResourceAccount": ACCOUNT, "aws:SecureTransport": "true"}
ELSEWHERE = "s3://acme-lists/all/of $them/dl-bronze-layer/every-day"


def shop(*, lineage: bool = True) -> Pipeline:
    pipeline = Pipeline("web-shop", lineage=lineage)
    pipeline.sql("orders/*.csv", "SELECT * FROM rows")
    return pipeline


def compiled(inventory: str) -> Any:
    return compile_template(shop(), deployment=Deployment(inventory=inventory))


def properties(template: Any, name: str) -> Any:
    return template["Resources"][name]["Properties"]


def policy(template: Any, resource: str) -> Policy:
    values = Template(template, account=ACCOUNT, region="eu-central-1")
    found = properties(template, resource)
    documents = [each["PolicyDocument"] for each in found.get("Policies", [found])]
    statements = [each for document in documents for each in values.value(document)["Statement"]]
    return Policy.parse(resource, {"Statement": statements})


def test_a_daily_inventory_is_delivered_to_quarantine() -> None:
    template = compiled("daily")
    (configuration,) = properties(template, "BronzeBucket")["InventoryConfigurations"]
    assert (configuration["ScheduleFrequency"], configuration["IncludedObjectVersions"]) == ("Daily", "Current")
    assert configuration["OptionalFields"] == ["ETag"]
    assert configuration["Destination"]["Prefix"] == "_inventory"
    assert configuration["Destination"]["BucketArn"] == {"Fn::GetAtt": ["QuarantineBucket", "Arn"]}
    assert "InventoryConfigurations" not in properties(template, "QuarantineBucket")
    rules = {rule["Id"]: rule for rule in properties(template, "QuarantineBucket")["LifecycleConfiguration"]["Rules"]}
    assert (rules["Inventories"]["Prefix"], rules["Inventories"]["ExpirationInDays"]) == ("_inventory/", 7)


def test_only_s3_on_behalf_of_bronze_may_deliver_it() -> None:
    delivered = policy(compiled("daily"), "QuarantineBucketPolicy")
    right = {
        "aws:SourceArn": "arn:aws:s3:::dl-bronze-layer",
        "aws:SourceAccount": ACCOUNT,
        "s3:x-amz-acl": "bucket-owner-full-control",
        "aws:SecureTransport": "true",
    }
    place = "arn:aws:s3:::dl-quarantine-layer/_inventory/dl-bronze-layer/silversmith/data/1.parquet"

    def may(key: str = place, by: str = "s3.amazonaws.com", **context: str) -> bool:
        return delivered.allows("s3:PutObject", key, principal=by, context=right | context)

    assert may()
    assert not may("arn:aws:s3:::dl-quarantine-layer/orders/a.csv.error.json")
    assert not may(by="sns.amazonaws.com")
    assert not may(**{"aws:SourceArn": "arn:aws:s3:::other"})
    assert not may(**{"aws:SourceAccount": "210987654321"})


@pytest.mark.parametrize(
    ("inventory", "bucket", "folder"),
    [
        ("daily", "dl-quarantine-layer", "_inventory/dl-bronze-layer/silversmith"),
        (ELSEWHERE, "acme-lists", "all/of $them/dl-bronze-layer/every-day"),
    ],
)
def test_the_reconciler_reads_it_and_has_room_for_it(inventory: str, bucket: str, folder: str) -> None:
    template = compiled(inventory)
    stack = read(template, account=ACCOUNT, region="eu-central-1")
    function = next(each for each in stack.functions if each.name == "web-shop_Reconciler")
    assert function.environment["SILVERSMITH_INVENTORY"] == f"{bucket}/{folder}"
    assert properties(template, "Reconciler")["EphemeralStorage"] == {"Size": 4096}
    for key in (f"{folder}/2026-03-01T00-00Z/manifest.json", f"{folder}/data/1.parquet"):
        assert function.policy.allows("s3:GetObject", f"arn:aws:s3:::{bucket}/{key}", context=OURS)
    assert function.policy.allows("s3:ListBucket", f"arn:aws:s3:::{bucket}", context=OURS)
    assert not function.policy.allows("s3:GetObject", f"arn:aws:s3:::{bucket}/secret", context=OURS)
    assert not function.policy.allows("s3:PutObject", f"arn:aws:s3:::{bucket}/{folder}/x", context=OURS)


def test_an_inventory_that_is_there_changes_no_bucket() -> None:
    plain, template = compiled(""), compiled(ELSEWHERE)
    differing = {name for name, each in template["Resources"].items() if each != plain["Resources"].get(name)}
    assert differing == {"Reconciler", "RoleOfReconciler"}
    assert "nventor" not in json.dumps(plain)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"inventory": "weekly"}, 'must be "daily", or the folder of an inventory'),
        ({"inventory": "s3://acme-lists"}, 'must be "daily"'),
        ({"inventory": "s3://Acme_Lists/all"}, 'must be "daily"'),
        ({"inventory": "s3://acme-lists//all"}, 'must be "daily"'),
        ({"inventory": "daily", "customer_key": True}, "needs a bronze and a quarantine bucket that the stack makes"),
        ({"inventory": "daily", "existing_buckets": ("bronze",)}, "needs a bronze and a quarantine bucket"),
        ({"inventory": "daily", "existing_buckets": ("quarantine",)}, "name its folder"),
        ({"inventory": "daily", "reconcile_hours": 0}, "nobody would read it"),
        ({"inventory": ELSEWHERE, "reconcile_hours": 0}, "nobody would read it"),
    ],
)
def test_what_s3_or_the_reconciler_cannot_do_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        Deployment(**options)


def test_it_needs_a_lineage() -> None:
    with pytest.raises(DefinitionError, match=r"Pipeline\('web-shop', lineage=True\)"):
        compile_template(shop(lineage=False), deployment=Deployment(inventory="daily"))
