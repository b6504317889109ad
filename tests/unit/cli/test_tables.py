"""``silversmith query`` and ``tables``, called as the shell would call them, over tables that are there."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith.tables.spec import TableSpec
from silversmith.tables.views import refresh
from tests.unit.cli.conftest import Call
from tests.unit.tables.kit import GoldBench, nothing
from tests.unit.tables.test_views import views

DAILY = "select day, sum(total) as total from orders group by day"

PIPELINE = f"""
from silversmith import Pipeline

pipeline = Pipeline("shop", silver="silver", gold="gold")

@pipeline.transform("orders/*.csv")
def orders(rows):
    return rows

pipeline.table("orders", of=orders)
pipeline.table("again", of=orders)
pipeline.view("daily", "{DAILY}", by=["day"])
"""


@pytest.fixture
def bench(tmp_path: Path) -> GoldBench:
    (tmp_path / "lake/dl-bronze-layer").mkdir(parents=True)
    return GoldBench(tmp_path / "lake")


def fill(bench: GoldBench) -> None:
    """Two files are in the table and in the view of it."""
    bench.bring(
        bench.put("orders/a.csv", {"day": ["mo", "tu"], "total": [1, 2]}),
        bench.put("orders/b.csv", {"day": ["mo"], "total": [5]}),
    )
    refresh(views(("daily", DAILY, ["day"])).views, bench.gold, step=nothing)


def document(result: tuple[int, str, str]) -> Any:
    assert result[0] == 0, result[2]
    return json.loads(result[1])


def test_a_query_as_a_table(call: Call, bench: GoldBench) -> None:
    fill(bench)
    code, out, _ = call("query", "select day, total from daily order by total desc")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [["day", "total"], ["mo", "6"], ["tu", "2"]]


def test_a_query_in_json_and_its_limit(call: Call, bench: GoldBench) -> None:
    fill(bench)
    answer = document(call("query", "select _file, total from orders order by total", "--json", "--limit", "2"))
    assert answer == {
        "columns": [{"name": "_file", "type": "Utf8View"}, {"name": "total", "type": "Int64"}],
        "rows": [{"_file": "orders/a.csv", "total": 1}, {"_file": "orders/a.csv", "total": 2}],
        "more": True,
    }
    code, out, _ = call("query", "select total from orders order by total", "--limit", "2")
    assert (code, out.splitlines()[-1]) == (0, "… and more than these 2 rows; see them with --limit")


def test_values_in_json_are_exact(call: Call, bench: GoldBench) -> None:
    frame = pl.DataFrame(
        {
            "at": [date(2026, 1, 2)],
            "price": [Decimal("1.10")],
            "ratio": [float("nan")],
            "raw": [b"\xff\x00"],
            "many": [[1, None]],
            "part": [{"big": 2**60}],
            "none": pl.Series([None], dtype=pl.Int64),
        }
    )
    bench.bring(bench.put("orders/a.csv", frame))
    columns = "at, price, ratio, raw, many, part, none"
    (row,) = document(call("query", f"select {columns} from orders", "--json"))["rows"]
    assert row == {
        "at": "2026-01-02",
        "price": "1.10",
        "ratio": "nan",
        "raw": "ff00",
        "many": [1, None],
        "part": {"big": 2**60},
        "none": None,
    }
    assert "null" in call("query", "select none from orders")[1]


def test_content_of_a_file_does_not_control_the_terminal(call: Call, bench: GoldBench) -> None:
    bench.bring(bench.put("orders/a.csv", {"x": ["\x1b[31mred\n"]}))
    assert "\\x1b[31mred\\n" in call("query", "select x from orders")[1]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select * from order", "there is no table or view 'order'; there are: orders, again, daily"),
        ("select * from again", "again has no rows yet"),
        ("select amount from orders", "No field named amount"),
        ("select day from orders group", "SQL error"),
        ("select 1 / 0 from orders", "Divide by zero"),
        ("select a.day, b.day from orders a, orders b", "two columns of the result are called 'day'"),
        ("copy orders to '/tmp/x.csv'", "is no query: write a SELECT"),
        ("insert into orders values (1)", "is no query: write a SELECT"),
    ],
)
def test_an_invalid_query_is_refused(call: Call, bench: GoldBench, sql: str, says: str) -> None:
    fill(bench)
    code, out, errors = call("query", sql)
    assert (code, out) == (2, "")
    assert says in errors
    assert "Traceback" not in errors


def test_a_pipeline_without_tables(call: Call, bench: GoldBench, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE.partition("pipeline.table")[0])
    for arguments in (("query", "select 1"), ("tables",), ("tables", "optimize")):
        code, _, errors = call(*arguments)
        assert code == 2
        assert "declares no table: write pipeline.table" in errors


def test_tables_are_listed(call: Call, bench: GoldBench) -> None:
    (orders, again, daily) = document(call("tables", "--json"))["tables"]
    assert [each["state"] for each in (orders, again, daily)] == ["empty"] * 3
    fill(bench)
    (orders, again, daily) = document(call("tables", "--json"))["tables"]
    assert (orders["kind"], orders["of"], orders["state"], orders["rows"]) == ("table", ["orders"], "current", 3)
    assert orders["files"] == 1
    assert orders["bytes"] > 0
    assert orders["version"] == 1
    assert orders["committed"].startswith("20")
    assert (again["state"], again["lacking"]) == ("behind", 2)
    assert (daily["kind"], daily["state"], daily["rows"]) == ("view", "current", 2)
    bench.bring(bench.put("orders/a.csv", {"day": ["mo"], "total": [1]}))
    bench.delete("orders/b.csv")
    code, out, _ = call("tables")
    states = {line.split()[0]: line for line in out.splitlines() if line}
    assert code == 0
    assert "1 file behind" in states["orders"]
    assert "behind" in states["daily"]
    assert "silversmith reconcile" in out


def test_upkeep_by_hand(call: Call, bench: GoldBench) -> None:
    for number in range(3):
        bench.bring(bench.put(f"orders/{number}.csv", {"day": ["mo"], "total": [number]}))
    code, out, _ = call("tables", "optimize", "orders")
    assert code == 0
    assert out.startswith("orders: 3 data files → 1, ")
    parquet = list((bench.root / "gold/orders").glob("*.parquet"))
    assert len(parquet) == 4
    assert document(call("tables", "vacuum", "--json"))["tables"][0]["after"]["files"] == 1
    assert len(list((bench.root / "gold/orders").glob("*.parquet"))) == 4, "nothing is seven days old"
    assert call("tables", "vacuum", "orders", "--older-than", "0s")[0] == 0
    assert len(list((bench.root / "gold/orders").glob("*.parquet"))) == 1
    assert [row[0] for row in bench.rows()] == [f"orders/{number}.csv" for number in range(3)]


def test_a_table_is_rebuilt(call: Call, bench: GoldBench) -> None:
    fill(bench)
    bench.put("orders/c.csv", {"day": ["we"], "total": [9]})
    assert document(call("tables", "rebuild", "orders", "--json"))["after"]["rows"] == 4
    code, out, errors = call("tables", "rebuild", "daily")
    assert errors == ""
    assert (code, out) == (0, "daily: 3 rows in version 2\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("optimize", "foo"), "has no table or view 'foo'; it has: orders, again, daily"),
        (("rebuild",), "name the table"),
        (("optimize", "--older-than", "3d"), "is for `silversmith tables vacuum`"),
        (("vacuum", "--older-than", "soon"), "is no age"),
        (("drop",), "drop"),
    ],
)
def test_a_wrong_call(call: Call, bench: GoldBench, arguments: tuple[str, ...], says: str) -> None:
    code, _, errors = call("tables", *arguments)
    assert code == 2
    assert says in errors


def test_a_trace_goes_on_to_the_tables(call: Call, bench: GoldBench) -> None:
    fill(bench)
    for number in range(5):
        bench.bring(bench.put(f"orders/{number}.csv", {"day": ["we"], "total": [number]}))
    (part,) = document(call("trace", "orders/3.csv", "--json"))["transforms"]
    assert part["tables"] == [
        {"table": "orders", "state": "current", "since": 5, "or_before": False},
        {"table": "again", "state": "missing", "since": None, "or_before": False},
    ]
    code, out, _ = call("trace", "orders/3.csv")
    assert code == 0
    assert "table     orders: in it since version 5\n" in out
    assert "table     again: not in it yet\n" in out
    bench.put("orders/3.csv", {"day": ["we"], "total": [0]})
    assert "orders: in it with the rows of an older silver, since version 5\n" in call("trace", "orders/3.csv")[1]
    bench.put("orders/none.csv", {"day": pl.Series([], dtype=pl.String), "total": pl.Series([], dtype=pl.Int64)})
    assert "orders: not in it, nor are there rows in silver\n" in call("trace", "orders/none.csv")[1]


def test_a_trace_of_rows_that_are_older_than_what_is_known(call: Call, bench: GoldBench) -> None:
    fill(bench)
    for number in range(3):
        bench.bring(bench.put(f"orders/{number}.csv", {"day": ["we"], "total": [number]}))
    assert call("tables", "optimize")[0] == 0
    assert call("tables", "vacuum", "--older-than", "0s")[0] == 0
    (part,) = document(call("trace", "orders/a.csv", "--json"))["transforms"]
    assert part["tables"][0] == {"table": "orders", "state": "current", "since": 6, "or_before": True}
    assert "in it since version 6 or before\n" in call("trace", "orders/a.csv")[1]


def test_views_are_recomputed_and_differences_are_reported(call: Call, bench: GoldBench) -> None:
    assert call("reconcile", "--views")[1] == "there is no view yet\n"
    fill(bench)
    assert call("reconcile", "--views")[1] == "daily: as its query says\n"
    bench.snapshot("daily").commit([], where="day = 'mo'")
    assert call("reconcile", "--views", "--dry-run")[1] == "daily: 1 row missing, 0 too many (not repaired)\n"
    answer = document(call("reconcile", "--views", "--json"))
    assert answer == {"dry_run": False, "views": [{"view": "daily", "lacking": 1, "surplus": 0}]}
    assert sorted(bench.table("daily").rows()) == [("mo", 6), ("tu", 2)]
    assert call("reconcile", "--views", "--changed")[0] == 2


def test_the_status_has_the_tables(call: Call, bench: GoldBench) -> None:
    fill(bench)
    orders, again, daily = document(call("status", "--json"))["tables"]
    assert (orders["rows"], orders["version"], orders["state"], orders["lacking"]) == (3, 1, "there", None)
    assert (again["state"], daily["rows"]) == ("empty", 2)
    assert [
        line.split()[:5] for line in call("status")[1].splitlines() if line.startswith(("orders  table", "daily"))
    ] == [
        ["orders", "table", "3", "1", "1"],
        ["daily", "view", "2", "1", "1"],
    ]


def test_the_doctor_looks_at_tables(call: Call, bench: GoldBench) -> None:
    def checked() -> dict[str, str]:
        (check,) = [each for each in json.loads(call("doctor", "--json")[1])["checks"] if each["name"] == "tables"]
        return dict(check)

    fill(bench)
    (bench.root / ".silversmith").mkdir()
    bench.put("orders/none.csv", {"day": pl.Series([], dtype=pl.String), "total": pl.Series([], dtype=pl.Int64)})
    check = checked()
    assert check["state"] == "warn"
    assert check["found"] == "orders: version 1; again: 2 of 3 files not as silver has them"
    bench.bring(*keys(bench), table=TableSpec("again", "orders"))
    assert checked()["state"] == "ok"
    (bench.root / "gold/orders/_delta_log/00000000000000000001.json").write_text("nonsense")
    check = checked()
    assert check["state"] == "fail"
    assert "tables rebuild" in check["do"]


def keys(bench: GoldBench) -> list[str]:
    return [head.key for head in bench.silver.list("orders/")]
