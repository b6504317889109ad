"""A pattern, compiled: :func:`compile_pattern` gives the :class:`Matcher` that tells which events match."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from silversmith.patterns.arrays import consistent
from silversmith.patterns.dialects import Dialect
from silversmith.patterns.fields import meets
from silversmith.patterns.parse import Rule, parse


class Matcher:
    """A compiled pattern. It has no state, so any number of threads may use it."""

    __slots__ = ("_rules", "dialect")

    def __init__(self, rules: tuple[Rule, ...], dialect: Dialect) -> None:
        self._rules = tuple(compile_rule(rule) for rule in rules)
        self.dialect = dialect

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether the event, parsed JSON, matches. Never raises: what is no JSON object does not match."""
        if isinstance(event, dict):
            for matches in self._rules:
                if matches(event):
                    return True
        return False


def compile_pattern(
    pattern: str | bytes | Mapping[str, Any], *, dialect: Dialect | str = Dialect.EVENTBRIDGE
) -> Matcher:
    """Compile a pattern given as JSON text or as a dict; ``dialect`` is the service that uses it.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html

    Raises:
        InvalidPattern: AWS would refuse the pattern. The text says where, why, and what to write.
    """
    chosen = Dialect(dialect)
    return Matcher(parse(pattern, chosen), chosen)


def compile_rule(rule: Rule) -> Callable[[dict[str, Any]], bool]:
    """The function that tells whether an event meets all fields of a rule.

    Each field is looked at on its own first, the shortest paths before the others. Only where an array is on the way
    of several fields are these looked at together.
    """
    shared = _shared([field.path for field in rule])
    alone = sorted(rule, key=lambda field: field.path.count("."))
    each = tuple(meets(field, shared[field.path]) for field in alone)
    together = consistent([field for field in rule if shared[field.path]])
    if len(each) == 1:
        (only,) = each
        return lambda event: only(event) is True

    def matches(event: dict[str, Any]) -> bool:
        depends = False
        for met in each:
            found = met(event)
            if not found:
                if found is False:
                    return False
                depends = True
        return not depends or together(event)

    return matches


def _shared(paths: list[str]) -> dict[str, int]:
    """How many names, from the first, each path has in common with any other."""
    names = [path.split(".") for path in paths]
    shared = dict.fromkeys(paths, 0)
    for index, one in enumerate(names):
        for other in names[:index]:
            common = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
            length = min(len(one), len(other)) if common is None else common
            for path in (".".join(one), ".".join(other)):
                shared[path] = max(shared[path], length)
    return shared
