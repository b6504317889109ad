"""The logs of AWS and of web servers: lines as their published pages describe them, made up here."""

# ruff: noqa: E501 -- a line of a log is long

from __future__ import annotations

import gzip
import io
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import logs
from silversmith.errors import DataError
from silversmith.formats import read
from silversmith.operations.check import Job, check_here
from silversmith.stores import Head, Source

ALL = {name: log for name in logs.__all__ if isinstance(log := getattr(logs, name), logs.Log)}


@dataclass(frozen=True)
class Sample:
    """One file: its bytes, the values of its first row that matter, and the number of its rows."""

    log: str
    key: str
    data: bytes
    first: dict[str, Any]
    rows: int = 1


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def documents(*values: Any) -> bytes:
    return lines(*map(json.dumps, values))


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pl.DataFrame(columns).write_parquet(file)
    return file.getvalue()


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


EVENT = {"id": "7", "timestamp": 1_769_860_800_000, "message": '{"level":"info"}'}
SUBSCRIPTION = {
    "messageType": "DATA_MESSAGE", "owner": "000123456789", "logGroup": "/aws/lambda/shop", "logStream": "s",
    "subscriptionFilters": ["all"], "logEvents": [EVENT, {**EVENT, "id": "8"}],
}  # fmt: skip

SAMPLES = [
    Sample(
        "alb",
        "AWSLogs/000123456789/elasticloadbalancing/eu-west-1/2026/01/31/000123456789_elasticloadbalancing_x.log.gz",
        gzip.compress(
            lines(
                "h2 2026-01-31T12:00:00.250000Z app/shop/0a1b 198.51.100.7:50001 10.0.3.4:8080 0.001 0.015 0.000 200 200 "
                '310 4711 "GET https://shop.example:443/cart?a=%22 HTTP/2.0" "Mozilla/5.0 (X11; Linux) [de]" TLS_AES_128 '
                'TLSv1.3 arn:aws:elasticloadbalancing:eu-west-1:000123456789:targetgroup/t/1 "Root=1-67" "shop.example" '
                '"arn:aws:acm:eu-west-1:000123456789:certificate/1" 3 2026-01-31T12:00:00.234000Z "waf,forward" "-" "-" '
                '"10.0.3.4:8080" "200" "-" "-" TID_9 "-" "-" "-" 10.0.0.9 "some day"',
                "http 2026-01-31T12:00:01.000000Z app/shop/0a1b 2001:db8::7:50002 - -1 -1 -1 400 - 0 0 "
                '"- http://shop.example:80- " "-" - - - "-" "-" "-" - 2026-01-31T12:00:01.000000Z "-" "-" "-" "-" "-" '
                '"Ambiguous" "BadMethod"',
            )
        ),
        {
            "time": utc(2026, 1, 31, 12, 0, 0, 250_000), "client_ip": "198.51.100.7", "client_port": 50001,
            "target_port": 8080, "target_processing_time": 0.015, "elb_status_code": 200,
            "request": "GET https://shop.example:443/cart?a=%22 HTTP/2.0",
            "user_agent": "Mozilla/5.0 (X11; Linux) [de]", "matched_rule_priority": 3, "redirect_url": None,
            "conn_trace_id": "TID_9", "extra": '10.0.0.9 "some day"',
        },
        rows=2,
    ),
    Sample(
        "nlb",
        "AWSLogs/1/elasticloadbalancing/eu-west-1/2026/01/31/x.log",
        lines(
            "tls 2.0 2026-01-31T12:00:00 net/edge/77 9f 203.0.113.5:40000 10.0.0.8:443 12 3 300 5000 - "
            "arn:aws:acm:eu-west-1:1:certificate/2 - ECDHE-RSA tlsv12 - edge.example h2 - \"h2\",\"http/1.1\" "
            "2026-01-31T11:59:59"
        ),
        {
            "time": utc(2026, 1, 31, 12), "connection_time": 12, "incoming_tls_alert": None,
            "alpn_client_preference_list": '"h2","http/1.1"', "tls_connection_creation_time": utc(2026, 1, 31, 11, 59, 59),
            "destination_ip": "10.0.0.8", "extra": None,
        },
    ),
    Sample(
        "clb",
        "AWSLogs/1/elasticloadbalancing/eu-west-1/2026/01/31/x.log",
        lines('2026-01-31T12:00:00.000001Z old 192.0.2.9:6000 - 0.00004 -1 -1 504 0 20 0 "- - - " "-" - -'),
        {"backend_ip": None, "request_processing_time": 0.00004, "backend_status_code": 0, "request": "- - - "},
    ),
    Sample(
        "s3_access",
        "access/2026-01-31-12-00-00-0123456789ABCDEF",
        lines(
            "ownerid data [31/Jan/2026:12:00:00 +0000] 192.0.2.1 arn:aws:iam::1:user/ann 0A1B REST.GET.OBJECT a%2520b.csv "
            '"GET /data/a%20b.csv HTTP/1.1" 206 - 1024 4096 21 20 "-" "aws-sdk (x; y)" v1 hostid= SigV4 TLS_AES AuthHeader '
            "data.s3.eu-west-1.amazonaws.com TLSv1.3 - - eu-west-1 later",
            "ownerid data [31/Jan/2026:12:00:01 +0000] 192.0.2.1 - 0A1C REST.HEAD.BUCKET - - 403 AccessDenied - - 3 - - - -",
        ),
        {
            "time": utc(2026, 1, 31, 12), "key": "a%2520b.csv", "request_uri": "GET /data/a%20b.csv HTTP/1.1",
            "http_status": 206, "error_code": None, "bytes_sent": 1024, "acl_required": None,
            "source_region": "eu-west-1", "extra": "later",
        },
        rows=2,
    ),
    Sample(
        "vpc_flow",
        "AWSLogs/000123456789/vpcflowlogs/eu-west-1/2026/01/31/x.log.gz",
        gzip.compress(
            lines(
                "version account-id interface-id srcaddr dstport packets start action log-status pkt-src-aws-service new",
                "5 000123456789 eni-1 10.0.0.1 443 7 1769860800 ACCEPT OK - 007",
                "5 000123456789 eni-1 - - - 1769860860 - NODATA - -",
            )
        ),
        {
            "version": 5, "account_id": "000123456789", "dstport": 443, "start": 1769860800,
            "pkt_src_aws_service": None, "new": "007",
        },
        rows=2,
    ),
    Sample(
        "vpc_flow_parquet",
        "AWSLogs/aws-account-id=000123456789/aws-service=vpcflowlogs/x.log.parquet",
        parquet(version=[2], account_id=["000123456789"], tcp_flags=[19], action=["-"]),
        {"version": 2, "tcp_flags": 19, "action": None},
    ),
    Sample(
        "cloudfront",
        "cdn/E2EXAMPLE.2026-01-31-12.0a1b2c3d.gz",
        gzip.compress(
            lines(
                "#Version: 1.0",
                "#Fields: date time x-edge-location sc-bytes cs(User-Agent) time-taken x-forwarded-for sc-range-end new",
                "2026-01-31\t12:00:00\tFRA56-P1\t512\tMozilla/5.0%20(%22x%22)\t0.004\t192.0.2.1,%20192.0.2.2\t-\t01",
            )
        ),
        {
            "date": date(2026, 1, 31), "time": time(12), "sc_bytes": 512, "cs_user_agent": "Mozilla/5.0%20(%22x%22)",
            "time_taken": 0.004, "sc_range_end": None, "new": "01",
        },
    ),
    Sample(
        "cloudfront_json",
        "cdn/2026/01/31/12/x.gz",
        gzip.compress(documents({"date": "2026-01-31", "sc-status": "304", "cs(Host)": "d", "c-port": "-", "new": "x"})),
        {"date": date(2026, 1, 31), "sc_status": 304, "cs_host": "d", "c_port": None, "extra": '{"new":"x"}'},
    ),
    Sample(
        "cloudfront_parquet",
        "cdn/x.parquet",
        parquet(date=["2026-01-31"], sc_status=["200"], cs_cookie=["-"], sc_range_start=["-"]),
        {"date": date(2026, 1, 31), "sc_status": 200, "cs_cookie": None, "sc_range_start": None},
    ),
    Sample(
        "cloudtrail",
        "AWSLogs/000123456789/CloudTrail/eu-west-1/2026/01/31/x.json.gz",
        gzip.compress(
            json.dumps(
                {
                    "Records": [
                        {
                            "eventVersion": "1.11", "eventTime": "2026-01-31T12:00:00Z", "eventName": "PutObject",
                            "userIdentity": {
                                "type": "AssumedRole", "arn": "arn:aws:sts::000123456789:assumed-role/r/s",
                                "sessionContext": {"attributes": {"mfaAuthenticated": "false"}}, "inScopeOf": {"a": 1},
                            },
                            "requestParameters": {"bucketName": "b", "Host": "h"}, "responseElements": None,
                            "readOnly": False, "resources": [{"type": "AWS::S3::Object"}], "tlsDetails": {"tlsVersion": "TLSv1.3"},
                            "later": 1,
                        },
                        {"eventTime": "2026-01-31T12:00:01Z", "requestParameters": {"other": [1, {"x": None}]}},
                    ]
                }
            ).encode()
        ),
        {
            "eventTime": utc(2026, 1, 31, 12), "userIdentity_type": "AssumedRole", "readOnly": False,
            "userIdentity_sessionContext": '{"attributes":{"mfaAuthenticated":"false"}}',
            "requestParameters": '{"bucketName":"b","Host":"h"}', "resources": '[{"type":"AWS::S3::Object"}]',
            "tlsDetails_tlsVersion": "TLSv1.3", "extra": '{"userIdentity":{"inScopeOf":{"a":1}},"later":1}',
            "managementEvent": None,
        },
        rows=2,
    ),
    Sample(
        "waf",
        "AWSLogs/000123456789/WAFLogs/eu-west-1/shop/2026/01/31/12/00/x.log.gz",
        gzip.compress(
            documents(
                {
                    "timestamp": 1_769_860_800_123, "formatVersion": 1, "action": "BLOCK", "terminatingRuleId": "r",
                    "ruleGroupList": [], "labels": [{"name": "a:b"}],
                    "httpRequest": {"clientIp": "192.0.2.1", "country": "-", "uri": "/", "headers": [{"name": "Host"}]},
                }
            )
        ),
        {
            "timestamp": 1_769_860_800_123, "action": "BLOCK", "httpRequest_clientIp": "192.0.2.1",
            "httpRequest_country": None, "httpRequest_headers": '[{"name":"Host"}]', "labels": '[{"name":"a:b"}]',
        },
    ),
    Sample(
        "route53_resolver",
        "AWSLogs/000123456789/vpcdnsquerylogs/vpc-1/2026/01/31/x.log.gz",
        gzip.compress(
            documents(
                {
                    "version": "1.100000", "account_id": "000123456789", "query_timestamp": "2026-01-31T12:00:00Z",
                    "query_name": "shop.example.", "answers": [{"Rdata": "192.0.2.1", "Type": "A", "Class": "IN"}],
                    "srcport": "5353", "srcids": {"instance": "i-1"},
                }
            )
        ),
        {
            "version": "1.100000", "query_timestamp": utc(2026, 1, 31, 12), "srcport": 5353,
            "answers": '[{"Rdata":"192.0.2.1","Type":"A","Class":"IN"}]', "srcids": '{"instance":"i-1"}',
        },
    ),
    Sample(
        "network_firewall",
        "AWSLogs/000123456789/network-firewall/alert/eu-west-1/fw/2026/01/31/12/x.log.gz",
        gzip.compress(
            documents(
                {
                    "firewall_name": "fw", "availability_zone": "eu-west-1a", "event_timestamp": "1769860800",
                    "event": {
                        "timestamp": "2026-01-31T12:00:00.000123+0000", "flow_id": 1_999_999_999_999_999, "src_port": 443,
                        "alert": {"action": "blocked"}, "verdict": {"action": "drop"},
                    },
                }
            )
        ),
        {
            "event_timestamp": 1769860800, "time": utc(2026, 1, 31, 12, 0, 0, 123), "flow_id": 1_999_999_999_999_999,
            "alert": '{"action":"blocked"}', "extra": '{"event":{"verdict":{"action":"drop"}}}',
        },
    ),
    Sample(
        "guardduty",
        "AWSLogs/000123456789/GuardDuty/eu-west-1/2026/01/31/x.jsonl.gz",
        gzip.compress(
            documents(
                {
                    "schemaVersion": "2.0", "id": "0a1b", "type": "Recon:EC2/PortProbe", "severity": 2,
                    "createdAt": "2026-01-31T12:00:00.000Z", "resource": {"resourceType": "Instance"}, "service": {},
                }
            )
        ),
        {"severity": 2.0, "createdAt": utc(2026, 1, 31, 12), "resource": '{"resourceType":"Instance"}', "service": "{}"},
    ),
    Sample(
        "config_snapshot",
        "AWSLogs/000123456789/Config/eu-west-1/2026/1/31/ConfigSnapshot/x.json.gz",
        gzip.compress(
            json.dumps(
                {
                    "fileVersion": "1.0", "configSnapshotId": "c",
                    "configurationItems": [
                        {
                            "configurationItemCaptureTime": "2026-01-31T12:00:00.000Z", "resourceType": "AWS::S3::Bucket",
                            "configurationStateId": 1769860800000, "configuration": {"name": "b"}, "tags": {"k": "v"},
                        }
                    ],
                }
            ).encode()
        ),
        {
            "configurationItemCaptureTime": utc(2026, 1, 31, 12), "configurationStateId": 1769860800000,
            "configuration": '{"name":"b"}', "tags": '{"k":"v"}',
        },
    ),
    Sample(
        "cloudwatch_logs",
        "firehose/2026/01/31/12/stream-1-2026-01-31-12-00-00-0a1b",
        gzip.compress(json.dumps(SUBSCRIPTION).encode()) + gzip.compress(json.dumps(SUBSCRIPTION).encode()),
        {
            "owner": "000123456789", "logGroup": "/aws/lambda/shop", "id": "7", "timestamp": 1_769_860_800_000,
            "message": '{"level":"info"}', "subscriptionFilters": '["all"]',
        },
        rows=4,
    ),
    Sample(
        "api_gateway",
        "firehose/2026/01/31/12/amazon-apigateway-1",
        documents({"requestId": "r", "status": "200", "responseLength": "-", "user": "-", "tenant": "t"}),
        {"requestId": "r", "status": 200, "responseLength": None, "user": None, "extra": '{"tenant":"t"}'},
    ),
    Sample(
        "cost_and_usage",
        "cur/report/20260101-20260201/report-1.csv.gz",
        gzip.compress(
            lines(
                "identity/LineItemId,lineItem/UsageStartDate,lineItem/UsageAccountId,lineItem/UnblendedCost,product/vcpu,"
                "resourceTags/user:Name",
                'x1,2026-01-01T00:00:00Z,000123456789,0.0000012500,04,"a, b"',
            )
        ),
        {
            "identity_line_item_id": "x1", "line_item_usage_start_date": utc(2026, 1, 1),
            "line_item_usage_account_id": "000123456789", "line_item_unblended_cost": 0.00000125, "product/vcpu": "04",
            "resourceTags/user:Name": "a, b",
        },
    ),
    Sample(
        "cost_and_usage_parquet",
        "cur/report/data.snappy.parquet",
        parquet(
            identity_line_item_id=["x1"], line_item_usage_start_date=[utc(2026, 1, 1)], line_item_unblended_cost=[0.5],
            resource_tags_user_name=["n"],
        ),
        {"line_item_usage_start_date": utc(2026, 1, 1), "line_item_unblended_cost": 0.5, "resource_tags_user_name": "n"},
    ),
    Sample(
        "apache_combined",
        "web/access.log",
        lines('192.0.2.1 - ann [31/Jan/2026:13:00:00 +0100] "GET / HTTP/1.1" 200 - "-" "say \\"hi\\" \\\\o/" 0.5'),
        {
            "remote_user": "ann", "time": utc(2026, 1, 31, 12), "bytes_sent": None, "user_agent": 'say "hi" \\o/',
            "extra": "0.5",
        },
    ),
    Sample(
        "nginx_combined",
        "web/access.log",
        lines('192.0.2.1 - - [31/Jan/2026:12:00:00 +0000] "\\x16\\x03" 400 157 "-" "\\x22x\\x22"'),
        {"request": "\\x16\\x03", "status": 400, "user_agent": "\\x22x\\x22"},
    ),
    Sample(
        "syslog",
        "hosts/messages.log",
        lines(
            '<165>1 2026-01-31T13:00:00.5+01:00 host app 77 ID1 [a@1 x="y \\"] z"][b] \ufeffstarted [ok]',
            "<34>1 - - - - - -",
        ),
        {
            "priority": 165, "timestamp": utc(2026, 1, 31, 12, 0, 0, 500_000), "procid": "77",
            "structured_data": '[a@1 x="y \\"] z"][b]', "message": "started [ok]",
        },
        rows=2,
    ),
]  # fmt: skip


