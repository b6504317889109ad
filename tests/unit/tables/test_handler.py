"""The table function: messages in, tables and views brought up to date, what failed handed back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.events import ObjectEvent, object_created, unwrap
from silversmith.formats.writer import parquet_bytes
from silversmith.lineage import silver_key
from silversmith.runtime.queue import BUSY, SYSTEM_RECEIVES, SystemUnavailable
from silversmith.runtime.telemetry import UNITS, JsonLines
from silversmith.stores import Head, Put
from silversmith.stores.local import LocalStore
from silversmith.tables.commit import Brought
from silversmith.tables.compare import differing
from silversmith.tables.delta import DeltaFormat, DeltaSnapshot
from silversmith.tables.format import GoldFailed
from silversmith.tables.handler import RoundFailed, TableHandler, TablesReport, Work, build, read_spec, storage_options
from silversmith.tables.handler import TableFunction as LambdaFunction
from silversmith.tables.spec import TRIES, GoldSpec, TableSpec, ViewSpec
from silversmith.tables.views import Refresh
from tests.unit.conftest import Leisure
from tests.unit.tables.kit import TRANSFORM, GoldBench, keys_of, lineage
from tests.unit.tables.test_commit import Killed, kill_at

DAILY = ViewSpec(
    "daily",
    "select day, count(*) as n from orders group by day",
    ("orders",),
    by=("day",),
    groups={"orders": (('"day"',),)},
)
SPEC = GoldSpec((TableSpec("orders", TRANSFORM),), (DAILY,))


class TableFunction:
    """The table function over a bench, and what its last invocation reported."""

    def __init__(self, bench: GoldBench, spec: GoldSpec = SPEC, **options: Any) -> None:
        self.reports: dict[str, TablesReport] = {}
        self.work: dict[str, Work] = {}
        self.released: dict[str, float] = {}
        self.dead: list[tuple[str, str]] = []
        self.acknowledged: list[list[str]] = []
        self.handler = TableHandler(
            spec,
            bucket="silver",
            silver=bench.silver,
            gold=bench.gold,
            ended=lambda report: self.reports.update({report.message_id: report}),
            worked=lambda work: self.work.update({work.name: work}),
            release=lambda receipt, seconds: self.released.update({receipt: seconds}),
            move_to_dlq=lambda record, error: self.dead.append((record["messageId"], error["code"])),
            acknowledge=self.acknowledged.append,
            **options,
        )

    def __call__(self, *bodies: str | bytes, context: Any = None, receives: int = 1) -> list[str]:
        return self.invoke({str(number): (body, receives) for number, body in enumerate(bodies)}, context)

    def invoke(self, messages: Mapping[str, tuple[str | bytes, int]], context: Any = None) -> list[str]:
        """The ids of the messages that come back, of these: by id, its body and how often it was received."""
        for answers in (self.reports, self.work, self.released, self.dead, self.acknowledged):
            answers.clear()
        records = [record(message, body, receives) for message, (body, receives) in messages.items()]
        response = self.handler({"Records": records}, context or Leisure())
        return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]

    def brought(self, name: str = "orders") -> Brought:
        brought = self.work[name].brought
        assert brought is not None
        return brought

    def refreshed(self, name: str = "daily") -> str:
        return str(self.work[name].refreshed)

    def code(self, message: str) -> str:
        """The code of the error that a message failed with."""
        return str((self.reports[message].error or {})["code"])


def record(message: str, body: str | bytes, receives: int = 1) -> dict[str, Any]:
    return {
        "messageId": message,
        "receiptHandle": f"receipt of {message}",
        "body": body,
        "attributes": {"ApproximateReceiveCount": str(receives)},
    }


def event(key: str, bucket: str = "silver") -> str:
    return object_created(ObjectEvent(bucket, key), reason="test").decode()


def deleted(key: str) -> str:
    return event(key).replace("Object Created", "Object Deleted")


def in_sns(body: str) -> str:
    return json.dumps({"Type": "Notification", "Message": body})


@pytest.fixture
def bench(tmp_path: Path) -> GoldBench:
    return GoldBench(tmp_path)


def test_events_bring_tables_and_views_up_to_date(bench: GoldBench) -> None:
    function = TableFunction(bench)
    keys = [bench.put("a.csv", {"day": ["mo"]}), bench.put("b.csv", {"day": ["mo", "tu"]})]
    assert function(event(keys[0]), in_sns(event(keys[1])), event(keys[1])) == []
    assert function.brought().replaced == 2
    assert function.refreshed() == "whole"
    bench.delete("b.csv")
    assert function(deleted(keys[1])) == []
    assert bench.table("daily").rows() == [("mo", 1)]
    assert function(event(keys[0])) == []
    assert function.refreshed() == "current"


def test_messages_about_other_objects_are_done(bench: GoldBench) -> None:
    function = TableFunction(bench)
    key = bench.put("a.csv", {"day": ["mo"]})
    test_event = json.dumps({"Event": "s3:TestEvent"})
    assert function(event(key, bucket="other"), event("others/a.parquet"), event("orders.json"), test_event) == []
    assert bench.gold.read("orders") is None


def test_a_message_that_is_no_event_is_dead_and_its_neighbours_are_not(bench: GoldBench) -> None:
    function = TableFunction(bench)
    key = bench.put("a.csv", {"day": ["mo"]})
    assert function("nonsense", event(key), "{}", "[]") == []
    assert function.dead == [("0", "NotAnEvent"), ("2", "NotAnEvent"), ("3", "NotAnEvent")]
    assert bench.table().height == 1


NAMES = st.sampled_from(["detail", "Records", "Message", "bucket", "object", "key", "name"])
VALUES = st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(NAMES, x))


@given(body=st.text() | VALUES.map(json.dumps))
def test_no_message_is_lost_and_none_kills(body: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    function = TableFunction(_shared(tmp_path_factory))
    assert function(body) == []
    assert function(body, event(keys_of(["a.csv"])[0])) == []
    assert function.reports.keys() == {"0", "1"}


_benches: list[GoldBench] = []


def _shared(factory: pytest.TempPathFactory) -> GoldBench:
    if not _benches:
        _benches.append(GoldBench(factory.mktemp("gold")))
    return _benches[0]


def test_silver_that_cannot_be_read_fails_its_own_messages(bench: GoldBench) -> None:
    function = TableFunction(bench)
    good, bad = bench.put("a.csv", {"day": ["mo"]}), silver_key(TRANSFORM, "bad.csv")
    bench.silver.put(bad, b"nonsense")
    assert function(event(bad), event(good), event(bad)) == ["0", "2"]
    assert function.code("0") == "UnreadableSilver"
    assert bench.table("daily").rows() == [("mo", 1)]
    assert function(event(bad), receives=TRIES) == []
    assert function.dead == [("0", "UnreadableSilver")]


BROKEN = ViewSpec("broken", "select nowhere from orders", ("orders",))


def test_one_message_of_a_failing_view_comes_back(bench: GoldBench) -> None:
    function = TableFunction(bench, GoldSpec(SPEC.tables, (BROKEN, DAILY)))
    keys = [bench.put(f"{number}.csv", {"day": ["mo"]}) for number in range(5)]
    messages = {str(number): (event(key), 3 if number == 2 else 2) for number, key in enumerate(keys)}
    messages["new"] = (event(bench.put("new.csv", {"day": ["mo"]})), 1)
    failed = function.invoke(messages)
    assert failed[0] == "new", "a group has one carrier"
    assert "2" in failed, "the one that was received most often of its group"
    assert function.code("2") == "ViewFailed"
    assert "the view broken could not be brought up to date" in str(function.reports["2"].error)
    assert bench.table().height == 6
    assert bench.table("daily").rows() == [("mo", 6)], "the other views are as they should be"
    assert function(event(keys[0]), receives=TRIES) == []
    assert function.dead == [("0", "ViewFailed")]


def test_a_view_that_fails_has_its_next_try_with_a_message_of_its_own(bench: GoldBench) -> None:
    spec = GoldSpec((*SPEC.tables, TableSpec("clicks", "clicks")), (BROKEN,))
    clicks, orders = bench.put("a.csv", {"day": ["mo"]}, "clicks"), bench.put("a.csv", {"day": ["mo"]})
    assert TableFunction(bench, spec)(event(clicks), event(orders)) == ["1"]


def test_a_table_whose_schema_is_refused_hands_its_messages_back(bench: GoldBench) -> None:
    spec = GoldSpec((TableSpec("orders", TRANSFORM, ("nowhere",)), TableSpec("plain", TRANSFORM)), ())
    function = TableFunction(bench, spec)
    assert function(event(bench.put("a.csv", {"day": ["mo"]}))) == ["0"]
    assert bench.table("plain").height == 1


@pytest.mark.parametrize("step", ["tables.committed", "tables.view_computed", "tables.view_committed"])
def test_an_invocation_that_dies_is_made_good_by_the_next(step: str, bench: GoldBench) -> None:
    key = bench.put("a.csv", {"day": ["mo"]})
    with pytest.raises(Killed):
        TableFunction(bench, step=kill_at(step))(event(key))
    assert TableFunction(bench)(event(key)) == []
    assert bench.table("daily").rows() == [("mo", 1)]


class Hurried:
    """A Lambda context in which every look costs a twelfth of the time."""

    def __init__(self) -> None:
        self.left = 1000

    def get_remaining_time_in_millis(self) -> int:
        self.left -= 80
        return self.left + 80


def test_messages_without_time_left_come_back(bench: GoldBench) -> None:
    function = TableFunction(bench)
    keys = [bench.put(f"{number:02}.csv", {"day": [f"{number:02}"]}) for number in range(12)]
    failed = function(*map(event, keys), context=Hurried())
    assert failed
    assert function.reports.keys() == {str(number) for number in range(12)} - {*failed}, "they were not begun"
    assert function.released == {f"receipt of {message}": 0.0 for message in failed}
    assert bench.table().height == len(keys) - len(failed) > 0
    assert bench.table("daily").height == bench.table().height
    assert function(*map(event, keys)) == []
    assert bench.table("daily").height == len(keys)


def test_reconcile_finds_what_events_missed(bench: GoldBench) -> None:
    (table,) = SPEC.tables
    keys = [bench.put(f"{number}.csv", {"day": ["mo"]}) for number in range(5)]
    assert differing(table, bench.silver, bench.gold) == sorted(keys)
    bench.bring(*keys)
    bench.put("1.csv", {"day": ["tu"]})
    bench.delete("2.csv")
    bench.put("empty.csv", pl.DataFrame({"day": []}, schema={"day": pl.String}))
    missed = differing(table, bench.silver, bench.gold)
    assert missed == [keys[1], keys[2]]
    bench.bring(*missed)
    assert differing(table, bench.silver, bench.gold) == []


def test_rounds_rest_though_much_of_silver_has_no_rows(bench: GoldBench) -> None:
    """The first round sends what lacks; the second finds 1,500 objects that are in no table, and sends none."""
    (table,) = SPEC.tables
    empty = pl.DataFrame({"day": []}, schema={"day": pl.String})
    keys = [bench.put("0.csv", {"day": ["mo"]})]
    body = parquet_bytes(empty, lineage("empty", TRANSFORM, 0).to_json())
    store = LocalStore(
        bench.root / "silver",
        scratch=bench.root / "scratch",
        locks=bench.root / "locks",
        foreign_writers=False,
        fsync=lambda _: None,
    )
    store.put_all([Put(silver_key(TRANSFORM, f"empty/{number}.csv"), body) for number in range(1_500)])
    keys += [bench.put(f"x/{number}.csv", {"day": ["mo"]}) for number in range(3)]
    first = differing(table, bench.silver, bench.gold)
    assert first == keys
    bench.bring(*first)
    assert differing(table, bench.silver, bench.gold) == []


def test_a_table_that_lacks_most_of_silver_has_little_of_it_headed(bench: GoldBench) -> None:
    (table,) = SPEC.tables
    full = parquet_bytes(pl.DataFrame({"day": ["mo"]}), lineage("full", TRANSFORM, 1).to_json())
    empty = parquet_bytes(pl.DataFrame({"day": []}), lineage("empty", TRANSFORM, 0).to_json())
    headed: list[str] = []

    class Counted(LocalStore):
        def head(self, key: str) -> Head | None:
            headed.append(key)
            return super().head(key)

    bench.silver = Counted(
        bench.root / "silver",
        scratch=bench.root / "scratch",
        locks=bench.root / "locks",
        foreign_writers=False,
        fsync=lambda _: None,
    )
    bench.silver.put_all([Put(silver_key(TRANSFORM, f"{number}.csv"), full) for number in range(1_100)])
    bench.silver.put_all([Put(silver_key(TRANSFORM, f"z/{number}.csv"), empty) for number in range(100)])
    assert len(differing(table, bench.silver, bench.gold)) == 1_200
    assert len(headed) == 1_000


def test_reconcile_knows_keys_that_were_cut_short(bench: GoldBench) -> None:
    (table,) = SPEC.tables
    digest = "~" + "0" * 64
    files = ["x" * 1024, "ü" * 512, "a" + digest, digest, "~", "a" + digest + ".parquet", "plain.csv.parquet"]
    keys = [bench.put(file, {"day": ["mo"]}) for file in files]
    assert differing(table, bench.silver, bench.gold) == sorted(keys)
    bench.bring(*keys)
    assert differing(table, bench.silver, bench.gold) == []
    for file in files:
        bench.delete(file)
    assert differing(table, bench.silver, bench.gold) == sorted(keys)
    bench.bring(*keys)
    assert bench.rows() == []


def test_messages_that_the_system_fails_come_back_later(bench: GoldBench) -> None:
    class Away(DeltaFormat):
        def read(self, name: str, version: int | None = None) -> DeltaSnapshot | None:
            raise GoldFailed("S3 is away")

    function, key = TableFunction(bench), event(bench.put("a.csv", {"day": ["mo"]}))
    bench.gold = Away(bench.root / "gold", scratch=bench.root)
    function = TableFunction(bench)
    with pytest.raises(SystemUnavailable, match=r"failed all 2 messages .* GoldFailed: S3 is away") as raised:
        function(key, key, receives=3)
    assert len(raised.value.response["batchItemFailures"]) == 2
    assert all(160 <= seconds <= 160 * 1.2 for seconds in function.released.values())
    with pytest.raises(SystemUnavailable):
        function(key, receives=TRIES)
    assert function.dead == [], "it is no fault of the file"


#: Kills whatever is at its commit.
POISON = "xxx.csv"


class Poisoned(LocalStore):
    """A bucket in which one object kills its reader."""

    def open(self, key: str) -> Any:
        if POISON in key:
            raise Killed
        return super().open(key)


def test_neighbours_of_a_killing_message_are_done_without_it(tmp_path: Path) -> None:
    """As SQS would have it: after a death all that is not deleted comes back, with one more receive."""
    bench = GoldBench(tmp_path)
    bench.silver = Poisoned(
        tmp_path / "silver", scratch=tmp_path / "scratch", locks=tmp_path / "locks", foreign_writers=False
    )
    function = TableFunction(bench)
    files = [POISON, *(f"{number:03}.csv" for number in range(60))]
    waiting = {file: (event(bench.put(file, {"day": [file]})), 1) for file in files}
    deaths = 0
    while len(waiting) > 1:
        try:
            function.invoke(waiting)
            raise AssertionError("it dies each time")
        except Killed:
            deaths += 1
        deleted = {receipt.removeprefix("receipt of ") for receipts in function.acknowledged for receipt in receipts}
        waiting = {file: (body, receives + 1) for file, (body, receives) in waiting.items() if file not in deleted}
    assert list(waiting) == [POISON]
    assert deaths < TRIES + SYSTEM_RECEIVES, "before SQS gives up on them"
    assert bench.table().height == 60
    new = event(bench.put("new.csv", {"day": ["new"]}))
    with pytest.raises(Killed):
        function.invoke({**waiting, "new.csv": (new, 1)})
    assert function.acknowledged == [["receipt of new.csv"]], "what comes for the first time goes first"


def test_a_group_that_fails_takes_no_other_with_it(bench: GoldBench) -> None:
    """A partition whose name the disk refuses fails the commit of all that are with it, but not for ever."""
    function = TableFunction(bench, GoldSpec((TableSpec("orders", TRANSFORM, ("day",)),)))
    files = ["xxx.csv", *(f"{number:03}.csv" for number in range(30))]
    days = {"xxx.csv": "x" * 300}
    waiting = {file: (event(bench.put(file, {"day": [days.get(file, "mo")]})), 1) for file in files}
    receives = 1
    while len(waiting) > 1:
        try:
            failed = function.invoke(waiting)
        except SystemUnavailable as error:
            failed = [failure["itemIdentifier"] for failure in error.response["batchItemFailures"]]
        receives += 1
        waiting = {file: (waiting[file][0], receives) for file in failed}
    assert list(waiting) == ["xxx.csv"]
    assert receives < 8
    assert bench.table().height == 30


class Sent:
    """A queue that keeps what it is sent."""

    def __init__(self, waiting: int = 0) -> None:
        self.bodies: list[str] = []
        self._waiting = waiting

    def waiting(self) -> int:
        return self._waiting

    def send(self, bodies: Sequence[str]) -> None:
        assert 0 < len(bodies) <= 10
        self.bodies += bodies


ROUND = {"reconcile": True, "queue": "url", "settled_seconds": 0}


def in_a_while(seconds: float = 60) -> float:
    return time.time() + seconds


def test_a_round_sends_what_events_missed(bench: GoldBench) -> None:
    keys = [bench.put(f"{number:03}.csv", {"day": ["mo"]}) for number in range(25)]
    sent = Sent()
    function = TableFunction(bench, queue=lambda _: sent, now=in_a_while)
    assert function.handler(ROUND, Leisure()) == {"sent": 25, "left": 0, "views": {"daily": Refresh.WAITING}}
    assert [unwrap(body)[0].key for body in sent.bodies] == keys
    assert function(*sent.bodies) == []
    bench.delete("000.csv")
    bench.put("001.csv", {"day": ["tu"]})
    sent.bodies.clear()
    assert function.handler(ROUND, Leisure())["sent"] == 2
    assert function(*sent.bodies) == []
    assert sorted(bench.table("daily").rows()) == [("mo", 23), ("tu", 1)]


def test_a_round_leaves_what_just_came_to_its_own_event(bench: GoldBench) -> None:
    old, young = bench.put("old.csv", {"day": ["mo"]}), bench.put("young.csv", {"day": ["mo"]})
    sent = Sent()
    os.utime(bench.root / "silver" / old, (0, 0))
    function = TableFunction(bench, queue=lambda _: sent)
    assert function.handler({**ROUND, "settled_seconds": 3600}, Leisure())["sent"] == 1
    assert [unwrap(body)[0].key for body in sent.bodies] == [old]
    function(event(old), event(young))
    os.utime(bench.root / "silver" / bench.put("young.csv", {"day": ["tu"]}))
    assert function.handler({**ROUND, "settled_seconds": 3600}, Leisure())["sent"] == 0


def test_a_round_sends_nothing_while_many_wait(bench: GoldBench) -> None:
    bench.put("a.csv", {"day": ["mo"]})
    sent = Sent(waiting=BUSY + 1)
    function = TableFunction(bench, queue=lambda _: sent, now=in_a_while)
    assert function.handler(ROUND, Leisure()) == {"skipped": True, "waiting": BUSY + 1}
    assert sent.bodies == []


def test_a_round_sends_what_it_has_time_for(bench: GoldBench) -> None:
    for number in range(300):
        bench.put(f"{number:03}.csv", {"day": ["mo"]})
    sent = Sent()
    answer = TableFunction(bench, queue=lambda _: sent, now=in_a_while).handler(ROUND, Hurried())
    assert 0 < answer["sent"] == len(sent.bodies) < 300
    assert answer["left"] == 300 - answer["sent"]


def test_a_round_makes_a_view_that_was_declared_later_and_fails_with_one_that_it_cannot(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"day": ["mo"]}))
    spec = GoldSpec(SPEC.tables, (BROKEN, DAILY))
    with pytest.raises(RoundFailed, match="broken: "):
        TableFunction(bench, spec, queue=lambda _: Sent(), now=in_a_while).handler(ROUND, Leisure())
    assert bench.table("daily").rows() == [("mo", 1)]


def test_an_endpoint_is_given_to_both_clients() -> None:
    assert storage_options({}) == {}
    assert storage_options({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}) == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ALLOW_HTTP": "true",
    }


ENVIRONMENT = {
    "SILVERSMITH_STACK": "shop",
    "SILVERSMITH_TABLES": SPEC.to_json(),
    "SILVERSMITH_SILVER": "dl-silver-layer",
    "SILVERSMITH_GOLD": "dl-gold-layer",
    "SILVERSMITH_QUEUE": "queue",
    "SILVERSMITH_DLQ": "dlq",
}


def test_a_function_is_built_from_its_environment(tmp_path: Path) -> None:
    place = tmp_path / "tables.json"
    place.write_text(SPEC.to_json())
    assert read_spec(str(place)) == read_spec(SPEC.to_json()) == SPEC
    function = build({**ENVIRONMENT, "SILVERSMITH_TABLES": str(place)}, s3=None, sqs=lambda: None)
    assert function({"Records": []}, Leisure()) == {"batchItemFailures": []}


def test_it_logs_and_measures_as_the_function_of_a_transform_does(
    bench: GoldBench, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    function = LambdaFunction("shop", SPEC, bucket="silver", silver=bench.silver, gold=bench.gold)
    good, bad = bench.put("a.csv", {"day": ["mo"]}), silver_key(TRANSFORM, "bad.csv")
    bench.silver.put(bad, b"nonsense")
    timed = object_created(ObjectEvent("silver", good, time="2026-01-02T03:04:05Z"), reason="test").decode()
    records = [record("m1", timed), record("m2", event(bad)), record("m3", "nonsense")]
    assert len(function({"Records": records}, Leisure())["batchItemFailures"]) == 1
    lines = {json.loads(text)["message_id"]: json.loads(text) for text in _lines(caplog) if "message_id" in text}
    assert (lines["m1"]["verdict"], lines["m1"]["key"], lines["m1"]["tables"]) == ("in tables", "a.csv", {"orders": 1})
    assert (lines["m2"]["level"], lines["m2"]["error"]["code"]) == ("ERROR", "UnreadableSilver")
    assert lines["m3"]["dead"] is True
    assert {"FilesCommitted", "FilesFailed", "RowsWritten", "Duration", "Age"} <= UNITS.keys()
    metrics = {line["Table"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert metrics["orders"].items() >= {"Pipeline": "shop", "FilesCommitted": 1, "FilesFailed": 1}.items()
    assert len(metrics["orders"]["Age"]) == len(metrics["daily"]["Duration"]) == 1


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    formatter = JsonLines()
    return [formatter.format(entry) for entry in caplog.records]


def test_sqs_learns_when_a_message_comes_back_and_why_it_died() -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Sqs:
        def __getattr__(self, name: str) -> Any:
            return lambda **arguments: calls.append((name, arguments))

    function = build({**ENVIRONMENT, "SILVERSMITH_METRICS": "off"}, s3=None, sqs=Sqs)
    function({"Records": [record("m", "nonsense")]}, Leisure())
    ((name, arguments),) = calls
    assert (name, arguments["QueueUrl"]) == ("send_message", "dlq")
    assert arguments["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NotAnEvent"
