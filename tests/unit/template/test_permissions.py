"""Every statement of every policy is needed for something, and none gives more than that.

The template holds all that a deployment can want. What must work is asked of its policies as AWS would ask, and so is
what must not. Whichever statement is taken out, one of the answers changes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from silversmith import Deployment, Pipeline, Secret, Vpc
from silversmith.errors import AccessDenied
from silversmith.lineage import error_key, failed_key, rejected_key, silver_key
from silversmith.local.iam import Policy, checker
from silversmith.local.stack import Template
from silversmith.reconcile.lease import lease_key
from silversmith.schemas import schema_key
from silversmith.template import compile as compile_template

Json = dict[str, Any]

ACCOUNT, REGION = "123456789012", "eu-central-1"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
BUCKET_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/of-quarantine"
EVERYTHING = Deployment(
    existing_buckets=("quarantine",),
    existing_keys=(BUCKET_KEY,),
    customer_key=True,
    alarm_email="ops@example.com",
    vpc=Vpc(subnets=("subnet-01234567",), security_groups=("sg-01234567",)),
)
TLS = {"aws:SecureTransport": "true", "aws:ResourceAccount": ACCOUNT}
PLAIN = TLS | {"aws:SecureTransport": "false"}
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:flights_Topic"
ALARMS = f"arn:aws:sns:{REGION}:{ACCOUNT}:flights_Alarms"
SILVER_TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:flights_SilverTopic"
SILVER_RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/flights_SilverRule"
RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/flights_Rule"
ALARM = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:flights-RuleDLQAlarm-1"
MAPPING = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:fa123456-14a1-4fd2-9fec-83de64ad683d"
OTHERS = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:other_late"
BRONZE_KEY = "late/a b.csv"
LOOKUP = "lookup/airlines.csv"
SECRET_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/of-secrets"
SECRETS = {
    "token": Secret(parameter="/{stack}/token", key=SECRET_KEY),
    "mail": Secret(parameter="mail"),
    "api": Secret(secret="shop/api", key=SECRET_KEY),
}
PARAMETER = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/flights/token"
API = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:shop/api-a1B2c3"
OWN = {"Sid": "ReadRates", "Action": "dynamodb:GetItem", "Resource": {"Fn::Sub": "arn:aws:dynamodb:${AWS::Region}:1:x"}}


@dataclass(frozen=True)
class Request:
    """``policies`` are the logical ids of those that AWS would ask, of an identity and of a resource."""

    policies: tuple[str, ...]
    action: str
    resource: str
    principal: str
    context: tuple[tuple[str, str], ...] = ()

    def passes(self, policies: Mapping[str, Policy]) -> bool:
        try:
            check = checker(
                [policies[name] for name in self.policies], principal=self.principal, context=dict(self.context)
            )
            check(self.action, self.resource)
        except AccessDenied:
            return False
        return True


def ask(*policies: str, do: str, on: str, by: str = "role", **context: str) -> list[Request]:
    """One request for each action. In the names of the context ``__`` is a colon."""
    inputs = tuple((name.replace("__", ":"), value) for name, value in context.items())
    return [Request(policies, action, on, by, inputs) for action in do.split()]


def queue(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:flights_{name}"


def function(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:flights_{name}"


def s3(bucket: str, key: str) -> str:
    return f"arn:aws:s3:::dl-{bucket}-layer/{key}"


@cache
def template() -> Json:
    pipeline = Pipeline("flights")
    pipeline.transform("late/*.csv", name="late", lookups=[LOOKUP], secrets=SECRETS, permissions=[OWN])(
        lambda rows, context: rows
    )
    pipeline.sql("orders/*.json", "SELECT * FROM rows", name="orders")
    pipeline.table("late_ones", of="late")
    pipeline.view("worst", "select max(minutes) as minutes from late_ones")
    return compile_template(pipeline, deployment=EVERYTHING)


def documents(properties: Json) -> list[Json]:
    """The policy documents of a resource's properties, those of a role's trust too."""
    actual = [properties[name] for name in ("PolicyDocument", "KeyPolicy") if name in properties]
    return [*actual, *(inline["PolicyDocument"] for inline in properties.get("Policies", []))]


def policies(template: Json) -> dict[str, Policy]:
    """By logical id; a role's trust under ``Trust`` and its logical id."""
    resolved = Template(template, account=ACCOUNT, region=REGION)
    actual = {}
    for logical, resource in template["Resources"].items():
        properties = resource["Properties"]
        parts = documents(properties)
        if parts:
            actual[logical] = Policy.parse(logical, *(resolved.value(part) for part in parts))
        if "AssumeRolePolicyDocument" in properties:
            trust = resolved.value(properties["AssumeRolePolicyDocument"])
            trust["Statement"] = [{**statement, "Resource": "*"} for statement in trust["Statement"]]
            actual[f"Trust{logical}"] = Policy.parse(logical, trust)
    return actual


