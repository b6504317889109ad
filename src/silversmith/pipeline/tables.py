"""The user's declarations of gold: tables and views. A view's query is parsed here, and never again.

``by`` promises that the query can be computed for some groups alone. What breaks that promise is refused where it can
be seen: the query is parsed, and each of its parts that looks at several rows (``GROUP BY``, windows, ``DISTINCT``,
``LIMIT``) must stay within a group.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from silversmith.errors import DefinitionError
from silversmith.tables.spec import ETAG, FILE, GoldSpec, TableSpec, ViewSpec

if TYPE_CHECKING:
    from sqlglot import exp

#: Functions whose result is another one every time: a view would not be a function of its tables.
_VOLATILE = {"CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "NOW", "TODAY", "RAND", "RANDOM", "UUID"}

#: Whether another process has checked the queries: to import the parser takes a third of a second.
QUERIES_ARE_CHECKED: ContextVar[bool] = ContextVar("queries_are_checked", default=False)


@dataclass
class Gold:
    """The tables and views of a pipeline, as far as they are declared."""

    tables: dict[str, TableSpec] = field(default_factory=dict)
    views: dict[str, ViewSpec] = field(default_factory=dict)

    def spec(self, lineage: tuple[str, ...]) -> GoldSpec:
        """All of it as plain data. Each view stands after what it reads, as it was declared. ``lineage``: the
        transforms whose lineage is a table."""
        return GoldSpec(tuple(self.tables.values()), tuple(self.views.values()), lineage)

    def add_table(self, name: object, transform: str, *, partition_by: object, sort_by: object) -> None:
        """
        Raises:
            DefinitionError: the table cannot be.
        """
        self.tables[self._name(name)] = TableSpec(
            str(name), transform, _columns("partition_by", partition_by), _columns("sort_by", sort_by)
        )

    def add_view(self, name: object, sql: object, *, by: object) -> None:
        """
        Raises:
            DefinitionError: the view cannot be.
        """
        chosen = self._name(name)
        groups = _columns("by", by)
        if not isinstance(sql, str):
            raise DefinitionError(f"its query is a {type(sql).__name__}, not a text")
        if QUERIES_ARE_CHECKED.get() or "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            # The query was checked when it was deployed, and a transform's bundle has no parser of SQL.
            self.views[chosen] = ViewSpec(chosen, sql, (), groups)
            return
        query = _parsed(sql)
        sources = self._sources(chosen, query)
        _require_repeatable(query)
        _require_named(query)
        _require_known_windows(query)
        self.views[chosen] = ViewSpec(chosen, sql, sources, groups, _groups(query, sources, groups) if groups else {})

    def _name(self, name: object) -> str:
        """Glue, and so Athena, takes names of lower-case letters, digits and underscores.
        https://docs.aws.amazon.com/athena/latest/ug/tables-databases-columns-names.html"""
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
            raise DefinitionError(
                "its name must be lower-case letters, digits and '_', at most 63, a letter first: all engines take it"
            )
        if name in self.tables or name in self.views:
            raise DefinitionError("there is a table or view of that name already: give this one another name")
        return name

    def _sources(self, name: str, query: exp.Expr) -> tuple[str, ...]:
        """The tables and views that a query reads. They were declared before, so there is no circle."""
        from sqlglot import exp

        common = {table.alias for table in query.find_all(exp.CTE)}
        sources: dict[str, None] = {}
        for table in query.find_all(exp.Table):
            source = _table_name(table)
            if source in common:
                continue
            if source == name:
                raise DefinitionError("its query reads the view itself: a view is made of others, without a circle")
            if source not in self.tables and source not in self.views:
                known = ", ".join([*self.tables, *self.views]) or "none"
                raise DefinitionError(
                    f"its query reads {source or table.sql()!r}, and there is no such table or view; those declared "
                    f"before it: {known}"
                )
            sources[source] = None
        if not sources:
            raise DefinitionError("its query reads no table: write select … from a table of this pipeline")
        return tuple(sources)


