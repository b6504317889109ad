"""Erase on S3: every version goes, nothing comes to light in between, and what S3 keeps is named."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from moto import mock_aws

from silversmith import Pipeline
from silversmith.aws.account import Account, open_account
from silversmith.lineage import rejected_key, silver_key
from silversmith.operations.erase import Erasure
from silversmith.operations.versions import S3Versions, StoredVersion, Versions, replicas
from silversmith.tables.commit import bring
from silversmith.tables.lineage import follow
from silversmith.tables.views import refresh
from tests.deployed import SHOP, Deployed, write
from tests.unit.operations.test_aws_tables import SERVER, session

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

BUCKET, KEY = "dl-bronze-layer", "orders/a.csv"


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield open_account(session())


@pytest.fixture
def s3(account: Account) -> Any:
    client = account.client("s3")
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return client


def keep_versions(s3: Any, bucket: str = BUCKET) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def kinds(versions: Versions, key: str = KEY) -> list[str]:
    return sorted(each.kind for each in versions.of(key))


def test_all_versions_and_markers_of_one_key_and_of_no_other(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"before there were versions")
    keep_versions(s3)
    for body in (b"1", b"2"):
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=body)
    s3.delete_object(Bucket=BUCKET, Key=KEY)
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"3")
    s3.create_multipart_upload(Bucket=BUCKET, Key=KEY)
    for other in ("orders/a.csv.gz", "orders/a.csv/x", "orders/a.cs"):
        s3.put_object(Bucket=BUCKET, Key=other, Body=b"other")
    versions = S3Versions(BUCKET, s3)
    assert kinds(versions) == ["delete marker", *["object"] * 4, "upload"]
    assert StoredVersion(BUCKET, KEY) in versions.of(KEY), "the version that S3 calls null"
    assert versions.delete(KEY) == []
    assert versions.of(KEY) == []
    assert len(s3.list_objects_v2(Bucket=BUCKET)["Contents"]) == 3
    assert len(s3.list_object_versions(Bucket=BUCKET)["Versions"]) == 3


def test_a_bucket_without_versions(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"1")
    versions = S3Versions(BUCKET, s3)
    assert versions.of(KEY) == [StoredVersion(BUCKET, KEY)]
    for _ in range(2):
        assert versions.delete(KEY) == []
        assert versions.of(KEY) == []


@pytest.mark.full
def test_more_versions_than_one_answer_has(s3: Any) -> None:
    keep_versions(s3)
    for _ in range(1_005):
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"1")
    versions = S3Versions(BUCKET, s3)
    assert len(versions.of(KEY)) == 1_005
    assert versions.delete(KEY) == []
    assert versions.of(KEY) == []


class Watching:
    """A client that notes what the object is before each request that deletes."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.seen: list[bytes | None] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in {"delete_object", "delete_objects"}:
            return method

        def call(**arguments: Any) -> Any:
            answer = method(**arguments)
            listed = self._client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
            self.seen.append(self._client.get_object(Bucket=BUCKET, Key=KEY)["Body"].read() if listed else None)
            return answer

        return call


def test_no_older_version_becomes_the_object_while_versions_are_deleted(s3: Any) -> None:
    keep_versions(s3)
    for body in (b"1", b"2", b"3"):
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=body)
    watching = Watching(s3)
    assert S3Versions(BUCKET, watching).delete(KEY) == []
    assert watching.seen == [None, None, None]


def test_what_object_lock_keeps_is_named_and_stays_hidden(account: Account) -> None:
    s3 = account.client("s3")
    s3.create_bucket(
        Bucket=BUCKET,
        CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
        ObjectLockEnabledForBucket=True,
    )
    until = datetime.now(UTC) + timedelta(days=9)
    kept = s3.put_object(
        Bucket=BUCKET, Key=KEY, Body=b"1", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until
    )["VersionId"]
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"2")
    versions = S3Versions(BUCKET, s3)
    for _ in range(2):
        (left,) = versions.delete(KEY)
        assert (left.place, left.key, left.version) == (BUCKET, KEY, kept)
        assert f"Object Lock keeps it until {until:%Y-%m-%d}" in left.reason
        assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET), "a marker hides it"
        assert kinds(versions) == ["delete marker", "object"]