def encrypted(by: str, **context: str) -> list[Request]:
    return ask("Key", do="kms:Decrypt kms:GenerateDataKey", on="the key", by=by, **context)


def with_key(role: str, service: str, key: str) -> list[Request]:
    via = {"kms__ViaService": f"{service}.{REGION}.amazonaws.com"}
    return ask(role, do="kms:Decrypt kms:GenerateDataKey", on=key, **via)


def decryption(service: str, **secret: str) -> list[Request]:
    """A secret is read, which a key of the user's encrypts."""
    context = {f"kms__EncryptionContext__{name}": arn for name, arn in secret.items()}
    return ask(
        "LateRole", do="kms:Decrypt", on=SECRET_KEY, kms__ViaService=f"{service}.{REGION}.amazonaws.com", **context
    )


KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/Key"
LOG_CONTEXT = "kms__EncryptionContext__aws__logs__arn"
LOGS_OF_LATE = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/flights_late"
SCHEDULES = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule-group/flights_Schedules"
TO_VPC = "ec2:CreateNetworkInterface ec2:DeleteNetworkInterface ec2:AssignPrivateIpAddresses"


def of_function(role: str, name: str, buckets: tuple[str, ...] = ("bronze", "silver", "quarantine")) -> list[Request]:
    """The requests of every function: to run, to use encrypted objects, and to know missing ones."""
    interface = f"arn:aws:ec2:{REGION}:{ACCOUNT}:network-interface/*"
    shared = f"arn:aws:ec2:{REGION}:999999999999:subnet/subnet-01234567"
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/flights_{name}:*"
    return [
        *ask(f"Trust{role}", do="sts:AssumeRole", on="it", by="lambda.amazonaws.com"),
        *ask(role, do="logs:CreateLogStream logs:PutLogEvents", on=logs),
        *ask(role, do=TO_VPC, on=interface),
        *ask(role, do="ec2:CreateNetworkInterface", on=shared),
        *ask(role, do="ec2:DescribeNetworkInterfaces ec2:DescribeSubnets", on="*"),
        *with_key(role, "s3", KEY),
        *with_key(role, "sqs", KEY),
        *with_key(role, "s3", BUCKET_KEY),
        *(each for bucket in buckets for each in listing(role, bucket)),
    ]


def listing(role: str, bucket: str) -> list[Request]:
    return ask(role, do="s3:ListBucket", on=f"arn:aws:s3:::dl-{bucket}-layer", **TLS)


def of_transform(role: str, name: str, key: str) -> list[Request]:
    received = "sqs:ReceiveMessage sqs:DeleteMessage sqs:ChangeMessageVisibility sqs:GetQueueAttributes"
    bronze, silver = (role, "BronzeBucketPolicy"), (role, "SilverBucketPolicy")
    write, bury = "s3:GetObject s3:PutObject s3:AbortMultipartUpload", "s3:DeleteObject"
    return [
        *ask(*bronze, do="s3:GetObject s3:GetObjectVersion", on=s3("bronze", key), **TLS),
        *ask(*silver, do=write, on=s3("silver", silver_key(name, key)), **TLS),
        *ask(*silver, do="s3:GetObject s3:PutObject", on=s3("silver", schema_key(name)), **TLS),
        *ask(role, do=f"{write} {bury}", on=s3("quarantine", rejected_key(name, key)), **TLS),
        *ask(role, do=f"{write} {bury}", on=s3("quarantine", failed_key(name, key)), **TLS),
        *ask(role, do=received, on=queue(name), **TLS),
        *ask(role, f"{name.title()}QueueDLQPolicy", do="sqs:SendMessage", on=queue(f"{name}_DLQ"), **TLS),
        *of_function(role, name),
    ]


