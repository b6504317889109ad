"""Which rows repeat an earlier one, for more rows than memory could hold the values of.

The values themselves are not kept: of each row two digests of 64 bits and its number are written to a temporary file,
24 bytes, and looked at a share at a time, so that one share fits in memory. That two different rows have both digests
in common would take some billions of times more rows than any file has.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from silversmith.errors import DataError, Place
from silversmith.formats.table import ROW

#: Up to so many rows are compared at once. A row among them takes about 130 bytes.
AT_ONCE = 500_000

#: So many rows of one file may repeat others: what they are is held in memory.
MOST_REPEATED = 2_000_000

_SEEDS = (0x51, 0x1A)


def repeated(
    rows: pl.LazyFrame, keys: Sequence[pl.Expr], path: Path, *, height: int, at_once: int = AT_ONCE
) -> pl.Series:
    """The numbers of the rows whose keys an earlier row has, too.

    Args:
        rows: those that count, with :data:`ROW`, in the order of the file.
        keys: what may not be there twice.
        path: a temporary file.
        height: about how many rows there are.
        at_once: how many of them to compare at once.

    Raises:
        DataError: ``TooManyRepeated``.
    """
    digests = [pl.struct(*keys).hash(seed).alias(f"{position}") for position, seed in enumerate(_SEEDS)]
    rows.select(pl.col(ROW), *digests).sink_parquet(path, compression="uncompressed")
    shares = max(1, -(-height // at_once))
    found = pl.Series(ROW, [], dtype=pl.UInt64)
    for share in range(shares):
        some = pl.scan_parquet(path, glob=False).filter(pl.col("0") % shares == share)
        again = some.filter(~pl.struct("0", "1").is_first_distinct()).select(ROW)
        found = pl.concat([found, again.collect(engine="streaming").to_series()])
        if len(found) > MOST_REPEATED:
            raise DataError(
                "TooManyRepeated",
                f"more than {MOST_REPEATED:,} rows have the same key as an earlier one",
                hint="the columns in `unique` may not be the ones that tell rows apart; else make the file's rows "
                "unique before it is put, or drop `unique` and do it in the transform",
                place=Place(row=int(found[0])),
            )
    path.unlink()
    return found
