"""Each option of a deployment changes what it says, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from silversmith import DefinitionError, Deployment, ObjectLock, Pipeline, Vpc
from silversmith.local.stack import StackResources, read
from silversmith.pipeline.deployment import ROLES
from silversmith.template import compile as compile_template

Json = dict[str, Any]

VPC = Vpc(subnets=("subnet-01234567", "subnet-89abcdef"), security_groups=("sg-01234567",))
KEY = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
LAYER = "arn:aws:lambda:eu-central-1:123456789012:layer:tools:3"
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
READERS = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::210987654321:root"}, "Action": "s3:GetObject"}
OPTIONS: dict[str, Deployment] = {
    "prefix": Deployment(prefix="test"),
    "buckets": Deployment(bronze="raw", silver="clean", quarantine="bad"),
    "existing": Deployment(existing_buckets=ROLES, existing_keys=(KEY,)),
    "customer_key": Deployment(customer_key=True),
    "tags": Deployment(tags={"team": "lake"}),
    "log_retention_days": Deployment(log_retention_days=7),
    "alarm_email": Deployment(alarm_email="ops@example.com"),
    "alarm_topic": Deployment(alarm_topic="arn:aws:sns:eu-central-1:123456789012:wake-me"),
    "mailed_with_key": Deployment(alarm_email="ops@example.com", customer_key=True),
    "no_reconciler": Deployment(reconcile_hours=0),
    "reconcile_hours": Deployment(reconcile_hours=6),
    "architecture": Deployment(architecture="x86_64"),
    "snap_start": Deployment(snap_start=True),
    "vpc": Deployment(vpc=VPC),
    "vpc_of_one": Deployment(vpc={"late": VPC}),
    "layers": Deployment(layers=(LAYER,)),
    "permissions_boundary": Deployment(permissions_boundary=BOUNDARY),
    "ephemeral_storage": Deployment(ephemeral_storage={"late": 4096}),
    "alarm_bad_share": Deployment(alarm_bad_share=0.05),
    "alarm_on": Deployment(alarm_on=("quarantine", "rejected>5%", "silent>24h")),
    "reserved_concurrency": Deployment(reserved_concurrency=3),
    "provisioned_concurrency": Deployment(provisioned_concurrency={"late": 2}),
    "old_versions_days": Deployment(old_versions_days=7),
    "old_versions_kept": Deployment(old_versions_days=0),
    "bucket_policies": Deployment(bucket_policies={"silver": [{**READERS, "Sid": "Readers"}]}),
    "access_logs": Deployment(access_logs="acme-access-logs"),
    "object_lock": Deployment(object_lock=ObjectLock(days=7)),
    "openlineage": Deployment(openlineage="https://lineage.example.com"),
    "image": Deployment(image=True),
    "replicate_to": Deployment(replicate_to={"quarantine": "acme-copy"}),
}


def pipeline(on_delete: str = "keep") -> Pipeline:
    definition = Pipeline("flights", on_delete=on_delete)
    definition.sql("late/*.csv", "SELECT * FROM rows", name="late")
    definition.sql("orders/*.json", "SELECT * FROM rows", name="orders", maximum_concurrency=3)
    return definition


def compiled(option: str) -> Json:
    return compile_template(pipeline(), deployment=OPTIONS[option])


PLAIN = compile_template(pipeline())


def of_type(template: Json, kind: str) -> dict[str, Json]:
    return {
        logical: resource["Properties"]
        for logical, resource in template["Resources"].items()
        if resource["Type"] == f"AWS::{kind}"
    }


def changed(before: Json, after: Json, path: str = "") -> Iterator[str]:
    """Where two templates differ: the paths to the properties, down to the second below a resource."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        here = f"{path}{name}"
        if old == new:
            continue
        if here.count(".") < 2 and isinstance(old, dict) and isinstance(new, dict):
            yield from changed(old, new, f"{here}.")
        else:
            yield here


def differences(option: str) -> set[str]:
    """Resource types and their properties that differ from the plain template; whole types, where there are more."""
    actual, after = set(), compiled(option)["Resources"]
    before = PLAIN["Resources"]
    for path in changed(before, after):
        logical, *rest = path.split(".")
        kind = (after.get(logical) or before[logical])["Type"].removeprefix("AWS::")
        actual.add(".".join([kind, *rest[1:]]))
    return actual


FUNCTION, ROLE = "Lambda::Function", "IAM::Role"


