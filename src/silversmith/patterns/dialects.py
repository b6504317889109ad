"""What each AWS service takes as a pattern, one language with small differences, and the error for what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from silversmith.errors import SilversmithError

_COMMON = frozenset({"anything-but", "cidr", "equals-ignore-case", "exists", "numeric", "prefix", "suffix"})


class InvalidPattern(SilversmithError, ValueError):
    """A pattern that AWS would refuse: ``problem`` says why, ``at`` where in the pattern, ``hint`` the remedy."""

    def __init__(self, problem: str, *, noun: str = "event pattern", at: str = "", hint: str = "") -> None:
        place = f", at {at}" if at else ""
        super().__init__(f"The {noun} is not valid{place}: {problem}." + (f" {hint}" if hint else ""))
        self.problem = problem
        self.at = at
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a pattern. ``noun`` is the service's word for the pattern: event pattern, filter policy."""

    noun: str
    at: str = ""

    def key(self, name: str) -> Location:
        """The place of one key of the object here."""
        return Location(self.noun, f"{self.at}.{name}" if self.at else name)

    def item(self, index: int) -> Location:
        """The place of one item of the array here; items count from 0."""
        return Location(self.noun, f"{self.at}[{index}]")

    def refuse(self, problem: str, hint: str = "") -> InvalidPattern:
        """The error to raise for this place."""
        return InvalidPattern(problem, noun=self.noun, at=self.at, hint=hint)


class Dialect(StrEnum):
    """Location a pattern is used. The two of SNS have the names that ``FilterPolicyScope`` has.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
    https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html
    https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
    """

    EVENTBRIDGE = "EventBridge"  #: the pattern of an EventBridge rule
    SNS_MESSAGE_BODY = "MessageBody"  #: a filter policy of an SNS subscription, over the JSON object in the message
    SNS_MESSAGE_ATTRIBUTES = "MessageAttributes"  #: a filter policy of an SNS subscription, over message attributes
    LAMBDA = "Lambda"  #: a pattern in the FilterCriteria of a Lambda event source mapping


@dataclass(frozen=True)
class Rules:
    """What one dialect allows. ``number_limit`` is the largest absolute number in a comparison."""

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
    Dialect.SNS_MESSAGE_ATTRIBUTES: Rules(**{**_SNS_BODY.__dict__, "nested": False}),
    Dialect.LAMBDA: Rules(noun="filter pattern", operators=_COMMON | {"exactly"}),
}


def attributes_as_event(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """SNS message attributes as the event that a ``MessageAttributes`` filter policy is matched against.

    Takes the form of the Publish call (``DataType``, ``StringValue``) and of the delivered message (``Type``,
    ``Value``). ``Binary`` attributes, and those whose text is not what their type says, are left out: SNS compares
    nothing with them.
    https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html
    """
    event: dict[str, Any] = {}
    for name, attribute in attributes.items():
        kind = str(attribute.get("DataType") or attribute.get("Type") or "")
        value = attribute.get("StringValue", attribute.get("Value"))
        if kind == "String.Array":
            array = _json(value)
            if isinstance(array, list):
                event[name] = array
        elif kind == "String" or kind.startswith("String."):
            if isinstance(value, str):
                event[name] = value
        elif kind == "Number" or kind.startswith("Number."):
            number = _json(value)
            if isinstance(number, int | float) and not isinstance(number, bool):
                event[name] = number
    return event


def _json(value: object) -> object:
    """The value of a JSON text; None if the text is not JSON, any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
