"""docs/readers.md and docs/lookups.md: what stands there runs, and leads somewhere."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith import CustomReader, CustomWriter, Pipeline
from silversmith.pipeline import load
from silversmith.testing import context, run

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def module(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of its own, because a fingerprint is taken from source."""
    name = f"page_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module(name)


def test_the_reader(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(blocks("readers.md")[0])
    pipeline = load(str(tmp_path / "pipeline.py"))
    result = run(pipeline, {"samples/a.raw": b"\1\2\0\7", "samples/b.raw": b"\1", "samples/c.raw": b""})
    assert result.silver["samples", "samples/a.raw"]["sample"].to_list() == [258, 7]
    assert result.silver["samples", "samples/c.raw"].height == 0
    result.assert_error("samples", "samples/b.raw", "HalfSample")
    assert isinstance(pipeline.find("samples").reader, CustomReader)


def test_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = module(blocks("readers.md")[1], tmp_path, monkeypatch).Sorted("at")
    assert isinstance(writer, CustomWriter)
    pipeline = Pipeline("p")
    pipeline.transform("*", name="t", writer=writer)(lambda rows: rows)
    assert run(pipeline, {"a.csv": "at\n2\n1\n"}).silver["t", "a.csv"]["at"].to_list() == [1, 2]


def test_the_lookup(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(blocks("lookups.md")[0])
    pipeline = load(str(tmp_path / "pipeline.py"))
    names: dict[str, Any] = {}
    exec(compile(blocks("lookups.md")[1], "lookups.md", "exec"), names)
    names["test_orders"](lambda files: run(pipeline, files))
    function = pipeline.find("orders").function
    countries = pl.DataFrame({"code": ["de"], "country": ["Germany"]})
    rows = function(pl.LazyFrame({"code": ["de"]}), context({"lookup/countries.csv": countries}, key="x"))
    assert rows.collect().rows() == [("de", "Germany", "x")]


@pytest.mark.parametrize("page", ["readers.md", "lookups.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", (DOCS / page).read_text("utf-8")):
        assert link.startswith("https://") or (DOCS / link).exists(), link
