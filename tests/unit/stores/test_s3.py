"""Facts of S3 alone: versions, ranges, parts, retries. The promises of all stores are in test_conformance.py."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from silversmith.errors import AccessDenied, AwsFailed, PreconditionFailed, SourceChanged
from silversmith.stores import IN_MEMORY, s3_transfer
from silversmith.stores.aws_errors import translate_aws_errors
from silversmith.stores.keys import InvalidKey
from silversmith.stores.s3 import S3Store, connect

BUCKET = "dl-silver-layer"

#: One for all tests: each would read the SDK's description of S3 anew.
SESSION = boto3.session.Session("some", "thing", region_name="us-east-1")

#: A little more than a range beyond what the first answer holds.
LARGE = bytes(range(256)) * (IN_MEMORY // 256) + b"x" * (s3_transfer.RANGE + 5)


class Http(NamedTuple):
    """As much of an HTTP response as the SDK's client looks at."""

    status_code: int


#: A response in the place of S3's: of HTTP, and as parsed.
Answer = tuple[Http, dict[str, Any]]


def answer(status: int, word: str) -> Answer:
    meta = {"HTTPStatusCode": status, "RequestId": "R1", "RetryAttempts": 2}
    return Http(status), {"Error": {"Code": word, "Message": f"{word} it is"}, "ResponseMetadata": meta}


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        result = connect(SESSION)
        result.create_bucket(Bucket=BUCKET)
        yield result


@pytest.fixture
def other_client(client: Any) -> Any:
    """Somebody else, whose requests no hook of ``client`` sees."""
    return connect(SESSION)


@pytest.fixture
def store(client: Any, tmp_path: Path) -> S3Store:
    return S3Store(BUCKET, client=client, scratch=tmp_path)


def before(client: Any, operation: str, act: Callable[[dict[str, str]], Answer | None]) -> None:
    """Have ``act`` see the headers of each request of an operation before it is sent; its own answer ends it there."""
    client.meta.events.register(f"before-call.s3.{operation}", lambda params, **_: act(params["headers"]))


def keep_versions(client: Any) -> None:
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})


def meanwhile(client: Any, act: Callable[[], object]) -> list[bool]:
    """Have ``act`` done once, after the first answer about a large object and before any other request for it."""
    done: list[bool] = []
    lock = threading.Lock()

    def once(headers: dict[str, str]) -> None:
        with lock:
            if not done and "Range" in headers:
                act()
                done.append(True)

    before(client, "GetObject", once)
    return done


def test_a_stand_in_is_asked_by_path() -> None:
    result = connect(SESSION, endpoint_url="http://localhost:4566")
    url = result.generate_presigned_url("head_object", Params={"Bucket": BUCKET, "Key": "a"})
    assert url.startswith(f"http://localhost:4566/{BUCKET}/a?")


def test_a_small_object_costs_one_request(client: Any, store: S3Store) -> None:
    store.put("a", b"abc")
    asked: list[str] = []
    client.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name))
    assert store.read("a") == b"abc"
    assert asked == ["GetObject"]


def test_a_large_object_is_put_together_of_its_ranges(store: S3Store, tmp_path: Path) -> None:
    store.put("large", LARGE)
    with store.open("large") as source:
        assert source is not None
        assert source.path is not None
        assert source.head.size == len(LARGE)
        assert source.path.read_bytes() == LARGE
    assert list(tmp_path.iterdir()) == []


def test_metadata_comes_with_head_and_with_open(store: S3Store) -> None:
    store.put("a", b"abc", metadata={"bronze-key": "a%20b"})
    head = store.head("a")
    assert head is not None
    assert head.metadata == {"bronze-key": "a%20b"}
    with store.open("a") as source:
        assert source is not None
        assert source.head == head


def test_the_version_is_known_if_the_bucket_keeps_versions(client: Any, store: S3Store) -> None:
    store.put("old", b"1")
    keep_versions(client)
    version = client.put_object(Bucket=BUCKET, Key="new", Body=b"2")["VersionId"]
    old, new = store.head("old"), store.head("new")
    assert old is not None
    assert new is not None
    assert (old.version, new.version) == (None, version)


def test_a_version_is_read_to_its_end_though_a_newer_one_is_put(client: Any, other_client: Any, store: S3Store) -> None:
    keep_versions(client)
    store.put("large", LARGE)
    replaced = meanwhile(client, lambda: other_client.put_object(Bucket=BUCKET, Key="large", Body=b"y" * len(LARGE)))
    with store.open("large") as source:
        assert source is not None
        assert source.path is not None
        assert source.path.read_bytes() == LARGE
    assert replaced


