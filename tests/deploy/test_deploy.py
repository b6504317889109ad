"""Deploy, diff, destroy against moto: what is made, what is left alone, and what is asked before."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest

from silversmith import Deployment, Pipeline
from silversmith.aws.account import Account, DeployError, NoAccount, open_account
from silversmith.aws.artefacts import Artefacts, configure_adopted, switch_eventbridge_on
from silversmith.aws.bundle import Bundle
from silversmith.aws.deploy import (
    LAYER_KEY,
    TABLES_LAYER_KEY,
    Release,
    deploy,
    diff,
    refuse_foreign_silver,
    release,
    runtime,
    status,
    with_layers,
)
from silversmith.aws.destroy import destroy, erase, take_inventory
from silversmith.aws.packages import Runtime
from silversmith.aws.stack import Diff, Effect, StackSettings
from silversmith.errors import AwsFailed, NotOurs
from silversmith.lineage import Lineage
from silversmith.pipeline import Located
from silversmith.schemas import Document
from silversmith.template import compile as compile_template
from tests.deploy.conftest import Notifications, moto_template

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


class Http(NamedTuple):
    """As much of an HTTP response as the SDK's client looks at."""

    status_code: int


def yes(_: Diff) -> bool:
    return True


def never(diff: Diff) -> bool:
    raise AssertionError("nothing is to be asked: " + "\n".join(diff.lines()))


def no_pause(_: float) -> None:
    """Moto is done at once."""


def longer(release: Release) -> Release:
    """The same with another time in it."""
    changed = json.loads(json.dumps(release.template))
    changed["Resources"]["SalesQueue"]["Properties"]["VisibilityTimeout"] = 77
    return replace(release, template=changed)


def visibility(account: Account) -> int:
    sqs = account.client("sqs")
    url = sqs.get_queue_url(QueueName="sales_sales")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    return int(attributes["VisibilityTimeout"])


def test_the_first_deployment_makes_everything(account: Account, small_release: Release) -> None:
    messages: list[str] = []
    done = deploy(small_release, account, confirm=yes, tell=messages.append, pause=no_pause)
    assert done.state is not None
    assert done.state.status == "CREATE_COMPLETE"
    assert {change.effect for change in done.diff.changes} == {Effect.ADD}
    function = account.client("lambda").get_function(FunctionName="sales_sales")["Configuration"]
    assert function["Runtime"] == "python3.13"
    # Moto gives no function its layers; the last test looks at the template.
    assert len(account.client("lambda").list_layers()["Layers"]) == 1
    assert messages[0] == "made the bucket silversmith-artefacts-123456789012-eu-central-1 for code and templates"
    assert any(line.startswith("uploading the packages") for line in messages)
    assert any("CREATE_COMPLETE" in line for line in messages)
    assert status("sales", account) == done.state


def test_nothing_is_done_again(account: Account, small_release: Release) -> None:
    deploy(small_release, account, confirm=yes, pause=no_pause)
    messages: list[str] = []
    before = status("sales", account)
    done = deploy(small_release, account, confirm=never, tell=messages.append, pause=no_pause)
    assert not done.diff
    assert messages == ["the packages have not changed", "the code has not changed"]
    assert status("sales", account) == before
    left = account.client("cloudformation").list_change_sets(StackName="sales")["Summaries"]
    assert [each for each in left if each["Status"] == "FAILED"] == []


def test_a_change_is_shown_and_made(account: Account, small_release: Release) -> None:
    deploy(small_release, account, confirm=yes, pause=no_pause)
    shown: list[str] = []

    def look_at(diff: Diff) -> bool:
        shown.extend(diff.lines())
        return True

    done = deploy(longer(small_release), account, confirm=look_at, pause=no_pause)
    assert shown[0].startswith("~ change: SalesQueue (AWS::SQS::Queue)")
    assert shown[1] == "    VisibilityTimeout: 1800 → 77"
    assert done.state is not None
    assert done.state.status == "UPDATE_COMPLETE"
    assert visibility(account) == 77


def test_unconfirmed_changes_are_not_made(account: Account, small_release: Release) -> None:
    assert deploy(small_release, account, confirm=lambda _: False, pause=no_pause).state is None
    assert status("sales", account) is None
    deploy(small_release, account, confirm=yes, pause=no_pause)
    done = deploy(longer(small_release), account, confirm=lambda _: False, pause=no_pause)
    assert done.state is None
    assert done.diff
    assert visibility(account) == 1800


