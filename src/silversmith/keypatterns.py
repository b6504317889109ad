r"""The pattern of a bucket's keys that a user writes: ``flights/*.csv``.

``*`` stands for any run of characters, none and ``/`` too, as in EventBridge. ``\`` before a character makes it stand
for itself. Other signs that mean something elsewhere (``?``, ``[``, ``**``) are refused rather than taken literally.

A Lambda bundle needs this module only, and nothing of ``patterns/``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from itertools import takewhile
from typing import Any
from unicodedata import normalize

from silversmith.errors import SilversmithError

#: Whether a leaf value of an event (a string, number, boolean or null; never an object or an array) matches.
Test = Callable[[Any], bool]


class InvalidPattern(SilversmithError, ValueError):
    """A pattern that AWS would refuse: ``problem`` says why, ``at`` where in the pattern, ``hint`` the remedy."""

    def __init__(self, problem: str, *, noun: str = "event pattern", at: str = "", hint: str = "") -> None:
        place = f", at {at}" if at else ""
        super().__init__(f"The {noun} is not valid{place}: {problem}." + (f" {hint}" if hint else ""))
        self.problem = problem
        self.at = at
        self.hint = hint


#: The longest key S3 takes, in bytes of UTF-8; no pattern needs to be longer.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
LONGEST = 1024

#: Names of what programs put beside data, and is none: marks of jobs that ended, files of jobs under way, checksums.
#: A pattern that has one of these words wants such objects.
#: https://hadoop.apache.org/docs/stable/hadoop-aws/tools/hadoop-aws/committers.html
_MARKER = re.compile(
    r"(?:\A|/)(?:(_SUCCESS)\Z|(_committed_|_started_)[^/]*\Z|(_temporary|__magic)/|"
    r"(__magic_job-|\.spark-staging-|\.hive-staging_)[^/]*/)|(\.crc)\Z"
)

#: Objects without bytes whose keys end so stand for folders.
_FOLDERS = ("/", "_$folder$")

_BARE = {
    "?": r"? would mean one character elsewhere; here only * is special. Write * instead, or \? for a question mark.",
    "[": r"[ would begin a set of characters elsewhere; here only * is special. Write \[ for a bracket.",
}

_BRACES = re.compile(r"(?<!\\)\{[^}]*,[^}]*\}")


@dataclass(frozen=True)
class KeyPattern:
    """A parsed key pattern, or several, of which any will do. Two are equal when their texts are. Made by :meth:`parse`
    and :meth:`any_of`.
    """

    text: str
    _pieces: tuple[str, ...] = field(repr=False, compare=False)
    _test: Test = field(repr=False, compare=False)
    _several: tuple[KeyPattern, ...] = field(default=(), repr=False)

    @staticmethod
    def parse(text: str) -> KeyPattern:
        """Raises InvalidPattern, which says what to write instead."""
        pieces = _pieces(text)
        return KeyPattern(text, pieces, wildcard_test(pieces))

    @staticmethod
    def any_of(texts: Sequence[str]) -> KeyPattern:
        """The union of several patterns, each once. Raises InvalidPattern."""
        several = tuple({text: KeyPattern.parse(text) for text in map(_writable, texts)}.values())
        if len(several) == 1:
            return several[0]
        if not several:
            raise _refused("", "there is none", "Write * for every key.")
        tests = [pattern._test for pattern in several]
        first, *rest = sorted(pattern.literal_prefix for pattern in several)
        size = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, rest[-1], strict=False)))
        text = ", ".join(pattern.text for pattern in several)
        return KeyPattern(text, (first[:size], ""), lambda key: any(test(key) for test in tests), several)

    @staticmethod
    def exactly(key: str) -> KeyPattern:
        """The pattern of this one key, whatever signs it has."""
        return KeyPattern(key, (key,), key.__eq__)

    @property
    def alternatives(self) -> tuple[KeyPattern, ...]:
        """The patterns of which any will do; of a single one, itself."""
        return self._several or (self,)

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each alternative."""
        return tuple(pattern.text for pattern in self.alternatives)

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes of matching keys: prefixes in the order of keys, none of which begins with another."""
        prefixes: list[str] = []
        for prefix in sorted({each.literal_prefix for each in self.alternatives}, key=str.encode):
            if not prefixes or not prefix.startswith(prefixes[-1]):
                prefixes.append(prefix)
        return tuple(prefixes)

    def matches(self, key: str) -> bool:
        """Whether an object's key, as it is (not encoded), matches. Exactly what :meth:`event_pattern` matches."""
        return self._test(key)

    def passes_over(self, key: str, size: int | None) -> bool:
        """Whether a matching key is a marker, of a folder or of a job, and no data. ``size`` None: it is not known.

        A pattern that names markers (``*/_SUCCESS``) takes them.
        """
        if self._several:
            takers = [pattern for pattern in self._several if pattern.matches(key)] or self._several
            return all(pattern.passes_over(key, size) for pattern in takers)
        if size == 0 and key.endswith(_FOLDERS):
            return not self.literal_suffix.endswith(_FOLDERS)
        marker = _MARKER.search(key)
        return marker is not None and not any(
            word and word in piece for word in marker.groups() for piece in self._pieces
        )

    def in_form_of(self, key: str) -> str:
        """The pattern in the Unicode normal form of a key, or in its case, if nothing else keeps it from matching; else
        empty.

        EventBridge normalizes nothing: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html
        """
        if self.matches(key):
            return ""
        forms = (each._in_form_of(key) or each._in_case_of(key) for each in self.alternatives)
        return next(filter(None, forms), "")

    def _in_form_of(self, key: str) -> str:
        if self.text.isascii() and key.isascii():
            return ""
        forms = (KeyPattern.parse(normalize(form, self.text)) for form in ("NFC", "NFD"))
        return next((pattern.text for pattern in forms if pattern.matches(key)), "")

    def _in_case_of(self, key: str) -> str:
        """With the beginning and the end of the key in place of its own, if these differ in case only."""
        first, last = self.literal_prefix, self.literal_suffix
        begin, end = key[: len(first)], key[len(key) - len(last) :]
        if len(self._pieces) == 1 or (begin.lower(), end.lower()) != (first.lower(), last.lower()):
            return ""
        texts = [escaped(piece) for piece in (begin, *self._pieces[1:-1], end)]
        pattern = KeyPattern.parse("*".join(texts))
        return pattern.text if pattern.matches(key) else ""

    @property
    def pieces(self) -> tuple[str, ...]:
        """The literal texts before, between and after the stars; of several patterns the prefix that all have."""
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
        if self._several:
            return [condition for pattern in self._several for condition in pattern.event_pattern()]
        if len(self._pieces) == 1 and address(self._pieces[0]) is None:
            return [self._pieces[0]]
        # EventBridge would match an exact IP address in any spelling, so a key that looks like one is no exact match
        return [{"wildcard": "*".join(map(wildcard_escape, self._pieces))}]