def checked(log: logs.Log, data: bytes, key: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    source = Source(Head(key, "etag", len(data), datetime.now(UTC)), data, None)
    result = log.contract.check(read(source, log.reader, declared=log.contract.declared))
    return result.good.collect(), result.rejected.collect()


def test_there_is_a_sample_of_each() -> None:
    assert {sample.log for sample in SAMPLES} == set(ALL)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.log)
def test_its_published_columns_with_their_types(sample: Sample) -> None:
    log = ALL[sample.log]
    good, rejected = checked(log, sample.data, sample.key)
    assert rejected.height == 0, rejected["reasons"].to_list()
    assert good.height == sample.rows
    row = good.row(0, named=True)
    assert {name: row[name] for name in sample.first} == sample.first
    published = {name: good.schema[name] for name in log.columns if name in good.columns}
    assert published == {name: log.columns[name] for name in published}
    if log.missing == "fill":
        assert good.columns == list(log.columns)  # the same for every file


@pytest.mark.parametrize("log", [name for name, log in ALL.items() if "extra" in log.columns])
def test_a_later_version_of_the_format_keeps_the_columns(log: str) -> None:
    """AWS adds fields at the end of a line, and keys to records."""
    sample = next(sample for sample in SAMPLES if sample.log == log)
    data = gzip.decompress(sample.data) if sample.data[:2] == b"\x1f\x8b" else sample.data
    if log in {"cloudtrail", "config_snapshot"}:
        newer = data.replace(b'[{"', b'[{"brandNew": 5, "', 1)
    elif b"{" in data:
        newer = data.replace(b"{", b'{"brandNew": [1, {"a": null}], ', 1)
    else:
        data = data.partition(b"\n")[0] + b"\n"
        newer = data.replace(b"\n", b' brand "new field"\n')
    before, after = (checked(ALL[log], content, "x.log")[0] for content in (data, newer))
    assert before.schema == after.schema
    assert before.drop("extra").equals(after.drop("extra"))
    assert "rand" in after["extra"].to_list()[0]