def test_a_diff_changes_nothing(account: Account, small_release: Release) -> None:
    assert len(diff(small_release, account).changes) == len(small_release.template["Resources"])
    assert account.client("s3").list_buckets()["Buckets"] == []
    deploy(small_release, account, confirm=yes, pause=no_pause)
    assert not diff(small_release, account)
    assert diff(longer(small_release), account).lines()[1] == "    VisibilityTimeout: 1800 → 77"
    assert visibility(account) == 1800


class WithProtection:
    """A CloudFormation that can protect a stack, which moto's cannot."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.protected = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def describe_stacks(self, **asked: Any) -> Any:
        answer = self._client.describe_stacks(**asked)
        for stack in answer["Stacks"]:
            stack["EnableTerminationProtection"] = self.protected
        return answer

    def update_termination_protection(self, **asked: Any) -> None:
        assert asked["StackName"] == "sales"
        self.protected = asked["EnableTerminationProtection"]


def test_a_stack_is_protected_and_can_be_unlocked_again(account: Account, small_release: Release) -> None:
    cloudformation = WithProtection(account.client("cloudformation"))
    shielded = replace(
        account, client=lambda service: cloudformation if service == "cloudformation" else account.client(service)
    )
    protected = replace(small_release, settings=StackSettings(protected=True))
    assert diff(protected, shielded, pause=no_pause).lines()[-1] == "    EnableTerminationProtection: false → true"
    done = deploy(protected, shielded, confirm=yes, pause=no_pause)
    assert done.diff.changes[-1].kind == "AWS::CloudFormation::Stack"
    assert cloudformation.protected
    assert not diff(protected, shielded, pause=no_pause)
    with pytest.raises(DeployError, match="protected from deletion"):
        take_inventory("sales", shielded)
    messages: list[str] = []
    unlocked = replace(small_release, settings=StackSettings(protected=False))
    assert deploy(unlocked, shielded, confirm=never, tell=messages.append, pause=no_pause).changed
    assert messages[-1] == "termination protection is off now"
    assert take_inventory("sales", shielded) is not None


def bucket_of_before(account: Account, name: str = "dl-bronze-layer") -> Any:
    s3 = account.client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": account.region})
    return s3


def test_a_bucket_that_is_there_is_adopted_and_asked_about(
    account: Account, small_release: Release, notifications: Notifications
) -> None:
    bucket_of_before(account)
    notifications.configuration = {}
    result = diff(small_release, account, pause=no_pause)
    assert [change.lines() for change in result.adoptions] == [
        [
            "+ adopt: BronzeBucket (AWS::S3::Bucket)",
            "    VersioningConfiguration: off → Enabled",
            "    NotificationConfiguration: EventBridge is switched off, and deploying switches it on",
        ]
    ]
    asked: list[Diff] = []

    def no(diff: Diff) -> bool:
        asked.append(diff)
        return False

    assert deploy(small_release, account, confirm=no, pause=no_pause).state is None
    assert [change.logical for change in asked[0].adoptions] == ["BronzeBucket"]
    assert asked[0].losses == ()


def test_an_adopted_bucket_is_configured_and_looked_at(account: Account, notifications: Notifications) -> None:
    """Moto's CloudFormation imports nothing: so this is done alone here, and as a whole on MiniStack."""
    s3 = bucket_of_before(account)
    notifications.configuration = {"QueueConfigurations": []}
    properties = {
        "VersioningConfiguration": {"Status": "Enabled"},
        "NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": True}},
    }
    configure_adopted(account, "dl-bronze-layer", properties)
    assert s3.get_bucket_versioning(Bucket="dl-bronze-layer")["Status"] == "Enabled"
    assert notifications.configuration == {"QueueConfigurations": [], "EventBridgeConfiguration": {}}
    configure_adopted(account, "dl-bronze-layer", properties)
    assert len(notifications.puts) == 1

    def client(service: str) -> Any:
        aws_client = account.client(service)
        done = Http(200), {"ResponseMetadata": {"HTTPStatusCode": 200}}
        aws_client.meta.events.register("before-call.s3.PutBucketVersioning", lambda **_: done)
        return aws_client

    bucket_of_before(account, "deaf")
    with pytest.raises(
        DeployError, match=r"deaf is the stack's now, but not as .*: VersioningConfiguration: off → Ena"
    ):
        configure_adopted(replace(account, client=client), "deaf", properties)