def of_reconciler() -> list[Request]:
    role = "RoleOfReconciler"
    actual = [
        *of_function(role, "Reconciler"),
        *ask(role, "BronzeBucketPolicy", do="s3:GetObject", on=s3("bronze", LOOKUP), **TLS),
        *ask(role, do="lambda:InvokeFunction", on=function("Reconciler")),
        *ask(role, "ReconcilerDLQPolicy", do="sqs:SendMessage", on=queue("ReconcilerDLQ"), **TLS),
        *ask(role, do="s3:GetObject s3:PutObject", on=s3("quarantine", lease_key("flights_Reconciler")), **TLS),
        *ask(role, "BronzeBucketPolicy", do="s3:GetBucketNotification", on="arn:aws:s3:::dl-bronze-layer", **TLS),
        *ask(role, do="events:DescribeRule events:ListTargetsByRule", on=RULE),
        *ask(role, do="sns:ListSubscriptionsByTopic sns:GetSubscriptionAttributes", on=TOPIC),
        *ask(role, do="sns:GetSubscriptionAttributes", on=f"{TOPIC}:c8c7d8"),
        *ask(role, do="lambda:GetEventSourceMapping", on=MAPPING, lambda__FunctionArn=function("late")),
    ]
    for name, title, key in (("late", "Late", BRONZE_KEY), ("orders", "Orders", "orders/1.json")):
        send = "sqs:SendMessage sqs:GetQueueAttributes"
        actual += ask(role, do="sqs:GetQueueAttributes", on=queue(f"{name}_DLQ"), **TLS)
        actual += [
            *ask(role, "BronzeBucketPolicy", do="s3:GetObject", on=s3("bronze", key), **TLS),
            *ask(role, "SilverBucketPolicy", do="s3:GetObject", on=s3("silver", silver_key(name, key)), **TLS),
            *ask(role, "SilverBucketPolicy", do="s3:GetObject", on=s3("silver", schema_key(name)), **TLS),
            *ask(role, do="s3:GetObject", on=s3("quarantine", error_key(name, key)), **TLS),
            *ask(role, do="s3:GetObject", on=s3("quarantine", failed_key(name, key)), **TLS),
            *ask(role, f"{title}QueuePolicy", do=send, on=queue(name), **TLS),
        ]
    return actual


def of_tables() -> list[Request]:
    role, table = "RoleOfTables", "late_ones/_delta_log/00000000000000000007.json"
    received = "sqs:ReceiveMessage sqs:DeleteMessage sqs:ChangeMessageVisibility sqs:GetQueueAttributes"
    write = "s3:GetObject s3:PutObject s3:DeleteObject s3:AbortMultipartUpload"
    return [
        *of_function(role, "Tables", ("silver", "gold")),
        *ask(role, "SilverBucketPolicy", do="s3:GetObject", on=s3("silver", silver_key("late", BRONZE_KEY)), **TLS),
        *ask(role, "SilverBucketPolicy", do="s3:GetObject", on=s3("silver", schema_key("late")), **TLS),
        *ask(role, "GoldBucketPolicy", do=write, on=s3("gold", table), **TLS),
        *ask(role, "GoldBucketPolicy", do=write, on=s3("gold", "worst/part-0.parquet"), **TLS),
        *ask(role, do=received, on=queue("Tables"), **TLS),
        *ask(role, "DLQOfTablesPolicy", do="sqs:SendMessage", on=queue("TablesDLQ"), **TLS),
        *ask(role, "QueueOfTablesPolicy", do="sqs:SendMessage", on=queue("Tables"), **TLS),
        *ask(role, "ReconcilerDLQPolicy", do="sqs:SendMessage", on=queue("ReconcilerDLQ"), **TLS),
    ]


