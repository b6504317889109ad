"""Views: tables that a query over other tables computes, and that follow them.

A view keeps, with each of its commits, the version of each source that it was made of. The changes of a source since
then name the groups that were touched; these are computed from the source as it is now, and replaced in one commit,
valid only if the view is still what it was when its sources were read.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from itertools import chain

from silversmith import faults
from silversmith.tables.format import Format, GoldFailed, Refused, Rows, Snapshot, quoted, text
from silversmith.tables.spec import ViewSpec
from silversmith.tables.types import Decimal as DecimalType
from silversmith.tables.types import SchemaRefused, Type, fitted, require_fields, require_names

#: With more touched groups than this the whole view is computed anew.
MOST_GROUPS = 1_000

#: A view notes that its sources changed in nothing that touches it once they are so many versions further.
UNNOTED = 20

#: How often a view is begun anew because somebody else was first.
ATTEMPTS = 20

_log = logging.getLogger(__name__)


class Refresh(StrEnum):
    """The result of a view's refresh."""

    CURRENT = "current"  #: it was made of these versions already, or of such as have the same rows for it
    GROUPS = "groups"  #: the groups that were touched were computed anew
    WHOLE = "whole"  #: all of it was
    WAITING = "waiting"  #: a source has no rows yet, so there is no table of it


@dataclass(frozen=True)
class Difference:
    """The number of rows that a view lacks, and that it has too many, beside its query over all rows."""

    lacking: int
    surplus: int


def refresh(
    views: Iterable[ViewSpec], gold: Format, *, step: Callable[[str], None] = faults.point
) -> dict[str, Refresh]:
    """Bring views up to date with their sources, in this order.

    Raises:
        Refused: others committed so often that nothing was done: try again.
        GoldFailed: a query cannot be run, or gold cannot be read or written.
        SchemaRefused: the columns of a query's result cannot be a table's.
    """
    return {view.name: _persistent(view, gold, step) for view in views}


def _persistent(view: ViewSpec, gold: Format, step: Callable[[str], None]) -> Refresh:
    for _ in range(ATTEMPTS - 1):
        with suppress(Refused):
            return _refresh(view, gold, step)
    return _refresh(view, gold, step)


def _refresh(view: ViewSpec, gold: Format, step: Callable[[str], None]) -> Refresh:
    snapshot = gold.read(view.name)  # before the sources, or older ones could win
    sources = _sources(view, gold)
    if sources is None:
        return Refresh.WAITING
    made_of = _made_of(view, snapshot, sources)
    if made_of == {name: source.version for name, source in sources.items()}:
        return Refresh.CURRENT
    where = _touched(view, snapshot, sources, made_of, gold)
    if where == "":
        lag = max(source.version - (made_of or {})[name] for name, source in sources.items())
        if lag >= UNNOTED and snapshot is not None:
            snapshot.commit([], marks=_marks(view, sources))
        return Refresh.CURRENT
    if snapshot is not None and where is not None:
        rows = gold.query(sources, f"select * from (\n{view.sql}\n) as v where {where}")  # noqa: S608 -- quoted
        columns = _columns(view, rows)
        if columns == snapshot.columns:
            step("tables.view_computed")
            snapshot.commit(
                (fitted(batch, columns) for batch in rows.batches), where=where, marks=_marks(view, sources)
            )
            step("tables.view_committed")
            return Refresh.GROUPS
    _rewrite(view, snapshot, sources, gold, step)
    return Refresh.WHOLE


def _sources(view: ViewSpec, gold: Format) -> dict[str, Snapshot] | None:
    sources: dict[str, Snapshot] = {}
    for name in view.sources:
        source = gold.read(name)
        if source is None:
            return None
        sources[name] = source
    return sources


def _rewrite(
    view: ViewSpec,
    snapshot: Snapshot | None,
    sources: Mapping[str, Snapshot],
    gold: Format,
    step: Callable[[str], None],
) -> Snapshot:
    """The view as a whole."""
    rows = gold.query(sources, view.sql)
    columns = _columns(view, rows)
    if snapshot is None:
        snapshot = gold.create(view.name, columns)
    step("tables.view_computed")
    rewritten = snapshot.rewrite(
        (fitted(batch, columns) for batch in rows.batches), columns, partition_by=(), marks=_marks(view, sources)
    )
    step("tables.view_committed")
    return rewritten


