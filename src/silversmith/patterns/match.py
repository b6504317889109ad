"""A pattern, read and compiled: :func:`compile_pattern` gives the :class:`Matcher` that tells which events match.

A pattern is read as rules, of which an event must meet one. ``$or`` is multiplied out, as EventBridge does it:
https://github.com/aws/event-ruler#and-and-or-relationship-among-fields-with-ruler
A key that occurs twice in the JSON text is kept twice, because AWS reads some of them and refuses others.

EventBridge joins the names on the way to a value with dots and crushes arrays: the path ``a.b`` leads to the values in
``{"a": {"b": 1}}``, ``{"a": [{"b": 1}, {"b": 2}]}`` and ``{"a.b": 1}``. The values that meet several fields may not
come from different elements of one array: each value carries the arrays that it is in, with its position in each, and
two values go together unless they are at different positions of an array. Values that stand in an array themselves (not
in an object in it) carry no position for that array. The fields are taken in the order of their paths; a field that
must be absent is absent if no value of it goes together with those chosen so far.
https://github.com/aws/event-ruler#json-array-matching
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NoReturn, cast

from silversmith.keypatterns import InvalidPattern, Test
from silversmith.patterns.operators import PARSERS, RULES, Dialect, Location, Rules, absent, exact

#: The most rules that the use of ``$or`` may multiply out to.
MOST_RULES = 1000

#: The most fields in one of them.
MOST_FIELDS = 256

#: The most names that a path may have. AWS has no such limit, but its patterns of 2,048 characters make none so long.
MOST_NAMES = 100

#: Names that an object inside ``$or`` may not have for a field, used or kept for later by EventBridge.
_RESERVED = frozenset(
    {"=", "<", "<=", ">", ">=", "html", "regex", "not-wildcard", "not-equals-ignore-case", "date-after"}
    | {"date-on-or-after", "date-before", "date-on-or-before", "in-date-range", "ip-address-in-range"}
    | {"ip-address-not-in-range", *PARSERS}
)


@dataclass(frozen=True, slots=True)
class Field:
    """A leaf of the pattern: a value at ``path`` must meet one of ``tests``. ``depth``: how many objects it is in.

    ``path`` joins the names with dots; names that have dots themselves cannot be told from nested ones, also not in
    AWS.
    """

    path: str
    tests: tuple[Test, ...]
    depth: int = 1


#: Fields that must all be met.
Rule = tuple[Field, ...]


class Matcher:
    """A compiled pattern. It has no state, so any number of threads may use it."""

    __slots__ = ("_rules", "dialect")

    def __init__(self, rules: tuple[Rule, ...], dialect: Dialect) -> None:
        self._rules = tuple(_CompiledRule(rule) for rule in rules)
        self.dialect = dialect

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether the event, parsed JSON, matches. Never raises: anything but a JSON object does not match."""
        return isinstance(event, dict) and any(rule.matches(event) for rule in self._rules)


def compile_pattern(
    pattern: str | bytes | Mapping[str, Any], *, dialect: Dialect | str = Dialect.EVENTBRIDGE
) -> Matcher:
    """Compile a pattern given as JSON text or as a dict; ``dialect`` is the service that uses it.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html

    Raises:
        InvalidPattern: AWS would refuse the pattern. The text says where, why, and the remedy.
    """
    chosen = Dialect(dialect)
    rules = RULES[chosen]
    try:
        return Matcher(_parse(_read_json(pattern, rules.noun), rules), chosen)
    except RecursionError:
        raise InvalidPattern("it is nested too deeply", noun=rules.noun) from None


