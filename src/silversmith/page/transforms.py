"""What is declared: the transforms (code, contract, options, schema history), the tables and views of gold, with their
first rows, linked to the files that they came from; and the pattern tester: who takes a key, and why not."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from silversmith.contract import Contract
from silversmith.events import NotAnEvent, ObjectEvent, object_created, unwrap
from silversmith.keypatterns import KeyPattern
from silversmith.operations import WrongCall
from silversmith.operations.preview import COLUMNS, Preview, cell
from silversmith.operations.tables import TableReport, find, plain, query, reports
from silversmith.operations.target import Target
from silversmith.operations.text import count
from silversmith.page.context import ViewContext
from silversmith.page.history import SPANS, SPARK_HEIGHT, SPARK_WIDTH, Bar, FileCounts, Series, bars, ceiling
from silversmith.patterns import compile_pattern
from silversmith.pipeline import Pipeline, Sql, Transform
from silversmith.schemas import Schemas
from silversmith.stores.keys import InvalidKey, check
from silversmith.tables.spec import FILE, ViewSpec
from silversmith.template.messaging import event_patterns
from silversmith.usercode.loading import imported_files


@dataclass(frozen=True)
class ContractColumn:
    name: str
    kind: str
    demands: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Source code; ``place`` is file and line, ``language`` Python or SQL. Empty where it cannot be found."""

    text: str
    place: str
    language: str


def code(transform: Transform) -> Code:
    function = transform.function
    if isinstance(function, Sql):
        return Code(inspect.cleandoc(function.query), "", "SQL")
    function = inspect.unwrap(function)
    try:
        lines, first = inspect.getsourcelines(function)
        return Code(inspect.cleandoc("".join(lines)), f"{inspect.getsourcefile(function)}:{first}", "Python")
    except (OSError, TypeError):
        return Code("", "", "Python")


def written_rules(transform: Transform) -> dict[str, str]:
    """The transform's rules as its user wrote them, where they can be read; else as Polars writes them.

    A rule is the value of its name in a dictionary of the user's code. Where several have one name and differ, that in
    the transform's own decorator counts.
    """
    if transform.contract is None:
        return {}
    rules = {name: str(rule) for name, rule in transform.contract.rules.items()}
    function = None if isinstance(transform.function, Sql) else inspect.unwrap(transform.function)
    own = inspect.getsourcefile(function) if inspect.isfunction(function) else None
    nearest: dict[str, set[str]] = {}
    anywhere: dict[str, set[str]] = {}
    for file in dict.fromkeys([*([own] if own else []), *map(str, imported_files())]):
        linecache.checkcache(file)
        source = "".join(linecache.getlines(file))
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        _add_values(anywhere, tree, source, rules)
        for node in _declarations(tree, getattr(function, "__name__", "")) if file == own else ():
            _add_values(nearest, node, source, rules)
    for name in rules:
        texts = nearest.get(name) or anywhere.get(name, set())
        if len(texts) == 1:
            (rules[name],) = texts
    return rules