def needed() -> list[Request]:
    """Requests that must work."""
    from_topic, from_rule = TLS | {"aws__SourceArn": TOPIC}, TLS | {"aws__SourceArn": RULE}
    of_silver = TLS | {"aws__SourceArn": SILVER_TOPIC}
    from_alarm = {"aws__SourceArn": ALARM, "aws__SourceAccount": ACCOUNT}
    sns, events = "sns.amazonaws.com", "events.amazonaws.com"
    scheduled = {"aws__SourceArn": SCHEDULES, "aws__SourceAccount": ACCOUNT}
    logs = "kms:Encrypt kms:Decrypt kms:ReEncryptFrom kms:ReEncryptTo kms:GenerateDataKey kms:DescribeKey"
    actual = [
        *ask("TopicPolicy", do="sns:Publish", on=TOPIC, by=events, **TLS),
        *ask("AlarmTopicPolicy", do="sns:Publish", on=ALARMS, by="cloudwatch.amazonaws.com", **TLS, **from_alarm),
        *ask("RuleDLQPolicy", do="sqs:SendMessage", on=queue("RuleDLQ"), by=events, **from_rule),
        *ask("Key", do="kms:Decrypt kms:PutKeyPolicy", on="the key", by=ROOT),
        *encrypted(events),
        *encrypted(sns, aws__SourceArn=TOPIC),
        *ask("SilverTopicPolicy", do="sns:Publish", on=SILVER_TOPIC, by=events, **TLS),
        *ask(
            "SilverRuleDLQPolicy",
            do="sqs:SendMessage",
            on=queue("SilverRuleDLQ"),
            by=events,
            **TLS | {"aws__SourceArn": SILVER_RULE},
        ),
        *encrypted(sns, aws__SourceArn=SILVER_TOPIC),
        *ask("QueueOfTablesPolicy", do="sqs:SendMessage", on=queue("Tables"), by=sns, **of_silver),
        *ask(
            "SubscriptionDLQOfTablesPolicy",
            do="sqs:SendMessage",
            on=queue("TablesSubscriptionDLQ"),
            by=sns,
            **of_silver,
        ),
        *of_tables(),
        *encrypted("cloudwatch.amazonaws.com", **from_alarm),
        *ask("Key", do=logs, on="the key", by=f"logs.{REGION}.amazonaws.com", **{LOG_CONTEXT: LOGS_OF_LATE}),
        *of_transform("LateRole", "late", BRONZE_KEY),
        *ask("LateRole", "BronzeBucketPolicy", do="s3:GetObject s3:GetObjectVersion", on=s3("bronze", LOOKUP), **TLS),
        *ask("LateRole", do="ssm:GetParameter", on=PARAMETER),
        *ask("LateRole", do="ssm:GetParameter", on=PARAMETER.replace("flights/token", "mail")),
        *ask("LateRole", do="secretsmanager:GetSecretValue", on=API),
        *decryption("ssm", PARAMETER_ARN=PARAMETER),
        *decryption("secretsmanager", SecretARN=API),
        *ask("LateRole", do="dynamodb:GetItem", on=f"arn:aws:dynamodb:{REGION}:1:x"),
        *of_transform("OrdersRole", "orders", "orders/1.json"),
        *of_reconciler(),
        *ask("TrustRoleOfSchedule", do="sts:AssumeRole", on="it", by="scheduler.amazonaws.com", **scheduled),
        *ask("RoleOfSchedule", do="lambda:InvokeFunction", on=function("Reconciler")),
        *ask("RoleOfSchedule", do="lambda:InvokeFunction", on=function("Tables")),
        *ask("RoleOfSchedule", do="sqs:SendMessage", on=queue("ReconcilerDLQ")),
        *with_key("RoleOfSchedule", "sqs", KEY),
    ]
    for name, title in (("late", "Late"), ("orders", "Orders")):
        for kind, suffix in (("Queue", ""), ("SubscriptionDLQ", "_SubscriptionDLQ")):
            to = {"on": queue(name + suffix), "by": sns}
            actual += ask(f"{title}{kind}Policy", do="sqs:SendMessage", **to, **from_topic)
    return actual


