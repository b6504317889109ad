"""What becomes of logs as AWS writes them, of lines that were cut off, and of what AWS adds to them one day."""

import gzip
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from silversmith.testing.plugin import Run

DATA = Path(__file__).parent.parent / "data"


def silver(pipeline_run: Run, transform: str, folder: str) -> pl.DataFrame:
    """Silver of the one sample below a folder."""
    (path,) = (path for path in (DATA / folder).rglob("*") if path.is_file())
    key = path.relative_to(DATA).as_posix()
    return pipeline_run({key: path}).silver[transform, key]


def test_requests_have_types_and_what_the_key_says(pipeline_run: Run) -> None:
    rows = silver(pipeline_run, "requests", "AWSLogs/000123456789/elasticloadbalancing")
    assert rows["client_ip"].to_list() == ["198.51.100.7", "2001:db8::7", "203.0.113.66"]
    assert rows["elb_status_code"].to_list() == [200, 200, 502]
    assert rows["target_port"].to_list() == [8080, 8080, None]
    assert rows["time"].to_list()[0] == datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
    assert rows["method"].to_list() == ["GET", "POST", "GET"]
    assert rows.select("key_account", "key_region", "key_date").unique().rows() == [
        ("000123456789", "eu-west-1", date(2026, 1, 31))
    ]
    assert rows["extra"].to_list() == [None, None, "10.0.0.4"]


def test_a_line_that_was_cut_off(pipeline_run: Run) -> None:
    (path,) = (DATA / "AWSLogs/000123456789/elasticloadbalancing").rglob("*.gz")
    key = path.relative_to(DATA).as_posix()
    pipeline_run({key: path}).assert_rejected("requests", key, {4: "fields"})


def test_views(pipeline_run: Run) -> None:
    rows = silver(pipeline_run, "views", "cdn")
    assert rows.select("at", "cs_uri_stem", "sc_status", "time_taken").rows() == [
        (datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC), "/logo.svg", 200, 0.001),
        (datetime(2026, 1, 31, 12, 0, 2, tzinfo=UTC), "/gone.css", 404, 0.002),
    ]


def test_accesses(pipeline_run: Run) -> None:
    rows = silver(pipeline_run, "accesses", "access")
    assert rows.select("requester", "http_status", "error_code", "bytes_sent").rows() == [
        ("arn:aws:iam::000123456789:user/ann", 200, None, 1024),
        (None, 403, "AccessDenied", None),
    ]


def test_flows(pipeline_run: Run) -> None:
    rows = silver(pipeline_run, "flows", "AWSLogs/000123456789/vpcflowlogs")
    assert rows.select("start", "dstport", "action").rows() == [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), 443, "ACCEPT"),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), 22, "REJECT"),
    ]


def test_verdicts(pipeline_run: Run) -> None:
    rows = silver(pipeline_run, "verdicts", "AWSLogs/000123456789/WAFLogs")
    assert rows.select("action", "httpRequest_uri", "user_agent").rows() == [
        ("ALLOW", "/", "Mozilla/5.0"),
        ("BLOCK", "/admin.php", "scanner/1.0"),
    ]


def test_calls(pipeline_run: Run) -> None:
    rows = silver(pipeline_run, "calls", "AWSLogs/000123456789/CloudTrail")
    assert rows.select("eventName", "userIdentity_userName", "bucket", "extra").rows() == [
        ("CreateBucket", "ann", "data", None),
        ("DeleteBucketPolicy", "ann", "data", '{"somethingNew":{"since":2026}}'),
    ]


def test_a_flow_log_with_fields_of_your_choice(pipeline_run: Run) -> None:
    """Its columns are those that the first line names."""
    key = "AWSLogs/000123456789/vpcflowlogs/eu-west-1/2026/01/31/x.log.gz"
    text = "start end log-status vpc-id pkt-srcaddr\n1769860800 1769860859 OK vpc-1 10.0.0.1\n"
    rows = pipeline_run({key: gzip.compress(text.encode())}).silver["flows", key]
    assert rows.columns[:5] == ["start", "end", "log_status", "vpc_id", "pkt_srcaddr"]
