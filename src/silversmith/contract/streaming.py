"""A large CSV file checked against a contract in one pass, part by part, if the contract judges each row by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from silversmith.contract.contract import Contract, Layout, drops
from silversmith.formats.archives.content import Scratch
from silversmith.formats.csv import select
from silversmith.formats.csv.blocks import CsvStream, Part, Parts
from silversmith.formats.spill import IN_MEMORY, Spill


class OnePass:
    """One pass over a stream, and its results: complete after :meth:`finish`.

    A plan may read the good rows several times, or stop early. Its first reading is the pass that counts the records
    and keeps the rejected rows; :meth:`finish` ends it, and any other reading is for the plan alone.

    Attributes:
        records: how many records the pass has read.
        careful: how many parts of them were read as text.
        dropped: how many of them the contract drops.
    """

    def __init__(self, stream: CsvStream, layout: Layout, scratch: Scratch, *, in_memory: int) -> None:
        self._stream, self._contract, self._layout = stream, layout.contract, layout
        self._names = list(layout.dtypes)
        self._rejected = Spill(scratch, in_memory=in_memory, ending=".rejected.arrow")
        self._newest: list[pl.DataFrame] = []
        self._parts: Parts | None = None
        self._is_read = False
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self.records = 0
        self.careful = 0
        self.dropped = 0
        self._drops = drops(layout.contract, layout.dtypes) if layout.contract.drop else None

    @property
    def rejected(self) -> int:
        """The number of rejected rows so far."""
        return self._rejected.height

    def begin(self) -> None:
        """Have threads read the first rows, while the transform's plan is made."""
        with self._lock:
            self._begun_parts()

    def _begun_parts(self) -> Parts:
        if self._parts is None:
            self._parts = self._stream.parts(self._good_rows)
        return self._parts

    def good(self) -> pl.LazyFrame:
        """The good rows. Collecting them raises DataError if the file cannot be read."""
        empty = self._good_rows(pl.DataFrame(schema=self._layout.dtypes))
        assert empty is not None, "no row breaks a rule"
        return register_io_source(self._read, schema=empty.schema, is_pure=True)

    def finish(self) -> None:
        """Read the rest, which the plan has not read.

        Raises:
            DataError, polars.exceptions.PolarsError: the pass has failed, now or in the plan.
        """
        for _ in self._counted():
            pass
        if self._failure is not None:
            raise self._failure

    def newest_values(self) -> dict[str, Any] | None:
        """The greatest value of each column that must be fresh; None if none must."""
        if not self._contract.expectations.fresh:
            return None
        return pl.concat(self._newest).max().row(0, named=True) if self._newest else {}

    def rejected_rows(self) -> pl.LazyFrame | None:
        """The rejected rows in the order of the file; None if there are none."""
        return self._rejected.rows() if self.rejected else None

    def close(self) -> None:
        """Stop reading."""
        with self._lock:
            if self._parts is not None:
                self._parts.close()

    def _read(
        self, columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _size: int | None
    ) -> Iterator[pl.DataFrame]:
        """The rows as Polars requests them from a source. ``most`` rows are taken before the predicate is applied."""
        with self._lock:
            is_first, self._is_read = not self._is_read, True
        for frame in self._counted() if is_first else self._read_again():
            yield select(frame, columns, predicate, most)
            most = None if most is None else max(0, most - frame.height)
            if most == 0:
                return

    def _counted(self) -> Iterator[pl.DataFrame]:
        """The good rows of the pass that counts, from its position on."""
        while (good := self._next()) is not None:
            yield good

    def _next(self) -> pl.DataFrame | None:
        """The next good rows of that pass; None at its end.

        A plan that has enough rows may still be in here, in a thread of Polars, when :meth:`finish` reads the rest.
        """
        with self._lock:
            try:
                part = next(self._begun_parts(), None)
                if part is None:
                    return None
                good, rejected, dropped = self._split(part)
            except BaseException as error:
                self._failure = error  # a plan that has enough rows reads no more, and would not see it
                raise
            self.records += part.records
            self.careful += part.good is None
            self.dropped += dropped
            if rejected is not None:
                self._rejected.add(rejected)
            newest = self._contract.expectations.newest()
            if newest:
                self._newest.append(good.select(newest))
            return good

    def _read_again(self) -> Iterator[pl.DataFrame]:
        with closing(self._stream.parts(self._good_rows)) as parts:
            for part in parts:
                yield self._split(part)[0]

    def _good_rows(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        """Typed rows without numbers as good rows; None if one of them is bad, or dropped."""
        rows.columns = self._names
        if self._drops is not None and rows.select(self._drops.any()).item():
            return None
        return self._layout.all_good(rows)

    def _split(self, part: Part) -> tuple[pl.DataFrame, pl.DataFrame | None, int]:
        """Good rows, rejected ones, and how many are dropped."""
        if part.good is not None:
            return part.good, None, 0
        assert part.table is not None
        table, _ = self._contract.dropping(part.table)
        assert table.frame is not None
        return *self._contract.split(table.frame, table), part.table.records - table.records


def one_pass(stream: CsvStream, contract: Contract, scratch: Scratch, *, in_memory: int = IN_MEMORY) -> OnePass | None:
    """A pass that has not begun; None if the contract has to see all rows at once.

    Raises:
        DataError: the columns and the contract do not go together.
    """
    names = contract.named(list(stream.dtypes))
    if not is_rowwise(contract) or len(set(names)) < len(names):
        return None
    looked_at = {column for rule in contract.drop.values() for column in rule.meta.root_names()}
    looked_at |= contract.formats.keys()
    if looked_at:  # before the casts all is text
        texts = {name: pl.String() for name, new in zip(stream.dtypes, names, strict=True) if new in looked_at}
        stream = replace(stream, dtypes={**stream.dtypes, **texts})
    dtypes = dict(zip(names, stream.dtypes.values(), strict=True))
    layout = Layout(contract, dtypes, decimal_comma=stream.options.decimal_comma)
    layout.try_rules()
    return OnePass(stream, layout, scratch, in_memory=in_memory)


def is_rowwise(contract: Contract) -> bool:
    """Whether the contract judges each row without looking at any other."""
    return not contract.unique and all(map(is_of_single_rows, [*contract.rules.values(), *contract.drop.values()]))


def is_of_single_rows(rule: pl.Expr) -> bool:
    """Whether a rule computes the answer for each row from that row alone."""
    try:
        return bool(rule.meta.root_names()) and rule.meta.is_length_preserving() and _is_of_single_rows(rule)
    except pl.exceptions.PolarsError:
        return False


def _is_of_single_rows(expression: pl.Expr) -> bool:
    """Whether an expression and its inputs are: Polars' answers are about the outermost operation only.

    A series has rows of its own, and so has the output of a filter: both have another length than the rows.
    """
    meta = expression.meta
    if not meta.is_row_separable() or not (meta.is_length_preserving() or meta.is_scalar()):
        return False
    return all(map(_is_of_single_rows, meta.pop()))