def refused() -> list[Request]:
    """Requests that must be refused."""
    role, by_code = "LateRole", {"lambda__SourceFunctionArn": function("late")}
    other_topic, foreign = "arn:aws:sns:eu-central-1:123456789012:flights_Topic2", "999999999999"
    from_bronze = {"aws__SourceArn": TOPIC}
    mine = {"aws__SourceArn": SCHEDULES, "aws__SourceAccount": foreign}
    return [
        *ask(role, do="s3:PutObject s3:DeleteObject", on=s3("bronze", BRONZE_KEY), **TLS),
        *ask(role, do="s3:GetObject", on=s3("bronze", "orders/1.json"), **TLS),
        *ask(role, do="s3:GetObject", on=s3("bronze", "lookup/salaries.csv"), **TLS),
        *ask(role, do="s3:GetObject", on=s3("bronze", f"{LOOKUP}.old"), **TLS),
        *ask(role, do="s3:PutObject", on=s3("bronze", LOOKUP), **TLS),
        *ask("OrdersRole", do="s3:GetObject", on=s3("bronze", LOOKUP), **TLS),
        *ask("OrdersRole", do="ssm:GetParameter", on=PARAMETER),
        *ask(role, do="ssm:GetParameter", on=f"{PARAMETER}/of-others"),
        *ask(role, do="ssm:GetParameter ssm:PutParameter", on=PARAMETER.replace("/token", "/password")),
        *ask(role, do="secretsmanager:GetSecretValue", on=API.replace("api-", "api-of-others-")),
        *ask(role, do="secretsmanager:PutSecretValue", on=API),
        *ask(role, do="kms:Decrypt", on=SECRET_KEY),
        *decryption("ssm", PARAMETER_ARN=f"{PARAMETER}2"),
        *decryption("s3", PARAMETER_ARN=PARAMETER),
        *decryption("secretsmanager", SecretARN=API.replace("shop/api", "shop/other")),
        *ask(role, do="s3:DeleteObject", on=s3("silver", silver_key("late", BRONZE_KEY)), **TLS),
        *ask(role, do="s3:PutObject", on=s3("silver", silver_key("orders", BRONZE_KEY)), **TLS),
        *ask(role, do="s3:PutObject", on=s3("silver", schema_key("orders")), **TLS),
        *ask(role, do="sqs:SendMessage sqs:PurgeQueue", on=queue("late"), **TLS),
        *ask(role, do="sqs:ReceiveMessage", on=queue("orders"), **TLS),
        *ask(role, do="sqs:ReceiveMessage sqs:PurgeQueue", on=queue("late_DLQ"), **TLS),
        *ask(role, do="sqs:SendMessage", on=queue("orders_DLQ"), **TLS),
        *ask(role, do="kms:Decrypt", on=KEY),
        *ask(role, do="kms:ScheduleKeyDeletion", on=KEY, kms__ViaService=f"s3.{REGION}.amazonaws.com"),
        *with_key(role, "sqs", BUCKET_KEY),
        *with_key(role, "dynamodb", KEY),
        *with_key("RoleOfSchedule", "s3", KEY),
        *(
            each
            for role, name in (
                *(("LateRole", "late"), ("OrdersRole", "orders")),
                *(("RoleOfReconciler", "Reconciler"), ("RoleOfTables", "Tables")),
            )
            for each in ask(
                role,
                do=f"{TO_VPC} ec2:DescribeSubnets",
                on=f"arn:aws:ec2:{REGION}:{ACCOUNT}:network-interface/*",
                lambda__SourceFunctionArn=function(name),
            )
        ),
        *ask(role, do="ec2:CreateVpc", on="*", **by_code),
        *ask("RoleOfReconciler", do="s3:PutObject", on=s3("silver", silver_key("late", BRONZE_KEY)), **TLS),
        *ask("RoleOfReconciler", do="s3:PutObject", on=s3("silver", schema_key("late")), **TLS),
        *ask("RoleOfReconciler", do="s3:GetObject", on=s3("quarantine", rejected_key("late", "a")), **TLS),
        *ask("RoleOfReconciler", do="s3:GetObject", on=s3("silver", "finance/secret.parquet"), **TLS),
        *ask("RoleOfReconciler", do="s3:PutObject", on=s3("quarantine", lease_key("other_Reconciler")), **TLS),
        *ask("RoleOfReconciler", do="s3:PutBucketNotification", on="arn:aws:s3:::dl-bronze-layer", **TLS),
        *ask("RoleOfReconciler", do="lambda:GetEventSourceMapping", on=MAPPING, lambda__FunctionArn=OTHERS),
        *ask("RoleOfReconciler", do="sqs:GetQueueAttributes", on=queue("late").replace("flights", "other"), **TLS),
        *ask("RoleOfReconciler", do="sns:GetSubscriptionAttributes", on=f"{TOPIC}2:c8c7d8"),
        *ask("RoleOfReconciler", do="sqs:ReceiveMessage sqs:SendMessage", on=queue("late_DLQ"), **TLS),
        *ask("RoleOfReconciler", do="lambda:InvokeFunction", on=function("late")),
        *ask("RoleOfSchedule", do="lambda:InvokeFunction", on=function("late")),
        *ask("RoleOfTables", do="s3:GetObject s3:PutObject s3:DeleteObject", on=s3("bronze", BRONZE_KEY), **TLS),
        *ask("RoleOfTables", do="s3:GetObject s3:PutObject", on=s3("quarantine", error_key("late", "a")), **TLS),
        *listing("RoleOfTables", "bronze"),
        *listing("RoleOfTables", "quarantine"),
        *ask("RoleOfTables", do="s3:PutObject s3:DeleteObject", on=s3("silver", silver_key("late", BRONZE_KEY)), **TLS),
        *ask("RoleOfTables", do="s3:PutObject", on=s3("silver", schema_key("late")), **TLS),
        *ask("RoleOfTables", do="s3:GetObject", on=s3("silver", silver_key("orders", "orders/1.json")), **TLS),
        *ask("RoleOfTables", do="s3:GetObject s3:PutObject", on=s3("gold", "of_others/part-0.parquet"), **TLS),
        *ask("RoleOfTables", do="sqs:ReceiveMessage", on=queue("late"), **TLS),
        *ask("RoleOfTables", do="sqs:SendMessage", on=queue("late"), **TLS),
        *ask("RoleOfTables", do="sqs:ReceiveMessage", on=queue("TablesDLQ"), **TLS),
        *ask(role, do="s3:GetObject s3:PutObject", on=s3("gold", "late_ones/part-0.parquet"), **TLS),
        *listing(role, "gold"),
        *listing("RoleOfReconciler", "gold"),
        *ask("QueueOfTablesPolicy", do="sqs:SendMessage", on=queue("Tables"), by="sns.amazonaws.com", **from_bronze),
        *ask("TrustRoleOfSchedule", do="sts:AssumeRole", on="it", by="scheduler.amazonaws.com", **mine),
        *ask("TrustRoleOfSchedule", do="sts:AssumeRole", on="it", by="scheduler.amazonaws.com"),
        *ask("TrustLateRole", do="sts:AssumeRole", on="it", by="ec2.amazonaws.com"),
        *ask(
            "LateQueuePolicy",
            do="sqs:SendMessage",
            on=queue("late"),
            by="sns.amazonaws.com",
            aws__SourceArn=other_topic,
        ),
        *ask("LateQueueDLQPolicy", do="sqs:SendMessage", on=queue("late_DLQ"), by="sns.amazonaws.com"),
        *ask("AlarmTopicPolicy", do="sns:Publish", on=ALARMS, by="cloudwatch.amazonaws.com", aws__SourceArn=ALARM),
        *encrypted("sns.amazonaws.com", aws__SourceArn=other_topic),
        *encrypted("cloudwatch.amazonaws.com", aws__SourceArn=ALARM, aws__SourceAccount=foreign),
        *encrypted(f"logs.{REGION}.amazonaws.com", **{LOG_CONTEXT: LOGS_OF_LATE.replace("flights_", "other_")}),
        *encrypted("s3.amazonaws.com"),
        *_in_plain_text(),
        *_in_buckets_of_others(),
    ]


