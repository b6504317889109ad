"""Writers that others write: silver stays one Parquet object with its rows and its lineage, or is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith import CustomWriter, DefinitionError, Pipeline
from silversmith.stores import IN_MEMORY
from silversmith.testing import run
from silversmith.testing.result import Result

Write = Callable[[pl.LazyFrame, Path, Mapping[str, str]], object]


@dataclass(frozen=True)
class Sorted:
    """The newest first, and a word for other programs in the metadata."""

    by: str = "a"
    name: str = "sorted"

    def write(self, rows: pl.LazyFrame, path: Path, metadata: Mapping[str, str]) -> None:
        rows.sort(self.by, descending=True).sink_parquet(path, metadata={**metadata, "sorted-by": self.by})


@dataclass(frozen=True)
class Does:
    what: Write
    name: str = "does"

    def write(self, rows: pl.LazyFrame, path: Path, metadata: Mapping[str, str]) -> None:
        self.what(rows, path, metadata)


def result(writer: Any, content: str = "a\n1\n3\n2\n") -> Result:
    pipeline = Pipeline("p")
    pipeline.transform("*.csv", name="t", writer=writer)(lambda rows: rows)
    return run(pipeline, {"a.csv": content})


def test_it_decides_how_silver_is_written() -> None:
    actual = result(Sorted())
    assert actual.silver["t", "a.csv"]["a"].to_list() == [3, 2, 1]
    assert actual.lineage["t", "a.csv"].rows_written == 3


def test_a_large_file() -> None:
    rows = IN_MEMORY // 6
    content = "a\n" + "\n".join(str(number) for number in range(100_000, 100_000 + rows))
    assert len(content) > IN_MEMORY
    actual = result(Sorted(), content)
    assert actual.silver["t", "a.csv"]["a"][0] == 99_999 + rows
    assert actual.lineage["t", "a.csv"].rows_written == rows


def refuses(rows: pl.LazyFrame, path: Path, metadata: Mapping[str, str]) -> None:
    raise ZeroDivisionError("no")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda rows, path, metadata: None, "wrote no file"),
        (lambda rows, path, metadata: path.write_text("PAR1"), "is no Parquet"),
        (lambda rows, path, metadata: rows.sink_parquet(path), "left the lineage away"),
        (lambda rows, path, metadata: rows.head(1).sink_parquet(path, metadata=dict(metadata)), "wrote 1 row of 3"),
        (lambda rows, path, metadata: rows.select(b="a").sink_parquet(path, metadata=dict(metadata)), "the columns b"),
        (refuses, "the writer 'does' failed"),
    ],
)
def test_an_error_says_how_a_writer_misbehaves(what: Write, says: str) -> None:
    actual = result(Does(what))
    assert not actual.silver
    assert says in actual.failures["t", "a.csv"]["message"]


@pytest.mark.parametrize(
    ("writer", "says"),
    [
        (Sorted, "give an object: Sorted()"),
        (7, "int has no method write"),
        (Sorted(name="No Name"), "lower-case letters"),
        ("sorted", "no installed package offers a writer 'sorted'"),
    ],
)
def test_an_invalid_writer_is_refused_at_its_declaration(writer: Any, says: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        result(writer)
    assert says in str(raised.value)


def test_its_options_are_in_the_fingerprint() -> None:
    prints = []
    for writer in (None, Sorted(), Sorted("b"), Sorted()):
        pipeline = Pipeline("p")
        pipeline.transform("*", name="t", writer=writer)(lambda rows: rows)
        prints.append(pipeline.find("t").fingerprint)
    assert len(set(prints)) == 3
    assert prints[1] == prints[3]


def test_the_protocol_is_what_is_documented() -> None:
    assert isinstance(Sorted(), CustomWriter)
