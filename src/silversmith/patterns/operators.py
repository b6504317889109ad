r"""The operators of patterns: each makes a condition of its operand, or refuses it as AWS does.

How values compare:

* Numbers match by value (300, 300.0 and 3.0e2 are one); true is not 1. AWS compares numbers between -5e9 and 5e9 only.
* A string that is an IP address matches every spelling of it.
* In any case means each character of the pattern in its lower and in its upper case, and nothing else: "ß" matches "ß"
  and "SS" but not "ss", and no look-alike such as the Kelvin sign matches "k".
* In a wildcard ``*`` is any run of characters, none too; ``\*`` and ``\\`` are the characters themselves.
* ``anything-but`` matches any value, null too, except those named. A field without a value does not match.
* ``exists`` asks whether a field has a value, null too. Objects are no values.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

from silversmith.patterns.dialects import Location, Rules

#: Whether a leaf value of an event (a string, number, boolean or null; never an object or an array) matches.
Test = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Alternative:
    """One alternative. ``absent``: it is met where there is no value; then ``test`` never is.

    ``literal`` is the string or number that an exact match is for.
    """

    test: Test
    literal: str | int | float | None = None
    absent: bool = False


def any_of(conditions: Iterable[Alternative]) -> Test:
    """One test for all alternatives: strings and numbers are looked up, the rest is tried in turn."""
    strings: set[str] = set()
    numbers: set[int | float] = set()
    tests: list[Test] = []
    for condition in conditions:
        if isinstance(condition.literal, str):
            strings.add(condition.literal)
        elif condition.literal is not None:
            numbers.add(condition.literal)
        elif not condition.absent:
            tests.append(condition.test)
    if numbers:
        tests.insert(0, _one_of_numbers(frozenset(numbers)))
    if strings:
        tests.insert(0, _one_of_strings(frozenset(strings)))
    if not tests:
        return _never
    return tests[0] if len(tests) == 1 else _first_of(tuple(tests))


def _one_of_strings(strings: frozenset[str]) -> Test:
    if len(strings) == 1:
        (only,) = strings
        return lambda value: bool(value == only)
    return lambda value: isinstance(value, str) and value in strings


def _one_of_numbers(numbers: frozenset[int | float]) -> Test:
    return lambda value: (type(value) is int or type(value) is float) and value in numbers


def _first_of(tests: tuple[Test, ...]) -> Test:
    def test(value: Any) -> bool:
        for alternative in tests:  # noqa: SIM110 - any() with a generator costs twice as much here
            if alternative(value):
                return True
        return False

    return test


def exact(value: str | int | float | bool | None) -> Alternative:
    """The condition for one value that the pattern states itself."""
    if value is None or isinstance(value, bool):
        return Alternative(lambda leaf: leaf is value)
    if isinstance(value, str):
        if address(value) is not None:
            return Alternative(_same_address(value))
        return Alternative(lambda leaf: bool(leaf == value), literal=value)
    number = value
    return Alternative(lambda leaf: type(leaf) in {int, float} and leaf == number, literal=number)


def _exactly(operand: Any, where: Location, _rules: Rules) -> Alternative:
    """``{"exactly": "text"}``."""
    if not isinstance(operand, str):
        raise where.refuse("exact match pattern must be a string", 'Write other values without "exactly".')
    return exact(operand)


def _same_address(text: str) -> Test:
    expected = address(text)
    return lambda leaf: isinstance(leaf, str) and (leaf == text or address(leaf) == expected)


def _exists(operand: Any, where: Location, _rules: Rules) -> Alternative:
    """``{"exists": true}`` and ``{"exists": false}``."""
    if not isinstance(operand, bool):
        hint = 'Write {"exists": true} or {"exists": false}, without quotation marks around the value.'
        raise where.refuse("exists match pattern must be either true or false", hint)
    return Alternative(_always) if operand else Alternative(_never, absent=True)


def _always(_leaf: Any) -> bool:
    return True


def _never(_leaf: Any) -> bool:
    return False


def _equals_ignore_case(operand: Any, where: Location, _rules: Rules) -> Alternative:
    """``{"equals-ignore-case": "text"}``."""
    if not isinstance(operand, str):
        hint = 'Write one object for each: [{"equals-ignore-case": "a"}, {"equals-ignore-case": "b"}].'
        raise where.refuse("equals-ignore-case match pattern must be a string", hint)
    return Alternative(_equals_in_any_case(operand))


def _equals_in_any_case(text: str) -> Test:
    """Whether a value is the text in any case."""
    if text.isascii():
        lower = text.lower()
        return lambda leaf: isinstance(leaf, str) and leaf.isascii() and leaf.lower() == lower
    whole = _either_case(text)
    return lambda leaf: isinstance(leaf, str) and whole.fullmatch(leaf) is not None


def _begins_in_any_case(text: str) -> Test:
    """Whether a value begins with the text in any case."""
    if text.isascii():
        lower, length = text.lower(), len(text)
        return lambda leaf: isinstance(leaf, str) and (start := leaf[:length]).isascii() and start.lower() == lower
    start = _either_case(text)
    return lambda leaf: isinstance(leaf, str) and start.match(leaf) is not None


def _ends_in_any_case(text: str) -> Test:
    """Whether a value ends with the text in any case."""
    if text.isascii():
        lower, length = text.lower(), len(text)
        return lambda leaf: (
            isinstance(leaf, str)
            and len(leaf) >= length
            and (end := leaf[len(leaf) - length :]).isascii()
            and end.lower() == lower
        )
    end = _either_case(text, backwards=True)  # matched against the value read backwards, so that it stays linear
    return lambda leaf: isinstance(leaf, str) and end.match(leaf[::-1]) is not None


def _either_case(text: str, *, backwards: bool = False) -> re.Pattern[str]:
    parts = []
    for character in reversed(text) if backwards else text:
        forms = {character} if ord(character) > 0xFFFF else {character.lower(), character.upper()}
        parts.append("|".join(re.escape(form[::-1] if backwards else form) for form in sorted(forms)))
    return re.compile("".join(f"(?:{part})" for part in parts), re.DOTALL)


def _prefix(operand: Any, where: Location, rules: Rules) -> Alternative:
    """``{"prefix": "text"}``, ``{"prefix": {"equals-ignore-case": "text"}}``. An empty text matches every string."""
    folded = _text_in_any_case("prefix", operand, where, rules)
    if folded is not None:
        return Alternative(_begins_in_any_case(folded))
    return Alternative(_begins(operand))


def _begins(text: str) -> Test:
    """Whether a value is a string that begins with the text."""
    return lambda leaf: isinstance(leaf, str) and leaf.startswith(text)


def _text_in_any_case(operator: str, operand: Any, where: Location, rules: Rules) -> str | None:
    """The text in ``{"equals-ignore-case": text}``, None where the operand is a string of its own. Else raises."""
    if isinstance(operand, str):
        return None
    inner = where.key(operator)
    if not isinstance(operand, dict) or not rules.ignore_case_affixes:
        hint = f'Write one object for each text: [{{"{operator}": "a"}}, {{"{operator}": "b"}}].'
        raise where.refuse(f"{operator} match pattern must be a string", hint)
    if set(operand) != {"equals-ignore-case"}:
        names = ", ".join(operand) or "an empty object"
        problem = "Only one key allowed in match expression" if len(operand) > 1 else f"Unsupported {operator} pattern"
        raise inner.refuse(f"{problem}: {names}", f'Write {{"{operator}": {{"equals-ignore-case": "text"}}}}.')
    text = operand["equals-ignore-case"]
    if not isinstance(text, str):
        raise inner.refuse("equals-ignore-case match pattern must be a string")
    return text


def _suffix(operand: Any, where: Location, rules: Rules) -> Alternative:
    """``{"suffix": "text"}``, ``{"suffix": {"equals-ignore-case": "text"}}``. An empty text matches every string."""
    folded = _text_in_any_case("suffix", operand, where, rules)
    if folded is not None:
        return Alternative(_ends_in_any_case(folded))
    return Alternative(_ends(operand))


def _ends(text: str) -> Test:
    """Whether a value is a string that ends with the text."""
    return lambda leaf: isinstance(leaf, str) and leaf.endswith(text)


_LIMIT = 5e9
_HOW_NUMERIC = 'Write ["=", 5], ["<", 5], [">", 0] or a range, lower bound first: [">", 0, "<=", 5].'


def _numeric(operand: Any, where: Location, rules: Rules) -> Alternative:
    """``{"numeric": [">", 0, "<=", 5]}``: equal to a number, or within a range. Empty ranges are refused, as AWS does.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#filtering-numeric-matching
    """
    if not isinstance(operand, list):
        raise where.refuse("Value of numeric must be an array", _HOW_NUMERIC)
    if not operand or not isinstance(operand[0], str):
        raise where.refuse(f"Invalid member in numeric match: {operand[0] if operand else ']'}", _HOW_NUMERIC)
    operator, *rest = operand
    if operator not in {"=", "<", "<=", ">", ">="}:
        raise where.refuse(f"Unrecognized numeric range operator: {operator}", _HOW_NUMERIC)
    number = _bound("equals" if operator == "=" else operator, rest[:1], where, rules)
    if len(rest) == 1:
        return _one_bound(operator, number, where)
    if operator not in {">", ">="}:
        raise where.refuse("Too many elements in numeric expression", _HOW_NUMERIC)
    second, *top = rest[1:]
    if second not in ("<", "<="):  # not a set: it may be anything, also a list
        kind = "Bad numeric range operator" if isinstance(second, str) else "Bad value in numeric range"
        raise where.refuse(f"{kind}: {second}", _HOW_NUMERIC)
    above = _bound(second, top[:1], where, rules)
    if len(top) > 1:
        raise where.refuse("Too many terms in numeric range expression", _HOW_NUMERIC)
    if number >= above:
        raise where.refuse("Bottom must be less than top", f"No number is {operator} {number} and {second} {above}.")
    return Alternative(_between(number, operator == ">=", above, second == "<="))


def _bound(operator: str, values: list[Any], where: Location, rules: Rules) -> int | float:
    """The number that follows an operator, refused if there is none or AWS does not compare with such."""
    if not values or isinstance(values[0], bool) or not isinstance(values[0], int | float):
        raise where.refuse(f"Value of {operator} must be numeric", _HOW_NUMERIC)
    return _in_limits(values[0], where, rules)


def _in_limits(number: int | float, where: Location, rules: Rules) -> int | float:
    """The number itself, refused if the dialect does not compare with such."""
    if not -rules.number_limit <= number <= rules.number_limit:
        limit = int(rules.number_limit)
        raise where.refuse(
            f"Value must be between {-limit} and {limit}, inclusive: {number}",
            "A number beyond that can only be matched exactly, without an operator.",
        )
    return number


def _one_bound(operator: str, number: int | float, where: Location) -> Alternative:
    if operator == "=":
        return Alternative(_between(number, True, number, True))
    if (operator, number) in {(">", _LIMIT), ("<", -_LIMIT)}:
        raise where.refuse("Bottom must be less than top", f"AWS compares no number that is {operator} {number}.")
    if operator in {">", ">="}:
        return Alternative(_between(number, operator == ">=", _LIMIT, True))
    return Alternative(_between(-_LIMIT, True, number, operator == "<="))


def _between(low: float, with_low: bool, high: float, with_high: bool) -> Test:
    if with_low and with_high:
        return lambda leaf: (type(leaf) is int or type(leaf) is float) and low <= leaf <= high
    if with_low:
        return lambda leaf: (type(leaf) is int or type(leaf) is float) and low <= leaf < high
    if with_high:
        return lambda leaf: (type(leaf) is int or type(leaf) is float) and low < leaf <= high
    return lambda leaf: (type(leaf) is int or type(leaf) is float) and low < leaf < high


def _wildcard(operand: Any, where: Location, _rules: Rules) -> Alternative:
    """``{"wildcard": "a*b"}``."""
    if not isinstance(operand, str):
        hint = 'Write one object for each: [{"wildcard": "a*"}, {"wildcard": "b*"}].'
        raise where.refuse("wildcard match pattern must be a string", hint)
    return Alternative(wildcard_test(wildcard_pieces(operand, where)))


def wildcard_pieces(text: str, where: Location) -> tuple[str, ...]:
    """The literal pieces between the stars, escapes undone: one more than there are stars. Raises on bad escapes."""
    pieces = [""]
    characters = iter(enumerate(text))
    for position, character in characters:
        if character == "*":
            if text[position + 1 : position + 2] == "*":
                raise where.refuse(
                    f"Consecutive wildcard characters at pos {position}",
                    r"One * already matches any number of characters; write \* for a star itself.",
                )
            pieces.append("")
        elif character == "\\":
            _, escaped = next(characters, (0, ""))
            if escaped not in {"*", "\\"}:
                raise where.refuse(
                    f"Invalid escape character at pos {position}",
                    r"Only \* and \\ are escapes (in JSON text: \\* and \\\\); any other character stands for itself.",
                )
            pieces[-1] += escaped
        else:
            pieces[-1] += character
    return tuple(pieces)


def wildcard_test(pieces: tuple[str, ...]) -> Test:
    """Whether a value has the pieces in this order, the first at its beginning and the last at its end.

    The first place where a piece occurs is always the best one, so there is nothing to try again: hostile values cost
    no more than others.
    """
    if len(pieces) == 1:
        (only,) = pieces
        return lambda leaf: bool(leaf == only)
    first, *middle, last = pieces
    inner = tuple(piece for piece in middle if piece)
    least = len(first) + len(last)

    def ends_only(leaf: Any) -> bool:
        return isinstance(leaf, str) and len(leaf) >= least and leaf.startswith(first) and leaf.endswith(last)

    def whole(leaf: Any) -> bool:
        if not ends_only(leaf):
            return False
        position, end = len(first), len(leaf) - len(last)
        for piece in inner:
            position = leaf.find(piece, position, end)
            if position < 0:
                return False
            position += len(piece)
        return True

    return whole if inner else ends_only


def wildcard_escape(literal: str) -> str:
    """The wildcard text that matches a literal and nothing else."""
    return literal.replace("\\", "\\\\").replace("*", "\\*")


_HOW_ANYTHING_BUT = 'Write a string, a number, a list of strings or a list of numbers: {"anything-but": ["a", "b"]}.'


def _anything_but(operand: Any, where: Location, rules: Rules) -> Alternative:
    """``{"anything-but": …}``: any value but these."""
    inner = where.key("anything-but")
    if isinstance(operand, dict):
        return _anything_but_operator(operand, inner, rules)
    values = operand if isinstance(operand, list) else [operand]
    kinds = {_kind(value) for value in values}
    if kinds == {"string"}:
        strings = frozenset(values)
        return Alternative(lambda leaf: not (isinstance(leaf, str) and leaf in strings))
    if kinds == {"number"}:
        numbers = frozenset(_in_limits(value, inner, rules) for value in values)
        return Alternative(lambda leaf: not ((type(leaf) is int or type(leaf) is float) and leaf in numbers))
    if kinds == {"string", "number"}:
        problem = "Inside anything-but list, either all values are number or string, mixed type is not supported"
    elif not values:
        problem = "Empty arrays are not allowed"
    elif isinstance(operand, list):
        problem = "Inside anything-but list, only strings or only numbers are supported"
    else:
        problem = "Value of anything-but must be an array or single string/number value"
    raise inner.refuse(problem, _HOW_ANYTHING_BUT)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else "other"


#: How each operator inside tests whether a value is excluded.
_EXCLUDED: Mapping[str, Callable[[str, Location], Test]] = {
    "equals-ignore-case": lambda text, _where: _equals_in_any_case(text),
    "prefix": lambda text, _where: _begins(text),
    "suffix": lambda text, _where: _ends(text),
    "wildcard": lambda text, where: wildcard_test(wildcard_pieces(text, where)),
}


def _anything_but_operator(operand: Mapping[str, Any], where: Location, rules: Rules) -> Alternative:
    if len(operand) != 1:
        problem = "Only one key allowed in match expression" if operand else "Anything-But expression name not found"
        raise where.refuse(problem, 'Write one operator inside: {"anything-but": {"prefix": "a"}}.')
    ((operator, texts),) = operand.items()
    if operator not in rules.anything_but:
        known = ", ".join(sorted(rules.anything_but)) or "none"
        raise where.refuse(f"Unsupported anything-but pattern: {operator}", f"Supported here: {known}.")
    place = where.key(operator)
    if isinstance(texts, dict):
        problem = "Value of anything-but must be an array or single string/number value"
        raise place.refuse(problem, f"No operator can be inside {operator} here.")
    texts = texts if isinstance(texts, list) else [texts]
    if not texts:
        raise place.refuse("Empty arrays are not allowed", "Write at least one string.")
    for text in texts:
        if not isinstance(text, str):
            raise place.refuse(f"{operator} match pattern must be a string or a list of strings")
        if not text and operator in {"prefix", "suffix"}:
            raise place.refuse("Null prefix/suffix not allowed", "Every string begins and ends with the empty one.")
    tests = tuple(_EXCLUDED[operator](text, place) for text in texts)

    def test(leaf: Any) -> bool:
        return not any(excluded(leaf) for excluded in tests)

    return Alternative(test)


_FOUR = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)")
_SIX = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*")


def address(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text is, or None. ``010.0.0.1`` is 10.0.0.1, ``::ffff:a00:1`` is 10.0.0.1 too."""
    if four := _FOUR.fullmatch(text):
        numbers = [int(part) for part in four.groups()] if len(text) <= 15 else [256]
        return IPv4Address(bytes(numbers)) if max(numbers) <= 255 else None
    if not _SIX.fullmatch(text):
        return None
    try:
        six = IPv6Address(text)
    except ValueError:
        return None
    return six.ipv4_mapped or six


