"""From silver to a table: the diff and its commits, whatever dies, stalls, or comes twice."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from arro3.core import Array, DataType, RecordBatch
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from silversmith.formats.writer import parquet_bytes
from silversmith.lineage import silver_key
from silversmith.stores import Head
from silversmith.stores.local import LocalStore
from silversmith.tables.commit import ATTEMPTS, LARGE, NULL_PARTITION, PARTITION_LENGTH, SMALL, files_of, rebuild
from silversmith.tables.delta import DeltaFormat
from silversmith.tables.format import GoldFailed, Refused
from silversmith.tables.spec import ETAG, FILE, TableSpec
from silversmith.tables.types import SchemaRefused, fitted, repeated
from tests.unit.tables.kit import TRANSFORM, GoldBench, keys_of, lineage


class Killed(BaseException):
    """A process dies here."""


def kill_at(name: str) -> Callable[[str], None]:
    def step(passed: str) -> None:
        if passed == name:
            raise Killed

    return step


@pytest.fixture
def bench(tmp_path: Path) -> GoldBench:
    return GoldBench(tmp_path)


def test_a_table_has_the_rows_of_silver(bench: GoldBench) -> None:
    keys = [bench.put(f"o/{number}.csv", {"x": [number, None]}) for number in range(3)]
    brought = bench.bring(*keys)
    assert (brought.replaced, brought.rows, brought.commits, brought.version) == (3, 6, 1, 1)
    assert bench.rows() == [
        (f"o/{number}.csv", value) for number in range(3) for value in sorted([number, None], key=repr)
    ]


def test_unchanged_silver_is_not_read(bench: GoldBench) -> None:
    keys = [bench.put("a.csv", {"x": [1]}), bench.put("b.csv", {"x": [2]})]
    bench.bring(*keys)
    again = bench.bring(*keys, *keys)
    assert (again.unchanged, again.commits, again.version) == (2, 0, 1)


def test_an_overwrite_replaces_exactly_its_key(bench: GoldBench) -> None:
    keys = [bench.put("a.csv", {"x": [1, 2]}), bench.put("b.csv", {"x": [3]})]
    bench.bring(*keys)
    bench.put("a.csv", {"x": [4]})
    bench.bring(*keys)
    assert bench.rows() == [("a.csv", 4), ("b.csv", 3)]


def test_silver_that_is_gone_or_empty_has_no_rows(bench: GoldBench) -> None:
    keys = [bench.put("a.csv", {"x": [1]}), bench.put("b.csv", {"x": [2]}), bench.put("c.csv", {"x": [3]})]
    bench.bring(*keys)
    bench.delete("a.csv")
    bench.put("b.csv", pl.DataFrame({"x": []}, schema={"x": pl.Int64}))
    brought = bench.bring(*keys)
    assert (brought.removed, brought.unchanged) == (2, 1)
    assert bench.rows() == [("c.csv", 3)]
    assert bench.bring(*keys).commits == 0


def test_silver_without_rows_makes_no_table(bench: GoldBench) -> None:
    keys = [bench.put("a.csv", pl.DataFrame({"x": []}, schema={"x": pl.Int64})), *keys_of(["gone.csv"])]
    assert bench.bring(*keys).version is None
    assert bench.gold.read("orders") is None


def test_other_keys_are_left_out_of_account(bench: GoldBench) -> None:
    bench.put("a.csv", {"x": [1]})
    assert bench.bring("_schemas/orders.json", "others/a.csv.parquet", "orders/a.csv").commits == 0


@pytest.mark.parametrize(
    "file",
    [
        "a'b.csv",
        'a"b.csv',
        "a\\b.csv",
        "a\nb.csv",
        "ü😀.csv",
        "%41.csv",
        "a--b/*.csv",
        "../a.csv",
        "x" * 1018,
        "ü" * 509,
    ],
)
def test_any_key_is_a_file_of_the_table(file: str, bench: GoldBench) -> None:
    second = bench.put("other.csv", {"x": [0]})
    key = bench.put(file, {"x": [1]})
    bench.bring(key, second)
    bench.put(file, {"x": [2]})
    bench.bring(key)
    assert bench.rows() == sorted([(file, 2), ("other.csv", 0)], key=repr)
    bench.delete(file)
    bench.bring(key)
    assert bench.rows() == [("other.csv", 0)]


def test_a_key_that_was_cut_short_is_known_by_its_lineage(bench: GoldBench) -> None:
    file = "x" * 1020
    key = bench.put(file, {"x": [1]})
    assert key != f"{TRANSFORM}/{file}.parquet"
    assert files_of(TRANSFORM, [key], bench.silver, None) == {key: file}


FRAMES = st.one_of(
    st.builds(lambda n: pl.DataFrame({"x": list(range(n)), "name": ["a"] * n}), st.integers(0, 3)),
    st.builds(lambda n: pl.DataFrame({"name": ["b"] * n, "x": [1] * n}), st.integers(1, 3)),
    st.builds(lambda n: pl.DataFrame({"x": [None] * n}, schema={"x": pl.Int64}), st.integers(1, 3)),
    st.builds(lambda n: pl.DataFrame({"name": pl.Series(["c", "d"] * n, dtype=pl.Categorical)}), st.integers(1, 3)),
)


@given(st.lists(FRAMES, min_size=1, max_size=8), st.sets(st.integers(0, 7)), st.integers(1, 4))
def test_each_object_is_cast_as_it_would_be_alone(frames: list[pl.DataFrame], bad: set[int], workers: int) -> None:
    """Objects are cast together: one that does not fit the table fails, and takes no other with it."""
    with tempfile.TemporaryDirectory() as folder:
        bench = GoldBench(Path(folder))
        keys = [bench.put(f"{number}.csv", frame) for number, frame in enumerate(frames)]
        bad = {number for number in bad if number < len(frames)}
        for number in bad:  # its column is in no recorded schema
            body = parquet_bytes(pl.DataFrame({"unknown": [1]}), lineage(f"{number}.csv", TRANSFORM, 1).to_json())
            bench.silver.put(keys[number], body)
        brought = bench.bring(*keys, workers=workers)
        assert set(brought.failed) == {keys[number] for number in bad}
        expected = [
            (f"{number}.csv", row.get("x"), row.get("name"))
            for number, frame in enumerate(frames)
            if number not in bad
            for row in frame.rows(named=True)
        ]
        assert brought.rows == len(expected)
        if expected:
            table = bench.table(own=True)
            rows = [(row["_file"], row.get("x"), row.get("name")) for row in table.rows(named=True)]
            assert sorted(rows, key=repr) == sorted(expected, key=repr)
            again = bench.bring(*keys, workers=workers)
            assert (again.commits, set(again.failed)) == (0, set(brought.failed))


def test_new_silver_is_asked_for_once(bench: GoldBench) -> None:
    keys = [bench.put(f"{number}.csv", {"x": [number]}) for number in range(3)]
    heads: list[str] = []

    class Counted(LocalStore):
        def head(self, key: str) -> Head | None:
            heads.append(key)
            return super().head(key)

    bench.silver = Counted(
        bench.root / "silver", scratch=bench.root / "scratch", locks=bench.root / "locks", foreign_writers=False
    )
    bench.bring(*keys)
    assert heads == []
    bench.put("1.csv", {"x": [7]})
    bench.bring(*keys)
    assert sorted(heads) == keys
    assert bench.rows() == [("0.csv", 0), ("1.csv", 7), ("2.csv", 2)]


def test_text_that_a_dictionary_holds_once_is_counted_as_often_as_it_stands(bench: GoldBench) -> None:
    text = "x" * 1000
    keys = [
        bench.put("0.csv", pl.DataFrame({"x": pl.Series([text] * 500, dtype=pl.Categorical)})),
        bench.put("1.csv", {"y": [1]}),
    ]
    brought = bench.bring(*keys, memory=200_000)
    assert brought.commits == 2
    assert bench.table()["x"].to_list().count(text) == 500


def test_a_batch_larger_than_memory_is_several_commits(bench: GoldBench) -> None:
    keys = [bench.put(f"{number}.csv", {"x": list(range(1000))}) for number in range(6)]
    brought = bench.bring(*keys, memory=40_000)
    assert brought.commits > 1
    assert bench.table().height == 6000
    assert not bench.bring(*keys).commits


def test_an_object_larger_than_memory_is_streamed(bench: GoldBench) -> None:
    keys = [bench.put("large.csv", {"x": list(range(100_000))}), bench.put("small.csv", {"x": [1]})]
    brought = bench.bring(*keys, memory=1_000)
    assert (brought.replaced, brought.rows) == (2, 100_001)
    assert bench.table()["x"].sum() == sum(range(100_000)) + 1
    assert LARGE > 1_000


def test_large_objects_are_read_after_small_ones(bench: GoldBench) -> None:
    large = bench.put("a.csv", {"x": [str(hash(str(number))) for number in range(60_000)]})
    head = bench.silver.head(large)
    assert head is not None
    assert head.size > SMALL
    bench.bring(large, bench.put("b.csv", {"x": ["1"]}))
    assert bench.table().height == 60_001


def test_partitions_and_order_are_honoured(bench: GoldBench) -> None:
    table = TableSpec("orders", TRANSFORM, partition_by=("day",), sort_by=("x", "y"))
    rows = {"x": [3, 1, 2, 1], "y": ["a", "b", "c", "a"], "day": ["mo", "mo", None, "mo"]}
    bench.bring(bench.put("a.csv", rows), table=table)
    files = bench.snapshot().table.file_uris()
    assert sorted(Path(file).parent.name for file in files) == ["day=__HIVE_DEFAULT_PARTITION__", "day=mo"]
    (monday,) = [file for file in files if "day=mo" in file]
    assert pl.read_parquet(monday, hive_partitioning=False).select("x", "y").rows() == [(1, "a"), (1, "b"), (3, "a")]
    assert bench.table().height == 4


def test_a_partition_by_an_unknown_column_is_reported(bench: GoldBench) -> None:
    key = bench.put("a.csv", {"x": [1]})
    with pytest.raises(SchemaRefused, match=r"'day'.*it has: x"):
        bench.bring(key, table=TableSpec("orders", TRANSFORM, partition_by=("day",)))


@pytest.mark.parametrize("values", [[Decimal("-2.25")], [1e300], [b"x"], [[1]], [{"a": 1}]])
def test_partitions_that_could_not_be_read_back_are_refused(values: list[Any], bench: GoldBench) -> None:
    key = bench.put("a.csv", {"day": values, "x": [1]})
    with pytest.raises(SchemaRefused, match=r"'day'.*read back"):
        bench.bring(key, table=TableSpec("orders", TRANSFORM, partition_by=("day",)))
    assert bench.gold.read("orders") is None


def test_any_text_is_a_partition_but_a_long_or_reserved_one_fails_its_own_file(bench: GoldBench) -> None:
    table = TableSpec("orders", TRANSFORM, partition_by=("day",))
    texts = [
        "a/b",
        "",
        " ",
        "%41",
        "ü" * 25,
        "a=b",
        "x\ny",
        "it's",
        '"',
        "\\",
        "..",
        "\0",
        "x" * PARTITION_LENGTH,
        None,
    ]
    long = bench.put("long.csv", {"day": ["x" * (PARTITION_LENGTH + 1)]})
    null = bench.put("null.csv", {"day": [NULL_PARTITION, "x"]})
    brought = bench.bring(bench.put("a.csv", {"day": texts}), long, null, table=table)
    assert sorted(brought.failed) == [long, null]
    assert str(brought.failed[null]).endswith("'__HIVE_DEFAULT_PARTITION__' is how the folder of nulls is called"), (
        brought.failed[null]
    )
    bench.bring(bench.put("b.csv", {"day": texts}), table=table)
    assert sorted(map(repr, bench.table()["day"])) == sorted(map(repr, texts * 2))


@pytest.mark.parametrize("kind", [pl.Decimal(10, 0), pl.Int128(), pl.UInt64(), pl.Int64()])
def test_whole_numbers_are_partitions(kind: pl.DataType, bench: GoldBench) -> None:
    table = TableSpec("orders", TRANSFORM, partition_by=("day",))
    values = pl.Series("day", [2 if kind == pl.UInt64() else -2, 3, None], dtype=kind)
    for file in ("a.csv", "b.csv", "a.csv"):
        bench.bring(bench.put(file, pl.DataFrame({"day": values})), table=table)
    assert sorted(bench.table()["day"].drop_nulls().to_list()) == [values[0], values[0], 3, 3]


def test_other_partitions_than_the_table_has_are_refused(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"x": [1]}))
    key = bench.put("b.csv", {"x": [1]})
    with pytest.raises(SchemaRefused, match="partitioned") as refused:
        bench.bring(key, table=TableSpec("orders", TRANSFORM, partition_by=("x",)))
    assert "tables rebuild orders" in refused.value.hint


def test_a_view_becomes_a_table_by_a_rebuild(bench: GoldBench) -> None:
    rows = RecordBatch.from_arrays([Array(["mo"], DataType.string())], names=["day"])
    bench.gold.create("orders", {"day": "string"}).commit([rows])
    key = bench.put("a.csv", {"day": ["tu"]})
    with pytest.raises(SchemaRefused, match="was a view") as refused:
        bench.bring(key)
    assert "silversmith tables rebuild orders" in refused.value.hint
    rebuild(TableSpec("orders", TRANSFORM), silver=bench.silver, gold=bench.gold)
    assert bench.bring(key).unchanged == 1
    assert bench.table().rows() == [("tu",)]


def test_a_new_column_is_null_in_older_rows(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"x": [1]}))
    at = pl.Series([None], dtype=pl.Datetime("us"))
    bench.bring(bench.put("b.csv", pl.DataFrame({"x": [2], "day": ["mo"], "at": at})))
    assert bench.rows() == [("a.csv", 1, None, None), ("b.csv", 2, "mo", None)]


def test_a_wider_type_rewrites_the_table_in_one_commit(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"x": [1, None]}), bench.put("b.csv", {"x": [2]}))
    bench.columns["x"] = pl.Float64()
    bench.bring(bench.put("c.csv", {"x": [1.5]}))
    assert sorted(bench.table()["x"].to_list(), key=repr) == [1.0, 1.5, 2.0, None]
    types = [bench.gold.read("orders", version) for version in range(bench.snapshot().version + 1)]
    assert [snapshot.columns["x"] for snapshot in types if snapshot] == ["long", "long", "double", "double"]
    assert [sum(1 for action in bench.log("orders", 2) if "metaData" in action)] == [1]


def test_a_table_never_rounds(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"x": [2**60 + 1]}))
    bench.columns["x"] = pl.Float64()
    key = bench.put("b.csv", {"x": [1.5]})
    with pytest.raises(SchemaRefused, match="no room") as refused:
        bench.bring(key)
    assert "tables rebuild orders" in refused.value.hint
    assert bench.rows() == [("a.csv", 2**60 + 1)]


def test_a_table_is_rebuilt_in_one_commit(bench: GoldBench) -> None:
    """From silver as it is now, with other partitions and a type that no earlier row would fit."""
    bench.bring(bench.put("a.csv", {"x": [2**60 + 1], "gone": ["x"]}), bench.put("b.csv", {"x": [1], "gone": ["y"]}))
    version = bench.snapshot().version
    bench.columns = {"x": pl.Float64(), "day": pl.String()}
    bench.put("a.csv", {"x": [1.5], "day": ["mo"]})
    bench.put("b.csv", {"x": [2.5], "day": ["tu"]})
    table = TableSpec("orders", TRANSFORM, partition_by=("day",))
    assert rebuild(table, silver=bench.silver, gold=bench.gold).rows == 2
    assert bench.rows() == [("a.csv", 1.5, "mo"), ("b.csv", 2.5, "tu")]
    assert bench.snapshot().version == version + 1
    assert bench.snapshot().partition_by == ("day",)
    assert bench.bring(*keys_of(["a.csv", "b.csv"]), table=table).commits == 0


def test_a_rebuild_of_silver_that_does_not_fit_changes_nothing(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"x": [2**60 + 1]}))
    bench.columns["x"] = pl.Float64()
    bench.put("b.csv", {"x": [1.5]})
    with pytest.raises(SchemaRefused, match="not exact"):
        rebuild(TableSpec("orders", TRANSFORM), silver=bench.silver, gold=bench.gold)
    assert bench.rows() == [("a.csv", 2**60 + 1)]


def test_text_may_follow_what_nobody_has_seen_a_value_of(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", pl.DataFrame({"x": [1], "note": pl.Series([None], dtype=pl.Null)})))
    assert bench.table().schema == {"x": pl.Int64, "note": pl.String}
    bench.bring(bench.put("b.csv", {"x": [1], "note": [5]}))
    assert sorted(bench.table()["note"].to_list(), key=repr) == [5, None]


def test_names_that_differ_by_case_are_refused(bench: GoldBench) -> None:
    with pytest.raises(SchemaRefused, match="case"):
        bench.bring(bench.put("a.csv", {"id": [1], "Amount": [1], "amount": [1]}))


def test_silver_that_cannot_be_read_fails_alone(bench: GoldBench) -> None:
    good = bench.put("good.csv", {"x": [1]})
    bad = silver_key(TRANSFORM, "bad.csv")
    bench.silver.put(bad, b"PAR1 nonsense PAR1")
    brought = bench.bring(bad, good)
    assert isinstance(brought.failed[bad], SchemaRefused)
    assert bench.rows() == [("good.csv", 1)]


def test_two_committers_on_one_key(bench: GoldBench) -> None:
    """The second reads, the first commits what is then overwritten, and the second commits what silver holds now."""
    key = bench.put("a.csv", {"x": [1]})
    bench.bring(key)
    bench.put("a.csv", {"x": [2]})

    def overtaken(step: str, times: list[str]) -> None:
        times.append(step)
        if step == "tables.read" and times.count(step) == 1:
            bench.bring(key)
            bench.put("a.csv", {"x": [3]})

    steps: list[str] = []
    bench.bring(key, step=lambda step: overtaken(step, steps))
    assert bench.rows() == [("a.csv", 3)]
    assert steps.count("tables.read") == 2


def test_a_committer_that_stalls_while_others_make_the_table(bench: GoldBench) -> None:
    first, second = bench.put("a.csv", {"x": [1]}), bench.put("b.csv", {"y": [2]})
    bench.bring(first, step=once("tables.read", lambda: bench.bring(second)))
    assert bench.rows() == [("a.csv", 1, None), ("b.csv", None, 2)]


@pytest.mark.parametrize("name", ["tables.looked", "tables.read"])
def test_compaction_between_read_and_commit(name: str, bench: GoldBench) -> None:
    keys = [bench.put(f"{number}.csv", {"x": [number]}) for number in range(3)]
    for key in keys:
        bench.bring(key)
    bench.put("1.csv", {"x": [7]})
    bench.bring(*keys, step=once(name, bench.snapshot().table.optimize.compact))
    assert bench.rows() == [("0.csv", 0), ("1.csv", 7), ("2.csv", 2)]


def once(name: str, act: Callable[[], object]) -> Callable[[str], None]:
    """A step at which something else happens, the first time."""
    acts = iter([act])

    def step(passed: str) -> None:
        if passed == name and (first := next(acts, None)) is not None:
            first()

    return step


def test_silver_is_overwritten_while_it_is_read(bench: GoldBench) -> None:
    """The table has the version that was read, with its ETag; the new version's event, or reconcile, brings that."""
    key = bench.put("a.csv", {"x": [1]})
    bench.bring(key, step=once("tables.read", lambda: bench.put("a.csv", {"x": [2]})))
    assert bench.rows() == [("a.csv", 1)]
    bench.bring(key)
    assert bench.rows() == [("a.csv", 2)]


