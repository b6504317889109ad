"""The table function: messages in, tables and views brought up to date, what failed handed back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.events import ObjectEvent, object_created
from silversmith.lineage import silver_key
from silversmith.tables.compare import differing
from silversmith.tables.format import GoldFailed
from silversmith.tables.handler import NoTime, TableHandler, TablesReport, build, read_spec, storage_options
from silversmith.tables.spec import GoldSpec, TableSpec, ViewSpec
from silversmith.tables.types import SchemaRefused
from silversmith.tables.views import Refresh
from tests.unit.conftest import Leisure
from tests.unit.tables.kit import TRANSFORM, GoldBench, keys_of
from tests.unit.tables.test_commit import Killed, kill_at

DAILY = ViewSpec(
    "daily",
    "select day, count(*) as n from orders group by day",
    ("orders",),
    by=("day",),
    groups={"orders": (('"day"',),)},
)
SPEC = GoldSpec((TableSpec("orders", TRANSFORM),), (DAILY,))


class Function:
    """The table function over a bench, and what its last invocation reported."""

    def __init__(self, bench: GoldBench, spec: GoldSpec = SPEC, **options: Any) -> None:
        self.report = TablesReport()
        self._handler = TableHandler(
            spec, bucket="silver", silver=bench.silver, gold=bench.gold, ended=self._ended, **options
        )

    def _ended(self, report: TablesReport) -> None:
        self.report = report

    def __call__(self, *bodies: str | bytes, context: Any = None) -> list[str]:
        records = [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]
        response = self._handler({"Records": records}, context or Leisure())
        return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]


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
    function = Function(bench)
    keys = [bench.put("a.csv", {"day": ["mo"]}), bench.put("b.csv", {"day": ["mo", "tu"]})]
    assert function(event(keys[0]), in_sns(event(keys[1])), event(keys[1])) == []
    assert function.report.tables["orders"].replaced == 2
    assert function.report.views == {"daily": Refresh.WHOLE}
    bench.delete("b.csv")
    assert function(deleted(keys[1])) == []
    assert bench.table("daily").rows() == [("mo", 1)]
    assert function(event(keys[0])) == []
    assert function.report.views == {"daily": Refresh.CURRENT}


def test_what_is_none_of_ours_is_done(bench: GoldBench) -> None:
    function = Function(bench)
    key = bench.put("a.csv", {"day": ["mo"]})
    test_event = json.dumps({"Event": "s3:TestEvent"})
    assert function(event(key, bucket="other"), event("others/a.parquet"), event("orders.json"), test_event) == []
    assert bench.gold.read("orders") is None


def test_a_message_that_is_no_event_fails_and_its_neighbours_do_not(bench: GoldBench) -> None:
    function = Function(bench)
    key = bench.put("a.csv", {"day": ["mo"]})
    assert function("nonsense", event(key), "{}", "[]") == ["0", "2", "3"]
    assert bench.table().height == 1


NAMES = st.sampled_from(["detail", "Records", "Message", "bucket", "object", "key", "name"])
VALUES = st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(NAMES, x))


@given(body=st.text() | VALUES.map(json.dumps))
def test_no_message_is_lost_and_none_kills(body: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    function = Function(_shared(tmp_path_factory))
    assert function(body) in ([], ["0"])
    assert function(body, event(keys_of(["a.csv"])[0])) in ([], ["0"])


_benches: list[GoldBench] = []


def _shared(factory: pytest.TempPathFactory) -> GoldBench:
    if not _benches:
        _benches.append(GoldBench(factory.mktemp("gold")))
    return _benches[0]


def test_silver_that_cannot_be_read_fails_its_own_messages(bench: GoldBench) -> None:
    function = Function(bench)
    good, bad = bench.put("a.csv", {"day": ["mo"]}), silver_key(TRANSFORM, "bad.csv")
    bench.silver.put(bad, b"nonsense")
    assert function(event(bad), event(good), event(bad)) == ["0", "2"]
    assert isinstance(function.report.failed["0"], SchemaRefused)
    assert bench.table("daily").rows() == [("mo", 1)]


def test_a_view_that_fails_hands_its_messages_back(bench: GoldBench) -> None:
    spec = GoldSpec(SPEC.tables, (ViewSpec("v", "select nowhere from orders", ("orders",)),))
    function = Function(bench, spec)
    assert function(event(bench.put("a.csv", {"day": ["mo"]}))) == ["0"]
    assert isinstance(function.report.failed["0"], GoldFailed)
    assert bench.table().height == 1


def test_a_table_whose_schema_is_refused_hands_its_messages_back(bench: GoldBench) -> None:
    spec = GoldSpec((TableSpec("orders", TRANSFORM, ("nowhere",)), TableSpec("plain", TRANSFORM)), ())
    function = Function(bench, spec)
    assert function(event(bench.put("a.csv", {"day": ["mo"]}))) == ["0"]
    assert bench.table("plain").height == 1


@pytest.mark.parametrize("step", ["tables.committed", "tables.view_computed", "tables.view_committed"])
def test_an_invocation_that_dies_is_made_good_by_the_next(step: str, bench: GoldBench) -> None:
    key = bench.put("a.csv", {"day": ["mo"]})
    with pytest.raises(Killed):
        Function(bench, step=kill_at(step))(event(key))
    assert Function(bench)(event(key)) == []
    assert bench.table("daily").rows() == [("mo", 1)]


class Hurried:
    """A Lambda context in which every look costs a twentieth of the time."""

    def __init__(self) -> None:
        self.left = 1000

    def get_remaining_time_in_millis(self) -> int:
        self.left -= 50
        return self.left + 50


def test_what_there_is_no_time_for_comes_back(bench: GoldBench) -> None:
    function = Function(bench)
    keys = [bench.put(f"{number:02}.csv", {"day": [f"{number:02}"]}) for number in range(12)]
    failed = function(*map(event, keys), context=Hurried())
    assert failed
    assert all(isinstance(function.report.failed[message], NoTime) for message in failed)
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


def test_an_endpoint_is_told_to_both_clients() -> None:
    assert storage_options({}) == {}
    assert storage_options({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}) == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ALLOW_HTTP": "true",
    }


def test_a_function_is_built_from_its_environment(tmp_path: Path) -> None:
    place = tmp_path / "tables.json"
    place.write_text(SPEC.to_json())
    environment: Mapping[str, str] = {
        "SILVERSMITH_TABLES": str(place),
        "SILVERSMITH_SILVER": "dl-silver-layer",
        "SILVERSMITH_GOLD": "dl-gold-layer",
    }
    assert read_spec(str(place)) == read_spec(SPEC.to_json()) == SPEC
    assert build(environment, s3=None)({"Records": []}, Leisure()) == {"batchItemFailures": []}
