"""The bundle on Lambda: unpacked where nothing else is, and run by AWS's own runtime client."""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith.aws import bundle as bundles
from silversmith.aws.bundle import build
from silversmith.cli.application import call
from silversmith.pipeline import locate
from silversmith.tables.spec import GoldSpec, TableSpec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BUCKETS = {"BRONZE": "dl-bronze-layer", "SILVER": "dl-silver-layer", "QUARANTINE": "dl-quarantine-layer"}

#: Seconds that the import of the handler may take on a slow, busy machine. What it takes: bench/notes/0022-bundle.md.
SLOWEST_IMPORT = 20


#: The numbers of the machines in the head of a library.
MACHINES = {"x86_64": 62, "arm64": 183}


def notice(key: str) -> str:
    """EventBridge's event of a new object. https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html"""
    return json.dumps(
        {
            "version": "0",
            "id": "17793124-05d4-b198-2fde-7ededc63b103",
            "detail-type": "Object Created",
            "source": "aws.s3",
            "account": "123456789012",
            "time": "2026-01-02T12:00:00Z",
            "region": "us-east-1",
            "resources": [f"arn:aws:s3:::{BUCKETS['BRONZE']}"],
            "detail": {
                "version": "0",
                "bucket": {"name": BUCKETS["BRONZE"]},
                "object": {"key": key, "size": 5, "etag": "b1946ac92492d2347c6235b4d2611184", "sequencer": "00617F08"},
                "request-id": "N4N7GDK58NMKJ12R",
                "requester": "123456789012",
                "source-ip-address": "1.2.3.4",
                "reason": "PutObject",
            },
        }
    )


