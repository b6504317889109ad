"""From end to end on MiniStack: what is deployed there makes of files what the local engine makes of them.

The commands are those that a person would type, the files are put by plain boto3, the functions run in processes of
their own with the rights that the template gives them, and nobody has more: IAM is enforced. docs/stand-ins.md
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from silversmith.aws.bundle import build, build_tables
from silversmith.aws.deploy import code_keys
from silversmith.aws.packages import Runtime
from silversmith.cli.application import call
from silversmith.cli.deploy import deploy_release, prepare_release
from silversmith.cli.options import locate_deployment
from silversmith.events import ObjectEvent, object_created
from silversmith.lineage import Lineage
from silversmith.local.lake import LakeFolder
from silversmith.pipeline import load, locate
from silversmith.tables.delta import DeltaFormat
from tests.deploy.conftest import lambdas_python
from tests.deploy.ministack import ACCOUNT, PACKAGES, PATIENCE, REGION, MiniStack, NotInstalled, install
from tests.deployed import operators_policy

ROOT = Path(__file__).parents[2]

#: Set, and not empty: a machine on which MiniStack cannot be installed fails these tests instead of skipping them.
DEMANDED = "SILVERSMITH_DEMAND_MINISTACK"

#: Each of these tests is many minutes of AWS's in one, and takes two of its own on a busy machine.
pytestmark = pytest.mark.timeout(600)

MACHINE = "arm64" if platform.machine().lower() in {"arm64", "aarch64"} else "x86_64"

BUG = """
    if "poison" in rows.collect()["item"]:
        raise RuntimeError("poison")"""

FILES = 200

#: The most functions that run side by side.
AT_ONCE = 2

PIPELINE = f"""
import polars as pl
from silversmith import Contract, Deployment, Pipeline

pipeline = Pipeline("sales")
deployment = Deployment(architecture="{MACHINE}")

@pipeline.transform("sales/*.csv", max_receive_count=2, maximum_concurrency={AT_ONCE}, contract=Contract(
    schema={{"item": pl.String, "price": pl.Int64}},
    rules={{"price is positive": pl.col("price") > 0}},
))
def sales(rows):{BUG}
    return rows.with_columns(cents=pl.col("price") * 100)
