"""A scrape gets everything that the status says, in the text format, escaped."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from urllib.request import urlopen

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from silversmith.operations import WrongCall
from silversmith.operations.prometheus import StatusCollector, serve
from silversmith.operations.reports import ChainStatus, Status, TransformStatus

numbers = st.integers(0, 10**12)
transforms = st.builds(
    TransformStatus,
    name=st.text(),
    pattern=st.just("*"),
    waiting=numbers,
    in_flight=numbers,
    oldest_seconds=st.none() | st.floats(0, 10**9),
    dead=numbers,
    quarantined=numbers,
    done=numbers,
    duplicates=numbers,
    gone=numbers,
    rows=numbers,
    rejected=numbers,
    retried=numbers,
)
chains = st.builds(ChainStatus, numbers, numbers, numbers, numbers, numbers, numbers, numbers)


def status(chain: ChainStatus, transforms: list[TransformStatus], name: str = "shop") -> Status:
    return Status(name, "lake", True, True, {}, chain, transforms)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    actual = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    by_name = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in actual}
    assert len(by_name) == len(actual)
    return by_name


def scraped(report: Status) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(lambda: report))
    return generate_latest(registry).decode()


@given(chains, st.lists(transforms, max_size=3, unique_by=lambda each: each.name), st.text())
def test_a_scrape_says_what_the_status_says(chain: ChainStatus, some: list[TransformStatus], name: str) -> None:
    result = samples(scraped(status(chain, some, name)))
    pipeline = ("pipeline", name)
    assert result["silversmith_objects_created_total", frozenset({pipeline})] == chain.created
    assert result["silversmith_rule_dead_messages", frozenset({pipeline})] == chain.dead
    for each in some:
        labels = frozenset({pipeline, ("transform", each.name)})
        assert result["silversmith_files_total", labels | {("outcome", "committed")}] == each.done
        assert result["silversmith_files_total", labels | {("outcome", "failed")}] == each.retried
        assert result["silversmith_rows_total", labels] == each.rows
        assert result["silversmith_rows_rejected_total", labels] == each.rejected
        assert result["silversmith_queue_messages", labels | {("state", "waiting")}] == each.waiting
        assert result["silversmith_queue_messages", labels | {("state", "dead")}] == each.dead
        assert result["silversmith_queue_oldest_seconds", labels] == (each.oldest_seconds or 0)
        assert result["silversmith_quarantined_files", labels] == each.quarantined


def test_no_name_breaks_a_line() -> None:
    hostile = replace(EXAMPLE.transforms[0], name='a"\n# TYPE x counter\\')
    text = scraped(status(EXAMPLE.chain, [hostile]))
    assert '{pipeline="shop",transform="a\\"\\n# TYPE x counter\\\\"}' in text
    assert all(re.match(r"(# (HELP|TYPE) )?silversmith_", line) for line in text.splitlines())


EXAMPLE = status(ChainStatus(1, 1, 0, 1, 0, 0, 0), [TransformStatus("orders", "*", 0, 0, None, 0, 0, 1, 0, 0, 9, 0, 0)])


@pytest.fixture
def address() -> Iterator[str]:
    with serve(0, lambda: EXAMPLE) as result:
        yield result


def test_it_is_served_on_this_machine_alone(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    with urlopen(address, timeout=10) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert samples(response.read().decode())["silversmith_rows_total", frozenset(LABELS.items())] == 9


LABELS = {"pipeline": "shop", "transform": "orders"}


def test_afterwards_the_port_is_free_again() -> None:
    with serve(0, lambda: EXAMPLE) as address:
        port = int(address.rpartition(":")[2].removesuffix("/metrics"))
    with serve(port, lambda: EXAMPLE) as again:
        assert again == address


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(WrongCall, match="Name another"), serve(taken.getsockname()[1], lambda: EXAMPLE):
            pass
