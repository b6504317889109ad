"""Silver's types as a table's: the mapping, its exactness, and the names that engines tell apart."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal as Number
from typing import Any

import duckdb
import polars as pl
import pytest
from arro3.core import DataType
from arro3.io import read_parquet
from hypothesis import given
from hypothesis import strategies as st

from silversmith.schemas.document import Document, Schema, dtype_text
from silversmith.tables.types import (
    Decimal,
    List,
    SchemaRefused,
    Struct,
    Type,
    cast,
    described,
    fitted,
    from_arrow,
    join,
    parse_recorded,
    recorded_columns,
    require_names,
    settled,
    to_arrow,
)
from tests.unit.tables.kit import GoldBench

NOON = dt.datetime(2026, 1, 2, 12, 30, 0, 5)  # noqa: DTZ001 -- a time without a zone is a type of its own
UTC = dt.UTC

#: A column of silver, the type that it has in a table, and its values there.
EXACT: Sequence[tuple[pl.Series, Type, list[Any]]] = [
    (pl.Series([1, None], dtype=pl.Int8), "byte", [1, None]),
    (pl.Series([1, None], dtype=pl.Int16), "short", [1, None]),
    (pl.Series([1, None], dtype=pl.Int32), "integer", [1, None]),
    (pl.Series([2**62, None], dtype=pl.Int64), "long", [2**62, None]),
    (pl.Series([255, None], dtype=pl.UInt8), "short", [255, None]),
    (pl.Series([2**16 - 1, None], dtype=pl.UInt16), "integer", [2**16 - 1, None]),
    (pl.Series([2**32 - 1, None], dtype=pl.UInt32), "long", [2**32 - 1, None]),
    (pl.Series([2**64 - 1, None], dtype=pl.UInt64), Decimal(20, 0), [Number(2**64 - 1), None]),
    (pl.Series([-(10**37), None], dtype=pl.Int128), Decimal(38, 0), [Number(-(10**37)), None]),
    (pl.Series([1.5, None], dtype=pl.Float32), "float", [1.5, None]),
    (pl.Series([1.5, float("inf"), None], dtype=pl.Float64), "double", [1.5, float("inf"), None]),
    (pl.Series([True, None]), "boolean", [True, None]),
    (pl.Series(["ü", None]), "string", ["ü", None]),
    (pl.Series([b"\x00", None]), "binary", [b"\x00", None]),
    (pl.Series([dt.date(2026, 1, 2), None]), "date", [dt.date(2026, 1, 2), None]),
    (pl.Series([dt.time(1, 2, 3), dt.time(1, 2, 3, 4), None]), "string", ["01:02:03", "01:02:03.000004", None]),
    (pl.Series([dt.timedelta(seconds=2), None]), "long", [2_000_000, None]),
    (pl.Series([dt.timedelta(seconds=2), None]).cast(pl.Duration("ns")), "long", [2_000_000, None]),
    (pl.Series([dt.timedelta(seconds=2), None]).cast(pl.Duration("ms")), "long", [2_000_000, None]),
    (pl.Series([NOON, None]), "timestamp_ntz", [NOON, None]),
    (pl.Series([NOON, None]).cast(pl.Datetime("ns")), "timestamp_ntz", [NOON, None]),
    (pl.Series([NOON, None]).dt.replace_time_zone("UTC"), "timestamp", [NOON.replace(tzinfo=UTC), None]),
    (
        pl.Series([NOON, None]).dt.replace_time_zone("Europe/Berlin"),
        "timestamp",
        [(NOON - dt.timedelta(hours=1)).replace(tzinfo=UTC), None],
    ),
    (pl.Series(["a", None], dtype=pl.Enum(["a", "b"])), "string", ["a", None]),
    (pl.Series(["a", None], dtype=pl.Categorical), "string", ["a", None]),
    (pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2)), List("long"), [[1, 2], None]),
    (pl.Series([[[1], [2]], None], dtype=pl.Array(pl.UInt8, (2, 1))), List(List("short")), [[[1], [2]], None]),
    (pl.Series([None, None], dtype=pl.Null), None, [None, None]),
    (pl.Series(["1.50", None]).cast(pl.Decimal(10, 2)), Decimal(10, 2), [Number("1.50"), None]),
    (
        pl.Series([[{"a": 1, "b": ["x"]}], [], None]),
        List(Struct((("a", "long"), ("b", List("string"))))),
        [[{"a": 1, "b": ["x"]}], [], None],
    ),
    (
        pl.Series([[{"u": 2**64 - 1}], None], dtype=pl.List(pl.Struct({"u": pl.UInt64}))),
        List(Struct((("u", Decimal(20, 0)),))),
        [[{"u": Number(2**64 - 1)}], None],
    ),
]


@pytest.mark.parametrize(("silver", "kind", "_"), EXACT, ids=lambda value: str(getattr(value, "dtype", "")))
def test_a_recorded_type_is_that_of_the_table(silver: pl.Series, kind: Type, _: list[Any]) -> None:
    assert parse_recorded(dtype_text(silver.dtype)) == kind


@pytest.mark.parametrize("with_int128", [False, True])
def test_all_types_go_through_a_table_to_polars_and_to_duckdb(with_int128: bool, tmp_path: Any) -> None:
    bench = GoldBench(tmp_path)
    columns = {f"c{number}": series for number, (series, _, _) in enumerate(EXACT)}
    if not with_int128:
        columns = {name: series for name, series in columns.items() if series.dtype != pl.Int128}
    else:
        columns = {name: series for name, series in columns.items() if not isinstance(series.dtype, pl.Duration)}
    longest = max(map(len, columns.values()))
    rows = pl.DataFrame(
        {name: series.clone().extend_constant(None, longest - len(series)) for name, series in columns.items()}
    )
    key = bench.put("a.csv", rows)
    brought = bench.bring(key)
    assert not brought.failed
    table = bench.table()
    for number, (_, _, values) in enumerate(EXACT):
        if f"c{number}" not in columns:
            continue
        assert table[f"c{number}"].to_list() == values + [None] * (longest - len(values)), EXACT[number]
    files = bench.snapshot().table.file_uris()
    counted = duckdb.connect().execute("select count(columns(*)) from read_parquet(?)", [files]).fetchone()
    assert counted == tuple(brought.rows - table_nulls for table_nulls in bench.table(own=True).null_count().row(0))


def _refused(series: pl.Series, kind: Type) -> str:
    buffer = io.BytesIO()
    pl.DataFrame({"x": series}).write_parquet(buffer)
    (batch,) = list(read_parquet(buffer.getvalue()))
    with pytest.raises(SchemaRefused) as refused:
        fitted(batch, {"x": kind})
    assert '"x"' in refused.value.message
    assert refused.value.hint
    return refused.value.message


@pytest.mark.parametrize(
    ("series", "kind"),
    [
        (pl.Series([1001]).cast(pl.Datetime("ns")), "timestamp_ntz"),
        (pl.Series([1001]).cast(pl.Duration("ns")), "long"),
        (pl.Series([2**62]).cast(pl.Datetime("ms")), "timestamp_ntz"),
        (pl.Series([2**53 + 1]), "double"),
        (pl.Series([1.5]), "long"),
        (pl.Series([300]), "byte"),
        (pl.Series(["1.55"]).cast(pl.Decimal(10, 2)), Decimal(10, 1)),
        (pl.Series(["2026-1-2"]), "date"),
        (pl.Series([[1.5]]), List("long")),
        (pl.Series([{"a": 1.5}]), Struct((("a", "long"),))),
        (pl.Series([{"a": 1, "b": 2}]), Struct((("a", "long"),))),
        (pl.Series([1]), List("long")),
        (pl.Series([1]), Struct((("a", "long"),))),
        (pl.Series([True]), "date"),
    ],
)
def test_inexact_casts_are_refused(series: pl.Series, kind: Type) -> None:
    _refused(series, kind)


def test_an_integer_of_more_than_38_digits_is_refused(tmp_path: Any) -> None:
    bench = GoldBench(tmp_path)
    key = bench.put("a.csv", pl.DataFrame({"x": pl.Series([2**126 * 3 // 2], dtype=pl.Int128)}))
    assert isinstance(bench.bring(key).failed[key], SchemaRefused)


@pytest.mark.parametrize("kind", [pl.Duration("ns"), pl.Duration("ms")])
def test_a_duration_whose_unit_would_not_be_seen_is_refused(kind: pl.DataType, tmp_path: Any) -> None:
    bench = GoldBench(tmp_path)
    rows = pl.DataFrame({"x": pl.Series([1], dtype=pl.Int128), "d": pl.Series([dt.timedelta(seconds=1)]).cast(kind)})
    with pytest.raises(SchemaRefused, match="Duration"):
        bench.bring(bench.put("a.csv", rows))


def test_a_struct_of_older_silver_lacks_a_field() -> None:
    frame = pl.DataFrame({"s": [{"a": 1}, None]})
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    (batch,) = list(read_parquet(buffer.getvalue()))
    kind = Struct((("b", List("string")), ("a", "double"), ("c", Struct((("d", "date"),)))))
    actual = fitted(batch, {"s": kind, "t": kind})
    assert actual.column("s").to_pylist() == [{"b": None, "a": 1.0, "c": None}, None]
    assert actual.column("t").to_pylist() == [None, None]


KINDS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(["byte", "short", "integer", "long", "float", "double", "boolean", "string", "date", "timestamp"])
    | st.none()
    | st.builds(lambda whole, scale: Decimal(whole + scale, scale), st.integers(1, 19), st.integers(0, 19)),
    lambda inner: (
        inner.map(List)
        | st.dictionaries(st.sampled_from("abc"), inner, min_size=1).map(lambda fields: Struct(tuple(fields.items())))
    ),
    max_leaves=4,
)


@given(KINDS, KINDS)
def test_a_joined_type_holds_both(first: Type, second: Type) -> None:
    both = join(first, second)
    assert join(first, first) == first
    if both is None:
        assert first is None or second is None or join(second, first) is None
        return
    assert join(both, first) == both
    assert join(both, second) == both


@given(KINDS)
def test_types_go_to_arrow_and_back(kind: Type) -> None:
    assert from_arrow(to_arrow(settled(kind))) == settled(kind)
    assert described(settled(kind))


POLARS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(
        [pl.Int8(), pl.Int64(), pl.UInt8(), pl.UInt32(), pl.Float32(), pl.Float64(), pl.String(), pl.Null(), pl.Date()]
    ),
    lambda inner: (
        inner.map(pl.List) | st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=2).map(pl.Struct)
    ),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.sampled_from(["x", "y"]), POLARS), max_size=3))
def test_a_table_has_the_columns_that_any_silver_may_have(versions: list[Mapping[str, pl.DataType]]) -> None:
    """As :meth:`Document.everything` has it, which scans silver."""
    schemas = tuple(Schema(f"code {number}", number + 1, columns) for number, columns in enumerate(versions))
    document = Document("orders", schemas)
    expected = {name: parse_recorded(dtype_text(kind)) for name, kind in document.everything().items()}
    assert recorded_columns(document.to_json()) == expected


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"schemas": [{"columns": {"x": "Horse"}}]}', b'{"schemas": 1}'])
def test_a_schema_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(SchemaRefused, match="schema"):
        recorded_columns(body)


@pytest.mark.parametrize("names", [["id", "Amount", "amount"], ["_FILE"], ["_etag"]])
def test_names_that_engines_take_for_one_are_refused(names: list[str]) -> None:
    with pytest.raises(SchemaRefused, match="case") as refused:
        require_names(names)
    assert "rename" in refused.value.hint


def test_fields_that_engines_take_for_one_are_refused() -> None:
    document = Document("t", (Schema("code", 1, {"x": pl.List(pl.Struct({"a": pl.Int8, "A": pl.Int8}))}),))
    with pytest.raises(SchemaRefused, match="case"):
        recorded_columns(document.to_json())


@pytest.mark.parametrize("name", ["_change_type", "_Commit_Version", "_commit_timestamp"])
def test_names_of_the_change_data_feed_are_refused(name: str) -> None:
    with pytest.raises(SchemaRefused, match="change data feed") as refused:
        require_names(["x", name], own=False)
    assert "rename" in refused.value.hint


def test_a_column_that_the_schema_does_not_have_is_refused() -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"x": [1], "y": [1]}).write_parquet(buffer)
    (batch,) = list(read_parquet(buffer.getvalue()))
    with pytest.raises(SchemaRefused, match='"y"'):
        fitted(batch, {"x": "long"})


@pytest.mark.parametrize("kind", [DataType.decimal256(50, 0), DataType.month_day_nano_interval()])
def test_types_that_a_table_cannot_have_are_named(kind: DataType) -> None:
    with pytest.raises(ValueError, match="has"):
        from_arrow(kind)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_integers_are_floats_only_if_each_is_exact(values: list[int | None]) -> None:
    array = next(iter(read_parquet(_parquet(pl.Series("x", values, dtype=pl.Int64))))) if values else None
    if array is None:
        return
    exact = all(value is None or int(float(value)) == value for value in values)
    try:
        assert cast(array.column("x"), "double").to_pylist() == values
    except Exception:  # noqa: BLE001 -- refused
        assert not exact
    else:
        assert exact


def _parquet(series: pl.Series) -> bytes:
    buffer = io.BytesIO()
    series.to_frame().write_parquet(buffer)
    return buffer.getvalue()
