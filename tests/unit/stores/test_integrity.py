"""Every byte that is read from S3 is the object's: over real sockets that close early, or carry other bytes."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import polars as pl
import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, NoCredentialsError
from botocore.parsers import ResponseParserError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from urllib3.exceptions import ProtocolError, SSLError

from silversmith import Context, Contract, Pipeline
from silversmith.errors import AwsFailed, SourceChanged
from silversmith.function.handler import Handler
from silversmith.function.outcome import Report
from silversmith.runtime.queue import SystemUnavailable
from silversmith.silver import scan
from silversmith.stores import IN_MEMORY, Lake
from silversmith.stores.aws_errors import translate_aws_errors
from silversmith.stores.s3 import S3Store, client_config, connect, longest_backoff
from silversmith.stores.s3_transfer import ALGORITHMS, PART, RANGE, TRIES, Checksum
from tests.examples import examples
from tests.stand_in import Fault, Flip, Refuse, Request, S3Server, Tear
from tests.stand_in.server import Answer
from tests.unit.conftest import Leisure

SMALL = b"id,n\n" + b"".join(b"%d,%d\n" % (number, number % 7) for number in range(1_000))

#: The first answer, a range in the middle, and the last range, which is shorter.
LARGE = b"id,n\n" + b"".join(b"%d,%d\n" % (number, number % 7) for number in range(1_000_000, 2_000_000))
LARGE += b"".join(b"%d,%d\n" % (number, number % 7) for number in range(2_000_000, 2_900_000))

#: Which requests for the object are hit, by where its bytes lie.
PLACES: dict[str, Callable[[Request], bool]] = {
    "first": lambda request: request.range == "",
    "middle": lambda request: request.range.startswith(f"bytes={IN_MEMORY}-"),
    "last": lambda request: request.range.startswith(f"bytes={IN_MEMORY + RANGE}-"),
}

#: A body that ends early, between bytes and before the first; in a TCP reset; and one with another byte.
FAULTS: dict[str, Fault] = {
    "torn": Tear(100_003),
    "empty": Tear(0),
    "reset": Tear(100_003, reset=True),
    "changed": Flip(100_003),
}


def session(certificate: Path | None = None) -> Any:
    core = botocore.session.Session()
    if certificate is not None:
        core.set_config_variable("ca_bundle", str(certificate))
    return boto3.session.Session("some", "thing", region_name="us-east-1", botocore_session=core)


class Room:
    """A server for all tests, and a client of the product's own."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.client = connect(session(server.certificate), endpoint_url=server.url, time_limit=300)

    def store(self, bucket: str, scratch: Path) -> S3Store:
        return S3Store(bucket, client=self.client, scratch=scratch)

    def put(self, bucket: str, key: str, body: bytes, algorithm: str | None = "crc32", parts: int = 0) -> None:
        """An object with a checksum: the stand-in's own are slow, and this is about large ones."""
        checksum = None
        if algorithm is not None:
            hasher = ALGORITHMS[algorithm]()
            hasher.update(body)
            checksum = algorithm, base64.b64encode(hasher.digest()).decode()
        self.server.buckets[bucket].put(key, body, checksum=checksum)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def shared(request: pytest.FixtureRequest) -> Iterator[Room]:
    with S3Server(tls=request.param) as server:
        yield Room(server)


@pytest.fixture
def room(shared: Room) -> Room:
    shared.server.plan = lambda _: None
    shared.server.log.clear()
    for bucket in ("bronze", "silver", "quarantine"):
        shared.server.bucket(bucket, checksum=None)
    return shared


class Hits:
    """A plan that has the first ``times`` answers of those that are meant meet a fault."""

    def __init__(self, fault: Fault, meant: Callable[[Request], bool], times: float = float("inf")) -> None:
        self.fault = fault
        self.meant = meant
        self.times = times
        self.count = 0

    def __call__(self, request: Request) -> Fault | None:
        if self.count >= self.times or not self.meant(request):
            return None
        self.count += 1
        return self.fault


def gets(key: str, place: str = "first") -> Callable[[Request], bool]:
    return lambda request: request.operation == "GetObject" and request.key == key and PLACES[place](request)


