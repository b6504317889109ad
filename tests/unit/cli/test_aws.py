"""The commands with ``--target aws``: called as the shell would call them, over moto."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.handlers
import pytest
from moto import mock_aws

from silversmith.aws.account import open_account
from silversmith.cli.application import call as call_command
from silversmith.lineage import silver_key
from silversmith.pipeline.deployment import Deployment
from tests.deployed import BAD, GOOD, SHOP, Deployed, write

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

TEST = 'test = Deployment(prefix="test")\ndeployment = Deployment()\n'

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "secret"), ("DEFAULT_REGION", "eu-central-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("COLUMNS", "200")
    with mock_aws():
        yield Deployed(write(tmp_path / "project", SHOP + TEST), open_account(boto3.session.Session()))


@pytest.fixture
def notifications(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The notification configuration of every bucket, for each session that begins later: moto does not give back that
    EventBridge is on."""
    configuration: dict[str, Any] = {"EventBridgeConfiguration": {}}
    answer = ("after-call.s3.GetBucketNotificationConfiguration", lambda parsed, **_: parsed.update(configuration))
    monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", [*botocore.handlers.BUILTIN_HANDLERS, answer])
    return configuration


@pytest.fixture
def call(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> Call:
    pipeline = str(deployed.located.root / "pipeline.py")

    def run(*arguments: str, target: str = "aws") -> tuple[int, str, str]:
        code = call_command([*arguments, "--pipeline", pipeline, "--target", target])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_put_and_status(call: Call, deployed: Deployed, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(GOOD)
    code, out, _ = call("put", str(tmp_path / "a.csv"), "--prefix", "orders")
    assert (code, out) == (0, "orders/a.csv  17 B  → orders, late_copies\n")
    code, out, _ = call("status")
    assert code == 0
    assert out.startswith("pipeline shop over stack shop in eu-central-1: deployed\nno history: AWS keeps none")
    assert " -  " in out


def test_json_has_the_same_fields_as_locally(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(GOOD)
    lake = ("--lake", str(tmp_path / "lake"))
    for command, rest in (
        ("put", (str(tmp_path / "a.csv"), "--key", "orders/a.csv")),
        ("status", ()),
        ("trace", ("orders/a.csv",)),
        ("failures", ()),
        ("failures", ("--rejected",)),
        ("redrive", ()),
        ("reconcile", ("--dry-run",)),
        ("replay", ("orders/*", "--dry-run")),
    ):
        code, on_aws, _ = call(command, *rest, "--json")
        code_here, here, _ = call(command, *rest, "--json", *lake, target="local")
        assert (code, code_here) == (0, 0)
        documents = [json.loads(on_aws), json.loads(here)]
        if command == "status":  # silver on S3 is not counted: that takes a request for each object
            counts = [[each.pop("silver") for each in document["transforms"]] for document in documents]
            assert (any(counts[0]), all(counts[1])) == (False, True)
            alarms = [document.pop("alarms") for document in documents]
            assert (alarms[0], alarms[1]["alarms"]) == (None, []), "on AWS CloudWatch has them"
        assert shape(documents[0]) == shape(documents[1]), command


def shape(value: Any) -> Any:
    """The names in a document, at every depth."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    return [shape(each) for each in value[:1]] if isinstance(value, list) else None


def test_the_schema_of_silver(call: Call, deployed: Deployed) -> None:
    code, _, err = call("schema", "orders")
    assert code == 1
    assert "nothing is recorded of orders in stack shop in eu-central-1" in err
    deployed.land("orders/a.csv")
    deployed.work("orders")
    code, out, err = call("schema", "orders")
    assert (code, err) == (0, "")
    assert "orders over stack shop in eu-central-1: version 1, of shop\n\nthe code that there is now (" in out
    assert "orders/a.csv\n       + " in out


@pytest.mark.full
def test_failed_files_are_tried_again(call: Call, deployed: Deployed) -> None:
    deployed.land("orders/b.csv", BAD)
    deployed.work("orders")
    deployed.bury(deployed.url("orders", "QueueDLQ"), "orders/c.csv")
    _, out, _ = call("failures")
    assert "MissingColumn" in out
    assert "orders/c.csv  (orders, queue shop_orders" in out
    code, out, err = call("redrive", "--key", "orders/c*")
    assert (code, err) == (0, "")
    assert "1 failure tried again" in out
    assert deployed.waiting("orders") == 1


def test_trace_of_an_unknown_key(call: Call) -> None:
    code, _, err = call("trace", "orders/a.csv")
    assert code == 1
    assert "nothing is known of the key orders/a.csv; AWS keeps none" in err


def test_reconcile_and_replay(call: Call, deployed: Deployed) -> None:
    deployed.land("orders/a.csv", tell=False)
    code, out, err = call("reconcile", "--transform", "orders")
    assert (code, err) == (0, "")
    assert "1 key looked at, 1 sent" in out
    deployed.work("orders")
    code, out, err = call("replay", "orders/*", "--transform", "orders", "--force")
    assert (code, err) == (0, "")
    assert "1 file sent" in out
    assert deployed.work("orders") == 1


def test_a_deployment_is_found_by_its_name(call: Call, deployed: Deployed) -> None:
    code, _, err = call("status", "--deployment", "test")
    assert code == 2
    assert "there is no stack test-shop in eu-central-1" in err
    Deployed(deployed.located, deployed.account, Deployment(prefix="test"))
    code, out, _ = call("status", "--deployment", "test")
    assert code == 0
    assert "test-dl-bronze-layer" in out


def test_doctor_says_which_hop_is_broken(call: Call, deployed: Deployed, notifications: dict[str, Any]) -> None:
    """Moto's CloudFormation makes neither subscriptions nor mappings."""
    code, out, _ = call("doctor", "--json")
    checks = {each["name"]: each for each in json.loads(out)["checks"]}
    assert code == 0
    assert checks["chain"]["found"] == (
        "EventBridge is on for dl-bronze-layer, 1 rule, 0 subscriptions, 0 event source mappings as deployed"
    )
    notifications.clear()
    deployed.account.client("events").disable_rule(Name="shop_Rule")
    code, out, _ = call("doctor")
    assert code == 1
    assert "fail  chain: EventBridge is switched off for the bucket dl-bronze-layer" in out
    assert "→ silversmith deploy switches it on again" in out
    assert "fail  chain: the rule shop_Rule is disabled" in out
    assert "→ aws events enable-rule --name shop_Rule" in out


def test_doctor_before_the_first_deploy(call: Call) -> None:
    code, out, _ = call("doctor", "--deployment", "test")
    assert code == 0
    assert "ok    chain: nothing is deployed yet" in out


def test_doctor_of_an_unknown_deployment(call: Call) -> None:
    code, out, _ = call("doctor", "--deployment", "other")
    assert code == 1
    assert "fail  chain: there is no deployment 'other'" in out


def test_options_that_exclude_each_other(call: Call) -> None:
    assert call("status", "--deployment", "test", target="local")[0] == 2
    assert call("status", "--endpoint-url", "http://127.0.0.1:1", target="local")[0] == 2
    code, _, err = call("status", "--lake", "elsewhere")
    assert code == 2
    assert "--lake is for --target local" in err


def test_take_over_before_there_is_a_stack(
    deployed: Deployed, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A pipeline that was renamed finds the buckets that its old stack left."""
    deployed.land("orders/a.csv")
    deployed.work("orders")
    capsys.readouterr()
    renamed = write(tmp_path / "renamed", SHOP.replace('Pipeline("shop"', 'Pipeline("store"'))
    arguments = ["--pipeline", str(renamed.root / "pipeline.py"), "--target", "aws", "--json"]
    assert call_command(["doctor", *arguments]) == 1
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["silver"]["found"] == "orders: it is shop's"
    assert call_command(["take-over", *arguments]) == 2
    capsys.readouterr()
    assert call_command(["take-over", *arguments, "--yes"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "owner": "store",
        "done": True,
        "taken": [{"transform": "orders", "from": ["shop"]}],
    }
    assert call_command(["doctor", *arguments]) == 0
    deployed.land("orders/b.csv")
    deployed.work("orders")
    assert deployed.waiting("orders", "QueueDLQ") == 1, "the old one is refused now"


def test_a_checkout_that_is_not_deployed(call: Call, deployed: Deployed) -> None:
    deployed.land("orders/a.csv")
    deployed.work("orders")
    path = deployed.located.root / "pipeline.py"
    path.write_text(path.read_text().replace("    return rows\n", "    return rows.reverse()\n", 1))
    code, out, err = call("reconcile", "--changed", "--transform", "orders")
    assert (code, out.splitlines()[-1]) == (0, "1 key looked at, 0 sent")
    assert "orders: the checkout differs from what is deployed (code)" in err


def test_erase_names_what_object_lock_keeps(call: Call, deployed: Deployed, tmp_path: Path) -> None:
    s3, bronze, key = deployed.s3, deployed.buckets["bronze"], "orders/a.csv"
    s3.put_object_lock_configuration(Bucket=bronze, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})
    until = datetime.now(UTC) + timedelta(days=9)
    retained = s3.put_object(
        Bucket=bronze, Key=key, Body=GOOD, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until
    )["VersionId"]
    on_hold = s3.put_object(Bucket=bronze, Key=key, Body=GOOD, ObjectLockLegalHoldStatus="ON")["VersionId"]
    deployed.land(key)
    deployed.work("orders")
    report = tmp_path / "report.json"
    code, out, err = call("erase", key, "--yes", "--report", str(report))
    assert code == 1
    document = json.loads(report.read_text())
    assert document["verified"] is False
    reasons = {each["version"]: each["reason"] for each in document["left"] if each["key"] == key}
    assert f"Object Lock keeps it until {until:%Y-%m-%d}" in reasons[retained]
    assert "a legal hold of Object Lock keeps it" in reasons[on_hold]
    assert silver_key("orders", key) in {each["key"] for each in document["deleted"]}
    for version in (retained, on_hold):
        assert f"LEFT  {bronze}/{key} version {version}" in err
    assert "left: see above" in out
    assert "Contents" not in s3.list_objects_v2(Bucket=bronze), "a delete marker hides it"


def test_orphans_leave_their_older_versions(call: Call, deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    """Of buckets that keep versions a plain delete takes nothing away: the command says so, and erase does."""
    s3, silver, key = deployed.s3, deployed.buckets["silver"], silver_key("orders", "orders/a.csv")
    for role in ("silver", "quarantine"):
        s3.put_bucket_versioning(Bucket=deployed.buckets[role], VersioningConfiguration={"Status": "Enabled"})
    for name in ("a", "b"):
        deployed.land(f"orders/{name}.csv")
    deployed.work("orders")
    deployed.work("late_copies")
    s3.delete_object(Bucket=deployed.buckets["bronze"], Key="orders/a.csv")
    capsys.readouterr()  # what the functions printed
    code, out, _ = call("reconcile", "--delete-orphans", "--dry-run", "--json")
    assert code == 0
    assert {(each["transform"], each["key"]) for each in json.loads(out)["orphans"]} == {
        (name, "orders/a.csv") for name in ("orders", "late_copies")
    }
    assert key in listed(s3, silver)
    code, out, _ = call("reconcile", "--delete-orphans", "--yes")
    assert (code, out.splitlines()[-1]) == (0, "2 orphans, 2 deleted")
    assert [each for each in listed(s3, silver) if each.endswith(".parquet")] == [
        silver_key(name, "orders/b.csv") for name in ("late_copies", "orders")
    ]
    versions = s3.list_object_versions(Bucket=silver, Prefix=key)
    assert (len(versions["Versions"]), len(versions["DeleteMarkers"])) == (1, 1)
    assert call("reconcile", "--delete-orphans", "--yes")[1] == "there are no orphans\n"
    assert call("erase", "orders/a.csv", "--yes")[0] == 0
    assert "Versions" not in s3.list_object_versions(Bucket=silver, Prefix=key)


def listed(s3: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
