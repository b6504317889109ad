"""Fuzz target: a damaged file of any format becomes silver or is refused with a reason, in little memory and time.

The short form runs with the tests, the long one by ``make fuzz``. Its findings go into ``FOUND``, and are corrected.
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

from silversmith import Pipeline, logs
from silversmith.errors import DataError
from silversmith.function.convert import convert
from silversmith.lineage import Lineage
from silversmith.pipeline import Transform
from silversmith.stores import Head, Source
from tests.fuzz.seeds import DAMAGES, LOGS, SEEDS, Damage, flipped, inserted, repeated, written

#: What one file of a few kilobytes may add to the most memory that this process ever had, and may take of a processor.
MEGABYTES = 300
SECONDS = 20.0

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOBODY = Lineage("k", "e", "", 0, "", "t", "f", 0, 0, 0, NOON.isoformat(), 1)

_names = count()


def same(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


def _transform(name: str) -> Transform:
    """A file by its name alone, but a log as its definition reads it."""
    pipeline = Pipeline("fuzz")
    log = getattr(logs, name.removesuffix(".log")) if name.removesuffix(".log") in LOGS else None
    pipeline.transform("*", reader=log and log.reader, contract=log and log.contract)(same)
    return pipeline.find("same")


TRANSFORMS = {name: _transform(name) for name in SEEDS}


def most_memory() -> int:
    """In MB, of this process, ever. https://man7.org/linux/man-pages/man2/getrusage.2.html"""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("scratch")
    yield path
    assert list(path.iterdir()) == [], "temporary files are left"


def opened(name: str, data: bytes, folder: Path, *, as_file: bool) -> tuple[Source, Path | None]:
    head = Head(name, "e", len(data), NOON)
    if not as_file:
        return Source(head, data, None), None
    path = folder / f"object-{next(_names)}"
    path.write_bytes(data)
    return Source(head, None, path), path


def read(name: str, data: bytes, folder: Path, *, as_file: bool) -> str:
    """The number of rows of the file, or the code of its error. Any other exception is a bug."""
    source, path = opened(name, data, folder, as_file=as_file)
    try:
        lineage = convert(source, TRANSFORMS[name], NOBODY, folder).lineage
        assert lineage.rows_read == lineage.rows_written + lineage.rows_rejected, "none is left out"
        return f"{lineage.rows_read} rows"
    except DataError as error:
        return error.code
    finally:
        if path is not None:
            path.unlink()


@pytest.mark.parametrize("as_file", [False, True], ids=["in memory", "as a file"])
@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_is_good(name: str, as_file: bool, folder: Path) -> None:
    assert read(name, SEEDS[name], folder, as_file=as_file).endswith(" rows")


#: What was neither read nor refused when it was found, and how it is refused since.
FOUND: dict[str, tuple[list[Damage], str]] = {
    # A place that no file reaches: the system's own error, which is not the system's fault.
    "file.arrow": ([inserted(0.5, b"\0" * 8), flipped(0.90625, 0)], "UnreadableArrow"),
    # A struct that has lost its fields: Parquet cannot hold it.
    "stream.arrow": ([flipped(0.019401705700761235, 1)], "EmptyStruct"),
    # A member without a name.
    "several.zip": ([inserted(0.9921875, b"\0" * 16), written(0.875, b"\0" * 4)], "UnreadableZip"),
    # A panic of Polars in a thread, of which collect_batches() does not tell.
    "snappy.parquet": (
        [repeated(0.0, 1, 47), repeated(0.0, 65, 3), flipped(0.7531519649525927, 0)],
        "UnreadableParquet",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_damage_of_earlier_findings_is_refused(name: str, folder: Path) -> None:
    damages, code = FOUND[name]
    data = SEEDS[name]
    for damage in damages:
        data = damage(data)
    assert read(name, data, folder, as_file=True) == code


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