def _columns(view: ViewSpec, rows: Rows) -> dict[str, Type]:
    try:
        columns = rows.columns
    except ValueError as error:
        raise SchemaRefused(
            "UnsupportedType", f"the view {view.name} has a column of no type for a table: {error}", hint="cast it"
        ) from None
    require_names(columns, own=False)
    require_fields(columns.values())
    return columns


# -- what a view was made of


def _marks(view: ViewSpec, sources: Mapping[str, Snapshot]) -> dict[str, int]:
    """The marks that a view keeps with a commit: its definition, and which versions of which tables it was made of."""
    marks = {"silversmith.view": _number(view.sql, *view.by)}
    for name, source in sources.items():
        marks[f"silversmith.version.{name}"] = source.version
        marks[f"silversmith.table.{name}"] = _number(source.identity)
    return marks


def _made_of(view: ViewSpec, snapshot: Snapshot | None, sources: Mapping[str, Snapshot]) -> dict[str, int] | None:
    """The versions of the sources that a view was made of; None: of none, of other tables, or by another query."""
    if snapshot is None:
        return None
    made_of: dict[str, int] = {}
    for name, number in _marks(view, sources).items():
        there = snapshot.mark(name)
        if name.startswith("silversmith.version."):
            if there is None or there > number:
                return None
            made_of[name.removeprefix("silversmith.version.")] = there
        elif there != number:
            return None
    return made_of


