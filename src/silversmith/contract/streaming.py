"""A large CSV file checked against a contract in one pass, part by part: for contracts that judge each row by itself.

Polars' own ``meta.is_row_separable`` looks at the outermost operation only. So a rule is taken for one of single rows
where every operation in it is known here to be; any other may be one, and is not taken for it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from silversmith.contract import contract as whole
from silversmith.contract.contract import Contract
from silversmith.contract.layout import Layout
from silversmith.formats.archives.content import Scratch
from silversmith.formats.csv import CsvStream, Part, chosen
from silversmith.formats.spill import IN_MEMORY, Spill
from silversmith.formats.table import Table


@dataclass(frozen=True)
class Rowwise:
    """A contract for the parts of one file. ``schema`` is that of good rows, ``names`` are those of typed ones."""

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
        return whole.all_good(self.contract, rows, self.layout)

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
    dtypes = dict(zip(names, kinds.values(), strict=True))
    empty = pl.DataFrame(schema=dtypes)
    layout = whole.lay_out(contract, Table(empty.lazy(), "", empty, decimal_comma=decimal_comma), dtypes)
    whole.try_rules(contract, layout)
    return Rowwise(contract, layout, tuple(names))


@dataclass
class OnePass:
    """One pass over a stream, and its results: complete after :meth:`finish`.

    Up to ``in_memory`` bytes of rejected rows are kept in memory. ``careful`` counts the blocks that were read as text.

    The user's plan may read some of the good rows, all of them, or all of them twice: the first reading is the pass
    that counts, :meth:`finish` ends it, and any other reading is for the rows alone.
    """

    stream: CsvStream
    rowwise: Rowwise
    scratch: Scratch
    in_memory: int = IN_MEMORY
    records: int = 0
    newest: list[pl.DataFrame] = field(default_factory=list)
    careful: int = 0
    _parts: Generator[Part] | None = None
    _begun: bool = False
    _failure: BaseException | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._rejected = Spill(self.scratch, in_memory=self.in_memory, ending=".rejected.arrow")

    @property
    def rejected(self) -> int:
        """How many rows were rejected so far."""
        return self._rejected.height

    def begin(self) -> None:
        """Read the first rows, in other threads, while the transform's plan is made."""
        with self._turn:
            self._begun_parts()

    def _begun_parts(self) -> Generator[Part]:
        if self._parts is None:
            self._parts = self.stream.parts(self.rowwise.judge)
        return self._parts

    def good(self) -> pl.LazyFrame:
        """The good rows. Its pass raises what :meth:`silversmith.formats.csv.CsvStream.parts` does."""
        return register_io_source(self._read, schema=self.rowwise.schema, is_pure=True)

    def finish(self) -> None:
        """Read the rest, which the plan has not read.

        Raises:
            DataError, polars.exceptions.PolarsError: a reading of the pass that counts has failed.
        """
        for _ in self._counted():
            pass
        if self._failure is not None:
            raise self._failure

    def newest_values(self) -> dict[str, Any] | None:
        """The greatest value of each column that must be fresh; None where none must."""
        if not self.rowwise.contract.expectations.fresh:
            return None
        return pl.concat(self.newest).max().row(0, named=True) if self.newest else {}

    def rejected_rows(self) -> pl.LazyFrame | None:
        """The rejected rows in the order of the file; None where there are none."""
        return self._rejected.rows() if self.rejected else None

    def close(self) -> None:
        """Stop reading."""
        with self._turn:
            if self._parts is not None:
                self._parts.close()

    def _read(
        self, columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        """The rows as Polars asks a source for them. ``most`` rows are taken before the predicate is."""
        with self._turn:
            first, self._begun = not self._begun, True
        for frame in self._counted() if first else self._again():
            yield chosen(frame, columns, predicate, most)
            most = None if most is None else max(0, most - frame.height)
            if most == 0:
                return

    def _counted(self) -> Iterator[pl.DataFrame]:
        """The good rows of the pass that counts, from where it is."""
        while (good := self._next()) is not None:
            yield good

    def _next(self) -> pl.DataFrame | None:
        """The next good rows of that pass; None at its end. A plan that has enough may be here still, in a thread of
        Polars', when :meth:`finish` comes for the rest."""
        with self._turn:
            try:
                part = next(self._begun_parts(), None)
                if part is None:
                    return None
                good, rejected = self._divided(part)
            except BaseException as error:
                self._failure = error  # a plan that has enough asks no more, and would not see it
                raise
            self.records += part.records
            self.careful += part.judged is None
            if rejected is not None:
                self._rejected.add(rejected)
            fresh = self.rowwise.contract.expectations.newest()
            if fresh:
                self.newest.append(good.select(fresh))
            return good

    def _again(self) -> Iterator[pl.DataFrame]:
        for part in self.stream.parts(self.rowwise.judge):
            yield self._divided(part)[0]

    def _divided(self, part: Part) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        if part.judged is not None:
            return part.judged, None
        assert part.table is not None, "a part is typed rows or text"
        return self.rowwise.split(part.table)


def one_pass(stream: CsvStream, contract: Contract, scratch: Scratch, *, in_memory: int = IN_MEMORY) -> OnePass | None:
    """A pass that has not begun; None where the contract has to see all rows at once.

    Raises:
        DataError: the columns and the contract do not go together.
    """
    by_row = rowwise(contract, stream.dtypes, decimal_comma=stream.options.decimal_comma)
    return None if by_row is None else OnePass(stream, by_row, scratch, in_memory)


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
    """Whether the contract judges each row without looking at any other."""
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