def test_a_bucket_that_could_not_be_adopted_is_refused_before_anything_is_changed(
    account: Account, small_release: Release
) -> None:
    s3 = bucket_of_before(account)
    policy = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::dl-bronze-layer/*",
    }
    plain = boto3.session.Session("some", "thing", region_name="eu-central-1").client("s3")
    plain.put_bucket_policy(Bucket="dl-bronze-layer", Policy=json.dumps({"Statement": [policy]}))
    with pytest.raises(DeployError, match=r"dl-bronze-layer is there already, and has a policy of its own.*existing_b"):
        deploy(small_release, account, confirm=never, pause=no_pause)
    assert status("sales", account) is None
    s3.delete_bucket_policy(Bucket="dl-bronze-layer")
    theirs = replace(account, client=lambda service: refusing(account.client(service)))
    with pytest.raises(DeployError, match="is there already, and another account's, or you may not look at it"):
        diff(small_release, theirs, pause=no_pause)


def silver_of(account: Account, key: str, body: bytes = b"", **metadata: str) -> None:
    """A bucket of before with this in it."""
    s3 = account.client("s3")
    for bucket in ("dl-silver-layer", "dl-quarantine-layer"):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": account.region})
    s3.put_object(Bucket=key.partition("/")[0], Key=key.partition("/")[2], Body=body, Metadata=metadata)


MADE = Lineage("sales/a.csv", "e", "", 1, "", "sales", "f", 1, 1, 0, "2026-01-01", 1, owner="other").to_metadata()


@pytest.mark.parametrize(
    ("key", "body", "metadata"),
    [
        ("dl-silver-layer/_schemas/sales.json", Document("sales", owner="other").to_json(), {}),
        ("dl-silver-layer/sales/sales/a.csv.parquet", b"", MADE),
        ("dl-quarantine-layer/sales/sales/a.csv.rejected.parquet", b"", MADE),
        ("dl-quarantine-layer/sales/sales/a.csv.error.json", b'{"owner": "other"}', {}),
    ],
)
def test_the_silver_of_another_pipeline_is_refused_before_anything_is_changed(
    account: Account, small_release: Release, key: str, body: bytes, metadata: dict[str, str]
) -> None:
    silver_of(account, key, body, **metadata)
    with pytest.raises(NotOurs, match=rf"{re.escape(key)} belongs to the pipeline other, and this is sales"):
        deploy(small_release, account, confirm=never, pause=no_pause)
    assert status("sales", account) is None
    assert len(account.client("s3").list_buckets()["Buckets"]) == 2


def test_silver_that_is_nobodys_ours_or_taken_over_is_not_refused(account: Account, small_release: Release) -> None:
    refuse_foreign_silver(account, small_release.owner, small_release.transforms, pytest.fail)
    for document in (
        Document("sales"),
        Document("sales", owner="sales"),
        Document("sales", owner="sales", former=("other",)),
    ):
        silver_of(account, "dl-silver-layer/_schemas/sales.json", document.to_json())
        refuse_foreign_silver(account, small_release.owner, small_release.transforms, pytest.fail)
        for bucket in account.client("s3").list_buckets()["Buckets"]:
            empty(account, bucket["Name"])


def empty(account: Account, bucket: str) -> None:
    s3 = account.client("s3")
    for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
        s3.delete_object(Bucket=bucket, Key=each["Key"])
    s3.delete_bucket(Bucket=bucket)


def test_deploy_works_without_access_to_silver(account: Account, small_release: Release) -> None:
    """The functions look by themselves."""
    messages: list[str] = []
    forbidden = replace(account, client=lambda service: refusing(account.client(service)))
    refuse_foreign_silver(forbidden, small_release.owner, small_release.transforms, messages.append)
    assert messages[0].startswith(
        "whose silver it is cannot be seen, so the functions will look: AWS denied HeadBucket on"
    )


def refusing(client: Any) -> Any:
    answer = {"Error": {"Code": "403", "Message": "Forbidden"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    client.meta.events.register("before-call.s3", lambda **_: (Http(403), answer))
    return client


def test_destroy_keeps_the_data_and_says_what_goes(account: Account, small_release: Release) -> None:
    deploy(small_release, account, confirm=yes, pause=no_pause)
    account.client("s3").put_object(Bucket="dl-silver-layer", Key="a", Body=b"1")
    sqs = account.client("sqs")
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="sales_sales")["QueueUrl"], MessageBody="x")
    inventory = take_inventory("sales", account)
    assert inventory is not None
    assert sorted(inventory.buckets) == ["dl-bronze-layer", "dl-quarantine-layer", "dl-silver-layer"]
    assert {name: number for name, number in inventory.queued.items() if number} == {"sales_sales": 1}
    assert "SalesQueue (AWS::SQS::Queue)" in inventory.resources
    assert not any("AWS::S3::Bucket)" in each for each in inventory.resources)
    destroy("sales", account, pause=no_pause)
    destroy("sales", account, pause=no_pause)
    assert take_inventory("sales", account) is None
    assert account.client("s3").get_object(Bucket="dl-silver-layer", Key="a")["Body"].read() == b"1"


def kept(account: Account) -> Any:
    """A bucket with two versions and a delete marker."""
    s3 = account.client("s3")
    where = {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}}
    s3.create_bucket(Bucket="kept", **where)
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        s3.put_object(Bucket="kept", Key="a", Body=body)
    s3.delete_object(Bucket="kept", Key="a")
    return s3


def test_data_is_erased_only_when_asked_twice(account: Account, small_release: Release) -> None:
    deploy(small_release, account, confirm=yes, pause=no_pause)
    inventory = take_inventory("sales", account)
    assert inventory is not None
    inventory = replace(inventory, buckets=("kept",))
    s3 = kept(account)
    with pytest.raises(DeployError, match="destroy it first"):
        erase(inventory, account, asked=True, confirm=lambda _: True)
    destroy("sales", account, pause=no_pause)
    with pytest.raises(DeployError, match="only when that is asked for"):
        erase(inventory, account, asked=False, confirm=lambda _: True)
    assert erase(inventory, account, asked=True, confirm=lambda bucket: bucket != "kept") == ()
    assert len(s3.list_object_versions(Bucket="kept")["Versions"]) == 2
    assert erase(inventory, account, asked=True, confirm=lambda _: True) == ("kept",)
    assert "kept" not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert erase(inventory, account, asked=True, confirm=lambda _: True) == ()


def test_the_bucket_of_somebody_else_is_not_used(account: Account) -> None:
    """Moto takes ExpectedBucketOwner for nothing; AWS answers 403 where it is another."""

    def client(service: str) -> Any:
        aws_client = account.client(service)

        def check(params: dict[str, Any], **_: Any) -> Any:
            owner = params["headers"]["x-amz-expected-bucket-owner"]
            meta = {"HTTPStatusCode": 403, "RequestId": "R"}
            refused = Http(403), {"Error": {"Code": "403", "Message": "Forbidden"}, "ResponseMetadata": meta}
            return refused if owner != "999999999999" else None

        aws_client.meta.events.register("before-call.s3.HeadBucket", check)
        return aws_client

    with pytest.raises(DeployError, match="is another account's"):
        Artefacts(replace(account, client=client)).ensure_bucket()


def test_the_bucket_for_code_is_nobody_elses_and_takes_no_plain_http(account: Account) -> None:
    policies: list[dict[str, Any]] = []

    def client(service: str) -> Any:
        aws_client = account.client(service)
        aws_client.meta.events.register(
            "provide-client-params.s3.PutBucketPolicy",
            lambda params, **_: policies.append(json.loads(params["Policy"])),
        )
        return aws_client

    artefacts = Artefacts(replace(account, client=client, partition="aws-cn"))
    assert artefacts.ensure_bucket()
    assert not artefacts.ensure_bucket()
    blocked = account.client("s3").get_public_access_block(Bucket=artefacts.bucket)["PublicAccessBlockConfiguration"]
    assert set(blocked.values()) == {True}
    ((statement,),) = [policy["Statement"] for policy in policies]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"][0] == f"arn:aws-cn:s3:::{artefacts.bucket}"


def test_an_existing_bucket_must_be_there_and_in_this_region(account: Account, small_release: Release) -> None:
    theirs = replace(small_release, existing={"bronze": "theirs"})
    with pytest.raises(AwsFailed, match="the bucket theirs, which the deployment says is there already"):
        deploy(theirs, account, confirm=never, pause=no_pause)
    north = boto3.session.Session("some", "thing", region_name="eu-north-1").client("s3")
    north.create_bucket(Bucket="theirs", CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
    with pytest.raises(DeployError, match="is in eu-north-1, and the stack would be in eu-central-1"):
        deploy(theirs, account, confirm=never, pause=no_pause)
    assert status("sales", account) is None


def test_a_stack_of_somebody_elses_is_left_alone(account: Account, small_release: Release) -> None:
    body = json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}})
    account.client("cloudformation").create_stack(StackName="sales", TemplateBody=body)
    with pytest.raises(DeployError, match="and not Silversmith's: give the pipeline another name"):
        deploy(small_release, account, confirm=never, pause=no_pause)
    with pytest.raises(DeployError, match="not Silversmith's"):
        diff(small_release, account, pause=no_pause)
    with pytest.raises(DeployError, match="not Silversmith's"):
        take_inventory("sales", account)


def test_an_interrupted_question_leaves_no_change_set(account: Account, small_release: Release) -> None:
    def interrupt(_: Diff) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy(small_release, account, confirm=interrupt, pause=no_pause)
    assert status("sales", account) is None


def test_an_existing_bucket_gets_notifications_and_keeps_its_own(
    account: Account, notifications: Notifications
) -> None:
    theirs = {"Id": "theirs", "QueueArn": "arn:aws:sqs:eu-central-1:123456789012:q", "Events": ["s3:ObjectRemoved:*"]}
    notifications.configuration = {"QueueConfigurations": [theirs]}
    s3 = account.client("s3")
    s3.create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    account.client("sqs").create_queue(QueueName="q")
    assert switch_eventbridge_on(account, "mine")
    assert notifications.configuration == {"QueueConfigurations": [theirs], "EventBridgeConfiguration": {}}
    assert not switch_eventbridge_on(account, "mine")


def test_without_a_region_there_is_no_account() -> None:
    class Session:
        region_name = None

    with pytest.raises(NoAccount, match="AWS_REGION"):
        open_account(Session())


def test_the_layer_is_added_to_every_function_and_nothing_else(sales: Pipeline) -> None:
    compiled = compile_template(sales)
    layered = with_layers(compiled, "sales")
    assert runtime(compiled) == Runtime("arm64", "3.13")
    functions = [each for each in layered["Resources"].values() if each["Type"] == "AWS::Lambda::Function"]
    assert functions
    assert all(each["Properties"]["Layers"] == [{"Ref": "PackagesLayer"}] for each in functions)
    for each in functions:
        del each["Properties"]["Layers"]
    del layered["Resources"]["PackagesLayer"]
    del layered["Parameters"][LAYER_KEY]
    assert layered == compiled


def test_layers_of_the_users_stay_before_the_packages(sales: Pipeline) -> None:
    layer = "arn:aws:lambda:eu-central-1:123456789012:layer:tools:3"
    layered = with_layers(compile_template(sales, deployment=Deployment(layers=(layer,))), "sales")
    layers = [
        each["Properties"]["Layers"]
        for each in layered["Resources"].values()
        if each["Type"] == "AWS::Lambda::Function"
    ]
    assert sorted(layers, key=len) == [[{"Ref": "PackagesLayer"}], [layer, {"Ref": "PackagesLayer"}]]


def shop() -> Pipeline:
    pipeline = Pipeline("sales")
    pipeline.sql("sales/*.csv", "SELECT * FROM rows", name="sales")
    pipeline.table("sales", of="sales")
    return pipeline


def test_the_tables_function_has_a_layer_of_its_own() -> None:
    layered = with_layers(compile_template(shop()), "sales")
    layers = {
        logical: each["Properties"]["Layers"]
        for logical, each in layered["Resources"].items()
        if each["Type"] == "AWS::Lambda::Function"
    }
    (own,), (packages,) = layers.pop("Tables"), layers["SalesFunction"]
    assert all(each == [packages] for each in layers.values())
    contents = [layered["Resources"][each["Ref"]]["Properties"]["Content"]["S3Key"] for each in (own, packages)]
    assert contents == [{"Ref": TABLES_LAYER_KEY}, {"Ref": LAYER_KEY}]
    assert {TABLES_LAYER_KEY, LAYER_KEY} <= set(layered["Parameters"])


def test_a_release_with_tables_brings_their_code(
    account: Account, notifications: Notifications, small_release: Release, tmp_path: Path
) -> None:
    (tmp_path / "pipeline.py").write_text("")
    assert small_release.bundle is not None
    bundle = small_release.bundle
    tables = replace(bundle, function={"tables.json": tmp_path / "package.py"})
    asked: list[Any] = []

    def build(*inputs: Any, **_: Any) -> Bundle:
        asked.append(inputs)
        return tables

    pipeline = shop()
    result = release(
        Located(pipeline, "pipeline:pipeline", tmp_path, {}),
        account,
        tmp_path / "work",
        deployment=Deployment(existing_buckets=("silver",)),
        build=lambda *_, **__: bundle,
        build_tables=build,
    )
    assert asked == [(pipeline.tables, tmp_path, tmp_path / "work" / "tables")]
    assert (result.notifying, result.existing) == (("bronze", "silver"), {"silver": "dl-silver-layer"})
    known = {**result.parameters, "TablesCodeKey": "sales/tables.zip", TABLES_LAYER_KEY: "layers/tables.zip"}
    assert set(result.template["Parameters"]) == set(known)
    with pytest.raises(AwsFailed, match="the bucket dl-silver-layer, which the deployment says is there already"):
        deploy(result, account, confirm=never, pause=no_pause)
    place = {"LocationConstraint": "eu-central-1"}
    account.client("s3").create_bucket(Bucket="dl-silver-layer", CreateBucketConfiguration=place)
    notifications.configuration = {}
    messages: list[str] = []
    ours = replace(result, template=moto_template(result.template), parameters=known)
    # The stand-in for notifications knows one bucket.
    deploy(replace(ours, notifying=("silver",)), account, confirm=yes, tell=messages.append, pause=no_pause)
    for key in ("sales/tables.zip", "layers/tables.zip"):
        assert Artefacts(account).has(key)
    assert "the bucket dl-silver-layer now tells EventBridge of its objects" in messages
    notifications.configuration = {}
    silent = [change.logical for change in diff(ours, account, pause=no_pause).changes]
    assert silent == ["BronzeBucket", "SilverBucket"]


def test_objects_in_gold_are_kept(account: Account, small_release: Release) -> None:
    compiled = with_layers(compile_template(shop()), "sales")
    keys = {"TablesCodeKey": "sales/tables.zip", TABLES_LAYER_KEY: "layers/tables.zip"}
    gold = replace(
        small_release,
        template=moto_template(compiled),
        tables=small_release.bundle,
        parameters={**small_release.parameters, **keys},
    )
    deploy(gold, account, confirm=yes, pause=no_pause)
    inventory = take_inventory("sales", account)
    assert inventory is not None
    assert "dl-gold-layer" in inventory.buckets
    destroy("sales", account, pause=no_pause)
    account.client("s3").head_bucket(Bucket="dl-gold-layer")


def test_a_key_is_kept_as_long_as_what_it_encrypts(account: Account) -> None:
    body = {
        "Parameters": {name: {"Type": "String", "Default": "x"} for name in ("CodeBucket", "CodeKey")},
        "Resources": {
            "Key": {"Type": "AWS::KMS::Key", "DeletionPolicy": "Retain", "Properties": {"KeyPolicy": {}}},
            "Queue": {"Type": "AWS::SQS::Queue"},
        },
    }
    account.client("cloudformation").create_stack(StackName="sales", TemplateBody=json.dumps(body))
    inventory = take_inventory("sales", account)
    assert inventory is not None
    assert [each.partition(") ")[0] for each in inventory.kept] == ["Key (AWS::KMS::Key"]
    assert inventory.resources == ("Queue (AWS::SQS::Queue)",)
