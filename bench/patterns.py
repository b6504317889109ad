"""How fast patterns are: events matched per second, by kind of rule, and by number of rules.

    python bench/patterns.py [--events N]

The events are made up after the city lots of San Francisco, the data that EventBridge's own matcher is measured with:
about 900 bytes of JSON each, with an array of coordinates three levels deep. They are already parsed.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from silversmith.patterns import Matcher, compile_pattern, compile_patterns

Event = dict[str, Any]

STREETS = ("MARKET", "MISSION", "VALENCIA", "GUERRERO", "CHURCH", "SANCHEZ", "NOE", "CASTRO", "UNKNOWN", "FOLSOM")
TYPES = ("ST", "AVE", "WAY", "TER", None)

KINDS: dict[str, Any] = {
    "exact": {"properties": {"MAPBLKLOT": ["0001001"], "STREET": ["MARKET"]}},
    "exact, top level": {"type": ["Feature"], "id": ["lot-00000001"]},
    "prefix": {"properties": {"MAPBLKLOT": [{"prefix": "00"}], "STREET": [{"prefix": "MA"}]}},
    "suffix": {"properties": {"STREET": [{"suffix": "ON"}], "ODD_EVEN": [{"suffix": "E"}]}},
    "equals-ignore-case": {"properties": {"STREET": [{"equals-ignore-case": "market"}], "ST_TYPE": ["ST"]}},
    "wildcard": {"properties": {"STREET": [{"wildcard": "M*S*N"}], "MAPBLKLOT": [{"wildcard": "0*1*5"}]}},
    "numeric": {"properties": {"FROM_ST": [{"numeric": [">", 100, "<=", 900]}]}},
    "anything-but": {"properties": {"STREET": [{"anything-but": ["MARKET", "NOE"]}], "ODD_EVEN": ["O"]}},
    "cidr": {"properties": {"SOURCE_IP": [{"cidr": "10.0.0.0/16"}]}},
    "$or": {"$or": [{"properties": {"STREET": ["NOE"]}}, {"geometry": {"type": ["Point"]}}]},
    "coordinates": {"geometry": {"type": ["Polygon"], "coordinates": [{"numeric": ["=", -122.5]}]}},
    "arrays of objects": {"owners": {"name": ["owner 7"], "share": [{"numeric": [">", 50]}]}},
}


def lots(count: int) -> list[Event]:
    """The events, always the same."""
    chance = random.Random(20)
    return [_lot(number, chance) for number in range(count)]


def _lot(number: int, chance: random.Random) -> Event:
    block, lot = f"{chance.randrange(9000):04}", f"{chance.randrange(200):03}"
    street = chance.choice(STREETS)
    points = [[-122.4 - chance.random() / 10, 37.7 + chance.random() / 10, 0.0] for _ in range(11)]
    return {
        "type": "Feature",
        "id": f"lot-{number:08}",
        "properties": {
            "MAPBLKLOT": block + lot,
            "BLKLOT": block + lot,
            "BLOCK_NUM": block,
            "LOT_NUM": lot,
            "FROM_ST": chance.randrange(2000),
            "TO_ST": chance.randrange(2000),
            "STREET": street,
            "ST_TYPE": chance.choice(TYPES),
            "ODD_EVEN": chance.choice("EO"),
            "SOURCE_IP": f"10.{chance.randrange(256)}.{chance.randrange(256)}.1",
        },
        "owners": [{"name": f"owner {chance.randrange(20)}", "share": chance.randrange(100)} for _ in range(3)],
        "geometry": {"type": "Polygon", "coordinates": [points]},
    }


def rules(count: int) -> dict[str, Any]:
    """Different rules of all kinds that share some fields, as the rules of one bus do."""
    leaves: list[Callable[[int], Any]] = [
        lambda n: f"{n:04}001",
        lambda n: {"prefix": f"{n:04}"},
        lambda n: {"suffix": f"{n:04}"},
        lambda n: {"wildcard": f"{n:04}*5"},
    ]
    return {
        f"rule {number}": {"type": ["Feature"], "properties": {"MAPBLKLOT": [leaves[number % 4](number)]}}
        for number in range(count)
    }


def rate(match: Callable[[Event], Any], events: Sequence[Event]) -> tuple[float, float]:
    """Events per second, and the share of them for which there was a match."""
    started = perf_counter()
    hits = sum(1 for event in events if match(event))
    return len(events) / (perf_counter() - started), hits / len(events)


def one_by_one(matchers: Sequence[Matcher], event: Event) -> list[Matcher]:
    """What there would be without an index."""
    return [matcher for matcher in matchers if matcher.matches(event)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=30_000, metavar="N", help="how many events (default: 30000)")
    events = lots(max(1000, parser.parse_args().events))
    size = sum(len(json.dumps(event, separators=(",", ":"))) for event in events[:1000]) / 1000

    print(f"{len(events):,} parsed events of {size:,.0f} bytes of JSON\n")
    print(f"{'one rule':24}{'events/s':>12}{'matched':>10}")
    for kind, pattern in KINDS.items():
        speed, share = rate(compile_pattern(pattern).matches, events)
        print(f"{kind:24}{speed:12,.0f}{share:10.1%}")
    speed, share = rate(compile_patterns(KINDS).matching, events)
    print(f"{'all of them (RuleSet)':24}{speed:12,.0f}{share:10.1%}")

    print(f"\n{'many rules':24}{'RuleSet':>12}{'one by one':>12}{'times':>10}")
    for count in (1, 10, 100, 1000):
        patterns = rules(count)
        matchers = [compile_pattern(pattern) for pattern in patterns.values()]
        together, _ = rate(compile_patterns(patterns).matching, events)
        few = events[: max(200, len(events) // count)]
        alone, _ = rate(partial(one_by_one, matchers), few)
        print(f"{count:<24,}{together:12,.0f}{alone:12,.0f}{together / alone:10,.1f}")


if __name__ == "__main__":
    main()