@pytest.mark.parametrize(
    ("option", "where"),
    [
        ("tags", set()),
        ("log_retention_days", {"Logs::LogGroup.RetentionInDays"}),
        ("alarm_topic", {"CloudWatch::Alarm.AlarmActions"}),
        ("alarm_bad_share", {"CloudWatch::Alarm"}),
        ("alarm_on", {"CloudWatch::Alarm"}),
        (
            "alarm_email",
            {"CloudWatch::Alarm.AlarmActions", "SNS::Topic", "SNS::TopicPolicy", "SNS::Subscription"},
        ),
        (
            "no_reconciler",
            {
                *("SQS::Queue", "SQS::QueuePolicy", "Logs::LogGroup", ROLE, FUNCTION, "CloudWatch::Alarm"),
                *("Scheduler::ScheduleGroup", "Scheduler::Schedule"),
            },
        ),
        ("reconcile_hours", {"Scheduler::Schedule.ScheduleExpression"}),
        ("architecture", {f"{FUNCTION}.Architectures"}),
        (
            "snap_start",
            {
                *(f"{FUNCTION}.SnapStart", "Lambda::Version", "Lambda::Alias"),
                "Lambda::EventSourceMapping.FunctionName",
            },
        ),
        ("old_versions_days", {"S3::Bucket.LifecycleConfiguration"}),
        ("old_versions_kept", {"S3::Bucket.LifecycleConfiguration"}),
        ("bucket_policies", {"S3::BucketPolicy.PolicyDocument"}),
        ("access_logs", {"S3::Bucket.LoggingConfiguration"}),
        ("object_lock", {"S3::Bucket.ObjectLockEnabled", "S3::Bucket.ObjectLockConfiguration"}),
        (
            "replicate_to",
            {
                *("S3::Bucket.VersioningConfiguration", "S3::Bucket.LifecycleConfiguration"),
                *("S3::Bucket.ReplicationConfiguration", ROLE),
            },
        ),
        ("vpc", {f"{FUNCTION}.VpcConfig", f"{ROLE}.Policies"}),
        ("vpc_of_one", {f"{FUNCTION}.VpcConfig", f"{ROLE}.Policies"}),
        ("layers", {f"{FUNCTION}.Layers"}),
        (
            "image",
            {f"{FUNCTION}.{name}" for name in ("PackageType", "ImageConfig", "Code", "Runtime", "Handler")},
        ),
        ("permissions_boundary", {f"{ROLE}.PermissionsBoundary"}),
        ("ephemeral_storage", {f"{FUNCTION}.EphemeralStorage"}),
        (
            "reserved_concurrency",
            {f"{FUNCTION}.ReservedConcurrentExecutions", "Lambda::EventSourceMapping.ScalingConfig"},
        ),
        (
            "provisioned_concurrency",
            {"Lambda::Version", "Lambda::Alias", "Lambda::EventSourceMapping.FunctionName"},
        ),
        (
            "customer_key",
            {
                *("KMS::Key", "KMS::Alias", "S3::Bucket.BucketEncryption", "SNS::Topic.KmsMasterKeyId"),
                *("SQS::Queue.KmsMasterKeyId", "SQS::Queue.SqsManagedSseEnabled", "Logs::LogGroup.KmsKeyId"),
                *(f"{FUNCTION}.KmsKeyArn", f"{ROLE}.Policies"),
            },
        ),
    ],
)
def test_an_option_changes_what_it_is_about(option: str, where: set[str]) -> None:
    assert {result for result in differences(option) if not result.endswith(".Tags")} == where


def test_one_transform_may_have_a_vpc_or_layers_of_its_own() -> None:
    placed = compile_template(pipeline(), deployment=Deployment(vpc={"late": VPC}, layers={"orders": (LAYER,)}))
    with_vpc, with_layers = (
        {logical for logical, properties in of_type(placed, FUNCTION).items() if name in properties}
        for name in ("VpcConfig", "Layers")
    )
    assert (with_vpc, with_layers) == ({"LateFunction"}, {"OrdersFunction"})
    network = {
        logical
        for logical, properties in of_type(placed, ROLE).items()
        if "MakeNetworkInterfaces" in json.dumps(properties)
    }
    assert network == {"LateRole"}
    with pytest.raises(DefinitionError, match="the deployment's layers speaks of orderz"):
        compile_template(pipeline(), deployment=Deployment(layers={"orderz": (LAYER,)}))


