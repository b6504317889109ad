"""Many patterns over one event: :func:`compile_patterns` gives the :class:`RuleSet` that tells which of them match.

Each rule is filed under one of its fields, in an index by value, by beginning or by ending, so that an event only
meets the rules that its own values point to; those are then matched in full. Of the fields that a rule could be filed
under, it is the one that it shares with the fewest other rules. A rule that has no such field is always matched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from silversmith.patterns.conditions import Anchor, AnchorKind, Condition, exact_key
from silversmith.patterns.dialects import Dialect
from silversmith.patterns.errors import InvalidPattern
from silversmith.patterns.fields import Path
from silversmith.patterns.match import compile_rule
from silversmith.patterns.parse import Field, Rule, parse

#: Where a rule may be filed: the path of a field and what a value there points to it by.
_Entry = tuple[str, Anchor]


class RuleSet:
    """Compiled patterns by name. It has no state, so any number of threads may use it."""

    __slots__ = ("_always", "_by_path", "_matches", "_owners", "names")

    def __init__(self, patterns: Mapping[str, tuple[Rule, ...]]) -> None:
        self.names = tuple(patterns)
        rules = [(owner, rule) for owner, rules in enumerate(patterns.values()) for rule in rules]
        self._owners = tuple(owner for owner, _ in rules)
        self._matches: tuple[Callable[[dict[str, Any]], bool], ...] = tuple(compile_rule(rule) for _, rule in rules)
        shared_by = Counter(entry for _, rule in rules for entry in set(_entries(rule)))
        by_path: dict[str, _Index] = {}
        always: list[int] = []
        for number, (_, rule) in enumerate(rules):
            entries = _best(rule, shared_by)
            if not entries:
                always.append(number)
            for path, anchor in dict.fromkeys(entries):
                by_path.setdefault(path, _Index()).add(anchor, number)
        self._always = tuple(always)
        self._by_path = tuple((Path(path), index) for path, index in by_path.items())

    def matching(self, event: Mapping[str, Any]) -> list[str]:
        """The names of the patterns that the event, parsed JSON, matches, in the order in which they were given.

        Never raises: what is no JSON object matches none.
        """
        if not isinstance(event, dict):
            return []
        candidates = set(self._always)
        for path, index in self._by_path:
            for value in path.values(event):
                index.find(value, candidates)
        owners = {self._owners[number] for number in candidates if self._matches[number](event)}
        return [self.names[owner] for owner in sorted(owners)]


def compile_patterns(
    patterns: Mapping[str, str | bytes | Mapping[str, Any]], *, dialect: Dialect | str = Dialect.EVENTBRIDGE
) -> RuleSet:
    """Compile named patterns, each as in :func:`~silversmith.patterns.match.compile_pattern`.

    Raises:
        InvalidPattern: AWS would refuse one of them; a note on the error tells its name.
    """
    chosen = Dialect(dialect)
    parsed: dict[str, tuple[Rule, ...]] = {}
    for name, pattern in patterns.items():
        try:
            parsed[name] = parse(pattern, chosen)
        except InvalidPattern as error:
            error.add_note(f"This is the pattern named {name!r}.")
            raise
    return RuleSet(parsed)


class _Index:
    """The rules that are filed under one path."""

    __slots__ = ("_exact", "_prefixes", "_suffixes")

    def __init__(self) -> None:
        self._exact: dict[Any, list[int]] = {}
        self._prefixes: dict[int, dict[str, list[int]]] = {}  # by length
        self._suffixes: dict[int, dict[str, list[int]]] = {}

    def add(self, anchor: Anchor, number: int) -> None:
        kind, value = anchor
        if kind is AnchorKind.EXACT:
            self._exact.setdefault(value, []).append(number)
        elif isinstance(value, str):
            by_length = self._prefixes if kind is AnchorKind.PREFIX else self._suffixes
            by_length.setdefault(len(value), {}).setdefault(value, []).append(number)

    def find(self, value: Any, candidates: set[int]) -> None:
        """Add the rules that a value of an event points to."""
        if isinstance(value, str):
            candidates.update(self._exact.get(value, ()))
            for length, numbers in self._prefixes.items():
                candidates.update(numbers.get(value[:length], ()))
            for length, numbers in self._suffixes.items():
                candidates.update(numbers.get(value[-length:], ()))
        elif value is None or isinstance(value, bool | int | float):
            candidates.update(self._exact.get(exact_key(value), ()))


def _entries(rule: Rule) -> Iterator[_Entry]:
    for field in rule:
        if _can_be_filed(field):
            for condition in field.conditions:
                for anchor in condition.anchors:
                    yield field.path, anchor


def _can_be_filed(field: Field) -> bool:
    return all(condition.anchors for condition in field.conditions)


def _best(rule: Rule, shared_by: Mapping[_Entry, int]) -> list[_Entry]:
    """The entries of the field that has the fewest other rules under it; each condition is under its rarest anchor."""
    choices = [
        [(field.path, _rarest(field.path, one, shared_by)) for one in field.conditions]
        for field in filter(_can_be_filed, rule)
    ]
    return min(choices, key=lambda entries: sum(shared_by[entry] for entry in entries), default=[])


def _rarest(path: str, condition: Condition, shared_by: Mapping[_Entry, int]) -> Anchor:
    return min(condition.anchors, key=lambda anchor: (shared_by[path, anchor], -_length(anchor)))


def _length(anchor: Anchor) -> int:
    return len(anchor.value) if isinstance(anchor.value, str) else 0
