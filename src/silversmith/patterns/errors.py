"""What is said about a pattern that AWS would refuse."""

from __future__ import annotations

from dataclasses import dataclass

from silversmith.errors import SilversmithError


class InvalidPattern(SilversmithError, ValueError):
    """A pattern that AWS would refuse: ``problem`` says what is wrong ``at`` which place, ``hint`` what to do."""

    def __init__(self, problem: str, *, noun: str = "event pattern", at: str = "", hint: str = "") -> None:
        place = f", at {at}" if at else ""
        super().__init__(f"The {noun} is not valid{place}: {problem}." + (f" {hint}" if hint else ""))
        self.problem = problem
        self.at = at
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a pattern. ``noun`` is what the service calls it: event pattern, filter policy."""

    noun: str
    at: str = ""

    def key(self, name: str) -> Where:
        """The place of one key of the object here."""
        return Where(self.noun, f"{self.at}.{name}" if self.at else name)

    def item(self, index: int) -> Where:
        """The place of one item of the array here; items count from 0."""
        return Where(self.noun, f"{self.at}[{index}]")

    def refuse(self, problem: str, hint: str = "") -> InvalidPattern:
        """The error to raise for what is here."""
        return InvalidPattern(problem, noun=self.noun, at=self.at, hint=hint)