def test_a_schema_that_is_recorded_meanwhile(bench: GoldBench) -> None:
    bench.put("a.csv", {"x": [1]})
    bench.bring(*keys_of(["a.csv", "b.csv"]), step=once("tables.looked", lambda: bench.put("b.csv", {"y": [2]})))
    assert bench.rows() == [("a.csv", 1, None), ("b.csv", None, 2)]


@pytest.mark.parametrize("name", ["tables.looked", "tables.read", "tables.prepared", "tables.committed"])
def test_a_crash_at_any_step_and_the_message_again(name: str, bench: GoldBench) -> None:
    table = TableSpec("orders", TRANSFORM, sort_by=("x",))
    keys = [bench.put("a.csv", {"x": [1]}), bench.put("b.csv", {"x": [2]})]
    with pytest.raises(Killed):
        bench.bring(*keys, table=table, step=kill_at(name))
    bench.bring(*keys, table=table)
    assert bench.rows() == [("a.csv", 1), ("b.csv", 2)]
    bench.put("a.csv", {"x": [5], "y": [1]})
    with pytest.raises(Killed):
        bench.bring(*keys, table=table, step=kill_at(name))
    bench.bring(*keys, table=table)
    assert bench.rows() == [("a.csv", 5, 1), ("b.csv", 2, None)]


