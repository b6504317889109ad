"""The EventBridge event-pattern language, which rules, filter policies and event source mappings share."""

from silversmith.keypatterns import InvalidPattern, KeyPattern
from silversmith.patterns.match import Matcher, compile_pattern
from silversmith.patterns.operators import MOST_WILDCARD_STATES, Dialect, wildcard_states

__all__ = [
    "MOST_WILDCARD_STATES",
    "Dialect",
    "InvalidPattern",
    "KeyPattern",
    "Matcher",
    "compile_pattern",
    "wildcard_states",
]