def test_versions_that_are_not_the_newest(s3: Any) -> None:
    keep_versions(s3)
    for key in ("t/a", "t/b", "u/a"):
        for body in (b"1", b"2"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    s3.delete_object(Bucket=BUCKET, Key="t/b")
    versions = S3Versions(BUCKET, s3)
    assert versions.delete_noncurrent("t/") == []
    assert [len(versions.of(key)) for key in ("t/a", "t/b", "u/a")] == [1, 0, 2]


@pytest.mark.parametrize("was", ["orders", ""])
def test_older_versions_under_a_former_name_go(account: Account, tmp_path: Path, was: str) -> None:
    """The silver and the rejected rows were deleted, and the buckets keep versions: no listing of objects has them.
    ``was`` empty: the transform is gone, and the recorded schema knows its name."""
    deployed = Deployed(write(tmp_path), account)
    for role in ("silver", "quarantine"):
        keep_versions(deployed.s3, deployed.buckets[role])
    deployed.land(KEY, b"id,total\n1,2\n2,-1\n")
    deployed.work("orders")
    former = [
        (deployed.buckets["quarantine"], rejected_key("orders", KEY)),
        (deployed.buckets["silver"], silver_key("orders", KEY)),
    ]
    for bucket, key in former:
        deployed.s3.delete_object(Bucket=bucket, Key=key)
    pipeline = Pipeline("shop")
    pipeline.transform("orders/*.csv", name="sales", was=was)(lambda rows: rows)
    with deployed.opened() as (_, target):
        erasure = Erasure([KEY], pipeline, target, pause=lambda _: None)
        objects = [(each.bucket, each.key) for each in erasure.find().objects if each.kind == "object"]
        assert objects == [(BUCKET, KEY), *former]
        assert erasure.run().verified
    for bucket, key in former:
        assert S3Versions(bucket, deployed.s3).of(key) == []


def test_replicas_are_named(s3: Any) -> None:
    assert replicas(BUCKET, s3) == []
    keep_versions(s3)
    rule = {
        "ID": "r", "Status": "Enabled", "Priority": 1, "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Disabled"}, "Destination": {"Bucket": "arn:aws:s3:::elsewhere"},
    }  # fmt: skip
    configuration = {"Role": "arn:aws:iam::123456789012:role/r", "Rules": [rule]}
    s3.create_bucket(Bucket="elsewhere", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    keep_versions(s3, "elsewhere")
    s3.put_bucket_replication(Bucket=BUCKET, ReplicationConfiguration=configuration)
    (text,) = replicas(BUCKET, s3)
    assert text.startswith("arn:aws:s3:::elsewhere: a replica of dl-bronze-layer")


PEOPLE = SHOP.replace('Pipeline("shop")', 'Pipeline("shop", lineage=True)') + (
    'pipeline.table("orders", of=orders)\n'
    'pipeline.view("totals", "select total, count(*) as n from orders group by total", by=["total"])\n'
)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Deployed]:
    """A stack over a server, which delta-rs can reach, too. All of its buckets keep versions."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        account = open_account(session(), endpoint_url=f"http://127.0.0.1:{int(server.stdout.readline())}")
        deployed = Deployed(write(tmp_path / "project", PEOPLE), account)
        for bucket in (*deployed.buckets.values(), "dl-gold-layer"):
            keep_versions(deployed.s3, bucket)
        yield deployed
        server.terminate()


def gold_follows(deployed: Deployed) -> None:
    """As the tables' function does."""
    with deployed.opened() as (pipeline, target):
        lake, spec = target.lake, pipeline.tables
        (table,) = spec.tables
        keys = [silver_key("orders", f"orders/{name}.csv") for name in "abcd"]
        bring(table, keys, silver=lake.silver, gold=target.gold)
        objects = [head.key for name in spec.lineage for head in lake.silver.list(f"{name}/")]
        follow(spec.lineage, objects, silver=lake.silver, quarantine=lake.quarantine, gold=target.gold)
        refresh(spec.views, target.gold)


def saying(word: bytes, s3: Any) -> list[str]:
    """Each version of each object in all buckets that has a word: in its key, its bytes, its metadata, its rows."""
    places = []
    for bucket in (each["Name"] for each in s3.list_buckets()["Buckets"]):
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for version in page.get("Versions", ()):
                where = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
                answer = s3.get_object(**where)
                said = answer["Body"].read() + repr((version["Key"], answer["Metadata"])).encode()
                if said[:4] == b"PAR1":
                    said += repr(pl.read_parquet(io.BytesIO(said[: answer["ContentLength"]])).rows()).encode()
                if word in said:
                    places.append(f"{bucket}/{version['Key']}")
    return places


@pytest.mark.full
def test_nothing_is_left_in_buckets_that_all_keep_versions(served: Deployed) -> None:
    """The word is a number that nothing else has."""
    word, other = b"918273645", b"564738291"
    for _ in range(2):
        served.land(KEY, b"id,total\n1,918273645\n2,-918273645\n")
        served.land("orders/b.csv", b"id,total\n1,564738291\n")
        served.work("orders")
        served.work("late_copies")
        gold_follows(served)
        served.s3.delete_object(Bucket=BUCKET, Key=KEY)
    served.land(KEY, b"id,total\n1,918273645\n")
    served.bury(served.url("orders", "QueueDLQ"), KEY)
    served.bury(served.url("orders", "QueueDLQ"), "orders/b.csv")
    with served.opened() as (pipeline, target):
        plan = Erasure([KEY], pipeline, target).find()
        assert plan.records == {"messages": 1}
        assert rejected_key("orders", KEY) in {each.key for each in plan.objects}
        assert len({each.version for each in plan.objects if each.bucket == BUCKET}) == 5
    pauses: list[float] = []
    late = served.receive("orders")
    assert late, "an event that is in flight"

    def pause(seconds: float) -> None:
        """A function that had read the file puts its silver and rejected rows while the command waits."""
        if not pauses:
            served.s3.put_object(Bucket=served.buckets["silver"], Key=silver_key("orders", KEY), Body=b"late " + word)
            served.s3.put_object(
                Bucket=served.buckets["quarantine"], Key=rejected_key("orders", KEY), Body=b"late " + word
            )
        pauses.append(seconds)

    with served.opened() as (pipeline, target):
        report = Erasure([KEY], pipeline, target, pause=pause).run()
    assert (report.verified, list(report.left)) == (True, [])
    assert report.who.startswith("arn:aws:")
    assert saying(word, served.s3) == saying(KEY.encode(), served.s3) == []
    assert saying(other, served.s3)
    assert served.waiting("orders", "QueueDLQ") == 1, "the other file's message"
    served.work("orders")
    served.work("late_copies")
    gold_follows(served)
    assert saying(word, served.s3) == []
    with served.opened() as (pipeline, target):
        snapshot = target.gold.read("orders")
        assert snapshot is not None
        assert snapshot.extent.rows == 1
