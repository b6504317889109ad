"""A user's declarations, and the errors about those that cannot work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Context, Contract, Csv, DefinitionError, Json, Pipeline
from silversmith.pipeline import load, locate
from silversmith.pipeline.limits import bucket_name


def same(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


def refused(declare: Callable[[], object]) -> str:
    """The error about a declaration, which names this file."""
    with pytest.raises(DefinitionError) as raised:
        declare()
    assert re.match(r"(.*/)?tests/unit/test_pipeline\.py:\d+: ", str(raised.value)), raised.value
    return str(raised.value)


def test_a_transform_is_recorded_and_its_function_returned_unchanged() -> None:
    pipeline = Pipeline("flights")
    contract, reader = Contract(schema={"a": pl.Int64}), Csv()

    @pipeline.transform("flights/*.csv", contract=contract, reader=reader, memory=1024, maximum_concurrency=7)
    def flights(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.head(1)

    assert flights(pl.LazyFrame({"a": [1, 2]})).collect().height == 1
    (actual,) = pipeline.transforms
    assert (actual.name, actual.pattern.text, actual.function) == ("flights", "flights/*.csv", flights)
    assert (actual.contract, actual.reader, actual.memory, actual.maximum_concurrency) == (contract, reader, 1024, 7)
    assert (actual.batch_size, actual.batch_window, actual.timeout, actual.max_receive_count) == (10, 0, 300, 5)
    assert re.fullmatch("[0-9a-f]{32}", actual.fingerprint)


def test_buckets_have_names_by_default() -> None:
    pipeline = Pipeline("flights", silver="acme-silver")
    assert (pipeline.bronze, pipeline.silver, pipeline.quarantine) == (
        "dl-bronze-layer",
        "acme-silver",
        "dl-quarantine-layer",
    )


def test_a_key_may_belong_to_several_transforms() -> None:
    pipeline = Pipeline("flights")
    pipeline.transform("a/*", name="every")(same)
    pipeline.transform("a/*.csv", name="csv")(same)
    assert [result.name for result in pipeline.matching("a/1.csv")] == ["every", "csv"]
    assert [result.name for result in pipeline.matching("a/1.json")] == ["every"]
    assert pipeline.matching("b/1.csv") == ()
    assert pipeline.find("csv") is pipeline.transforms[1]
    with pytest.raises(DefinitionError, match="no transform 'other'; it has: every, csv"):
        pipeline.find("other")


@pytest.mark.parametrize("name", ["", "Flights", "1st", "my_flights", "a" * 41, "fl ights", "flights/x", None, 7])
def test_a_pipeline_s_name_must_be_one_for_a_stack(name: Any) -> None:
    said = refused(lambda: Pipeline(name))
    assert "underscore; call it 'my-flights'" in said if name == "my_flights" else "lower-case letters" in said


@pytest.mark.parametrize(
    ("buckets", "says"),
    [
        ({"bronze": "lake", "silver": "lake"}, "bronze and silver are both 'lake': .* again and again"),
        ({"silver": "lake", "quarantine": "lake"}, "silver and quarantine are both 'lake'"),
        ({"bronze": "dl-silver-layer"}, "bronze and silver are both"),
        ({"bronze": "Lake"}, "the bronze bucket's name 'Lake' must be lower-case"),
        ({"quarantine": "ab"}, "the quarantine bucket's name 'ab' must have 3 to 63 characters"),
        ({"quarantine": None}, "must have 3 to 63 characters"),
    ],
)
def test_buckets_must_be_three_different_ones_that_s3_takes(buckets: dict[str, Any], says: str) -> None:
    assert re.search(says, refused(lambda: Pipeline("flights", **buckets)))


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("abc", True),
        ("a.b-c.1", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("a..b", False),
        ("-ab", False),
        ("ab-", False),
        ("ab_c", False),
        ("192.168.5.4", False),
        ("1.2.3.4.5", True),
        ("xn--abc", False),
        ("abc--x-s3", False),
        ("abc\n", False),
        ("äbc", False),
    ],
)
def test_bucket_names_by_s3_s_rules(name: str, good: bool) -> None:
    assert (bucket_name(name) == "") is good


@pytest.mark.parametrize("name", ["", "Orders", "1st", "a b", "a/b", "a.b", "é", "a" * 41, 5])
def test_a_transform_s_name_must_be_one_for_keys_and_resources(name: Any) -> None:
    said = refused(lambda: Pipeline("p").transform("a/*", name=name)(same))
    assert "lower-case letters, digits, '_' and '-', at most 40" in said


def test_the_names_of_pipeline_and_transform_must_fit_lambda_together() -> None:
    pipeline = Pipeline("p" * 40)
    pipeline.transform("a/*", name="t" * 23)(same)
    said = refused(lambda: pipeline.transform("a/*", name="t" * 24)(same))
    assert "would have 65 characters, and Lambda takes 64" in said


def test_two_transforms_of_one_name_are_refused_with_both_places() -> None:
    pipeline = Pipeline("p")
    pipeline.transform("a/*", name="orders")(same)
    said = refused(lambda: pipeline.transform("a/*", name="orders")(same))
    assert len(re.findall(r"test_pipeline\.py:\d+", said)) == 2
    assert "give this one another name" in said
    assert len(pipeline.transforms) == 1


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"memory": 127}, "memory=127 is out of range: AWS takes 128 to 10,240 MB"),
        ({"memory": 10_241}, "memory=10241 is out of range"),
        ({"timeout": 0}, "AWS takes 1 to 900 seconds"),
        ({"timeout": 901}, "AWS takes 1 to 900 seconds"),
        ({"batch_size": 0}, "AWS takes 1 to 10,000 messages"),
        ({"batch_size": 10_001, "batch_window": 1}, "AWS takes 1 to 10,000 messages"),
        ({"batch_size": 11}, "batch_size=11 needs batch_window=1 or more"),
        ({"batch_window": 301}, "AWS takes 0 to 300 seconds"),
        ({"batch_window": -1}, "AWS takes 0 to 300 seconds"),
        ({"maximum_concurrency": 1}, "AWS takes 2 to 1,000 invocations"),
        ({"maximum_concurrency": 1001}, "AWS takes 2 to 1,000 invocations"),
        ({"max_receive_count": 0}, "AWS takes 1 to 950 tries"),
        ({"max_receive_count": 951}, "AWS takes 1 to 950 tries"),
        ({"memory": "512"}, "memory='512' is no whole number of MB"),
        ({"timeout": 1.5}, "timeout=1.5 is no whole number of seconds"),
        ({"batch_size": True}, "batch_size=True is no whole number"),
        ({"memory": None}, "memory=None is no whole number"),
    ],
)
def test_options_must_be_what_aws_takes(option: dict[str, Any], says: str) -> None:
    assert says in refused(lambda: Pipeline("p").transform("a/*", name="orders", **option)(same))


@pytest.mark.parametrize(
    "option",
    [
        {"memory": 128, "timeout": 1, "batch_size": 1, "maximum_concurrency": 2, "max_receive_count": 1},
        {"memory": 10_240, "timeout": 900, "batch_size": 10_000, "batch_window": 300, "maximum_concurrency": 1000},
        {"max_receive_count": 950, "batch_size": 11, "batch_window": 1},
    ],
)
def test_options_at_the_limits_are_taken(option: dict[str, Any]) -> None:
    pipeline = Pipeline("p")
    pipeline.transform("a/*", name="orders", **option)(same)
    assert {name: getattr(pipeline.transforms[0], name) for name in option} == option


@pytest.mark.parametrize("pattern", ["", "/a/*", "a/?", "a/[b]", "a/**", "a" * 1025])
def test_a_pattern_that_cannot_match_is_refused(pattern: str) -> None:
    assert "key pattern" in refused(lambda: Pipeline("p").transform(pattern))


async def asynchronous(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


def generator(rows: pl.LazyFrame) -> Iterator[pl.LazyFrame]:
    yield rows


def without() -> pl.LazyFrame:
    return pl.LazyFrame()


def with_three(rows: pl.LazyFrame, context: Context, lookup: pl.LazyFrame) -> pl.LazyFrame:
    return rows


def by_keyword(*, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


def with_default(rows: pl.LazyFrame, factor: int = 1) -> pl.LazyFrame:
    return rows


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (asynchronous, "async"),
        (generator, "yields"),
        (without, "takes () -> "),
        (with_three, "but it gets the rows"),
        (by_keyword, "but it gets the rows"),
        ("not a function", "it is put on str"),
        (Pipeline, "not on a function"),
    ],
)
def test_a_function_must_take_the_rows_and_return_rows(function: Any, says: str) -> None:
    assert says in refused(lambda: Pipeline("p").transform("a/*", name="orders")(function))


def test_a_function_may_have_more_arguments_with_defaults_or_be_a_lambda_with_a_name() -> None:
    pipeline = Pipeline("p")
    pipeline.transform("a/*")(with_default)
    pipeline.transform("a/*", name="anonymous")(lambda rows: rows)
    assert [actual.name for actual in pipeline.transforms] == ["with_default", "anonymous"]
    assert "a lambda has no name" in refused(lambda: pipeline.transform("a/*")(lambda rows: rows))


def test_the_decorator_without_a_pattern_is_explained() -> None:
    pipeline = Pipeline("p")
    assert 'write @pipeline.transform("same/*.csv")' in refused(lambda: pipeline.transform(same))  # type: ignore[arg-type]


def test_the_place_is_the_line_of_the_declaration() -> None:
    line = sys._getframe().f_lineno + 2
    with pytest.raises(DefinitionError, match=rf"test_pipeline\.py:{line}: "):
        Pipeline("p").transform("a/**")


# --- SQL --------------------------------------------------------------------------------------------------------------


def test_sql_is_a_transform_over_the_table_rows() -> None:
    pipeline = Pipeline("p")
    pipeline.sql("orders/*.json", "SELECT a, b * 2 AS b FROM rows WHERE a > 1 -- the rest", timeout=60)
    (actual,) = pipeline.transforms
    created = actual.function(pl.LazyFrame({"a": [1, 2], "b": [3, 4]}))
    assert isinstance(created, pl.LazyFrame)
    assert created.collect().to_dict(as_series=False) == {"a": [2], "b": [8]}
    assert (actual.name, actual.timeout) == ("orders", 60)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("orders/*.csv", "orders"),
        ("raw/orders/*", "raw_orders"),
        ("Orders 2024/*", "orders_2024"),
        ("orders-*", "orders"),
        ("late-orders/*", "late-orders"),
    ],
)
def test_a_query_is_named_after_what_it_reads(pattern: str, name: str) -> None:
    pipeline = Pipeline("p")
    pipeline.sql(pattern, "SELECT * FROM rows")
    assert [actual.name for actual in pipeline.transforms] == [name]


@pytest.mark.parametrize("pattern", ["*.csv", "é/*", "_/*"])
def test_a_query_without_a_name_to_go_by_is_refused(pattern: str) -> None:
    assert "add name=" in refused(lambda: Pipeline("p").sql(pattern, "SELECT * FROM rows"))


CONTRACT = Contract(schema={"a": pl.Int64, "b": pl.String}, on_extra_column="drop")
OPEN = Contract(schema={"a": pl.Int64, "b": pl.String})


@pytest.mark.parametrize(
    ("query", "contract", "says"),
    [
        ("SELEC a", None, "must be one SELECT"),
        ("", None, "must be one SELECT"),
        ("-- nothing\n/* at all */", None, "must be one SELECT"),
        ("DROP TABLE rows", None, "must be one SELECT"),
        (5, None, "it is a int, not a text"),
        ("SELECT a FROM rows WHERE", None, "sql parser error"),
        ("SELECT a FROM rows; SELECT b FROM rows", None, "one (and only one) statement"),
        ("SELECT a FROM other", None, "relation 'other' was not found (the table is called rows)"),
        ("SELECT c FROM rows", CONTRACT, 'unable to find column "c"'),
        ("SELECT a FROM rows ORDER BY c", CONTRACT, 'unable to find column "c"'),
        ("SELECT rows.c FROM rows", CONTRACT, "no column named 'c'"),
        ("SELECT nonsense(a) FROM rows", CONTRACT, "unsupported function 'nonsense'"),
        ("SELECT a + b FROM rows WHERE b > 1", CONTRACT, ""),
    ],
)
def test_a_query_that_cannot_work_is_refused(query: Any, contract: Contract | None, says: str) -> None:
    said = refused(lambda: Pipeline("p").sql("orders/*", query, contract=contract))
    assert "the query of the transform 'orders' is not valid: " in said
    assert says in said


@pytest.mark.parametrize(
    ("query", "contract"),
    [
        ("SELECT a FROM rows", CONTRACT),
        ("  /* why */ with t as (SELECT a, b FROM rows) SELECT b, count(*) AS n FROM t GROUP BY b", CONTRACT),
        ("SELECT whatever FROM rows ORDER BY 1", None),
        ("SELECT r.x FROM rows r WHERE r.y > 1", None),
        ("SELECT a, extra FROM rows", OPEN),
        ("SELECT a, extra FROM rows", Contract(rules={"a is positive": pl.col("a") > 0})),
    ],
)
def test_a_query_that_can_work_is_taken(query: str, contract: Contract | None) -> None:
    Pipeline("p").sql("orders/*", query, contract=contract)


# --- fingerprints -----------------------------------------------------------------------------------------------------


def fingerprint(**options: Any) -> str:
    pipeline = Pipeline("p")
    pipeline.transform(options.pop("pattern", "a/*"), name=options.pop("name", "orders"), **options)(same)
    return pipeline.transforms[0].fingerprint


def test_the_fingerprint_is_of_code_contract_and_reader_and_of_nothing_else() -> None:
    plain = fingerprint()
    assert plain == fingerprint(
        name="other", pattern="b/*", memory=1024, timeout=1, batch_size=5, maximum_concurrency=9
    )
    others = [
        fingerprint(contract=Contract(schema={"a": pl.Int64})),
        fingerprint(contract=Contract(schema={"a": pl.String})),
        fingerprint(reader=Csv()),
        fingerprint(reader=Csv(separator=";")),
        fingerprint(reader=Json()),
    ]
    assert len({plain, *others}) == 6
    assert others[0] == fingerprint(contract=Contract(schema={"a": pl.Int64}))
    assert others[3] == fingerprint(reader=Csv(separator=";"))


@given(st.sampled_from(["a", "b", "a + 1"]), st.sampled_from(["a", "b", "a + 1"]))
def test_the_fingerprint_of_a_query_is_its_text(one: str, other: str) -> None:
    def of(column: str) -> str:
        pipeline = Pipeline("p")
        pipeline.sql("orders/*", f"SELECT {column} FROM rows")
        return pipeline.transforms[0].fingerprint

    assert (of(one) == of(other)) is (one == other)


# --- loading ----------------------------------------------------------------------------------------------------------

FILE = """
from silversmith import Pipeline
pipeline = Pipeline("flights")

