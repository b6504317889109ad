"""Public collections of files against other readers of the same formats: agreed, refused, different, crashed.

    make corpora FOLDER=…

Every workbook, Parquet, Arrow, Avro and CSV file under the folder is read by Silversmith and by an oracle:
python-calamine, pyarrow, fastavro, DuckDB. Cells are compared one by one. What only we refuse is listed with why.
Files are read in a process that is ended when it takes too long, so a crash is an answer about one file. The oracles
have faults of their own: each difference has to be looked at.
"""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

#: Seconds that one file may take, and the largest file that is compared, in bytes.
SECONDS, LARGEST = 60, 32 * 1024 * 1024

WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")

Rows = list[list[Any]]


def of_workbook(path: Path, sheet: str) -> Rows:
    from python_calamine import CalamineWorkbook

    rows = CalamineWorkbook.from_path(str(path)).get_sheet_by_name(sheet).to_python(skip_empty_area=False)
    return _filled([[None if cell == "" else cell for cell in row] for row in rows])


def _filled(rows: Rows) -> Rows:
    """The rows and columns that have anything in them but blanks and errors: calamine's binding has no errors."""
    rows = [[None if isinstance(cell, str) and _ERROR.fullmatch(cell) else cell for cell in row] for row in rows]
    kept = [row for row in rows if any(cell is not None and str(cell).strip(" \t\r\n\u3000\xa0") for cell in row)]
    used = [place for place in range(len(rows[0]) if rows else 0) if any(row[place] is not None for row in kept)]
    return [[row[place] for place in used] for row in kept]


_ERROR = re.compile(r"#(?:N/A|NULL!|DIV/0!|VALUE!|REF!|NAME\?|NUM!|GETTING_DATA|[A-Z]+!|ERROR!?|[A-Z ]+)|Err:[0-9]+")


def of_parquet(path: Path) -> pl.DataFrame:
    import pyarrow.parquet as pq

    return _frame_of(pq.ParquetFile(path).read())


def of_arrow(path: Path) -> pl.DataFrame:
    import pyarrow as pa

    data = path.read_bytes()
    opened = pa.ipc.open_file if data.startswith(b"ARROW1") else pa.ipc.open_stream
    return _frame_of(opened(io.BytesIO(data)).read_all())


def _frame_of(table: Any) -> pl.DataFrame:
    columns = [pl.Series(f"{place}", column.combine_chunks()) for place, column in enumerate(table.columns)]
    return pl.DataFrame(columns)


def of_avro(path: Path) -> Rows:
    import fastavro

    with path.open("rb") as file:
        return [list(record.values()) if isinstance(record, dict) else [record] for record in fastavro.reader(file)]


def of_csv(path: Path) -> Rows:
    import duckdb

    relation = duckdb.sql(
        f"SELECT * FROM read_csv('{str(path).replace(chr(39), chr(39) * 2)}', all_varchar=true, header=true)"
    )
    return [] if relation is None else [[cell or None for cell in row] for row in relation.fetchall()]


ORACLES: dict[str, Callable[[Path], Rows | pl.DataFrame]] = {
    ".parquet": of_parquet,
    ".arrow": of_arrow,
    ".arrow_file": of_arrow,
    ".feather": of_arrow,
    ".stream": of_arrow,
    ".avro": of_avro,
    ".csv": of_csv,
    ".tsv": of_csv,
}


def same(ours: Any, theirs: Any) -> bool:
    """Whether two cells are the same, as far as both readers can tell."""
    if isinstance(ours, dict) and isinstance(theirs, list):
        theirs = dict(theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, dict):
        theirs = [{"key": key, "value": value} for key, value in theirs.items()]
    if isinstance(ours, list) and isinstance(theirs, list | tuple):
        theirs = [{"key": pair[0], "value": pair[1]} if isinstance(pair, tuple) else pair for pair in theirs]
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if ours is None or theirs is None:
        return ours is theirs
    if isinstance(ours, bytes) or isinstance(theirs, bytes):
        return _bytes(ours) == _bytes(theirs)
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return str(ours).lower() == str(theirs).lower()
    return _text(ours) == _text(theirs) or _near(ours, theirs)