"""

BRONZE, SILVER, QUARANTINE = "dl-bronze-layer", "dl-silver-layer", "dl-quarantine-layer"

#: What depends on when and how often a file was tried, and on which bucket it came from.
_OF_THE_TRY = {"committed_at": "", "attempt": 0, "sequencer": "", "bronze_version": ""}


@pytest.fixture(scope="session")
def program() -> Path:
    """MiniStack, kept for the next time in a folder that git ignores."""
    python, version = lambdas_python()
    try:
        return install(python, ROOT / "build" / f"{PACKAGES[0].replace('==', '-')}-python{version}")
    except NotInstalled as error:
        if os.environ.get(DEMANDED):
            pytest.fail(f"MiniStack cannot be installed, and {DEMANDED} is set: {error}")
        pytest.skip(f"MiniStack cannot be installed: {error}")


@pytest.fixture
def server(program: Path) -> Iterator[MiniStack]:
    with tempfile.TemporaryDirectory(prefix="ministack-", ignore_cleanup_errors=True) as folder:
        result = MiniStack(program, Path(folder, "server"))
        result.start()
        yield result
        result.end(signal.SIGKILL)


@dataclass
class Shop:
    """The pipeline, deployed or about to be, and the commands over it."""

    server: MiniStack
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    definition: str = PIPELINE

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.pipeline = self.folder / "pipeline.py"
        self.pipeline.write_text(self.definition)
        self.be(self.server.environment)
        self.s3, self.sqs = self.server.client("s3"), self.server.client("sqs")
        self.queue = f"{self.server.url}/{ACCOUNT}/sales_sales"

    def be(self, environment: Mapping[str, str]) -> None:
        """From now on the commands have these credentials."""
        for name, value in environment.items():
            self.monkeypatch.setenv(name, value)

    def run(self, command: str, *arguments: str) -> tuple[int, str]:
        """A command as it is typed; its exit code, and what it says."""
        self.capsys.readouterr()
        inputs = [command, *arguments, "--pipeline", str(self.pipeline), "--endpoint-url", self.server.url]
        code = call(inputs)
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def document(self, command: str, *arguments: str) -> Any:
        code, said = self.run(command, *arguments, "--target", "aws", "--json")
        assert code == 0, said
        return json.loads(said)

    def deploy(self) -> str:
        """What the command says. Functions run on the Python that MiniStack has. Where that is not Lambda's, packages
        of its own are taken."""
        _, version = lambdas_python()
        if version == Runtime().python:
            code, said = self.run("deploy", "--yes")
            assert code == 0, said
            return said
        lambdas = prepare_release(*locate_deployment(str(self.pipeline), ""), self.server.url, quiet=True)
        with lambdas as (expected, account), tempfile.TemporaryDirectory() as work:
            located, machine = locate(str(self.pipeline)), Runtime(MACHINE, version)
            bundle, tables = build(located, Path(work, "packages"), runtime=machine), None
            if expected.tables is not None:
                tables = build_tables(located.pipeline.tables, located.root, Path(work, "tables"), runtime=machine)
            keys = code_keys("sales", bundle, tables)
            ours = replace(expected, bundle=bundle, tables=tables, parameters={**expected.parameters, **keys})
            assert deploy_release(ours, account, yes=True, json=False) == 0
        return self.capsys.readouterr().out

    def put(self, files: Mapping[str, bytes]) -> None:
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda key: self.s3.put_object(Bucket=BRONZE, Key=key, Body=files[key]), files):
                pass

    def keys(self, bucket: str) -> set[str]:
        """Keys of silver that is made of files."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="sales/")
        return {each["Key"] for page in pages for each in page.get("Contents", ())}

    def lineage(self, key: str) -> Lineage | None:
        if f"sales/{key}.parquet" not in self.keys(SILVER):
            return None
        return Lineage.from_metadata(self.s3.head_object(Bucket=SILVER, Key=f"sales/{key}.parquet")["Metadata"])

    def body(self, bucket: str, key: str) -> bytes:
        content: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def waiting(self, queue: str = "") -> int:
        """Messages in a queue, those at work too."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.queue + queue, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)


@pytest.fixture
def shop(
    server: MiniStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shop:
    return Shop(server, tmp_path / "project", monkeypatch, capsys)


def files(number: int = FILES) -> dict[str, bytes]:
    """Of every fifth some rows are rejected, never all; some keys are what people call their files."""
    names = {3: "sales/año 1+2.csv", 5: "sales/year=2026/month=1/5.csv", 7: "sales/50%25.csv"}
    return {
        names.get(each, f"sales/{each:03}.csv"): b"item,price\n"
        + b"".join(b"item %d,%d\n" % (row, row if each % 5 else row - 2) for row in range(1, each % 40 + 5))
        for each in range(number)
    }


def silver_of(files: Mapping[str, bytes], shop: Shop, lake: Path) -> LakeFolder:
    """Silver that the local engine makes of the same files by the same code."""
    folder = LakeFolder(lake)
    for key, body in files.items():
        path = lake / BRONZE / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    done = subprocess.run(
        [sys.executable, "-m", "silversmith.cli", "run", "--until-idle", "--lake", str(lake), str(shop.pipeline)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def pages(parquet: bytes) -> bytes:
    """A Parquet file without its footer, which holds the lineage. https://parquet.apache.org/docs/file-format/"""
    return parquet[: -8 - int.from_bytes(parquet[-8:-4], "little")]


def of_the_file(metadata: Mapping[str, str]) -> Lineage:
    """The lineage without what is of one try."""
    lineage = Lineage.from_metadata(metadata)
    assert lineage is not None
    return replace(lineage, **_OF_THE_TRY)  # type: ignore[arg-type]


def same_silver(shop: Shop, lake: LakeFolder, keys: Iterator[str]) -> None:
    stores = lake.stores(load(str(shop.pipeline)))
    for bucket, store, ending in (
        (SILVER, stores.silver, ".parquet"),
        (QUARANTINE, stores.quarantine, ".rejected.parquet"),
    ):
        for key in keys if bucket == SILVER else sorted(shop.keys(QUARANTINE)):
            name = f"sales/{key}{ending}" if bucket == SILVER else key
            here, head = store.read(name), store.head(name)
            assert here is not None, name
            assert head is not None, name
            assert pages(shop.body(bucket, name)) == pages(here), name
            there = shop.s3.head_object(Bucket=bucket, Key=name)["Metadata"]
            assert of_the_file(there) == of_the_file(head.metadata), name


