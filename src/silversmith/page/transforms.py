"""The transforms: their code, contract and options, and the history of their silver's schema."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from silversmith.contract import Contract
from silversmith.page.context import ViewContext
from silversmith.pipeline import Sql, Transform
from silversmith.schemas import Schemas


@dataclass(frozen=True)
class Column:
    """A column that the contract names."""

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
    """The transform's function as it is written."""
    function = transform.function
    if isinstance(function, Sql):
        return Code(inspect.cleandoc(function.query), "", "SQL")
    function = inspect.unwrap(function)
    try:
        text = inspect.getsource(function)
        line = inspect.getsourcelines(function)[1]
        return Code(inspect.cleandoc(text), f"{inspect.getsourcefile(function)}:{line}", "Python")
    except (OSError, TypeError):
        return Code("", "", "Python")


def columns(contract: Contract) -> list[Column]:
    """The contract's schema, with what it demands of each column."""
    old = {new: name for name, new in contract.rename.items()}
    described = []
    for name, kind in contract.schema.items():
        demands = [demand.text for demand in contract.demands if demand.column == name]
        described.append(
            Column(
                name,
                str(kind),
                [
                    *(["required"] if name in contract.required else []),
                    *(
                        ["unique" + (" with the others" if len(contract.unique) > 1 else "")]
                        if name in contract.unique
                        else []
                    ),
                    *([f"default {contract.defaults[name]!r}"] if name in contract.defaults else []),
                    *([f"called {old[name]} in files"] if name in old else []),
                    *(f"refused: {text}" for text in demands),
                ],
            )
        )
    return described


def expectations(contract: Contract) -> list[tuple[str, str]]:
    """What it demands of a whole file."""
    expected = contract.expectations
    least, most = expected.rows
    described = [
        ("a column it does not name", contract.on_extra_column),
        ("a column that is missing", contract.on_missing_column),
        ("rejected rows at the most", "any number" if contract.max_rejected is None else _share(contract.max_rejected)),
    ]
    if least is not None or most is not None:
        described.append(
            ("good rows", f"{'0' if least is None else f'{least:,}'} to {'any' if most is None else f'{most:,}'}")
        )
    described += [(f"newest {name} not older than", str(age)) for name, age in expected.fresh.items()]
    return described


def _share(value: float) -> str:
    return f"{value:.3g} of all" if isinstance(value, float) else f"{value:,}"


def options(transform: Transform) -> list[tuple[str, str]]:
    """The options that are not the contract."""
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
