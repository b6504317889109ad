"""A pattern, text or dict, as rules: each a conjunction of fields, together a disjunction. AWS's refusals too.

A key that occurs twice in the JSON text is kept twice, because AWS reads some of them and refuses others.

``$or`` is multiplied out, as EventBridge does it: https://github.com/aws/event-ruler#and-and-or-relationship-among-fields-with-ruler
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

from silversmith.patterns.dialects import RULES, Dialect, InvalidPattern, Location, Rules
from silversmith.patterns.operators import PARSERS, Alternative, exact

#: The most rules that the use of ``$or`` may multiply out to.
MOST_RULES = 1000

#: The most fields in one of them.
MOST_FIELDS = 256

#: The most names that a path may have. AWS has no such limit, but its patterns of 2,048 characters make none so long.
MOST_NAMES = 100

#: Names that an object inside ``$or`` may not have for a field, used or kept for later by EventBridge.
_RESERVED = frozenset(
    {"=", "<", "<=", ">", ">=", "html", "regex", "not-wildcard", "not-equals-ignore-case", "date-after"}
    | {"date-on-or-after", "date-before", "date-on-or-before", "in-date-range", "ip-address-in-range"}
    | {"ip-address-not-in-range", *PARSERS}
)


@dataclass(frozen=True, slots=True)
class Field:
    """A leaf of the pattern: a value at ``path`` must meet one of ``conditions``.

    ``path`` joins the names with dots; names that have dots themselves cannot be told from nested ones, also not in
    AWS. ``depth`` is how many objects the leaf is in.
    """

    path: str
    conditions: tuple[Alternative, ...]
    depth: int = 1


#: Fields that must all be met, by different values of an array only if these are in the same of its elements.
Rule = tuple[Field, ...]


def parse(pattern: str | bytes | Mapping[str, Any], dialect: Dialect) -> tuple[Rule, ...]:
    """The rules of which an event must meet one. Raises InvalidPattern for what AWS would refuse."""
    rules = RULES[dialect]
    try:
        root = _read(pattern, rules.noun)
        if not root and rules.empty_matches_all:
            return ((),)
        if rules.most_keys is not None and len(root) > rules.most_keys:
            hint = "Put several under one parent, or filter later." if rules.nested else "Filter later."
            problem = f"Filter policy can not have more than {rules.most_keys} keys: it has {len(root)}"
            raise InvalidPattern(problem, noun=rules.noun, hint=hint)
        return _limited(_with_or_without(root, rules), rules)
    except RecursionError:
        raise InvalidPattern("it is nested too deeply", noun=rules.noun) from None


def _with_or_without(root: dict[str, Any], rules: Rules) -> list[dict[str, Field]]:
    """``$or`` is an operator wherever that gives a valid pattern; if it does not, all of them are names of fields."""
    try:
        return _Reader(rules, or_is_operator=True).object(root, Location(rules.noun))
    except InvalidPattern as error:
        if "$or" not in _names(root):
            raise
        try:
            return _Reader(rules, or_is_operator=False).object(root, Location(rules.noun))
        except InvalidPattern:
            raise error from None


def _names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(_names(item) for _, item in _items(value)))
    return set().union(*map(_names, value)) if isinstance(value, list) else set()


def _limited(branches: list[dict[str, Field]], rules: Rules) -> tuple[Rule, ...]:
    most = rules.most_value_combinations
    if most is not None:
        total = sum(prod(len(field.conditions) * field.depth for field in branch.values()) for branch in branches)
        if total > most:
            problem = f"Filter policy is too complex: {total} combinations of values, at most {most}"
            hint = "Each array counts its values, times how deep it is nested; these are multiplied, $or adds them up."
            raise InvalidPattern(problem, noun=rules.noun, hint=hint)
    for branch in branches:
        if len(branch) > MOST_FIELDS:
            raise InvalidPattern(f"it has {len(branch)} fields, at most {MOST_FIELDS}", noun=rules.noun)
    return tuple(tuple(branch[path] for path in sorted(branch, key=_order)) for branch in branches)


def _order(path: str) -> bytes:
    """EventBridge takes the fields in this order, which matters to ``exists: false`` in arrays: by UTF-16 code unit."""
    return path.encode("utf-16-be", "surrogatepass")


@dataclass(frozen=True)
class _Reader:
    rules: Rules
    or_is_operator: bool

    def object(
        self,
        value: dict[str, Any],
        where: Location,
        branches: list[dict[str, Field]] | None = None,
        path: tuple[str, ...] = (),
        *,
        in_or: bool = False,
    ) -> list[dict[str, Field]]:
        """The branches, each with the fields of this object added: the last one wins where a path occurs twice."""
        branches = [{}] if branches is None else branches
        if not value:
            raise where.refuse(
                "Empty objects are not allowed", "Leave the key out: what is not named matches anything."
            )
        if path and not self.rules.nested:
            problem = "Filter policy scope MessageAttributes does not support nested filter policy"
            raise where.refuse(problem, 'Give the subscription the FilterPolicyScope "MessageBody".')
        for name, item in _items(value):
            place = where.key(name)
            if name == "$or" and self.or_is_operator:
                branches = self._or(item, place, branches, path)
            elif in_or and name in _RESERVED:
                raise place.refuse(f"{name} is a reserved field name which cannot be used inside $or")
            elif isinstance(item, dict):
                branches = self.object(item, place, branches, (*path, name), in_or=in_or)
            elif isinstance(item, list):
                field = self._leaf(item, place, (*path, name))
                for branch in branches:
                    branch[field.path] = field
            else:
                hint = f'Write the values to match in an array: "{name}": [{json.dumps(item, ensure_ascii=False)}].'
                raise place.refuse(f'"{name}" must be an object or an array', hint)
        return branches

    def _or(
        self, value: Any, where: Location, branches: list[dict[str, Field]], path: tuple[str, ...]
    ) -> list[dict[str, Field]]:
        hint = 'Write {"$or": [{"a": [1]}, {"b": [2]}]}.'
        if not isinstance(value, list):
            raise where.refuse("$or must be an array", hint)
        if len(value) < 2:
            raise where.refuse("There must be at least 2 objects in $or", hint)
        together: list[dict[str, Field]] = []
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise where.item(index).refuse("Only JSON objects are allowed in the array of $or", hint)
            copies = [dict(branch) for branch in branches]
            together += self.object(item, where.item(index), copies, path, in_or=True)
            if len(together) > MOST_RULES:
                problem = f"The use of $or results in over {MOST_RULES} rule combinations"
                raise where.refuse(problem, "Alternatives are multiplied: use several rules instead.")
        return together

    def _leaf(self, values: list[Any], where: Location, path: tuple[str, ...]) -> Field:
        if not values:
            raise where.refuse("Empty arrays are not allowed", 'Write the values to match: ["a", "b"].')
        joined = ".".join(path)
        if joined.count(".") >= MOST_NAMES:
            raise InvalidPattern(
                f"it is nested too deeply: over {MOST_NAMES} names", noun=where.noun, at=joined[:40] + "…"
            )
        conditions = tuple(self._condition(value, where.item(index)) for index, value in enumerate(values))
        return Field(joined, conditions, len(path))

    def _condition(self, value: Any, where: Location) -> Alternative:
        if isinstance(value, list):
            problem = "Match value must be String, number, true, false, or null"
            raise where.refuse(
                problem, "An array in an event is matched by its elements: write them without a second [."
            )
        if not isinstance(value, dict):
            return exact(value)
        if not value:
            raise where.refuse("Match expression name not found", 'Write one operator: {"prefix": "a"}.')
        if len(value) > 1 or _repeats(value):
            hint = "Each operator stands in an object of its own; the objects of an array are alternatives."
            raise where.refuse(f"Only one key allowed in match expression: {', '.join(value)}", hint)
        ((operator, operand),) = value.items()
        if operator not in self.rules.operators:
            known = ", ".join(sorted(self.rules.operators - {"exactly"}))
            raise where.refuse(f"Unrecognized match type {operator}", f"The operators are {known}.")
        return PARSERS[operator](operand, where, self.rules)


def _repeats(value: Any) -> bool:
    return isinstance(value, _Repeated) or (isinstance(value, dict) and any(map(_repeats, value.values())))


class _Repeated(dict[str, Any]):
    """A JSON object in which a key occurs more than once. As a dict the last one wins, ``pairs`` has them all."""

    pairs: list[tuple[str, Any]]


def _items(value: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """The keys and values of a JSON object in the order in which they are written, repeated ones too."""
    return value.pairs if isinstance(value, _Repeated) else value.items()


def _read(pattern: str | bytes | Mapping[str, Any], noun: str) -> dict[str, Any]:
    """The pattern's JSON object. Raises InvalidPattern for text that is not JSON and values that JSON does not have."""
    value: Any = pattern
    if isinstance(pattern, str | bytes | bytearray):
        value = _decoded(pattern, noun)
    if not isinstance(value, Mapping):
        raise InvalidPattern("Filter is not an object", noun=noun, hint='Write an object: {"source": ["aws.s3"]}.')
    return value if isinstance(value, dict) and value is not pattern else _object(value, Location(noun))


