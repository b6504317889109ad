"""``{"anything-but": …}``: any value, null too, except those named. A field without a value does not match.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-anything-but
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from silversmith.patterns.conditions import Condition, Test
from silversmith.patterns.dialects import Rules
from silversmith.patterns.errors import Where
from silversmith.patterns.operators import ignore_case, prefix, suffix, wildcard
from silversmith.patterns.operators.numeric import in_limits

_HOW = 'Write a string, a number, a list of strings or a list of numbers: {"anything-but": ["a", "b"]}.'


def parse(operand: Any, where: Where, rules: Rules) -> Condition:
    """The condition for everything else."""
    inner = where.key("anything-but")
    if isinstance(operand, dict):
        return _nested(operand, inner, rules)
    values = operand if isinstance(operand, list) else [operand]
    kinds = {_kind(value) for value in values}
    if kinds == {"string"}:
        strings = frozenset(values)
        return Condition(lambda found: not (isinstance(found, str) and found in strings))
    if kinds == {"number"}:
        numbers = frozenset(in_limits(value, inner, rules) for value in values)
        return Condition(lambda found: not ((type(found) is int or type(found) is float) and found in numbers))
    if kinds == {"string", "number"}:
        problem = "Inside anything-but list, either all values are number or string, mixed type is not supported"
    elif not values:
        problem = "Empty arrays are not allowed"
    elif isinstance(operand, list):
        problem = "Inside anything-but list, only strings or only numbers are supported"
    else:
        problem = "Value of anything-but must be an array or single string/number value"
    raise inner.refuse(problem, _HOW)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else "other"


def _wildcard(text: str, where: Where) -> Test:
    return wildcard.test(wildcard.split(text, where))


#: How each operator inside tells whether a value is one of the excluded.
_TESTS: Mapping[str, Callable[[str, Where], Test]] = {
    "equals-ignore-case": lambda text, _where: ignore_case.equals(text),
    "prefix": lambda text, _where: prefix.begins(text),
    "suffix": lambda text, _where: suffix.ends(text),
    "wildcard": _wildcard,
}


def _nested(operand: Mapping[str, Any], where: Where, rules: Rules) -> Condition:
    if len(operand) != 1:
        problem = "Only one key allowed in match expression" if operand else "Anything-But expression name not found"
        raise where.refuse(problem, 'Write one operator inside: {"anything-but": {"prefix": "a"}}.')
    ((operator, texts),) = operand.items()
    if operator not in rules.anything_but:
        known = ", ".join(sorted(rules.anything_but)) or "none"
        raise where.refuse(f"Unsupported anything-but pattern: {operator}", f"Supported here: {known}.")
    place = where.key(operator)
    if isinstance(texts, dict):
        problem = "Value of anything-but must be an array or single string/number value"
        raise place.refuse(problem, f"No operator can be inside {operator} here.")
    texts = texts if isinstance(texts, list) else [texts]
    if not texts:
        raise place.refuse("Empty arrays are not allowed", "Write at least one string.")
    for text in texts:
        if not isinstance(text, str):
            raise place.refuse(f"{operator} match pattern must be a string or a list of strings")
        if not text and operator in {"prefix", "suffix"}:
            raise place.refuse("Null prefix/suffix not allowed", "Every string begins and ends with the empty one.")
    tests = tuple(_TESTS[operator](text, place) for text in texts)

    def test(found: Any) -> bool:
        return not any(excluded(found) for excluded in tests)

    return Condition(test)
