"""The page over a deployed pipeline: AWS is moto's server, asked over HTTP as the real one would be."""

from __future__ import annotations

import html
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from starlette.testclient import TestClient

from silversmith.aws.account import open_account
from silversmith.lineage import silver_key
from silversmith.operations import WrongCall
from silversmith.page.application import application
from silversmith.page.auth import csrf_token
from silversmith.page.backend import AwsBackend
from silversmith.page.recent import Watch
from silversmith.pipeline.deployment import Deployment
from silversmith.tables.commit import bring
from tests.deployed import BAD, GOOD, HARMFUL, SHOP, Deployed, write
from tests.unit.operations.conftest import PARTLY
from tests.unit.page.conftest import HOST, TOKEN
from tests.unit.tables.test_on_s3 import SERVER

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-central-1"}

#: Seconds for whatever a test waits for.
PATIENCE = 60

HOSTILE = "orders/<script>alert(1)</script>\u202e\x1b.csv"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # What an earlier test left: all servers of one process share it.
    urllib.request.urlopen(f"http://{host}:{port}/moto-api/reset", data=b"", timeout=PATIENCE).close()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield f"http://{host}:{port}"
    server.stop()


def deploy(folder: Path, endpoint: str, prefix: str = "") -> Deployed:
    """A stack, in which nothing happened yet."""
    chosen = Deployment(prefix=prefix)
    located = write(folder, f'{SHOP}\nchosen = Deployment(prefix="{prefix}")\n')
    return Deployed(located, open_account(endpoint_url=endpoint), chosen)


def place(shop: Deployed, endpoint: str) -> AwsBackend:
    return AwsBackend(str(shop.located.root / "pipeline.py"), "chosen", endpoint, wait=0)


class Visitor:
    """A browser that has the token's cookie."""

    def __init__(self, shop: Deployed, endpoint: str) -> None:
        self.shop = shop
        where = place(shop, endpoint)
        self.watch = Watch(where)
        self.watch.look()
        self.client = TestClient(
            application(where, self.watch, token=TOKEN, cookie="c"), base_url=HOST, follow_redirects=False
        )
        self.client.cookies.set("c", TOKEN)
        self.csrf = csrf_token(TOKEN)

    def get(self, path: str, status: int = 200, /, **query: str) -> str:
        answer = self.client.get(path, params=query or None)
        assert answer.status_code == status, answer.text
        return html.unescape(answer.text)

    def post(self, path: str, status: int = 303, /, **fields: str) -> str:
        answer = self.client.post(path, data={"csrf": self.csrf, **fields}, headers={"origin": HOST})
        assert answer.status_code == status, answer.text
        return html.unescape(answer.text) or answer.headers["location"]


@pytest.fixture
def shop(endpoint: str, tmp_path: Path, request: pytest.FixtureRequest) -> Deployed:
    """A stack for this test alone."""
    prefix = f"t{list(request.session.items).index(request.node)}"
    return deploy(tmp_path / "project", endpoint, prefix)


@pytest.fixture
def visitor(shop: Deployed, endpoint: str) -> Visitor:
    return Visitor(shop, endpoint)


