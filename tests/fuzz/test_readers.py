"""Fuzz target: a damaged file of any format becomes silver or is refused with a reason, in little memory and time.

The short form runs with the tests, the long one by ``make fuzz``. What it finds becomes a test of the format's own.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.convert import convert
from silversmith.errors import DataError
from silversmith.lineage import Lineage
from silversmith.pipeline import Transform
from silversmith.stores import Head, Source
from tests.fuzz.seeds import DAMAGES, SEEDS, Damage

#: What one file of a few kilobytes may add to the most memory that this process ever had, and may take of a processor.
MEGABYTES = 300
SECONDS = 20.0

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOBODY = Lineage("k", "e", "", 0, "", "t", "f", 0, 0, 0, NOON.isoformat(), 1)

_names = count()


def same(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


def _transform() -> Transform:
    pipeline = Pipeline("fuzz")
    pipeline.transform("*")(same)
    return pipeline.find("same")


TRANSFORM = _transform()


def most_memory() -> int:
    """In MB, of this process, ever. https://man7.org/linux/man-pages/man2/getrusage.2.html"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = tmp_path_factory.mktemp("scratch")
    yield found
    assert list(found.iterdir()) == [], "temporary files are left"


def opened(name: str, data: bytes, folder: Path, *, as_file: bool) -> tuple[Source, Path | None]:
    head = Head(name, "e", len(data), NOON)
    if not as_file:
        return Source(head, data, None), None
    path = folder / f"object-{next(_names)}"
    path.write_bytes(data)
    return Source(head, None, path), path


def read(name: str, data: bytes, folder: Path, *, as_file: bool) -> str:
    """What became of the file: how many rows, or the code of the error. Any other exception is a bug."""
    source, path = opened(name, data, folder, as_file=as_file)
    try:
        return f"{convert(source, TRANSFORM, NOBODY, folder).lineage.rows_read} rows"
    except DataError as error:
        return error.code
    finally:
        if path is not None:
            path.unlink()


@pytest.mark.parametrize("as_file", [False, True], ids=["in memory", "as a file"])
@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_is_good(name: str, as_file: bool, folder: Path) -> None:
    assert read(name, SEEDS[name], folder, as_file=as_file).endswith(" rows")


@pytest.mark.parametrize("name", SEEDS)
@given(damages=DAMAGES, as_file=st.booleans())
def test_a_damaged_file_is_read_or_refused(name: str, folder: Path, damages: list[Damage], as_file: bool) -> None:
    data = SEEDS[name]
    for damage in damages:
        data = damage(data)
    memory, began = most_memory(), time.process_time()
    read(name, data, folder, as_file=as_file)
    assert time.process_time() - began < SECONDS
    assert most_memory() - memory < MEGABYTES
