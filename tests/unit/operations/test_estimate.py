"""``estimate``: more files or larger ones never come sooner or cheaper; prices and sums are those of the docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.burst import done_at
from silversmith.operations.estimate import (
    EVENTS_PER_SECOND,
    MOST_POLLERS,
    PRICES,
    PUTS_PER_SECOND,
    TABLE_CONCURRENCY,
    TABLE_SECONDS,
    TABLE_WINDOW,
    Burst,
    Estimate,
    Functions,
    assumed,
    billed_seconds,
    estimate,
)
from silversmith.operations.target import FileTime
from silversmith.template.tables import BATCH_WINDOW, CONCURRENCY

if TYPE_CHECKING:
    from silversmith.operations.local import LocalTarget
    from tests.unit.conftest import Bench

PAGE = (Path(__file__).parents[3] / "docs/deploy.md").read_text("utf-8")

BURSTS = st.builds(
    Burst,
    files=st.integers(1, 10**9),
    size=st.integers(1, 10**10),
    rate=st.floats(1, 10**6),
    prefixes=st.integers(1, 100),
)
FUNCTIONS = st.builds(
    Functions,
    memory=st.integers(128, 10_240),
    batch_size=st.integers(1, 10_000),
    concurrency=st.integers(2, 1_000),
    table_memory=st.sampled_from([None, 512, 2048]),
)
TIMES = st.one_of(
    st.none(),
    st.builds(FileTime, st.floats(1e-4, 60), st.just("measured"), st.floats(0, 1e9), st.booleans()),
)


def answer(burst: Burst, functions: Functions, time: FileTime | None) -> Estimate:
    return estimate(burst, functions, time or assumed(burst.size))


def numbers(result: Estimate) -> list[float]:
    """All that may not get less when there is more to do."""
    return [result.landed, result.silver, result.gold or 0.0, result.file_seconds, *result.dollars.values()]


@given(BURSTS, FUNCTIONS, TIMES, st.integers(0, 10**9), st.integers(0, 10**10))
def test_more_files_and_larger_ones_never_come_sooner_or_cheaper(
    burst: Burst, functions: Functions, time: FileTime | None, files: int, size: int
) -> None:
    fewer = answer(burst, functions, time)
    more = answer(Burst(burst.files + files, burst.size, burst.rate, burst.prefixes), functions, time)
    larger = answer(Burst(burst.files, burst.size + size, burst.rate, burst.prefixes), functions, time)
    for changed in (more, larger):
        for before, after in zip(numbers(fewer), numbers(changed), strict=True):
            assert after >= before * (1 - 1e-9)


@given(BURSTS, FUNCTIONS, TIMES)
def test_no_stage_is_before_the_one_that_it_follows(burst: Burst, functions: Functions, time: FileTime | None) -> None:
    result = answer(burst, functions, time)
    assert result.landed <= result.silver * (1 + 1e-9)
    assert result.gold is None or result.silver < result.gold
    assert 1 <= result.invocations_at_once <= min(functions.concurrency, MOST_POLLERS)
    for share in (0.1, 0.5, 1.0):
        counts = list(done_at(result, share * result.silver).values())
        assert counts == sorted(counts, reverse=True)
    last = done_at(result, (result.gold or result.silver) * (1 + 1e-9) + 1e-6)
    assert min(last.values()) == pytest.approx(burst.files)


@given(BURSTS, FUNCTIONS)
def test_a_burst_under_no_limit_takes_as_long_as_it_lands(burst: Burst, functions: Functions) -> None:
    result = answer(burst, functions, None)
    if not result.limits and result.gold is None:
        batch = result.file_seconds * functions.batch_size
        assert result.silver <= burst.files / burst.rate + 3 * batch


@pytest.mark.parametrize(
    ("rate", "prefixes", "services"),
    [
        (1.0, 1, []),
        (PUTS_PER_SECOND + 1.0, 1, ["S3", "Lambda"]),
        (EVENTS_PER_SECOND + 1.0, 100, ["EventBridge", "Lambda"]),
    ],
)
def test_each_limit_is_named(rate: float, prefixes: int, services: list[str]) -> None:
    result = answer(Burst(10**6, 4096, rate, prefixes), Functions(512, 10, 100), None)
    assert [limit.service for limit in result.limits] == services


def test_a_million_small_files_in_a_minute() -> None:
    """The burst of docs/scale.md: the page has these numbers."""
    result = answer(Burst(10**6, 4096, 10**6 / 60), Functions(512, 10, 100, 2048), None)
    assert result.landed == pytest.approx(10**6 / PUTS_PER_SECOND)
    assert 7 * 60 < result.silver < 9 * 60
    assert result.gold == pytest.approx(10**6 * TABLE_SECONDS / TABLE_CONCURRENCY + TABLE_WINDOW)
    assert 11 < sum(result.dollars.values()) < 12


def test_measured_seconds_of_lambda_count_as_they_are() -> None:
    burst, functions = Burst(10, 4096, 1), Functions(512, 10, 100)
    assert billed_seconds(burst, functions, FileTime(0.25, "measured", billed=True)) == 0.25
    assert billed_seconds(burst, functions, FileTime(0.25, "measured", 2048.0, billed=True)) == 0.5, "twice as large"
    computing = billed_seconds(burst, functions, FileTime(0.25, "measured"))
    assert computing > 0.25 * 1769 / 512, "with a share of a processor, and S3's waits"


def test_estimates_of_tables_use_the_deployed_settings() -> None:
    assert (TABLE_CONCURRENCY, TABLE_WINDOW) == (CONCURRENCY, BATCH_WINDOW)


def test_the_prices_are_those_of_the_page() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE, re.MULTILINE)
    assert {name: float(price) for name, price in rows} == PRICES


@given(st.floats(0.001, 10), st.integers(1, 10_000), st.integers(128, 10_240))
def test_the_sums_are_those_of_the_page(seconds: float, batch: int, memory: int) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (code,) = (block for block in blocks if "def million_files(" in block)
    names: dict[str, Any] = dict(PRICES)
    exec(code, names)
    time = FileTime(seconds, "measured", billed=True)
    result = estimate(Burst(10**6, 4096, 100), Functions(memory, batch, 100, 2048), time)
    tables = result.dollars["tables"]
    assert sum(result.dollars.values()) - tables == pytest.approx(
        names["million_files"](seconds, memory / 1024, batch=batch)["sum"]
    )
    assert tables == pytest.approx(names["million_files_in_tables"](TABLE_SECONDS, 2)["sum"])


def test_a_lake_says_what_its_files_took(bench: Bench, target: LocalTarget) -> None:
    assert target.file_time("orders") is None
    bench.land("orders/1.csv", text="id,total\n1,2\n")
    bench.work()
    time = target.file_time("orders")
    assert time is not None
    assert 0 < time.seconds < 60
    assert (time.billed, time.size) == (False, 13.0)
    assert "1 file in the lake" in time.source
