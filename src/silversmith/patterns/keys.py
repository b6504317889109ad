r"""The pattern of a bucket's keys that a user writes: ``flights/*.csv``.

``*`` stands for any run of characters, none and ``/`` too, as in EventBridge. ``\`` before a character makes it stand
for itself. Other signs that mean something elsewhere (``?``, ``[``, ``**``) are refused rather than taken literally.

AWS may find the wildcards of one field too complex ("Rule is too complex - try using fewer wildcards"). It documents
that there is such a limit, not which. EventBridge's own matcher counts how many beginnings of wildcards one value can
match at the same time, over all wildcards of the field; the patterns that AWS is known to accept and to refuse agree
with a limit of 10. Every value begins with a quotation mark, so more than ten wildcards in one field are always too
many. No pattern is refused here: the template makes several rules of it, or uses ``prefix`` and ``suffix``.
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-wildcard-matching-complexity
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from silversmith.patterns.operators import (
    InvalidPattern,
    Location,
    Test,
    address,
    wildcard_escape,
    wildcard_pieces,
    wildcard_test,
)

#: The longest key S3 takes, in bytes of UTF-8; no pattern needs to be longer.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
LONGEST = 1024

#: The largest :func:`wildcard_states` of a field that AWS is known to accept; all that it is known to refuse are above.
MOST_WILDCARD_STATES = 10

_STAR = 256
_OTHER = 257  # any byte that no wildcard has
_ENOUGH = 20_000  # sets of states that are looked at before the answer is taken to be "too many"

#: The wildcard, and how many of its tokens a value has matched.
_State = tuple[int, int]

_BARE = {
    "?": r"? would mean one character elsewhere; here only * is special. Write * instead, or \? for a question mark.",
    "[": r"[ would begin a set of characters elsewhere; here only * is special. Write \[ for a bracket.",
}


@dataclass(frozen=True)
class KeyPattern:
    """A parsed key pattern. Two are equal when their texts are. Made by :meth:`parse`."""

    text: str
    _pieces: tuple[str, ...] = field(repr=False, compare=False)
    _test: Test = field(repr=False, compare=False)

    @staticmethod
    def parse(text: str) -> KeyPattern:
        """Raises InvalidPattern, which says what to write instead."""
        pieces = _pieces(text)
        return KeyPattern(text, pieces, wildcard_test(pieces))

    @staticmethod
    def exactly(key: str) -> KeyPattern:
        """The pattern of this one key, whatever signs it has."""
        return KeyPattern(key, (key,), key.__eq__)

    def matches(self, key: str) -> bool:
        """Whether an object's key, as it is (not encoded), matches. Exactly what :meth:`event_pattern` matches."""
        return self._test(key)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The literal texts before, between and after the stars."""
        return self._pieces

    @property
    def literal_prefix(self) -> str:
        """The beginning of every matching key: the text before the first ``*``, the whole key if there is none."""
        return self._pieces[0]

    @property
    def literal_suffix(self) -> str:
        """The end of every matching key: the text after the last ``*``, the whole key if there is none."""
        return self._pieces[-1]

    def event_pattern(self) -> list[Any]:
        """The EventBridge leaf for ``detail.object.key``."""
        if len(self._pieces) == 1 and address(self._pieces[0]) is None:
            return [self._pieces[0]]
        # EventBridge would match an exact IP address in any spelling, so a key that looks like one is no exact match
        return [{"wildcard": "*".join(map(wildcard_escape, self._pieces))}]


def _pieces(text: str) -> tuple[str, ...]:
    """The literal pieces between the stars."""
    if not text:
        raise _refused(text, "it is empty", "Write * for every key.")
    if text.startswith("/"):
        raise _refused(text, "it begins with /", r"Keys do not: leave it out, or write \/ if yours really do.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _refused(text, "it has characters that UTF-8 cannot hold", "No key has them.") from None
    if size > LONGEST:
        raise _refused(text[:40] + "…", f"it has {size:,} bytes, a key at most {LONGEST:,}")
    pieces = [""]
    characters = iter(text)
    previous = ""
    for character in characters:
        if character == "*":
            if previous == "*":
                raise _refused(text, "it has **", "One * already crosses folders: write a single one.")
            pieces.append("")
        elif character == "\\":
            escaped = next(characters, "")
            if not escaped:
                raise _refused(text, r"it ends with a single \ ", r"Write \\ for a backslash.")
            pieces[-1] += escaped
        elif character in _BARE:
            raise _refused(text, f"it has a bare {character}", _BARE[character])
        else:
            pieces[-1] += character
        previous = character
    return tuple(pieces)


def _refused(text: str, problem: str, hint: str = "") -> InvalidPattern:
    return InvalidPattern(problem.strip(), noun=f"key pattern {text!r}", hint=hint)


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
    for index, piece in enumerate(wildcard_pieces(text, Location("wildcard"))):
        tokens += [_STAR] * bool(index) + list(piece.encode("utf-8", "surrogatepass"))
    return (*tokens, ord('"'))
