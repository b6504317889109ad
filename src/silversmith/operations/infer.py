"""Infer reader, contract and transform from files, and write them as a Python file that runs."""

from __future__ import annotations

import keyword
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from silversmith import formats
from silversmith.contract import casting
from silversmith.contract.casting import Notation, notations
from silversmith.errors import DataError, SilversmithError, count
from silversmith.formats import ROW, Csv, Json, Reader, Table
from silversmith.formats.csv.dialect import MOST_TITLES
from silversmith.formats.table import col
from silversmith.keypatterns import escaped
from silversmith.operations.check import Job, is_marker, open_source, transform_of
from silversmith.pipeline import Pipeline
from silversmith.schemas.document import dtype_code, join
from silversmith.stores.keys import printable

#: Choices and keys are inferred from so many rows of each file; types, nulls and ranges from all rows.
SAMPLED_ROWS = 100_000

#: A column with at most so many different words, each this often on average, may be a choice among them.
MOST_CHOICES, LEAST_OFTEN = 12, 4

_DAY, _TIME, _UTC = pl.Date(), pl.Datetime("us"), pl.Datetime("us", "UTC")

#: Formats of days that are tried; with a time of the day, too. Of those in one tuple, a sample may fit several.
_DAYS = (
    ("%d.%m.%Y",),
    ("%d.%m.%y",),
    ("%d/%m/%Y", "%m/%d/%Y"),
    ("%d/%m/%y", "%m/%d/%y"),
    ("%d-%m-%Y", "%m-%d-%Y"),
    ("%Y/%m/%d",),
    ("%d %b %Y",),
    ("%d-%b-%Y",),
    ("%b %d, %Y",),
)
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")

#: What text may be, by the format, or by a word for ISO 8601; in the order of preference.
WRITTEN: dict[str, tuple[pl.DataType, Notation | None]] = {
    "ISO day": (_DAY, None),
    "ISO time": (_TIME, None),
    "ISO time with offset": (_UTC, None),
}
for _days in _DAYS:
    WRITTEN |= {day: (_DAY, notations({"": day}, {"": _DAY})[""]) for day in _days}
    for _clock in _CLOCKS:
        WRITTEN |= {f"{day} {_clock}": (_TIME, notations({"": f"{day} {_clock}"}, {"": _TIME})[""]) for day in _days}
WRITTEN["%d/%b/%Y:%H:%M:%S %z"] = (_UTC, notations({"": "%d/%b/%Y:%H:%M:%S %z"}, {"": _UTC})[""])

_DIGIT = re.compile("[0-9]")


class Unreadable(SilversmithError):
    """No contract can be inferred from a file."""


@dataclass(frozen=True)
class InferredColumn:
    """One column of all the files. ``low`` and ``high`` bound numbers and times; ``choices`` are its words, where they
    are few; ``missing`` names the files without it; ``written`` is what text may be."""

    name: str
    kind: pl.DataType
    nulls: int = 0
    unique: bool = False
    low: Any = None
    high: Any = None
    choices: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    written: tuple[str, ...] = ()

    @property
    def written_as(self) -> str:
        """How its days or times are written, of :data:`WRITTEN`; empty: it has none."""
        return _choice(self.written)

    @property
    def dtype(self) -> pl.DataType:
        """Its type in the contract."""
        return WRITTEN[self.written_as][0] if self.written_as else self.kind

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name,
            "type": repr(self.dtype),
            "nulls": self.nulls,
            "unique": self.unique,
            "low": None if self.low is None else str(self.low),
            "high": None if self.high is None else str(self.high),
            "choices": list(self.choices),
            "missing": list(self.missing),
            "format": self.written_as if self.written_as.startswith("%") else None,
        }


@dataclass(frozen=True)
class Sampled:
    """One file: its rows, its malformed records, and how it was read."""

    file: str
    rows: int
    malformed: int
    format: str
    dialect: dict[str, Any] = field(default_factory=dict)
    reader: Reader | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "reader": _reader((self,)) or None}


@dataclass(frozen=True)
class Inferred:
    """All files, and their columns in the order of their first appearance. ``is_declared``: a pipeline reads them."""

    files: tuple[Sampled, ...]
    columns: tuple[InferredColumn, ...]
    is_declared: bool = False

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(file.rows for file in self.files)