def test_a_commit_of_an_old_version_is_refused_whatever_it_does(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"x": [1]}))
    stale: list[Callable[[Any], object]] = [
        lambda old: old.commit([]),
        lambda old: old.commit([], where="_file in ('b.csv')"),
        lambda old: old.add_columns({"y": "string"}),
        lambda old: old.add_columns({"y": "timestamp_ntz"}),
        lambda old: old.rewrite([], old.columns, partition_by=[]),
    ]
    for number, commit in enumerate(stale):
        old = bench.snapshot()
        bench.bring(bench.put(f"new {number}.csv", {"x": [number]}))
        with pytest.raises(Refused):
            commit(old)
    assert bench.table().height == 1 + len(stale)
    with pytest.raises(Refused):
        bench.gold.create("orders", {"x": "long"})


def test_a_commit_after_another_programs_is_refused(bench: GoldBench) -> None:
    """The other commit has no application transaction, and delta-rs sees no conflict in rows that do not overlap."""
    bench.bring(bench.put("a.csv", {"x": [1]}))
    old = bench.snapshot()
    write_deltalake(bench.gold.location("orders"), bench.table(own=True), mode="append")
    rows, version = bench.rows(), bench.snapshot().version
    names = {FILE: repeated(["b.csv"], [1]), ETAG: repeated(["e"], [1])}
    batch = fitted(RecordBatch.from_pydict({"x": Array([7], DataType.int64())}), old.columns, names)
    with pytest.raises(Refused):
        old.commit([batch])
    assert (bench.rows(), bench.snapshot().version) == (rows, version)


