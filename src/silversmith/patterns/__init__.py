"""The EventBridge event-pattern language, which rules, filter policies and event source mappings share."""

from silversmith.patterns.complexity import MOST_WILDCARD_STATES, wildcard_states
from silversmith.patterns.dialects import Dialect, attributes_as_event
from silversmith.patterns.errors import InvalidPattern
from silversmith.patterns.keys import KeyPattern
from silversmith.patterns.match import Matcher, compile_pattern
from silversmith.patterns.ruleset import RuleSet, compile_patterns

__all__ = [
    "MOST_WILDCARD_STATES",
    "Dialect",
    "InvalidPattern",
    "KeyPattern",
    "Matcher",
    "RuleSet",
    "attributes_as_event",
    "compile_pattern",
    "compile_patterns",
    "wildcard_states",
]