@pytest.mark.parametrize("place", ["small", *PLACES])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_body_that_is_not_whole_is_asked_for_again(room: Room, tmp_path: Path, place: str, fault: str) -> None:
    body = SMALL if place == "small" else LARGE
    room.put("bronze", "a", body)
    plan = room.server.plan = Hits(FAULTS[fault], gets("a", place if place in PLACES else "first"), TRIES - 1)
    store = room.store("bronze", tmp_path)
    if place == "first" and fault == "changed":
        plan.times = 1  # it is found out at the end, and all is fetched as ranges
    assert store.read("a") == body
    assert plan.count == plan.times
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["small", *PLACES])
@pytest.mark.parametrize("fault", ["torn", "changed"])
def test_objects_that_never_come_whole_are_the_systems_fault(
    room: Room, tmp_path: Path, place: str, fault: str
) -> None:
    room.put("bronze", "a", SMALL if place == "small" else LARGE)
    hit = gets("a", place if place in PLACES else "first")
    if place == "first" and fault == "changed":
        hit = lambda request: request.operation == "GetObject"  # noqa: E731 -- else the ranges mend it
    room.server.plan = Hits(FAULTS[fault], hit)
    with (
        pytest.raises(AwsFailed, match=r"s3://bronze/a.*: its bytes did not arrive whole, 4 times: ") as failed,
        room.store("bronze", tmp_path).open("a"),
    ):
        pytest.fail("it was handed out")
    assert isinstance(failed.value, OSError)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_small_object_is_whole_wherever_it_is_cut_or_changed(room: Room, tmp_path: Path, data: st.DataObject) -> None:
    body = data.draw(st.binary(min_size=1, max_size=300))
    algorithm = data.draw(st.sampled_from([None, "crc32", "crc32c", "crc64nvme", "sha1", "sha256"]))
    at = data.draw(st.integers(0, len(body) - 1))
    room.put("bronze", "a", body, algorithm)
    faults: list[Fault] = [Tear(at), Tear(at, reset=True), Flip(at)]
    fault = data.draw(st.sampled_from(faults))
    room.server.plan = Hits(fault, gets("a"), data.draw(st.integers(1, TRIES - 1)))
    assert room.store("bronze", tmp_path).read("a") == body


@given(st.sampled_from([*ALGORITHMS]), st.binary(max_size=100), st.integers(0, 100))
def test_checksums_do_not_depend_on_how_bytes_are_cut(algorithm: str, data: bytes, at: int) -> None:
    whole, pieces = ALGORITHMS[algorithm](), ALGORITHMS[algorithm]()
    whole.update(data)
    pieces.update(memoryview(data)[:at])
    pieces.update(data[at:])
    assert whole.digest() == pieces.digest()


def test_checksums_are_those_of_s3() -> None:
    """The check values of the catalogue of CRCs, which S3's documentation refers to."""
    known = {"crc32": "cbf43926", "crc32c": "e3069283", "crc64nvme": "ae8b14860a799888"}
    for algorithm, value in known.items():
        hasher = ALGORITHMS[algorithm]()
        hasher.update(b"123456789")
        assert hasher.digest().hex() == value


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5), st.integers(1, 30))
def test_the_checksum_of_parts_is_that_of_their_checksums(parts: list[bytes], piece: int) -> None:
    digests = b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)
    value = base64.b64encode(zlib.crc32(digests).to_bytes(4, "big")).decode()
    checksum = Checksum("crc32", value, len(parts))
    body = b"".join(parts)
    hasher = checksum.hasher([len(part) for part in parts])
    for at in range(0, len(body), piece):
        hasher.update(body[at : at + piece])
    assert checksum.matches(hasher)


@pytest.mark.parametrize("encryption", ["AES256", "aws:kms"])
def test_an_etag_is_a_checksum_only_where_it_is_an_md5(room: Room, tmp_path: Path, encryption: str) -> None:
    """Under a key of KMS there is none, and none here beside it: the length is all that can be compared."""
    room.server.buckets["bronze"].put("a", SMALL, encryption=encryption)
    room.server.plan = Hits(Flip(10), gets("a"))
    store = room.store("bronze", tmp_path)
    if encryption == "AES256":
        with pytest.raises(AwsFailed, match="another md5 than S3 says"):
            store.read("a")
    else:
        data = store.read("a")
        assert data is not None
        assert len(data) == len(SMALL)
        assert data != SMALL


