"""A pattern as it is given, text or dict, as one JSON tree; keys that occur twice are kept apart."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from silversmith.patterns.errors import InvalidPattern, Where


class Repeated(dict[str, Any]):
    """A JSON object in which a key occurs more than once. As a dict the last one wins, ``pairs`` has them all."""

    pairs: list[tuple[str, Any]]


def items(value: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """The keys and values of a JSON object in the order in which they are written, repeated ones too."""
    return value.pairs if isinstance(value, Repeated) else value.items()


def read(pattern: str | bytes | Mapping[str, Any], noun: str) -> dict[str, Any]:
    """The pattern's JSON object. Raises InvalidPattern for text that is not JSON and for values that JSON has not."""
    value: Any = pattern
    if isinstance(pattern, str | bytes | bytearray):
        value = _parse(pattern, noun)
    if not isinstance(value, Mapping):
        raise InvalidPattern("Filter is not an object", noun=noun, hint='Write an object: {"source": ["aws.s3"]}.')
    return value if isinstance(value, dict) and value is not pattern else _object(value, Where(noun))


def _parse(text: str | bytes | bytearray, noun: str) -> Any:
    try:
        decoded = text if isinstance(text, str) else text.decode()
        return json.loads(decoded, object_pairs_hook=_pairs, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidPattern(f"it is not UTF-8 text: byte {error.start + 1} cannot be read", noun=noun) from None
    except json.JSONDecodeError as error:
        problem = f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InvalidPattern(problem, noun=noun) from None
    except ValueError as error:  # what JSON has not (NaN), and integers of thousands of digits
        raise InvalidPattern(f"it is not JSON: {error}", noun=noun) from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeated = Repeated(value)
    repeated.pairs = pairs
    return repeated


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _object(value: Mapping[Any, Any], where: Where) -> dict[str, Any]:
    """A copy in which everything is JSON: what comes as a dict may hold anything."""
    copy: dict[str, Any] = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise where.refuse(f"the key {name!r} is not a string")
        copy[name] = _value(item, where.key(name))
    return copy


def _value(value: Any, where: Where) -> Any:
    if isinstance(value, Mapping):
        return _object(value, where)
    if isinstance(value, list | tuple):
        return [_value(item, where.item(index)) for index, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise where.refuse(f"{value!r} is no JSON value", "Write strings, numbers, true, false, null, arrays or objects.")