def _declarations(tree: ast.Module, name: str) -> Iterator[ast.AST]:
    """The decorators of a function, and what assigns the names that they use."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    decorators = [decorator for function in functions for decorator in function.decorator_list]
    used = {node.id for decorator in decorators for node in ast.walk(decorator) if isinstance(node, ast.Name)}
    yield from decorators
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id in used for target in targets):
            yield statement


def _add_values(texts: dict[str, set[str]], root: ast.AST, source: str, names: Collection[str]) -> None:
    for values in (each for node in ast.walk(root) for each in _dictionaries(node)):
        for key, value in zip(values.keys, values.values, strict=True):
            if isinstance(key, ast.Constant) and key.value in names:
                text = ast.get_source_segment(source, value) or ""
                texts.setdefault(str(key.value), set()).add(inspect.cleandoc(text))


def _dictionaries(node: ast.AST) -> Iterator[ast.Dict]:
    """The dictionaries that may be rules: an argument of a contract, or what has a name."""
    values: list[ast.expr | None] = []
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Contract":
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        values = [node.value]
    yield from (value for value in values if isinstance(value, ast.Dict))


@dataclass(frozen=True)
class RuleReport:
    """A rule as its user wrote it, and how many of today's rows pass it.

    ``passed`` is a share, None where there were no rows; ``lowest`` that of the worst of 24 hours' steps; ``bars`` show
    the shares that failed.
    """

    name: str
    text: str
    broken: int
    passed: float | None
    lowest: float | None
    bars: Sequence[Bar]


def rule_reports(rules: Mapping[str, str], series: Series, now: float) -> list[RuleReport]:
    today, steps = series.today(now), series.steps(SPANS["24h"], now)
    reports = []
    for name, text in rules.items():
        shares = [step.broken[name] / step.rows_read if step.rows_read else 0.0 for step in steps]
        worst = max(shares)
        drawn = bars([(0.0, share, "") for share in shares], ceiling(worst), SPARK_WIDTH, SPARK_HEIGHT)
        reports.append(
            RuleReport(
                name,
                text,
                broken=today.broken[name],
                passed=1 - today.broken[name] / today.rows_read if today.rows_read else None,
                lowest=1 - worst if any(step.rows_read for step in steps) else None,
                bars=[bar for bar in drawn if bar.failed],
            )
        )
    return reports


def columns(contract: Contract) -> list[ContractColumn]:
    names_in_files = {new: name for name, new in contract.rename.items()}
    described = []
    for name, kind in contract.schema.items():
        demands = ["required"] if name in contract.required else []
        if name in contract.unique:
            demands.append("unique with the others" if len(contract.unique) > 1 else "unique")
        if name in contract.defaults:
            demands.append(f"default {contract.defaults[name]!r}")
        if name in names_in_files:
            demands.append(f"called {names_in_files[name]} in files")
        demands += [f"refused: {demand.text}" for demand in contract.demands if demand.column == name]
        described.append(ContractColumn(name, str(kind), demands))
    return described


def expectations(contract: Contract) -> list[tuple[str, str]]:
    expected = contract.expectations
    least, most = expected.rows
    limit = contract.max_rejected
    share = f"{limit:.3g} of all" if isinstance(limit, float) else "all but one" if limit is None else f"{limit:,}"
    described = [
        ("a column it does not name", contract.on_extra_column),
        ("a column that is missing", contract.on_missing_column),
        ("rejected rows at the most", share),
    ]
    if least is not None or most is not None:
        described.append(("good rows", f"{least or 0:,} to {'any' if most is None else f'{most:,}'}"))
    described += [(f"newest {name} not older than", str(age)) for name, age in expected.fresh.items()]
    return described


def options(transform: Transform) -> list[tuple[str, str]]:
    """The options beside the contract."""
    limit = transform.maximum_concurrency
    return [
        ("pattern", transform.pattern.text),
        ("reader", "as the key's ending says" if transform.reader is None else repr(transform.reader)),
        ("batch", f"{count(transform.batch_size, 'message')}, {transform.batch_window} s"),
        ("memory", f"{transform.memory:,} MB"),
        ("timeout", f"{transform.timeout} s"),
        ("at once", "as many as Lambda allows" if limit is None else f"{limit:,}"),
        ("tries", f"{transform.max_receive_count:,}"),
        ("fingerprint", transform.fingerprint),
    ]


async def transforms(request: Request) -> Response:
    """``/transforms``"""
    context = ViewContext.of(request)
    return context.answer(request, "transforms.html", {"title": "Transforms"})


async def transform(request: Request) -> Response:
    """``/transforms/{name}``"""
    context = ViewContext.of(request)
    name = request.path_params["name"]
    chosen = next((each for each in context.backend.pipeline.transforms if each.name == name), None)
    if chosen is None:
        raise HTTPException(404)
    document = await context.ask(lambda _, target: Schemas(target.lake.silver, name).look().document)
    contract, rules = chosen.contract, written_rules(chosen)
    values = {
        "title": name,
        "transform": chosen,
        "deployed": context.backend.deployed,
        "code": code(chosen),
        "columns": columns(contract) if contract else [],
        "rules": context.watch.ask(lambda _, history, now: rule_reports(rules, history.of(name), now)),
        "broken_columns": context.watch.ask(lambda _, history, now: _broken_columns(history.of(name).today(now))),
        "expectations": expectations(contract) if contract else [],
        "options": options(chosen),
        "schema": document.of(chosen.fingerprint),
        "history": list(reversed(document.history)),
    }
    return context.answer(request, "transform.html", values)


def _broken_columns(today: FileCounts) -> list[tuple[str, int]]:
    """The other causes of rejected rows today: columns, and unreadable lines."""
    return [
        (name.removeprefix("column "), rows)
        for name, rows in today.broken.most_common()
        if name == "line" or name.startswith("column ")
    ]


#: So many rows are shown of a table.
ROWS = 50


async def tables(request: Request) -> Response:
    """``/tables``: gold alone is read, for comparing it with silver lists all of silver's keys."""
    context = _with_tables(request)
    listed = await context.ask_gold(_listed)
    return context.answer(request, "tables.html", {"title": "Tables", "reports": listed})