def _in_buckets_of_others() -> Iterator[Request]:
    """Somebody deleted a bucket, and somebody else took its name."""
    for request in needed():
        if request.action.startswith("s3:"):
            yield replace(
                request, context=tuple({**dict(request.context), "aws:ResourceAccount": "999999999999"}.items())
            )


def _in_plain_text() -> Iterator[Request]:
    """Requests without TLS are refused even to a caller with all other rights, such as an administrator."""
    for logical, resource in template()["Resources"].items():
        kind = resource["Type"]
        if kind == "AWS::S3::BucketPolicy":
            bucket = template()["Resources"][resource["Properties"]["Bucket"]["Ref"]]["Properties"]["BucketName"]
            yield from ask("Administrator", logical, do="s3:GetObject", on=f"arn:aws:s3:::{bucket}/x", **PLAIN)
            yield from ask("Administrator", logical, do="s3:ListBucket", on=f"arn:aws:s3:::{bucket}", **PLAIN)
        elif kind in {"AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"}:
            (owner,) = resource["Properties"].get("Queues") or resource["Properties"]["Topics"]
            arn = Template(template(), account=ACCOUNT, region=REGION).arn(owner["Ref"])
            action = "sqs:SendMessage" if "Queues" in resource["Properties"] else "sns:Publish"
            yield from ask("Administrator", logical, do=action, on=arn, **PLAIN)