def test_a_committer_that_is_never_first_gives_the_messages_back(bench: GoldBench) -> None:
    key = bench.put("a.csv", {"x": [1]})
    others = iter(range(1000))

    def step(name: str) -> None:
        if name == "tables.read":
            bench.bring(bench.put(f"others/{next(others)}.csv", {"x": [0]}))

    with pytest.raises(Refused):
        bench.bring(key, step=step)
    assert next(others) == ATTEMPTS


def test_a_folder_that_delta_cannot_take_is_reported(tmp_path: Path) -> None:
    with pytest.raises(GoldFailed, match="rename"):
        DeltaFormat(tmp_path / "100%20", scratch=tmp_path)


def test_a_folder_with_a_hostile_name(tmp_path: Path) -> None:
    bench = GoldBench(tmp_path / "a b ü#?'\"")
    bench.bring(bench.put("a.csv", {"x": [1]}), table=TableSpec("orders", TRANSFORM, sort_by=("x",)))
    bench.put("a.csv", {"x": [2]})
    bench.bring(*keys_of(["a.csv"]))
    snapshot = bench.snapshot()
    assert snapshot.etags(["a.csv"]).keys() == {"a.csv"}


def test_a_table_function_needs_no_polars() -> None:
    code = (
        "import sys; sys.modules['polars'] = None; sys.modules['pyarrow'] = None\n"
        "import importlib, pkgutil, silversmith.tables\n"
        "for module in pkgutil.iter_modules(silversmith.tables.__path__, 'silversmith.tables.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
