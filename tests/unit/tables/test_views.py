"""Views: what their query says of their tables, after whatever happened to these."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith import DefinitionError, Pipeline
from silversmith.tables.format import GoldFailed
from silversmith.tables.spec import GoldSpec, TableSpec, ViewSpec
from silversmith.tables.types import SchemaRefused
from silversmith.tables.views import MOST_GROUPS, UNNOTED, Difference, Refresh, compare, refresh
from tests.unit.tables.kit import TRANSFORM, GoldBench, keys_of, nothing
from tests.unit.tables.test_commit import Killed, kill_at, once

DAILY = "select day, sum(total) as total, count(*) as n from orders group by day"
LATEST = "select * from orders qualify row_number() over (partition by customer order by at desc, total) = 1"


@pytest.fixture
def bench(tmp_path: Path) -> GoldBench:
    return GoldBench(tmp_path)


def views(*declared: tuple[str, str, list[str]]) -> GoldSpec:
    """Views as a pipeline declares them."""
    shop = Pipeline("shop")
    shop.transform("*.csv", name=TRANSFORM)(lambda rows: rows)
    shop.transform("c/*.csv", name="customers")(lambda rows: rows)
    shop.table("orders", of=TRANSFORM)
    shop.table("customers", of="customers")
    for name, sql, by in declared:
        shop.view(name, sql, by=by)
    return shop.tables


def orders(*rows: tuple[Any, ...]) -> pl.DataFrame:
    schema = {"day": pl.String, "customer": pl.Int64, "total": pl.Int64, "at": pl.Int64}
    return pl.DataFrame([(*row, *(None,) * (4 - len(row))) for row in rows], schema=schema, orient="row")


def refreshed(bench: GoldBench, spec: GoldSpec, step: Callable[[str], None] = nothing) -> dict[str, Refresh]:
    return refresh(spec.views, bench.gold, step=step)


def test_touched_groups_are_recomputed(bench: GoldBench) -> None:
    spec = views(("daily", DAILY, ["day"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5), ("tu", 1, 7), (None, 1, 2))))
    assert refreshed(bench, spec) == {"daily": Refresh.WHOLE}
    bench.bring(bench.put("b.csv", orders(("tu", 1, 1), ("we", 1, 3))))
    assert refreshed(bench, spec) == {"daily": Refresh.GROUPS}
    assert sorted(bench.table("daily").rows(), key=repr) == [("mo", 5, 1), ("tu", 8, 2), ("we", 3, 1), (None, 2, 1)]
    changed = bench.snapshot("daily").changes(bench.snapshot("daily").version - 1, ["day"])
    assert changed is not None
    assert {day for batch in changed.batches for day in batch.column("day").to_pylist()} == {"tu", "we"}
    assert refreshed(bench, spec) == {"daily": Refresh.CURRENT}


def test_corrected_and_deleted_files_need_nothing_more(bench: GoldBench) -> None:
    spec = views(("daily", DAILY, ["day"]), ("latest", LATEST, ["customer"]))
    keys = [bench.put("a.csv", orders(("mo", 1, 5, 1), (None, 2, 2, 1))), bench.put("b.csv", orders(("tu", 1, 7, 2)))]
    bench.bring(*keys)
    refreshed(bench, spec)
    assert bench.table("latest").select("customer", "total").sort("customer").rows() == [(1, 7), (2, 2)]
    bench.put("a.csv", orders(("we", 1, 6, 3)))
    bench.delete("b.csv")
    bench.bring(*keys)
    assert refreshed(bench, spec) == {"daily": Refresh.GROUPS, "latest": Refresh.GROUPS}
    assert bench.table("daily").rows() == [("we", 6, 1)]
    assert bench.table("latest").select("customer", "total").rows() == [(1, 6)]


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, None],
        [True, False, None],
        ["it's", '"', "\\", "ü", "", None],
        [dt.date(2026, 1, 2), None],
        [dt.datetime(2026, 1, 2, 3, 4, 5, 6), None],  # noqa: DTZ001 -- a time without a zone
        [dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC), None],
        [Decimal("1.50"), Decimal("-2.25"), None],
        [1.5, float("nan"), None],
        [[1], [2], None],
        [b"x", b"y", None],
    ],
)
def test_groups_may_be_of_any_type(values: list[Any], bench: GoldBench) -> None:
    spec = views(("v", "select k, count(*) as n from orders group by k", ["k"]))
    bench.bring(bench.put("a.csv", {"k": values}))
    refreshed(bench, spec)
    bench.bring(bench.put("b.csv", pl.DataFrame({"k": values[:1]}, schema=bench.columns)))
    refreshed(bench, spec)
    expected = [(values[0], 2), *((value, 1) for value in values[1:])]
    frame = pl.DataFrame(expected, schema=bench.table("v").schema, orient="row")
    assert sorted(map(repr, bench.table("v").rows())) == sorted(map(repr, frame.rows()))  # nan is not equal to itself
    assert compare(spec.views[0], bench.gold) == Difference(0, 0)


def test_groups_may_be_decimals_of_any_size(bench: GoldBench) -> None:
    """delta-rs compares a decimal with none of another precision."""
    spec = views(("v", "select k, count(*) as n from orders group by k", ["k"]))
    kind = pl.Decimal(12, 2)
    bench.bring(bench.put("a.csv", pl.DataFrame({"k": ["1.50", "-2.25", None]}).cast(kind)))
    refreshed(bench, spec)
    bench.bring(bench.put("b.csv", pl.DataFrame({"k": ["1.50", None]}).cast(kind)))
    assert refreshed(bench, spec) == {"v": Refresh.GROUPS}
    assert sorted(bench.table("v").rows(), key=repr) == [(Decimal("-2.25"), 1), (Decimal("1.50"), 2), (None, 2)]


def test_an_integer_that_a_join_has_equal_to_a_decimal_names_its_group(bench: GoldBench) -> None:
    spec = views(("v", "select o.k, sum(c.k) as s from orders o join customers c on o.k = c.k group by o.k", ["k"]))
    bench.bring(bench.put("a.csv", pl.DataFrame({"k": ["1", "2"]}).cast(pl.Decimal(12, 2))))
    customers = GoldBench(bench.root)
    table = TableSpec("customers", "customers")
    customers.bring(customers.put("c.csv", {"k": [1, 2]}, "customers"), table=table)
    refreshed(bench, spec)
    customers.bring(customers.put("d.csv", {"k": [2, 10**15]}, "customers"), table=table)
    assert refreshed(bench, spec) == {"v": Refresh.WHOLE}  # the second is no value of the view's column
    customers.bring(customers.put("d.csv", {"k": [2, 2]}, "customers"), table=table)
    refreshed(bench, spec)
    assert compare(spec.views[0], bench.gold) == Difference(0, 0)


def test_groups_of_years_that_python_does_not_have(bench: GoldBench) -> None:
    spec = views(("v", "select k, count(*) as n from orders group by k", ["k"]))
    days = pl.Series("k", [0, 5_000_000, -2_000_000], dtype=pl.Int32).cast(pl.Date)
    bench.bring(bench.put("a.csv", pl.DataFrame({"k": days})))
    refreshed(bench, spec)
    bench.bring(bench.put("b.csv", pl.DataFrame({"k": days})))
    assert refreshed(bench, spec) == {"v": Refresh.WHOLE}
    assert bench.table("v")["n"].to_list() == [2, 2, 2]


def test_a_view_may_gather_lists(bench: GoldBench) -> None:
    spec = views(("v", "select day, array_agg(total order by total) as totals from orders group by day", ["day"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5))))
    refreshed(bench, spec)
    bench.bring(bench.put("b.csv", orders(("mo", 1, 4))))
    refreshed(bench, spec)
    assert bench.table("v").rows() == [("mo", [4, 5])]


def test_names_are_exact_without_quotes(bench: GoldBench) -> None:
    spec = views(("v", "select Day, count(*) as N from orders O group by O.Day", ["Day"]))
    bench.bring(bench.put("a.csv", {"Day": ["mo", "tu"]}))
    refreshed(bench, spec)
    bench.bring(bench.put("b.csv", {"Day": ["mo"]}))
    assert refreshed(bench, spec) == {"v": Refresh.GROUPS}
    assert sorted(bench.table("v").rows()) == [("mo", 2), ("tu", 1)]


def test_several_columns_make_a_group(bench: GoldBench) -> None:
    sql = "select customer, day, count(*) as n from orders group by all"
    spec = views(("v", sql, ["customer", "day"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1), ("tu", 1), ("mo", 2), (None, None))))
    refreshed(bench, spec)
    bench.bring(bench.put("b.csv", orders(("mo", 1), ("tu", 2))))
    assert refreshed(bench, spec) == {"v": Refresh.GROUPS}
    expected = [(1, "mo", 2), (1, "tu", 1), (2, "mo", 1), (2, "tu", 1), (None, None, 1)]
    assert sorted(bench.table("v").rows(), key=repr) == expected


def test_an_expression_names_a_group(bench: GoldBench) -> None:
    spec = views(("v", "select upper(coalesce(day, 'none')) as d, count(*) as n from orders group by 1", ["d"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1), ("Mo", 1), (None, 1))))
    refreshed(bench, spec)
    bench.bring(bench.put("b.csv", orders(("mO", 1), (None, 1))))
    assert refreshed(bench, spec) == {"v": Refresh.GROUPS}
    assert sorted(bench.table("v").rows()) == [("MO", 3), ("NONE", 2)]


def test_a_view_of_a_view(bench: GoldBench) -> None:
    top = "select n, count(*) as days from daily group by n"
    spec = views(("daily", DAILY, ["day"]), ("top", top, ["n"]), ("whole", "select sum(n) as n from daily", []))
    bench.bring(bench.put("a.csv", orders(("mo", 1), ("tu", 1), ("tu", 1))))
    refreshed(bench, spec)
    bench.bring(bench.put("b.csv", orders(("mo", 1), ("we", 1))))
    assert refreshed(bench, spec) == {"daily": Refresh.GROUPS, "top": Refresh.GROUPS, "whole": Refresh.WHOLE}
    assert sorted(bench.table("top").rows()) == [(1, 1), (2, 2)]
    assert bench.table("whole").rows() == [(5,)]


def test_a_join_follows_both_its_tables(bench: GoldBench) -> None:
    sql = """
        select o.customer, c.name, sum(o.total) as total
        from orders o join customers c on o.customer = c.id group by o.customer, c.name
    """
    spec = views(("v", sql, ["customer"]))
    people = TableSpec("customers", "customers")
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5), ("tu", 2, 7))))
    assert refreshed(bench, spec) == {"v": Refresh.WAITING}
    bench.columns = {}
    bench.bring(bench.put("c.csv", {"id": [1, 2], "name": ["Ada", "Bob"]}, transform="customers"), table=people)
    refreshed(bench, spec)
    bench.bring(bench.put("c.csv", {"id": [1, 2], "name": ["Ada", "Bo"]}, transform="customers"), table=people)
    assert refreshed(bench, spec) == {"v": Refresh.GROUPS}
    assert sorted(bench.table("v").rows()) == [(1, "Ada", 5), (2, "Bo", 7)]


def test_a_source_that_is_named_twice_touches_groups_by_each_of_its_places(bench: GoldBench) -> None:
    """Here ``at`` is the customer that an order was recommended by: it names a group, too."""
    sql = """
        select a.customer, sum(b.total) as total
        from (select * from orders) a join orders b on b.at = a.customer group by a.customer
    """
    with pytest.raises(DefinitionError, match="cannot be followed back"):
        views(("v", sql, ["customer"]))
    spec = views(("v", sql.replace("(select * from orders)", "orders"), ["customer"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5, 9), ("mo", 3, 5, 9))))
    bench.bring(bench.put("b.csv", orders(("mo", 2, 7, 1))))
    refreshed(bench, spec)
    assert bench.table("v").rows() == [(1, 7)]
    bench.bring(bench.put("b.csv", orders(("mo", 2, 8, 1), ("mo", 2, 1, 3))))
    assert refreshed(bench, spec) == {"v": Refresh.GROUPS}
    assert sorted(bench.table("v").rows()) == [(1, 8), (3, 1)]


def test_another_query_recomputes_all(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", orders(("mo", 1), ("tu", 2))))
    first, second = views(("v", "select day from orders", [])), views(("v", "select customer from orders", []))
    for spec, column in ((first, "day"), (second, "customer"), (first, "day")):
        assert refreshed(bench, spec) == {"v": Refresh.WHOLE}
        assert bench.table("v").columns == [column]


def test_another_table_of_the_same_name_recomputes_all(bench: GoldBench) -> None:
    spec = views(("daily", DAILY, ["day"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5))))
    refreshed(bench, spec)
    (bench.root / "gold" / "orders").rename(bench.root / "gold" / "old")
    bench.bring(bench.put("b.csv", orders(("tu", 1, 5))))
    assert refreshed(bench, spec) == {"daily": Refresh.WHOLE}
    assert bench.table("daily")["day"].to_list() == ["tu"]


def test_a_rewritten_table_recomputes_all(bench: GoldBench) -> None:
    spec = views(("daily", DAILY, ["day"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5))))
    refreshed(bench, spec)
    bench.columns["total"] = pl.Float64()
    bench.bring(bench.put("b.csv", orders(("tu", 1, 5)).with_columns(total=pl.lit(1.5))))
    assert refreshed(bench, spec) == {"daily": Refresh.WHOLE}
    assert sorted(bench.table("daily").rows()) == [("mo", 5.0, 1), ("tu", 1.5, 1)]


def test_forgotten_changes_recompute_all(bench: GoldBench) -> None:
    spec = views(("daily", DAILY, ["day"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5))))
    refreshed(bench, spec)
    for number in range(3):
        bench.bring(bench.put(f"{number}.csv", orders(("tu", 1, number))))
    bench.snapshot().table.create_checkpoint()
    for version in range(3):
        (bench.root / "gold" / "orders" / "_delta_log" / f"{version:020}.json").unlink()
    assert refreshed(bench, spec) == {"daily": Refresh.WHOLE}
    assert sorted(bench.table("daily").rows()) == [("mo", 5, 1), ("tu", 3, 3)]


@pytest.mark.parametrize(("place", "refresh"), [("York", Refresh.GROUPS), ("New York", Refresh.WHOLE)])
def test_change_data_of_a_partition_that_a_url_writes_otherwise(place: str, refresh: Refresh, bench: GoldBench) -> None:
    """delta-rs looks for it under the name that the log has, which is escaped once more than the folder's."""
    table = TableSpec("orders", TRANSFORM, partition_by=("place",))
    spec = GoldSpec((table,), views(("sums", "select place, sum(x) as s from orders group by place", ["place"])).views)
    bench.bring(bench.put("a.csv", {"place": [place, "x"], "x": [1, 2]}), table=table)
    refreshed(bench, spec)
    bench.bring(bench.put("a.csv", {"place": [place, "x"], "x": [3, 4]}), table=table)
    assert refreshed(bench, spec) == {"sums": refresh}
    assert sorted(bench.table("sums").rows()) == sorted([(place, 3), ("x", 4)])