ADMINISTRATOR = Policy.parse("Administrator", {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})


def answers(template: Json) -> list[bool]:
    policies_of_stack = {"Administrator": ADMINISTRATOR, **policies(template)}
    return [request.passes(policies_of_stack) for request in (*NEEDED, *REFUSED)]


NEEDED, REFUSED = tuple(needed()), tuple(refused())


def statements() -> list[tuple[str, int, int, str]]:
    """Where each statement is: logical id, number of the document, number in it; and its Sid."""
    return [
        (logical, number, position, statement["Sid"])
        for logical, resource in template()["Resources"].items()
        for number, document in enumerate(documents(resource["Properties"]))
        for position, statement in enumerate(document["Statement"])
    ]


def test_needed_requests_work() -> None:
    policies_of_stack = policies(template())
    assert [request for request in NEEDED if not request.passes(policies_of_stack)] == []


def test_needless_requests_are_refused() -> None:
    policies_of_stack = {"Administrator": ADMINISTRATOR, **policies(template())}
    assert [request for request in REFUSED if request.passes(policies_of_stack)] == []


@pytest.mark.parametrize(("logical", "number", "position", "sid"), statements(), ids=str)
def test_without_a_statement_something_changes(logical: str, number: int, position: int, sid: str) -> None:
    changed = copy.deepcopy(template())
    taken = documents(changed["Resources"][logical]["Properties"])[number]["Statement"].pop(position)
    assert taken["Sid"] == sid
    assert answers(changed) != [True] * len(NEEDED) + [False] * len(REFUSED)


def allowed() -> Iterator[tuple[str, Json]]:
    for logical, resource in template()["Resources"].items():
        for document in documents(resource["Properties"]):
            yield from ((logical, each) for each in document["Statement"] if each["Effect"] == "Allow")


def test_nothing_is_allowed_by_a_wildcard_but_what_aws_has_no_other_form_for() -> None:
    """A key's own policy says ``*`` for the key; EC2 describes everything or nothing."""

    def listed(value: Any) -> list[Any]:
        return value if isinstance(value, list) else [value]

    actions = {(logical, action) for logical, each in allowed() for action in listed(each["Action"]) if "*" in action}
    assert actions == {("Key", "kms:*")}
    everything = {(logical, each["Sid"]) for logical, each in allowed() if "*" in listed(each["Resource"])}
    looks = {(role, "SeeNetwork") for role in ("LateRole", "OrdersRole", "RoleOfReconciler", "RoleOfTables")}
    assert {(logical, sid) for logical, sid in everything if logical != "Key"} == looks
    anybody = [each for _, each in allowed() if each.get("Principal") == "*"]
    assert anybody == []


def test_every_service_is_bound_to_what_it_acts_for() -> None:
    """But EventBridge for the topics, and for the key that encrypts them: with any Condition it could not publish.

    https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
    """
    services = {
        (logical, each["Sid"])
        for logical, each in allowed()
        if "Service" in each.get("Principal", {}) and "Condition" not in each
    }
    assert services == {(f"{stage}TopicPolicy", "PublishEvents") for stage in ("", "Silver")} | {("Key", "LetEventsIn")}