@pytest.mark.parametrize("log", [name for name, log in ALL.items() if type(log.reader).__name__ in {"Fields", "Regex"}])
def test_a_line_that_does_not_fit_is_rejected_alone(log: str) -> None:
    sample = next(sample for sample in SAMPLES if sample.log == log)
    data = gzip.decompress(sample.data) if sample.data[:2] == b"\x1f\x8b" else sample.data
    good, rejected = checked(ALL[log], data + b"Killed\n", "x.log")
    assert good.height == sample.rows
    assert rejected["text"].to_list() == ["Killed"]


S3_LINE = (
    'ownerid data [31/Jan/2026:12:00:00 +0000] 2001:db8::1 - 0A1B REST.GET.OBJECT a.csv "{}" 206 - 1024 4096 21 20 '
    '"{}" "{}" - hostid= SigV4 TLS_AES - data.s3.amazonaws.com TLSv1.3 - - eu-west-1 later "field"'
)
CLB_LINE = (
    "2026-01-31T12:00:00.000001Z old 192.0.2.9:6000 192.0.2.8:80 0.1 0.1 0.1 200 200 0 20 "
    '"{}" "{}" DHE-RSA-AES128-SHA TLSv1.2'
)


@pytest.mark.parametrize(
    "text",
    ['a" b "c', '"quoted"', '"', 'x"', "back\\", '"Mozilla" (X11; Linux x86_64) A B (K, like G) C D E F G" h', ""],
)
def test_quotes_of_clients_that_nothing_escapes_shift_no_field(text: str) -> None:
    """S3 writes them as they come: https://github.com/aws-samples/siem-on-amazon-opensearch-service/pull/34"""
    texts = (f"GET /{text} HTTP/1.1", text, f"agent {text}")
    good, rejected = checked(logs.s3_access, lines(S3_LINE.format(*texts)), "x")
    assert rejected.height == 0
    row = good.row(0, named=True)
    assert (row["request_uri"], row["referer"], row["user_agent"]) == (texts[0], text or None, texts[2])
    assert (row["http_status"], row["host_id"], row["source_region"]) == (206, "hostid=", "eu-west-1")
    assert row["extra"] == 'later "field"'
    good, _ = checked(logs.clb, lines(CLB_LINE.format(texts[0], texts[2])), "x")
    row = good.row(0, named=True)
    assert (row["request"], row["user_agent"], row["ssl_protocol"]) == (texts[0], texts[2], "TLSv1.2")


