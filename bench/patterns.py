"""The speed of patterns: events matched per second, by kind of rule.

    python -m bench.patterns [--events 200000] [--runs 3] [--short]

The events are made up after the city lots of San Francisco, the data that EventBridge's own matcher is measured with:
about 900 bytes of JSON each, with an array of coordinates three levels deep. They are already parsed.

``--short`` takes 20,000 events and one run.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from bench.markdown import number, table
from bench.measure import machine, progress
from silversmith.patterns import compile_pattern

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


def rate(match: Callable[[Event], Any], events: Sequence[Event], runs: int) -> tuple[float, float]:
    """Events per second, the median of the runs, and the share of them for which there was a match."""
    seconds = []
    hits = 0
    for _ in range(runs):
        started = perf_counter()
        hits = sum(1 for event in events if match(event))
        seconds.append(perf_counter() - started)
    return len(events) / statistics.median(seconds), hits / len(events)


def kinds(events: Sequence[Event], runs: int) -> str:
    """A rule of each kind."""
    rows = []
    for kind, pattern in KINDS.items():
        progress(kind)
        speed, share = rate(compile_pattern(pattern).matches, events, runs)
        rows.append([kind, number(speed), f"{share:.1%}"])
    return table(["one rule", "events/s", "matched"], rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args(arguments)
    if options.short:
        options.events, options.runs = 20_000, 1
    return options


def main() -> None:
    """One table."""
    options = parse()
    events = lots(options.events)
    size = sum(len(json.dumps(event, separators=(",", ":"))) for event in events[:1000]) / len(events[:1000])
    rows = kinds(events, options.runs)
    progress("")
    print(f"{len(events):,} parsed events of {size:,.0f} bytes, medians of {options.runs} runs; goal: 150,000 events/s")
    print(f"{machine()}\n\n{rows}")


if __name__ == "__main__":
    main()
