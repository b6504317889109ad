"""Reading a template: references, defaults, what is refused; and that a compiled one allows what the chain does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import pytest

from silversmith import template
from silversmith.errors import AccessDenied
from silversmith.lineage import error_key, rejected_key, silver_key
from silversmith.local.iam import checker
from silversmith.local.kinds import UnsupportedTemplate
from silversmith.local.stack import StackResources, read
from silversmith.pipeline import Pipeline

Json = dict[str, Any]


def stack(**resources: Json) -> StackResources:
    return read({"Resources": resources}, account="123456789012", region="eu-central-1")


def queue(**properties: Any) -> Json:
    return {"Type": "AWS::SQS::Queue", "Properties": properties}


def test_references_are_resolved_for_the_account_and_region() -> None:
    parsed = stack(
        Orders=queue(QueueName={"Fn::Join": ["-", ["orders", {"Ref": "AWS::Region"}]]}),
        Late=queue(QueueName={"Fn::Sub": "late-${AWS::AccountId}-${Orders.QueueName}-${!literal}"}),
        Nameless=queue(RedrivePolicy={"deadLetterTargetArn": {"Fn::GetAtt": ["Orders", "Arn"]}, "maxReceiveCount": 3}),
    )
    assert [each.name for each in parsed.queues] == [
        "orders-eu-central-1",
        "late-123456789012-orders-eu-central-1-${literal}",
        "Nameless",
    ]
    assert parsed.queues[0].arn == "arn:aws:sqs:eu-central-1:123456789012:orders-eu-central-1"
    assert parsed.queues[0].url == "https://sqs.eu-central-1.amazonaws.com/123456789012/orders-eu-central-1"
    assert (parsed.queues[2].dead_letter_arn, parsed.queues[2].max_receive_count) == (parsed.queues[0].arn, 3)
    assert (parsed.account, parsed.region) == ("123456789012", "eu-central-1")


def test_parameters_have_their_default_and_outputs_are_resolved() -> None:
    parsed = read(
        {
            "Parameters": {"Stage": {"Type": "String", "Default": "test"}, "CodeKey": {"Type": "String"}},
            "Resources": {"Orders": queue(QueueName={"Fn::Sub": "orders-${Stage}-${CodeKey}"})},
            "Outputs": {"Url": {"Value": {"Ref": "Orders"}}},
        }
    )
    assert parsed.outputs == {"Url": "https://sqs.us-east-1.amazonaws.com/000000000000/orders-test-CodeKey"}


def test_absent_properties_have_awss_defaults() -> None:
    parsed = stack(
        Plain=queue(),
        Role={"Type": "AWS::IAM::Role", "Properties": {}},
        Function={
            "Type": "AWS::Lambda::Function",
            "Properties": {"Handler": "a.b", "Role": {"Fn::GetAtt": ["Role", "Arn"]}},
        },
        Mapping={
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {
                "EventSourceArn": {"Fn::GetAtt": ["Plain", "Arn"]},
                "FunctionName": {"Ref": "Function"},
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
            },
        },
        Topic={"Type": "AWS::SNS::Topic", "Properties": {}},
        Subscription={
            "Type": "AWS::SNS::Subscription",
            "Properties": {
                "TopicArn": {"Ref": "Topic"},
                "Protocol": "sqs",
                "Endpoint": {"Fn::GetAtt": ["Plain", "Arn"]},
            },
        },
        Rule={
            "Type": "AWS::Events::Rule",
            "Properties": {"EventPattern": {"source": ["a"]}, "Targets": [{"Id": "1", "Arn": {"Ref": "Topic"}}]},
        },
        Bucket={"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "bronze"}},
    )
    (plain,) = parsed.queues
    assert (plain.visibility_timeout, plain.retention, plain.delay) == (30, 345_600, 0)
    assert (plain.dead_letter_arn, plain.max_receive_count) == (None, 0)
    assert not plain.policy.allows("sqs:SendMessage", plain.arn, principal="sns.amazonaws.com")
    (function,) = parsed.functions
    assert (function.memory, function.timeout, function.reserved_concurrency) == (128, 3, None)
    (mapping,) = parsed.mappings
    assert (mapping.function_arn, mapping.queue_arn) == (function.arn, plain.arn)
    assert (mapping.batch_size, mapping.window, mapping.maximum_concurrency, mapping.filters) == (10, 0, None, ())
    (subscription,) = parsed.subscriptions
    assert (subscription.raw, subscription.filter) == (False, None)
    (rule,) = parsed.rules
    assert (rule.targets, rule.dead_letter_arn) == ((parsed.topics[0].arn,), None)
    (bucket,) = parsed.buckets
    assert (bucket.arn, bucket.eventbridge, bucket.versioned) == ("arn:aws:s3:::bronze", False, False)


def test_properties_without_meaning_on_one_machine_are_not_read() -> None:
    parsed = stack(
        Plain=queue(Tags=[{"Key": "team", "Value": "lake"}], KmsMasterKeyId={"Fn::GetAtt": ["Key", "Elsewhere"]}),
        AlarmTopic={"Type": "AWS::SNS::Topic", "Properties": {}},
        AlarmEmail={"Type": "AWS::SNS::Subscription", "Properties": {"Protocol": "email", "Endpoint": "a@example.com"}},
    )
    assert [each.name for each in parsed.queues] == ["Plain"]
    assert parsed.subscriptions == ()


def test_an_alias_and_a_version_are_the_function_itself() -> None:
    function = {"Handler": "a.b", "FunctionName": "late", "Role": {"Fn::GetAtt": ["Role", "Arn"]}}
    parsed = stack(
        Plain=queue(),
        Role={"Type": "AWS::IAM::Role", "Properties": {}},
        Function={"Type": "AWS::Lambda::Function", "Properties": function},
        Version={"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Function"}}},
        Alias={
            "Type": "AWS::Lambda::Alias",
            "Properties": {
                "FunctionName": {"Ref": "Function"},
                "FunctionVersion": {"Fn::GetAtt": ["Version", "Version"]},
                "Name": "live",
            },
        },
        Mapping={
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {
                "EventSourceArn": {"Fn::GetAtt": ["Plain", "Arn"]},
                "FunctionName": {"Ref": "Alias"},
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
            },
        },
    )
    (mapping,) = parsed.mappings
    assert mapping.function_arn == parsed.functions[0].arn


def test_a_role_may_do_what_its_own_and_the_attached_policies_allow() -> None:
    def document(action: str) -> Json:
        return {"Statement": [{"Sid": "A", "Effect": "Allow", "Action": action, "Resource": "*"}]}

    parsed = stack(
        More={"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": document("s3:PutObject")}},
        Role={
            "Type": "AWS::IAM::Role",
            "Properties": {
                "Policies": [{"PolicyName": "Needs", "PolicyDocument": document("s3:GetObject")}],
                "ManagedPolicyArns": [{"Ref": "More"}],
            },
        },
        Function={
            "Type": "AWS::Lambda::Function",
            "Properties": {"Handler": "a.b", "Role": {"Fn::GetAtt": ["Role", "Arn"]}},
        },
    )
    policy = parsed.functions[0].policy
    allowed = [
        policy.allows(f"s3:{action}", "arn:aws:s3:::b/k") for action in ("GetObject", "PutObject", "DeleteObject")
    ]
    assert allowed == [True, True, False]


def test_a_mapping_and_a_subscription_filter_in_their_own_dialects() -> None:
    parsed = stack(
        Plain=queue(),
        Topic={"Type": "AWS::SNS::Topic", "Properties": {}},
        Subscription={
            "Type": "AWS::SNS::Subscription",
            "Properties": {
                "TopicArn": {"Ref": "Topic"},
                "Protocol": "sqs",
                "Endpoint": {"Fn::GetAtt": ["Plain", "Arn"]},
                "FilterPolicyScope": "MessageBody",
                "FilterPolicy": {"detail": {"object": {"key": [{"prefix": "a/"}]}}},
            },
        },
        Mapping={
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {
                "EventSourceArn": {"Fn::GetAtt": ["Plain", "Arn"]},
                "FunctionName": "elsewhere",
                "FilterCriteria": {"Filters": [{"Pattern": '{"body": {"kind": ["x"]}}'}]},
                "ScalingConfig": {"MaximumConcurrency": 7},
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
            },
        },
    )
    (subscription,), (mapping,) = parsed.subscriptions, parsed.mappings
    assert subscription.filter is not None
    assert subscription.filter.matches({"detail": {"object": {"key": "a/1"}}})
    assert not subscription.filter.matches({"detail": {"object": {"key": "b/1"}}})
    assert [each.matches({"body": {"kind": "x"}}) for each in mapping.filters] == [True]
    assert (mapping.function_arn, mapping.maximum_concurrency) == ("elsewhere", 7)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"Resources": {"Table": {"Type": "AWS::DynamoDB::Table"}}}, "Table: .*AWS::DynamoDB::Table"),
        ({"Resources": {"Q": queue(FifoQueue=True)}}, "Q: .*AWS::SQS::Queue FifoQueue"),
        ({"Resources": {"Q": queue(QueueName={"Fn::ImportValue": "x"})}}, "Fn::ImportValue"),
        ({"Resources": {"Q": queue(QueueName={"Fn::Sub": ["${a}", {"a": "b"}]})}}, "Fn::Sub"),
        ({"Resources": {"Q": queue(QueueName={"Ref": "Elsewhere"})}}, "refers to Elsewhere"),
        ({"Resources": {"Q": queue(DelaySeconds={"Fn::GetAtt": ["Q", "Color"]})}}, "attribute Color of Q"),
        ({"Resources": {"Q": queue() | {"Condition": "Always"}}}, "Q: .*attribute Condition"),
        ({"Resources": {}, "Conditions": {}}, "section Conditions"),
        (
            {"Resources": {"R": {"Type": "AWS::Events::Rule", "Properties": {"State": "DISABLED"}}}},
            "R: .*no rule that is DISABLED",
        ),
        (
            {"Resources": {"S": {"Type": "AWS::SNS::Subscription", "Properties": {"Protocol": "https"}}}},
            "S: .*no subscription by https",
        ),
        (
            {
                "Resources": {"Q": queue()}
                | {
                    name: {
                        "Type": "AWS::SQS::QueuePolicy",
                        "Properties": {"Queues": [{"Ref": "Q"}], "PolicyDocument": {"Statement": []}},
                    }
                    for name in ("P1", "P2")
                }
            },
            "P2 and P1 are both the policy",
        ),
    ],
)
def test_unknown_resources_are_an_error_that_names_them(wrong: Json, says: str) -> None:
    with pytest.raises(UnsupportedTemplate, match=says):
        read(wrong)


# --- the compiled template allows what the chain does -----------------------------------------------------------------

KEY = "late/$1?*/a b.csv"
TLS = {"aws:SecureTransport": "true", "aws:ResourceAccount": "000000000000"}


@pytest.fixture(scope="module")
def compiled() -> Json:
    pipeline = Pipeline("flights")

    @pipeline.transform(r"late/$1\?\*/*.csv")
    def late_ones(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    pipeline.sql("orders/*.json", "SELECT * FROM rows", maximum_concurrency=3)
    return template.compile(pipeline)


Hop = Callable[[StackResources], None]


def publish(stack: StackResources) -> None:
    """EventBridge tells SNS nothing of the rule."""
    (topic,) = stack.topics
    checker([topic.policy], principal="events.amazonaws.com", context=TLS)("sns:Publish", topic.arn)


def send(stack: StackResources, to: str, principal: str, source: str) -> None:
    (target,) = (each for each in stack.queues if each.name == to)
    context = TLS | {"aws:SourceArn": source, "aws:SourceAccount": stack.account}
    checker([target.policy], principal=principal, context=context)("sqs:SendMessage", target.arn)


def deliver(stack: StackResources) -> None:
    send(stack, "flights_late_ones", "sns.amazonaws.com", stack.topics[0].arn)


def bury_undelivered(stack: StackResources) -> None:
    send(stack, "flights_late_ones_SubscriptionDLQ", "sns.amazonaws.com", stack.topics[0].arn)


def bury_unpublished(stack: StackResources) -> None:
    send(stack, "flights_RuleDLQ", "events.amazonaws.com", stack.rules[0].arn)


def touch(role: str, key: str, *actions: str) -> Hop:
    def hop(stack: StackResources) -> None:
        (bucket,) = (each for each in stack.buckets if role in each.name)
        function = stack.functions[0]
        for action in actions:
            resource = bucket.arn if action == "ListBucket" else f"{bucket.arn}/{key}"
            checker([function.policy, bucket.policy], principal=function.role_arn, context=TLS)(
                f"s3:{action}", resource
            )

    return hop


def receive(stack: StackResources) -> None:
    function = stack.functions[0]
    for action in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueAttributes"):
        checker([function.policy], principal=function.role_arn)(f"sqs:{action}", stack.mappings[0].queue_arn)


NAME = "late_ones"
HOPS: Mapping[tuple[str, str], Hop] = {
    ("TopicPolicy", "PublishEvents"): publish,
    ("LateOnesQueuePolicy", "SendMessages"): deliver,
    ("LateOnesSubscriptionDLQPolicy", "SendMessages"): bury_undelivered,
    ("RuleDLQPolicy", "SendMessages"): bury_unpublished,
    ("LateOnesRole", "ReadBronze"): touch("bronze", KEY, "GetObject", "GetObjectVersion"),
    ("LateOnesRole", "WriteSilver"): touch("silver", silver_key(NAME, KEY), "GetObject", "PutObject"),
    ("LateOnesRole", "WriteQuarantine"): touch(
        "quarantine", error_key(NAME, KEY), "GetObject", "PutObject", "DeleteObject"
    ),
    ("LateOnesRole", "KnowWhatIsMissing"): touch("silver", "", "ListBucket"),
    ("LateOnesRole", "ReceiveMessages"): receive,
}


def without(compiled: Json, policy: str, sid: str) -> Json:
    """The template with one statement taken out."""
    changed = copy.deepcopy(compiled)
    properties = changed["Resources"][policy]["Properties"]
    document = properties.get("PolicyDocument") or properties["Policies"][0]["PolicyDocument"]
    kept = [statement for statement in document["Statement"] if statement["Sid"] != sid]
    assert len(kept) == len(document["Statement"]) - 1
    document["Statement"] = kept
    return changed


@pytest.mark.parametrize("place", HOPS, ids="-".join)
def test_each_hop_is_allowed_by_one_statement_and_refused_without_it(compiled: Json, place: tuple[str, str]) -> None:
    policy, sid = place
    HOPS[place](read(compiled))
    with pytest.raises(AccessDenied) as raised:
        HOPS[place](read(without(compiled, policy, sid)))
    assert policy in str(raised.value)


@pytest.mark.parametrize(
    "hop",
    [
        touch("bronze", "orders/a.json", "GetObject"),
        touch("bronze", "late/$1xx/a.csv", "GetObject"),
        touch("bronze", KEY, "PutObject"),
        touch("bronze", KEY, "DeleteObject"),
        touch("silver", silver_key("orders", "orders/a.json"), "PutObject"),
        touch("silver", silver_key(NAME, KEY), "DeleteObject"),
        touch("quarantine", rejected_key("orders", KEY), "PutObject"),
        lambda actual: send(actual, "flights_late_ones", "events.amazonaws.com", actual.topics[0].arn),
        lambda actual: send(actual, "flights_late_ones", "sns.amazonaws.com", actual.topics[0].arn + "2"),
        lambda actual: send(actual, "flights_late_ones_DLQ", "sns.amazonaws.com", actual.topics[0].arn),
        lambda actual: send(actual, "flights_RuleDLQ", "events.amazonaws.com", actual.rules[0].arn + "2"),
    ],
)
def test_statements_that_no_hop_needs_are_refused(compiled: Json, hop: Hop) -> None:
    with pytest.raises(AccessDenied):
        hop(read(compiled))


def test_nothing_goes_without_tls(compiled: Json) -> None:
    parsed = read(compiled)
    plain = {"aws:SecureTransport": "false", "aws:SourceArn": parsed.topics[0].arn}
    asked = [
        *((each.policy, "sns:Publish", each.arn) for each in parsed.topics),
        *((each.policy, "sqs:SendMessage", each.arn) for each in parsed.queues),
        *((each.policy, "s3:GetObject", f"{each.arn}/key") for each in parsed.buckets),
        *((each.policy, "s3:ListBucket", each.arn) for each in parsed.buckets),
    ]
    assert len(asked) == 1 + 8 + 3 + 3
    for policy, action, resource in asked:
        with pytest.raises(AccessDenied, match=f"a Deny statement of {policy.name} forbids it"):
            checker([policy], principal="sns.amazonaws.com", context=plain)(action, resource)


def test_the_compiled_chain_is_connected(compiled: Json) -> None:
    parsed = read(compiled)
    arns = {each.arn: each for each in parsed.queues}
    (rule,), (topic,) = parsed.rules, parsed.topics
    assert rule.targets == (topic.arn,)
    assert {each.topic_arn for each in parsed.subscriptions} == {topic.arn}
    assert {each.function_arn for each in parsed.mappings} == {each.arn for each in parsed.functions[:-1]}
    assert parsed.functions[-1].name == "flights_Reconciler"
    for subscription, mapping in zip(parsed.subscriptions, parsed.mappings, strict=True):
        assert subscription.queue_arn == mapping.queue_arn
        assert subscription.raw
        fed = arns[subscription.queue_arn]
        assert (fed.visibility_timeout, fed.retention, fed.max_receive_count) == (1800, 604_800, 55)
        assert fed.dead_letter_arn in arns
        assert subscription.dead_letter_arn in arns
    assert rule.dead_letter_arn in arns
    assert [each.maximum_concurrency for each in parsed.mappings] == [100, 3]


def event(key: str, bucket: str = "dl-bronze-layer", kind: str = "Object Created") -> Json:
    return {"source": "aws.s3", "detail-type": kind, "detail": {"bucket": {"name": bucket}, "object": {"key": key}}}


def test_the_compiled_rule_picks_the_files_that_transforms_want(compiled: Json) -> None:
    (rule,) = read(compiled).rules
    assert rule.matcher.matches(event(KEY))
    assert rule.matcher.matches(event("orders/deep/a.json"))
    assert not rule.matcher.matches(event("orders/a.csv"))
    assert not rule.matcher.matches(event(KEY, bucket="dl-silver-layer"))
    assert not rule.matcher.matches(event(KEY, kind="Object Deleted"))


def test_the_compiled_subscriptions_are_narrowed_by_prefix(compiled: Json) -> None:
    late, orders = (each.filter for each in read(compiled).subscriptions)
    assert late is not None
    assert orders is not None
    assert late.matches(event(KEY))
    assert not late.matches(event("orders/a.json"))
    assert orders.matches(event("orders/a.json"))
    assert not orders.matches(event(KEY))