@pytest.mark.parametrize("address", ["2001:db8::1", "[2001:db8::1]"])
def test_addresses_of_version_6(address: str) -> None:
    sample = next(sample for sample in SAMPLES if sample.log == "clb")
    good, _ = checked(logs.clb, sample.data.replace(b"192.0.2.9", address.encode()), "x")
    assert good.select("client_ip", "client_port").row(0) == ("2001:db8::1", 6000)


@pytest.mark.parametrize("between", [b"", b"\n", b" \n\n"])
@pytest.mark.parametrize("packed", [0, 1, 2])
def test_records_however_firehose_puts_them_together(between: bytes, packed: int) -> None:
    """With line ends between or without, and packed once more by the stream."""
    data = between.join([json.dumps(SUBSCRIPTION).encode()] * 3)
    for _ in range(packed):
        data = gzip.compress(data)
    good, rejected = checked(logs.cloudwatch_logs, data, "firehose/2026/01/31/12/stream-1")
    assert good["id"].to_list() == ["7", "8"] * 3
    assert rejected.height == 0
    rows, _ = checked(logs.waf, b'{"timestamp": 1}' + between + b'{"timestamp": 2}', "waf/stream")
    assert rows["timestamp"].to_list() == [1, 2]


@pytest.mark.parametrize("name", ["cloudtrail", "config_snapshot"])
def test_another_document_is_refused(name: str) -> None:
    with pytest.raises(DataError) as caught:
        checked(ALL[name], b'{"digestStartTime": "x"}', "x.json")
    assert caught.value.code == "MissingPointer"