@pipeline.transform("flights/*.csv")
def flights(rows):
    return rows
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder that is the current one."""
    path_before, folder_before = sys.path[:], Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path.resolve()
    os.chdir(folder_before)
    sys.path[:] = path_before


def test_the_one_pipeline_of_a_file_is_loaded_afresh_each_time(folder: Path) -> None:
    (folder / "lake_job.py").write_text(FILE)
    first = load("lake_job.py")
    assert [actual.name for actual in first.transforms] == ["flights"]
    (folder / "lake_job.py").write_text(FILE.replace("return rows", "return rows.head(1)"))
    second = load("lake_job.py:pipeline")
    assert second is not first
    assert second.transforms[0].fingerprint != first.transforms[0].fingerprint


@pytest.mark.parametrize("target", ["jobs/lake_job.py", "jobs/lake_job.py:pipeline", "jobs.lake_job"])
def test_a_reference_is_what_the_bundle_imports(folder: Path, target: str) -> None:
    (folder / "jobs").mkdir()
    (folder / "jobs/lake_job.py").write_text(FILE + "other_name = pipeline\n")
    result = locate(target)
    assert result.pipeline.name == "flights"
    module = "jobs.lake_job" if target.startswith("jobs.") else "lake_job"
    assert result.reference == f"{module}:pipeline"
    assert result.root == (folder if target.startswith("jobs.") else folder / "jobs")


@pytest.mark.parametrize(
    ("text", "target", "says"),
    [
        ("x = 1\n", "lake_job.py", r'declares no pipeline; it should say: pipeline = Pipeline\("name"\)'),
        (FILE + "two = Pipeline('two')\n", "lake_job.py", "say which: lake_job.py:pipeline or lake_job.py:two"),
        (FILE, "lake_job.py:other", "'other' is not there, not a Pipeline; pipelines of this module: pipeline"),
        (FILE, "lake_job.py:flights", "'flights' is a function, not a Pipeline"),
        (FILE + "1/0\n", "lake_job.py", "ZeroDivisionError"),
        (FILE.replace("flights/*.csv", "flights/?.csv"), "lake_job.py", r"lake_job.py:5: .*bare \?"),
    ],
)
def test_faults_of_a_pipeline_file_are_explained(folder: Path, text: str, target: str, says: str) -> None:
    (folder / "lake_job.py").write_text(text)
    with pytest.raises(DefinitionError, match=says):
        load(target)


LATE = """
import sys, silversmith, silversmith.local.stack
assert "polars" not in sys.modules
silversmith.Pipeline("p")
"""


def test_the_public_names_come_late() -> None:
    subprocess.run([sys.executable, "-c", LATE], check=True)
    import silversmith

    assert set(dir(silversmith)) == set(silversmith.__all__) >= {"Contract", "Csv", "DataError", "Pipeline"}
    with pytest.raises(AttributeError, match="no attribute 'Absent'"):
        silversmith.Absent  # noqa: B018
