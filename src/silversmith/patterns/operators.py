r"""The operators of the pattern language, and which of them each AWS service takes.

How values compare:

* Numbers match by value (300, 300.0 and 3.0e2 are equal); true is not 1. AWS compares only numbers from -5e9 to 5e9.
* A string that is an IP address matches every spelling of that address.
* Ignoring case, a character of the pattern matches its lower and its upper case, and nothing else: "ß" matches "ß" and
  "SS" but not "ss", and no look-alike such as the Kelvin sign matches "k".
* In a wildcard ``*`` is any run of characters, also an empty one; ``\*`` and ``\\`` are the characters themselves.
* ``anything-but`` matches every value, null too, except the named ones. A field without a value does not match.
* ``exists`` asks whether a field has a value, null too. Objects are no values.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html
https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_network
from typing import Any

from silversmith.keypatterns import InvalidPattern, Test, address, wildcard_test


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a pattern. ``noun`` is the service's word for the pattern: event pattern, filter policy."""

    noun: str
    at: str = ""

    def key(self, name: str) -> Location:
        """The location of one key of the object here."""
        return Location(self.noun, f"{self.at}.{name}" if self.at else name)

    def item(self, index: int) -> Location:
        """The location of one item of the array here; items count from 0."""
        return Location(self.noun, f"{self.at}[{index}]")

    def refuse(self, problem: str, hint: str = "") -> InvalidPattern:
        """The error to raise for this location."""
        return InvalidPattern(problem, noun=self.noun, at=self.at, hint=hint)


class Dialect(StrEnum):
    """The service that uses a pattern. The two of SNS have the names that ``FilterPolicyScope`` has."""

    EVENTBRIDGE = "EventBridge"  #: the pattern of an EventBridge rule
    SNS_MESSAGE_BODY = "MessageBody"  #: a filter policy of an SNS subscription, over the JSON object in the message
    SNS_MESSAGE_ATTRIBUTES = "MessageAttributes"  #: a filter policy of an SNS subscription, over message attributes
    LAMBDA = "Lambda"  #: a pattern in the FilterCriteria of a Lambda event source mapping


#: The largest :func:`wildcard_states` of a field that AWS is known to accept; all that it is known to refuse are above.
MOST_WILDCARD_STATES = 10

_STAR = 256
_OTHER = 257  # any byte that no wildcard has
_ENOUGH = 20_000  # sets of states that are looked at before the answer is taken to be "too many"

#: The wildcard, and how many of its tokens a value has matched.
_State = tuple[int, int]

_COMMON = frozenset({"anything-but", "cidr", "equals-ignore-case", "exists", "numeric", "prefix", "suffix"})


@dataclass(frozen=True)
class Rules:
    """The limits of one dialect. ``number_limit`` is the largest absolute number in a comparison."""

    noun: str = "event pattern"
    operators: frozenset[str] = _COMMON
    anything_but: frozenset[str] = frozenset()
    ignore_case_affixes: bool = True
    number_limit: float = 5e9
    nested: bool = True
    empty_matches_all: bool = False
    most_keys: int | None = None
    most_value_combinations: int | None = None


_SNS_BODY = Rules(
    noun="filter policy",
    anything_but=frozenset({"prefix"}),
    ignore_case_affixes=False,
    number_limit=1e9,
    empty_matches_all=True,
    most_keys=5,
    most_value_combinations=150,
)

RULES: Mapping[Dialect, Rules] = {
    Dialect.EVENTBRIDGE: Rules(
        operators=_COMMON | {"exactly", "wildcard"},
        anything_but=frozenset({"prefix", "suffix", "wildcard", "equals-ignore-case"}),
    ),
    Dialect.SNS_MESSAGE_BODY: _SNS_BODY,
    Dialect.SNS_MESSAGE_ATTRIBUTES: replace(_SNS_BODY, nested=False),
    Dialect.LAMBDA: Rules(noun="filter pattern", operators=_COMMON | {"exactly"}),
}


def exact(value: str | int | float | bool | None) -> Test:
    """The test for one value that the pattern states itself."""
    if value is None or isinstance(value, bool):
        return lambda leaf: leaf is value
    if isinstance(value, str):
        expected = address(value)
        if expected is None:
            return lambda leaf: bool(leaf == value)
        return lambda leaf: isinstance(leaf, str) and (leaf == value or address(leaf) == expected)
    return lambda leaf: _is_number(leaf) and leaf == value


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _exactly(operand: Any, where: Location, _rules: Rules) -> Test:
    if not isinstance(operand, str):
        raise where.refuse("exact match pattern must be a string", 'Write other values without "exactly".')
    return exact(operand)


def absent(_leaf: Any) -> bool:
    """The test of ``{"exists": false}``: no value meets it, a field without a value does."""
    return False