def test_files_become_the_silver_that_the_local_engine_makes(shop: Shop, tmp_path: Path) -> None:
    shop.deploy()
    _afterwards(shop)
    inputs = files()
    shop.put(inputs)
    lake = silver_of(inputs, shop, tmp_path / "lake")
    shop.server.until(lambda: len(shop.keys(SILVER)) == FILES, f"{FILES} files are in silver")
    assert {f"sales/{key}.parquet" for key in inputs} == shop.keys(SILVER)
    same_silver(shop, lake, iter(sorted(inputs)))
    assert len(shop.keys(QUARANTINE)) == FILES // 5
    _duplicates_and_old_versions(shop)
    shop.be(shop.server.operator(_operators_policy()))
    _undelivered(shop)
    _failures(shop)
    shop.be(shop.server.environment)
    _destroy(shop)


def _afterwards(shop: Shop, kind: str = "Reconciler", afterwards: str = "AfterDeploy") -> None:
    """The round after the deploy is arranged: it starts what the stack's own schedule starts, with the same rights."""
    scheduler = shop.server.client("scheduler")
    own, once = (
        scheduler.get_schedule(GroupName="sales_Schedules", Name=f"sales_{name}") for name in (kind, afterwards)
    )
    assert once["ScheduleExpression"].startswith("at(")
    assert {**once["Target"], "Input": ""} == {**own["Target"], "Input": ""}
    assert json.loads(once["Target"]["Input"]).items() > json.loads(own["Target"]["Input"]).items()


def _duplicates_and_old_versions(shop: Shop) -> None:
    """Events of a version that was made already, and of one that is no longer the newest."""
    before = shop.s3.head_object(Bucket=SILVER, Key="sales/sales/001.csv.parquet")
    old = shop.s3.head_object(Bucket=BRONZE, Key="sales/002.csv")
    shop.put({"sales/002.csv": b"item,price\nnewest,1\n"})
    shop.server.until(lambda: (result := shop.lineage("sales/002.csv")) and result.rows_read == 1, "the newest is made")
    newest = shop.s3.head_object(Bucket=SILVER, Key="sales/sales/002.csv.parquet")
    for key, etag, version in (("sales/001.csv", "", ""), ("sales/002.csv", old["ETag"].strip('"'), old["VersionId"])):
        event = ObjectEvent(BRONZE, key, etag=etag, version=version)
        shop.sqs.send_message(QueueUrl=shop.queue, MessageBody=object_created(event, reason="PutObject").decode())
    shop.server.until(lambda: shop.waiting() == 0, "the queue is empty")
    after = [shop.s3.head_object(Bucket=SILVER, Key=f"sales/sales/00{number}.csv.parquet") for number in (1, 2)]
    assert [each["Metadata"] for each in after] == [before["Metadata"], newest["Metadata"]]


def _undelivered(shop: Shop) -> None:
    """The queue refuses what the topic delivers. MiniStack drops that then; what AWS would do is done by hand for two
    files, the one as the topic, the other as a rule. The third is found by the function that the schedule starts."""
    attributes = shop.sqs.get_queue_attributes(QueueUrl=shop.queue, AttributeNames=["Policy"])["Attributes"]["Policy"]
    shop.sqs.set_queue_attributes(QueueUrl=shop.queue, Attributes={"Policy": attributes.replace("_Topic", "_Other")})
    keys = [f"sales/refused{number}.csv" for number in (1, 2, 3)]
    shop.put(dict.fromkeys(keys, b"item,price\n1,1\n"))
    shop.sqs.set_queue_attributes(QueueUrl=shop.queue, Attributes={"Policy": attributes})
    for key, queue in zip(keys, (f"{shop.queue}_SubscriptionDLQ", f"{shop.queue[:-6]}_RuleDLQ"), strict=False):
        event = object_created(ObjectEvent(BRONZE, key), reason="PutObject").decode()
        shop.sqs.send_message(QueueUrl=queue, MessageBody=event)
    dead = shop.document("failures")["dead"]
    assert {(each["key"], each["kind"]) for each in dead} == {(keys[0], "subscription"), (keys[1], "rule")}
    looked = shop.document("reconcile", "--dry-run")
    assert (looked["found"], looked["waiting"], looked["keys"][0]["key"]) == (1, 2, keys[2])
    assert shop.document("redrive")["sent"] == 2
    shop.server.until(lambda: len(shop.keys(SILVER)) == FILES + 2, "what was given back is made")
    assert _reconcile_there(shop, "Reconciler") == {"done": True}, shop.server.log()
    shop.server.until(lambda: len(shop.keys(SILVER)) == FILES + 3, "what was missing is made")


