"""Draw docs/images/burst.svg: a million files land in a minute, by ``silversmith estimate``.

    python -m bench.burst [--check]

``--check`` writes nothing, and ends with 1 where the picture is not what it would be.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from bench.peers import ROOT
from silversmith.operations.estimate import (
    EVENTS_PER_SECOND,
    FIRST_POLLERS,
    IN_FLIGHT,
    MOST_POLLERS,
    POLLERS_PER_SECOND,
    PUTS_PER_SECOND,
    TABLE_CONCURRENCY,
    TABLE_SECONDS,
    TABLE_WINDOW,
    Burst,
    Estimate,
    Functions,
    assumed,
    estimate,
)

IMAGE = ROOT / "docs/images/burst.svg"

FILES, SIZE = 1_000_000, 4096

#: Of a panel, in pixels: its size, and the room around it.
WIDTH, HEIGHT, LEFT, TOP, GAP = 400, 220, 64, 56, 90

#: How many points a line has.
POINTS = 120

STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-size: 12px; fill: #1f2328; }
.name { font-size: 14px; font-weight: 600; }
.axis { stroke: #8c959f; fill: none; }
.line { fill: none; stroke-width: 2; }
.ground { fill: #ffffff; }
"""


@dataclass(frozen=True)
class Line:
    """A line of a panel: its name, its colour, and how many files there are after so many seconds."""

    name: str
    colour: str
    files: Callable[[float], float]


def results() -> tuple[Estimate, Estimate]:
    """With what is deployed by default; and with as much as AWS gives by default."""
    time = assumed(SIZE)
    usual = estimate(Burst(FILES, SIZE, FILES / 60), Functions(512, 10, 100, 2048), time)
    most = estimate(Burst(FILES, SIZE, FILES / 60, prefixes=5), Functions(512, 10, 1_000, 2048), time)
    return usual, most


def done_at(result: Estimate, at: float, *, events: int = EVENTS_PER_SECOND) -> dict[str, float]:
    """How many files have landed, had their event delivered, and are in silver and gold, so many seconds after the
    first one landed."""
    burst, files = result.burst, float(result.burst.files)
    landed = min(files, at * files / result.landed)
    delivered = min(landed, at * events)
    batch = result.file_seconds * result.functions.batch_size
    most = min(result.functions.concurrency, MOST_POLLERS, max(1, IN_FLIGHT // result.functions.batch_size))
    useful = min(float(most), PUTS_PER_SECOND * burst.prefixes * result.file_seconds)
    silver = min(delivered, _processed(max(0.0, at - batch), useful, result.file_seconds))
    counts = {"landed": landed, "delivered": delivered, "silver": silver}
    if result.gold is not None:
        tables = TABLE_CONCURRENCY / TABLE_SECONDS
        counts["gold"] = min(silver, max(0.0, at - TABLE_WINDOW) * tables)
    return counts


def _processed(at: float, most: float, seconds: float) -> float:
    """How many files so many invocations can have done by then, where there is always one that waits."""
    ramp = min(at, max(0.0, (most - FIRST_POLLERS) / POLLERS_PER_SECOND))
    first = min(most, FIRST_POLLERS)
    return (first * ramp + POLLERS_PER_SECOND * ramp**2 / 2 + max(0.0, at - ramp) * max(most, first)) / seconds


def line(name: str, colour: str, result: Estimate, stage: str) -> Line:
    return Line(name, colour, lambda at: done_at(result, at)[stage])


def panel(left: int, title: str, minutes: int, lines: list[Line]) -> list[str]:
    """One plot: files over minutes, with its legend below."""
    bottom = TOP + HEIGHT
    parts = [f'<text class="name" x="{left}" y="{TOP - 16}">{title}</text>']
    parts.append(f'<path class="axis" d="M{left} {TOP}V{bottom}H{left + WIDTH}"/>')
    for share in range(5):
        y = bottom - HEIGHT * share / 4
        parts.append(f'<text x="{left - 8}" y="{y + 4:.0f}" text-anchor="end">{FILES * share // 4:,}</text>')
        parts.append(f'<path class="axis" stroke-dasharray="2 4" d="M{left} {y:.0f}H{left + WIDTH}"/>')
    for tick in range(6):
        x, minute = left + WIDTH * tick / 5, minutes * tick / 5
        parts.append(f'<text x="{x:.0f}" y="{bottom + 18}" text-anchor="middle">{minute:g} min</text>')
    for number, each in enumerate(lines):
        points = []
        for index in range(POINTS + 1):
            files = each.files(minutes * 60 * index / POINTS)
            points.append(f"{left + WIDTH * index / POINTS:.1f} {bottom - HEIGHT * files / FILES:.1f}")
        parts.append(f'<path class="line" stroke="{each.colour}" d="M{"L".join(points)}"/>')
        y = bottom + 42 + 18 * number
        parts.append(f'<path class="line" stroke="{each.colour}" d="M{left} {y - 4}h24"/>')
        parts.append(f'<text x="{left + 32}" y="{y}">{each.name}</text>')
    return parts


def svg() -> str:
    usual, most = results()
    first = [
        line("landed, on one partitioned prefix: 3,500 a second", "#8c959f", usual, "landed"),
        line("in silver, 100 invocations at once (the default)", "#0969da", usual, "silver"),
        line("landed, on five partitioned prefixes", "#d4a72c", most, "landed"),
        line("in silver, 1,000 invocations, five prefixes", "#1a7f37", most, "silver"),
    ]
    second = [
        line("in silver", "#0969da", usual, "silver"),
        line("in gold: two commits at once, 200 files a second", "#8250df", usual, "gold"),
    ]
    width, height = 2 * (LEFT + WIDTH) + GAP, TOP + HEIGHT + 130
    title = "A million files of 4 KB land in a minute: when silver and gold have them"
    box = f'viewBox="0 0 {width} {height}" role="img" aria-labelledby="title"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
            f'<title id="title">{title}</title>',
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{width}" height="{height}"/>',
            *panel(LEFT + 16, "Silver", 10, first),
            *panel(LEFT + WIDTH + GAP + 16, "Gold", 100, second),
            "</svg>",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        raise SystemExit(IMAGE.read_text("utf-8") != svg())
    IMAGE.write_text(svg(), "utf-8")


if __name__ == "__main__":
    main()
