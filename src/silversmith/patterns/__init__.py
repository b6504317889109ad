"""The EventBridge event-pattern language, which rules, filter policies and event source mappings share."""

from silversmith.patterns.keys import MOST_WILDCARD_STATES, KeyPattern, wildcard_states
from silversmith.patterns.match import Matcher, compile_pattern
from silversmith.patterns.operators import Dialect, InvalidPattern

__all__ = [
    "MOST_WILDCARD_STATES",
    "Dialect",
    "InvalidPattern",
    "KeyPattern",
    "Matcher",
    "compile_pattern",
    "wildcard_states",
]