def test_only_on_delete_remove_changes_rules_and_rights() -> None:
    after = compile_template(pipeline("remove"))
    assert set(changed(PLAIN["Resources"], after["Resources"])) == {
        "Rule.Properties.EventPattern",
        "LateRole.Properties.Policies",
        "OrdersRole.Properties.Policies",
    }
    before = of_type(PLAIN, "Events::Rule")["Rule"]["EventPattern"]
    pattern = of_type(after, "Events::Rule")["Rule"]["EventPattern"]
    assert pattern == before | {"detail-type": ["Object Created", "Object Restore Completed", "Object Deleted"]}
    policies = [of_type(template, "IAM::Role")["LateRole"]["Policies"] for template in (PLAIN, after)]
    old, new = (policy[0]["PolicyDocument"]["Statement"] for policy in policies)
    (difference,) = [(earlier, later) for earlier, later in zip(old, new, strict=True) if earlier != later]
    assert difference[0]["Sid"] == "WriteSilver"
    assert difference[1] == difference[0] | {"Action": [*difference[0]["Action"], "s3:DeleteObject"]}
    assert {key for key in after if after[key] != PLAIN[key]} == {"Resources"}


def used(template: Json) -> set[tuple[str, str]]:
    """Resource types and their properties."""
    return {(each["Type"], name) for each in template["Resources"].values() for name in each.get("Properties", {})}


@pytest.mark.parametrize("option", OPTIONS)
def test_resources_of_an_option_are_in_a_golden_template_too(option: str) -> None:
    """So that cfn-lint and checkov, which are slow, need to look at those only."""
    golden = [json.loads(path.read_text()) for path in (Path(__file__).parent / "golden").glob("*.json")]
    assert used(compiled(option)) <= set().union(*map(used, golden))


def chain(stack: StackResources) -> Json:
    """The properties of all hops that a message on its way could notice."""
    names = {
        **{queue.arn: queue.name for queue in stack.queues},
        **{topic.arn: topic.name for topic in stack.topics},
        **{function.arn: function.name for function in stack.functions},
    }
    actual = {
        "published": [
            [(names[each], names[rule.dead_letter_arn or ""]) for each in rule.targets] for rule in stack.rules
        ],
        "delivered": [
            (names[each.topic_arn], names[each.queue_arn], names[each.dead_letter_arn or ""], each.raw)
            for each in stack.subscriptions
        ],
        "kept": [
            (each.name, each.visibility_timeout, each.max_receive_count, names.get(each.dead_letter_arn or ""))
            for each in stack.queues
            if "Reconciler" not in each.name
        ],
        "worked": [
            (names[each.queue_arn], names[each.function_arn], each.batch_size, each.window) for each in stack.mappings
        ],
    }
    unprefixed: Json = json.loads(json.dumps(actual).replace('"test-', '"'))
    return unprefixed


@pytest.mark.parametrize("option", OPTIONS)
def test_the_local_engine_finds_the_same_chain_in_it(option: str) -> None:
    assert chain(read(compiled(option))) == chain(read(PLAIN))


def test_a_prefix_is_before_every_name() -> None:
    names = {
        *("BucketName", "TopicName", "QueueName", "FunctionName", "Name", "GroupName", "RuleName", "AliasName"),
        "LogGroupName",
    }
    actual = [
        value.removeprefix("/aws/lambda/")
        for resource in compiled("prefix")["Resources"].values()
        for name, value in resource.get("Properties", {}).items()
        if name in names and isinstance(value, str)
    ]
    assert len(actual) > 15
    assert all(value.startswith("test-") for value in actual)
    assert '"flights_' not in json.dumps(compiled("prefix"))


def test_functions_and_rules_get_the_deployment_s_buckets() -> None:
    template = compiled("buckets")
    for function in of_type(template, FUNCTION).values():
        variables = function["Environment"]["Variables"]
        assert [variables[f"SILVERSMITH_{role.upper()}"] for role in ROLES] == ["raw", "clean", "bad"]
    assert of_type(template, "Events::Rule")["Rule"]["EventPattern"]["detail"]["bucket"] == {"name": ["raw"]}
    assert [each["BucketName"] for each in of_type(template, "S3::Bucket").values()] == ["raw", "clean", "bad"]


