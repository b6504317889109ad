"""``{"suffix": "text"}`` and ``{"suffix": {"equals-ignore-case": "text"}}``: how a string ends."""

from __future__ import annotations

from typing import Any

from silversmith.patterns.conditions import Anchor, AnchorKind, Condition, Test
from silversmith.patterns.dialects import Rules
from silversmith.patterns.errors import Where
from silversmith.patterns.operators import ignore_case
from silversmith.patterns.operators.prefix import ignoring_case


def parse(operand: Any, where: Where, rules: Rules) -> Condition:
    """The condition for an ending. An empty one matches every string, as in AWS."""
    folded = ignoring_case("suffix", operand, where, rules)
    if folded is not None:
        return Condition(ignore_case.ends(folded))
    anchors = (Anchor(AnchorKind.SUFFIX, operand),) if operand else ()
    return Condition(ends(operand), anchors=anchors)


def ends(text: str) -> Test:
    """Whether a value is a string that ends with the text."""
    return lambda found: isinstance(found, str) and found.endswith(text)