def _reconcile_there(shop: Shop, kind: str) -> Any:
    """The answer of a round of a deployed function to its schedule's input, now. For batches MiniStack wants one more
    right."""
    iam, functions, scheduler = (shop.server.client(name) for name in ("iam", "lambda", "scheduler"))
    role = functions.get_function_configuration(FunctionName=f"sales_{kind}")["Role"].rpartition("/")[2]
    batches = {"Effect": "Allow", "Action": "sqs:SendMessageBatch", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [batches]})
    iam.put_role_policy(RoleName=role, PolicyName="Batches", PolicyDocument=document)
    schedule = scheduler.get_schedule(GroupName="sales_Schedules", Name=f"sales_{kind}")
    event = {**json.loads(schedule["Target"]["Input"]), "settled_seconds": 0}
    answer = functions.invoke(FunctionName=f"sales_{kind}", Payload=json.dumps(event).encode())
    return json.loads(answer["Payload"].read())


def _failures(shop: Shop) -> None:
    """A broken file, and one that the code fails on until the code is corrected. Done with an operator's rights."""
    shop.put({"sales/broken.csv": b"what,is\nthis,1\n", "sales/poison.csv": b"item,price\npoison,1\n"})
    shop.server.until(lambda: shop.waiting("_DLQ") == 1, "the queue gave up on the poison")
    shop.server.until(lambda: "sales/sales/broken.csv.error.json" in shop.keys(QUARANTINE), "the broken is told")
    document = shop.document("failures")
    assert [(each["key"], each["code"]) for each in document["quarantined"]] == [("sales/broken.csv", "MissingColumn")]
    (dead,) = document["dead"]
    assert (dead["key"], dead["kind"], dead["error"]["code"]) == ("sales/poison.csv", "queue", "TransformError")
    assert "sales/sales/poison.csv.failed.json" in shop.keys(QUARANTINE)
    (status,) = shop.document("status")["transforms"]
    assert (status["waiting"], status["dead"], status["quarantined"]) == (0, 1, 1)
    assert shop.document("trace", "sales/poison.csv")["transforms"][0]["state"] == "missing"
    _mend(shop)
    assert shop.document("redrive", "--key", "sales/poison*")["sent"] == 1
    shop.server.until(lambda: shop.lineage("sales/poison.csv"), "what was poison is made")
    assert "sales/sales/poison.csv.failed.json" not in shop.keys(QUARANTINE), "its tries began again"
    assert shop.document("failures")["dead"] == []
    sent = shop.document("reconcile", "--changed")
    # That the broken file is broken only the old code said: so it is tried again, too.
    assert (sent["kinds"], sent["sent"]) == ({"outdated": FILES + 3, "missing": 1}, FILES + 4)
    shop.server.until(lambda: shop.waiting() == 0, "all is made again by the mended code")
    assert shop.document("reconcile", "--changed", "--dry-run")["found"] == 0


def _mend(shop: Shop) -> None:
    """An update of the code, by somebody who may deploy."""
    operator = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    shop.be(shop.server.environment)
    shop.pipeline.write_text(PIPELINE.replace(BUG, ""))
    shop.deploy()
    shop.be(operator)


def _destroy(shop: Shop) -> None:
    code, said = shop.run("destroy", "--yes")
    assert code == 0, said
    assert shop.server.client("lambda").list_functions()["Functions"] == []
    assert shop.server.client("scheduler").list_schedules()["Schedules"] == []
    assert len(shop.keys(SILVER)) == FILES + 4
    assert shop.run("status", "--target", "aws")[0] == 2


