"""What is recorded of a transform's silver: the schema that each code gives it, and how it became what it is. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from silversmith.schemas import kinds
from silversmith.schemas.widening import join

#: Of how many codes the schemas are kept, and how many changes.
MOST_CODES = 8
MOST_CHANGES = 500

#: So many columns of one change are told.
MOST_TOLD = 50


def schema_key(transform: str) -> str:
    """The key in silver under which the schemas of a transform are recorded. No transform is called ``_schemas``."""
    return f"_schemas/{transform}.json"


@dataclass(frozen=True)
class Schema:
    """The columns that silver has which one code makes; ``version`` 0: that code has not made any yet.

    ``large`` names the integer columns in which there are numbers that no Float64 gives back.
    """

    code: str
    version: int = 0
    columns: Mapping[str, pl.DataType] = field(default_factory=dict)
    large: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Entry:
    """One version: what changed with which bronze object, when (ISO 8601, UTC), by which code."""

    version: int
    at: str
    key: str
    code: str
    changes: Sequence[str]


@dataclass(frozen=True)
class Document:
    """All that is recorded of one transform. The schema whose code was first seen last is the last.

    ``owner`` is the name of the stack whose silver it is, of the pipeline where it runs locally; empty: nobody's yet.
    ``former`` are the names from which it was taken over: their objects are the owner's now.
    """

    transform: str
    schemas: tuple[Schema, ...] = ()
    history: tuple[Entry, ...] = ()
    owner: str = ""
    former: tuple[str, ...] = ()

    def owners(self, name: str) -> frozenset[str]:
        """Whose objects the stack ``name`` may replace, an empty name for objects that name nobody; none of them where
        this is another's."""
        return frozenset({"", name, *self.former}) if self.owner in {"", name} else frozenset()

    @property
    def version(self) -> int:
        """The newest version of any code's schema."""
        return max((schema.version for schema in self.schemas), default=0)

    def of(self, code: str) -> Schema:
        """The schema of one code's silver; version 0 where it has none yet."""
        return next((schema for schema in self.schemas if schema.code == code), Schema(code))

    def everything(self) -> dict[str, pl.DataType]:
        """The columns that any of the silver may have, whichever code made it. Of types that do not go together, the
        one that was begun last counts."""
        columns: dict[str, pl.DataType] = {}
        for schema in reversed(self.schemas):
            for name, kind in schema.columns.items():
                columns[name] = join(columns.get(name, pl.Null()), kind) or columns[name]
        return columns

    def changed(self, schema: Schema, *, key: str, at: str) -> Document:
        """The document once a code's schema has become another one, by the bronze object ``key``. Only columns make a
        version; the number that the schema is given with is left out of account."""
        before = self.of(schema.code)
        number = before.version
        history = self.history
        if schema.columns != before.columns or not number:
            number = self.version + 1
            told = tuple(differences(before.columns, schema.columns).values())[:MOST_TOLD]
            entry = Entry(number, at, key, schema.code, told)
            history = (*history, entry)[-MOST_CHANGES:]
        made = Schema(schema.code, number, schema.columns, schema.large)
        if before.version:
            schemas = tuple(made if one.code == made.code else one for one in self.schemas)
        else:
            schemas = (*self.schemas, made)[-MOST_CODES:]
        return replace(self, schemas=schemas, history=history)

    def to_json(self) -> bytes:
        content = {
            "transform": self.transform,
            **({"owner": self.owner} if self.owner else {}),
            **({"former": list(self.former)} if self.former else {}),
            "version": self.version,
            "schemas": [
                {
                    "code": schema.code,
                    "version": schema.version,
                    "columns": {name: kinds.text_of(kind) for name, kind in schema.columns.items()},
                    "large": sorted(schema.large),
                }
                for schema in self.schemas
            ],
            "history": [{**vars(entry), "changes": list(entry.changes)} for entry in self.history],
        }
        return json.dumps(content, indent=1).encode()

    @staticmethod
    def from_json(transform: str, body: bytes) -> Document:
        """The document that was recorded. One that cannot be read counts as none: the next file records it anew; but
        its owner stays where that can be read."""
        owner, former = _owners({})
        try:
            found: dict[str, Any] = json.loads(body)
            owner, former = _owners(found)
            schemas = tuple(
                Schema(
                    str(one["code"]),
                    int(one["version"]),
                    {str(name): kinds.parse(text) for name, text in one["columns"].items()},
                    frozenset(one["large"]),
                )
                for one in found["schemas"]
            )
            history = tuple(
                Entry(int(one["version"]), str(one["at"]), str(one["key"]), str(one["code"]), tuple(one["changes"]))
                for one in found["history"]
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return Document(transform, owner=owner, former=former)
        return Document(transform, schemas, history, owner, former)


def _owners(content: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Owner and former owners, as far as they are texts."""
    owner, former = content.get("owner"), content.get("former")
    names = former if isinstance(former, list) else []
    return owner if isinstance(owner, str) else "", tuple(name for name in names if isinstance(name, str))


def differences(before: Mapping[str, pl.DataType], after: Mapping[str, pl.DataType]) -> dict[str, str]:
    """What became of each column that changed: ``+ b: String``, ``- c: Date``, ``~ a: Int32 → Int64``."""
    told = {name: f"- {name}: {kind}" for name, kind in before.items() if name not in after}
    for name, kind in after.items():
        if name not in before:
            told[name] = f"+ {name}: {kind}"
        elif kind != before[name]:
            told[name] = f"~ {name}: {before[name]} → {kind}"
    return told
