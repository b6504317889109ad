"""Rejected rows: their columns, where they come from, and their reasons counted; and the errors of a refused file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats.table import ROW, Table, col, shorten

#: The columns of a rejected row besides its own: its number in the file, its first line there, the reasons, its text.
ROW_NUMBER = "row"
LINE = "line"
REASONS = "reasons"
TEXT = "text"

#: Follows the name of a rule in a reason.
BROKEN = ": the rule is broken"

#: So many rules and columns are counted for one file.
_MOST_BROKEN = 50

#: So many of the commonest reasons of rejected rows are named where a file is refused for them.
_MOST_REASONS = 3

#: Up to so many rows have their keys compared at once. Each takes about 130 bytes.
AT_ONCE = 500_000

#: So many rows of one file may repeat others: their numbers are kept in memory.
MOST_REPEATED = 2_000_000

_SEEDS = (0x51, 0x1A)

#: The first rejected rows of a file get their line and text; later ones have nulls there.
MOST_WITH_ORIGINS = 100_000

#: How much text they may have in all, in characters.
MOST_TEXT = 64 * 1024 * 1024


def with_origins(rejected: pl.LazyFrame, table: Table, most: int = MOST_WITH_ORIGINS) -> pl.LazyFrame:
    """Rejected rows of a table, with the columns ``line`` and ``text`` if the file has lines."""
    if table.origins is None:
        return rejected
    names = rejected.collect_schema().names()
    first = rejected.select(pl.col(ROW_NUMBER).bottom_k(most)).collect(engine="streaming").to_series().to_list()
    origins = table.origins(first)
    numbers, lines, texts, length = [], [], [], 0
    for number, (line, text) in sorted(origins.items()):
        length += len(text)
        if length > MOST_TEXT:
            break
        numbers.append(number)
        lines.append(line)
        texts.append(text)
    known = pl.col(TEXT) if TEXT in names else pl.lit(None, dtype=pl.String)
    columns = [
        _looked_up(numbers, pl.Series(lines, dtype=pl.UInt64)).alias(LINE),
        pl.coalesce(_looked_up(numbers, pl.Series(texts, dtype=pl.String)), known).alias(TEXT),
    ]
    others = [col(name) for name in names if name not in {ROW_NUMBER, REASONS, TEXT}]
    return rejected.select(pl.col(ROW_NUMBER), columns[0], *others, pl.col(REASONS), columns[1])


def _looked_up(numbers: list[int], values: pl.Series) -> pl.Expr:
    if not numbers:
        return pl.lit(None, dtype=values.dtype)
    keys = pl.Series(numbers, dtype=pl.UInt64)
    return pl.col(ROW_NUMBER).replace_strict(keys, values, default=None, return_dtype=values.dtype)


def commonest_reasons(rejected: pl.LazyFrame | None) -> Mapping[str, int]:
    """For the columns and rules that most rows were rejected for: a reason as an example, and the number of rows."""
    if rejected is None:
        return {}
    reason = col(REASONS)
    name = reason.str.replace(r"^line \d+: ", "line: ").str.split(": ").list.first().alias("name")
    by_name = rejected.select(reason.explode()).group_by(name)
    counted = by_name.agg(reason.min(), pl.len().alias("rows")).sort("rows", "name", descending=[True, False])
    most = counted.head(_MOST_REASONS).collect(engine="streaming")
    return dict(most.select(REASONS, "rows").iter_rows())


def broken(rules: Collection[str], rejected: pl.LazyFrame) -> dict[str, int]:
    """How many of the rejected rows broke each rule, by its name, and each column (``column total``); ``line``: how
    many lines could not be read; a reason of the transform's own stands for itself. The commonest first, at most
    :data:`_MOST_BROKEN`."""
    reason = col(REASONS)
    head = reason.str.replace(r"^line \d+: .*", "line").str.split(": ").list.first()
    label = pl.when((head == "line") | (head == reason)).then(head).otherwise(pl.lit("column ") + head)
    for name in rules:
        label = pl.when(reason.str.starts_with(f"{name}{BROKEN}")).then(pl.lit(name)).otherwise(label)
    by_label = rejected.select(REASONS).with_row_index("at").explode(REASONS).group_by(label.alias("label"))
    counted = by_label.agg(col("at").n_unique().alias("rows")).sort("rows", "label", descending=[True, False])
    return dict(counted.drop_nulls().head(_MOST_BROKEN).collect(engine="streaming").iter_rows())


def repeated(
    rows: pl.LazyFrame, keys: Sequence[pl.Expr], path: Path, *, height: int, at_once: int = AT_ONCE
) -> pl.Series:
    """The numbers of the rows whose keys an earlier row has, too, for too many rows to compare their keys in memory.

    Two digests of 64 bits and the number of each row go to a temporary file, 24 bytes, and are compared a share at a
    time, so that one share fits in memory. For two different rows to have both digests in common a file would need
    some billions of times more rows than any has.

    Args:
        rows: with :data:`ROW`, in the order of the file.
        keys: the columns that must be unique together.
        path: a temporary file.
        height: about how many rows there are.
        at_once: how many of them to compare at once.

    Raises:
        DataError: ``TooManyRepeated``.
    """
    digests = [pl.struct(*keys).hash(seed).alias(f"{position}") for position, seed in enumerate(_SEEDS)]
    rows.select(pl.col(ROW), *digests).sink_parquet(path, compression="uncompressed")
    shares = max(1, -(-height // at_once))
    numbers = pl.Series(ROW, [], dtype=pl.UInt64)
    for share in range(shares):
        some = pl.scan_parquet(path, glob=False).filter(pl.col("0") % shares == share)
        later = some.filter(~pl.struct("0", "1").is_first_distinct()).select(ROW)
        numbers = pl.concat([numbers, later.collect(engine="streaming").to_series()])
        if len(numbers) > MOST_REPEATED:
            raise DataError(
                "TooManyRepeated",
                f"more than {MOST_REPEATED:,} rows have the same key as an earlier one",
                hint="the columns in `unique` may not be the ones that tell rows apart; else make the file's rows "
                "unique before it is put, or drop `unique` and do it in the transform",
                place=Place(row=int(numbers[0])),
            )
    path.unlink()
    return numbers


def missing(name: str, names: list[str]) -> DataError:
    near = get_close_matches(name, names, n=1) or [column for column in names if column.lower() == name.lower()]
    shown = ", ".join(f'"{shorten(column)}"' for column in names[:12]) + (" …" if len(names) > 12 else "")
    return DataError(
        "MissingColumn",
        f'the column "{name}" is missing; the file has {shown or "no columns"}',
        hint=(f'did the sender rename it to "{near[0]}"? Then: rename={{"{near[0]}": "{name}"}}. Or ' if near else "")
        + "correct the file, change the contract, or set on_missing_column='fill' if it may be missing",
        place=Place(column=name),
    )


def unknown(names: Sequence[str]) -> DataError:
    return DataError(
        "ExtraColumn",
        f'the contract has no column "{shorten(names[0])}"' + (f" and {len(names) - 1} more" if len(names) > 1 else ""),
        hint="add it to the schema, or set on_extra_column to 'keep' or 'drop'",
        place=Place(column=names[0]),
    )


def renamed_onto(old: str, new: str, rival: str) -> DataError:
    return DataError(
        "DuplicateColumns",
        f'the file has both "{shorten(old)}", which the contract renames to "{shorten(new)}", and a column '
        f'"{shorten(rival)}"',
        hint="correct the file: remove the column that is not meant; the contract cannot know which one that is",
        place=Place(column=old),
    )


def not_boolean(name: str, dtype: pl.DataType) -> DataError:
    return DataError(
        "BrokenRule",
        f'the rule "{name}" is {dtype} over this file, where it should be true or false for each row',
        hint="compare it with something: pl.col('distance') > 0",
    )


def broken_drop(name: str, problem: str) -> DataError:
    return DataError(
        "BrokenRule",
        f'drop: "{name}" cannot be computed over this file: {problem.strip().partition(chr(10))[0]}',
        hint="it sees the columns as they were read, before the contract's casts: text, in a format that has no types; "
        "it must be true or false for each row",
    )


def broken_rule(
    name: str, needed: Sequence[str], known: Collection[str], names: list[str], error: Exception
) -> DataError:
    """``needed`` are the columns of the rule, ``known`` those that there are, of which ``names`` are the file's own."""
    unknown_columns = [column for column in needed if column not in known]
    if unknown_columns:
        fault = missing(unknown_columns[0], names)
        message = f'{fault.message}, and the rule "{name}" needs it'
        return DataError(fault.code, message, hint=fault.hint, place=fault.place)
    return DataError(
        "BrokenRule",
        f'the rule "{name}" cannot be computed over this file: {str(error).strip().partition(chr(10))[0]}',
        hint="name the columns of the rule in the contract's schema, so that they have the type that it needs",
    )
