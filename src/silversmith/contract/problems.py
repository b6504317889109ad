"""What is wrong with a whole file, in words that say what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import polars as pl

from silversmith.contract.layout import Layout
from silversmith.errors import DataError, Place
from silversmith.formats.table import shorten


def missing(name: str, found: list[str]) -> DataError:
    near = get_close_matches(name, found, n=1) or [other for other in found if other.lower() == name.lower()]
    shown = ", ".join(f'"{shorten(other)}"' for other in found[:12]) + (" …" if len(found) > 12 else "")
    return DataError(
        "MissingColumn",
        f'the column "{name}" is missing; the file has {shown or "no columns"}',
        hint=(f'did the sender rename it to "{near[0]}"? Then: rename={{"{near[0]}": "{name}"}}. Or ' if near else "")
        + "mend the file, change the contract, or set on_missing_column='fill' if it may be missing",
        place=Place(column=name),
    )


def unknown(names: Sequence[str]) -> DataError:
    return DataError(
        "ExtraColumn",
        f'the contract does not know the column "{shorten(names[0])}"'
        + (f" and {len(names) - 1} more" if len(names) > 1 else ""),
        hint="add it to the schema, or set on_extra_column to 'keep' or 'drop'",
        place=Place(column=names[0]),
    )


def renamed_onto(old: str, new: str) -> DataError:
    return DataError(
        "DuplicateColumns",
        f'the file has both "{shorten(old)}", which the contract renames to "{new}", and a column "{new}"',
        hint="mend the file, or take the one that is not meant out of it; the contract cannot know which that is",
        place=Place(column=old),
    )


def not_a_verdict(name: str, kind: pl.DataType) -> DataError:
    return DataError(
        "BrokenRule",
        f'the rule "{name}" is {kind} over this file, where it should be true or false for each row',
        hint="compare it with something: pl.col('distance') > 0",
    )


def broken_rule(name: str, rule: pl.Expr, layout: Layout, error: Exception) -> DataError:
    known = {*layout.kinds, *layout.schema}
    strange = [column for column in rule.meta.root_names() if column not in known]
    if strange:
        found = missing(strange[0], list(layout.kinds))
        return DataError(
            "MissingColumn",
            f'{found.message}, and the rule "{name}" needs it',
            hint=found.hint,
            place=found.place,
        )
    return DataError(
        "BrokenRule",
        f'the rule "{name}" cannot be computed over this file: {str(error).strip().partition(chr(10))[0]}',
        hint="name the columns of the rule in the contract's schema, so that they have the type that it needs",
    )
