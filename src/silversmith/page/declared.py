"""What a transform is declared as, for a person to read: its code, its contract, its options."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from silversmith.contract import Contract
from silversmith.pipeline import Transform
from silversmith.sql import Sql


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
    found = []
    for name, kind in contract.schema.items():
        demands = [demand.text for demand in contract.demands if demand.column == name]
        found.append(
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
    return found


def expectations(contract: Contract) -> list[tuple[str, str]]:
    """What it demands of a whole file."""
    expected = contract.expectations
    least, most = expected.rows
    found = [
        ("a column it does not name", contract.on_extra_column),
        ("a column that is missing", contract.on_missing_column),
        ("rejected rows at the most", "any number" if contract.max_rejected is None else _share(contract.max_rejected)),
    ]
    if least is not None or most is not None:
        found.append(
            ("good rows", f"{'0' if least is None else f'{least:,}'} to {'any' if most is None else f'{most:,}'}")
        )
    found += [(f"newest {name} not older than", str(age)) for name, age in expected.fresh.items()]
    return found


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
