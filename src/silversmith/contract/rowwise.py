"""Whether a contract judges each row by itself, so that a file can be held against it one part at a time.

Polars' own ``meta.is_row_separable`` looks at the outermost operation only. So a rule is taken for one of single rows
where every operation in it is known here to be; any other may be one, and is not taken for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from silversmith.contract import checking
from silversmith.contract.layout import Layout
from silversmith.formats.table import Table

if TYPE_CHECKING:
    from silversmith.contract.declared import Contract


@dataclass(frozen=True)
class Rowwise:
    """A contract held against the parts of one file. ``schema`` is that of good rows, ``names`` those of typed ones."""

    contract: Contract
    layout: Layout
    names: tuple[str, ...]

    @property
    def schema(self) -> pl.Schema:
        empty = self.judge(pl.DataFrame(schema=self.layout.kinds))
        assert empty is not None, "no row breaks a rule"
        return empty.schema

    def judge(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        """The good rows, if all of them are. ``rows`` are typed, without numbers."""
        rows.columns = list(self.names)
        return checking.all_good(self.contract, rows, self.layout)

    def split(self, table: Table) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """As :meth:`silversmith.Contract.split`."""
        assert table.frame is not None
        return self.contract.split(table.frame, table)


def rowwise(contract: Contract, kinds: Mapping[str, pl.DataType], *, decimal_comma: bool) -> Rowwise | None:
    """The contract for a file with such columns; None where it has to see all rows at once.

    Raises:
        DataError: they do not go together.
    """
    names = [contract.rename.get(name, name) for name in kinds]
    if not is_rowwise(contract) or len(set(names)) < len(names):
        return None
    found = dict(zip(names, kinds.values(), strict=True))
    empty = pl.DataFrame(schema=found)
    layout = checking.lay_out(contract, Table(empty.lazy(), "", empty, decimal_comma=decimal_comma), found)
    checking.try_rules(contract, layout)
    return Rowwise(contract, layout, tuple(names))


_BOOLEAN = {
    *("Not", "IsNull", "IsNotNull", "IsNan", "IsNotNan", "IsFinite", "IsInfinite", "IsBetween", "IsIn"),
    *("AllHorizontal", "AnyHorizontal"),
}
_TEXT = {
    *("Contains", "StartsWith", "EndsWith", "LenChars", "LenBytes", "Lowercase", "Uppercase", "Slice", "Head", "Tail"),
    *("StripChars", "StripCharsStart", "StripCharsEnd", "StripPrefix", "StripSuffix"),
}
_TIME = {
    *("Year", "Quarter", "Month", "Week", "WeekDay", "Day", "OrdinalDay", "Hour", "Minute", "Second", "Date", "Time"),
}
_OTHERS = {"Abs", "Round", "Floor", "Ceil", "FillNull", "Coalesce", "Negate"}


def is_rowwise(contract: Contract) -> bool:
    """Whether what the contract says of a row depends on no other row."""
    return not contract.unique and all(map(is_of_single_rows, contract.rules.values()))


def is_of_single_rows(rule: pl.Expr) -> bool:
    """Whether a rule computes each row's verdict from that row alone."""
    try:
        tree = json.loads(rule.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, ValueError):
        return False
    return bool(rule.meta.root_names()) and _is_plain(tree)


def _is_plain(node: Any) -> bool:
    if not isinstance(node, dict) or len(node) != 1:
        return False
    ((kind, content),) = node.items()
    if kind == "Literal":
        return isinstance(content, dict) and set(content) <= {"Dyn", "Scalar"}  # a series has rows of its own
    if kind == "Function" and not _is_known(content["function"]):
        return False
    return kind == "Column" or (kind in _INNER and all(map(_is_plain, _INNER[kind](content))))


#: What is computed from what.
_INNER: Mapping[str, Callable[[Any], list[Any]]] = {
    "BinaryExpr": lambda content: [content["left"], content["right"]],
    "Ternary": lambda content: [content[part] for part in ("predicate", "truthy", "falsy")],
    "Cast": lambda content: [content["expr"]],
    "Function": lambda content: content["input"],
}


def _is_known(function: Any) -> bool:
    families = {"Boolean": _BOOLEAN, "StringExpr": _TEXT, "TemporalExpr": _TIME}
    if isinstance(function, dict) and len(function) == 1:
        ((family, name),) = function.items()
        if family in families:
            name = next(iter(name)) if isinstance(name, dict) else name
            return name in families[family]
        return family in _OTHERS
    return isinstance(function, str) and function in _OTHERS
