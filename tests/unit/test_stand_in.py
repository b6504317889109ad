"""The stand-in for S3 is as S3: spoken to by boto3, over plain and TLS sockets."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
)

from tests.stand_in import Bucket, Delay, Drop, Fault, Flip, Hang, Lag, Refuse, S3Server, Tear
from tests.stand_in.buckets import ALGORITHMS
from tests.stand_in.faults import KMS_DISABLED, SLOW_DOWN

MB = 1024 * 1024


@pytest.fixture(params=["plain", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    with S3Server(tls=request.param == "tls") as server:
        yield server


@pytest.fixture
def bucket(server: S3Server) -> Bucket:
    return server.bucket("bronze", versioned=True)


@pytest.fixture
def client(server: S3Server) -> Any:
    return server.client()


def refused(act: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        act()
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def once(server: S3Server, operation: str, fault: Fault) -> None:
    """Have the first request of an operation meet a fault."""
    server.plan = lambda request: fault if request.operation == operation and request.nth == 1 else None


@pytest.mark.parametrize("data", [b"", b"123456789"])
def test_the_checksums_are_the_published_ones(data: bytes) -> None:
    expected = {
        b"": {"crc32c": "00000000", "crc64nvme": "0000000000000000"},
        b"123456789": {"crc32c": "e3069283", "crc64nvme": "ae8b14860a799888"},
    }
    for algorithm, value in expected[data].items():
        assert ALGORITHMS[algorithm](data).hex() == value


def test_an_object_goes_there_and_back(bucket: Bucket, client: Any) -> None:
    put = client.put_object(Bucket="bronze", Key="a b/ü.csv", Body=b"0123456789", Metadata={"who": "me"})
    result = client.get_object(Bucket="bronze", Key="a b/ü.csv", ChecksumMode="ENABLED")
    crc32 = base64.b64encode(zlib.crc32(b"0123456789").to_bytes(4, "big")).decode()
    assert result["Body"].read() == b"0123456789"
    assert (result["ETag"], result["VersionId"]) == (put["ETag"], put["VersionId"])
    assert (result["Metadata"], result["ChecksumCRC32"], result["ChecksumType"]) == (
        {"who": "me"},
        crc32,
        "FULL_OBJECT",
    )
    head = client.head_object(Bucket="bronze", Key="a b/ü.csv", ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["ChecksumCRC32"]) == (10, crc32)
    assert bucket.find("a b/ü.csv").content == b"0123456789"


def test_a_range_has_no_checksum(bucket: Bucket, client: Any) -> None:
    bucket.put("a", b"0123456789")
    result = client.get_object(Bucket="bronze", Key="a", Range="bytes=2-4", ChecksumMode="ENABLED")
    assert (result["Body"].read(), result["ContentRange"], result["ContentLength"]) == (b"234", "bytes 2-4/10", 3)
    assert not [name for name in result if name.startswith("Checksum")]
    assert client.get_object(Bucket="bronze", Key="a", Range="bytes=8-99")["Body"].read() == b"89"
    assert refused(lambda: client.get_object(Bucket="bronze", Key="a", Range="bytes=10-11")) == (416, "InvalidRange")


def test_conditions(bucket: Bucket, client: Any) -> None:
    where = {"Bucket": "bronze", "Key": "a"}
    assert refused(lambda: client.put_object(**where, Body=b"1", IfMatch='"x"')) == (404, "NoSuchKey")
    etag = client.put_object(**where, Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(lambda: client.put_object(**where, Body=b"2", IfNoneMatch="*")) == (412, "PreconditionFailed")
    assert refused(lambda: client.put_object(**where, Body=b"2", IfMatch='"x"')) == (412, "PreconditionFailed")
    assert refused(lambda: client.get_object(**where, IfMatch='"x"')) == (412, "PreconditionFailed")
    assert refused(lambda: client.delete_object(**where, IfMatch='"x"')) == (412, "PreconditionFailed")
    second = client.put_object(**where, Body=b"2", IfMatch=etag)["ETag"]
    client.delete_object(**where, IfMatch=second)
    assert refused(lambda: client.get_object(**where)) == (404, "NoSuchKey")
    assert refused(lambda: client.head_object(**where)) == (404, "404")
    assert [version.body for version in bucket.history["a"]] == [b"1", b"2", None]


def test_versions(bucket: Bucket, client: Any) -> None:
    first = client.put_object(Bucket="bronze", Key="a", Body=b"1")["VersionId"]
    client.put_object(Bucket="bronze", Key="a", Body=b"2")
    assert client.get_object(Bucket="bronze", Key="a", VersionId=first)["Body"].read() == b"1"
    assert refused(lambda: client.get_object(Bucket="bronze", Key="a", VersionId="x")) == (404, "NoSuchVersion")
    bucket.delete("a")
    assert client.get_object(Bucket="bronze", Key="a", VersionId=first)["Body"].read() == b"1"


def test_a_listing_has_pages(server: S3Server, bucket: Bucket, client: Any) -> None:
    names = [*(f"a/{number:02} ü&<\n" for number in range(9)), "b"]
    for name in names:
        bucket.put(name, b"")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket="bronze", Prefix="a/", StartAfter=names[1], PaginationConfig={"PageSize": 3}
    )
    actual = [[entry["Key"] for entry in page["Contents"]] for page in pages]
    assert actual == [names[2:5], names[5:8], names[8:9]]
    once(server, "ListObjectsV2", Lag(2))
    listed = client.list_objects_v2(Bucket="bronze")["Contents"]
    assert [entry["Key"] for entry in listed] == names[:-2]


@pytest.mark.parametrize("kind", ["COMPOSITE", "FULL_OBJECT"])
def test_an_upload_in_parts(bucket: Bucket, client: Any, kind: str) -> None:
    where = {"Bucket": "bronze", "Key": "a"}
    parts = [b"a" * 5 * MB, b"b"]
    upload = client.create_multipart_upload(**where, ChecksumAlgorithm="CRC32", ChecksumType=kind)["UploadId"]
    sent = []
    for number, part in enumerate(parts, 1):
        answer = client.upload_part(**where, UploadId=upload, PartNumber=number, Body=part, ChecksumAlgorithm="CRC32")
        sent.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]})
    bucket.put("a", b"another")

    def complete(**condition: str) -> Any:
        return client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": sent}, **condition)

    assert refused(lambda: complete(IfNoneMatch="*")) == (412, "PreconditionFailed")
    assert complete(IfMatch=f'"{bucket.find("a").etag}"')["ETag"].endswith('-2"')
    assert refused(complete) == (404, "NoSuchUpload")
    head = client.head_object(**where, ChecksumMode="ENABLED")
    assert (head["ChecksumType"], head["ChecksumCRC32"].endswith("-2")) == (kind, kind == "COMPOSITE")
    assert client.get_object(**where, ChecksumMode="ENABLED")["Body"].read() == b"".join(parts)
    first = client.head_object(**where, PartNumber=1)
    assert (first["ContentLength"], first["PartsCount"]) == (5 * MB, 2)
    assert client.get_object(**where, PartNumber=2)["Body"].read() == b"b"
    assert refused(lambda: client.head_object(**where, PartNumber=3)) == (416, "416")
    aborted = client.create_multipart_upload(**where)["UploadId"]
    client.abort_multipart_upload(**where, UploadId=aborted)
    assert bucket.uploads == {}


def test_an_etag_is_no_md5_under_a_key_of_kms(server: S3Server, client: Any) -> None:
    plain, encrypted = server.bucket("plain").put("a", b"1"), server.bucket("kms", encryption="aws:kms").put("a", b"1")
    assert plain.etag != encrypted.etag
    assert client.head_object(Bucket="kms", Key="a")["ServerSideEncryption"] == "aws:kms"


def test_a_body_that_is_not_its_checksum_is_refused(bucket: Bucket, client: Any) -> None:
    put = {"Bucket": "bronze", "Key": "a", "Body": b"1", "ChecksumCRC32": "AAAAAA=="}
    assert refused(lambda: client.put_object(**put)) == (400, "BadDigest")
    assert bucket.newest("a") is None


@pytest.mark.parametrize("fault", [SLOW_DOWN, KMS_DISABLED, Refuse(403, "AccessDenied")])
def test_a_refusal(server: S3Server, bucket: Bucket, client: Any, fault: Refuse) -> None:
    once(server, "PutObject", fault)
    assert refused(lambda: client.put_object(Bucket="bronze", Key="a", Body=b"1")) == (fault.status, fault.code)
    assert bucket.newest("a") is None
    assert [(request.operation, met) for request, met in server.log] == [("PutObject", fault)]


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("kind", [Drop, Hang])
def test_an_answer_that_never_comes(server: S3Server, bucket: Bucket, kind: type[Drop | Hang], applied: bool) -> None:
    client = server.client(read_timeout=0.2)
    once(server, "PutObject", kind(applied))
    with pytest.raises(ConnectionClosedError if kind is Drop else ReadTimeoutError):
        client.put_object(Bucket="bronze", Key="a", Body=b"1")
    assert (bucket.newest("a") is not None) is applied
    client.put_object(Bucket="bronze", Key="a", Body=b"2")
    assert bucket.find("a").content == b"2"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after", [0, 1, 99_999])
def test_a_torn_body(server: S3Server, bucket: Bucket, client: Any, after: int, reset: bool) -> None:
    bucket.put("a", b"x" * 100_000)
    once(server, "GetObject", Tear(after, reset))
    with pytest.raises((IncompleteReadError, BotoCoreError)):
        client.get_object(Bucket="bronze", Key="a")["Body"].read()
    once(server, "HeadObject", Tear(after, reset))
    with pytest.raises(BotoCoreError):
        client.head_object(Bucket="bronze", Key="a")


def test_a_flipped_byte(server: S3Server, bucket: Bucket, client: Any) -> None:
    client.put_object(Bucket="bronze", Key="a", Body=b"12345")
    once(server, "GetObject", Flip(7))
    with pytest.raises(FlexibleChecksumError):
        client.get_object(Bucket="bronze", Key="a", ChecksumMode="ENABLED")["Body"].read()
    server.plan = lambda _: Flip(7)
    assert client.get_object(Bucket="bronze", Key="a", Range="bytes=0-")["Body"].read() == b"12245"


def test_a_head_that_is_refused_has_the_sdk_ask_for_the_region(server: S3Server, bucket: Bucket, client: Any) -> None:
    once(server, "HeadObject", KMS_DISABLED)
    assert refused(lambda: client.head_object(Bucket="bronze", Key="a")) == (404, "404")
    assert [request.operation for request, _ in server.log] == ["HeadObject", "HeadBucket", "HeadObject"]
    assert refused(lambda: client.delete_bucket(Bucket="bronze")) == (501, "NotImplemented")


def test_a_late_answer(server: S3Server, bucket: Bucket) -> None:
    once(server, "PutObject", Delay(0.3))
    with pytest.raises(ReadTimeoutError):
        server.client(read_timeout=0.1).put_object(Bucket="bronze", Key="a", Body=b"1")