async def table(request: Request) -> Response:
    """``/tables/{name}``"""
    context = _with_tables(request)
    name = request.path_params["name"]
    try:
        spec = find(name, context.backend.pipeline)
    except WrongCall:
        raise HTTPException(404) from None
    report, first = await context.ask_gold(_look, name)
    sql = spec.sql if isinstance(spec, ViewSpec) else ""
    values = {"title": name, "report": report, "first": first, "sql": sql, "file_column": FILE}
    return context.answer(request, "table.html", values)


def _with_tables(request: Request) -> ViewContext:
    context = ViewContext.of(request)
    if not context.backend.pipeline.tables:
        raise HTTPException(404)
    return context


def _listed(pipeline: Pipeline, target: Target) -> list[TableReport]:
    return list(reports(pipeline, target, compare=False))


def _look(name: str, pipeline: Pipeline, target: Target) -> tuple[TableReport, Preview | None]:
    report = next(report for report in reports(pipeline, target, compare=False) if report.name == name)
    return report, preview(report, pipeline, target) if report.version is not None else None


def preview(report: TableReport, pipeline: Pipeline, target: Target) -> Preview:
    """The first rows of a table or view, as a query gives them; first of all the file that a row came from."""
    sql = f'select * from "{report.name}" limit {ROWS}'  # noqa: S608 -- names of tables are plain words
    answer = query(sql, pipeline, target, limit=ROWS)
    names = [column.name for column in answer.columns]
    order = sorted(range(len(names)), key=lambda at: names[at] != FILE)[:COLUMNS]
    return Preview(
        columns=[names[at] for at in order],
        kinds=[answer.columns[at].type for at in order],
        rows=[[_cell(names[at], row[at]) for at in order] for row in answer.rows],
        columns_in_all=len(names),
        rows_in_all=report.rows,
    )


def _cell(column: str, value: Any) -> str | None:
    """A key stays whole, for it is a link."""
    return value if column == FILE and isinstance(value, str) else cell(plain(value))


@dataclass(frozen=True)
class PatternAnswer:
    """Whether a transform takes a key or an event; ``why`` are the reasons why not."""

    transform: str
    pattern: str
    takes: bool
    why: Sequence[str]


@dataclass(frozen=True)
class Attempt:
    """One key or event, and each transform's answer."""

    key: str
    is_event: bool
    answers: Sequence[PatternAnswer]


class NothingToTry(ValueError):
    """The text is neither a key nor an event. The message says why."""


