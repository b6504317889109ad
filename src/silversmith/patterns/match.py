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
from dataclasses import dataclass
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
        if isinstance(event, dict):
            for rule in self._rules:  # any() with a generator would take half as long again
                if rule.matches(event):
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
        return _PatternReader(rules, or_is_operator=True).object(root, Location(rules.noun))
    except InvalidPattern as error:
        if "$or" not in _names(root):
            raise
        try:
            return _PatternReader(rules, or_is_operator=False).object(root, Location(rules.noun))
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
class _PatternReader:
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


#: An array of an event: the path to it, and its identity, which tells it from others there.
_Array = tuple[str, int]

#: The arrays that a value is in, from the outermost, and the position of the element in each.
_Place = tuple[tuple[_Array, int], ...]

#: Places by array, then by position, so that a choice leads straight to those that agree with it. None marks where a
#: place ends.
_Tree = dict[_Array | None, "Mapping[int, _Tree]"]

#: Of a field with values in arrays: the places of those that meet it, of all, and whether it may be absent.
_InArrays = tuple[list[_Place], list[_Place], bool]


class _CompiledRule:
    """The fields of a rule. Only those with values in arrays are looked at together."""

    __slots__ = ("_fields",)

    def __init__(self, rule: Rule) -> None:
        self._fields = [_CompiledField(leaf) for leaf in rule]

    def matches(self, event: dict[str, Any]) -> bool:
        in_arrays: list[_InArrays] = []
        for leaf in self._fields:
            places = leaf.places(event)
            if places is None:
                continue
            hits, present = places
            if not hits:
                if not leaf.may_be_absent or () in present:
                    return False
                if not present:
                    continue
            in_arrays.append((hits, present, leaf.may_be_absent))
        return not in_arrays or _choose(in_arrays)


class _CompiledField:
    """A field, ready to be looked up. ``_reach`` has the names to look up in an object that is so many names deep, each
    with the depth to which it leads; ``_prefixes`` has the path to there."""

    __slots__ = ("_depth", "_prefixes", "_reach", "_tests", "may_be_absent")

    def __init__(self, leaf: Field) -> None:
        names = leaf.path.split(".")
        self._depth = depth = len(names)
        ends = range(1, depth + 1)
        self._prefixes = [".".join(names[:end]) for end in (0, *ends)]
        self._reach = [[(".".join(names[start:end]), end) for end in ends if end > start] for start in (0, *ends)]
        self._tests = leaf.tests
        self.may_be_absent = absent in leaf.tests

    def places(self, event: dict[str, Any]) -> tuple[list[_Place], list[_Place]] | None:
        """The places of the values that meet the field, and all; None if one that meets it is in no array: it goes
        together with all others."""
        hits: list[_Place] = []
        present: list[_Place] = []
        reach, last = self._reach, self._depth
        pending: list[tuple[Any, int, _Place]] = [(event, 0, ())]
        for value, depth, place in pending:
            if isinstance(value, dict):
                for name, end in reach[depth]:
                    if name in value:
                        pending.append((value[name], end, place))
            elif isinstance(value, list):
                array = (self._prefixes[depth], id(value))
                for position, item in enumerate(value):
                    inside = (*place, (array, position)) if isinstance(item, (dict, list)) else place
                    pending.append((item, depth, inside))
            elif depth == last:
                present.append(place)
                for test in self._tests:
                    if test(value):
                        if not place:
                            return None
                        hits.append(place)
                        break
        return hits, present


def _tree(places: Iterable[_Place]) -> _Tree:
    root: _Tree = {}
    for place in places:
        node = root
        for array, position in place:
            node = node.setdefault(array, {}).setdefault(position, {})  # type: ignore[attr-defined]
        node[None] = {}
    return root


def _choose(fields: Sequence[_InArrays]) -> bool:
    """Whether a value can be chosen for each field, which may be absent or not, so that all go together.

    A choice is remembered only as far as a later field can disagree with it, so arrays side by side do not multiply.
    """
    trees = [(_tree(hits), _tree(present)) for hits, present, _ in fields]
    later: list[set[_Array]] = [set()]
    for hits, present, _ in reversed(fields[1:]):
        later.append(later[-1] | {array for place in (*hits, *present) for array, _ in place})
    later.reverse()
    pending: list[tuple[int, dict[_Array, int]]] = [(0, {})]
    seen: set[tuple[int, frozenset[tuple[_Array, int]]]] = set()
    while pending:
        index, chosen = pending.pop()
        if index == len(fields):
            return True
        hits_tree, present_tree = trees[index]
        choices = list(_agreeing(hits_tree, chosen))
        if fields[index][-1] and next(_agreeing(present_tree, chosen), None) is None:
            choices.append(())
        for choice in choices:
            both = {array: at for array, at in (*chosen.items(), *choice) if array in later[index]}
            key = (index + 1, frozenset(both.items()))
            if key not in seen:
                seen.add(key)
                pending.append((index + 1, both))
    return False


def _agreeing(tree: _Tree, chosen: Mapping[_Array, int]) -> Iterator[_Place]:
    """For each place in the tree that agrees with the choice: the arrays that it adds."""
    pending: list[tuple[_Tree, _Place]] = [(tree, ())]
    while pending:
        node, added = pending.pop()
        for array, positions in node.items():
            if array is None:
                yield added
            elif array not in chosen:
                pending.extend((inner, (*added, (array, at))) for at, inner in positions.items())
            elif chosen[array] in positions:
                pending.append((positions[chosen[array]], added))
