"""A pipeline's tables and views, as plain data: the table function gets it as JSON, and no user's module."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

#: The columns that every table has before silver's: the bronze key that a row came from, and the ETag of its silver.
FILE, ETAG = "_file", "_etag"

#: The name of the table with the lineage. No table that a user declares begins with an underscore.
LINEAGE = "_lineage"

#: How often a message is received whose file a table cannot take, or after which a view cannot be computed, before it
#: goes to the dead-letter queue.
TRIES = 10


@dataclass(frozen=True)
class TableSpec:
    """A table that holds every row of one transform's silver, once."""

    name: str
    transform: str
    partition_by: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class ViewSpec:
    """A table that a query over other tables and views computes.

    ``sources`` are their names. ``groups`` says how a changed row of a source names the groups that it touches: for
    each source lists of SQL expressions, one expression for each column of ``by``, and a list for each place of the
    query that reads the source. When a source changes that is not in ``groups``, the whole view is computed anew.
    """

    name: str
    sql: str
    sources: tuple[str, ...]
    by: tuple[str, ...] = ()
    groups: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class GoldSpec:
    """All tables and views of a pipeline, and the names of the transforms whose lineage is a table, too. A view stands
    after what it reads."""

    tables: tuple[TableSpec, ...] = ()
    views: tuple[ViewSpec, ...] = ()
    lineage: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything in gold."""
        return bool(self.tables or self.lineage)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all that is in gold."""
        own = (LINEAGE,) if self.lineage else ()
        return (*(table.name for table in self.tables), *(view.name for view in self.views), *own)

    @property
    def transforms(self) -> tuple[str, ...]:
        """The transforms of whose silver something in gold is made."""
        return tuple(dict.fromkeys((*(table.transform for table in self.tables), *self.lineage)))

    def of_transform(self, transform: str) -> tuple[TableSpec, ...]:
        """The tables that a transform's silver feeds."""
        return tuple(table for table in self.tables if table.transform == transform)

    def views_over(self, names: Iterable[str]) -> tuple[ViewSpec, ...]:
        """The views that read one of these tables or views, directly or through other views, in their order."""
        reached = set(names)
        views = []
        for view in self.views:
            if reached & set(view.sources):
                reached.add(view.name)
                views.append(view)
        return tuple(views)

    def to_json(self) -> str:
        values = asdict(self)
        if not self.lineage:  # a new option does not change what was deployed before it
            del values["lineage"]
        return json.dumps(values, separators=(",", ":"))

    @staticmethod
    def from_json(text: str | bytes) -> GoldSpec:
        """
        Raises:
            ValueError, KeyError, TypeError: the text was not made by :meth:`to_json`.
        """
        content: dict[str, Any] = json.loads(text)
        return GoldSpec(
            tuple(
                TableSpec(table["name"], table["transform"], tuple(table["partition_by"]), tuple(table["sort_by"]))
                for table in content["tables"]
            ),
            tuple(
                ViewSpec(
                    view["name"],
                    view["sql"],
                    tuple(view["sources"]),
                    tuple(view["by"]),
                    {
                        source: tuple(tuple(expressions) for expressions in places)
                        for source, places in view["groups"].items()
                    },
                )
                for view in content["views"]
            ),
            tuple(content.get("lineage", ())),
        )