def try_text(text: str, pipeline: Pipeline) -> list[Attempt]:
    """Try a text: a JSON object is an event, anything else a key.

    Raises:
        NothingToTry: it can be neither.
    """
    text = text.strip("\r\n")
    if not text.strip():
        raise NothingToTry("Paste a key, such as orders/may.csv, or an event as JSON.")
    try:
        if not text.lstrip().startswith("{"):
            check(text)
            return [_attempt(ObjectEvent(pipeline.bronze, text), None, pipeline)]
        events, document = unwrap(text), orjson.loads(text)
    except (InvalidKey, NotAnEvent, orjson.JSONDecodeError) as error:
        raise NothingToTry(str(error)) from None
    if not events:
        raise NothingToTry("S3 sends this to try the notification out. It tells of no object, and is dropped.")
    return [_attempt(event, document if "detail" in document else _as_event(event), pipeline) for event in events]


def _attempt(event: ObjectEvent, document: Mapping[str, Any] | None, pipeline: Pipeline) -> Attempt:
    """``document``: the event as EventBridge has it; None where only a key is tried."""
    body = _as_event(event) if document is None else document
    answers = [_answer(transform, pipeline, event.key, body) for transform in pipeline.transforms]
    return Attempt(event.key, document is not None, answers)


def _as_event(event: ObjectEvent) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(object_created(event, reason="PutObject"))
    if event.deleted:
        body["detail-type"] = "Object Deleted"
    return body


def _answer(transform: Transform, pipeline: Pipeline, key: str, event: Mapping[str, Any]) -> PatternAnswer:
    """By the event pattern of a rule for this transform alone, as EventBridge would decide."""
    pattern = event_patterns(pipeline.bronze, [transform.pattern])[0]
    takes = compile_pattern(pattern).matches(event)
    why = [] if takes else list(_reasons(pattern, event, transform.pattern, key))
    return PatternAnswer(transform.name, transform.pattern.text, takes, why)


def _reasons(pattern: Mapping[str, Any], event: Mapping[str, Any], keys: KeyPattern, key: str) -> Iterator[str]:
    for path, conditions in _leaves(pattern):
        alone: Any = conditions
        for name in reversed(path):
            alone = {name: alone}
        if compile_pattern(alone).matches(event):
            continue
        if path == ("detail", "object", "key"):
            yield why_not(keys, key)
        else:
            expected = " or ".join(orjson.dumps(condition).decode() for condition in conditions)
            yield f"{'.'.join(path)} is {orjson.dumps(_value_at(event, path)).decode()}, and the rule wants {expected}"


def why_not(pattern: KeyPattern, key: str) -> str:
    """The place at which a key that does not match leaves the pattern, or each of several."""
    if len(pattern.alternatives) > 1:
        return "; ".join(f"{each.text}: {why_not(each, key)}" for each in pattern.alternatives)
    pieces = pattern.pieces
    if len(pieces) == 1:
        return f"the key is not {pieces[0]}, and the pattern has no *"
    if not key.startswith(pieces[0]):
        return f"the key does not begin with {pieces[0]}"
    at = len(pieces[0])
    for piece in pieces[1:-1]:
        index = key.find(piece, at)
        if index < 0:
            return f"after {key[:at]} there is no {piece} in the key"
        at = index + len(piece)
    if not key.endswith(pieces[-1]):
        return f"the key does not end with {pieces[-1]}"
    return f"after {key[:at]} there is no room for {pieces[-1]} at the end"


def _leaves(pattern: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    for name, value in pattern.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _value_at(event: Any, path: Sequence[str]) -> Any:
    for name in path:
        event = event.get(name) if isinstance(event, Mapping) else None
    return event


async def patterns(request: Request) -> Response:
    """``/patterns``: a key in the URL (``?text=``), or the text of the form."""
    context = ViewContext.of(request)
    fields = await context.form(request) if request.method == "POST" else request.query_params
    text = fields.get("text", "")
    problem, attempts = "", list[Attempt]()
    if text:
        try:
            attempts = try_text(text, context.backend.pipeline)
        except NothingToTry as error:
            problem = str(error)
    values = {"title": "Pattern tester", "text": text, "tried": attempts, "problem": problem}
    return context.answer(request, "patterns.html", values)