def _exists(operand: Any, where: Location, _rules: Rules) -> Test:
    if not isinstance(operand, bool):
        hint = 'Write {"exists": true} or {"exists": false}, without quotation marks around the value.'
        raise where.refuse("exists match pattern must be either true or false", hint)
    return (lambda _leaf: True) if operand else absent


def _equals_ignore_case(text: str) -> Test:
    whole = _either_case(text)
    return lambda leaf: isinstance(leaf, str) and whole.fullmatch(leaf) is not None


def _either_case(text: str, *, backwards: bool = False) -> re.Pattern[str]:
    parts = []
    for character in reversed(text) if backwards else text:
        forms = {character} if ord(character) > 0xFFFF else {character.lower(), character.upper()}
        parts.append("|".join(re.escape(form[::-1] if backwards else form) for form in sorted(forms)))
    return re.compile("".join(f"(?:{part})" for part in parts), re.DOTALL)


def _begins(text: str) -> Test:
    return lambda leaf: isinstance(leaf, str) and leaf.startswith(text)


def _begins_ignore_case(text: str) -> Test:
    start = _either_case(text)
    return lambda leaf: isinstance(leaf, str) and start.match(leaf) is not None


def _ends(text: str) -> Test:
    return lambda leaf: isinstance(leaf, str) and leaf.endswith(text)


def _ends_ignore_case(text: str) -> Test:
    end = _either_case(text, backwards=True)  # matched against the value read backwards, so that it stays linear
    return lambda leaf: isinstance(leaf, str) and end.match(leaf[::-1]) is not None


def _text(operator: str, test: Callable[[str], Test]) -> Parser:
    """The parser of an operator whose operand is one text."""

    def parser(operand: Any, where: Location, _rules: Rules) -> Test:
        if not isinstance(operand, str):
            hint = f'Write one object for each: [{{"{operator}": "a"}}, {{"{operator}": "b"}}].'
            raise where.refuse(f"{operator} match pattern must be a string", hint)
        return test(operand)

    return parser


def _affix(operator: str, test: Callable[[str], Test], ignoring_case: Callable[[str], Test]) -> Parser:
    """The parser of ``prefix`` and ``suffix``: the operand is a text, or ``{"equals-ignore-case": text}``."""

    def parser(operand: Any, where: Location, rules: Rules) -> Test:
        if isinstance(operand, str):
            return test(operand)
        inner = where.key(operator)
        if not isinstance(operand, dict) or not rules.ignore_case_affixes:
            hint = f'Write one object for each text: [{{"{operator}": "a"}}, {{"{operator}": "b"}}].'
            raise where.refuse(f"{operator} match pattern must be a string", hint)
        if set(operand) != {"equals-ignore-case"}:
            names = ", ".join(operand) or "an empty object"
            problem = (
                "Only one key allowed in match expression" if len(operand) > 1 else f"Unsupported {operator} pattern"
            )
            raise inner.refuse(f"{problem}: {names}", f'Write {{"{operator}": {{"equals-ignore-case": "text"}}}}.')
        text = operand["equals-ignore-case"]
        if not isinstance(text, str):
            raise inner.refuse("equals-ignore-case match pattern must be a string")
        return ignoring_case(text)

    return parser


_LIMIT = 5e9
_HOW_NUMERIC = 'Write ["=", 5], ["<", 5], [">", 0] or a range, lower bound first: [">", 0, "<=", 5].'


def _numeric(operand: Any, where: Location, rules: Rules) -> Test:
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
    if len(rest) > 1:
        return _range(operator, number, rest[1:], where, rules)
    if (operator, number) in {(">", _LIMIT), ("<", -_LIMIT)}:
        raise where.refuse("Bottom must be less than top", f"AWS compares no number that is {operator} {number}.")
    low = -_LIMIT if operator in {"<", "<="} else number
    high = _LIMIT if operator in {">", ">="} else number
    return _between(low, operator != ">", high, operator != "<")


def _range(operator: str, low: float, rest: list[Any], where: Location, rules: Rules) -> Test:
    """The second half of a range: ``"<=", 5`` after ``">", 0``."""
    if operator not in {">", ">="}:
        raise where.refuse("Too many elements in numeric expression", _HOW_NUMERIC)
    second, *top = rest
    if second not in ("<", "<="):  # not a set: it may be anything, also a list
        kind = "Bad numeric range operator" if isinstance(second, str) else "Bad value in numeric range"
        raise where.refuse(f"{kind}: {second}", _HOW_NUMERIC)
    high = _bound(second, top[:1], where, rules)
    if len(top) > 1:
        raise where.refuse("Too many terms in numeric range expression", _HOW_NUMERIC)
    if low >= high:
        raise where.refuse("Bottom must be less than top", f"No number is {operator} {low} and {second} {high}.")
    return _between(low, operator == ">=", high, second == "<=")


