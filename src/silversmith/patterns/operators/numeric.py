"""``{"numeric": [">", 0, "<=", 5]}``: equal to a number, or within a range.

AWS compares numbers between -5e9 and 5e9 only; a value beyond them matches no range.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#filtering-numeric-matching
"""

from __future__ import annotations

from typing import Any

from silversmith.patterns.conditions import Anchor, AnchorKind, Condition, Test
from silversmith.patterns.dialects import Rules
from silversmith.patterns.errors import Where

_LIMIT = 5e9
_HOW = 'Write ["=", 5], ["<", 5], [">", 0] or a range, lower bound first: [">", 0, "<=", 5].'


def parse(operand: Any, where: Where, rules: Rules) -> Condition:
    """The condition for a comparison. Empty ranges are refused, as AWS does."""
    if not isinstance(operand, list):
        raise where.refuse("Value of numeric must be an array", _HOW)
    if not operand or not isinstance(operand[0], str):
        raise where.refuse(f"Invalid member in numeric match: {operand[0] if operand else ']'}", _HOW)
    operator, *rest = operand
    if operator not in {"=", "<", "<=", ">", ">="}:
        raise where.refuse(f"Unrecognized numeric range operator: {operator}", _HOW)
    number = bound("equals" if operator == "=" else operator, rest[:1], where, rules)
    if len(rest) == 1:
        return _single(operator, number, where)
    if operator not in {">", ">="}:
        raise where.refuse("Too many elements in numeric expression", _HOW)
    second, *top = rest[1:]
    if second not in ("<", "<="):  # not a set: it may be anything, also a list
        kind = "Bad numeric range operator" if isinstance(second, str) else "Bad value in numeric range"
        raise where.refuse(f"{kind}: {second}", _HOW)
    above = bound(second, top[:1], where, rules)
    if len(top) > 1:
        raise where.refuse("Too many terms in numeric range expression", _HOW)
    if number >= above:
        raise where.refuse("Bottom must be less than top", f"No number is {operator} {number} and {second} {above}.")
    return Condition(_between(number, operator == ">=", above, second == "<="))


def bound(operator: str, values: list[Any], where: Where, rules: Rules) -> int | float:
    """The number that follows an operator, refused if there is none or AWS does not compare with such."""
    if not values or isinstance(values[0], bool) or not isinstance(values[0], int | float):
        raise where.refuse(f"Value of {operator} must be numeric", _HOW)
    return in_limits(values[0], where, rules)


def in_limits(number: int | float, where: Where, rules: Rules) -> int | float:
    """The number itself, refused if the dialect does not compare with such."""
    if not -rules.number_limit <= number <= rules.number_limit:
        limit = int(rules.number_limit)
        raise where.refuse(
            f"Value must be between {-limit} and {limit}, inclusive: {number}",
            "A number beyond that can only be matched exactly, without an operator.",
        )
    return number


def _single(operator: str, number: int | float, where: Where) -> Condition:
    if operator == "=":
        anchors = (Anchor(AnchorKind.EXACT, number),)
        return Condition(_between(number, True, number, True), anchors=anchors)
    if (operator, number) in {(">", _LIMIT), ("<", -_LIMIT)}:
        raise where.refuse("Bottom must be less than top", f"AWS compares no number that is {operator} {number}.")
    if operator in {">", ">="}:
        return Condition(_between(number, operator == ">=", _LIMIT, True))
    return Condition(_between(-_LIMIT, True, number, operator == "<="))


def _between(low: float, with_low: bool, high: float, with_high: bool) -> Test:
    if with_low and with_high:
        return lambda found: (type(found) is int or type(found) is float) and low <= found <= high
    if with_low:
        return lambda found: (type(found) is int or type(found) is float) and low <= found < high
    if with_high:
        return lambda found: (type(found) is int or type(found) is float) and low < found <= high
    return lambda found: (type(found) is int or type(found) is float) and low < found < high