def infer(jobs: Sequence[Job], pipeline: Pipeline | None) -> Inferred:
    """Read files, each as its transform would, and infer their common columns. Markers are passed over.

    Args:
        jobs: see :func:`silversmith.operations.check.plan`. A file is read once, for its first transform.
        pipeline: declares the readers; None: they are detected.

    Raises:
        Unreadable: a file cannot be read, or no type holds both of two columns of one name.
        OSError: a file cannot be opened.
    """
    first: dict[str, Job] = {}
    for job in jobs:
        first.setdefault(job.path, job)
    files: list[Sampled] = []
    columns: dict[str, InferredColumn] = {}
    for job in first.values():
        transform = transform_of(job, pipeline)
        if is_marker(job, transform):
            continue
        file, file_columns = _sampled(job, transform.reader)
        _add(columns, file_columns, file, files)
        files.append(file)
    if not files:
        raise Unreadable("there is no data in these files, only marks of folders and jobs")
    return Inferred(tuple(files), tuple(columns.values()), pipeline is not None)


def _sampled(job: Job, reader: Reader | None) -> tuple[Sampled, dict[str, InferredColumn]]:
    with tempfile.TemporaryDirectory(prefix="silversmith-infer-") as scratch:
        try:
            table = None
            if reader is None:
                reader, table = _read(lambda tried: formats.read(open_source(job), tried, scratch=Path(scratch)))
            table = table or formats.read(open_source(job), reader, scratch=Path(scratch))
            with formats.reading_errors(table):
                columns = _columns(table)
        except DataError as error:
            hint = f". {error.hint}" if error.hint else ""
            raise Unreadable(f"{printable(job.path)}: {error.code}: {error.message}{hint}") from None
        malformed = 0 if table.malformed is None else table.malformed.height
        return Sampled(
            job.path, table.records - malformed, malformed, table.format, dict(table.dialect), reader
        ), columns


def _columns(table: Table) -> dict[str, InferredColumn]:
    kinds = {name: kind for name, kind in table.rows.collect_schema().items() if name != ROW}
    names = list(kinds)
    sample = table.rows.head(SAMPLED_ROWS).drop(ROW).collect()
    facts = [col(name).null_count().alias(f"nulls {place}") for place, name in enumerate(names)]
    for place, name in enumerate(names):
        if _has_range(kinds[name]):
            facts += [col(name).min().alias(f"low {place}"), col(name).max().alias(f"high {place}")]
    written = _written(table, sample)
    values = table.rows.select(facts).collect(engine="streaming").row(0, named=True) if facts else {}
    return {
        name: InferredColumn(
            name,
            kinds[name],
            values[f"nulls {place}"],
            _is_unique(sample[name], values[f"nulls {place}"]),
            values.get(f"low {place}"),
            values.get(f"high {place}"),
            () if written.get(name) else _choices(sample[name]),
            written=written.get(name, ()),
        )
        for place, name in enumerate(names)
    }


