"""Silver of any sequence of files can be read as one, and has the values of the files."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from silversmith.errors import DataError
from silversmith.schemas import Changed, Document, Schema, fit, fit_by_types, schema_key
from silversmith.silver import scan
from tests.examples import examples

CODE = "c0de"


@dataclass
class Silver:
    """The silver of a transform, in a folder, with its recorded schema."""

    folder: Path
    document: Document = field(default_factory=lambda: Document("t"))
    files: list[pl.DataFrame] = field(default_factory=list)

    def put(
        self, frame: pl.DataFrame, guessed: tuple[str, ...] = (), *, streamed: bool = False, code: str = CODE
    ) -> None:
        """As a function does it. Raises Changed."""
        self._write(frame, len(self.files), guessed, streamed=streamed, code=code)
        self.files.append(frame)

    def _write(self, frame: pl.DataFrame, number: int, guessed: tuple[str, ...], *, streamed: bool, code: str) -> None:
        recorded = self.document.of(code)
        rows: pl.LazyFrame | pl.DataFrame = frame
        if streamed:
            rows = fit_by_types(frame.lazy(), dict(frame.schema), recorded)
        fitted = fit(rows, dict(rows.lazy().collect_schema()), recorded, guessed)
        if fitted.schema is not None:
            self.document = self.document.changed(fitted.schema, key=f"{number}.csv", at="now")
            self.document = Document.from_json("t", self.document.to_json())
        written = (rows.lazy() if fitted.rows is None else fitted.rows).collect()
        assert written.height == frame.height
        columns = self.document.of(code).columns
        typed = {name: dtype for name, dtype in columns.items() if dtype != pl.Null()}
        assert dict(written.schema) == (typed or dict(columns))
        path = self.folder / "t" / f"{'ba'[number % 2]}/{number}.csv.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        written.write_parquet(path)
        record = self.folder / schema_key("t")
        record.parent.mkdir(exist_ok=True)
        record.write_bytes(self.document.to_json())

    def remake(self) -> None:
        """As `reconcile --changed` has it done."""
        for number, frame in enumerate(self.files):
            self._write(frame, number, (), streamed=False, code=CODE)

    def by_polars(self) -> dict[str, list[dict[str, Any]]]:
        return grouped(scan(self.folder / "t", include_file_paths="path").collect().to_dicts())

    def by_duckdb(self) -> dict[str, list[dict[str, Any]]]:
        duckdb: Any = import_module("duckdb")
        glob = f"{self.folder}/t/**/*.parquet"
        frame = duckdb.sql(f"SELECT *, filename AS path FROM read_parquet('{glob}', union_by_name=true)")
        return grouped([dict(zip(frame.columns, row, strict=True)) for row in frame.fetchall()])

    def by_pyarrow(self) -> dict[str, list[dict[str, Any]]]:
        """With the columns of all files, as pyarrow unifies them."""
        pyarrow: Any = import_module("pyarrow")
        dataset: Any = import_module("pyarrow.dataset").dataset
        files = {path.name.partition(".")[0]: path for path in (self.folder / "t").rglob("*.parquet")}
        schema = pyarrow.unify_schemas([dataset(path).schema for path in files.values()])
        return {number: dataset(path, schema=schema).to_table().to_pylist() for number, path in files.items()}


def grouped(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each file, by its number."""
    actual: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        actual.setdefault(Path(row.pop("path")).name.partition(".")[0], []).append(row)
    return actual


def moment(day: dt.date) -> dt.datetime:
    """A day is its midnight: midnights go among days, and days among moments."""
    return day if isinstance(day, dt.datetime) else dt.datetime.combine(day, dt.time())


def says(value: Any, original: Any) -> bool:
    """Whether the rows that were read back have the file's values; columns that are new in the meantime have none."""
    if isinstance(original, dict) and isinstance(value, dict):
        return all(says(value.get(name), original.get(name)) for name in {*value, *original})
    if isinstance(original, list) and isinstance(value, list):
        return len(value) == len(original) and all(map(says, value, original))
    if isinstance(original, float) and math.isnan(original):
        return isinstance(value, float) and math.isnan(value)
    if isinstance(original, dt.date) and isinstance(value, dt.date):
        return moment(value) == moment(original)
    return bool(value == original) and isinstance(value, str) == isinstance(original, str)


def holds(actual: Mapping[str, list[dict[str, Any]]], files: list[pl.DataFrame]) -> bool:
    return all(
        says(actual.get(str(number), []), frame.to_dicts()) for number, frame in enumerate(files) if frame.height
    )


def small(kind: Any, low: int, high: int) -> tuple[Any, st.SearchStrategy[Any]]:
    return kind, st.integers(low, high)


