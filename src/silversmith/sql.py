"""A transform that is one SQL query. https://docs.pola.rs/user-guide/sql/intro/"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl
from polars.exceptions import PolarsError

from silversmith.errors import DefinitionError

_COMMENTS = re.compile(r"\s+|--[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Sql:
    """A query over the table ``rows``, to be called like a transform's function."""

    query: str

    def __call__(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        return pl.SQLContext(rows=rows, eager=False).execute(inspect.cleandoc(self.query))

    def check(self, schema: Mapping[str, pl.DataType | type[pl.DataType]] | None) -> None:
        """Look for what would fail at every file; ``schema`` is that of ``rows``, None where it is not known.

        Raises:
            DefinitionError: it is no SELECT, cannot be parsed, or names an unknown table, function or column.
        """
        if not isinstance(self.query, str):
            raise DefinitionError(f"it is a {type(self.query).__name__}, not a text")
        start = 0
        while comment := _COMMENTS.match(self.query, start):
            start = comment.end()
        if not re.match(r"(select|with)\b", self.query[start:], re.IGNORECASE):
            raise DefinitionError("it must be one SELECT, or WITH … SELECT: it makes rows of rows, and changes nothing")
        try:
            made = self(pl.LazyFrame(schema=schema or {}))
        except PolarsError as error:
            raise DefinitionError(_first_line(error)) from None
        try:
            made.collect_schema()
        except PolarsError as error:
            if schema is not None or _FAILS_ALWAYS.match(str(error)):
                raise DefinitionError(_first_line(error)) from None


#: What is said of names other than columns: without a schema all columns are unknown, which says nothing.
_FAILS_ALWAYS = re.compile(r"relation '|unsupported function")


def _first_line(error: PolarsError) -> str:
    line = str(error).strip().partition("\n")[0]
    return f"{line} (the table is called rows)" if line.startswith("relation") else line
