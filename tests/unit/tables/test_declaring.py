"""Tables and views as a pipeline declares them, and what is refused there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from silversmith import DefinitionError, Pipeline
from silversmith.tables.spec import GoldSpec, TableSpec, ViewSpec


@pytest.fixture
def pipeline() -> Pipeline:
    shop = Pipeline("shop")

    @shop.transform("orders/*.csv")
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    shop.table("orders", of=orders, partition_by=["day"], sort_by=["customer"])
    shop.table("customers", of="orders")
    return shop


def test_tables_and_views_are_plain_data(pipeline: Pipeline) -> None:
    daily = "select day, sum(total) as total, count(*) as n from orders group by day"
    latest = "select * from orders qualify row_number() over (partition by customer order by at desc) = 1"
    pipeline.view("daily", daily, by=["day"])
    pipeline.view("latest", latest, by=["customer"])
    pipeline.view("all_of_it", "select count(*) as n from daily")
    spec = pipeline.tables
    assert spec.tables[0] == TableSpec("orders", "orders", ("day",), ("customer",))
    assert spec.views == (
        ViewSpec("daily", daily, ("orders",), ("day",), {"orders": (('"day"',),)}),
        ViewSpec("latest", latest, ("orders",), ("customer",), {"orders": (('"customer"',),)}),
        ViewSpec("all_of_it", "select count(*) as n from daily", ("daily",)),
    )
    assert GoldSpec.from_json(spec.to_json()) == spec
    assert [view.name for view in spec.views_over(["orders"])] == ["daily", "latest", "all_of_it"]
    assert spec.views_over(["customers"]) == ()
    assert [table.name for table in spec.of_transform("orders")] == ["orders", "customers"]


@pytest.mark.parametrize(
    ("sql", "by", "groups"),
    [
        ("select date_trunc('day', at) as day from orders group by 1", ["day"], [["DATE_TRUNC('DAY', \"at\")"]]),
        ("select cast(at as date) as day, n from orders", ["day"], [['CAST("at" AS DATE)']]),
        ("select Day, customer, sum(n) as n from orders o group by o.Day, customer", ["Day"], [['"Day"']]),
        ("select day, customer from orders", ["customer", "day"], [['"customer"', '"day"']]),
        ("select day, sum(n) as n from orders group by all", ["day"], [['"day"']]),
        ("select distinct day from orders", ["day"], [['"day"']]),
        ("select distinct on (day) day, at from orders order by day, at", ["day"], [['"day"']]),
        ('select "Day" from orders', ["Day"], [['"Day"']]),
        ("select a.day from orders a join orders b on a.day = b.day", ["day"], [['"day"'], ['"day"']]),
        ("select day, sum(n) over (partition by day, x) as s from orders", ["day"], [['"day"']]),
        ("select day, sum(n) over w as s from orders window w as (partition by day, x)", ["day"], [['"day"']]),
        (
            "select day, rank() over (v) r from orders qualify r = 1 window w as (partition by day), v as (w)",
            ["day"],
            [['"day"']],
        ),
    ],
)
def test_groups_are_followed_to_the_columns_of_the_source(
    sql: str, by: list[str], groups: list[list[str]], pipeline: Pipeline
) -> None:
    pipeline.view("v", sql, by=by)
    assert [list(place) for place in pipeline.tables.views[0].groups["orders"]] == groups


@pytest.mark.parametrize(
    ("join", "customers"),
    [
        ("join customers c on o.day = c.date and o.x = c.x", (('"date"',),)),
        ("left join customers c on c.date = o.day", (('"date"',),)),
        ("join customers c on o.day < c.date", None),
        ("join customers c using (day)", None),
        ("join (select * from customers) c on o.day = c.date", None),
    ],
)
def test_other_tables_of_a_join_name_groups_where_they_are_equal(
    join: str, customers: tuple[tuple[str, ...], ...] | None, pipeline: Pipeline
) -> None:
    pipeline.view("v", f"select o.day, count(*) as n from orders o {join} group by o.day", by=["day"])
    (view,) = pipeline.tables.views
    assert view.sources == ("orders", "customers")
    assert view.groups["orders"] == (('"day"',),)
    assert view.groups.get("customers") == customers


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("select customer, sum(n) as day from orders group by customer", "GROUP BY is by customer"),
        ("select day, sum(n) as s from orders", "without GROUP BY"),
        ("select day, sum(n) as s from orders group by all limit 3", "LIMIT"),
        ("select day from orders offset 3", "OFFSET"),
        ("select day, row_number() over (order by at) as r from orders", "by nothing"),
        ("select * from orders qualify row_number() over (partition by customer order by at) = 1", "by customer"),
        (
            "select day, sum(n) over w as s from orders window w as (partition by customer)",
            "by customer, without 'day'",
        ),
        ("select day, sum(n) over w as s from orders window w as (order by at)", "by nothing"),
        ("select day, sum(n) over w as s from orders", "no window 'w'"),
        ("select day, sum(n) over w as s from orders window w as (v), v as (w)", "no window 'w'"),
        ("select distinct on (customer) customer, day from orders", "DISTINCT ON"),
        ("select customer from orders", "no such column"),
        ("select Day from orders", "no such column"),
        ("select day from orders union all select day from customers", "only one SELECT"),
        ("with o as (select * from orders) select day from o", "followed back"),
        ("select c.day from orders o left join customers c on o.day = c.day", "followed back"),
        ("select o.day from orders o full join customers c on o.day = c.day", "followed back"),
        ("select to_char(at, '%Y') as day from orders", "followed back"),
        ("select max(n) as day from orders group by all", "GROUP BY"),
        ("select count(*) as day from orders", "aggregate"),
    ],
)
def test_groups_that_do_not_fit_the_query_are_refused(sql: str, problem: str, pipeline: Pipeline) -> None:
    with pytest.raises(DefinitionError, match=re.escape(problem)):
        pipeline.view("v", sql, by=["day"])
    assert pipeline.tables.views == ()


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("select day from", "cannot be parsed"),
        ("select 'a", "cannot be parsed"),
        ("", "one SELECT"),
        ("insert into orders values (1)", "one SELECT"),
        ("select 1 from orders; select 2 from orders", "one SELECT"),
        ("drop table orders", "one SELECT"),
        ("select * from unknown", "'unknown'"),
        ("select * from ORDERS", "'ORDERS'"),
        ("select * from v", "the view itself"),
        ("select * from other.orders", "no such table or view"),
        ("select * from read_parquet('x')", "no such table or view"),
        ("select 1", "reads no table"),
        ("select day, sum(total) from orders group by day", "SUM(total) no name"),
        ("select day from orders qualify rank() over w = 1 window w as (order by day)", "no named windows"),
        ("select now() from orders", "something else each time"),
        ("select current_date from orders", "something else each time"),
        ("select random() from orders", "something else each time"),
        ("select uuid() from orders", "something else each time"),
    ],
)
def test_queries_that_cannot_be_a_view_are_refused(sql: str, problem: str, pipeline: Pipeline) -> None:
    with pytest.raises(DefinitionError, match=re.escape(problem)) as refused:
        pipeline.view("v", sql)
    assert Path(__file__).name in str(refused.value)  # the place where it is declared


@pytest.mark.parametrize("name", ["", "Orders", "my-table", "1st", "_x", "a b", "x" * 64, 3, "orders"])
def test_names_that_engines_do_not_take_are_refused(name: str, pipeline: Pipeline) -> None:
    with pytest.raises(DefinitionError, match="name"):
        pipeline.table(name, of="orders")
    with pytest.raises(DefinitionError, match="name"):
        pipeline.view(name, "select * from orders")


def test_a_table_is_of_a_transform(pipeline: Pipeline) -> None:
    with pytest.raises(DefinitionError, match=r"no transform.*orders"):
        pipeline.table("t", of="nothing")
    with pytest.raises(DefinitionError, match="no transform"):
        pipeline.table("t", of=lambda rows: rows)
    orders = pipeline.transforms[0].function
    pipeline.transform("more/*.csv", name="more")(orders)
    with pytest.raises(DefinitionError, match="orders and more"):
        pipeline.table("t", of=orders)


@pytest.mark.parametrize("columns", ["day", [3], ["day", "day"], ["_file"], 3])
def test_columns_are_a_list_of_names(columns: list[str], pipeline: Pipeline) -> None:
    with pytest.raises(DefinitionError, match="partition_by"):
        pipeline.table("t", of="orders", partition_by=columns)
    with pytest.raises(DefinitionError, match="by"):
        pipeline.view("v", "select * from orders", by=columns)


@pytest.mark.parametrize("options", [{"sort_by": ["a.b"]}, {"partition_by": ["a=b"]}, {"partition_by": ["a\nb"]}])
def test_columns_that_delta_cannot_take_are_refused(options: dict[str, list[str]], pipeline: Pipeline) -> None:
    with pytest.raises(DefinitionError, match="rename the column"):
        pipeline.table("more", of="orders", **options)


def test_gold_is_a_bucket_of_its_own() -> None:
    assert Pipeline("shop").gold == "dl-gold-layer"
    with pytest.raises(DefinitionError, match="silver and gold are both"):
        Pipeline("shop", gold="dl-silver-layer")
    with pytest.raises(DefinitionError, match="on_delete"):
        Pipeline("shop", on_delete="forget")


def test_a_transform_function_on_lambda_needs_no_parser() -> None:
    code = (
        "import sys; sys.modules['sqlglot'] = None\n"
        "import polars as pl, silversmith\n"
        "shop = silversmith.Pipeline('shop')\n"
        "shop.transform('*.csv', name='orders')(lambda rows: rows)\n"
        "shop.table('orders', of='orders')\n"
        "shop.view('v', 'select * from orders', by=['day'])\n"
        "print(shop.tables.views[0].by)\n"
    )
    environment = {**os.environ, "AWS_LAMBDA_FUNCTION_NAME": "shop_orders"}
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert there.stdout == "('day',)\n"
    del environment["AWS_LAMBDA_FUNCTION_NAME"]
    here = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert "pip install 'silversmith[tables]'" in here.stderr