def _columns(option: str, names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise DefinitionError(f'{option}={names!r} must be a list of columns, such as {option}=["day"]')
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise DefinitionError(f"{option} names {repeated!r} twice")
    if own := next((name for name in names if name in {FILE, ETAG}), None):
        raise DefinitionError(f"{option} names {own!r}, a column of Silversmith's own: there is one value a file")
    refused = {"sort_by": ".", "partition_by": "=\r\n"}.get(option, "")
    if odd := next((name for name in names if set(name) & set(refused)), None):
        raise DefinitionError(f"{option} names {odd!r}, which delta-rs cannot take: rename the column in the transform")
    return tuple(names)


def _parsed(sql: str) -> exp.Query:
    """The one SELECT that a text is."""
    try:
        import sqlglot
        from sqlglot.errors import SqlglotError
    except ImportError:
        raise DefinitionError("views need more packages: pip install 'silversmith[tables]'") from None
    from sqlglot import exp

    try:
        statements = [statement for statement in sqlglot.parse(sql) if statement is not None]
    except SqlglotError as error:
        raise DefinitionError(f"its query cannot be parsed: {_first_line(error)}") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise DefinitionError("its query must be one SELECT, or WITH … SELECT: it computes rows, and changes nothing")
    return statements[0]


def _first_line(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if errors:
        details = errors[0]
        return f"{details['description']}, in line {details['line']} at {details['highlight']!r}"
    return str(error).partition("\n")[0]


def _table_name(table: exp.Table) -> str:
    """The name of a table of ours as SQL has it. Empty: it cannot be one."""
    from sqlglot import exp

    identifier = table.this
    if table.db or table.catalog or not isinstance(identifier, exp.Identifier):
        return ""
    return _name(identifier)


def _name(identifier: exp.Identifier) -> str:
    """Names are exact, with and without quotes: delta-rs has DataFusion not write them in lower case."""
    return str(identifier.this)


def _require_repeatable(query: exp.Expr) -> None:
    from sqlglot import exp

    for call in query.find_all(exp.Func, exp.Anonymous):
        names = {str(call.this).upper()} if isinstance(call, exp.Anonymous) else set(call.sql_names())
        if names & _VOLATILE:
            raise DefinitionError(
                f"its query calls {call.sql()}, which is something else each time: a view is made of its tables alone. "
                "Put the time into the rows, in the transform"
            )


def _require_named(query: exp.Query) -> None:
    from sqlglot import exp

    for item in query.selects:
        if not item.output_name and not item.find(exp.Star):
            raise DefinitionError(f"its query gives {item.sql()} no name, and a column needs one: {item.sql()} as …")


def _require_known_windows(query: exp.Expr) -> None:
    """DataFusion takes a named window after QUALIFY for no window at all."""
    from sqlglot import exp

    for qualify in query.find_all(exp.Qualify):
        for window in qualify.find_all(exp.Window):
            if window.args.get("alias") is not None:
                raise DefinitionError(
                    f"its query has {window.sql()} after QUALIFY, where DataFusion knows no named windows: write the "
                    f"window out, or select it under a name: {window.sql()} as n … qualify n = 1"
                )


# -- whether ``by`` fits


def _groups(query: exp.Expr, sources: Iterable[str], by: Sequence[str]) -> Mapping[str, tuple[tuple[str, ...], ...]]:
    """The way in which a changed row of each source names the groups that it touches. See :class:`ViewSpec`."""
    from sqlglot import exp

    if not isinstance(query, exp.Select):
        raise DefinitionError(
            f"by={list(by)} does not fit: only one SELECT can be computed for some groups. Leave by= away, and the "
            "view is computed as a whole; or make the parts of the UNION views of their own"
        )
    outputs = {name: _output(query, name) for name in by}
    _require_fit(query, outputs)
    aliases = dict(_aliases(query))
    firm = set(aliases) - _nullable(query)
    groups: dict[str, tuple[tuple[str, ...], ...]] = {}
    for source in sources:
        places = [alias for alias, table in aliases.items() if table == source]
        is_inside = sum(_table_name(table) == source for table in query.find_all(exp.Table)) > len(places)
        keys_by_place = [_expressions(query, alias, firm, list(outputs.values())) for alias in places]
        if not is_inside and all(keys_by_place):
            groups[source] = tuple(tuple(expressions) for expressions in keys_by_place if expressions)
    if not groups:
        raise DefinitionError(
            f"by={list(by)} cannot be followed back to a column of {', '.join(sources)}. It must be a column of a "
            "table after FROM, with the table's name where there are joins, or a simple expression of such columns, "
            "and not of the side of an outer join that may be null. Or leave by= away: then the view is computed as a "
            "whole"
        )
    return groups


def _output(query: exp.Select, name: str) -> exp.Expr:
    """The expression that the query selects under a name."""
    from sqlglot import exp

    has_star = False
    for item in query.expressions:
        if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
            has_star = True
        elif _output_name(item) == name:
            return cast("exp.Expr", item.unalias())
    if has_star:
        return exp.column(name, quoted=True)
    names = [_output_name(item) for item in query.expressions]
    raise DefinitionError(f"by names {name!r}, and the query selects no such column; it has: {', '.join(names)}")


def _output_name(item: exp.Expr) -> str:
    from sqlglot import exp

    if isinstance(item, exp.Alias):
        alias = item.args["alias"]
        return _name(alias) if isinstance(alias, exp.Identifier) else str(alias)
    return _name(item.this) if isinstance(item, exp.Column) and isinstance(item.this, exp.Identifier) else ""


def _require_fit(query: exp.Select, outputs: Mapping[str, exp.Expr]) -> None:
    """Refuse what looks at rows of several groups."""
    from sqlglot import exp

    by = list(outputs)
    for part in ("limit", "offset"):
        if query.args.get(part):
            raise DefinitionError(f"by={by} does not fit: {part.upper()} chooses among the rows of all groups")
    group = query.args.get("group")
    if group is not None and group.args.get("all"):
        plain = [item.unalias() for item in query.expressions if not item.find(exp.AggFunc)]
        _require_within(by, outputs, plain, "GROUP BY")
    elif group is not None:
        _require_within(by, outputs, list(_resolved(query, group.expressions)), "GROUP BY")
    elif any(not _is_windowed(call) for call in _own(query, exp.AggFunc)):
        raise DefinitionError(f"by={by} does not fit: an aggregate without GROUP BY is over the rows of all groups")
    distinct = query.args.get("distinct")
    if distinct is not None and distinct.args.get("on") is not None:
        on = distinct.args["on"]
        _require_within(by, outputs, list(_resolved(query, on.expressions or [on])), "DISTINCT ON")
    named = {_name(window.this): window for window in query.args.get("windows") or []}
    for window in _own(query, exp.Window):
        if window.arg_key == "windows":
            continue  # a name for what OVER says elsewhere
        partition = list(_resolved(query, _partition(window, named)))
        _require_within(by, outputs, partition, f"the window {window.sql()}")


def _partition(window: exp.Window, named: Mapping[str, exp.Window]) -> Sequence[exp.Expr]:
    """The partition of a window, itself or by its name: ``over w … window w as (partition by …)``."""
    followed: set[str] = set()
    while not window.args.get("partition_by") and (alias := window.args.get("alias")) is not None:
        name = _name(alias)
        if name in followed or name not in named:
            raise DefinitionError(
                f"its query has no window {name!r}: write window {name} as (partition by …) at the end"
            )
        followed.add(name)
        window = named[name]
    return list(window.args.get("partition_by") or [])


def _require_within(by: Sequence[str], outputs: Mapping[str, exp.Expr], keys: Sequence[exp.Expr], what: str) -> None:
    known = {_canonical(key) for key in keys}
    for name, expression in outputs.items():
        if _canonical(expression) not in known:
            keyed = ", ".join(key.sql() for key in keys) or "nothing"
            raise DefinitionError(
                f"by={list(by)} does not fit: {what} is by {keyed}, without {name!r}, so rows of several groups meet. "
                "Add it there, take it out of by=, or leave by= away: then the view is computed as a whole"
            )


def _canonical(expression: exp.Expr) -> str:
    """An expression so that those that mean the same are mostly equal: names in quotes and without tables."""
    from sqlglot import exp

    def plain(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier):
            return exp.column(_name(node.this), quoted=True)
        return node

    return str(expression.copy().transform(plain).sql())


def _resolved(query: exp.Select, keys: Iterable[exp.Expr]) -> Iterator[exp.Expr]:
    """Keys of GROUP BY and windows; a number, and the name of what is selected, stand for that."""
    from sqlglot import exp

    named = {_output_name(item): item for item in query.expressions if isinstance(item, exp.Alias)}
    for key in keys:
        if isinstance(key, exp.Literal) and not key.is_string and key.this.isdigit():
            place = int(key.this) - 1
            if place < len(query.expressions):
                yield query.expressions[place].unalias()
        else:
            yield key
            if isinstance(key, exp.Column) and not key.table and _output_name(key) in named:
                yield named[_output_name(key)].this


def _own(query: exp.Select, kind: Any) -> Iterator[Any]:
    """The nodes of one kind in a query but not in its subqueries."""
    from sqlglot import exp

    for node in query.find_all(kind):
        if node.find_ancestor(exp.Select) is query:
            yield node


def _is_windowed(call: exp.Expr) -> bool:
    from sqlglot import exp

    return (
        isinstance(call.parent, exp.Window | exp.Filter | exp.IgnoreNulls)
        and call.find_ancestor(exp.Window) is not None
    )


# -- from a group back to a source's columns


def _aliases(query: exp.Select) -> Iterator[tuple[str, str]]:
    """The tables in FROM and JOIN: the name that the query has for each, and its own."""
    from sqlglot import exp

    common = {table.alias for table in query.find_all(exp.CTE)}
    sources = [query.args.get("from_") or query.args.get("from"), *(query.args.get("joins") or [])]
    for source in sources:
        table = source.this if source is not None else None
        if isinstance(table, exp.Table) and _table_name(table) not in common:
            alias = table.args.get("alias")
            yield (_name(alias.this) if alias is not None else _table_name(table)), _table_name(table)


def _nullable(query: exp.Select) -> set[str]:
    """The tables of which an outer join makes rows of nulls: a row that comes or goes there changes another group."""
    nullable: set[str] = set()
    names = [alias for alias, _ in _aliases(query)]
    for join in query.args.get("joins") or []:
        alias = join.this.alias_or_name
        if join.side in {"LEFT", "FULL"} and join.kind not in {"SEMI", "ANTI"}:
            nullable.add(alias)
        if join.side in {"RIGHT", "FULL"}:
            nullable.update(name for name in names if name != alias)
    return nullable


def _expressions(query: exp.Select, alias: str, firm: Collection[str], outputs: Sequence[exp.Expr]) -> list[str] | None:
    """The groups as SQL over the columns of one table in FROM; None where they are not told by these. ``firm`` are the
    tables of which no join makes nulls."""
    from sqlglot import exp

    is_only = not query.args.get("joins")
    expressions = []
    for output in outputs:
        if not is_only and any(column.table not in firm for column in output.find_all(exp.Column)):
            return None
        equal = [output, *(_equals(query, output) if isinstance(output, exp.Column) else ())]
        expression = next((candidate for candidate in equal if _is_of(candidate, alias, is_only=is_only)), None)
        if expression is None or not all(isinstance(node, _followed()) for node in expression.walk()):
            return None
        expressions.append(_canonical(expression))
    return expressions


def _followed() -> tuple[type[Any], ...]:
    """The nodes that are written back as they were read: other functions sqlglot may turn into another dialect's."""
    from sqlglot import exp

    return (
        *(exp.Column, exp.Identifier, exp.Literal, exp.Paren, exp.Cast, exp.DataType, exp.DataTypeParam, exp.Var),
        *(exp.DateTrunc, exp.TimestampTrunc, exp.Lower, exp.Upper, exp.Substring, exp.Coalesce, exp.Add, exp.Sub),
    )


def _is_of(expression: exp.Expr, alias: str, *, is_only: bool) -> bool:
    from sqlglot import exp

    columns = list(expression.find_all(exp.Column))
    return bool(columns) and all(column.table == alias or (is_only and not column.table) for column in columns)


def _equals(query: exp.Select, column: exp.Column) -> Iterator[exp.Expr]:
    """The columns of other tables that a join has equal to this one."""
    from sqlglot import exp

    for join in query.args.get("joins") or []:
        condition = join.args.get("on")
        conjuncts = condition.flatten() if isinstance(condition, exp.And) else [condition]
        for equality in conjuncts:
            if isinstance(equality, exp.EQ):
                sides = (equality.left, equality.right)
                for side, opposite in (sides, sides[::-1]):
                    if _qualified(side) == _qualified(column) and isinstance(opposite, exp.Column) and opposite.table:
                        yield opposite


def _qualified(expression: exp.Expr) -> tuple[str, str] | None:
    from sqlglot import exp

    if not isinstance(expression, exp.Column) or not isinstance(expression.this, exp.Identifier):
        return None
    return expression.table, _name(expression.this)
