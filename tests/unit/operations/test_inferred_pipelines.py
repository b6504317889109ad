"""The output of ``infer`` runs at once: files of each kind, its output as pipeline.py, and clean silver."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from silversmith.operations.check import plan
from silversmith.operations.infer import infer, python
from silversmith.pipeline import load
from silversmith.testing import run

TILL = "Filiale Süd\nerstellt 01.02.2026\n\nDatum;Artikel;Menge;Preis\n" + "".join(
    f"{day:02}.01.2026;Käse {day};{day};1.{day:03},5\n" for day in range(1, 29)
)


def workbook() -> bytes:
    xlsxwriter = pytest.importorskip("xlsxwriter")
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer)
    sheet = book.add_worksheet()
    for row, cells in enumerate([("day", "n"), ("31.01.2026", 1), ("01.02.2026", 2)]):
        sheet.write_row(row, 0, cells)
    book.close()
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame({"a": [1, 2], "day": ["13/01/2026", "01/02/2026"]}).write_parquet(buffer)
    return buffer.getvalue()


PAGE = [{"at": "2026-01-31T10:00:00+01:00", "d": "2026-01-31"}, {"at": "2026-01-31T10:00:00Z", "d": "2026-02-28"}]

FILES: dict[str, tuple[bytes, dict[str, Any], dict[str, Any]]] = {
    "till-2026-01.csv": (
        TILL.encode("cp1252"),
        {"Datum": pl.Date, "Artikel": pl.String, "Menge": pl.Int64, "Preis": pl.Float64},
        {"Datum": date(2026, 1, 1), "Artikel": "Käse 1", "Menge": 1, "Preis": 1001.5},
    ),
    "padded.csv": (
        b"Report,,\nid,name,seen\n1,x,2026-01-31T10:00:00Z\n2,y,2026-01-31T11:00:00Z\n",
        {"id": pl.Int64, "name": pl.String, "seen": pl.Datetime("us", "UTC")},
        {"id": 1, "name": "x", "seen": datetime(2026, 1, 31, 10, tzinfo=UTC)},
    ),
    "american.CSV": (
        b"id,when\n1,1/31/2026 1:05 PM\n2,12/1/2026 12:00 AM\n",
        {"id": pl.Int64, "when": pl.Datetime("us")},
        {"id": 1, "when": datetime(2026, 1, 31, 13, 5)},  # noqa: DTZ001 -- no zone is what is read
    ),
    "page.json": (
        json.dumps({"meta": {"n": 2, "links": [{"rel": "next"}]}, "data": {"r/s": PAGE}}).encode(),
        {"at": pl.Datetime("us", "UTC"), "d": pl.Date},
        {"at": datetime(2026, 1, 31, 9, tzinfo=UTC), "d": date(2026, 1, 31)},
    ),
    "events.ndjson": (
        b'{"at": "2026-01-31T10:00:00.5", "n": 1}\n{"at": "2026-01-31T10:00:00", "n": 2}\n',
        {"at": pl.Datetime("us"), "n": pl.Int64},
        {"at": datetime(2026, 1, 31, 10, 0, 0, 500_000), "n": 1},  # noqa: DTZ001 -- no zone is what is read
    ),
    "book.xlsx": (workbook(), {"day": pl.Date, "n": pl.Int64}, {"day": date(2026, 1, 31), "n": 1}),
    "table.parquet": (parquet(), {"a": pl.Int64, "day": pl.Date}, {"a": 1, "day": date(2026, 1, 13)}),
    "packed.csv.gz": (gzip.compress(b"a\tb\n1\t2\n"), {"a": pl.Int64, "b": pl.Int64}, {"a": 1, "b": 2}),
    "2026.xml": (
        b"<rows><row><day>31.12.2026</day></row><row><day>01.01.2027</day></row></rows>",
        {"day": pl.Date},
        {"day": date(2026, 12, 31)},
    ),
}


def written(folder: Path, name: str, data: bytes) -> tuple[Path, str]:
    path = folder / name
    path.write_bytes(data)
    return path, python(infer(plan([path], None), None), "contract")


@pytest.mark.parametrize("name", FILES)
def test_the_output_is_a_pipeline_that_makes_clean_silver_of_its_sample(tmp_path: Path, name: str) -> None:
    data, dtypes, first = FILES[name]
    _, source = written(tmp_path, name, data)
    (tmp_path / "pipeline.py").write_text(source, "utf-8")
    pipeline = load(str(tmp_path / "pipeline.py"))
    (transform,) = pipeline.transforms
    result = run(pipeline, {f"in/{name}": data})
    result.assert_clean()
    silver = result.silver[transform.name, f"in/{name}"]
    assert dict(silver.schema) == {column: pl.Series([], dtype=dtype).dtype for column, dtype in dtypes.items()}, source
    assert silver.row(0, named=True) == first


@pytest.mark.full
def test_it_runs_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "till-2026-01.csv").write_bytes(TILL.encode("cp1252"))
    for command in (
        ("infer", "till-2026-01.csv", "--output", "pipeline.py"),
        ("put", "till-2026-01.csv"),
        ("run", "--until-idle", "--strict"),
    ):
        subprocess.run([sys.executable, "-m", "silversmith.cli", *command], cwd=tmp_path, check=True)
    (silver,) = (tmp_path / "lake/dl-silver-layer").rglob("*.csv.parquet")
    assert pl.read_parquet(silver).height == 28


def test_days_that_may_be_either_stay_text_and_it_says_so(tmp_path: Path) -> None:
    _, source = written(tmp_path, "a.csv", b"day\n01/02/2026\n03/04/2026\n")
    assert '"day": pl.String' in source
    assert 'the sample does not tell whether "%d/%m/%Y" or "%m/%d/%Y"' in source


def test_one_file_may_settle_what_another_leaves_open(tmp_path: Path) -> None:
    first, _ = written(tmp_path, "a.csv", b"day\n01/02/2026\n")
    second, _ = written(tmp_path, "b.csv", b"day\n31/01/2026\n")
    source = python(infer(plan([first, second], None), None), "contract")
    assert 'formats={"day": "%d/%m/%Y"}' in source


def test_a_file_that_no_transform_wants_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(
        "from silversmith import Pipeline\npipeline = Pipeline('p')\n"
        "pipeline.transform('x/*', name='t')(lambda rows: rows)\n"
    )
    path, _ = written(tmp_path, "orders.csv", b"a\n1\n")
    pipeline = load(str(tmp_path / "pipeline.py"))
    source = python(infer(plan([path], pipeline), pipeline), "contract")
    assert "orders.csv: 1 row; csv" in source
    assert "Pipeline" not in source