EDGES = st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1])
FLOATS = st.sampled_from([0.0, 1.0, -3.0, 0.5, 1e300, float("nan"), float("inf"), 2.0**53])
COLUMNS = st.sampled_from(
    [
        *(small(pl.Int8, -128, 127), small(pl.Int32, -9, 2**31 - 1), small(pl.UInt8, 0, 255)),
        *((pl.Int64, EDGES), (pl.UInt64, st.sampled_from([0, 5, 2**63, 2**64 - 1])), (pl.UInt32, st.just(2**32 - 1))),
        *((pl.Float64, FLOATS), (pl.Float32, st.sampled_from([0.5, 3.0]))),
        *((pl.String, st.sampled_from(["", "x", "1"])), (pl.Boolean, st.booleans()), (pl.Null, st.none())),
        (pl.Date, st.just(dt.date(2026, 1, 2))),
        (pl.Datetime("us"), st.sampled_from([dt.datetime(2026, 1, 2), dt.datetime(2026, 1, 2, 3)])),  # noqa: DTZ001
        (pl.List(pl.Int32), st.lists(st.integers(0, 9), max_size=2)),
        (pl.List(pl.Float64), st.lists(FLOATS.filter(lambda number: not math.isnan(number)), max_size=2)),
        (pl.Struct({"x": pl.Int32}), st.fixed_dictionaries({"x": st.none() | st.integers(0, 9)})),
        (pl.Struct({"y": pl.String, "x": pl.Int64}), st.fixed_dictionaries({"y": st.just("q"), "x": EDGES})),
        (pl.List(pl.Struct({"x": pl.Int8})), st.lists(st.fixed_dictionaries({"x": st.integers(0, 9)}), max_size=2)),
        (pl.List(pl.Struct({"z": pl.Null, "x": pl.Int32})), st.just([{"z": None, "x": 5}])),
    ]
)


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    height = draw(st.integers(0, 3))
    columns = {}
    for name in draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3)):
        kind, values = draw(COLUMNS)
        cells = draw(st.lists(st.none() | values, min_size=height, max_size=height))
        columns[name] = pl.Series(name, cells, dtype=kind)
    return pl.DataFrame(columns)


READERS = [Silver.by_polars, *([Silver.by_duckdb] if find_spec("duckdb") else [])]
ARROW = [Silver.by_pyarrow] if find_spec("pyarrow") else []


@pytest.mark.parametrize("read", READERS)
@given(sequence=st.lists(st.tuples(frames(), st.booleans()), min_size=1, max_size=5))
@settings(max_examples=examples(60), deadline=None)
def test_all_silver_is_read_as_one(
    tmp_path_factory: pytest.TempPathFactory,
    read: Callable[[Silver], dict[str, list[dict[str, Any]]]],
    sequence: list[tuple[pl.DataFrame, bool]],
) -> None:
    silver = Silver(tmp_path_factory.mktemp("silver"))
    for frame, streamed in sequence:
        try:
            silver.put(frame, streamed=streamed)
        except Changed:
            event("a file was refused")
    event(f"{silver.document.version} versions")
    if read is Silver.by_duckdb and not all(pl.read_parquet_schema(path) for path in silver.folder.rglob("*.parquet")):
        return  # to DuckDB a file without columns is none
    assert holds(read(silver), silver.files)


@given(sequence=st.lists(frames(), min_size=2, max_size=5))
@settings(max_examples=examples(40), deadline=None)
def test_no_option_is_needed_after_silver_was_remade(
    tmp_path_factory: pytest.TempPathFactory, sequence: list[pl.DataFrame]
) -> None:
    silver = Silver(tmp_path_factory.mktemp("silver"))
    for frame in sequence:
        try:
            silver.put(frame)
        except Changed:
            continue
    before = silver.document
    silver.remake()
    assert silver.document == before, "what is made anew changes nothing"
    rows = pl.scan_parquet(silver.folder / "t/**/*.parquet", include_file_paths="path").collect()
    assert holds(grouped(rows.to_dicts()), silver.files)


DAY, MIDNIGHT, LATER = dt.date(2026, 1, 2), dt.datetime(2026, 1, 2), dt.datetime(2026, 1, 2, 3)  # noqa: DTZ001


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("first", [DAY, MIDNIGHT, LATER, None])
@pytest.mark.parametrize("second", [DAY, MIDNIGHT, LATER, None])
def test_days_and_moments_are_read_as_one(
    tmp_path: Path,
    read: Callable[[Silver], dict[str, list[dict[str, Any]]]],
    first: dt.date | None,
    second: dt.date | None,
) -> None:
    silver = Silver(tmp_path)
    silver.put(pl.DataFrame({"a": [first, None]}))
    with suppress(Changed):
        silver.put(pl.DataFrame({"a": [second]}))
    assert holds(read(silver), silver.files)


LATE = {"int": 1, "float": 0.5, "text": "x", "day": DAY, "list": [1], "struct": {"x": 1}, "truth": True}


