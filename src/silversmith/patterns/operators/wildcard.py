r"""``{"wildcard": "a*b"}``: ``*`` is any run of characters, none too; ``\*`` and ``\\`` are the characters themselves.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-wildcard-matching
"""

from __future__ import annotations

from typing import Any

from silversmith.patterns.conditions import Anchor, AnchorKind, Condition, Test
from silversmith.patterns.dialects import Rules
from silversmith.patterns.errors import Where


def parse(operand: Any, where: Where, _rules: Rules) -> Condition:
    """The condition for a wildcard."""
    if not isinstance(operand, str):
        hint = 'Write one object for each: [{"wildcard": "a*"}, {"wildcard": "b*"}].'
        raise where.refuse("wildcard match pattern must be a string", hint)
    pieces = split(operand, where)
    anchors = [Anchor(AnchorKind.EXACT, pieces[0])] if len(pieces) == 1 else []
    if len(pieces) > 1 and pieces[0]:
        anchors.append(Anchor(AnchorKind.PREFIX, pieces[0]))
    if len(pieces) > 1 and pieces[-1]:
        anchors.append(Anchor(AnchorKind.SUFFIX, pieces[-1]))
    return Condition(test(pieces), anchors=tuple(anchors))


def split(text: str, where: Where) -> tuple[str, ...]:
    """The literal pieces between the stars, escapes undone: one more than there are stars. Raises on bad escapes."""
    pieces = [""]
    characters = iter(enumerate(text))
    for position, character in characters:
        if character == "*":
            if text[position + 1 : position + 2] == "*":
                raise where.refuse(
                    f"Consecutive wildcard characters at pos {position}",
                    r"One * already matches any number of characters; write \* for a star itself.",
                )
            pieces.append("")
        elif character == "\\":
            _, escaped = next(characters, (0, ""))
            if escaped not in {"*", "\\"}:
                raise where.refuse(
                    f"Invalid escape character at pos {position}",
                    r"Only \* and \\ are escapes (in JSON text: \\* and \\\\); any other character stands for itself.",
                )
            pieces[-1] += escaped
        else:
            pieces[-1] += character
    return tuple(pieces)


def test(pieces: tuple[str, ...]) -> Test:
    """Whether a value has the pieces in this order, the first at its beginning and the last at its end.

    The first place where a piece occurs is always the best one, so there is nothing to try again: hostile values cost
    no more than others.
    """
    if len(pieces) == 1:
        (only,) = pieces
        return lambda found: bool(found == only)
    first, *middle, last = pieces
    inner = tuple(piece for piece in middle if piece)
    least = len(first) + len(last)

    def ends_only(found: Any) -> bool:
        return isinstance(found, str) and len(found) >= least and found.startswith(first) and found.endswith(last)

    def whole(found: Any) -> bool:
        if not ends_only(found):
            return False
        position, end = len(first), len(found) - len(last)
        for piece in inner:
            position = found.find(piece, position, end)
            if position < 0:
                return False
            position += len(piece)
        return True

    return whole if inner else ends_only


def escape(literal: str) -> str:
    """The wildcard text that matches a literal and nothing else."""
    return literal.replace("\\", "\\\\").replace("*", "\\*")
