"""A contract from a sample: the file can be imported, every row of the sample fulfils it, and it says what it saw."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from silversmith import Contract, formats
from silversmith.operations.check import plan
from silversmith.operations.infer import Inferred, Unreadable, infer, python
from silversmith.pipeline import load
from silversmith.stores import Head, Source
from tests.examples import examples


def looked_at(*paths: Path) -> Inferred:
    return infer(plan(paths, None), None)


def source_of(name: str, data: bytes) -> Source:
    return Source(Head(name, "etag", len(data), datetime.now(UTC)), data, None)


def imported(source: str, name: str = "contract") -> Contract:
    names: dict[str, Any] = {}
    exec(compile(source, "contract.py", "exec"), names)
    actual = names[name]
    assert isinstance(actual, Contract)
    return actual


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


ORDERS = "id;carrier;when;fee\n" + "".join(
    f"{number};{'UA' if number % 2 else 'AA'};2013-01-{number:02};{number}.5\n" for number in range(1, 13)
)


def test_it_says_what_it_saw_and_suggests_the_rest(tmp_path: Path) -> None:
    source = python(looked_at(put(tmp_path, "a.csv", ORDERS + "13;;2013-01-13;\n")), "order")
    assert source.partition("import polars")[2] == (
        """ as pl

from silversmith import Contract, Csv, Pipeline

pipeline = Pipeline("a")

order = Contract(
    schema={
        "id": pl.Int64,  # 1 to 13
        "carrier": pl.String,  # 2 different; 1 null
        "when": pl.Date,  # 2013-01-01 to 2013-01-13
        "fee": pl.Float64,  # 1.5 to 12.5; 1 null
    },
    required=["id", "when"],
    # unique=["id"],  # or "when"
    # allowed={"carrier": ["AA", "UA"]},
    # ranges={"id": (1, 13)},
    # rules={"id is positive": pl.col("id") > 0},
    # on_extra_column="reject",  # a column that is not named above refuses the file; else it is kept
    # max_rejected=0.05,  # above this share the whole file is refused
)


@pipeline.transform("*.csv", contract=order, reader=Csv(separator=";"))
def a(rows: pl.LazyFrame) -> pl.LazyFrame:
    \"\"\"The good rows of one file. Give the pattern the folder where such files land.\"\"\"
    return rows
"""
    )
    assert f"{tmp_path / 'a.csv'}: 13 rows; csv (separator ';'" in source
    contract = imported(source, "order")
    assert dict(contract.schema) == {"id": pl.Int64(), "carrier": pl.String(), "when": pl.Date(), "fee": pl.Float64()}
    assert contract.required == ("id", "when")


def test_it_says_where_the_rows_of_a_document_are(tmp_path: Path) -> None:
    source = python(looked_at(put(tmp_path, "a.json", '{"next": 2, "items": [{"n": 1}, {"n": 2}]}')), "page")
    assert 'reader=Json(pointer="/items")' in source
    imported(source, "page")


def test_suggestions_can_be_taken_out_of_their_comment(tmp_path: Path) -> None:
    source = python(looked_at(put(tmp_path, "a.csv", ORDERS)), "contract")
    head, body = source.split("contract = ")
    contract = imported(head + "contract = " + body.replace("    # ", "    "))
    table = formats.read(source_of("a.csv", ORDERS.encode()), declared=contract.declared)
    assert table.frame is not None
    assert contract.split(table.frame, table)[1] is None
    assert (contract.unique, contract.on_extra_column, contract.max_rejected) == (("id",), "reject", 0.05)
    assert len(contract.demands) == 3


def test_several_files_have_what_holds_for_all(tmp_path: Path) -> None:
    put(tmp_path, "data/a.csv", "n,day,word,gone\n1,2013-01-01,7,x\n")
    put(tmp_path, "data/b.csv", "n,day,word,new\n1.5,2013-01-01T05:06:00,x,\n")
    inferred = looked_at(tmp_path / "data")
    assert {column.name: (column.kind, column.nulls) for column in inferred.columns} == {
        "n": (pl.Float64(), 0),
        "day": (pl.Datetime("us"), 0),
        "word": (pl.String(), 0),
        "gone": (pl.String(), 0),
        "new": (pl.String(), 1),
    }
    contract = imported(python(inferred, "contract"))
    assert contract.required == ("n", "day", "word")
    assert contract.on_missing_column == "fill"


def test_files_that_do_not_fit_one_contract(tmp_path: Path) -> None:
    put(tmp_path, "data/a.json", '[{"a":[1]}]')
    put(tmp_path, "data/b.json", '[{"a":1}]')
    with pytest.raises(Unreadable, match=r'the column "a" is Int64 in .*b\.json, and List\(Int64\) before'):
        looked_at(tmp_path / "data")
    with pytest.raises(Unreadable, match=r"c\.json: UnreadableJson: .*line 1"):
        looked_at(put(tmp_path, "c.json", "{"))


def test_files_are_read_as_their_transform_reads_them(tmp_path: Path) -> None:
    put(
        tmp_path,
        "pipeline.py",
        "from silversmith import Csv, Pipeline\n"
        "pipeline = Pipeline('p')\n"
        "pipeline.transform('*.txt', name='t', reader=Csv(separator=':'))(lambda rows: rows)\n",
    )
    pipeline = load(str(tmp_path / "pipeline.py"))
    inferred = infer(plan([put(tmp_path, "a.txt", "a:b\n1:2\n")], pipeline), pipeline)
    assert [column.name for column in inferred.columns] == ["a", "b"]


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name != "__row__")
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=8), st.sampled_from(["2013-01-31", "007", "true", " ", "a\n#"]),
    st.lists(st.integers(0, 9), max_size=2),
    st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 9), max_size=2),
)  # fmt: skip


@given(records=st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=15))
@settings(max_examples=examples(100), deadline=None)
@example(records=[{'"""\n': 1, "'": "\u202e", "\\": "\x1b[2J"}])
@example(records=[{"a": "x"}] * 12 + [{"a": "y\n)"}] * 12)
def test_every_row_of_the_sample_fulfils_it(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("sample") / "a.ndjson"
    data = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    path.write_bytes(data)
    source = python(looked_at(path), "contract")
    assert all(line.isprintable() for line in source.split("\n"))
    contract = imported(source)
    table = formats.read(source_of("a.ndjson", data), declared=contract.declared)
    assert table.frame is not None
    good, rejected = contract.split(table.frame, table)
    assert rejected is None
    assert good.height == len(records)
