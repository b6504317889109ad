"""``{"prefix": "text"}`` and ``{"prefix": {"equals-ignore-case": "text"}}``: how a string begins."""

from __future__ import annotations

from typing import Any

from silversmith.patterns.conditions import Anchor, AnchorKind, Condition, Test
from silversmith.patterns.dialects import Rules
from silversmith.patterns.errors import Where
from silversmith.patterns.operators import ignore_case


def parse(operand: Any, where: Where, rules: Rules) -> Condition:
    """The condition for a beginning. An empty one matches every string, as in AWS."""
    folded = ignoring_case("prefix", operand, where, rules)
    if folded is not None:
        return Condition(ignore_case.begins(folded))
    anchors = (Anchor(AnchorKind.PREFIX, operand),) if operand else ()
    return Condition(begins(operand), anchors=anchors)


def begins(text: str) -> Test:
    """Whether a value is a string that begins with the text."""
    return lambda found: isinstance(found, str) and found.startswith(text)


def ignoring_case(operator: str, operand: Any, where: Where, rules: Rules) -> str | None:
    """The text in ``{"equals-ignore-case": text}``, None where the operand is a string of its own. Else raises."""
    if isinstance(operand, str):
        return None
    inner = where.key(operator)
    if not isinstance(operand, dict) or not rules.ignore_case_affixes:
        hint = f'Write one object for each text: [{{"{operator}": "a"}}, {{"{operator}": "b"}}].'
        raise where.refuse(f"{operator} match pattern must be a string", hint)
    if set(operand) != {"equals-ignore-case"}:
        names = ", ".join(operand) or "an empty object"
        problem = "Only one key allowed in match expression" if len(operand) > 1 else f"Unsupported {operator} pattern"
        raise inner.refuse(f"{problem}: {names}", f'Write {{"{operator}": {{"equals-ignore-case": "text"}}}}.')
    text = operand["equals-ignore-case"]
    if not isinstance(text, str):
        raise inner.refuse("equals-ignore-case match pattern must be a string")
    return text
