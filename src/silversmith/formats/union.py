"""The tables of an archive's members as one: rows one after the other, if they go together without loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import ParamSpec, TypeVar

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats import infer, text
from silversmith.formats.archives.content import Content, collect
from silversmith.formats.spill import IN_MEMORY
from silversmith.formats.table import ROW, Table, col, shorten

_P = ParamSpec("_P")
_T = TypeVar("_T")

_PIECE = 1024 * 1024

#: Reads one member; the columns of these names stay text.
Read = Callable[[Content, Mapping[str, pl.DataType]], Table]

#: Formats whose cells are text, so that a type is only inferred: where members differ, it is inferred anew from all.
_INFERRED = ("csv", "xml", "fixed-width", "lines")


def read_all(
    contents: Sequence[Content], kind: Callable[[Content], str], read: Read, schema: dict[str, pl.DataType]
) -> Table:
    """Read every member, and put their rows one after the other, numbered through. ``kind`` is a member's format.

    NDJSON files after one another are NDJSON. Files of other formats must be of the same, and have the same columns.
    Where types differ, those of text formats are inferred anew over all members; a column of nulls takes the others'
    type.

    Raises:
        DataError: ``MembersDiffer``, or what is wrong with a member, which the message names.
    """
    if len(contents) > 1 and all(_in_member(content, kind, content) == "ndjson" for content in contents):
        return _joined_lines(contents, read, schema)
    tables = [_in_member(content, read, content, schema) for content in contents]
    first = tables[0]
    if len(tables) == 1:
        return first
    _check_alike(contents, tables)
    schemas = [dict(table.rows.collect_schema()) for table in tables]
    names = list(schemas[0])
    differing = [name for name in names if len({schema[name] for schema in schemas}) > 1]
    if differing and first.format.partition("+")[0] in _INFERRED:
        as_text = schema | {name: pl.String() for name in differing}
        tables = [_in_member(content, read, content, as_text) for content in contents]
        rows = pl.concat(_numbered(tables, names), how="vertical")
        types = infer.types(rows, differing, decimal_comma=first.decimal_comma)
        rows = rows.with_columns(infer.casts(types, decimal_comma=first.decimal_comma))
    else:
        casts = [col(name).cast(_common_type(name, contents, tables, schemas)) for name in differing]
        rows = pl.concat([frame.with_columns(casts) for frame in _numbered(tables, names)], how="vertical")
    return _joined(tables, contents, rows)


def _in_member(member: Content, act: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call the function. An error about the bytes gets the member's name."""
    try:
        return act(*args, **kwargs)
    except DataError as error:
        if not member.member:
            raise
        message = f'in the member "{shorten(member.member)}": {error.message}'
        choose = 'say which ones to read: Archive(members="*.csv"); or ' if error.code == "UnknownFormat" else ""
        named = DataError(error.code, message, hint=choose + error.hint, place=error.place)
        named.format = error.format
        raise named from None


def _joined_lines(contents: Sequence[Content], read: Read, schema: Mapping[str, pl.DataType]) -> Table:
    """Members of lines as one file of lines: keys may be there in some members only, as they may within one."""
    whole = collect(
        chain.from_iterable(map(_lines, contents)), contents[0].scratch, sum(content.size + 1 for content in contents)
    )
    try:
        table = read(replace(whole, name=contents[0].name, packing=contents[0].packing), schema)
    except DataError:
        for content in contents:  # if one of them is not good by itself, its place in it is of more use
            _in_member(content, read, content, schema)
        raise
    return replace(table, dialect={**table.dialect, "members": len(contents)}, origins=None)


def _lines(content: Content) -> Iterator[bytes]:
    with content.open() as file:
        yield file.read(_PIECE).removeprefix(text.BOM)
        yield from iter(partial(file.read, _PIECE), b"")
    yield b"\n"


def _check_alike(contents: Sequence[Content], tables: Sequence[Table]) -> None:
    first = tables[0]
    names = set(first.rows.collect_schema().names())
    for content, table in zip(contents, tables, strict=True):
        if table.format != first.format:
            raise _differ(contents[0], f"is {first.format}", content, f"is {table.format}")
        for name in sorted(names.symmetric_difference(table.rows.collect_schema().names())):
            with_it, without = (contents[0], content) if name in names else (content, contents[0])
            raise _differ(with_it, f'has the column "{shorten(name)}"', without, "has not", column=name)


def _differ(first: Content, what: str, second: Content, what_else: str, column: str | None = None) -> DataError:
    return DataError(
        "MembersDiffer",
        f'the files of the archive do not go together: "{shorten(first.member)}" {what}, "{shorten(second.member)}" '
        f"{what_else}",
        hint='put them in archives of their own, or say which ones to read: Archive(members="data/*.csv")',
        place=Place(column=column),
    )


def _common_type(
    name: str, contents: Sequence[Content], tables: Sequence[Table], schemas: Sequence[Mapping[str, pl.DataType]]
) -> pl.DataType:
    """The one type of a column in those members where it has a value."""
    typed: dict[pl.DataType, Content] = {}
    for content, table, schema in zip(contents, tables, schemas, strict=True):
        if table.rows.select(col(name).count()).collect(engine="streaming").item():
            typed.setdefault(schema[name], content)
    if len(typed) > 1:
        (dtype, content), (other_dtype, other_content) = list(typed.items())[:2]
        what = f'has "{shorten(name)}" as {dtype}'
        raise _differ(content, what, other_content, f"has it as {other_dtype}", column=name)
    return next(iter(typed), schemas[0][name])


def _numbered(tables: Sequence[Table], names: Sequence[str]) -> list[pl.LazyFrame]:
    """The rows of each, their columns in the order of the first, their numbers following on."""
    before = 0
    numbered = []
    for table in tables:
        numbered.append(table.rows.select(map(col, names)).with_columns(pl.col(ROW) + pl.lit(before, dtype=pl.UInt64)))
        before += table.records
    return numbered


def _joined(tables: Sequence[Table], contents: Sequence[Content], rows: pl.LazyFrame) -> Table:
    frames = [table.frame for table in tables if table.frame is not None]
    small = len(frames) == len(tables) and sum(frame.estimated_size() for frame in frames) <= IN_MEMORY
    frame = rows.collect(engine="in-memory") if small else None
    return replace(
        tables[0],
        rows=frame.lazy() if frame is not None else rows,
        frame=frame,
        malformed=_malformed(tables, contents),
        height=sum(table.height or 0 for table in tables),
        decimal_comma=any(table.decimal_comma for table in tables),
        dialect={**tables[0].dialect, "members": len(tables)},
        scratch=contents[0].scratch,
        origins=None,
    )


def _malformed(tables: Sequence[Table], contents: Sequence[Content]) -> pl.DataFrame | None:
    """The records that are no rows, numbered through, with the name of their member in the reason."""
    before = 0
    frames = []
    for table, content in zip(tables, contents, strict=True):
        if table.malformed is not None:
            frames.append(
                table.malformed.with_columns(
                    pl.col(ROW) + pl.lit(before, dtype=pl.UInt64),
                    (pl.lit(f"{shorten(content.member)}: ") + pl.col("reason")).alias("reason"),
                )
            )
        before += table.records
    return pl.concat(frames) if frames else None
