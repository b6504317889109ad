"""The pages of docs/formats: the pipeline of each page makes of its file the silver that the page shows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from silversmith.function.convert import convert
from silversmith.lineage import Lineage
from silversmith.pipeline import Pipeline
from silversmith.stores import Head, Source

PAGES = sorted((Path(__file__).parents[2] / "docs/formats").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)(?: (file|make)=(\S+)| (silver))?\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


@contextmanager
def within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def test_there_is_a_page_for_each() -> None:
    names = {page.stem for page in PAGES}
    assert names >= {
        *(
            "archives",
            "arrow",
            "avro",
            "csv",
            "encodings",
            "excel",
            "fields",
            "fixed-width",
            "json",
            "lines",
            "ndjson",
            "parquet",
            "regex",
            "xml",
        )
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    blocks = BLOCK.findall(page.read_text())
    (code,) = [body for language, how, _, _, body in blocks if language == "python" and not how]
    ((how, key, body),) = [(how, key, body) for _, how, key, _, body in blocks if how]
    (silver,) = [body for _, _, _, marked, body in blocks if marked]
    path = tmp_path / key
    path.parent.mkdir()
    with within(tmp_path):
        if how == "file":
            path.write_text(body)
        else:
            exec(compile(body, str(page), "exec"), {})
    names: dict[str, object] = {}
    exec(compile(code, str(page), "exec"), names)
    pipeline = names["pipeline"]
    assert isinstance(pipeline, Pipeline)
    (transform,) = pipeline.matching(key)
    data = path.read_bytes()
    source = Source(Head(key, "etag", len(data), datetime.now(UTC)), data, None)
    lineage = Lineage(key, "etag", "", len(data), "", transform.name, transform.fingerprint, 0, 0, 0, "", 1)
    converted = convert(source, transform, lineage, tmp_path)
    assert isinstance(converted.silver, pl.DataFrame)
    assert converted.lineage.rows_rejected == 0
    assert converted.silver.write_csv() == silver
    assert converted.lineage.format.partition("+")[0] in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link
