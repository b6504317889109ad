"""The context of a transform: the bronze object whose rows it gets, lookups, small tables in bronze, and ``reject()``.

Silver is a function of the declared lookups, too. So the lineage has their etags: those of the very bytes that were
read. docs/lookups.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from silversmith import formats
from silversmith.contract.rejected import REASONS
from silversmith.errors import DataError, DefinitionError, SourceChanged, SystemFault, TransformError
from silversmith.formats import Reader
from silversmith.formats.table import ROW, Table
from silversmith.pipeline.needs import Secrets, no_secrets
from silversmith.stores import Head, Store

#: Of a transform that declares none.
_NO_SECRETS = Secrets({}, no_secrets)


class LookupMissing(SystemFault):
    """A lookup that a transform reads is not in bronze. No fault of the file's: it is tried again."""


class LookupUnusable(SystemFault):
    """A lookup cannot be read as a table. No fault of the file's that asked for it: it is tried again."""


@dataclass(frozen=True)
class Context:
    """The bronze object whose rows a transform gets, for a transform that takes a second argument.

    Attributes:
        key: its key.
        etag: of the bytes that are read.
        size: in bytes.
        modified: when it was put, in UTC.
    """

    _head: Head
    _read: Callable[[str, Reader | None], Table] = field(repr=False, compare=False)
    _tables: list[Table] = field(default_factory=list, repr=False, compare=False)
    _secret: Callable[[str], str] = field(default=_NO_SECRETS, repr=False, compare=False)

    @property
    def key(self) -> str:
        return self._head.key

    @property
    def etag(self) -> str:
        return self._head.etag  # of a large file it may still be being worked out

    @property
    def size(self) -> int:
        return self._head.size

    @property
    def modified(self) -> datetime:
        return self._head.modified

    def read(self, key: str, reader: Reader | None = None) -> pl.LazyFrame:
        """The rows of a lookup: an object in bronze that the transform declares, ``lookups=["lookup/countries.csv"]``.

        It is read once in a worker, and again when it is another one.

        Args:
            key: its key in bronze.
            reader: how to read it; None: found out, as for any file.

        Raises:
            DefinitionError: the transform does not declare it.
            LookupMissing, LookupUnusable: see there. What asks for it fails, comes back, and goes to the dead-letter
                queue in the end: put the lookup, then ``silversmith redrive``.
        """
        table = self._read(key, reader)
        self._tables.append(table)  # its temporary files live as long as it does
        return table.rows.drop(ROW)

    def secret(self, name: str) -> str:
        """The value of a secret that the transform declares: ``secrets={"token": Secret(parameter="/shop/token")}``.

        It is read at its first use in a worker, and again when its time to live is over. Errors and log lines show
        ``***`` for it. docs/settings.md

        Args:
            name: as the transform declares it.

        Raises:
            DefinitionError: the transform does not declare it.
            SecretMissing: it is not there. What asks for it fails, comes back, and goes to the dead-letter queue in the
                end: put the secret, then ``silversmith redrive``.
            AccessDenied, AwsFailed: AWS did not give it.
        """
        return self._secret(name)


def alone(head: Head) -> Context:
    """The context of a bronze object where there are no lookups."""

    def refuse(key: str, _: Reader | None) -> Table:
        raise LookupMissing(f"there is no lookup {key!r} here")

    return Context(head, refuse)


def lookups_digest(etags: Mapping[str, str]) -> str:
    """32 hexadecimal digits for the keys and etags of lookups; empty where there are none."""
    if not etags:
        return ""
    return hashlib.sha256(json.dumps(sorted(etags.items())).encode()).hexdigest()[:32]


def current_digest(bronze: Store, keys: Sequence[str]) -> str:
    """The digest of the lookups as they are now: one HEAD request for each."""
    return Lookups(bronze, keys).digest


class Lookups:
    """The lookups of one transform in a worker: headed once in a batch, read once while they stay the same.

    Args:
        bronze: the bucket.
        keys: the declared ones.
        scratch: a folder for temporary files; None: the system's.
        name: the transform's, for errors.
        secret: gives the transform's secrets, by name.
    """

    def __init__(
        self,
        bronze: Store,
        keys: Sequence[str],
        scratch: Path | None = None,
        *,
        name: str = "",
        secret: Callable[[str], str] = _NO_SECRETS,
    ) -> None:
        self._bronze = bronze
        self._keys = tuple(keys)
        self._scratch = scratch
        self._name = name
        self._secret = secret
        self._etags: dict[str, str] | None = None
        self._tables: dict[str, tuple[str, Reader | None, Table]] = {}

    def look_again(self) -> None:
        """Ask the bucket again, at the next use, whether the lookups changed."""
        self._etags = None

    @property
    def etags(self) -> Mapping[str, str]:
        """By key; empty for one that is not there."""
        etags = self._etags  # another thread may forget them meanwhile
        if etags is None:
            heads = {key: self._bronze.head(key) for key in self._keys}
            etags = self._etags = {key: head.etag if head else "" for key, head in heads.items()}
        return etags

    @property
    def digest(self) -> str:
        """The digest that the lineage has."""
        return lookups_digest(self.etags)

    def context(self, head: Head) -> Context:
        """The context for the rows of a bronze object."""
        return Context(head, self._table, _secret=self._secret)

    def _table(self, key: str, reader: Reader | None) -> Table:
        if key not in self._keys:
            declared = json.dumps([*self._keys, key], ensure_ascii=False)
            raise DefinitionError(
                f"the transform {self._name!r} reads the lookup {key!r} and does not declare it, so that its role may "
                f"not read it, and nobody would know that silver depends on it: add lookups={declared}"
            )
        etag = self.etags[key]
        known = self._tables.get(key)
        if known is not None and known[:2] == (etag, reader):
            return known[2]
        self._tables.pop(key, None)
        table = self._read(key, etag, reader)
        self._tables[key] = etag, reader, table
        return table

    def _read(self, key: str, etag: str, reader: Reader | None) -> Table:
        """Read the bytes that the lineage will speak of, no others."""
        with self._bronze.open(key) as source:
            if (source.head.etag if source else "") != etag:
                self.look_again()
                raise SourceChanged(f"the lookup {key} changed while it was read")
            if source is None:
                raise LookupMissing(
                    f"the lookup {key!r} of the transform {self._name!r} is not in bronze: put it, then redrive"
                )
            try:
                table = formats.read(source, reader, scratch=self._scratch)
                # The source goes when the block ends; a lookup stays.
                if table.frame is None:
                    frame = table.rows.collect(engine="streaming")
                    table = Table(frame.lazy(), table.format, frame, malformed=table.malformed)
            except DataError as error:
                raise LookupUnusable(f"the lookup {key!r} cannot be read: {error.message}. {error.hint}") from None
            self._bronze.verify(source)
        if table.malformed is not None:
            number, _, reason = table.malformed.row(0)
            raise LookupUnusable(f"the lookup {key!r} has records that are no rows: number {number} {reason}")
        return table


# Rows that a transform itself rejects end where those that broke the contract do, with their reasons. Its plan has no
# side effects, so nothing is noted while it runs. Instead each reject() leaves a plan of its own behind: the rows that
# it takes out. For their numbers the function is called once more, over rows that carry them; one that rejects nothing
# is called once, and pays nothing.

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
