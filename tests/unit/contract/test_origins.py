"""Rejected rows say where they stand in the file and what stands there, whatever way they went."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Contract, Csv, FixedWidth, Json, Lines, Pipeline
from silversmith.contract.rejected import with_origins
from silversmith.formats import Reader
from silversmith.formats.archives.content import Content
from silversmith.formats.csv.dialect import CsvDialect
from silversmith.formats.csv.records import Header, Records, origins_of
from silversmith.formats.table import Table
from silversmith.function.convert import convert
from silversmith.lineage import Lineage
from silversmith.stores import Head, Source

NUMBER = Contract(schema={"n": pl.Int64}, required=["n"])


def rejected(
    folder: Path,
    key: str,
    data: bytes,
    reader: Reader | None = None,
    contract: Contract = NUMBER,
    *,
    large: bool = False,
) -> pl.DataFrame:
    """The rejected rows of a file in quarantine; ``large``: it streams."""
    pipeline = Pipeline("shop")
    pipeline.transform("*", name="rows", contract=contract, reader=reader)(lambda rows: rows)
    transform = pipeline.find("rows")
    lineage = Lineage(key, "etag", "", len(data), "", "rows", transform.fingerprint, 0, 0, 0, "", 1)
    head = Head(key, "etag", len(data), datetime.now(UTC))
    path = folder / "body"
    path.write_bytes(data)
    source = Source(head, None, path) if large else Source(head, data, None)
    converted = convert(source, transform, lineage, folder)
    assert converted.rejected is not None
    frame = pl.read_parquet(converted.rejected).sort("row")
    assert frame.height == converted.lineage.rows_rejected
    return frame


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("key", "data", "reader", "expected"),
    [
        (
            "a.csv",
            b'n,word\n\n1,a\nx,"two\nlines"\n2,b,c\n3,"d"\n,e\n',
            None,
            [(2, 4, 'x,"two\nlines"'), (3, 6, "2,b,c"), (5, 8, ",e")],
        ),
        ("a.csv", "sep=;\r\nn;word\r\n1;ä\r\nx;ö\r\n".encode("utf-16"), Csv(encoding="utf-16"), [(2, 4, "x;ö")]),
        ("a.csv", b"title\nn\n#no\n1\nx\n", Csv(skip_lines=1, comment="#"), [(2, 5, "x")]),
        ("a.csv", b"x\n1\n", Csv(header=False, columns=["n"]), [(1, 1, "x")]),
        (
            "a.ndjson",
            b'{"n": 1}\n\n{"n": "x"}\r\n{"n":1,"n":2}\n',
            None,
            [(2, 3, '{"n": "x"}'), (3, 4, '{"n":1,"n":2}')],
        ),
        ("a.txt", b"head\n 1\n\n x\n", FixedWidth(columns={"n": (1, 2)}, skip_lines=1), [(2, 4, " x")]),
    ],
)
def test_line_and_text(
    tmp_path: Path, key: str, data: bytes, reader: Reader | None, expected: list[tuple[int, int, str]], large: bool
) -> None:
    result = rejected(tmp_path, key, data, reader, large=large)
    assert result.select("row", "line", "text").rows() == expected
    assert result.columns[:2] == ["row", "line"]
    assert result.columns[-2:] == ["reasons", "text"]
    assert all(result["reasons"].list.len())


def test_every_line_of_lines_is_one(tmp_path: Path) -> None:
    result = rejected(
        tmp_path, "a.log", b"a\n\nb1\n", Lines(), Contract(patterns={"line": "[a-z]*"}, schema={"line": pl.String})
    )
    assert result.select("row", "line", "text").rows() == [(3, 3, "b1")]


def test_values_that_are_no_text_have_neither(tmp_path: Path) -> None:
    assert rejected(tmp_path, "a.json", b'[{"n":1},{"n":"x"}]', Json()).columns == ["row", "n", "reasons"]
    out = io.BytesIO()
    pl.DataFrame({"n": [1, None]}).write_parquet(out)
    assert rejected(tmp_path, "a.parquet", out.getvalue()).columns == ["row", "n", "reasons"]


@pytest.mark.parametrize("large", [False, True])
def test_columns_of_the_same_names_are_left_free(tmp_path: Path, large: bool) -> None:
    result = rejected(tmp_path, "a.csv", b"line,text,row,n\n7,t,9,x\n1,u,2,3,4\n5,v,6,7\n", large=large)
    assert result.columns == ["row", "line", "line_", "text_", "row_", "n", "reasons", "text"]
    assert result.select("line", "line_", "text_", "text").rows() == [
        (2, 7, "t", "7,t,9,x"),
        (3, None, None, "1,u,2,3,4"),
    ]


def test_only_the_first_of_very_many_are_named() -> None:
    rows = pl.LazyFrame({"row": [4, 2, 3], "reasons": [["no"]] * 3}, schema_overrides={"row": pl.UInt64})
    table = Table(rows, "csv", origins=lambda numbers: {number: (number + 1, "text") for number in numbers})
    frame = with_origins(rows, table, most=2).collect()
    assert frame.rows() == [(4, None, ["no"], None), (2, 3, ["no"], "text"), (3, 4, ["no"], "text")]


PIECES = st.sampled_from(["a", "1", '"', '""', ",", '"x\ny"', "\n", "\r\n", "\r", "#", " "])


@given(
    body=st.lists(PIECES, max_size=30).map("".join), width=st.integers(1, 3), size=st.integers(1, 40), data=st.data()
)
def test_the_same_is_found_with_and_without_passing_by(body: str, width: int, size: int, data: st.DataObject) -> None:
    dialect = CsvDialect(",", '"')
    text = body.encode()
    try:
        records = {
            number: (record.line, record.text) for number, record in enumerate(Records(io.BytesIO(text), dialect), 1)
        }
    except Exception:  # noqa: BLE001 -- a quote that is never closed: no table comes of it
        return
    numbers = data.draw(st.sets(st.sampled_from(sorted(records)))) if records else set()
    header = Header(dialect, [f"c{place}" for place in range(width)], body=0, line=1, renamed={})
    result = origins_of(Content("a.csv", text, None), header, numbers, size=size)
    assert result == {number: records[number] for number in numbers}
