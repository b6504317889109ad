"""Public collections of good, bad and ugly files, where somebody has them: each file gets an answer, and never harm.

Set ``SILVERSMITH_CORPORA`` to a folder with any of these in it, as their repositories have them, and run with ``-s`` to
see the report:

- ``JSONTestSuite`` (github.com/nst/JSONTestSuite): ``y_`` is read, ``n_`` is refused with its place, ``i_`` either;
- ``csv-spectrum`` (github.com/max-mapper/csv-spectrum): every CSV is read as its JSON says;
- ``parquet-testing`` and ``arrow-testing`` (github.com/apache): whatever is in them;
- anything else, such as polluted CSV files: whatever is in them.

Crashes, hangs and tracebacks fail the test. Silent damage does, where a collection says what is right.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith.operations.check import CheckedFile, check, plan

FOLDER = os.environ.get("SILVERSMITH_CORPORA", "")

pytestmark = pytest.mark.skipif(not FOLDER, reason="SILVERSMITH_CORPORA names no folder with public collections")

#: What no file may do to who reads it.
NEVER = {"Crashed", "TimedOut", "OutOfMemory"}

_ENDINGS = (
    ".csv", ".tsv", ".json", ".ndjson", ".jsonl", ".parquet", ".arrow", ".arrow_file", ".stream", ".feather", ".avro",
    ".xlsx", ".xls", ".ods", ".xml", ".gz", ".zip", ".zst", ".bz2", ".xz",
)  # fmt: skip


def collections() -> list[Path]:
    return sorted(path for path in Path(FOLDER).iterdir() if path.is_dir()) if FOLDER else []


def data_files(folder: Path) -> Iterator[Path]:
    """Every file that may be data: with an ending of ours, or without any, as fuzzers leave them."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and (path.suffix.lower() in _ENDINGS or not path.suffix):
            yield path


def checked(paths: list[Path]) -> list[CheckedFile]:
    return list(check(plan(paths, None), None, None)) if paths else []


def report(name: str, files: list[CheckedFile]) -> None:
    outcomes: Counter[str] = Counter()
    for file in files:
        if file.error is not None:
            outcomes[f"{file.outcome}: {file.error['code']}"] += 1
        else:
            outcomes["silver, rows rejected" if file.rejected else "silver"] += 1
        detail = (
            f"{file.error['code']}: {file.error['message']}"
            if file.error
            else f"{file.rows} rows, {file.rejected} rejected"
        )
        print(f"{name}: {Path(file.file).name}: {file.outcome}: {detail}"[:240])
    for outcome, number in outcomes.most_common():
        print(f"{name}: {number:6,} {outcome}")


@pytest.mark.parametrize("folder", collections(), ids=lambda folder: folder.name)
def test_every_file_gets_an_answer(folder: Path) -> None:
    files = checked(list(data_files(folder)))
    report(folder.name, files)
    for file in files:
        assert file.outcome in {"silver", "quarantine"}, file
        if file.error is not None:
            assert file.error["code"] not in NEVER, file
            assert file.error["message"], file
            assert file.error["hint"], file
            assert "Traceback" not in file.error["message"], file
        else:
            assert file.format, file


def parsing() -> Path:
    folder = Path(FOLDER, "JSONTestSuite", "test_parsing")
    if not folder.is_dir():
        pytest.skip("JSONTestSuite is not there")
    return folder


def test_json_is_read_or_refused_as_its_standard_says() -> None:
    files = checked(sorted(parsing().glob("*.json")))
    wrong = []
    for file in files:
        kind = Path(file.file).name[:2]
        is_read = file.outcome == "silver"
        if (kind == "y_" and not is_read) or (kind == "n_" and is_read):
            wrong.append((Path(file.file).name, file.outcome, file.error))
        if kind == "n_" and file.error is not None and file.error["code"] == "UnreadableJson":
            assert file.error["place"].get("line"), file
    assert not wrong


def test_csv_spectrum_is_read_as_it_says(tmp_path: Path) -> None:
    from silversmith.function.convert import convert
    from silversmith.function.task import empty_lineage
    from silversmith.operations.check import Job, open_source, plain_transform

    folder = Path(FOLDER, "csv-spectrum")
    if not folder.is_dir():
        pytest.skip("csv-spectrum is not there")
    for path in sorted((folder / "csvs").glob("*.csv")):
        expected = json.loads((folder / "json" / f"{path.stem}.json").read_text())
        job = Job(str(path), path.name)
        converted = convert(open_source(job), plain_transform(), empty_lineage(job.key, plain_transform()), tmp_path)
        assert isinstance(converted.silver, pl.DataFrame)
        rows = converted.silver.to_dicts()
        assert [_texts(row) for row in rows] == [_texts(row) for row in expected], path.name


def _texts(row: dict[str, Any]) -> dict[str, str]:
    """Cells as text: the collection knows no types, and writes nothing as an empty text."""
    return {name: "" if cell is None else str(cell) for name, cell in row.items()}
