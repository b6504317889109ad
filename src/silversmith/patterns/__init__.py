"""The EventBridge event-pattern language, which rules, filter policies and event source mappings share."""

from silversmith.patterns.dialects import Dialect, InvalidPattern, attributes_as_event
from silversmith.patterns.keys import MOST_WILDCARD_STATES, KeyPattern, wildcard_states
from silversmith.patterns.match import Matcher, compile_pattern

__all__ = [
    "MOST_WILDCARD_STATES",
    "Dialect",
    "InvalidPattern",
    "KeyPattern",
    "Matcher",
    "attributes_as_event",
    "compile_pattern",
    "wildcard_states",
]
