"""Totals and footers are dropped before the check, in every way that a file is read, and counted."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import silversmith
from silversmith import Contract, Csv, Pipeline
from silversmith.errors import DataError, DefinitionError, TransformError
from silversmith.function.convert import Converted, convert
from silversmith.lineage import Lineage
from silversmith.stores import Head, Source

SALES = Contract(
    schema={"day": pl.Date, "article": pl.String, "pieces": pl.Int64},
    drop={"totals": pl.col("day").str.starts_with("Total"), "footer": r"\([0-9]+ rows\)"},
    formats={"day": "%d.%m.%Y"},
    rename={"date": "day"},
)
HEADER = "date,article,pieces\n"
FOOTER = "(3 rows)\nno footer\n"


def converted(folder: Path, data: bytes, transform: Any = None, *, on_disk: bool, **options: Any) -> Converted:
    """The conversion of one CSV file, from memory or as a file that is read by blocks."""
    pipeline = Pipeline("p")
    pipeline.transform("*", name="sales", **{"contract": SALES, **options})(transform or (lambda rows: rows))
    (declared,) = pipeline.transforms
    head = Head("a.csv", "etag", len(data), datetime(2026, 1, 1, tzinfo=UTC))
    path = folder / "a.csv"
    path.write_bytes(data)
    source = Source(head, None, path) if on_disk else Source(head, data, None)
    lineage = Lineage("a.csv", "etag", "", len(data), "", "sales", declared.fingerprint, 0, 0, 0, "", 1)
    return convert(source, declared, lineage, folder)


def frame(silver: pl.DataFrame | bytes | Path | None) -> pl.DataFrame:
    assert silver is not None
    return silver if isinstance(silver, pl.DataFrame) else pl.read_parquet(silver)


def sales(rows: int) -> bytes:
    lines = [f"{1 + number % 28:02}.01.2026,a{number},{number}\n" for number in range(rows)]
    lines.insert(rows // 2, "Total,,99\n")
    return (HEADER + "".join(lines) + "Total all,,99.5\n31.02.2026,b,1\n" + FOOTER).encode()


BOTH = pytest.mark.parametrize("on_disk", [False, True])


@BOTH
@pytest.mark.parametrize("rows", [3, 3000, pytest.param(400_000, marks=pytest.mark.full)])
@pytest.mark.parametrize("reader", [None, Csv(ragged=True)])
def test_totals_and_footers_are_dropped_and_counted(
    tmp_path: Path, rows: int, on_disk: bool, reader: Csv | None
) -> None:
    result = converted(tmp_path, sales(rows), on_disk=on_disk, reader=reader)
    lineage = result.lineage
    if reader is not None:  # records that end early are rows here, and these two are no days
        assert (lineage.rows_read, lineage.rows_written, lineage.rows_dropped) == (rows + 5, rows, 2)
        return
    assert (lineage.rows_read, lineage.rows_written, lineage.rows_dropped) == (rows + 5, rows, 3)
    assert lineage.rows_rejected == 2
    assert frame(result.silver)["article"].to_list() == [f"a{number}" for number in range(rows)]
    rejected = frame(result.rejected).sort("row")
    assert rejected["row"].to_list() == [rows + 3, rows + 5]
    assert rejected["line"].to_list() == [rows + 4, rows + 6]
    assert rejected["reasons"].to_list()[0] == ['day: "31.02.2026" is not Date written %d.%m.%Y']
    assert rejected["text"].to_list() == ["31.02.2026,b,1", "no footer"]


def test_lineage_says_what_was_dropped_only_where_something_was(tmp_path: Path) -> None:
    dropped = converted(tmp_path, sales(3), on_disk=False).lineage
    assert dropped.to_metadata()["rows-dropped"] == "3"
    assert Lineage.from_metadata(dropped.to_metadata()) == dropped
    plain = converted(tmp_path, b"date,article,pieces\n01.01.2026,a,1\n", on_disk=False).lineage
    assert "rows-dropped" not in plain.to_metadata()


@BOTH
def test_dropped_rows_are_no_part_of_what_is_judged(tmp_path: Path, on_disk: bool) -> None:
    strict = Contract({"day": pl.Date}, drop={"totals": pl.col("day") == "Total"}, max_rejected=0.4)
    data = b"day\n2026-01-01\n2026-01-02\nx\n" + b"Total\n" * 10
    assert converted(tmp_path, data, on_disk=on_disk, contract=strict).lineage.rows_rejected == 1
    with pytest.raises(DataError, match="2 of 3 rows were rejected"):
        converted(tmp_path, data.replace(b"2026-01-02", b"y"), on_disk=on_disk, contract=strict)


@BOTH
def test_typed_rows_keep_their_types_and_a_file_without_the_column_drops_nothing(tmp_path: Path, on_disk: bool) -> None:
    contract = Contract({"a": pl.Int64}, drop={"no data": pl.col("kind") == "T"}, on_missing_column="fill")
    assert converted(tmp_path, b"a,kind\n1,D\n2,T\n", on_disk=on_disk, contract=contract).lineage.rows_dropped == 1
    assert converted(tmp_path, b"a,b\n1,D\n2,T\n", on_disk=on_disk, contract=contract).lineage.rows_dropped == 0


@BOTH
def test_an_expression_that_does_not_go_with_the_columns_as_they_were_read(tmp_path: Path, on_disk: bool) -> None:
    contract = Contract({"a": pl.Int64}, drop={"negative": pl.col("a") < 0})
    with pytest.raises(DataError, match='drop: "negative" cannot be computed') as caught:
        converted(tmp_path, b"a\n1\n2\n", on_disk=on_disk, contract=contract)
    assert caught.value.code == "BrokenRule"


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        ([pl.col("a") > 1], "drop must map names"),
        ({"x": 5}, "drop: 'x' is 5, and no Polars expression"),
        ({"x": "("}, "drop: 'x' has '\\(', which is no regular expression"),
        ({"x": pl.col("A") == "1"}, "'A', which the schema has not; is 'a' meant"),
    ],
)
def test_invalid_columns_to_drop_are_refused_at_their_declaration(drop: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Contract({"a": pl.String}, drop=drop)


def test_the_fingerprint_has_it_only_where_it_is_used() -> None:
    plain = Contract({"a": pl.String})
    assert Contract({"a": pl.String}, drop={}).fingerprint() == plain.fingerprint()
    drops: list[dict[str, Any]] = [{"t": pl.col("a") == "T"}, {"t": pl.col("a") == "S"}, {"t": "T"}]
    assert len({plain.fingerprint(), *(Contract({"a": pl.String}, drop=drop).fingerprint() for drop in drops)}) == 4


# What a transform rejects itself.


def unknown_articles(rows: pl.LazyFrame) -> pl.LazyFrame:
    known = pl.LazyFrame({"article": [f"a{number}" for number in range(0, 1_000_000, 2)]}).with_columns(known=True)
    return (
        rows.join(known, on="article", how="left", maintain_order="left")
        .pipe(silversmith.reject(pl.col("known").is_null(), pl.format("nobody knows {}", "article")))
        .pipe(silversmith.reject(pl.col("pieces") == 2, "two are too many"))
        .select("article", "pieces")
    )


@BOTH
@pytest.mark.parametrize("rows", [6, 3000, pytest.param(400_000, marks=pytest.mark.full)])
def test_rows_that_a_transform_rejects_are_rejected_rows(tmp_path: Path, rows: int, on_disk: bool) -> None:
    result = converted(tmp_path, sales(rows), unknown_articles, on_disk=on_disk)
    half = rows // 2
    lineage = result.lineage
    assert (lineage.rows_written, lineage.rows_rejected, lineage.rows_dropped) == (half - 1, half + 3, 3)
    assert frame(result.silver).columns == ["article", "pieces"]
    rejected = frame(result.rejected).sort("row")
    assert rejected.height == half + 3
    first = rejected.head(2).select("row", "line", "day", "article", "reasons", "text").rows()
    assert first == [
        (2, 3, "02.01.2026", "a1", ["nobody knows a1"], "02.01.2026,a1,1"),
        (3, 4, "03.01.2026", "a2", ["two are too many"], "03.01.2026,a2,2"),
    ]


@BOTH
def test_a_row_is_rejected_once_with_all_reasons(tmp_path: Path, on_disk: bool) -> None:
    def doubled(rows: pl.LazyFrame) -> pl.LazyFrame:
        return (
            rows.with_columns(part=pl.lit([1, 2, 3], dtype=pl.List(pl.Int64)))
            .explode("part")
            .pipe(silversmith.reject((pl.col("pieces") == 1) & (pl.col("part") > 1), pl.format("part {}", "part")))
        )

    data = (HEADER + "01.01.2026,a,1\n02.01.2026,b,2\n03.01.2026,c,\n").encode()
    result = converted(tmp_path, data, doubled, on_disk=on_disk)
    assert result.lineage.rows_written == 7
    assert frame(result.rejected)["reasons"].to_list() == [["part 2", "part 3"]]


@BOTH
def test_rejecting_every_row_is_no_success(tmp_path: Path, on_disk: bool) -> None:
    def none(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.pipe(silversmith.reject(pl.col("pieces") > 0, "no"))

    with pytest.raises(DataError, match=r"all 2 rows were rejected: no \(2 rows\)") as caught:
        converted(tmp_path, (HEADER + "01.01.2026,a,1\n02.01.2026,b,2\n").encode(), none, on_disk=on_disk)
    assert caught.value.code == "AllRowsRejected"


@BOTH
def test_after_a_select_nobody_knows_the_row(tmp_path: Path, on_disk: bool) -> None:
    def late(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.select("pieces").pipe(silversmith.reject(pl.col("pieces") > 0, "no"))

    with pytest.raises(TransformError, match="reject before these steps"):
        converted(tmp_path, (HEADER + "01.01.2026,a,1\n").encode(), late, on_disk=on_disk)


def test_outside_of_a_run_it_filters_and_arguments_are_checked() -> None:
    rows = pl.LazyFrame({"a": [1, 2, None]}).pipe(silversmith.reject(pl.col("a") > 1, "large"))
    assert rows.collect()["a"].to_list() == [1, None]
    with pytest.raises(DefinitionError, match=r"rows\.pipe"):
        silversmith.reject("a > 1", "large")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="give the reason"):
        silversmith.reject(pl.col("a") > 1, " ")


@BOTH
def test_without_a_contract_and_from_typed_files(tmp_path: Path, on_disk: bool) -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"a": [1, 2, 3]}).write_parquet(buffer)

    def odd(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.pipe(silversmith.reject(pl.col("a") == 2, "even"))

    result = converted(tmp_path, buffer.getvalue(), odd, on_disk=on_disk, contract=None)
    assert frame(result.silver)["a"].to_list() == [1, 3]
    assert frame(result.rejected).select("row", "a", "reasons").rows() == [(2, 2, ["even"])]