@pytest.mark.parametrize("read", [*READERS, *ARROW])
@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
def test_a_column_without_any_value_goes_together_with_all_that_follows(
    tmp_path: Path, read: Callable[[Silver], dict[str, list[dict[str, Any]]]], late: Any
) -> None:
    """It is in no file until it has a type, so no engine has two types of it to bring together."""
    silver = Silver(tmp_path)
    silver.put(pl.DataFrame({"id": [1, 2], "a": [None, None]}))
    assert silver.document.of(CODE).columns == {"id": pl.Int64(), "a": pl.Null()}
    assert [pl.read_parquet_schema(path) for path in tmp_path.rglob("*.parquet")] == [{"id": pl.Int64()}]
    silver.put(pl.DataFrame({"id": [3], "a": [late]}))
    silver.put(pl.DataFrame({"id": [4], "a": [None]}))
    schemas = [pl.read_parquet_schema(path) for path in sorted(tmp_path.rglob("*.parquet"), key=lambda path: path.name)]
    assert [schema.get("a") for schema in schemas] == [None, *[silver.document.of(CODE).columns["a"]] * 2]
    assert holds(read(silver), silver.files)


def test_columns_that_differ_only_by_case_are_refused(tmp_path: Path) -> None:
    silver = Silver(tmp_path)
    with pytest.raises(DataError) as caught:
        silver.put(pl.DataFrame({"id": [1], "Amount": [1], "amount": [2]}))
    assert caught.value.code == "AmbiguousColumn"
    assert "rows.rename({'amount': 'amount_2'})" in caught.value.hint
    silver.put(pl.DataFrame({"id": [1], "Amount": [1]}))
    with pytest.raises(DataError, match='"Amount" and "amount"') as caught:
        silver.put(pl.DataFrame({"id": [1], "amount": [2]}))
    assert caught.value.place.column == "amount"


def test_colliding_columns_that_silver_has_already_stay(tmp_path: Path) -> None:
    """An earlier Silversmith let such columns in: a file of the same columns is no worse than those before it."""
    both = Schema(CODE, 1, {"a": pl.Int64(), "A": pl.Int64()})
    frame = pl.DataFrame({"A": [1], "a": [2]})
    assert fit(frame, dict(frame.schema), both, []).schema is None


def test_the_usual_file_is_left_as_it_is(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1], "b": ["x"]})
    recorded = Schema(CODE, 1, dict(frame.schema))
    assert fit(frame, dict(frame.schema), recorded, ["b"]).rows is None
    assert fit(frame, dict(frame.schema), recorded, ["b"]).schema is None


def recorded_after(tmp_path: Path, *columns: pl.Series, guessed: tuple[str, ...] = ()) -> Schema:
    silver = Silver(tmp_path)
    for column in columns:
        silver.put(pl.DataFrame({"a": column}), guessed)
    return silver.document.of(CODE)


def test_integers_become_floats_only_where_nothing_is_lost(tmp_path: Path) -> None:
    floats = pl.Series([0.5])
    assert recorded_after(tmp_path, pl.Series([1]), floats).columns == {"a": pl.Float64()}
    with pytest.raises(Changed, match=r"~ a: Int64 → Float64"):
        recorded_after(tmp_path, pl.Series([1]), pl.Series([2**53 + 1]), floats)
    assert recorded_after(tmp_path, floats, pl.Series([2**53])).columns == {"a": pl.Float64()}
    with pytest.raises(Changed, match=r"~ a: Float64 → Int64, such as 9007199254740993"):
        recorded_after(tmp_path, floats, pl.Series([2**53 + 1]))


def test_whole_floats_go_among_integers(tmp_path: Path) -> None:
    assert recorded_after(tmp_path, pl.Series([1]), pl.Series([2.0, None])).columns == {"a": pl.Int64()}


def test_a_column_without_values_waits_for_its_type(tmp_path: Path) -> None:
    nothing = pl.Series([None, None], dtype=pl.String)
    result = recorded_after(tmp_path, nothing, pl.Series([1]), nothing, guessed=("a",))
    assert result.columns == {"a": pl.Int64()}
    assert result.version == 2
    with pytest.raises(Changed):
        recorded_after(tmp_path, nothing, pl.Series([1]))  # who said that it is text meant it


def test_an_error_names_the_whole_difference(tmp_path: Path) -> None:
    silver = Silver(tmp_path)
    silver.put(pl.DataFrame({"a": [1], "b": ["x"], "c": [True]}))
    with pytest.raises(DataError) as caught:
        silver.put(pl.DataFrame({"a": ["7", "n/a"], "b": ["y", "z"], "d": [1, 2]}))
    assert caught.value.code == "SchemaChanged"
    assert caught.value.message.splitlines()[1:] == [
        '  ~ a: Int64 → String, such as "n/a"',
        "  - c: Boolean",
        "  + d: Int64",
    ]
    assert "schema={'a': pl.String}" in caught.value.hint
    assert caught.value.place.text == '"n/a"'


def test_other_code_begins_a_new_schema_and_both_are_read(tmp_path: Path) -> None:
    silver = Silver(tmp_path)
    silver.put(pl.DataFrame({"a": [1], "b": ["x"]}))
    silver.put(pl.DataFrame({"a": [0.5]}), code="0ther")
    assert [dict(schema.columns) for schema in silver.document.schemas] == [
        {"a": pl.Int64(), "b": pl.String()},
        {"a": pl.Float64()},
    ]
    assert scan(tmp_path / "t").sort("a").collect().rows() == [(0.5, None), (1.0, "x")]
