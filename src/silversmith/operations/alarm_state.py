"""The alarms of local runs as a lake remembers them: those that are raised, and what has still to be delivered."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

#: A channel that takes nothing has at most so many changes to come; older ones are dropped, and counted.
MOST = 100


@dataclass(frozen=True)
class Alarm:
    """A condition of a transform that is true, with the sentence that says so. ``since`` in ISO 8601."""

    transform: str
    condition: str
    since: str
    text: str


@dataclass(frozen=True)
class Change:
    """An alarm that was raised (``state`` is ``alarm``) or is over (``resolved``). ``at`` in ISO 8601."""

    transform: str
    condition: str
    state: str
    at: str
    text: str


@dataclass
class Delivery:
    """What one channel has still to get. ``problem``: why it takes nothing, ``since`` when, in ISO 8601; or empty."""

    pending: list[Change] = field(default_factory=list)
    dropped: int = 0
    problem: str = ""
    since: str = ""

    def add(self, changes: Iterable[Change]) -> None:
        """Add changes, of which the newest are kept."""
        self.pending += changes
        self.dropped += max(0, len(self.pending) - MOST)
        del self.pending[:-MOST]


@dataclass
class AlarmState:
    """What is remembered from run to run: the alarms that are raised, and what the channels, by name, still lack.
    ``began``: when silence was first looked for, in ISO 8601."""

    began: str = ""
    alarms: list[Alarm] = field(default_factory=list)
    channels: dict[str, Delivery] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> AlarmState:
        """The state in a file; an empty one where there is none, or none that can be read."""
        with suppress(OSError, orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            values = orjson.loads(path.read_bytes())
            deliveries = {
                name: Delivery(**{**each, "pending": [Change(**change) for change in each["pending"]]})
                for name, each in values["channels"].items()
            }
            return cls(values["began"], [Alarm(**alarm) for alarm in values["alarms"]], deliveries)
        return cls()

    def write(self, path: Path) -> None:
        """Replace the file at once. Raises OSError when the disk does not allow it."""
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(orjson.dumps(asdict(self)))
        temporary.replace(path)