def test_killed_in_mid_flow_it_is_made_whole_by_reconcile(shop: Shop) -> None:
    """MiniStack keeps the objects, and loses every message that waited: worse than AWS ever does."""
    shop.deploy()
    shop.server.end()
    shop.server.start()
    inputs = files()
    shop.put(inputs)
    shop.server.until(lambda: len(shop.keys(SILVER)) >= FILES // 10, "the first files are in silver")
    shop.server.end(signal.SIGKILL)
    shop.server.start()
    created = len(shop.keys(SILVER))
    assert created < FILES, "it was not in mid-flow any more"
    assert shop.waiting() == 0
    document = shop.document("reconcile")
    # An object that was being written has no metadata: MiniStack writes that a moment later. AWS never does so.
    assert set(document["kinds"]) == {"missing"}
    assert FILES - created <= document["sent"] <= FILES - created + AT_ONCE
    shop.server.until(lambda: len(shop.keys(SILVER)) == FILES and shop.waiting() == 0, "silver is complete")
    assert shop.document("reconcile", "--dry-run")["found"] == 0


COPIES = """
import time

@pipeline.transform("sales/*.csv", batch_size=1)
def copies(rows):
    time.sleep(1)
    return rows
"""


def test_destroyed_and_deployed_again_it_goes_on(shop: Shop) -> None:
    """A transform is removed while files wait for it. Then the buckets of before are adopted, whatever somebody has
    switched off meanwhile."""
    shop.pipeline.write_text(PIPELINE + COPIES)
    shop.deploy()
    shop.put({f"sales/{number:03}.csv": b"item,price\na,1\n" for number in range(1, 9)})
    shop.pipeline.write_text(PIPELINE)
    said = shop.deploy()
    copies = shop.s3.list_objects_v2(Bucket=SILVER, Prefix="copies/")["KeyCount"]
    assert copies == 8, said
    assert "waiting for the queues of what goes: 0 messages left" in said
    assert "sales_copies" not in str(shop.sqs.list_queues()["QueueUrls"])
    shop.server.until(lambda: len(shop.keys(SILVER)) == 8, "the other transform goes on")
    code, said = shop.run("destroy", "--yes")
    assert code == 0, said
    owner = {"ExpectedBucketOwner": ACCOUNT}
    shop.s3.put_bucket_notification_configuration(Bucket=BRONZE, NotificationConfiguration={}, **owner)
    shop.s3.put_bucket_versioning(Bucket=BRONZE, VersioningConfiguration={"Status": "Suspended"})
    code, said = shop.run("diff")
    assert code == 0, said
    assert "+ adopt: SilverBucket (AWS::S3::Bucket)" in said
    assert "+ adopt: BronzeBucket (AWS::S3::Bucket)\n    VersioningConfiguration: Suspended → Enabled\n" in said
    code, said = shop.run("deploy")
    assert code == 2, said
    assert "3 buckets of these names exist already" in said
    shop.deploy()
    assert shop.s3.get_bucket_versioning(Bucket=BRONZE)["Status"] == "Enabled"
    shop.put({"sales/009.csv": b"item,price\na,1\n"})
    shop.server.until(lambda: shop.lineage("sales/009.csv"), "a file is made by the second stack")
    assert shop.document("reconcile", "--dry-run")["found"] == 0
    code, said = shop.run("diff")
    assert said.endswith("nothing changes\n"), said
    shop.run("destroy", "--yes")


GOLD = f"""
import polars as pl
from silversmith import Contract, Deployment, Pipeline

pipeline = Pipeline("sales")
deployment = Deployment(architecture="{MACHINE}")

@pipeline.transform("sales/*.csv", contract=Contract(schema={{"item": pl.String, "price": pl.Int64}}))
def sales(rows):
    return rows

pipeline.table("sales", of=sales)
pipeline.view("totals", "select item, sum(price) as total, count(*) as n from sales group by item", by=["item"])
"""


def test_silver_becomes_tables_and_views(
    server: MiniStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Put, overwritten, deleted: bronze to gold through what is deployed, with the rights that the template gives."""
    shop = Shop(server, tmp_path / "project", monkeypatch, capsys, GOLD)
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))  # what delta-rs trusts
    shop.deploy()
    _afterwards(shop, "Tables", "TablesAfterDeploy")
    options = {"AWS_ENDPOINT_URL": server.url, **server.environment}
    gold = DeltaFormat("s3://dl-gold-layer", scratch=tmp_path, storage_options=options)

    def rows(name: str, sql: str) -> list[tuple[Any, ...]]:
        snapshot = gold.read(name)
        if snapshot is None:
            return []
        batches = gold.query({name: snapshot}, sql).batches
        return sorted(
            row for batch in batches for row in zip(*(each.to_pylist() for each in batch.columns), strict=True)
        )

    def holds(expected: Mapping[str, int], totals: Mapping[str, tuple[int, int]]) -> bool:
        result = rows("sales", "select _file, sum(price) as price from sales group by _file")
        view = rows("totals", "select item, total, n from totals")
        return dict(result) == expected and {item: rest for item, *rest in view} == {
            item: list(each) for item, each in totals.items()
        }

    prices = {"x": 1, "y": 2, "z": 3}
    files = {f"sales/{name}.csv": f"item,price\na,{price}\nb,1\n".encode() for name, price in prices.items()}
    shop.put(files)
    first = {"sales/x.csv": 2, "sales/y.csv": 3, "sales/z.csv": 4}
    server.until(lambda: holds(first, {"a": (6, 3), "b": (3, 3)}), "three files are in the table and the view")
    shop.put({"sales/y.csv": b"item,price\nb,10\n"})
    second = {**first, "sales/y.csv": 10}
    server.until(lambda: holds(second, {"a": (4, 2), "b": (12, 3)}), "the corrected file is in both")
    shop.s3.delete_object(Bucket=SILVER, Key="sales/sales/z.csv.parquet")
    server.until(
        lambda: holds({"sales/x.csv": 2, "sales/y.csv": 10}, {"a": (1, 1), "b": (11, 2)}),
        "what was deleted is in neither",
    )
    _lost_between_silver_and_gold(shop)
    _with_an_operators_rights(shop)
    third = {"sales/x.csv": 2, "sales/y.csv": 10, "sales/lost.csv": 7}
    server.until(lambda: holds(third, {"a": (1, 1), "b": (11, 2), "c": (7, 1)}), "what was lost is in both")
    table = server.client("glue").get_table(DatabaseName="sales", Name="totals")["Table"]
    assert table["StorageDescriptor"]["Location"] == "s3://dl-gold-layer/totals/"
    assert table["Parameters"]["spark.sql.sources.provider"] == "delta"
    code, said = shop.run("destroy", "--yes")
    assert code == 0, said
    assert "dl-gold-layer" in said
    assert rows("totals", "select item, total, n from totals") == [("a", 1, 1), ("b", 11, 2), ("c", 7, 1)]


def _operators_policy() -> dict[str, Any]:
    """The policy of the docs. MiniStack asks for a right to PublishBatch that AWS does not know: Publish covers it.
    https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html"""
    policy = operators_policy("sales", REGION, ACCOUNT)
    for statement in policy["Statement"]:
        if "sns:Publish" in statement["Action"]:
            statement["Action"] = ["sns:Publish", "sns:PublishBatch"]
    return policy


def _with_an_operators_rights(shop: Shop) -> None:
    shop.be(shop.server.operator(_operators_policy()))
    (answer,) = shop.document("query", "select count(*) as n from sales")["rows"]
    assert answer["n"] > 0
    assert [table["name"] for table in shop.document("tables")["tables"]] == ["sales", "totals"]
    assert len(shop.document("tables", "optimize")["tables"]) == 2
    assert shop.document("tables", "rebuild", "totals")["name"] == "totals"
    shop.be(shop.server.environment)


def _lost_between_silver_and_gold(shop: Shop) -> None:
    """An event of silver reaches nobody. A round of the tables' function, as its schedule has it, sends the key."""
    events = shop.server.client("events")
    events.disable_rule(Name="sales_SilverRule")
    shop.put({"sales/lost.csv": b"item,price\nc,7\n"})
    shop.server.until(lambda: "sales/sales/lost.csv.parquet" in shop.keys(SILVER), "the file is in silver")
    shop.server.until(lambda: shop.waiting() == 0, "its message is deleted")
    events.enable_rule(Name="sales_SilverRule")
    answer = _reconcile_there(shop, "Tables")
    assert (answer.get("sent"), answer.get("left")) == (1, 0), (answer, shop.server.log())