def _parse(root: dict[str, Any], rules: Rules) -> tuple[Rule, ...]:
    if not root and rules.empty_matches_all:
        return ((),)
    if rules.most_keys is not None and len(root) > rules.most_keys:
        hint = "Put several under one parent, or filter later." if rules.nested else "Filter later."
        problem = f"Filter policy can not have more than {rules.most_keys} keys: it has {len(root)}"
        raise InvalidPattern(problem, noun=rules.noun, hint=hint)
    branches = _branches(root, rules)
    most = rules.most_value_combinations
    if most is not None:
        total = sum(prod(len(leaf.tests) * leaf.depth for leaf in branch.values()) for branch in branches)
        if total > most:
            problem = f"Filter policy is too complex: {total} combinations of values, at most {most}"
            hint = "Each array counts its values, times how deep it is nested; these are multiplied, $or adds them up."
            raise InvalidPattern(problem, noun=rules.noun, hint=hint)
    for branch in branches:
        if len(branch) > MOST_FIELDS:
            raise InvalidPattern(f"it has {len(branch)} fields, at most {MOST_FIELDS}", noun=rules.noun)
    return tuple(tuple(branch[path] for path in sorted(branch, key=_order)) for branch in branches)


def _branches(root: dict[str, Any], rules: Rules) -> list[dict[str, Field]]:
    """``$or`` is an operator wherever that gives a valid pattern; if it does not, all of them are names of fields."""
    try:
        return _Reader(rules, or_is_operator=True).object(root, Location(rules.noun))
    except InvalidPattern as error:
        if "$or" not in _names(root):
            raise
        try:
            return _Reader(rules, or_is_operator=False).object(root, Location(rules.noun))
        except InvalidPattern:
            raise error from None


def _names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(_names(item) for _, item in _items(value)))
    return set().union(*map(_names, value)) if isinstance(value, list) else set()


def _order(path: str) -> bytes:
    """EventBridge takes the fields in this order, which matters to ``exists: false`` in arrays: by UTF-16 code unit."""
    return path.encode("utf-16-be", "surrogatepass")


@dataclass(frozen=True)
class _Reader:
    rules: Rules
    or_is_operator: bool

    def object(
        self,
        value: dict[str, Any],
        where: Location,
        branches: list[dict[str, Field]] | None = None,
        path: tuple[str, ...] = (),
        *,
        in_or: bool = False,
    ) -> list[dict[str, Field]]:
        """The branches, each with the fields of this object added: the last one wins where a path occurs twice."""
        branches = [{}] if branches is None else branches
        if not value:
            raise where.refuse(
                "Empty objects are not allowed", "Leave the key out: what is not named matches anything."
            )
        if path and not self.rules.nested:
            problem = "Filter policy scope MessageAttributes does not support nested filter policy"
            raise where.refuse(problem, 'Give the subscription the FilterPolicyScope "MessageBody".')
        for name, item in _items(value):
            place = where.key(name)
            if name == "$or" and self.or_is_operator:
                branches = self._or(item, place, branches, path)
            elif in_or and name in _RESERVED:
                raise place.refuse(f"{name} is a reserved field name which cannot be used inside $or")
            elif isinstance(item, dict):
                branches = self.object(item, place, branches, (*path, name), in_or=in_or)
            elif isinstance(item, list):
                leaf = self._leaf(item, place, (*path, name))
                for branch in branches:
                    branch[leaf.path] = leaf
            else:
                hint = f'Write the values to match in an array: "{name}": [{json.dumps(item, ensure_ascii=False)}].'
                raise place.refuse(f'"{name}" must be an object or an array', hint)
        return branches

    def _or(
        self, value: Any, where: Location, branches: list[dict[str, Field]], path: tuple[str, ...]
    ) -> list[dict[str, Field]]:
        hint = 'Write {"$or": [{"a": [1]}, {"b": [2]}]}.'
        if not isinstance(value, list):
            raise where.refuse("$or must be an array", hint)
        if len(value) < 2:
            raise where.refuse("There must be at least 2 objects in $or", hint)
        together: list[dict[str, Field]] = []
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                raise where.item(index).refuse("Only JSON objects are allowed in the array of $or", hint)
            copies = [dict(branch) for branch in branches]
            together += self.object(item, where.item(index), copies, path, in_or=True)
            if len(together) > MOST_RULES:
                problem = f"The use of $or results in over {MOST_RULES} rule combinations"
                raise where.refuse(problem, "Alternatives are multiplied: use several rules instead.")
        return together

    def _leaf(self, values: list[Any], where: Location, path: tuple[str, ...]) -> Field:
        if not values:
            raise where.refuse("Empty arrays are not allowed", 'Write the values to match: ["a", "b"].')
        joined = ".".join(path)
        if joined.count(".") >= MOST_NAMES:
            raise InvalidPattern(
                f"it is nested too deeply: over {MOST_NAMES} names", noun=where.noun, at=joined[:40] + "…"
            )
        return Field(joined, tuple(self._test(value, where.item(at)) for at, value in enumerate(values)), len(path))

    def _test(self, value: Any, where: Location) -> Test:
        if isinstance(value, list):
            problem = "Match value must be String, number, true, false, or null"
            raise where.refuse(
                problem, "An array in an event is matched by its elements: write them without a second [."
            )
        if not isinstance(value, dict):
            return exact(value)
        if not value:
            raise where.refuse("Match expression name not found", 'Write one operator: {"prefix": "a"}.')
        if len(value) > 1 or _repeats(value):
            hint = "Each operator stands in an object of its own; the objects of an array are alternatives."
            raise where.refuse(f"Only one key allowed in match expression: {', '.join(value)}", hint)
        ((operator, operand),) = value.items()
        if operator not in self.rules.operators:
            known = ", ".join(sorted(self.rules.operators - {"exactly"}))
            raise where.refuse(f"Unrecognized match type {operator}", f"The operators are {known}.")
        return PARSERS[operator](operand, where, self.rules)