class Chain:
    """The buckets and the queue of one transform, and Lambda's side of the queue."""

    def __init__(self, aws: Any) -> None:
        self.s3, self.sqs = aws.client("s3"), aws.client("sqs")
        for bucket in BUCKETS.values():
            self.s3.create_bucket(Bucket=bucket)
        self.queue, self.dead_letters = (
            self.sqs.create_queue(QueueName=f"sales_sales{ending}")["QueueUrl"] for ending in ("", "_DLQ")
        )
        self.environment = {
            **aws.environment,
            **{f"SILVERSMITH_{role}": bucket for role, bucket in BUCKETS.items()},
            "SILVERSMITH_PIPELINE": "pipeline:pipeline",
            "SILVERSMITH_TRANSFORM": "sales",
            "SILVERSMITH_QUEUE": self.queue,
            "SILVERSMITH_DLQ": self.dead_letters,
        }

    def land(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=BUCKETS["BRONZE"], Key=key, Body=body)
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=notice(key))

    def batch(self) -> dict[str, Any]:
        """The queue's messages, as an event source mapping hands them to the function.

        https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
        """
        messages = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, AttributeNames=["All"])
        return {
            "Records": [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": message["Attributes"],
                    "messageAttributes": {},
                    "md5OfBody": message["MD5OfBody"],
                    "eventSource": "aws:sqs",
                    "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:sales_sales",
                    "awsRegion": "us-east-1",
                }
                for message in messages["Messages"]
            ]
        }

    def dead(self) -> list[tuple[str, dict[str, str]]]:
        """The bodies of what the function gave up on, with their attributes."""
        received = self.sqs.receive_message(
            QueueUrl=self.dead_letters, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        return [
            (
                message["Body"],
                {name: each["StringValue"] for name, each in message.get("MessageAttributes", {}).items()},
            )
            for message in received.get("Messages", ())
        ]

    def body(self, role: str, key: str) -> bytes:
        content: bytes = self.s3.get_object(Bucket=BUCKETS[role], Key=key)["Body"].read()
        return content


@pytest.fixture
def chain(aws: Any) -> Chain:
    return Chain(aws)


@pytest.fixture(params=["silversmith.function.handler.handler"])
def function(request: pytest.FixtureRequest, unpacked: Any, runtime_api: Any, chain: Chain) -> Iterator[Any]:
    process = unpacked.run(
        "-m",
        "awslambdaric",
        request.param,
        AWS_LAMBDA_RUNTIME_API=runtime_api.address,
        AWS_LAMBDA_FUNCTION_NAME="sales_sales",
        AWS_LAMBDA_FUNCTION_VERSION="$LATEST",
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE="512",
        AWS_LAMBDA_LOG_GROUP_NAME="g",
        AWS_LAMBDA_LOG_STREAM_NAME="s",
        **chain.environment,
    )
    yield runtime_api
    process.kill()
    process.communicate()


def test_real_batches_are_processed(function: Any, chain: Chain) -> None:
    chain.land("sales/jan.csv", b"item,price\nbowl,3\nspoon,-1\n")
    chain.land("sales/feb.csv", b"item,price\nfork,7\n")
    assert function.invoke(chain.batch()) == ("response", {"batchItemFailures": []})
    silver = pl.read_parquet(io.BytesIO(chain.body("SILVER", "sales/sales/jan.csv.parquet")))
    assert silver.rows() == [("bowl", 3, 300)]
    rejected = pl.read_parquet(io.BytesIO(chain.body("QUARANTINE", "sales/sales/jan.csv.rejected.parquet")))
    assert rejected.height == 1
    head = chain.s3.head_object(Bucket=BUCKETS["SILVER"], Key="sales/sales/feb.csv.parquet")
    assert head["Metadata"]["bronze-key"] == "sales/feb.csv"
    # The same environment, warm. Zstandard is a package; bad data is no failure, and a message that is no event goes to
    # the dead-letter queue at once, with its error.
    chain.land("sales/bad.csv", b"item,price\nbowl,much\n\xff\xfe\x00\n")
    chain.land("sales/mar.csv.zst", zstd.compress(b"item,price\nknife,5\n"))
    chain.sqs.send_message(QueueUrl=chain.queue, MessageBody="hello")
    batch = chain.batch()
    strange = next(record["messageId"] for record in batch["Records"] if record["body"] == "hello")
    assert function.invoke(batch) == ("response", {"batchItemFailures": []})
    assert chain.dead() == [("hello", {"ERROR_CODE": "NotAnEvent", "MESSAGE_ID": strange})]
    assert b"bad.csv" in chain.body("QUARANTINE", "sales/sales/bad.csv.error.json")
    silver = pl.read_parquet(io.BytesIO(chain.body("SILVER", "sales/sales/mar.csv.zst.parquet")))
    assert silver.rows() == [("knife", 5, 500)]


def test_a_fault_of_the_system_is_an_error_of_the_invocation(function: Any, chain: Chain) -> None:
    """So that Lambda's poller slows down. The messages stay in the queue, and nothing is dead."""
    chain.land("sales/jan.csv", b"item,price\nbowl,3\n")
    batch = chain.batch()
    chain.s3.delete_bucket(Bucket=BUCKETS["SILVER"])
    kind, error = function.invoke(batch)
    assert (kind, error["errorType"]) == ("error", "SystemUnavailable")
    assert "all 1 messages" in error["errorMessage"]
    assert chain.dead() == []
    chain.s3.create_bucket(Bucket=BUCKETS["SILVER"])
    assert function.invoke(batch) == ("response", {"batchItemFailures": []})
    assert pl.read_parquet(io.BytesIO(chain.body("SILVER", "sales/sales/jan.csv.parquet"))).height == 1


@pytest.mark.parametrize("function", ["silversmith.reconcile.handler.handler"], indirect=True)
def test_the_reconciler_sends_what_events_missed(function: Any, chain: Chain) -> None:
    chain.s3.put_object(Bucket=BUCKETS["BRONZE"], Key="sales/lost.csv", Body=b"item,price\nbowl,3\n")
    answered = function.invoke({"queues": {"sales": chain.queue}, "settled_seconds": 0})
    assert answered == ("response", {"done": True})
    (record,) = chain.batch()["Records"]
    assert json.loads(record["body"])["detail"]["object"]["key"] == "sales/lost.csv"


def test_the_same_input_makes_the_same_bundle(unpacked: Any, tmp_path: Path) -> None:
    bundle = build(locate(str(unpacked.project / "pipeline.py")), tmp_path / "packages", runtime=unpacked.target)
    layer, function = bundles.files(unpacked.opt), bundles.files(unpacked.task)
    assert bundle.layer_digest == bundles.digest(layer)
    assert bundle.function_digest == bundles.digest({**layer, **function})


def test_the_command_makes_a_bundle_for_another_machine(
    unpacked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture = "x86_64" if unpacked.target.architecture == "arm64" else "arm64"
    pipeline = str(unpacked.project / "pipeline.py")
    assert call(["bundle", pipeline, "--split", str(tmp_path), "--architecture", architecture, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["architecture"], document["python"]) == (architecture, "3.13")
    assert 100 * 2**20 < document["size"] < bundles.MOST_BYTES
    packages = {package["name"] for package in document["packages"]}
    assert {"silversmith", "pipeline.py", "polars", "_polars_runtime_32", "orjson", "backports"} <= packages
    assert not {"boto3", "rich", "troposphere", "watchdog"} & packages
    with zipfile.ZipFile(tmp_path / "layer.zip") as layer:
        assert {machine(layer, name) for name in layer.namelist() if ".so" in name} == {MACHINES[architecture]}


def test_the_tables_have_a_bundle_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pipeline.py").write_text(
        'from silversmith import Pipeline\npipeline = Pipeline("shop")\n'
        'pipeline.sql("orders/*.csv", "SELECT * FROM rows")\n'
    )
    command = ["bundle", str(tmp_path / "pipeline.py"), "--tables", "--split", str(tmp_path), "--json"]
    assert call([*command, "--architecture", "arm64"]) == 2
    assert "'shop' has no tables: declare one with pipeline.table" in capsys.readouterr().err
    with (tmp_path / "pipeline.py").open("a") as file:
        file.write('pipeline.table("orders", of="orders")\n')
    for architecture, number in MACHINES.items():
        assert call([*command, "--architecture", architecture]) == 0
        document = json.loads(capsys.readouterr().out)
        assert 100 * 2**20 < document["size"] < bundles.MOST_BYTES
        packages = {package["name"] for package in document["packages"]}
        assert {"silversmith", "tables.json", "deltalake", "arro3", "orjson"} <= packages
        assert not {"boto3", "polars", "sqlglot", "pipeline.py", "pyarrow"} & packages
        with zipfile.ZipFile(tmp_path / "layer.zip") as layer:
            assert {machine(layer, name) for name in layer.namelist() if ".so" in name} == {number}
        with zipfile.ZipFile(tmp_path / "function.zip") as function:
            spec = GoldSpec.from_json(function.read("tables.json"))
        assert spec == GoldSpec((TableSpec("orders", "orders"),))


def machine(archive: zipfile.ZipFile, name: str) -> int:
    """For which machine a library is: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html"""
    with archive.open(name) as file:
        return int.from_bytes(file.read(20)[18:], "little")


def test_the_fingerprint_is_the_one_it_is_here(unpacked: Any) -> None:
    """Else every object would count as made by older code, as soon as somebody reconciles from a laptop."""
    here = locate(str(unpacked.project / "pipeline.py")).pipeline.find("sales").fingerprint
    script = "from silversmith.pipeline import load; print(load('pipeline:pipeline').find('sales').fingerprint)"
    process = unpacked.run("-c", script)
    said, _ = process.communicate(timeout=SLOWEST_IMPORT)
    assert said.strip() == here


def test_the_handler_is_imported_from_the_bundle_alone(unpacked: Any, record_property: Any) -> None:
    script = (
        "import time; began = time.perf_counter()\n"
        "import silversmith.function.handler, polars, orjson\n"
        "print(time.perf_counter() - began); print(silversmith.__file__); print(polars.__file__)"
    )
    process = unpacked.run("-c", script)
    began = time.monotonic()
    said, _ = process.communicate(timeout=SLOWEST_IMPORT)
    assert process.returncode == 0, said
    seconds, ours, theirs = said.split("\n")[:3]
    record_property("import_seconds", seconds)
    assert ours.startswith(str(unpacked.task))
    assert theirs.startswith(str(unpacked.opt))
    assert float(seconds) <= time.monotonic() - began
