"""The benchmarks' commands: what they take, and what they print. What they measure is for a person to judge."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import burst, cost, handler_start, large_file, latency, patterns, queues, scale, small_files, tables
from bench.markdown import table
from bench.measure import Contender, Measured, in_turns, percentile, run
from bench.peers import PEERS, NotAvailable

ROOT = Path(__file__).parents[2]

#: Of each command: how it reads its arguments, and what its short form makes smaller.
COMMANDS: Mapping[str, tuple[Callable[[list[str]], Namespace], tuple[str, ...]]] = {
    "cost": (cost.parse, ("files", "size", "runs")),
    "handler_start": (handler_start.parse, ("runs",)),
    "large_file": (large_file.parse, ("sizes", "runs")),
    "latency": (latency.parse, ("idle", "burst", "seconds", "runs")),
    "patterns": (patterns.parse, ("events", "runs")),
    "queues": (queues.parse, ("depths", "messages", "runs")),
    "scale": (scale.parse, ("files", "walk")),
    "small_files": (small_files.parse, ("files", "runs")),
    "tables": (tables.parse, ("files", "batch", "sizes", "commits", "seconds", "kills", "runs")),
}


def work(value: Any) -> Any:
    """How much an option asks for."""
    return sum(value) if isinstance(value, list) else value


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_form_asks_for_less_of_everything(name: str) -> None:
    parse, smaller = COMMANDS[name]
    long, short = parse([]), parse(["--short"])
    for option in smaller:
        assert 0 < work(getattr(short, option)) < work(getattr(long, option))


@pytest.mark.full
@pytest.mark.parametrize("name", [*COMMANDS, "burst", "journal", "peers", "soak"])
def test_help_shows_how_the_command_is_called(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m bench.{name}" in done.stdout


@pytest.mark.parametrize("name", [path.stem for path in ROOT.glob("bench/*.py")])
def test_no_module_hides_one_of_pythons_own(name: str) -> None:
    """A script finds the modules beside it first: with a ``queue.py`` among them nothing that uses threads runs."""
    assert name not in sys.stdlib_module_names


@pytest.mark.parametrize("name", ["large_file", "queues", "small_files"])
def test_a_peer_that_may_be_left_out_is_a_peer(name: str) -> None:
    parse, _ = COMMANDS[name]
    assert parse(["--without", "huey" if name == "queues" else "pyspark"]).without[0] in PEERS
    assert set(parse(["--short"]).without) <= set(PEERS)
    with pytest.raises(SystemExit):
        parse(["--without", "no-such-peer"])


def test_the_picture_of_a_burst_is_the_one_of_the_estimate() -> None:
    assert burst.IMAGE.read_text("utf-8") == burst.svg(), "python -m bench.burst"


@pytest.mark.full
@pytest.mark.parametrize("heads", [False, True], ids=["by difference", "by heads"])
def test_a_round_over_a_generated_bucket_finds_what_is_wrong(heads: bool) -> None:
    files = scale.FIRST_WRONG + 500
    result = scale.walk(files, latency=0.1, memory=1769, speed=1.0, heads=heads)
    assert (result.walked, result.wrong, result.differences) == (files, 1, 1)
    assert result.requests["HEAD"] >= (files - 1 if heads else 1), "what is missing has none"
    assert result.seconds >= 0.1
    assert heads == (result.dollars > 0.001)


@pytest.mark.full
def test_a_round_that_is_split_finds_the_same(tmp_path: Path) -> None:
    files = 2 * scale.WRONG_EVERY + 500
    options: dict[str, Any] = {"latency": 0.1, "memory": 1769, "speed": 1.0, "branch_rows": files // 2 - 1}
    whole = scale.walk(files, **options)
    part = scale.walk(files, walked_files=1, **options)
    assert (whole.branches, whole.walked, whole.wrong, whole.differences) == (3, files, 2, 2)
    assert part.branches == 3
    assert 0 < part.walked < files
    assert part.wrong == part.differences
    assert whole.billed > whole.seconds > 0


def test_versions_of_peers_are_pinned() -> None:
    assert [package for peer in PEERS.values() for package in peer.packages if "==" not in package] == []
    assert PEERS["dlt"].label == "dlt " + PEERS["dlt"].packages[0].rpartition("==")[2]


def test_a_peer_whose_program_is_missing_says_so() -> None:
    with pytest.raises(NotAvailable, match="needs no-such-program"):
        type(PEERS["huey"])("huey", ("huey==0",), needs="no-such-program").install()


def test_contenders_take_turns_and_a_failed_one_is_not_asked_again() -> None:
    asked = []

    def once(name: str) -> Measured:
        asked.append(name)
        if name == "b":
            raise NotAvailable("no Java")
        return Measured(float(len(asked)), 1.0)

    actual = [Contender(name, lambda name=name: once(name)) for name in "abc"]  # type: ignore[misc]
    in_turns(actual, 3)
    assert "".join(asked) == "abcacac"
    assert [each.missing for each in actual] == ["", "no Java", ""]
    assert actual[0].median("seconds") == 4.0


def test_a_process_is_measured_with_its_children(tmp_path: Path) -> None:
    child = "x = bytearray(60_000_000); import time; time.sleep(0.3)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); print('{{\"seconds\": 7}}')"
    result = run([sys.executable, "-c", script], cwd=tmp_path)
    assert result.working == 7
    assert result.peak > 60_000_000
    with pytest.raises(NotAvailable, match="failed: ValueError: too cold"):
        run([sys.executable, "-c", "raise ValueError('too cold')"], cwd=tmp_path)


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match="longer than 1 s"):
        run([sys.executable, "-c", "import threading; threading.Event().wait()"], cwd=tmp_path, timeout=1)


def test_a_reason_stands_in_a_row_and_widens_nothing() -> None:
    rows = [["ours", "1,000", "1.00 x"], ["theirs", "cannot be had on this machine"]]
    assert table(["side", "n", ""], rows).splitlines() == [
        "| side   |     n |        |",
        "| :----- | ----: | -----: |",
        "| ours   | 1,000 | 1.00 x |",
        "| theirs | cannot be had on this machine | |",
    ]


def test_percentiles() -> None:
    assert percentile([float(each) for each in range(1, 101)], 0.5) == 51
    assert percentile([3.0], 0.99) == 3.0


def test_memory_buys_processors_as_far_as_there_are_threads() -> None:
    small = cost.Work("small", cpu=100, threads=1, invocations=10, puts=0, gets=1000)
    assert small.seconds(1769, wait=0.01, clock=1) == pytest.approx(110)
    assert small.seconds(3538, wait=0.01, clock=2) == pytest.approx(60)
    assert small.seconds(512, wait=0, clock=1) == pytest.approx(100 * 1769 / 512)
    large = cost.Work("large", cpu=100, threads=2, invocations=1, puts=0, gets=0)
    assert large.seconds(3538, wait=0, clock=1) == pytest.approx(50)
