"""The files that land in bronze, and the pipeline that makes silver of them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import polars as pl

from silversmith import Contract, Pipeline
from silversmith.stores import IN_MEMORY

Rows = list[tuple[int, str]]


def pipeline() -> Pipeline:
    """Rows with a number that is not positive are rejected."""
    pipeline = Pipeline("chaos")

    @pipeline.transform(
        "in/*.csv",
        contract=Contract(schema={"n": pl.Int64, "text": pl.String}, rules={"n is positive": pl.col("n") > 0}),
    )
    def doubled(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(twice=pl.col("n") * 2)

    return pipeline


@dataclass(frozen=True)
class File:
    """A file that lands under a key. ``rows`` None: it cannot become silver."""

    key: str
    body: bytes
    rows: Rows | None

    @property
    def good(self) -> list[tuple[int, str, int]]:
        """The rows of its silver object."""
        return [(n, text, 2 * n) for n, text in self.rows or () if n > 0]

    @property
    def rejected(self) -> int:
        """How many rows of it break the contract."""
        return sum(n <= 0 for n, _ in self.rows or ())


def file(random: Random, key: str, *, large: bool = False) -> File:
    """A file for a key: most are good, some have rows to be rejected, some are broken. ``large``: of several ranges."""
    if large:
        text = "x" * 500
        rows = [(random.randrange(1, 10**6), text) for _ in range(2 * IN_MEMORY // len(text) + 500)]
        return File(key, _csv(rows), rows)
    kind = random.random()
    rows = [(random.randrange(1, 10**6), f"text {random.random()}") for _ in range(random.randrange(1, 40))]
    if kind < 0.08:
        return File(key, b"n,other\n" + _csv(rows).partition(b"\n")[2], None)
    if kind < 0.16:
        return File(key, _csv(rows)[:-1] + b"\0\0\0\n", None)
    if kind < 0.3:
        rows += [(-random.randrange(10), "bad") for _ in range(random.randrange(1, 5))]
        random.shuffle(rows)
    return File(key, _csv(rows), rows)


def _csv(rows: Rows) -> bytes:
    return b"".join([b"n,text\n", *(f"{n},{text}\n".encode() for n, text in rows)])
