"""Array consistency: the values that meet several fields may not come from different elements of one array.

The rule is EventBridge's: each value carries the arrays it is in and its position in each, and two values go together
unless they are at different positions of an array. Values that stand in an array themselves (not in an object in it)
carry no position for that array. The fields are taken in the order of their paths; a field that must be absent is,
if no value of it goes together with those chosen so far.
https://github.com/aws/event-ruler#json-array-matching
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from silversmith.patterns.conditions import Test, any_of
from silversmith.patterns.parse import Field

#: The arrays a value is in, from the outermost: the number of the array, and the position of the element.
Place = tuple[tuple[int, int], ...]

#: Places by array, then by position, so that those that go with a choice are found without trying all.
#: ``_HERE`` marks where a place ends.
Tree = dict[int, "Mapping[int, Tree]"]

_HERE = -1


@dataclass(slots=True)
class _Found:
    """The places of the values of one field: of those that meet it, of all, and the arrays in any of them."""

    hits: Tree = field(default_factory=dict)
    present: Tree = field(default_factory=dict)
    arrays: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Node:
    """A prefix of some paths. ``reach`` leads to all longer ones, with the name that is looked for in an object."""

    reach: list[tuple[str, _Node]] = field(default_factory=list)
    wanted: int | None = None


def consistent(fields: Sequence[Field]) -> Callable[[dict[str, Any]], bool]:
    """The function that tells whether values of an event meet all fields together. The fields are in order."""
    root = _nodes([one.path for one in fields])
    tests = [any_of(one.conditions) for one in fields]
    absent = [any(condition.absent for condition in one.conditions) for one in fields]

    def together(event: dict[str, Any]) -> bool:
        found = _collect(event, root, tests, absent)
        if any(not one.hits and not may_be_absent for one, may_be_absent in zip(found, absent, strict=True)):
            return False
        return _choose(found, absent)

    return together


def _nodes(paths: Sequence[str]) -> _Node:
    nodes: dict[tuple[str, ...], _Node] = {(): _Node()}
    for index, path in enumerate(paths):
        names = tuple(path.split("."))
        for end in range(1, len(names) + 1):
            if names[:end] not in nodes:
                node = nodes[names[:end]] = _Node()
                for start in range(end):
                    nodes[names[:start]].reach.append((".".join(names[start:end]), node))
        nodes[names].wanted = index
    return nodes[()]


def _collect(event: dict[str, Any], root: _Node, tests: Sequence[Test], absent: Sequence[bool]) -> list[_Found]:
    """All values of all fields in one walk. An array is met only once, so a counter is enough to tell arrays apart."""
    found = [_Found() for _ in tests]
    pending: list[tuple[Any, _Node, Place]] = [(event, root, ())]
    arrays = 0
    while pending:
        value, node, place = pending.pop()
        if isinstance(value, dict):
            pending.extend((value[name], longer, place) for name, longer in node.reach if name in value)
        elif isinstance(value, list):
            for position, item in enumerate(value):
                inside = isinstance(item, dict | list)
                pending.append((item, node, (*place, (arrays, position)) if inside else place))
            arrays += 1
        elif node.wanted is not None:
            one = found[node.wanted]
            if tests[node.wanted](value):
                _add(one.hits, place)
                one.arrays.update(array for array, _ in place)
            if absent[node.wanted]:
                _add(one.present, place)
                one.arrays.update(array for array, _ in place)
    return found


def _add(tree: Tree, place: Place) -> None:
    for array, position in place:
        tree = tree.setdefault(array, {}).setdefault(position, {})  # type: ignore[attr-defined]
    tree[_HERE] = {}


def _choose(found: Sequence[_Found], absent: Sequence[bool]) -> bool:
    """Whether a value can be chosen for each field.

    A choice is remembered only as far as a later field can disagree with it, so arrays side by side do not multiply.
    """
    later: list[set[int]] = [set()]
    for one in reversed(found[1:]):
        later.append(later[-1] | one.arrays)
    later.reverse()
    pending: list[tuple[int, dict[int, int]]] = [(0, {})]
    seen: set[tuple[int, frozenset[tuple[int, int]]]] = set()
    while pending:
        index, chosen = pending.pop()
        if index == len(found):
            return True
        one = found[index]
        choices = list(_agreeing(one.hits, chosen))
        if absent[index] and next(_agreeing(one.present, chosen), None) is None:
            choices.append(())
        for more in choices:
            both = {array: at for array, at in (*chosen.items(), *more) if array in later[index]}
            key = (index + 1, frozenset(both.items()))
            if key not in seen:
                seen.add(key)
                pending.append((index + 1, both))
    return False


def _agreeing(tree: Tree, chosen: Mapping[int, int]) -> Iterator[Place]:
    """What each place in the tree that agrees with the choice adds to it."""
    pending: list[tuple[Tree, Place]] = [(tree, ())]
    while pending:
        node, added = pending.pop()
        for array, positions in node.items():
            if array == _HERE:
                yield added
            elif array not in chosen:
                pending.extend((inner, (*added, (array, at))) for at, inner in positions.items())
            elif chosen[array] in positions:
                pending.append((positions[chosen[array]], added))
