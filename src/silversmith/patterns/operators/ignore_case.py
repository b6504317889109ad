"""``{"equals-ignore-case": "text"}``, and what prefix and suffix share with it.

EventBridge takes each character of the pattern in its lower and in its upper case, and nothing else: "ß" matches "ß"
and "SS" but not "ss", and no look-alike such as the Kelvin sign matches "k".
"""

from __future__ import annotations

import re
from typing import Any

from silversmith.patterns.conditions import Condition, Test
from silversmith.patterns.dialects import Rules
from silversmith.patterns.errors import Where


def parse(operand: Any, where: Where, _rules: Rules) -> Condition:
    """The condition for a string in any case."""
    if not isinstance(operand, str):
        hint = 'Write one object for each: [{"equals-ignore-case": "a"}, {"equals-ignore-case": "b"}].'
        raise where.refuse("equals-ignore-case match pattern must be a string", hint)
    return Condition(equals(operand))


def equals(text: str) -> Test:
    """Whether a value is the text in any case."""
    if text.isascii():
        lower = text.lower()
        return lambda found: isinstance(found, str) and found.isascii() and found.lower() == lower
    whole = _either_case(text)
    return lambda found: isinstance(found, str) and whole.fullmatch(found) is not None


def begins(text: str) -> Test:
    """Whether a value begins with the text in any case."""
    if text.isascii():
        lower, length = text.lower(), len(text)
        return lambda found: isinstance(found, str) and (start := found[:length]).isascii() and start.lower() == lower
    start = _either_case(text)
    return lambda found: isinstance(found, str) and start.match(found) is not None


def ends(text: str) -> Test:
    """Whether a value ends with the text in any case."""
    if text.isascii():
        lower, length = text.lower(), len(text)
        return lambda found: (
            isinstance(found, str)
            and len(found) >= length
            and (end := found[len(found) - length :]).isascii()
            and end.lower() == lower
        )
    end = _either_case(text, backwards=True)  # matched against the value read backwards, so that it stays linear
    return lambda found: isinstance(found, str) and end.match(found[::-1]) is not None


def _either_case(text: str, *, backwards: bool = False) -> re.Pattern[str]:
    parts = []
    for character in reversed(text) if backwards else text:
        forms = {character} if ord(character) > 0xFFFF else {character.lower(), character.upper()}
        parts.append("|".join(re.escape(form[::-1] if backwards else form) for form in sorted(forms)))
    return re.compile("".join(f"(?:{part})" for part in parts), re.DOTALL)
