"""The last files, put together from the news: what came of each, and how long each hop took. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

from silversmith.operations.target import Hop, News

#: So many outcomes are kept, and so many files on their way.
MOST = 10_000
MOST_UNDER_WAY = 20_000

#: The verdicts of the function room that end a message's way, or one try of it.
ENDS = frozenset({"committed", "quarantined", "failed", "gone", "duplicate"})


@dataclass(frozen=True)
class Seen:
    """What a transform made of one version of a file. ``at`` in Unix seconds, ``size`` in bytes.

    ``legs`` are the milliseconds from each hop to the next, as far as the news told; ``total`` their sum, None where
    the beginning is not known. ``code`` is the error's, or empty.
    """

    number: int
    key: str
    version: str
    transform: str
    outcome: str
    at: float
    rows: int | None
    rejected: int | None
    size: int | None
    attempt: int | None
    code: str
    legs: Sequence[tuple[str, float]]
    total: float | None


@dataclass
class _Way:
    """When a version was at which hop; ``queued`` by the queue's name."""

    at: dict[str, float] = field(default_factory=dict)
    queued: dict[str, float] = field(default_factory=dict)


class LastFiles:
    """The newest outcomes, at most :data:`MOST`; memory is bounded."""

    def __init__(self) -> None:
        self._seen: deque[Seen] = deque(maxlen=MOST)
        self._ways: OrderedDict[tuple[str, str], _Way] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def take(self, news: Iterable[News], transforms: Mapping[str, str]) -> list[Seen]:
        """What ended with these news, in order. ``transforms``: by the name of a function, which transform it is."""
        ended = []
        for found in news:
            if found.hop.room != "function":
                self._pass(found)
            elif found.hop.what in ENDS:
                ended.append(self._end(found, transforms))
        self._seen.extend(ended)
        return ended

    def newest(self, most: int, *, before: int | None = None, wanted: Mapping[str, str] | None = None) -> list[Seen]:
        """The newest, the last one first; ``before``: only those with a lower number. ``wanted`` as :func:`fits`."""
        chosen = (
            seen
            for seen in reversed(self._seen)
            if (before is None or seen.number < before) and (not wanted or fits(seen, wanted))
        )
        return list(islice(chosen, most))

    def since(self, number: int) -> list[Seen]:
        """Those with a higher number, the last one first."""
        return list(_until(reversed(self._seen), number))

    def keys(self, text: str, most: int) -> list[str]:
        """Keys in which the text is, the newest first."""
        found = dict.fromkeys(seen.key for seen in reversed(self._seen) if text in seen.key)
        return list(islice(found, most))

    def _pass(self, found: News) -> None:
        name = (found.key, found.hop.version)
        way = self._ways.get(name)
        if way is None:
            way = self._ways[name] = _Way()
            if len(self._ways) > MOST_UNDER_WAY:
                self._ways.popitem(last=False)
        hop = found.hop
        if hop.room == "queue":
            if hop.what != "dead":
                way.queued[hop.name] = hop.at
        else:
            way.at.setdefault(hop.room, hop.at)

    def _end(self, found: News, transforms: Mapping[str, str]) -> Seen:
        hop, detail = found.hop, found.hop.detail
        legs = self._legs(found.key, hop)
        error = detail.get("error")
        return Seen(
            number=found.number,
            key=found.key,
            version=hop.version,
            transform=transforms.get(hop.name) or str(detail.get("transform") or hop.name),
            outcome=hop.what,
            at=hop.at,
            rows=_whole(detail.get("rows_written")) if hop.what == "committed" else None,
            rejected=_whole(detail.get("rows_rejected")) if hop.what == "committed" else None,
            size=_whole(detail.get("size")),
            attempt=_whole(detail.get("attempt")),
            code=str(error.get("code", "")) if isinstance(error, dict) else "",
            legs=legs,
            total=sum(length for _, length in legs) if legs and legs[0][0] == "rule" else None,
        )

    def _legs(self, key: str, hop: Hop) -> list[tuple[str, float]]:
        """Named by the hop at whose end each is. What a redrive sends has only the queue and the function."""
        way = self._ways.get((key, hop.version), _Way())
        times: list[tuple[str, float]] = [
            (room, way.at[room]) for room in ("bucket", "rule", "topic") if room in way.at
        ]
        queued = way.queued.get(hop.name)
        if queued is not None:
            if times and queued < times[-1][1]:
                times = []
            times.append(("queue", queued))
        times.append(("function", hop.at))
        return [(room, max(0.0, (at - before) * 1000)) for (_, before), (room, at) in pairwise(times)]


def fits(seen: Seen, wanted: Mapping[str, str]) -> bool:
    """Whether it has the outcome, the transform, and the text in its key that are wanted; what is empty wants all."""
    if (outcome := wanted.get("outcome")) and seen.outcome != outcome:
        return False
    if (transform := wanted.get("transform")) and seen.transform != transform:
        return False
    return wanted.get("q", "") in seen.key


def _until(newest_first: Iterable[Seen], number: int) -> Iterator[Seen]:
    for seen in newest_first:
        if seen.number <= number:
            return
        yield seen


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