def _number(*texts: str) -> int:
    """A mark is a number of 63 bits: that of a text is from its digest."""
    digest = hashlib.sha256("\0".join(texts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


# -- which groups were touched


class _Unknown(Exception):
    """The touched groups are unknown: the whole view is computed again."""


def _touched(
    view: ViewSpec,
    snapshot: Snapshot | None,
    sources: Mapping[str, Snapshot],
    made_of: Mapping[str, int] | None,
    gold: Format,
) -> str | None:
    """SQL that is true of the touched groups, and maybe of others; empty: none was touched; None: all may have been."""
    if snapshot is None or made_of is None:
        return None
    kinds = [snapshot.columns.get(name) for name in view.by]
    values: list[set[str | None]] = [set() for _ in view.by]
    try:
        for name, source in sources.items():
            if source.version == made_of[name]:
                continue
            if not view.by or name not in view.groups:
                raise _Unknown
            for group in _groups(source, made_of[name], view.groups[name], gold):
                for column, value, kind in zip(values, group, kinds, strict=True):
                    column.add(None if value is None else _literal(value, kind))
            if max(map(len, values)) > MOST_GROUPS:
                raise _Unknown
        if not values or not values[0]:
            return ""
        return " and ".join(_is_one_of(name, column) for name, column in zip(view.by, values, strict=True))
    except _Unknown:
        return None
    except GoldFailed as error:
        _log.warning("the changed groups of the view %s are unknown, so all are computed: %s", view.name, error)
        return None


_NAMES = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)\"""")


def _groups(
    source: Snapshot, since: int, places: Sequence[Sequence[str]], gold: Format
) -> Iterable[tuple[object, ...]]:
    """The groups of the rows that changed in a source, as the expressions of each place name them."""
    expressions = list(chain.from_iterable(places))
    names = dict.fromkeys(name.replace('""', '"') for text in expressions for name in _NAMES.findall(text) if name)
    if not names.keys() <= source.columns.keys():
        raise _Unknown
    changes = source.changes(since, list(names))
    if changes is None:
        raise _Unknown
    columns = changes.columns
    with gold.spooled((fitted(batch, columns) for batch in changes.batches), columns) as spooled:
        for place in places:
            selected = ", ".join(f"{expression} as g{number}" for number, expression in enumerate(place))
            distinct = f"select distinct {selected} from changes limit {MOST_GROUPS + 1}"  # noqa: S608 -- parsed before
            for batch in gold.query({"changes": spooled}, distinct).batches:
                try:
                    groups = [column.to_pylist() for column in batch.columns]
                except (ValueError, OverflowError):  # Python has no years before 1 and after 9999
                    raise _Unknown from None
                yield from zip(*groups, strict=True)


def _is_one_of(name: str, values: Iterable[str | None]) -> str:
    literals = [value for value in values if value is not None]
    conditions = [f"{quoted(name)} in ({', '.join(sorted(literals))})"] if literals else []
    if None in values:
        conditions.append(f"{quoted(name)} is null")
    return f"({' or '.join(conditions)})"


def _literal(value: object, kind: Type) -> str:
    """A value as SQL has it, of the type of the view's column where that is a decimal: delta-rs compares a decimal with
    none of another type. Others than these are no values to be equal to: floats, lists, bytes."""
    match value:
        case bool():
            return str(value).lower()
        case int() | Decimal() if isinstance(kind, DecimalType):
            number = Decimal(value)
            if -int(number.as_tuple().exponent) > kind.scale or number.adjusted() >= kind.precision - kind.scale:
                raise _Unknown
            return f"cast('{number:f}' as decimal({kind.precision}, {kind.scale}))"
        case int():
            return str(value)
        case str():
            return text(value)
        case datetime():
            zone = 'Some("UTC")' if value.tzinfo is not None else "None"
            naive = value.replace(tzinfo=None).isoformat(timespec="microseconds")
            return f"arrow_cast('{naive}', 'Timestamp(Microsecond, {zone})')"
        case date():
            return f"cast('{value.isoformat()}' as date)"
        case _:
            raise _Unknown


# -- whether a view is what its query says


def is_current(view: ViewSpec, gold: Format) -> bool:
    """Whether there is nothing to compute: as far as the changes of its sources tell, they leave the view as it is.

    Raises:
        GoldFailed: gold cannot be read.
    """
    snapshot = gold.read(view.name)
    sources = _sources(view, gold)
    if sources is None:
        return True
    made_of = _made_of(view, snapshot, sources)
    return _touched(view, snapshot, sources, made_of, gold) == ""


def compare(view: ViewSpec, gold: Format, *, repair: bool = False) -> Difference | None:
    """Compute a view anew from the versions that it was made of, and say what differs; None: there is no view yet.

    Floats count as equal when their first seven digits are: a sum is rounded by the order of its rows.

    Args:
        view: which.
        gold: where it and its sources are.
        repair: write the view anew where it differs.

    Raises:
        Refused: somebody else committed meanwhile.
        GoldFailed: as :func:`refresh`.
    """
    snapshot = gold.read(view.name)
    newest = _sources(view, gold)
    if snapshot is None or newest is None:
        return None
    made_of = _made_of(view, snapshot, newest) or {name: source.version for name, source in newest.items()}
    sources = {name: source for name, version in made_of.items() if (source := gold.read(name, version)) is not None}
    if len(sources) < len(made_of):  # a version is forgotten
        sources = newest
    rows = gold.query(sources, view.sql)
    columns = _columns(view, rows)
    if columns.keys() != snapshot.columns.keys():
        difference = Difference(len_of(gold, sources, view.sql), len_of(gold, {"t": snapshot}, "select * from t"))
    else:
        with gold.spooled((fitted(batch, columns) for batch in rows.batches), columns) as fresh:
            difference = _difference(gold, snapshot, fresh)
    if repair and (difference.lacking or difference.surplus):
        _rewrite(view, snapshot, newest, gold, lambda _: None)
    return difference


def len_of(gold: Format, sources: Mapping[str, Snapshot], sql: str) -> int:
    """The number of rows of a query."""
    rows = gold.query(sources, f"select count(*) as n from (\n{sql}\n) as q")  # noqa: S608 -- parsed before
    return sum(int(number) for batch in rows.batches for number in batch.column("n").to_pylist())


def _difference(gold: Format, snapshot: Snapshot, fresh: Snapshot) -> Difference:
    compared = ", ".join(
        f"cast({quoted(name)} as float) as {quoted(name)}" if kind in {"float", "double"} else quoted(name)
        for name, kind in snapshot.columns.items()
    )
    names = ", ".join(map(quoted, snapshot.columns))
    both = f"select {compared}, 1 as __rows from fresh union all select {compared}, -1 as __rows from kept"  # noqa: S608
    counted = f"select {names}, sum(__rows) as __rows from ({both}) as b group by {names}"  # noqa: S608
    sql = f"select sum(greatest(__rows, 0)) as lacking, sum(greatest(-__rows, 0)) as surplus from ({counted}) as c"  # noqa: S608
    (batch,) = gold.query({"fresh": fresh, "kept": snapshot}, sql).batches
    return Difference(*(int(batch.column(name).to_pylist()[0] or 0) for name in ("lacking", "surplus")))
