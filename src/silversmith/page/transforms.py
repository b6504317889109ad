"""The transforms (code, contract, options, schema history), and the pattern tester: who takes a key, and why not."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from silversmith.contract import Contract
from silversmith.events import NotAnEvent, ObjectEvent, object_created, unwrap
from silversmith.keypatterns import KeyPattern
from silversmith.page.context import ViewContext
from silversmith.patterns import compile_pattern
from silversmith.pipeline import Pipeline, Sql, Transform
from silversmith.schemas import Schemas
from silversmith.stores.keys import InvalidKey, check
from silversmith.template.messaging import event_patterns


@dataclass(frozen=True)
class ContractColumn:
    """A column of the contract."""

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
    """The source of the transform's function."""
    function = transform.function
    if isinstance(function, Sql):
        return Code(inspect.cleandoc(function.query), "", "SQL")
    function = inspect.unwrap(function)
    try:
        lines, first = inspect.getsourcelines(function)
        return Code(inspect.cleandoc("".join(lines)), f"{inspect.getsourcefile(function)}:{first}", "Python")
    except (OSError, TypeError):
        return Code("", "", "Python")


def columns(contract: Contract) -> list[ContractColumn]:
    """The contract's schema, with its demands on each column."""
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
    """The contract's demands on a whole file."""
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
        ("batch", f"{transform.batch_size:,} messages, {transform.batch_window} s"),
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
    contract = chosen.contract
    values = {
        "title": name,
        "transform": chosen,
        "deployed": context.backend.deployed,
        "code": code(chosen),
        "columns": columns(contract) if contract else [],
        "rules": [(rule, str(expr)) for rule, expr in contract.rules.items()] if contract else [],
        "expectations": expectations(contract) if contract else [],
        "options": options(chosen),
        "schema": document.of(chosen.fingerprint),
        "history": list(reversed(document.history)),
    }
    return context.answer(request, "transform.html", values)


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
    """Where a key that does not match leaves the pattern, or each of several."""
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
