"""The operators, one file a family: each makes a condition of what a pattern says, or tells why AWS would refuse it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from silversmith.patterns.conditions import Condition
from silversmith.patterns.dialects import Rules
from silversmith.patterns.errors import Where
from silversmith.patterns.operators import (
    anything_but,
    cidr,
    exact,
    exists,
    ignore_case,
    numeric,
    prefix,
    suffix,
    wildcard,
)

#: What reads the operand of an operator. Raises :class:`~silversmith.patterns.errors.InvalidPattern`.
Parser = Callable[[Any, Where, Rules], Condition]

PARSERS: Mapping[str, Parser] = {
    "anything-but": anything_but.parse,
    "cidr": cidr.parse,
    "equals-ignore-case": ignore_case.parse,
    "exactly": exact.parse_operator,
    "exists": exists.parse,
    "numeric": numeric.parse,
    "prefix": prefix.parse,
    "suffix": suffix.parse,
    "wildcard": wildcard.parse,
}