def _has_range(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind.is_temporal()


def _is_unique(values: pl.Series, nulls: int) -> bool:
    """Whether the column may be a key; few rows prove nothing."""
    may_be = not values.dtype.is_nested() and not values.dtype.is_float() and values.dtype != pl.Boolean
    return may_be and not nulls and len(values) >= 10 and values.n_unique() == len(values)


def _choices(values: pl.Series) -> tuple[str, ...]:
    if values.dtype != pl.String:
        return ()
    words = values.drop_nulls()
    choices = words.unique()
    if not 1 < len(choices) <= MOST_CHOICES or len(words) < LEAST_OFTEN * len(choices):
        return ()
    return tuple(sorted(choices))


def _add(
    columns: dict[str, InferredColumn], new: dict[str, InferredColumn], file: Sampled, before: Sequence[Sampled]
) -> None:
    """Merge the columns of one more file."""
    for name, column in new.items():
        columns[name] = (
            _both(columns[name], column, file)
            if name in columns
            else replace(column, missing=tuple(each.file for each in before))
        )
    for name in columns.keys() - new.keys():
        columns[name] = replace(columns[name], missing=(*columns[name].missing, file.file))


def _both(one: InferredColumn, other: InferredColumn, file: Sampled) -> InferredColumn:
    kind = _joined(one.kind, other.kind)
    if kind is None:
        raise Unreadable(
            f'the column "{one.name}" is {other.kind} in {printable(file.file)}, and {one.kind} before: no contract '
            "holds for both. Infer one for each, or correct the files."
        )
    choices = tuple(sorted({*one.choices, *other.choices})) if one.choices and other.choices else ()
    alike = _has_range(kind)
    return replace(
        one,
        kind=kind,
        nulls=one.nulls + other.nulls,
        unique=one.unique and other.unique,
        low=_bound(min, one.low, other.low) if alike else None,
        high=_bound(max, one.high, other.high) if alike else None,
        choices=choices if len(choices) <= MOST_CHOICES else (),
        written=_written_in_both(one, other),
    )


def _written_in_both(one: InferredColumn, other: InferredColumn) -> tuple[str, ...]:
    """The notations that the text of both may have; a column of nulls may have any."""
    if pl.Null() in (one.kind, other.kind):
        return one.written or other.written
    return tuple(label for label in one.written if label in other.written)


def _joined(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """The type that holds both: the wider one, a float for integers and floats, else text; None: there is none."""
    both = join(one, other)
    if both is not None:
        return both
    if one.is_numeric() and other.is_numeric() and not (one.is_decimal() or other.is_decimal()):
        return pl.Float64()
    if {one.base_type(), other.base_type()} == {pl.Date, pl.Datetime}:
        return one if isinstance(one, pl.Datetime) else other
    nested = one.is_nested() or other.is_nested() or pl.Binary in (one, other)
    return None if nested else pl.String()


def _bound(choose: Callable[..., Any], one: Any, other: Any) -> Any:
    try:
        return choose((value for value in (one, other) if value is not None), default=None)
    except TypeError:  # a day and a moment
        return None


# -- what a sample shows beyond the facts that readers detect


def _read(opened: Callable[[Reader | None], Table]) -> tuple[Reader | None, Table]:
    """A file as a table, and the reader that it needs; None: it needs no other than the one that is detected.

    Raises:
        DataError: it cannot be read.
    """
    try:
        table = opened(None)
    except DataError as error:
        if error.code != "WrongHeader":
            raise
        return _below_titles(opened, error)
    pointer = _deep(table)
    return (None, table) if not pointer else (Json(pointer=pointer), opened(Json(pointer=pointer)))


def _below_titles(opened: Callable[[Reader | None], Table], error: DataError) -> tuple[Reader, Table]:
    for lines in range(1, MOST_TITLES + 1):
        reader = Csv(skip_lines=lines)
        try:
            return reader, opened(reader)
        except DataError:
            continue
    raise error


def _deep(table: Table) -> str:
    """The JSON Pointer of the longest list of objects in a document that is one object; empty: there is none."""
    if table.format.partition("+")[0] != "json" or table.records != 1:
        return ""
    row = table.rows.drop(ROW).collect().row(0, named=True)
    lists = {pointer: len(items) for pointer, items in _lists(row)}
    return max(lists, key=lists.__getitem__, default="")


def _lists(value: Mapping[str, Any], pointer: str = "") -> Iterable[tuple[str, Sequence[Any]]]:
    """The lists of objects, but for those within others."""
    for name, item in value.items():
        below = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
        if isinstance(item, dict):
            yield from _lists(item, below)
        elif isinstance(item, list) and item and all(isinstance(each, dict) for each in item):
            yield below, item


def _written(table: Table, sample: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """By text column, what all its cells may be, of :data:`WRITTEN`."""
    texts = [name for name, dtype in sample.schema.items() if dtype == pl.String and _has_digits(sample[name])]
    may_be = {name: _fitting(sample.lazy(), name, list(WRITTEN)) for name in texts}
    return {name: tuple(_fitting(table.rows, name, labels)) for name, labels in may_be.items() if labels}


def _has_digits(cells: pl.Series) -> bool:
    first = next((cell for cell in cells if cell and cell.strip()), "")
    return bool(_DIGIT.search(first))


def _fitting(rows: pl.LazyFrame, name: str, labels: Sequence[str]) -> list[str]:
    answers = []
    for label in labels:
        dtype, notation = WRITTEN[label]
        value = casting.cast(col(name), pl.String(), dtype, notation=notation)
        answers.append((~casting.failed(col(name), value, pl.String()).any() & value.is_not_null().any()).alias(label))
    row = rows.select(answers).collect(engine="streaming").row(0, named=True)
    return [label for label, is_fitting in row.items() if is_fitting]


def _choice(labels: Sequence[str]) -> str:
    """Which of several one column is; empty: nobody can know, or it is none."""
    ambiguous = {day for days in _DAYS if len(days) > 1 for day in days}
    rivals = [label for label in labels if label.partition(" ")[0] in ambiguous]
    return next(iter(labels), "") if len(rivals) < 2 else ""


def _csv_options(dialect: Mapping[str, object], reader: Reader | None) -> dict[str, object]:
    """The options of ``Csv`` that differ from its defaults, as they were found for one file."""
    options: dict[str, object] = {}
    if dialect.get("separator") != ",":
        options["separator"] = dialect.get("separator")
    if dialect.get("quote") != '"':
        options["quote"] = dialect.get("quote")
    if dialect.get("encoding", "utf-8") != "utf-8":
        options["encoding"] = dialect["encoding"]
    if isinstance(reader, Csv) and reader.skip_lines:
        options["skip_lines"] = reader.skip_lines
    if dialect.get("decimal_comma"):
        options |= {"decimal_comma": True, "thousands": "."}
    return options


#: Endings of compressed files: the one before says what is in them.
_PACKED = {".gz", ".zst", ".bz2", ".xz"}


def _ending(path: str) -> str:
    """The ending of a file's name, such as ``.csv.gz``."""
    suffixes = PurePosixPath(path).suffixes
    return "".join(suffixes[-2:] if suffixes and suffixes[-1].lower() in _PACKED else suffixes[-1:])


def _name_of(path: str) -> str:
    """A name for the transform of such files: the words of the file's name, without dates and numbers."""
    words = re.findall("[a-z]+", PurePosixPath(path).name.partition(".")[0].lower())
    return "_".join(words)[:30].strip("_") or "rows"


# -- the file


def python(inferred: Inferred, name: str) -> str:
    """The text of the Python file. Data appears there only as literals and comments.

    Args:
        inferred: the inferred columns.
        name: the contract's name in the file.
    """
    columns = [column for column in inferred.columns if column.name]
    reader = "" if inferred.is_declared else _reader(inferred.files)
    names = ["Contract", reader.partition("(")[0], "" if inferred.is_declared else "Pipeline"]
    pipeline = f"pipeline = Pipeline({_text(_transform(inferred, name).replace('_', '-'))})"
    lines = [
        *_heading(inferred),
        "",
        "import polars as pl",
        "",
        f"from silversmith import {', '.join(sorted(filter(None, names)))}",
        "",
        *([] if inferred.is_declared else [pipeline, ""]),
        f"{name} = Contract(",
        "    schema={",
        *(f"        {_text(column.name)}: {_kind(column)},{_comment(_remarks(column))}" for column in columns),
        "    },",
        *_formats(columns),
        _required(columns, inferred),
        *_suggestions(columns),
        *(
            ['    on_missing_column="fill",  # some of the files do not have all columns']
            if any(column.missing for column in columns)
            else []
        ),
        '    # on_extra_column="reject",  # a column that is not named above refuses the file; else it is kept',
        _max_rejected(inferred),
        ")",
        *([] if inferred.is_declared else _declaration(inferred, name, reader)),
    ]
    return "\n".join(lines) + "\n"


def _declaration(inferred: Inferred, name: str, reader: str) -> Iterable[str]:
    endings = dict.fromkeys(_ending(file.file) for file in inferred.files)
    patterns = ", ".join(_text(f"*{escaped(ending)}") for ending in endings)
    yield ""
    yield ""
    yield f"@pipeline.transform({patterns}, contract={name}{f', reader={reader}' if reader else ''})"
    yield f"def {_transform(inferred, name)}(rows: pl.LazyFrame) -> pl.LazyFrame:"
    yield '    """The good rows of one file. Give the pattern the folder where such files land."""'
    yield "    return rows"


def _transform(inferred: Inferred, contract: str) -> str:
    name = _name_of(inferred.files[0].file)
    return f"{name}_rows" if name in {contract, "pl", "pipeline"} or keyword.iskeyword(name) else name


def _reader(files: Sequence[Sampled]) -> str:
    """The reader that all files have in common; empty: each is detected, or they have none in common."""
    first = files[0]
    if isinstance(first.reader, Json):
        alike = all(file.reader == first.reader for file in files)
        return f"Json(pointer={_text(str(first.reader.pointer))})" if alike else ""
    if any(file.format.partition("+")[0] != "csv" for file in files):
        return ""
    options = [_csv_options(file.dialect, file.reader) for file in files]
    common = dict(set.intersection(*(set(each.items()) for each in options)))
    if any(each.get("decimal_comma") for each in options):
        common |= {"decimal_comma": True, "thousands": "."}  # a file without decimals shows nothing
    texts = (f"{name}={_text(value) if isinstance(value, str) else repr(value)}" for name, value in common.items())
    stated = ", ".join(sorted(texts))
    return f"Csv({stated})" if stated else ""


def _formats(columns: Sequence[InferredColumn]) -> Iterable[str]:
    written = [
        f"{_text(column.name)}: {_text(column.written_as)}" for column in columns if column.written_as.startswith("%")
    ]
    if written:
        yield f"    formats={{{', '.join(written)}}},"
    for column in columns:
        if column.written and not column.written_as:
            days = " or ".join(_text(label) for label in column.written)
            remark = f"days, and the sample does not tell whether {days}"
            yield f"    # formats={{{_text(column.name)}: …}},{_comment(remark)}"


def _heading(inferred: Inferred) -> Iterable[str]:
    yield '"""A contract, as far as a sample can tell. Rows that break it are rejected, each with the reason."""'
    yield ""
    sample = count(inferred.rows, "row")
    yield f"# The sample: {sample}. Edit what follows: files show what is, and you know what should be."
    for file in inferred.files:
        how = ", ".join(f"{name} {value!r}" for name, value in file.dialect.items() if value is not None)
        bad = f", {count(file.malformed, 'record')} not readable as rows" if file.malformed else ""
        written = f"{file.format} ({_line(how)})" if how else file.format
        yield f"# - {_line(printable(file.file))}: {count(file.rows, 'row')}{bad}; {written}"
    for column in inferred.columns:
        if not column.name:
            yield "# One column has no name: a contract cannot speak of it."


def _required(columns: Sequence[InferredColumn], inferred: Inferred) -> str:
    full = [_text(column.name) for column in columns if not column.nulls and not column.missing and inferred.rows]
    return f"    required=[{', '.join(full)}]," if full else "    # required=[],  # columns that may not be null"


def _suggestions(columns: Sequence[InferredColumn]) -> Iterable[str]:
    keys = [_text(column.name) for column in columns if column.unique and not column.missing]
    if keys:
        others = f"or {', '.join(keys[1:])}" if keys[1:] else ""
        yield f"    # unique=[{keys[0]}],{_comment(others)}"
    choices = [
        f"{_text(column.name)}: [{', '.join(map(_text, column.choices))}]" for column in columns if column.choices
    ]
    if choices:
        yield f"    # allowed={{{', '.join(choices)}}},"
    ranges = [
        f"{_text(column.name)}: ({column.low!r}, {column.high!r})"
        for column in columns
        if column.kind.is_integer() and column.low is not None
    ]
    if ranges:
        yield f"    # ranges={{{', '.join(ranges)}}},"
    numbers = [column.name for column in columns if column.kind.is_numeric()]
    if numbers:
        yield f"    # rules={{{_text(f'{numbers[0]} is positive')}: pl.col({_text(numbers[0])}) > 0}},"


def _max_rejected(inferred: Inferred) -> str:
    bad = sum(file.malformed for file in inferred.files)
    comment = f"{count(bad, 'record')} of the sample not readable as rows" if bad else ""
    return f"    # max_rejected=0.05,{_comment(comment or 'above this share the whole file is refused')}"


def _kind(column: InferredColumn) -> str:
    """Its type's code, shortened: ``pl.Datetime('us')``."""
    code = "pl.String" if column.kind == pl.Null() else dtype_code(column.dtype)
    return code.replace("time_unit=", "").replace(", time_zone=None", "").replace("time_zone=", "")


def _remarks(column: InferredColumn) -> str:
    remarks = []
    if column.low is not None:
        remarks.append(f"{column.low} to {column.high}" if column.low != column.high else f"always {column.low}")
    if column.choices:
        remarks.append(f"{len(column.choices)} different")
    if column.kind == pl.Null():
        remarks.append("no value in the sample: a guess")
    elif column.nulls:
        remarks.append(f"{column.nulls:,} null")
    if column.missing:
        remarks.append(f"missing in {printable(column.missing[0])}" + (" …" if len(column.missing) > 1 else ""))
    return _line("; ".join(remarks))


def _comment(text: str) -> str:
    return f"  # {text}" if text else ""


def _line(text: str) -> str:
    """A text on one line, for a comment, without control characters."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _text(value: str) -> str:
    """A literal, in double quotes where that needs no escapes."""
    literal = repr(value)
    return f'"{literal[1:-1]}"' if "'" not in value and '"' not in value else literal
