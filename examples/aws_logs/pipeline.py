"""The logs that AWS writes to a bucket by itself, as typed tables: of load balancers, CDN, buckets, networks.

`silversmith.logs` knows how each is written, and its published columns. What AWS adds to a log later is in `extra`.
"""

import polars as pl

from silversmith import Context, Deployment, Pipeline
from silversmith.logs import alb, cloudfront, cloudtrail, key_columns, s3_access, vpc_flow, waf

pipeline = Pipeline("aws-logs")

deployment = Deployment(
    bronze="aws-logs-bronze",
    silver="aws-logs-silver",
    quarantine="aws-logs-quarantine",
)


@pipeline.transform("AWSLogs/*/elasticloadbalancing/*_app.*.log.gz", reader=alb.reader, contract=alb.contract)
def requests(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
    """Each request to a load balancer, with account, region and date of the key, and its line in three parts."""
    line = pl.col("request").str.splitn(" ", 3).struct.rename_fields(["method", "url", "protocol"])
    return rows.with_columns(line.alias("line"), **key_columns(context.key)).unnest("line")


@pipeline.transform("cdn/*.gz", reader=cloudfront.reader, contract=cloudfront.contract)
def views(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Each request to CloudFront, with its time in one column."""
    return rows.with_columns(at=pl.col("date").dt.combine(pl.col("time")).dt.replace_time_zone("UTC"))


@pipeline.transform("access/*", reader=s3_access.reader, contract=s3_access.contract)
def accesses(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Each request to a bucket."""
    return rows


@pipeline.transform("AWSLogs/*/vpcflowlogs/*.log.gz", reader=vpc_flow.reader, contract=vpc_flow.contract)
def flows(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
    """What went through the network: seconds since 1970 become times, and intervals without data are left out."""
    times = {name: pl.from_epoch(name).dt.replace_time_zone("UTC") for name in ("start", "end")}
    return rows.filter(pl.col("log_status") == "OK").with_columns(**times, **key_columns(context.key))


@pipeline.transform("AWSLogs/*/WAFLogs/*.log.gz", reader=waf.reader, contract=waf.contract)
def verdicts(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What the web application firewall let through, and what not."""
    at = pl.from_epoch("timestamp", time_unit="ms").dt.replace_time_zone("UTC")
    agent = pl.col("httpRequest_headers").str.json_path_match("$[?(@.name=='User-Agent')].value")
    return rows.with_columns(at=at, user_agent=agent)


@pipeline.transform("AWSLogs/*/CloudTrail/*.json.gz", reader=cloudtrail.reader, contract=cloudtrail.contract)
def calls(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
    """Calls of AWS's APIs that changed something. Parameters are JSON: each call has its own."""
    bucket = pl.col("requestParameters").str.json_path_match("$.bucketName")
    return rows.filter(~pl.col("readOnly")).with_columns(bucket=bucket, **key_columns(context.key))
