"""Exact match: a string, a number, true, false or null, written as it is."""

from __future__ import annotations

from typing import Any

from silversmith.patterns.addresses import address
from silversmith.patterns.conditions import Anchor, AnchorKind, Condition, Test, exact_key
from silversmith.patterns.dialects import Rules
from silversmith.patterns.errors import Where


def parse(value: str | int | float | bool | None) -> Condition:
    """The condition for one value. Numbers match by value (300, 300.0 and 3.0e2 are one); true is not 1.

    A string that is an IP address matches every spelling of it, as in EventBridge.
    """
    anchors = (Anchor(AnchorKind.EXACT, exact_key(value)),)
    if value is None or isinstance(value, bool):
        return Condition(lambda found: found is value, anchors=anchors)
    if isinstance(value, str):
        if address(value) is not None:
            return Condition(_same_address(value))
        return Condition(lambda found: bool(found == value), literal=value, anchors=anchors)
    number = value
    return Condition(lambda found: type(found) in {int, float} and found == number, literal=number, anchors=anchors)


def parse_operator(operand: Any, where: Where, _rules: Rules) -> Condition:
    """``{"exactly": "text"}``."""
    if not isinstance(operand, str):
        raise where.refuse("exact match pattern must be a string", 'Write other values without "exactly".')
    return parse(operand)


def _same_address(text: str) -> Test:
    wanted = address(text)
    return lambda found: isinstance(found, str) and (found == text or address(found) == wanted)
