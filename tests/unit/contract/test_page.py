"""docs/contracts.md: its contract makes of its file the silver and the rejected rows that it shows, and names all."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from silversmith import Contract, Pipeline
from silversmith.function.convert import convert
from silversmith.lineage import Lineage
from silversmith.stores import Head, Source

PAGE = (Path(__file__).parents[3] / "docs/contracts.md").read_text("utf-8")
_FENCE = re.compile(
    r"^```(python|text file=flights/2013\.csv|csv silver|text rejected)\n(.*?)^```", re.MULTILINE | re.DOTALL
)
#: The first block of each kind.
BLOCKS = dict(reversed(_FENCE.findall(PAGE)))


def test_it_does_what_it_says(tmp_path: Path) -> None:
    names: dict[str, object] = {}
    exec(compile(BLOCKS["python"], "contracts.md", "exec"), names)
    pipeline = names["pipeline"]
    assert isinstance(pipeline, Pipeline)
    key, data = "flights/2013.csv", BLOCKS["text file=flights/2013.csv"].encode()
    (transform,) = pipeline.matching(key)
    source = Source(Head(key, "etag", len(data), datetime(2026, 1, 1, tzinfo=UTC)), data, None)
    lineage = Lineage(key, "etag", "", len(data), "", transform.name, transform.fingerprint, 0, 0, 0, "", 1)
    converted = convert(source, transform, lineage, tmp_path)
    assert isinstance(converted.silver, pl.DataFrame)
    assert converted.silver.write_csv() == BLOCKS["csv silver"]
    assert isinstance(converted.rejected, bytes)
    rows = pl.read_parquet(converted.rejected).select("row", "line", "reasons", "text").rows()
    messages = "".join(f"{row}, line {line}: {'; '.join(reasons)}\n" for row, line, reasons, _ in rows)
    assert messages == BLOCKS["text rejected"]
    assert {text for *_, text in rows} < set(data.decode().splitlines())


def test_every_argument_is_on_the_page() -> None:
    arguments = set(inspect.signature(Contract).parameters)
    assert arguments == set(re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE)) & arguments
