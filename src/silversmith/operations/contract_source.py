"""A contract as a Python file: what was seen is said, and what may be meant stands beside it as a comment. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from silversmith.operations.infer import Column, Inferred
from silversmith.schemas.document import dtype_code
from silversmith.stores.keys import printable

_LONGEST = 60


def python(found: Inferred, name: str) -> str:
    """The file's text. Whatever the data holds, nothing of it is more than a literal or a comment there.

    Args:
        found: what is true of the sample.
        name: what the contract is to be called.
    """
    columns = [column for column in found.columns if column.name]
    lines = [
        *_heading(found),
        "",
        "import polars as pl",
        "",
        "from silversmith import Contract",
        "",
        f"{name} = Contract(",
        "    schema={",
        *(f"        {_text(column.name)}: {_kind(column)},{_comment(_told(column))}" for column in columns),
        "    },",
        *_required(columns, found),
        *_suggestions(columns),
        *(['    on_missing_column="fill",  # some of the files do not have all columns'] if _gaps(columns) else []),
        '    # on_extra_column="reject",  # a column that is not named above refuses the file; else it is kept',
        *_max_rejected(found),
        ")",
    ]
    return "\n".join(lines) + "\n"


def _heading(found: Inferred) -> Iterable[str]:
    yield '"""A contract, as far as a sample can tell. Rows that break it are rejected, each with the reason."""'
    yield ""
    yield f"# The sample: {found.rows:,} rows. Edit what follows: files show what is, and you know what should be."
    for file in found.files:
        how = ", ".join(f"{name} {value!r}" for name, value in file.dialect.items() if value is not None)
        bad = f", {file.malformed:,} records that are no rows" if file.malformed else ""
        written = f"{file.format} ({_line(how)})" if how else file.format
        yield f"# - {_line(printable(file.file))}: {file.rows:,} rows{bad}; {written}"
    for column in found.columns:
        if not column.name:
            yield "# One column has no name: a contract cannot speak of it."


def _required(columns: Sequence[Column], found: Inferred) -> list[str]:
    full = [column.name for column in columns if not column.nulls and not column.missing and found.rows]
    if not full:
        return ["    # required=[],  # columns that may not be null"]
    return [f"    required=[{', '.join(map(_text, full))}],"]


def _suggestions(columns: Sequence[Column]) -> Iterable[str]:
    keys = [column.name for column in columns if column.unique and not column.missing]
    if keys:
        yield f"    # unique=[{_text(keys[0])}],{_comment(_others(keys[1:]))}"
    choices = [f"{_text(one.name)}: [{', '.join(map(_text, one.choices))}]" for one in columns if one.choices]
    if choices:
        yield f"    # allowed={{{', '.join(choices)}}},"
    ranges = [
        f"{_text(one.name)}: ({one.low!r}, {one.high!r})"
        for one in columns
        if one.kind.is_integer() and one.low is not None
    ]
    if ranges:
        yield f"    # ranges={{{', '.join(ranges)}}},"
    numbers = [column.name for column in columns if column.kind.is_numeric()]
    if numbers:
        yield f"    # rules={{{_text(f'{numbers[0]} is positive')}: pl.col({_text(numbers[0])}) > 0}},"


def _others(names: Sequence[str]) -> str:
    return f"or {', '.join(map(_text, names))}" if names else ""


def _gaps(columns: Sequence[Column]) -> bool:
    return any(column.missing for column in columns)


def _max_rejected(found: Inferred) -> list[str]:
    bad = sum(file.malformed for file in found.files)
    said = f"  # {bad:,} records of the sample are no rows" if bad else "  # above this share the whole file is refused"
    return [f"    # max_rejected=0.05,{said}"]


def _kind(column: Column) -> str:
    return "pl.String" if column.kind == pl.Null() else _bare(dtype_code(column.kind))


def _bare(code: str) -> str:
    """``pl.Datetime('us')`` for what it says with all its words."""
    return code.replace("time_unit=", "").replace(", time_zone=None", "").replace("time_zone=", "")


def _told(column: Column) -> str:
    told = []
    if column.low is not None:
        told.append(f"{column.low} to {column.high}" if column.low != column.high else f"always {column.low}")
    if column.choices:
        told.append(f"{len(column.choices)} different")
    if column.kind == pl.Null():
        told.append("no value in the sample: a guess")
    elif column.nulls:
        told.append(f"{column.nulls:,} null")
    if column.missing:
        told.append(f"missing in {printable(column.missing[0])}" + (" …" if len(column.missing) > 1 else ""))
    return _line("; ".join(told))


def _comment(text: str) -> str:
    return f"  # {text}" if text else ""


def _line(text: str) -> str:
    """Text that stays within its comment, and does nothing to a terminal."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _text(value: str) -> str:
    """A literal, in double quotes where that needs no escapes."""
    literal = repr(value)
    return f'"{literal[1:-1]}"' if "'" not in value and '"' not in value else literal
