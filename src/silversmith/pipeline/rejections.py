"""Rows that a transform itself rejects: they end where those that broke the contract do, with their reasons.

A transform's plan has no side effects, so nothing is noted while it runs. Instead each :func:`reject` leaves a plan of
its own behind: the rows that it takes out. For their numbers the function is called once more, over rows that carry
them; one that rejects nothing is called once, and pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import polars as pl

from silversmith.contract.rejected import REASONS
from silversmith.errors import DefinitionError, TransformError
from silversmith.formats.table import ROW

#: So many rows of one file may be rejected so: their numbers and reasons are kept in memory.
MOST_REJECTED = 2_000_000


class Rejections:
    """The rows that :func:`reject` takes out during one call of a transform. ``numbered``: its rows have numbers."""

    def __init__(self, *, numbered: bool) -> None:
        self.is_used = False
        self._numbered = numbered
        self._plans: list[pl.LazyFrame] = []

    def add(self, rows: pl.LazyFrame, reason: pl.Expr) -> None:
        """Note rows that were taken out.

        Raises:
            TransformError: they have lost their numbers.
        """
        self.is_used = True
        if not self._numbered:
            return
        if rows.collect_schema().get(ROW) != pl.UInt64:
            raise TransformError(
                "silversmith.reject() comes after a select(), group_by() or the like, and it is not known any more "
                "which row of the file it means: reject before these steps, or use with_columns() in place of select()"
            )
        self._plans.append(rows.select(pl.col(ROW), reason.cast(pl.String).alias(REASONS)))

    def rows(self) -> pl.LazyFrame:
        """The number of each rejected row, once, and a list of its reasons."""
        if not self._plans:
            return pl.LazyFrame(schema={ROW: pl.UInt64, REASONS: pl.List(pl.String)})
        by_row = pl.concat(self._plans).group_by(ROW).agg(pl.col(REASONS).drop_nulls().unique(maintain_order=True))
        return by_row.head(MOST_REJECTED + 1)


_CURRENT: ContextVar[Rejections | None] = ContextVar("rejections", default=None)


@contextmanager
def noted(*, numbered: bool = False) -> Iterator[Rejections]:
    """Note what is rejected inside the block."""
    rejections = Rejections(numbered=numbered)
    token = _CURRENT.set(rejections)
    try:
        yield rejections
    finally:
        _CURRENT.reset(token)


def reject(condition: pl.Expr, why: str | pl.Expr) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    """Take rows out of a transform's rows, and put them with the rejected rows, as a contract does.

    >>> rows.join(articles, on="article", how="left").pipe(
    ...     silversmith.reject(pl.col("name").is_null(), "nobody knows this article")
    ... )

    A row of the file is rejected once, whatever number of rows the transform has made of it by then.

    Args:
        condition: true for the rows to reject. Where it is null, a row stays, as with a contract's rules.
        why: the reason, or an expression that makes it: ``pl.format("no article {}", "article")``.

    Returns:
        What ``pl.LazyFrame.pipe`` takes. Outside of a run, as in a test that calls the transform, it only filters.

    Raises:
        DefinitionError: the arguments are no such things.
    """
    if not isinstance(condition, pl.Expr):
        raise DefinitionError(
            f"silversmith.reject({condition!r}, …): give an expression, such as pl.col('price') < 0, and use it as "
            "rows.pipe(silversmith.reject(…))"
        )
    if not isinstance(why, pl.Expr) and not (isinstance(why, str) and why.strip()):
        raise DefinitionError(f"silversmith.reject(…, {why!r}): give the reason, which people read: 'no such article'")
    reason = pl.lit(why) if isinstance(why, str) else why
    is_bad = condition.fill_null(value=False)

    def without(rows: pl.LazyFrame) -> pl.LazyFrame:
        rejections = _CURRENT.get()
        if rejections is not None:
            rejections.add(rows.filter(is_bad), reason)
        return rows.filter(~is_bad)

    return without
