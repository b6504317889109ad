"""``{"exists": true}`` and ``{"exists": false}``: whether a field has a value, null too. Objects are no values.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-exists-matching
"""

from __future__ import annotations

from typing import Any

from silversmith.patterns.conditions import Condition, never
from silversmith.patterns.dialects import Rules
from silversmith.patterns.errors import Where


def parse(operand: Any, where: Where, _rules: Rules) -> Condition:
    """The condition for presence or absence."""
    if not isinstance(operand, bool):
        hint = 'Write {"exists": true} or {"exists": false}, without quotation marks around the value.'
        raise where.refuse("exists match pattern must be either true or false", hint)
    return Condition(_always) if operand else Condition(never, absent=True)


def _always(_found: Any) -> bool:
    return True
