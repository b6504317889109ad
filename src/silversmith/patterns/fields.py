"""Finding the values of one field in an event, without flattening the event.

EventBridge joins the names on the way to a value with dots and crushes arrays: the path ``a.b`` is found in
``{"a": {"b": 1}}``, in ``{"a": [{"b": 1}, {"b": 2}]}`` and in ``{"a.b": 1}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any, NamedTuple

from silversmith.patterns.conditions import Test, any_of
from silversmith.patterns.parse import Field

#: Whether an event meets a field. None: it depends on other fields, because an array is on the way that they share.
Meets = Callable[[dict[str, Any]], bool | None]


class _Way(Enum):
    """What following a path may give instead of a value."""

    NOWHERE = "there is no value"
    ARRAY = "there is an array, or a name with dots, on the way"
    SHARED = "there is an array on the way that other fields share"


_NOWHERE, _ARRAY, _SHARED = _Way  # to look up a member of an enumeration takes longer than all the rest


class Step(NamedTuple):
    """One name of a path. ``longer`` are the names that reach further in one step, ``shared``: with other fields."""

    name: str
    longer: tuple[str, ...]
    shared: bool
    last: bool


class Path:
    """A path, ready to be followed. ``shared`` is how many of its names it has in common with another field's."""

    __slots__ = ("_joined", "reach", "steps")

    def __init__(self, text: str, shared: int = 0) -> None:
        names = text.split(".")
        ends = range(1, len(names) + 1)
        #: from each depth: the names to look for, and the depth each leads to
        self.reach = tuple(
            tuple((".".join(names[start:end]), end) for end in ends if end > start) for start in range(len(names))
        )
        self.steps = tuple(
            Step(name, tuple(joined for joined, _ in self.reach[start][1:]), start < shared, start + 1 == len(names))
            for start, name in enumerate(names)
        )
        self._joined = _SHARED if shared else _ARRAY

    def straight(self, event: dict[str, Any]) -> Any:
        """The value at the path if only objects are on the way, as nearly always; else a :class:`_Way`."""
        node: Any = event
        for name, longer, shared, last in self.steps:
            for joined in longer:
                if joined in node:
                    return self._joined
            node = node.get(name, _NOWHERE)
            if node.__class__ is not dict:
                if isinstance(node, list):
                    return _SHARED if shared else _ARRAY
                if not isinstance(node, dict):
                    return node if last else _NOWHERE
        return _NOWHERE  # an object is no value

    def values(self, event: dict[str, Any]) -> Iterable[Any]:
        """The values at the path: strings, numbers, booleans and nulls, in arrays too."""
        value = self.straight(event)
        if value.__class__ is not _Way:
            return (value,)
        return () if value is _NOWHERE else self._walk(event)

    def _walk(self, event: dict[str, Any]) -> Iterator[Any]:
        pending: list[tuple[Any, int]] = [(event, 0)]
        last = len(self.reach)
        while pending:
            node, depth = pending.pop()
            if isinstance(node, list):
                if depth == last:
                    yield from leaves(node)
                else:
                    pending.extend((item, depth) for item in node)
            elif not isinstance(node, dict):
                if depth == last:
                    yield node
            elif depth < last:
                pending.extend((node[name], end) for name, end in self.reach[depth] if name in node)


def leaves(array: list[Any]) -> Iterator[Any]:
    """The values in an array and in the arrays in it, objects left out."""
    pending = [array]
    for values in pending:
        for value in values:
            if isinstance(value, list):
                pending.append(value)
            elif not isinstance(value, dict):
                yield value


def meets(field: Field, shared: int) -> Meets:
    """The function that tells whether an event meets the field; ``shared`` as in :class:`Path`."""
    test, absent = any_of(field.conditions), any(condition.absent for condition in field.conditions)
    path = Path(field.path, shared)

    def anywhere(event: dict[str, Any]) -> bool:
        none = True
        for value in path.values(event):
            if test(value):
                return True
            none = False
        return absent and none

    def found(event: dict[str, Any]) -> bool | None:
        value = path.straight(event)
        if value.__class__ is not _Way:
            return test(value)
        if value is _NOWHERE:
            return absent
        return None if value is _SHARED else anywhere(event)

    return _of_top_level(field.path, test, found) if len(path.steps) == 1 else found


def _of_top_level(name: str, test: Test, otherwise: Meets) -> Meets:
    """The commonest case, and the shortest way to it: a string in the event itself."""

    def found(event: dict[str, Any]) -> bool | None:
        value = event.get(name)
        return test(value) if value.__class__ is str else otherwise(event)

    return found