def test_existing_buckets_are_not_touched() -> None:
    template = compiled("existing")
    assert not of_type(template, "S3::Bucket")
    assert not of_type(template, "S3::BucketPolicy")
    assert "BronzeBucket" not in json.dumps(template["Resources"])
    assert template["Outputs"]["BronzeBucketName"]["Value"] == "dl-bronze-layer"
    assert template["Outputs"]["SilverBucketName"]["Value"] == "dl-silver-layer"


def rules(template: Json, bucket: str) -> dict[str, Json]:
    """The rules of a bucket's lifecycle by their ids."""
    configuration = of_type(template, "S3::Bucket")[bucket]["LifecycleConfiguration"]
    return {rule["Id"]: rule for rule in configuration["Rules"]}


def test_old_versions_go_where_there_are_any_unless_they_are_to_be_kept() -> None:
    old = {
        "Id": "OldVersions",
        "Status": "Enabled",
        "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        "ExpiredObjectDeleteMarker": True,
    }
    assert rules(PLAIN, "BronzeBucket")["OldVersions"] == old
    assert rules(compiled("replicate_to"), "QuarantineBucket")["OldVersions"] == old
    assert list(rules(PLAIN, "SilverBucket")) == ["AbandonedUploads"]
    assert list(rules(compiled("old_versions_kept"), "BronzeBucket")) == ["AbandonedUploads"]


def test_a_statement_of_a_policy_is_for_the_bucket_and_all_that_is_in_it() -> None:
    before, after = (of_type(each, "S3::BucketPolicy") for each in (PLAIN, compiled("bucket_policies")))
    (tls,) = before["SilverBucketPolicy"]["PolicyDocument"]["Statement"]
    assert after["SilverBucketPolicy"]["PolicyDocument"]["Statement"] == [
        tls,
        {"Resource": tls["Resource"], **READERS, "Sid": "Readers"},
    ]
    assert after["BronzeBucketPolicy"] == before["BronzeBucketPolicy"]


def test_a_copy_is_made_with_a_role_that_may_do_no_more() -> None:
    template = compiled("replicate_to")
    copying = of_type(template, "S3::Bucket")["QuarantineBucket"]["ReplicationConfiguration"]
    assert copying["Role"] == {"Fn::GetAtt": ["RoleOfReplication", "Arn"]}
    assert copying["Rules"][0]["Destination"] == {"Bucket": {"Fn::Sub": "arn:${AWS::Partition}:s3:::acme-copy"}}
    (needs,) = of_type(template, ROLE)["RoleOfReplication"]["Policies"]
    resources = json.dumps([each["Resource"] for each in needs["PolicyDocument"]["Statement"]])
    assert "dl-quarantine-layer" in resources
    assert "acme-copy/*" in resources
    assert "dl-bronze-layer" not in resources