class _Repeated(dict[str, Any]):
    """A JSON object in which a key occurs more than once. As a dict the last one wins, ``pairs`` has them all."""

    pairs: list[tuple[str, Any]]


def _repeats(value: Any) -> bool:
    return isinstance(value, _Repeated) or (isinstance(value, dict) and any(map(_repeats, value.values())))


def _items(value: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    return value.pairs if isinstance(value, _Repeated) else value.items()


def _read_json(pattern: str | bytes | Mapping[str, Any], noun: str) -> dict[str, Any]:
    """The pattern's JSON object. Raises InvalidPattern for text that is not JSON and values that JSON does not have."""
    value: Any = pattern
    if isinstance(pattern, str | bytes | bytearray):
        value = _decoded(pattern, noun)
    if not isinstance(value, Mapping):
        raise InvalidPattern("Filter is not an object", noun=noun, hint='Write an object: {"source": ["aws.s3"]}.')
    return cast("dict[str, Any]", _json_copy(value, Location(noun)) if value is pattern else value)


def _decoded(text: str | bytes | bytearray, noun: str) -> Any:
    try:
        decoded = text if isinstance(text, str) else text.decode()
        return json.loads(decoded, object_pairs_hook=_pairs, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidPattern(f"it is not UTF-8 text: byte {error.start + 1} cannot be read", noun=noun) from None
    except json.JSONDecodeError as error:
        problem = f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InvalidPattern(problem, noun=noun) from None
    except ValueError as error:  # NaN, Infinity, and integers of thousands of digits
        raise InvalidPattern(f"it is not JSON: {error}", noun=noun) from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeated = _Repeated(value)
    repeated.pairs = pairs
    return repeated


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _json_copy(value: Any, where: Location) -> Any:
    """A copy in which everything is JSON: a dict of the caller may hold anything."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise where.refuse(f"the key {name!r} is not a string")
        return {name: _json_copy(item, where.key(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_copy(item, where.item(index)) for index, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise where.refuse(f"{value!r} is no JSON value", "Write strings, numbers, true, false, null, arrays or objects.")


#: The arrays that a value is in, from the outermost: the number of the array, and the position of the element.
_Place = tuple[tuple[int, int], ...]

#: Places by array, then by position, so that a choice leads straight to those that agree with it. ``_HERE`` marks where
#: a place ends.
_Tree = dict[int, "Mapping[int, _Tree]"]

_HERE = -1


@dataclass(slots=True)
class _Node:
    """A prefix of some paths. ``reach`` leads to all longer prefixes, with the name to look up in an object.

    ``number`` is that of the field whose path ends here.
    """

    reach: list[tuple[str, _Node]] = field(default_factory=list)
    number: int | None = None


@dataclass(slots=True)
class _Values:
    """Where an event has values of one field: those that meet it, and if it may be absent, all."""

    hits: list[_Place] = field(default_factory=list)
    present: list[_Place] = field(default_factory=list)


class _CompiledRule:
    """The fields of a rule, ready to be looked up in one walk over an event."""

    __slots__ = ("_may_be_absent", "_root", "_tests")

    def __init__(self, rule: Rule) -> None:
        self._root = _nodes([leaf.path for leaf in rule])
        self._tests = [leaf.tests for leaf in rule]
        self._may_be_absent = [absent in leaf.tests for leaf in rule]

    def matches(self, event: dict[str, Any]) -> bool:
        values, has_arrays = self._collect(event)
        for number, value in enumerate(values):
            if not value.hits and (not self._may_be_absent[number] or (value.present and not has_arrays)):
                return False
        return not has_arrays or _choose(values, self._may_be_absent)

    def _collect(self, event: dict[str, Any]) -> tuple[list[_Values], bool]:
        """All values of all fields, and whether an array is on the way. A counter is enough to tell arrays apart."""
        values = [_Values() for _ in self._tests]
        pending: list[tuple[Any, _Node, _Place]] = [(event, self._root, ())]
        arrays = 0
        while pending:
            value, node, place = pending.pop()
            if isinstance(value, dict):
                for name, longer in node.reach:
                    if name in value:
                        pending.append((value[name], longer, place))
            elif isinstance(value, list):
                for position, item in enumerate(value):
                    inside = isinstance(item, dict | list)
                    pending.append((item, node, (*place, (arrays, position)) if inside else place))
                arrays += 1
            elif node.number is not None:
                for test in self._tests[node.number]:
                    if test(value):
                        values[node.number].hits.append(place)
                        break
                if self._may_be_absent[node.number]:
                    values[node.number].present.append(place)
        return values, arrays > 0


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


def _tree(places: Iterable[_Place]) -> _Tree:
    root: _Tree = {}
    for place in places:
        node = root
        for array, position in place:
            node = node.setdefault(array, {}).setdefault(position, {})  # type: ignore[attr-defined]
        node[_HERE] = {}
    return root


def _choose(values: Sequence[_Values], may_be_absent: Sequence[bool]) -> bool:
    """Whether a value can be chosen for each field so that all go together.

    A choice is remembered only as far as a later field can disagree with it, so arrays side by side do not multiply.
    """
    trees = [(_tree(value.hits), _tree(value.present)) for value in values]
    later: list[set[int]] = [set()]
    for value in reversed(values[1:]):
        later.append(later[-1] | {array for place in (*value.hits, *value.present) for array, _ in place})
    later.reverse()
    pending: list[tuple[int, dict[int, int]]] = [(0, {})]
    seen: set[tuple[int, frozenset[tuple[int, int]]]] = set()
    while pending:
        index, chosen = pending.pop()
        if index == len(values):
            return True
        hits, present = trees[index]
        choices = list(_agreeing(hits, chosen))
        if may_be_absent[index] and next(_agreeing(present, chosen), None) is None:
            choices.append(())
        for choice in choices:
            both = {array: at for array, at in (*chosen.items(), *choice) if array in later[index]}
            key = (index + 1, frozenset(both.items()))
            if key not in seen:
                seen.add(key)
                pending.append((index + 1, both))
    return False


def _agreeing(tree: _Tree, chosen: Mapping[int, int]) -> Iterator[_Place]:
    """For each place in the tree that agrees with the choice: the arrays that it adds."""
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