_HOW_CIDR = 'Write an address, a slash and the number of leading bits: "10.0.0.0/24" or "2001:db8::/32".'


def _cidr(operand: Any, where: Location, _rules: Rules) -> Alternative:
    """``{"cidr": "10.0.0.0/24"}``: an address in a block. Bits of the address behind the mask do not matter."""
    if not isinstance(operand, str):
        raise where.refuse("cidr match pattern must be a string", _HOW_CIDR)
    base, slash, bits = operand.partition("/")
    if not slash or "/" in bits:
        raise where.refuse("Malformed CIDR, one '/' required", _HOW_CIDR)
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", bits):
        raise where.refuse("Malformed CIDR, mask bits must be an integer", _HOW_CIDR)
    first = address(base)
    if first is None:
        raise where.refuse(f"Nonstandard IP address: {base}", _HOW_CIDR)
    if not 0 <= int(bits) < first.max_prefixlen:
        problem = f"IPv{first.version} mask bits must be from 0 to {first.max_prefixlen - 1}: {bits}"
        raise where.refuse(problem, f'For one address write it without the operator: "{first}".')
    block = ip_network((first, int(bits)), strict=False)
    low, high, version = int(block[0]), int(block[-1]), first.version

    def test(leaf: Any) -> bool:
        candidate = address(leaf) if isinstance(leaf, str) else None
        return candidate is not None and candidate.version == version and low <= int(candidate) <= high

    return Alternative(test)


#: What reads the operand of an operator.
Parser = Callable[[Any, Location, Rules], Alternative]

PARSERS: Mapping[str, Parser] = {
    "anything-but": _anything_but,
    "cidr": _cidr,
    "equals-ignore-case": _equals_ignore_case,
    "exactly": _exactly,
    "exists": _exists,
    "numeric": _numeric,
    "prefix": _prefix,
    "suffix": _suffix,
    "wildcard": _wildcard,
}