def _decoded(text: str | bytes | bytearray, noun: str) -> Any:
    try:
        decoded = text if isinstance(text, str) else text.decode()
        return json.loads(decoded, object_pairs_hook=_pairs, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidPattern(f"it is not UTF-8 text: byte {error.start + 1} cannot be read", noun=noun) from None
    except json.JSONDecodeError as error:
        problem = f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InvalidPattern(problem, noun=noun) from None
    except ValueError as error:  # NaN, Infinity, and integers of thousands of digits
        raise InvalidPattern(f"it is not JSON: {error}", noun=noun) from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeated = _Repeated(value)
    repeated.pairs = pairs
    return repeated


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _object(value: Mapping[Any, Any], where: Location) -> dict[str, Any]:
    """A copy in which everything is JSON: a dict of the caller may hold anything."""
    copy: dict[str, Any] = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise where.refuse(f"the key {name!r} is not a string")
        copy[name] = _value(item, where.key(name))
    return copy


def _value(value: Any, where: Location) -> Any:
    if isinstance(value, Mapping):
        return _object(value, where)
    if isinstance(value, list | tuple):
        return [_value(item, where.item(index)) for index, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise where.refuse(f"{value!r} is no JSON value", "Write strings, numbers, true, false, null, arrays or objects.")