def _bytes(cell: Any) -> bytes:
    return cell if isinstance(cell, bytes) else str(cell).encode()


def _near(ours: Any, theirs: Any) -> bool:
    def number(cell: Any) -> float:
        return cell / timedelta(days=1) if isinstance(cell, timedelta) else float(cell)

    try:
        left, right = number(ours), number(theirs)
    except (ValueError, TypeError):
        return False
    return (math.isnan(left) and math.isnan(right)) or math.isclose(left, right, rel_tol=1e-12, abs_tol=1e-300)


def _text(cell: Any) -> str:
    if isinstance(cell, datetime):
        cell = cell.astimezone(UTC).replace(tzinfo=None) if cell.tzinfo else cell
        cell = cell.date() if cell.time() == time(0) else cell.replace(microsecond=cell.microsecond // 1000 * 1000)
    if isinstance(cell, float | Decimal) and math.isfinite(cell) and float(cell).is_integer():
        return str(int(cell))
    if isinstance(cell, date | time):
        cell = cell.isoformat().replace("T", " ")
    return _THOUSANDTHS.sub(r"\1", str(cell))


#: Zeros after the milliseconds of a time.
_THOUSANDTHS = re.compile(r"(?<=\d\d:\d\d:\d\d)(\.\d{3})000$")


def compared(ours: pl.DataFrame, theirs: Rows | pl.DataFrame, *, is_sheet: bool) -> str:
    """The first difference; empty if there is none."""
    if not isinstance(theirs, pl.DataFrame):
        return _compared_rows(ours, theirs, is_sheet=is_sheet)
    if ours.height != theirs.height:
        return f"{ours.height} rows, not {theirs.height}"
    for place, (column, their_column) in enumerate(zip(ours, theirs, strict=True), 1):
        left, right = _plain(column), _plain(their_column)
        if not left.equals(right.cast(left.dtype)):
            at = next((at for at in range(ours.height) if not left[at : at + 1].equals(right[at : at + 1])), 0)
            return f"row {at + 1}, column {place}: {left[at : at + 1]}, not {right[at : at + 1]}"
    return ""


def _plain(column: pl.Series) -> pl.Series:
    return column.cast(pl.String) if isinstance(column.dtype, pl.Categorical | pl.Enum) else column


def _compared_rows(ours: pl.DataFrame, theirs: Rows, *, is_sheet: bool) -> str:
    rows = [list(row) for row in ours.iter_rows()]
    rows = _filled(rows) if is_sheet else rows
    if len(rows) != len(theirs):
        return f"{len(rows)} rows, not {len(theirs)}"
    for number, (left, right) in enumerate(zip(rows, theirs, strict=True), 1):
        if len(left) != len(right):
            return f"{len(left)} columns, not {len(right)}"
        for place, (cell, their_cell) in enumerate(zip(left, right, strict=True), 1):
            if not same(cell, their_cell):
                return f"row {number}, column {place}: {cell!r:.80}, not {their_cell!r:.80}"
    return ""


def outcome(path: Path) -> list[tuple[str, str]]:
    """The outcome of a file, or of each of its sheets, with a remark."""
    if path.suffix.lower() not in WORKBOOKS:
        return [judged(lambda: ours_of(path, None), lambda: ORACLES[path.suffix.lower()](path))]
    names = attempt(lambda: _sheet_names(path))
    if isinstance(names, str):
        return [judged(lambda: ours_of(path, None), lambda: _refuse(names))]
    return [
        judged(lambda name=name: ours_of(path, name), lambda name=name: of_workbook(path, name), is_sheet=True)  # type: ignore[misc]
        for name in names
    ]


def _sheet_names(path: Path) -> list[str]:
    from python_calamine import CalamineWorkbook, SheetTypeEnum

    sheets = CalamineWorkbook.from_path(str(path)).sheets_metadata
    return [sheet.name for sheet in sheets if sheet.typ == SheetTypeEnum.WorkSheet]


def _refuse(why: str) -> Rows:
    raise ValueError(why)


def attempt(read: Callable[[], Any]) -> Any:
    """The rows that are read; or the reason why they are not, as a text. Panics are no exceptions."""
    try:
        return read()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


def judged(
    read: Callable[[], pl.DataFrame], oracle: Callable[[], Rows | pl.DataFrame], *, is_sheet: bool = False
) -> tuple[str, str]:
    """The outcome of one table."""
    ours, theirs = attempt(read), attempt(oracle)
    if isinstance(ours, str) and not ours.startswith("DataError"):
        return "crashed", ours
    if isinstance(ours, str):
        if "EmptyFile" in ours and not isinstance(theirs, str) and len(theirs) == 0:
            return "agreed", ""
        return ("refused by both", ours) if isinstance(theirs, str) else ("refused", ours)
    if isinstance(theirs, str):
        return "refused by the oracle", theirs
    difference = attempt(lambda: compared(ours, theirs, is_sheet=is_sheet))
    return ("different", difference) if difference else ("agreed", "")


def ours_of(path: Path, sheet: str | None) -> pl.DataFrame:
    """Our rows of a file."""
    from silversmith.errors import DataError
    from silversmith.formats import ROW, Excel, read, reading_errors
    from silversmith.stores import Head, Source

    head = Head(path.name, "e", path.stat().st_size, datetime.now(UTC))
    try:
        table = read(Source(head, path.read_bytes(), None), Excel(sheet=sheet, header=False) if sheet else None)
        with reading_errors(table):
            return table.rows.drop(ROW).collect()
    except DataError as error:
        raise DataError(error.code, f"{error.code}: {error.message}", hint=error.hint) from None


class Worker:
    """A process that reads files one after the other."""

    def __init__(self) -> None:
        self.process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", "-m", "tests.data.corpora", "--worker"]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def outcome(self, path: Path) -> Sequence[Sequence[str]]:
        """As :func:`outcome`; an end of the process is one."""
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        try:
            process.stdin.write(f"{json.dumps(str(path))}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line:
            outcomes: list[list[str]] = json.loads(line)
            return outcomes
        code = process.wait()
        self.close()
        self.process = self._started()
        return [("crashed", f"its process, which the oracle shares, ended with {code}")]

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def work() -> None:
    """Read the files that are named on standard input."""
    replies = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        print(json.dumps(outcome(Path(json.loads(line)))), file=replies, flush=True)


def data_files(folder: Path) -> Iterator[Path]:
    """All files of these formats, in order."""
    for path in sorted(folder.rglob("*")):
        known = path.suffix.lower() in WORKBOOKS or path.suffix.lower() in ORACLES
        if known and path.is_file() and 0 < path.stat().st_size <= LARGEST:
            yield path


def report(folder: Path, outcomes: Iterable[tuple[Path, Sequence[Sequence[str]]]]) -> bool:
    """Print what is not agreed, and the counts by kind; whether nothing crashed and nothing is different."""
    counts: Counter[tuple[str, str]] = Counter()
    for path, outcome in outcomes:
        for kind, said in outcome:
            counts[path.suffix.lower().lstrip("."), kind] += 1
            if kind in {"refused", "different", "crashed"}:
                print(f"{kind}: {path.relative_to(folder)}: {' '.join(said.split())[:200]}")
    print()
    for (ending, kind), number in sorted(counts.items()):
        print(f"{ending:12} {kind:24} {number:7,}")
    return not any(kind in {"different", "crashed"} for _, kind in counts)


def main() -> int:
    """Compare the files of a folder, by two processes."""
    if sys.argv[1:] == ["--worker"]:
        work()
        return 0
    folder = Path(sys.argv[1])
    worker = Worker()
    try:
        return 0 if report(folder, ((path, worker.outcome(path)) for path in data_files(folder))) else 1
    finally:
        worker.close()


if __name__ == "__main__":
    sys.exit(main())