def test_more_groups_than_a_query_can_name(bench: GoldBench) -> None:
    spec = views(("v", "select customer, count(*) as n from orders group by customer", ["customer"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1))))
    refreshed(bench, spec)
    bench.bring(bench.put("b.csv", orders(*(("mo", number) for number in range(MOST_GROUPS + 1)))))
    assert refreshed(bench, spec) == {"v": Refresh.WHOLE}
    assert bench.table("v").height == MOST_GROUPS + 1


def test_versions_that_touch_no_rows_are_noted_now_and_then(bench: GoldBench) -> None:
    spec = views(("daily", DAILY, ["day"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5))))
    refreshed(bench, spec)
    version = bench.snapshot("daily").version
    for _ in range(UNNOTED):
        bench.snapshot().commit([], marks={"test": 1})
        assert refreshed(bench, spec) == {"daily": Refresh.CURRENT}
    assert bench.snapshot("daily").version == version + 1


@pytest.mark.parametrize("name", ["tables.view_computed", "tables.view_committed"])
def test_a_crash_at_any_step_and_the_next_invocation(name: str, bench: GoldBench) -> None:
    spec = views(("daily", DAILY, ["day"]), ("whole", "select count(*) as n from daily", []))
    for number in range(3):
        bench.bring(bench.put(f"{number}.csv", orders((f"day {number}", 1, 5), ("mo", 1, 1))))
        with pytest.raises(Killed):
            refreshed(bench, spec, kill_at(name))
    for _ in spec.views:
        refreshed(bench, spec)
    assert sorted(bench.table("daily").rows()) == [("day 0", 5, 1), ("day 1", 5, 1), ("day 2", 5, 1), ("mo", 3, 3)]
    assert bench.table("whole").rows() == [(4,)]