@pytest.mark.parametrize(
    ("deployment", "says"),
    [
        (
            Deployment(object_lock=ObjectLock(days=1, buckets=("gold",))),
            "object_lock speaks of gold, .* no such bucket",
        ),
        (Deployment(replicate_to={"gold": "copy"}), "replicate_to speaks of gold, .* no such bucket"),
        (Deployment(access_logs="dl-bronze-layer"), "'dl-bronze-layer' is a bucket of the pipeline 'flights' itself"),
        (Deployment(replicate_to={"bronze": "dl-silver-layer"}), "'dl-silver-layer' is a bucket of the pipeline"),
    ],
)
def test_options_of_buckets_are_held_against_the_pipeline_s(deployment: Deployment, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        compile_template(pipeline(), deployment=deployment)


def test_everything_that_takes_tags_has_them() -> None:
    template = compiled("tags")
    tagged = {}
    for logical, resource in template["Resources"].items():
        inputs = {each["Key"]: each["Value"] for each in resource["Properties"].get("Tags", [])}
        if inputs:
            tagged[logical] = inputs
    untaggable = {template["Resources"][logical]["Type"] for logical in set(template["Resources"]) - set(tagged)}
    assert untaggable == {
        *("AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy", "AWS::SQS::QueuePolicy", "AWS::SNS::Subscription"),
        "AWS::Scheduler::Schedule",
    }
    assert all(inputs["team"] == "lake" for inputs in tagged.values())
    assert all(inputs["silversmith:pipeline"] == "flights" for inputs in tagged.values())
    assert tagged["LateQueue"]["silversmith:transform"] == "late"
    assert "silversmith:transform" not in tagged["Topic"]


def test_data_and_its_key_are_left_when_the_stack_is_deleted() -> None:
    kept = {
        resource["Type"]
        for resource in compiled("customer_key")["Resources"].values()
        if resource.get("DeletionPolicy") == resource.get("UpdateReplacePolicy") == "Retain"
    }
    assert kept == {"AWS::S3::Bucket", "AWS::KMS::Key"}


def test_the_customer_s_key_is_used_by_everything_that_keeps_something() -> None:
    template = compiled("mailed_with_key")
    key = {"Fn::GetAtt": ["Key", "Arn"]}
    used = {
        "SQS::Queue": "KmsMasterKeyId",
        "SNS::Topic": "KmsMasterKeyId",
        "Logs::LogGroup": "KmsKeyId",
        FUNCTION: "KmsKeyArn",
    }
    for kind, name in used.items():
        assert [each.get(name) for each in of_type(template, kind).values()] == [key] * len(of_type(template, kind))
    for bucket in of_type(template, "S3::Bucket").values():
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["BucketKeyEnabled"]
        assert rule["ServerSideEncryptionByDefault"] == {"KMSMasterKeyID": key, "SSEAlgorithm": "aws:kms"}
    assert template["Outputs"]["KeyArn"]["Value"] == key


def test_alarms_go_to_mail_and_topic() -> None:
    both = Deployment(alarm_email="ops@example.com", alarm_topic="arn:aws:sns:eu-central-1:123456789012:wake-me")
    template = compile_template(pipeline(), deployment=both)
    actions = [{"Ref": "AlarmTopic"}, "arn:aws:sns:eu-central-1:123456789012:wake-me"]
    alarms = of_type(template, "CloudWatch::Alarm")
    assert {
        "OrdersQueueDLQAlarm",
        "OrdersFunctionAlarm",
        "MissingAlarm",
        "UnfinishedAlarm",
        "ChainBrokenAlarm",
    } <= alarms.keys()
    assert [alarm["AlarmActions"] for alarm in alarms.values()] == [actions] * len(alarms)
    assert of_type(template, "SNS::Subscription")["AlarmEmail"]["Endpoint"] == "ops@example.com"


def test_numbers_are_those_of_each_transform() -> None:
    functions = of_type(compiled("ephemeral_storage"), FUNCTION)
    assert functions["LateFunction"]["EphemeralStorage"] == {"Size": 4096}
    assert "EphemeralStorage" not in functions["OrdersFunction"]
    assert "EphemeralStorage" not in functions["Reconciler"]


def test_a_queue_gives_no_more_than_is_reserved() -> None:
    """A batch that Lambda refuses counts as received."""
    template = compiled("reserved_concurrency")
    reserved = [each.get("ReservedConcurrentExecutions") for each in of_type(template, FUNCTION).values()]
    assert reserved == [3, 3, None]
    mappings = of_type(template, "Lambda::EventSourceMapping").values()
    assert [each["ScalingConfig"]["MaximumConcurrency"] for each in mappings] == [3, 3]
    plenty = compile_template(pipeline(), deployment=Deployment(reserved_concurrency={"late": 5000}))
    more = of_type(plenty, "Lambda::EventSourceMapping")
    assert more["LateMapping"]["ScalingConfig"] == {"MaximumConcurrency": 1000}
    assert more["OrdersMapping"]["ScalingConfig"] == {"MaximumConcurrency": 3}


def published(deployment: Deployment, memory: int = 512) -> Json:
    """The description of the published version, which decides whether another one is."""
    pipeline = Pipeline("flights")
    pipeline.sql("late/*.csv", "SELECT * FROM rows", name="late", memory=memory)
    description: Json = compile_template(pipeline, deployment=deployment)["Resources"]["LateVersion"]["Properties"]
    return description["Description"]  # type: ignore[no-any-return]


def test_a_version_is_published_only_for_other_code_or_configuration() -> None:
    first = published(Deployment(provisioned_concurrency=1))
    assert "${CodeKey}" in first["Fn::Sub"]
    for same in (
        Deployment(provisioned_concurrency=2),
        Deployment(provisioned_concurrency=1, reserved_concurrency=9),
        Deployment(provisioned_concurrency=1, tags={"a": "b"}),
    ):
        assert published(same) == first
    assert published(Deployment(provisioned_concurrency=1), memory=513) != first
    assert published(Deployment(provisioned_concurrency=1, ephemeral_storage=513)) != first
    assert published(Deployment(snap_start=True)) != first
    imaged = published(Deployment(provisioned_concurrency=1, image=True))
    assert imaged["Fn::Sub"].startswith("${SilversmithImage} configuration ")


def test_the_published_version_is_invoked() -> None:
    template = compiled("provisioned_concurrency")["Resources"]
    assert template["LateMapping"]["Properties"]["FunctionName"] == {"Ref": "LateAlias"}
    alias = template["LateAlias"]["Properties"]
    assert alias["FunctionVersion"] == {"Fn::GetAtt": ["LateVersion", "Version"]}
    assert alias["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": 2}
    assert template["OrdersMapping"]["Properties"]["FunctionName"] == {"Ref": "OrdersFunction"}


@pytest.mark.parametrize(
    ("deployment", "says"),
    [
        (
            Deployment(ephemeral_storage=MappingProxyType({"lat": 1024})),
            "ephemeral_storage speaks of lat, .* it has: late, orders",
        ),
        (Deployment(reserved_concurrency=2), "'orders' cannot .* maximum_concurrency=3 is more than reserved"),
        (Deployment(reserved_concurrency=3, provisioned_concurrency=4), "provisioned_concurrency=4 is more than"),
        (Deployment(silver="dl-bronze-layer"), "bronze and silver are both 'dl-bronze-layer'"),
    ],
)
def test_options_that_do_not_fit_the_pipeline_are_refused(deployment: Deployment, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        compile_template(pipeline(), deployment=deployment)


def test_names_that_get_too_long_by_the_prefix_are_refused() -> None:
    pipeline = Pipeline("p" * 20)
    pipeline.sql("late/*.csv", "SELECT * FROM rows", name="t" * 40)
    assert compile_template(pipeline)["Resources"]
    with pytest.raises(DefinitionError, match=r"cannot be deployed: its function's name .* Lambda takes 64"):
        compile_template(pipeline, deployment=Deployment(prefix="stage"))
    long = Pipeline("flights", bronze="b" * 60)
    long.sql("late/*.csv", "SELECT * FROM rows", name="late")
    with pytest.raises(DefinitionError, match=r"the bronze bucket's name 'stage-b.*must have 3 to 63 characters"):
        compile_template(long, deployment=Deployment(prefix="stage"))


def test_each_condition_is_an_alarm_of_each_transform() -> None:
    alarms = of_type(compiled("alarm_on"), "CloudWatch::Alarm")
    quarantine, rejected, silent = (alarms[f"Late{kind}Alarm"] for kind in ("Quarantine", "Rejected", "Silent"))
    assert (quarantine["MetricName"], quarantine["Statistic"], quarantine["Threshold"]) == (
        "FilesQuarantined",
        "Sum",
        1,
    )
    assert quarantine["TreatMissingData"] == rejected["TreatMissingData"] == "notBreaching"
    assert rejected["Threshold"] == 0.05
    assert (silent["MetricName"], silent["ComparisonOperator"]) == ("FilesCommitted", "LessThanThreshold")
    assert (silent["Period"], silent["EvaluationPeriods"], silent["TreatMissingData"]) == (3600, 24, "breaching")
    assert {f"Orders{kind}Alarm" for kind in ("Quarantine", "Rejected", "Silent")} <= set(alarms)


def test_a_share_by_alarm_on_is_that_of_alarm_bad_share() -> None:
    both = compile_template(pipeline(), deployment=Deployment(alarm_on=("quarantine>5%", "rejected>5%")))
    assert both["Resources"] == compiled("alarm_bad_share")["Resources"]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ("quarantine", "must be a tuple"),
        (("quarantined",), "there are 'quarantine'"),
        (("rejected>5",), "there are 'quarantine'"),
        (("rejected", "rejected>5%"), "names a kind twice"),
        (("rejected>100%",), "less than 100%"),
        (("silent>0h",), "1 hour to 7 days"),
        (("silent>8d",), "1 hour to 7 days"),
    ],
)
def test_a_condition_that_cannot_be(conditions: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Deployment(alarm_on=conditions)


def test_two_ways_to_say_the_same_exclude_each_other() -> None:
    with pytest.raises(DefinitionError, match="exclude each other"):
        Deployment(alarm_bad_share=0.1, alarm_on=("rejected",))
    assert Deployment(alarm_bad_share=0.1, alarm_on=("silent>3d",)).alarm_on == ("silent>3d",)