def _bound(operator: str, values: list[Any], where: Location, rules: Rules) -> int | float:
    """The number that follows an operator, refused if there is none or AWS does not compare with it."""
    if not values or not _is_number(values[0]):
        raise where.refuse(f"Value of {operator} must be numeric", _HOW_NUMERIC)
    return _within_limit(values[0], where, rules)


def _within_limit(number: int | float, where: Location, rules: Rules) -> int | float:
    if not -rules.number_limit <= number <= rules.number_limit:
        limit = int(rules.number_limit)
        raise where.refuse(
            f"Value must be between {-limit} and {limit}, inclusive: {number}",
            "A number beyond that can only be matched exactly, without an operator.",
        )
    return number


def _between(low: float, with_low: bool, high: float, with_high: bool) -> Test:
    return lambda leaf: (
        _is_number(leaf) and low <= leaf <= high and (with_low or leaf != low) and (with_high or leaf != high)
    )


def wildcard_pieces(text: str, where: Location) -> tuple[str, ...]:
    """The literal pieces between the stars, escapes undone. Raises InvalidPattern for bad escapes."""
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


def wildcard_states(wildcards: Iterable[str]) -> int:
    """How many beginnings of these wildcards (EventBridge's escapes) one value can match at once, at worst.

    Counting ends above :data:`MOST_WILDCARD_STATES`: any number above it only means "too many".

    AWS may find the wildcards of one field too complex ("Rule is too complex - try using fewer wildcards"). It
    documents that there is such a limit, not which. EventBridge's own matcher counts how many beginnings of wildcards
    one value can match at the same time, over all wildcards of the field; the patterns that AWS is known to accept and
    to refuse agree with a limit of 10. Every value begins with a quotation mark, so more than ten wildcards in one
    field are always too many. No pattern is refused here: the template makes several rules of it, or a wider one.
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html#eb-filtering-wildcard-matching-complexity
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


_HOW_ANYTHING_BUT = 'Write a string, a number, a list of strings or a list of numbers: {"anything-but": ["a", "b"]}.'


def _anything_but(operand: Any, where: Location, rules: Rules) -> Test:
    inner = where.key("anything-but")
    if isinstance(operand, dict):
        return _anything_but_operator(operand, inner, rules)
    values = operand if isinstance(operand, list) else [operand]
    kinds = {"string" if isinstance(value, str) else "number" if _is_number(value) else "other" for value in values}
    if kinds == {"string"}:
        strings = frozenset(values)
        return lambda leaf: not (isinstance(leaf, str) and leaf in strings)
    if kinds == {"number"}:
        numbers = frozenset(_within_limit(value, inner, rules) for value in values)
        return lambda leaf: not (_is_number(leaf) and leaf in numbers)
    if kinds == {"string", "number"}:
        problem = "Inside anything-but list, either all values are number or string, mixed type is not supported"
    elif not values:
        problem = "Empty arrays are not allowed"
    elif isinstance(operand, list):
        problem = "Inside anything-but list, only strings or only numbers are supported"
    else:
        problem = "Value of anything-but must be an array or single string/number value"
    raise inner.refuse(problem, _HOW_ANYTHING_BUT)


#: How each operator inside ``anything-but`` tests whether a value is excluded.
_EXCLUDED: Mapping[str, Callable[[str, Location], Test]] = {
    "equals-ignore-case": lambda text, _where: _equals_ignore_case(text),
    "prefix": lambda text, _where: _begins(text),
    "suffix": lambda text, _where: _ends(text),
    "wildcard": lambda text, where: wildcard_test(wildcard_pieces(text, where)),
}


def _anything_but_operator(operand: Mapping[str, Any], where: Location, rules: Rules) -> Test:
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
            raise place.refuse("Null prefix/suffix not allowed", "Every string begins and ends with the empty string.")
    tests = [_EXCLUDED[operator](text, place) for text in texts]
    return lambda leaf: not any(excluded(leaf) for excluded in tests)


_HOW_CIDR = 'Write an address, a slash and the number of leading bits: "10.0.0.0/24" or "2001:db8::/32".'


def _cidr(operand: Any, where: Location, _rules: Rules) -> Test:
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

    def test(leaf: Any) -> bool:
        candidate = address(leaf) if isinstance(leaf, str) else None
        return candidate is not None and candidate in block

    return test


#: Makes a test of an operator's operand, or refuses the operand as AWS does.
Parser = Callable[[Any, Location, Rules], Test]

PARSERS: Mapping[str, Parser] = {
    "anything-but": _anything_but,
    "cidr": _cidr,
    "equals-ignore-case": _text("equals-ignore-case", _equals_ignore_case),
    "exactly": _exactly,
    "exists": _exists,
    "numeric": _numeric,
    "prefix": _affix("prefix", _begins, _begins_ignore_case),
    "suffix": _affix("suffix", _ends, _ends_ignore_case),
    "wildcard": lambda operand, where, rules: _text(
        "wildcard", lambda text: wildcard_test(wildcard_pieces(text, where))
    )(operand, where, rules),
}