@pytest.fixture(scope="module")
def busy(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Visitor:
    """A visitor of a stack in which everything has happened, only to be looked at."""
    shop = deploy(tmp_path_factory.mktemp("busy"), endpoint)
    everything(shop)
    return Visitor(shop, endpoint)


def everything(shop: Deployed) -> None:
    """Silver, rejected rows, files in quarantine, and a message in each dead-letter queue."""
    shop.land("orders/good.csv")
    shop.land("orders/partly.csv", PARTLY.encode())
    shop.land("orders/bad.csv", BAD)
    shop.land(HOSTILE, BAD)
    shop.work("orders")
    shop.land("orders/harmful.csv", HARMFUL, tell=False)
    shop.bury(shop.url("orders", "QueueDLQ"), "orders/harmful.csv")
    shop.bury(shop.url("orders", "SubscriptionDLQ"), "orders/undelivered.csv")
    shop.bury(shop.url("", "RuleDLQ"), "orders/denied.csv", ERROR_CODE="NO_PERMISSIONS")


def dead(shop: Deployed) -> tuple[int, int, int]:
    """How many messages lie in the dead-letter queues of the queue, the subscription, the rule, for all to receive."""
    return (
        shop.waiting("orders", "QueueDLQ"),
        shop.waiting("orders", "SubscriptionDLQ"),
        shop.waiting("", "RuleDLQ"),
    )


def test_a_stack_where_nothing_happened(visitor: Visitor) -> None:
    text = visitor.get("/")
    assert "deployed" in text
    assert f"over <code>stack {visitor.shop.name} in eu-central-1</code>" in text
    assert "Nothing yet" in text
    assert "Nothing failed" in visitor.get("/failures")
    assert "This code has not made any silver yet" in visitor.get("/transforms/orders")


def test_the_first_page_shows_awss_numbers_and_no_more(busy: Visitor) -> None:
    text = busy.get("/flow")
    numbers = {
        "orders.waiting": "0",
        "late_copies.waiting": "4",
        "orders.dead": "1",
        "orders.undelivered": "1",
        "rule.dead": "1",
        "orders.quarantined": "2",
        "orders.done": "-",
        "orders.rows": "-",
        "orders.rate": "-",
        "bucket.created": "-",
        "late_copies.oldest": "-",
    }
    for name, value in numbers.items():
        assert f'<tspan data-live="{name}">{value}</tspan>' in text, name
    assert "A dash stands for a number that nobody counts: AWS keeps none of single files" in text
    text = busy.get("/")
    assert "2 files in quarantine and 3 messages in dead-letter queues: they need you." in text
    assert "by transform below" in text, "CloudWatch has no percentiles of several transforms together"
    assert "Look into quarantine and the dead-letter queues" in text, "and it is not looked at by itself"
    assert "orders/good.csv" in text
    assert "orders/bad.csv" not in text, "it is not in silver"
    assert "Throughput" not in text
    assert "at the most 4." in text


def test_numbers_of_today_are_cloudwatchs(visitor: Visitor) -> None:
    dimensions = [{"Name": "Pipeline", "Value": visitor.shop.name}, {"Name": "Transform", "Value": "orders"}]
    values = {"FilesCommitted": 1234.0, "RowsRead": 200.0, "RowsWritten": 150.0, "RowsRejected": 50.0}
    visitor.shop.account.client("cloudwatch").put_metric_data(
        Namespace="Silversmith",
        MetricData=[{"MetricName": name, "Dimensions": dimensions, "Value": value} for name, value in values.items()],
    )
    text = visitor.get("/")
    assert "<dt>Files today</dt><dd>1,234</dd>" in text
    assert "50 of 200 rows rejected today" in text
    assert '<td class="n" data-of="rows">150</td>' in text
    assert 'data-of="last file"><span class="hint">just now</span>' in text
    assert 'data-of="last file"><span class="hint">none in two weeks</span>' in text, "late_copies got none"


def test_logs_are_the_ends_of_the_functions_log_groups(visitor: Visitor) -> None:
    assert "Nothing was printed lately" in visitor.get("/logs")
    client, group = visitor.shop.account.client("logs"), f"/aws/lambda/{visitor.shop.name}_late_copies"
    client.create_log_stream(logGroupName=group, logStreamName="2026/11/30/[$LATEST]1")
    lines = ["<script>alert(1)</script>", "\x1b[31mcommitted\u202e"]
    events = [{"timestamp": int(time.time() * 1000) + number, "message": text} for number, text in enumerate(lines)]
    client.put_log_events(logGroupName=group, logStreamName="2026/11/30/[$LATEST]1", logEvents=events)
    answer = visitor.client.get("/logs", params={"of": "late_copies"})
    assert "&lt;script&gt;alert(1)" in answer.text
    assert "<script>alert" not in answer.text
    assert "\x1b" not in answer.text
    assert "No line holds this" in visitor.get("/logs", of="late_copies", q="nothing like it")
    assert "Nothing was printed lately" in visitor.get("/logs", of="no such transform")


def test_files_are_those_in_silver_and_filtered(busy: Visitor) -> None:
    text = busy.get("/files")
    assert "These are the newest 100 that fit" in text
    assert "orders/good.csv" in text
    assert "orders/partly.csv" in text
    assert 'name="state"' not in text, "there are no others"
    assert "orders/good.csv" not in busy.get("/files", q="part")
    assert "Nothing yet" in busy.get("/files", transform="late_copies")
    assert "Nothing yet" in busy.get("/files", state="dead")


def test_search(busy: Visitor) -> None:
    busy.get("/search", 303, q="orders/good.csv")
    text = busy.get("/search", q="orders/")
    assert "5 keys for" in text
    assert "<script>alert(1)</script>\\u202e\\x1b.csv" in text
    assert "orders/partly.csv" in busy.get("/search", q="ordrs/partly.csv"), "nearly"
    assert "No key in bronze" in busy.get("/search", q="zzz")


def test_a_story_has_silver_and_rejected_rows(busy: Visitor) -> None:
    text = busy.get("/file", key="orders/partly.csv")
    assert "3 rows read, 1 written, 2 rejected" in text
    assert "Rejected rows: 2 of 2 rows" in text
    assert "the rule is broken by total" in text
    assert "Silver rows: 1 of 1 row" in text
    assert "No history: AWS keeps none of single files" in text
    assert "Nothing is known" in busy.get("/file", 404, key="orders/none.csv")


def test_a_story_has_the_error_or_what_gave_up(busy: Visitor) -> None:
    text = busy.get("/file", key=HOSTILE)
    assert "MissingColumn" in text
    assert "Try again …" in text
    text = busy.get("/file", key="orders/harmful.csv")
    assert "<code>shop_orders</code>: received as often as the queue allows" in text
    assert text.count("Try again …") == 1
    assert dead(busy.shop) == (1, 1, 1), "what was looked at is let go"


def test_failures_are_grouped_by_cause(busy: Visitor) -> None:
    text = busy.get("/failures")
    assert "2 files in quarantine, 3 messages in dead-letter queues" in text
    for title in ("MissingColumn", "Received too often", "Undelivered by the topic", "Undelivered by the rule"):
        assert f">{title}</" in text
    assert "NO_PERMISSIONS" in text
    assert "total is positive: the rule is broken by total -3" in text
    assert "Messages that somebody else looks at in this moment are not seen" in text
    assert dead(busy.shop) == (1, 1, 1)


@pytest.mark.full
def test_failed_files_are_tried_again_cause_by_cause(visitor: Visitor, shop: Deployed) -> None:
    everything(shop)
    left = [(0, 1, 1), (0, 0, 1), (0, 0, 0)]
    for where, transform, after in zip(("queue", "subscription", "rule"), ("orders", "orders", "-"), left, strict=True):
        cause, before = {"transform": transform, "error": "-", "where": where}, dead(shop)
        assert f"transform={transform}&error=-&where={where}" in visitor.get("/failures")
        assert "1 failure</strong> will be sent" in visitor.get("/redrive", **cause)
        visitor.post("/redrive", 403, csrf="wrong", **cause)
        assert dead(shop) == before, "asking does nothing"
        assert visitor.post("/redrive", **cause) == "/failures?sent=1"
        assert dead(shop) == after
    assert "1 failure tried again" in visitor.get("/failures", sent="1")
    shop.work("orders")
    assert "Nothing is known" in visitor.get("/file", 404, key="orders/denied.csv"), "it never landed"

    shop.land("orders/bad.csv", tell=False)
    text = visitor.get("/redrive", transform="orders", error="MissingColumn", where="quarantine")
    assert "2 failures</strong> will be sent" in text
    visitor.post("/redrive", transform="orders", key="orders/bad.csv")
    assert shop.work("orders") == 1
    assert "Silver rows: 2 of 2 rows" in visitor.get("/file", key="orders/bad.csv")


def test_transforms(busy: Visitor) -> None:
    assert "late_copies" in busy.get("/transforms")
    text = busy.get("/transforms/orders")
    assert "raise RuntimeError" in text
    assert "+ id: Int64" in text
    assert "what is deployed may be older" in text


def test_the_deployed_bucket_is_meant(visitor: Visitor, shop: Deployed) -> None:
    """By the pattern tester, and by a file that is put."""

    def tried(bucket: str) -> str:
        detail = {"bucket": {"name": bucket}, "object": {"key": "orders/a.csv"}}
        event = {"source": "aws.s3", "detail-type": "Object Created", "detail": detail}
        return visitor.post("/patterns", 200, text=json.dumps(event))

    assert tried(shop.buckets["bronze"]).count(" takes it") == 2
    assert "the rule wants" in tried("dl-bronze-layer")

    headers = {"origin": HOST, "x-csrf-token": visitor.csrf}
    answer = visitor.client.post("/upload", params={"key": HOSTILE}, content=GOOD, headers=headers)
    assert answer.json()["transforms"] == ["orders", "late_copies"]
    assert shop.s3.get_object(Bucket=shop.buckets["bronze"], Key=HOSTILE)["Body"].read() == GOOD


def test_there_is_no_such_stack(endpoint: str, tmp_path: Path) -> None:
    located = write(tmp_path, SHOP.replace('"shop"', '"other"'))
    with pytest.raises(WrongCall, match="there is no stack other"):
        AwsBackend(str(located.root / "pipeline.py"), "", endpoint)


def test_missing_rights_are_reported(visitor: Visitor, shop: Deployed) -> None:
    shop.account.client("cloudformation").delete_stack(StackName=shop.name)
    assert f"there is no stack {shop.name}" in visitor.watch.look().problem
    assert f"there is no stack {shop.name}" in visitor.get("/")
    assert f"there is no stack {shop.name}" in visitor.get("/failures", 400)


def test_old_answers_are_asked_again(shop: Deployed, endpoint: str) -> None:
    now = [1_800_000_000.0]
    watch = Watch(place(shop, endpoint), clock=lambda: now[0])
    watch.start()
    try:
        assert watch.recent().number == 1
        now[0] += 19
        assert watch.recent().number == 1
        now[0] += 2
        shop.bury(shop.url("orders", "QueueDLQ"), "orders/harmful.csv")
        glance = watch.recent()
    finally:
        watch.stop()
    assert glance.number == 2
    assert glance.status is not None
    assert glance.status.transforms[0].dead == 1


@pytest.mark.full
def test_the_command(shop: Deployed, endpoint: str) -> None:
    """As the shell calls it, and as a browser watches it."""
    shop.land("orders/good.csv")
    pipeline = str(shop.located.root / "pipeline.py")
    command = [sys.executable, "-m", "silversmith.cli", "page", pipeline, "--port", "0"]
    there = ("--target", "aws", "--deployment", "chosen", "--endpoint-url", endpoint)
    process = subprocess.Popen(
        [*command, *there],
        stdout=subprocess.PIPE,
        env={**os.environ, **CREDENTIALS},
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("the page: ").strip()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert f"stack {shop.name} in eu-central-1" in opener.open(url, timeout=PATIENCE).read().decode()
        with opener.open(url.replace("?", "live?view=/flow&"), timeout=PATIENCE) as events:
            data = next(line for line in events if line.startswith(b"data: "))
        document = json.loads(data.removeprefix(b"data: "))
        assert (document["values"]["orders.waiting"], document["problem"], document["ended"]) == ("1", "", 0)
        assert document["revision"]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.full
def test_the_tables_of_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            look_at_tables(tmp_path, f"http://127.0.0.1:{int(server.stdout.readline())}")
        finally:
            server.terminate()


#: A server that lets requests of data files of gold wait for as long as there is a file ``gate``, and makes one called
#: ``waiting``; but not for ever: then it makes one called ``late``.
GATED = """
import sys, time
from pathlib import Path
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
folder, moto = Path(sys.argv[1]), DomainDispatcherApplication(create_backend_app)
def application(environ, start_response):
    if "gold-layer" in environ["PATH_INFO"] and environ["PATH_INFO"].endswith(".parquet"):
        end = time.monotonic() + 20
        while (folder / "gate").exists():
            (folder / "waiting").touch()
            time.sleep(0.01)
            if time.monotonic() > end:
                (folder / "late").touch()
                break
    return moto(environ, start_response)
server = make_server("127.0.0.1", 0, application, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.mark.full
def test_while_tables_are_read_others_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """delta-rs holds Python's lock while it waits for S3."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-c", GATED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        try:
            visitor = look_at_tables(tmp_path, f"http://127.0.0.1:{int(server.stdout.readline())}")
            gate, waiting = tmp_path / "gate", tmp_path / "waiting"
            gate.touch()
            with ThreadPoolExecutor(1) as pool:
                shown = pool.submit(visitor.get, "/tables/orders")
                while not waiting.exists():
                    time.sleep(0.01)
                assert "orders/*.csv" in visitor.get("/transforms/orders")
                assert not shown.done()
                gate.unlink()
                assert "Rows: 2 of 2 rows" in shown.result(PATIENCE)
            assert not (tmp_path / "late").exists(), "the page waited for the tables"
        finally:
            server.terminate()


@pytest.mark.full
def test_a_process_that_reads_tables_may_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            visitor = look_at_tables(tmp_path, f"http://127.0.0.1:{int(server.stdout.readline())}")
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
            assert "load the page again" in visitor.get("/tables", 400)
            assert "orders" in visitor.get("/tables")
            assert "There is no such page" in visitor.get("/tables/unknown", 404)
        finally:
            server.terminate()


def look_at_tables(folder: Path, endpoint: str) -> Visitor:
    definition = f'{SHOP}\npipeline.table("orders", of=orders)\nchosen = Deployment(prefix="gold")\n'
    located = write(folder / "project", definition)
    shop = Deployed(located, open_account(endpoint_url=endpoint), Deployment(prefix="gold"))
    visitor = Visitor(shop, endpoint)
    assert "nothing yet" in visitor.get("/tables")
    shop.land("orders/good.csv")
    shop.work("orders")
    with place(shop, endpoint).opened() as (pipeline, target):
        (table,) = pipeline.tables.tables
        bring(table, [silver_key("orders", "orders/good.csv")], silver=target.lake.silver, gold=target.gold)
    shown = visitor.get("/tables/orders")
    assert "Rows: 2 of 2 rows" in shown
    assert shown.count(">orders/good.csv</a>") == 2
    return visitor