@pytest.mark.parametrize("newer", [b"y" * len(LARGE), b"short", None], ids=["as long", "shorter", "deleted"])
def test_ranges_of_two_objects_are_never_mixed(
    client: Any, other_client: Any, store: S3Store, tmp_path: Path, newer: bytes | None
) -> None:
    store.put("large", LARGE)

    def replace() -> None:
        if newer is None:
            other_client.delete_object(Bucket=BUCKET, Key="large")
        else:
            other_client.put_object(Bucket=BUCKET, Key="large", Body=newer)

    meanwhile(client, replace)
    with pytest.raises(SourceChanged, match="large"), store.open("large"):
        pytest.fail("it was opened")
    assert list(tmp_path.iterdir()) == []


def test_an_object_larger_than_the_disk_is_refused_before_it_is_fetched(client: Any, store: S3Store) -> None:
    store.put("large", LARGE)

    def enlarge(parsed: dict[str, Any], **_: Any) -> None:
        parsed["ContentLength"] = 10**18

    client.meta.events.register("after-call.s3.GetObject", enlarge)
    with pytest.raises(OSError, match="give the function more ephemeral storage"), store.open("large"):
        pytest.fail("it was opened")


@given(st.integers(1, 50 * 1024**4))
def test_parts_fit_the_limits_of_s3(size: int) -> None:
    length = s3_transfer.part_size(size)
    assert -(-size // length) <= 10_000
    assert length >= 5 * 1024**2
    assert length <= 5 * 1024**3 or size > 10_000 * 5 * 1024**3


@pytest.fixture
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three parts, the last one short."""
    path = tmp_path_factory.mktemp("body") / "body"
    path.write_bytes(b"a" * s3_transfer.PART + b"b" * s3_transfer.PART + b"c" * 17)
    return path


def uploads(client: Any) -> list[Any]:
    return client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])  # type: ignore[no-any-return]


def test_a_large_file_goes_in_parts(client: Any, store: S3Store, file: Path) -> None:
    etag = store.put("t/large", file, metadata={"rows-read": "3"}, if_none_match=True)
    head = store.head("t/large")
    assert head is not None
    assert head.etag == etag
    assert etag.endswith("-3")
    assert head.metadata == {"rows-read": "3"}
    assert store.read("t/large") == file.read_bytes()
    assert uploads(client) == []


def test_parts_become_no_object_where_there_is_one(client: Any, store: S3Store, file: Path) -> None:
    store.put("t/a", b"first")
    with pytest.raises(PreconditionFailed, match="t/a"):
        store.put("t/a", file, if_none_match=True)
    assert store.read("t/a") == b"first"
    assert uploads(client) == []


def as_aws_does(client: Any, other_client: Any) -> None:
    """S3 checks If-Match of CompleteMultipartUpload; moto does not look at it.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """

    def check(headers: dict[str, str]) -> Answer | None:
        expected = headers.get("If-Match")
        try:
            result = other_client.head_object(Bucket=BUCKET, Key="t/a")["ETag"]
        except ClientError:
            return answer(404, "NoSuchKey")
        return None if result == expected else answer(412, "PreconditionFailed")

    before(client, "CompleteMultipartUpload", check)


def test_parts_replace_only_what_is_named(client: Any, other_client: Any, store: S3Store, file: Path) -> None:
    as_aws_does(client, other_client)
    with pytest.raises(PreconditionFailed):
        store.put("t/a", file, if_match="gone")
    first = store.put("t/a", b"first")
    second = store.put("t/a", b"second")
    with pytest.raises(PreconditionFailed):
        store.put("t/a", file, if_match=first)
    assert store.read("t/a") == b"second"
    assert uploads(client) == []
    store.put("t/a", file, if_match=second)
    assert store.read("t/a") == file.read_bytes()


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_a_failed_upload_leaves_no_parts(client: Any, store: S3Store, file: Path, operation: str) -> None:
    before(client, operation, lambda _: answer(400, "EntityTooSmall"))
    with pytest.raises(AwsFailed, match=f"{operation} failed after 2 retries: EntityTooSmall: EntityTooSmall it is"):
        store.put("a", file)
    assert uploads(client) == []
    assert store.head("a") is None


def test_an_upload_whose_end_was_lost_makes_the_caller_look_again(client: Any, store: S3Store, file: Path) -> None:
    """The SDK sent CompleteMultipartUpload twice; the first one did it, and its answer was lost."""
    before(client, "CompleteMultipartUpload", lambda _: answer(404, "NoSuchUpload"))
    with pytest.raises(PreconditionFailed):
        store.put("a", file, if_none_match=True)
    with pytest.raises(AwsFailed, match="NoSuchUpload"):
        store.put("a", file)


@pytest.mark.parametrize("word", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_both_words_for_a_lost_race_mean_one_thing(client: Any, store: S3Store, word: str) -> None:
    for operation in ("PutObject", "DeleteObject"):
        before(client, operation, lambda _: answer(409 if "Conflict" in word else 412, word))
    with pytest.raises(PreconditionFailed):
        store.put("a", b"", if_none_match=True)
    with pytest.raises(PreconditionFailed):
        store.delete("a", if_match="x")


def test_a_listing_is_read_page_by_page(client: Any, store: S3Store) -> None:
    client.meta.events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 3})
    names = [f"n/{number}" for number in range(7)]
    for name in names:
        client.put_object(Bucket=BUCKET, Key=name, Body=b"")
    asked: list[int] = []
    before(client, "ListObjectsV2", lambda _: asked.append(1))
    listing = store.list("n/")
    assert next(listing).key == "n/0"
    assert len(asked) == 1
    assert [head.key for head in listing] == names[1:]
    assert len(asked) == 3


@pytest.mark.parametrize("key", ["", "é" * 513])
def test_invalid_keys_are_refused_before_s3_is_asked(store: S3Store, key: str) -> None:
    for call in (store.head, store.read, store.delete, lambda key: store.put(key, b"")):
        with pytest.raises(InvalidKey):
            call(key)


def test_a_denial_names_the_operation_and_the_object(client: Any, store: S3Store) -> None:
    before(client, "PutObject", lambda _: answer(403, "AccessDenied"))
    with pytest.raises(AccessDenied, match=f"denied PutObject on s3://{BUCKET}/a: look at the policy") as denied:
        store.put("a", b"")
    assert str(denied.value).endswith(": AccessDenied it is")  # S3 names the action that no policy allows


def test_an_archived_object_is_reported_with_the_way_out(client: Any, store: S3Store) -> None:
    before(client, "GetObject", lambda _: answer(403, "InvalidObjectState"))
    with pytest.raises(AwsFailed, match="a is archived in an archive tier: restore it"):
        store.read("a")


def test_a_missing_bucket_is_not_a_missing_object(client: Any, tmp_path: Path) -> None:
    store = S3Store("never-made", client=client, scratch=tmp_path)
    for call in (lambda: store.read("a"), lambda: store.put("a", b""), lambda: list(store.list())):
        with pytest.raises(AwsFailed, match="there is no such bucket: was the pipeline deployed"):
            call()


def test_other_errors_keep_the_words_of_s3_and_the_request(client: Any, store: S3Store) -> None:
    before(client, "PutObject", lambda _: answer(400, "InvalidStorageClass"))
    with pytest.raises(
        AwsFailed, match="after 2 retries: InvalidStorageClass: InvalidStorageClass it is \\(request R1\\)"
    ) as raised:
        store.put("a", b"")
    assert isinstance(raised.value, OSError)
    assert isinstance(raised.value.__cause__, ClientError)


def test_missing_credentials_are_reported_as_such() -> None:
    with pytest.raises(AwsFailed, match="AWS_PROFILE"), translate_aws_errors("s3://b/k"):
        raise NoCredentialsError


def test_a_listing_is_parsed_before_botocore_looks_for_an_error_in_it(store: S3Store, client: Any) -> None:
    """That takes as long as all else of a listing."""
    seen: list[int] = []
    client.meta.events.register_first(
        "before-parse.s3.*", lambda response_dict, **_: seen.append(response_dict["body"].count(b"<Key>"))
    )
    client.meta.events.register(
        "before-send.s3",
        lambda request, **_: AWSResponse(request.url, 200, {"Content-Length": str(len(PAGE))}, Body(PAGE)),
    )
    assert [head.key for head in store.list()] == ["a", "b"]
    assert seen == [0]


#: A listing of two objects as S3 writes it.
PAGE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>b</Name><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    + "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
        "<Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key in "ab"
    )
    + "</ListBucketResult>"
).encode()


class Body(io.BytesIO):
    """A body as urllib3 hands it out."""

    def stream(self, amt: int = 2**16, **_: Any) -> Iterator[bytes]:
        while chunk := self.read(amt):
            yield chunk
