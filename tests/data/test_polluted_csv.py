"""One table, written in every wrong way that spreadsheets and exports know: no cell ever comes out in another column.

The ways are those of benchmarks of polluted CSV files, such as github.com/HPI-Information-Systems/Pollock. Each cell
says which column it is of, so that a shift cannot go unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from silversmith import Pipeline
from silversmith.errors import DataError
from silversmith.function.convert import Converted, convert
from silversmith.lineage import Lineage
from silversmith.stores import Head, Source

NAMES = ["DATE", "PRICE", "TEXT", "LAST"]
ROWS = [
    [f"DATE {n}", f"PRICE {n}", f'TEXT, with "quotes" {n}' if n % 2 else f"TEXT it's; {n}", f"LAST {n}"]
    for n in range(40)
]
TABLE = [NAMES, *ROWS]


def line(cells: list[str], separator: str = ",", quote: str = '"', escape: str = "", end: str = "\r\n") -> str:
    return separator.join(quote + cell.replace(quote, (escape or quote) + quote) + quote for cell in cells) + end


def text(rows: list[list[str]], separator: str = ",", quote: str = '"', escape: str = "", end: str = "\r\n") -> str:
    return "".join(line(cells, separator, quote, escape, end) for cells in rows)


def with_row(at: int, written: str) -> str:
    lines = [line(cells) for cells in TABLE]
    lines[at] = written
    return "".join(lines)


def whole() -> Iterator[tuple[str, str, str, int, int]]:
    """Of each way: what it is, a name, the file, and how many rows become silver and are rejected; -1: refused."""
    yield "clean", "a.csv", text(TABLE), 40, 0
    yield "a name that lies", "a.tsv", text(TABLE), 40, 0
    yield "another name that lies", "a.pdf", text(TABLE), 40, 0
    yield "no name", "a", text(TABLE), 40, 0
    for what, separator in (("semicolon", ";"), ("tab", "\t"), ("pipe", "|"), ("comma and blank", ", ")):
        yield what, "a.csv", text(TABLE, separator), 40, 0
    for what, separator in (("colon", ":"), ("blank", " "), ("backslash t", "\\t"), ("blank and comma", " ,")):
        yield what, "a.csv", text(TABLE, separator), -1, 0
    yield "single quotes", "a.csv", text(TABLE, quote="'"), 40, 0
    yield "backslashes", "a.csv", text(TABLE, escape="\\"), 40, 0
    yield "LF", "a.csv", text(TABLE, end="\n"), 40, 0
    yield "CR", "a.csv", text(TABLE, end="\r"), 40, 0
    yield "no end", "a.csv", text(TABLE).rstrip(), 40, 0
    yield "blank lines", "a.csv", text(TABLE, end="\r\n\r\n"), 40, 0
    yield "sep line", "a.csv", "sep=|\r\n" + text(TABLE, "|"), 40, 0
    yield "preamble", "a.csv", '"a title"\r\n"of two lines"\r\n' + text(TABLE), -1, 0
    yield "footnote", "a.csv", text(TABLE) + '"in all"\r\n"40"\r\n', 40, 2
    yield "a narrow table below", "a.csv", text(TABLE) + "\r\n" + text([["x", "y"]] * 5), 40, 5
    yield "a wide table below", "a.csv", text(TABLE) + "\r\n" + text([["x"] * 6] * 5), 40, 5
    yield "no rows", "a.csv", text(TABLE[:1]), 0, 0
    yield "nothing", "a.csv", "", -1, 0
    yield "a name twice", "a.csv", text([[*NAMES[:3], NAMES[0]], *ROWS]), -1, 0
    yield "an open quote", "a.csv", text(TABLE) + '"DATE', -1, 0


def one_row() -> Iterator[tuple[str, str, str, int, int]]:
    """One record is written otherwise than the others."""
    for at in (1, 20, 40):
        cells = TABLE[at]
        yield f"{at} without cells", "a.csv", with_row(at, "\r\n"), 39, 0
        yield f"{at} short", "a.csv", with_row(at, line(cells[:2])), 39, 1
        yield f"{at} long", "a.csv", with_row(at, line([*cells, "more"])), 39, 1
        yield f"{at} with another separator", "a.csv", with_row(at, line(cells, ";")), 39, 1
        yield f"{at} with another end", "a.csv", with_row(at, line(cells, end="\n")), 40, 0
        for place in range(4):
            quoted = [line([cell], end="") for cell in cells]
            quoted[place] = '"' + quoted[place]
            yield f"{at}: a quote more, {place}", "a.csv", with_row(at, ",".join(quoted) + "\r\n"), 39, 1
        for place in range(1, 4):
            quoted = [line([cell], end="") for cell in cells]
            quoted[place - 1 : place + 1] = ["".join(quoted[place - 1 : place + 1])]
            yield f"{at}: a separator less, {place}", "a.csv", with_row(at, ",".join(quoted) + "\r\n"), 39, 1
    for place in range(4):
        quoted = [line([cell], end="") for cell in NAMES]
        quoted[place] = '"' + quoted[place]
        yield f"header: a quote more, {place}", "a.csv", with_row(0, ",".join(quoted) + "\r\n"), -1, 0
    yield "header short", "a.csv", with_row(0, line(NAMES[:2])), -1, 0
    yield "header long", "a.csv", with_row(0, line([*NAMES, "MORE"])), -1, 0
    yield "header with another separator", "a.csv", with_row(0, line(NAMES, ";")), -1, 0


def converted(folder: Path, name: str, data: bytes, *, large: bool) -> Converted:
    pipeline = Pipeline("shop")
    pipeline.transform("*", name="rows")(lambda rows: rows)
    transform = pipeline.find("rows")
    (folder / "body").write_bytes(data)
    head = Head(name, "etag", len(data), datetime.now(UTC))
    source = Source(head, None, folder / "body") if large else Source(head, data, None)
    return convert(source, transform, Lineage(name, "", "", 0, "", "rows", "", 0, 0, 0, "", 1), folder)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("what", "name", "written", "rows", "rejected"), [*whole(), *one_row()])
def test_no_cell_is_in_another_column(
    tmp_path: Path, what: str, name: str, written: str, rows: int, rejected: int, large: bool
) -> None:
    if rows == -1:
        with pytest.raises(DataError) as caught:
            converted(tmp_path, name, written.encode(), large=large)
        assert caught.value.hint
        return
    result = converted(tmp_path, name, written.encode(), large=large)
    assert (result.lineage.rows_written, result.lineage.rows_rejected) == (rows, rejected)
    silver = result.silver if isinstance(result.silver, pl.DataFrame) else pl.read_parquet(result.silver)
    assert silver.columns == NAMES
    clean = set(map(tuple, ROWS))
    assert all(row in clean for row in silver.rows())