def test_every_log_names_the_page_that_publishes_it() -> None:
    for log in ALL.values():
        assert log.page.startswith("https://")
        assert set(log.rename.values()) <= set(log.columns)


@pytest.mark.parametrize(
    ("key", "account", "region", "day"),
    [
        (SAMPLES[0].key, "000123456789", "eu-west-1", date(2026, 1, 31)),
        ("AWSLogs/o-abc/000123456789/CloudTrail/us-gov-west-1/2026/01/31/x", "000123456789", "us-gov-west-1", date(2026, 1, 31)),
        (
            "p/AWSLogs/aws-account-id=000123456789/aws-service=vpcflowlogs/aws-region=eu-west-1/year=2026/month=01/day=31/x",
            "000123456789", "eu-west-1", date(2026, 1, 31),
        ),
        ("AWSLogs/000123456789/Config/eu-west-1/2026/1/3/ConfigSnapshot/x.json.gz", "000123456789", "eu-west-1", date(2026, 1, 3)),
        ("access/2026-01-31-12-00-00-0123456789ABCDEF", None, None, date(2026, 1, 31)),
        ("E2EXAMPLE.2026-01-31-12.0a1b.gz", None, None, date(2026, 1, 31)),
        ("x/2026/13/31/y", None, None, None),
        ("orders/today.csv", None, None, None),
        ("", None, None, None),
    ],
)  # fmt: skip
def test_columns_from_the_key(key: str, account: str | None, region: str | None, day: date | None) -> None:
    row = pl.LazyFrame({"a": [1]}).with_columns(**logs.key_columns(key)).collect()
    assert row.row(0)[1:] == (account, region, day)
    assert row.schema["key_date"] == pl.Date


@given(key=st.text())
def test_any_key_may_come(key: str) -> None:
    assert set(logs.key_columns(key)) == {"key_account", "key_region", "key_date"}


@pytest.mark.parametrize(
    "name", ["alb", "nlb", "clb", "s3_access", "vpc_flow", "cloudfront", "cloudtrail", "waf", "syslog"]
)
def test_check_names_the_log_that_a_file_is(name: str, tmp_path: Path) -> None:
    sample = next(sample for sample in SAMPLES if sample.log == name)
    path = tmp_path / ("x.gz" if sample.data[:2] == b"\x1f\x8b" else "x.log")
    path.write_bytes(sample.data)
    answer = check_here(Job(str(path), path.name), None, tmp_path)
    hint = answer["error"]["hint"] if answer["outcome"] == "quarantine" else answer["dialect"]["hint"]
    assert f"from silversmith.logs import {name};" in hint


@pytest.mark.parametrize(
    "text", ["hello world\nhow are you\n", '{"timestamp":1,"message":"x","level":"y"}\n', "a b c d e f\n1 2 3 4 5 6\n"]
)
def test_check_names_no_log_where_it_is_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text(text)
    assert "hint" not in check_here(Job(str(path), "x.log"), None, tmp_path)["dialect"]
