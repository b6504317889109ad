"""The numbers in slots of time: they are those of a plain count, and old slots go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.local import tallies
from silversmith.local.journal import SOON, TALLIES, Compaction, Journal
from silversmith.local.services import hop_row, write
from silversmith.local.services.queue import expire
from silversmith.local.tallies import bucket_of
from tests.examples import examples

NOW = 1_767_355_205.0


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def slots(journal: Journal, width: int) -> Counter[tuple[int, str, str]]:
    rows = journal.rows("tallies", width=width, since=0)
    return Counter({(slot, transform, name): value for slot, transform, name, value in rows})


FILES = st.lists(
    st.tuples(
        st.sampled_from(["t", "u"]),
        st.sampled_from(["committed", "failed", "quarantined", "duplicate", "gone"]),
        st.floats(0, 10_000),
        st.none() | st.floats(0, 1e8),
        st.integers(0, 9),
        st.dictionaries(st.sampled_from(["rule", "column id"]), st.integers(1, 9)),
    ),
    max_size=30,
)


@settings(max_examples=examples(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES)
def test_the_slots_of_each_width_are_a_plain_count(tmp_path_factory: pytest.TempPathFactory, files: Any) -> None:
    with closing(Journal(tmp_path_factory.mktemp("tallies") / "journal.db")) as journal:
        for transform, verdict, after, took, rejected, broken in files:
            detail = {"rows_written": 3, "rows_read": 3 + rejected, "rows_rejected": rejected, "broken": broken}
            with journal.transaction():
                tallies.add(journal, transform, tallies.ended(verdict, detail, took), NOW + after)
        for width in TALLIES:
            expected = Counter[tuple[int, str, str]]()
            for transform, verdict, after, took, rejected, broken in files:
                slot = int((NOW + after) // width)
                if verdict in {"failed", "quarantined"}:
                    expected[slot, transform, "failed"] += 1
                elif verdict == "committed":
                    expected[slot, transform, "done"] += 1
                    expected[slot, transform, "rows"] += 3
                    expected[slot, transform, "rows_read"] += 3 + rejected
                    expected[slot, transform, "rejected"] += rejected
                    expected[slot, transform, "partial"] += rejected > 0
                    for name, rows in broken.items():
                        expected[slot, transform, f"broken:{name}"] += rows
                    if took is not None:
                        expected[slot, transform, f"latency:{bucket_of(took)}"] += 1
            assert slots(journal, width) == +expected


def test_details_that_are_not_what_they_should_be_do_no_harm() -> None:
    assert +tallies.ended("committed", {"broken": ["a"]}, None) == {"done": 1}
    assert +tallies.ended("committed", {"broken": {"a": "many"}}, None) == {"done": 1}


def test_the_time_begins_at_the_landing_or_where_it_was_sent_again(journal: Journal) -> None:
    def hop(version: str, at: float, room: str, to: str = "") -> None:
        detail = {"to": to} if to else None
        write(journal, hops=[hop_row("k", version, at=at, room=room, name="n", what="w", detail=detail)])

    def took(version: str = "v", now: float = 100.0) -> float | None:
        return tallies.milliseconds_since(journal, "k", version, "shop_t", now)

    assert took() is None
    hop("v", 10.0, "bucket")
    hop("v", 11.0, "queue")
    hop("other", 50.0, "bucket")
    assert took() == 90_000
    assert took(now=9.0) is None, "the clock was set back"
    hop("v", 60.0, "operations", "shop_u")
    assert took() == 90_000, "another transform's"
    hop("v", 70.0, "operations", "shop_t")
    assert took() == 30_000
    hop("v", 80.0, "operations", "bus")
    assert took() == 20_000


def test_old_slots_are_removed(journal: Journal) -> None:
    with journal.transaction():
        for hours in range(72):
            tallies.add(journal, "t", {"done": 1}, NOW + hours * 3600)
    now = NOW + 72 * 3600
    compaction = Compaction(journal, bucket="b", expire=expire, most=3)
    while compaction.step(now):
        now += SOON
    for width, seconds in TALLIES.items():
        ages = [now - slot * width for slot, _, _ in slots(journal, width)]
        assert len(ages) == sum(hours * 3600 <= seconds for hours in range(1, 73))
        assert max(ages, default=0) <= seconds + width