def test_a_worker_that_stalls_while_another_goes_on(bench: GoldBench) -> None:
    spec = views(("daily", DAILY, ["day"]))
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5))))
    refreshed(bench, spec)
    bench.bring(bench.put("b.csv", orders(("mo", 1, 1))))

    def overtaken() -> None:
        bench.bring(bench.put("c.csv", orders(("mo", 1, 2))))
        refreshed(bench, spec)

    refreshed(bench, spec, once("tables.view_computed", overtaken))
    assert bench.table("daily").rows() == [("mo", 8, 3)]


def test_a_difference_is_reported_and_repaired(bench: GoldBench) -> None:
    spec = views(("daily", DAILY, ["day"]))
    (view,) = spec.views
    assert compare(view, bench.gold) is None
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5), ("tu", 1, 5))))
    refreshed(bench, spec)
    assert compare(view, bench.gold) == Difference(0, 0)
    bench.snapshot("daily").table.delete("day = 'mo'")
    assert compare(view, bench.gold) == Difference(1, 0)
    assert compare(view, bench.gold, repair=True) == Difference(1, 0)
    assert compare(view, bench.gold) == Difference(0, 0)
    assert bench.table("daily").height == 2


def test_a_query_that_cannot_run_is_reported(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", orders(("mo", 1, 5))))
    with pytest.raises(GoldFailed, match="nowhere"):
        refresh([ViewSpec("v", "select nowhere from orders", ("orders",))], bench.gold)
    with pytest.raises(SchemaRefused, match="case"):
        refresh([ViewSpec("v", 'select day, total as "DAY" from orders', ("orders",))], bench.gold)


def test_a_table_that_is_not_there_yet(bench: GoldBench) -> None:
    spec = views(("daily", DAILY, ["day"]))
    bench.bring(*keys_of(["gone.csv"]))
    assert refreshed(bench, spec) == {"daily": Refresh.WAITING}
