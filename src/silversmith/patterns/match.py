"""A pattern, compiled: :func:`compile_pattern` gives the :class:`Matcher` that tells which events match.

Each field is looked up in the event without flattening it. EventBridge joins the names on the way to a value with dots
and crushes arrays: the path ``a.b`` leads to the values in ``{"a": {"b": 1}}``, ``{"a": [{"b": 1}, {"b": 2}]}`` and
``{"a.b": 1}``.

The values that meet several fields may not come from different elements of one array. The rule is EventBridge's: each
value carries the arrays it is in and its position in each, and two values go together unless they are at different
positions of an array. Values that stand in an array themselves (not in an object in it) carry no position for that
array. The fields are taken in the order of their paths; a field that must be absent is, if no value of it goes together
with those chosen so far. https://github.com/aws/event-ruler#json-array-matching
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from silversmith.patterns.dialects import Dialect
from silversmith.patterns.operators import Test, any_of
from silversmith.patterns.parse import Field, Rule, parse


class Matcher:
    """A compiled pattern. It has no state, so any number of threads may use it."""

    __slots__ = ("_rules", "dialect")

    def __init__(self, rules: tuple[Rule, ...], dialect: Dialect) -> None:
        self._rules = tuple(_compile_rule(rule) for rule in rules)
        self.dialect = dialect

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether the event, parsed JSON, matches. Never raises: anything but a JSON object does not match."""
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
        InvalidPattern: AWS would refuse the pattern. The text says where, why, and the remedy.
    """
    chosen = Dialect(dialect)
    return Matcher(parse(pattern, chosen), chosen)


def _compile_rule(rule: Rule) -> Callable[[dict[str, Any]], bool]:
    """The function that tells whether an event meets all fields of a rule.

    Each field is looked at on its own first, the shortest paths before the others. Only where an array is on the way
    of several fields are these looked at together.
    """
    shared = _shared([field.path for field in rule])
    alone = sorted(rule, key=lambda field: field.path.count("."))
    each = tuple(_meets(field, shared[field.path]) for field in alone)
    together = _consistent([field for field in rule if shared[field.path]])
    if len(each) == 1:
        (only,) = each
        return lambda event: only(event) is True

    def matches(event: dict[str, Any]) -> bool:
        depends = False
        for met in each:
            result = met(event)
            if not result:
                if result is False:
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


#: Whether an event meets a field. None: it depends on other fields, because an array is on the way that they share.
_Meets = Callable[[dict[str, Any]], bool | None]


class _Miss(Enum):
    """What following a path may give instead of a value."""

    NOWHERE = "there is no value"
    ARRAY = "there is an array, or a name with dots, on the way"
    SHARED = "there is an array on the way that other fields share"


_NOWHERE, _ARRAY, _SHARED = _Miss  # to look up a member of an enumeration takes longer than all the rest


class _Step(NamedTuple):
    """One name of a path. ``longer`` are the names that reach further in one step, ``shared``: with other fields."""

    name: str
    longer: tuple[str, ...]
    shared: bool
    last: bool


class _Path:
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
            _Step(name, tuple(joined for joined, _ in self.reach[start][1:]), start < shared, start + 1 == len(names))
            for start, name in enumerate(names)
        )
        self._joined = _SHARED if shared else _ARRAY

    def straight(self, event: dict[str, Any]) -> Any:
        """The value at the path if only objects are on the way, as nearly always; else a :class:`_Miss`."""
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
        if value.__class__ is not _Miss:
            return (value,)
        return () if value is _NOWHERE else self._walk(event)

    def _walk(self, event: dict[str, Any]) -> Iterator[Any]:
        pending: list[tuple[Any, int]] = [(event, 0)]
        last = len(self.reach)
        while pending:
            node, depth = pending.pop()
            if isinstance(node, list):
                if depth == last:
                    yield from _leaves(node)
                else:
                    pending.extend((item, depth) for item in node)
            elif not isinstance(node, dict):
                if depth == last:
                    yield node
            elif depth < last:
                pending.extend((node[name], end) for name, end in self.reach[depth] if name in node)


def _leaves(array: list[Any]) -> Iterator[Any]:
    """The values in an array and in the arrays in it, objects left out."""
    pending = [array]
    for values in pending:
        for value in values:
            if isinstance(value, list):
                pending.append(value)
            elif not isinstance(value, dict):
                yield value


def _meets(field: Field, shared: int) -> _Meets:
    """The function that tells whether an event meets the field; ``shared`` as in :class:`_Path`."""
    test, absent = any_of(field.conditions), any(condition.absent for condition in field.conditions)
    path = _Path(field.path, shared)

    def anywhere(event: dict[str, Any]) -> bool:
        none = True
        for value in path.values(event):
            if test(value):
                return True
            none = False
        return absent and none

    def met(event: dict[str, Any]) -> bool | None:
        value = path.straight(event)
        if value.__class__ is not _Miss:
            return test(value)
        if value is _NOWHERE:
            return absent
        return None if value is _SHARED else anywhere(event)

    return _of_top_level(field.path, test, met) if len(path.steps) == 1 else met


def _of_top_level(name: str, test: Test, otherwise: _Meets) -> _Meets:
    """The commonest case, and the shortest way to it: a string in the event itself."""

    def met(event: dict[str, Any]) -> bool | None:
        value = event.get(name)
        return test(value) if value.__class__ is str else otherwise(event)

    return met


#: The arrays a value is in, from the outermost: the number of the array, and the position of the element.
_Place = tuple[tuple[int, int], ...]

#: _FieldPlaces by array, then by position, so that a choice leads straight to those that agree with it.
#: ``_HERE`` marks where a place ends.
_Tree = dict[int, "Mapping[int, _Tree]"]

_HERE = -1


@dataclass(slots=True)
class _FieldPlaces:
    """The places of the values of one field: of those that meet it, of all, and the arrays in any of them."""

    hits: _Tree = field(default_factory=dict)
    present: _Tree = field(default_factory=dict)
    arrays: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Node:
    """A prefix of some paths. ``reach`` leads to all longer ones, with the name to look up in an object.

    ``number`` is that of the field whose path ends here.
    """

    reach: list[tuple[str, _Node]] = field(default_factory=list)
    number: int | None = None


def _consistent(fields: Sequence[Field]) -> Callable[[dict[str, Any]], bool]:
    """The function that tells whether values of an event meet all fields together. The fields are in order."""
    root = _nodes([one.path for one in fields])
    tests = [any_of(one.conditions) for one in fields]
    absent = [any(condition.absent for condition in one.conditions) for one in fields]

    def together(event: dict[str, Any]) -> bool:
        places = _collect(event, root, tests, absent)
        if any(not one.hits and not may_be_absent for one, may_be_absent in zip(places, absent, strict=True)):
            return False
        return _choose(places, absent)

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
        nodes[names].number = index
    return nodes[()]


def _collect(event: dict[str, Any], root: _Node, tests: Sequence[Test], absent: Sequence[bool]) -> list[_FieldPlaces]:
    """All values of all fields in one walk. An array is met only once, so a counter is enough to tell arrays apart."""
    places = [_FieldPlaces() for _ in tests]
    pending: list[tuple[Any, _Node, _Place]] = [(event, root, ())]
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
        elif node.number is not None:
            one = places[node.number]
            if tests[node.number](value):
                _add(one.hits, place)
                one.arrays.update(array for array, _ in place)
            if absent[node.number]:
                _add(one.present, place)
                one.arrays.update(array for array, _ in place)
    return places


def _add(tree: _Tree, place: _Place) -> None:
    for array, position in place:
        tree = tree.setdefault(array, {}).setdefault(position, {})  # type: ignore[attr-defined]
    tree[_HERE] = {}


def _choose(places: Sequence[_FieldPlaces], absent: Sequence[bool]) -> bool:
    """Whether a value can be chosen for each field.

    A choice is remembered only as far as a later field can disagree with it, so arrays side by side do not multiply.
    """
    later: list[set[int]] = [set()]
    for one in reversed(places[1:]):
        later.append(later[-1] | one.arrays)
    later.reverse()
    pending: list[tuple[int, dict[int, int]]] = [(0, {})]
    seen: set[tuple[int, frozenset[tuple[int, int]]]] = set()
    while pending:
        index, chosen = pending.pop()
        if index == len(places):
            return True
        one = places[index]
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


def _agreeing(tree: _Tree, chosen: Mapping[int, int]) -> Iterator[_Place]:
    """What each place in the tree that agrees with the choice adds to it."""
    pending: list[tuple[_Tree, _Place]] = [(tree, ())]
    while pending:
        node, added = pending.pop()
        for array, positions in node.items():
            if array == _HERE:
                yield added
            elif array not in chosen:
                pending.extend((inner, (*added, (array, at))) for at, inner in positions.items())
            elif chosen[array] in positions:
                pending.append((positions[chosen[array]], added))
