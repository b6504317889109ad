"""Whether AWS would find the wildcards of one field too complex: "Rule is too complex - try using fewer wildcards".

AWS documents that there is such a limit, not what it is. EventBridge's own matcher counts how many beginnings of
wildcards one value can match at the same time, over all wildcards of the field; what AWS accepts and refuses agrees
with a limit of 10. As every value begins with a quotation mark, more than ten wildcards in one field are always too
many. Nothing here refuses a pattern: whoever makes rules splits them, or uses ``prefix`` and ``suffix``.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-wildcard-matching-complexity
"""

from __future__ import annotations

from collections.abc import Iterable

from silversmith.patterns.errors import Where
from silversmith.patterns.operators import wildcard

#: The largest :func:`wildcard_states` of a field that AWS has been seen to accept, and all it has refused are above.
MOST_WILDCARD_STATES = 10

_STAR = 256
_OTHER = 257  # any byte that no wildcard has
_ENOUGH = 20_000  # sets of states that are looked at before the answer is taken to be "too many"

#: The wildcard, and how many of its tokens a value has matched.
_State = tuple[int, int]


def wildcard_states(wildcards: Iterable[str]) -> int:
    """How many beginnings of these wildcards (EventBridge's escapes) one value can match at once, at worst.

    Counting ends above :data:`MOST_WILDCARD_STATES`: any number above it only means "too many".
    """
    patterns = tuple(_tokens(text) for text in dict.fromkeys(wildcards))
    alphabet = {token for tokens in patterns for token in tokens if token != _STAR} | {_OTHER}
    pending = [frozenset((number, 0) for number in range(len(patterns)))]
    seen = set(pending)
    most = 0
    while pending and most <= MOST_WILDCARD_STATES:
        states = pending.pop()
        for byte in alphabet:
            following = _after(states, byte, patterns)
            most = max(most, len(following))
            if following and following not in seen:
                seen.add(following)
                pending.append(following)
        if len(seen) > _ENOUGH:
            return MOST_WILDCARD_STATES + 1
    return most


def _after(states: frozenset[_State], byte: int, patterns: tuple[tuple[int, ...], ...]) -> frozenset[_State]:
    following: set[_State] = set()
    for number, done in states:
        tokens = patterns[number]
        if done and tokens[done - 1] == _STAR:
            following.add((number, done))
        if done < len(tokens) and tokens[done] == byte:
            following.add((number, done + 1))
            if done + 1 < len(tokens) and tokens[done + 1] == _STAR:  # a star matches nothing, too
                following.add((number, done + 2))
    return frozenset(following)


def _tokens(text: str) -> tuple[int, ...]:
    tokens: list[int] = [ord('"')]
    for index, piece in enumerate(wildcard.split(text, Where("wildcard"))):
        tokens += [_STAR] * bool(index) + list(piece.encode("utf-8", "surrogatepass"))
    return (*tokens, ord('"'))