def _writable(text: object) -> str:
    """The text, unless no key pattern can be it, or it means something else elsewhere."""
    if not isinstance(text, str):
        kind = type(text).__name__
        raise _refused(repr(text), f"it is of type {kind}", "Give one text, or several: transform('a/*', 'b/*').")
    if not text:
        raise _refused(text, "it is empty", "Write * for every key.")
    if text.startswith("/"):
        raise _refused(text, "it begins with /", r"Keys do not: leave it out, or write \/ if yours really do.")
    if text.startswith("s3://"):
        key = text.removeprefix("s3://").partition("/")[2]
        raise _refused(
            text, "it begins with s3://", f"Write the key alone, {key or '*'!r}; Pipeline(bronze=…) names the bucket."
        )
    if _BRACES.search(text):
        hint = r"Write each as a pattern of its own, a * in their place, or \{ for a brace in the keys."
        raise _refused(text, "it has {…,…}, which would be alternatives elsewhere", hint)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _refused(text, "it has characters that UTF-8 cannot hold", "No key has them.") from None
    if size > LONGEST:
        raise _refused(text[:40] + "…", f"it has {size:,} bytes, a key at most {LONGEST:,}")
    return text


def _pieces(text: str) -> tuple[str, ...]:
    """The literal pieces between the stars."""
    _writable(text)
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


def escaped(literal: str) -> str:
    """The pattern's text of a literal."""
    return "".join(f"\\{sign}" if sign in "\\*?[{" else sign for sign in literal)


def wildcard_test(pieces: tuple[str, ...]) -> Test:
    """Whether a value has the pieces in this order, the first at its beginning and the last at its end.

    The first place where a piece occurs is always the best, so nothing is tried twice: hostile values cost no more
    than others.
    """
    first, *middle, last = pieces if len(pieces) > 1 else (pieces[0], "")

    def test(leaf: Any) -> bool:
        if not isinstance(leaf, str) or not leaf.startswith(first) or not leaf.endswith(last):
            return False
        position, end = len(first), len(leaf) - len(last)
        for piece in middle:
            position = leaf.find(piece, position, end)
            if position < 0:
                return False
            position += len(piece)
        return position <= end

    return test if len(pieces) > 1 else lambda leaf: bool(leaf == first)


def wildcard_escape(literal: str) -> str:
    """The wildcard text that matches a literal and nothing else."""
    return literal.replace("\\", "\\\\").replace("*", "\\*")


_IPV4 = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)")
_IPV6 = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*")


def address(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a text spells, or None. ``010.0.0.1`` is 10.0.0.1, ``::ffff:a00:1`` is 10.0.0.1 too."""
    if four := _IPV4.fullmatch(text):
        numbers = [int(part) for part in four.groups()] if len(text) <= 15 else [256]
        return IPv4Address(bytes(numbers)) if max(numbers) <= 255 else None
    if not _IPV6.fullmatch(text):
        return None
    try:
        six = IPv6Address(text)
    except ValueError:
        return None
    return six.ipv4_mapped or six