@pytest.mark.parametrize("after", [0, 100, 200, 400])
def test_a_listing_that_is_cut_off_is_asked_for_again(room: Room, tmp_path: Path, after: int) -> None:
    """Botocore takes an answer without its body for an empty listing. What it cannot parse it asks for again itself."""
    room.put("bronze", "a", b"1")
    lists = Hits(Tear(after), lambda request: request.operation == "ListObjectsV2", TRIES - 1)
    room.server.plan = lists
    store = room.store("bronze", tmp_path)
    assert [head.key for head in store.list()] == ["a"]
    lists.times = float("inf")
    with pytest.raises(AwsFailed, match="s3://bronze/: "):
        list(store.list())


def test_half_an_answer_does_not_mean_a_missing_object(room: Room, tmp_path: Path) -> None:
    """An error whose text is cut off could be that the bucket is missing."""
    room.server.plan = Hits(Tear(20), gets("none"))
    with pytest.raises(AwsFailed):
        room.store("bronze", tmp_path).read("none")
    room.server.plan = lambda _: None
    assert room.store("bronze", tmp_path).read("none") is None


@pytest.mark.parametrize(
    "error",
    [
        NoCredentialsError(),
        EndpointConnectionError(endpoint_url="https://s3"),
        ConnectionClosedError(endpoint_url="https://s3"),
        ResponseParserError("cut"),
        ProtocolError("broken"),
        SSLError("eof"),
        IncompleteRead(b""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_exception_of_the_sdk_is_the_systems_fault(error: Exception) -> None:
    with pytest.raises(AwsFailed, match=r"^s3://b/k: ") as failed, translate_aws_errors("s3://b/k"):
        raise error
    assert failed.value.__cause__ is error


def test_a_large_upload_is_proven_as_a_whole(room: Room, tmp_path: Path) -> None:
    body = b"a" * PART + b"b" * PART + b"c" * 17
    path = tmp_path / "body"
    path.write_bytes(body)
    store = room.store("silver", tmp_path)
    store.put("a", path)
    (complete,) = (request for request, _ in room.server.log if request.operation == "CompleteMultipartUpload")
    checksum = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert complete.headers["x-amz-checksum-crc32"] == checksum
    assert complete.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert complete.headers["x-amz-mp-object-size"] == str(len(body))
    assert store.read("a") == body


COUNTRIES = "lookup/countries.csv"
SCHEMA = "_schemas/orders.json"


def orders(rows: pl.LazyFrame, context: Context) -> pl.LazyFrame:
    return rows.join(context.read(COUNTRIES), on="n", how="left", maintain_order="left")


class Shop:
    """A pipeline over the server, as Lambda runs it."""

    def __init__(self, room: Room, scratch: Path) -> None:
        pipeline = Pipeline("shop")
        contract = Contract(schema={"id": pl.Int64, "n": pl.Int64})
        pipeline.transform("orders/*.csv", name="orders", contract=contract, lookups=[COUNTRIES])(orders)
        self.room = room
        self.scratch = scratch
        self.reports: list[Report] = []
        bronze, silver, quarantine = (room.store(bucket, scratch) for bucket in ("bronze", "silver", "quarantine"))
        self.handler = Handler(
            pipeline.find("orders"),
            bucket="bronze",
            lake=Lake(bronze, silver, quarantine),
            scratch=scratch,
            ended=self.reports.append,
        )
        room.put("bronze", COUNTRIES, b"n,country\n" + b"".join(b"%d,land %d\n" % (n, n) for n in range(7)))

    def handle(self, key: str) -> bool:
        """Whether its message is acknowledged."""
        detail = {"bucket": {"name": "bronze"}, "object": {"key": key}}
        body = json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})
        record = {"messageId": "1", "receiptHandle": "r", "body": body, "attributes": {"ApproximateReceiveCount": "1"}}
        try:
            return self.handler({"Records": [record]}, Leisure()) == {"batchItemFailures": []}
        except SystemUnavailable:
            return False

    def rows(self, key: str) -> int | None:
        """The rows of its silver; None where there is none."""
        version = self.room.server.buckets["silver"].newest(f"orders/{key}.parquet")
        return None if version is None else pl.read_parquet(version.content).height

    @property
    def quarantined(self) -> list[str]:
        return [version.key for version in self.room.server.buckets["quarantine"].objects()]


#: What is read for a file: the object that is hit, and where.
READS = {
    "small": ("orders/small.csv", "first"),
    "first range": ("orders/large.csv", "first"),
    "middle range": ("orders/large.csv", "middle"),
    "last range": ("orders/large.csv", "last"),
    "lookup": (COUNTRIES, "first"),
    "schema document": (SCHEMA, "first"),
}


@pytest.mark.parametrize("read", READS)
def test_no_torn_body_becomes_silver_or_quarantine(room: Room, tmp_path: Path, read: str) -> None:
    hit, place = READS[read]
    key = hit if hit.startswith("orders/") else "orders/small.csv"
    shop = Shop(room, tmp_path)
    room.put("bronze", "orders/before.csv", SMALL)
    assert shop.handle("orders/before.csv"), shop.reports
    shop = Shop(room, tmp_path)  # it knows no schema and no lookup yet
    room.put("bronze", key, LARGE if "large" in key else SMALL)
    room.server.plan = plan = Hits(Tear(20), gets(hit, place))
    assert not shop.handle(key)
    assert plan.count >= TRIES
    assert shop.rows(key) is None
    assert shop.quarantined == []
    (report,) = shop.reports
    assert report.error is not None
    assert report.error["code"] == "AwsFailed"
    room.server.plan = plan = Hits(Tear(20), gets(hit, place), TRIES - 1)
    assert shop.handle(key)
    assert plan.count == TRIES - 1
    assert shop.rows(key) == (1_900_000 if "large" in key else 1_000)
    assert shop.quarantined == []


def test_two_million_rows_whose_last_range_is_cut(room: Room, tmp_path: Path) -> None:
    """20 MB: they were committed with as many rows as had come, and nothing was rejected."""
    body = b"id,n\n" + b"".join(b"%07d,%d\n" % (number, number % 7) for number in range(2_000_000))
    room.put("bronze", "orders/a.csv", body)
    room.server.plan = plan = Hits(Tear(1_000_009), gets("orders/a.csv", "last"), 1)  # between two lines
    shop = Shop(room, tmp_path)
    assert shop.handle("orders/a.csv"), shop.reports
    assert plan.count == 1
    assert shop.rows("orders/a.csv") == 2_000_000
    assert shop.quarantined == []


def test_silver_and_its_schema_are_read_back_whole(room: Room, tmp_path: Path) -> None:
    shop = Shop(room, tmp_path)
    room.put("bronze", "orders/a.csv", SMALL)
    assert shop.handle("orders/a.csv"), shop.reports
    room.server.plan = plan = Hits(Tear(50), gets(SCHEMA), 1)
    scan("s3://silver/orders", s3=room.client)
    assert plan.count == 1
    key = "orders/orders/a.csv.parquet"
    room.server.plan = plan = Hits(Tear(50), gets(key), 1)
    data = room.store("silver", tmp_path).read(key)
    assert data == room.server.buckets["silver"].find(key).content
    assert plan.count == 1


@given(st.integers(1, 900))
def test_no_request_takes_as_long_as_its_function_may(seconds: int) -> None:
    config = client_config(seconds)
    attempts = config.retries["total_max_attempts"]
    assert config.retries["mode"] == "standard"
    assert attempts >= 1
    assert min(config.connect_timeout, config.read_timeout) > 0
    assert attempts * (config.connect_timeout + config.read_timeout) + longest_backoff(attempts) < seconds


def test_without_a_function_there_is_patience() -> None:
    config = client_config()
    assert (config.retries["total_max_attempts"], config.connect_timeout, config.read_timeout) == (5, 5, 60)


class WithParts(S3Server):
    """It knows what parts an object was put in."""

    sizes: Sequence[int] = ()

    def perform(self, request: Request, *, lag: int = 0) -> Answer:
        number = request.query.get("partNumber")
        if request.operation != "HeadObject" or number is None or not self.sizes:
            return super().perform(request, lag=lag)
        version = self.buckets[request.bucket].find(request.key)
        headers = {"ETag": f'"{version.etag}"', "Last-Modified": "Mon, 30 Nov 2026 00:00:00 GMT"}
        return Answer(206, b"x" * self.sizes[int(number) - 1], headers)


@pytest.fixture(scope="module")
def parted() -> Iterator[Room]:
    with WithParts() as server:
        yield Room(server)


@pytest.mark.parametrize("unit", [100, 1_000_000], ids=["small", "large"])
@pytest.mark.parametrize(
    ("sizes", "heads"),
    [([6, 6, 5], 1), ([6, 6, 6], 1), ([17], 1), ([3, 9, 8], 1 + 3), ([9, 4, 6], 1 + 1 + 3)],
    ids=["as large", "all as large", "one", "of all sizes", "looking as large"],
)
def test_an_object_of_parts_is_proven_by_the_checksums_of_parts(
    parted: Room, tmp_path: Path, sizes: list[int], heads: int, unit: int
) -> None:
    lengths = [size * unit for size in sizes]
    body = (LARGE * 2)[: sum(lengths)]
    server = parted.server
    assert isinstance(server, WithParts)
    server.plan = lambda _: None
    server.bucket("bronze", checksum=None)
    put_in_parts(parted.client, body, lengths)
    server.sizes = lengths
    server.log.clear()
    store = parted.store("bronze", tmp_path)
    assert store.read("a") == body
    assert [request.operation for request, _ in server.log].count("HeadObject") == heads
    server.plan = Hits(Flip(12), lambda request: request.operation == "GetObject")
    with pytest.raises(AwsFailed, match="another crc32 than S3 says"):
        store.read("a")


@pytest.mark.parametrize(
    "sizes", [(len(SMALL), len(SMALL)), (100, 100)], ids=["each part is the whole", "less than the whole"]
)
def test_an_object_whose_parts_do_not_add_up_is_refused(parted: Room, tmp_path: Path, sizes: Sequence[int]) -> None:
    """Its length alone proves nothing: bytes could be others. So it is read again, and then refused."""
    server = parted.server
    assert isinstance(server, WithParts)
    server.bucket("bronze", checksum=None)
    server.sizes = ()
    put_in_parts(parted.client, SMALL, [100, len(SMALL) - 100])
    server.sizes = sizes
    server.plan = lambda _: None
    server.log.clear()
    with pytest.raises(AwsFailed, match="its 2 parts have"):
        parted.store("bronze", tmp_path).read("a")
    assert [request.operation for request, _ in server.log].count("GetObject") == TRIES


def test_parts_of_an_object_that_was_replaced_are_asked_for_in_vain(parted: Room, tmp_path: Path) -> None:
    server = parted.server
    server.bucket("bronze", checksum=None)
    put_in_parts(parted.client, SMALL, [100, len(SMALL) - 100])
    server.plan = lambda request: Refuse(412, "PreconditionFailed") if request.operation == "HeadObject" else None
    with pytest.raises(SourceChanged, match="s3://bronze/a was replaced"):
        parted.store("bronze", tmp_path).read("a")


def put_in_parts(client: Any, body: bytes, lengths: Sequence[int]) -> None:
    """As boto3's own ``upload_file`` does."""
    where = {"Bucket": "bronze", "Key": "a"}
    upload = {**where, "UploadId": client.create_multipart_upload(**where, ChecksumAlgorithm="CRC32")["UploadId"]}
    parts = []
    for number, length in enumerate(lengths, start=1):
        part = body[sum(lengths[: number - 1]) :][:length]
        etag = client.upload_part(**upload, PartNumber=number, Body=part, ChecksumAlgorithm="CRC32")["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
