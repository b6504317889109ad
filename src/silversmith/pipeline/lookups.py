"""The context of a transform: the bronze object whose rows it gets, and lookups, small tables in bronze.

Silver is a function of the declared lookups, too. So the lineage has their etags: those of the very bytes that were
read. docs/lookups.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import polars as pl

from silversmith import formats
from silversmith.errors import DataError, DefinitionError, SourceChanged, SystemFault
from silversmith.formats import Reader
from silversmith.formats.table import ROW, Table
from silversmith.pipeline.needs import Secrets, no_secrets
from silversmith.stores import Head, Store

#: Of a transform that declares none.
_NO_SECRETS = Secrets({}, no_secrets)


class Declared(Protocol):
    """A transform, as far as its lookups matter."""

    @property
    def name(self) -> str: ...
    @property
    def lookups(self) -> Sequence[str]: ...


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

    @staticmethod
    def of(
        transform: Declared, bronze: Store, scratch: Path | None, secret: Callable[[str], str] = _NO_SECRETS
    ) -> Lookups:
        """The lookups of a transform."""
        return Lookups(bronze, transform.lookups, scratch, name=transform.name, secret=secret)

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
