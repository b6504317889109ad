"""Files' times added up by stage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.local.progress import HOPS, Profile, waiting


def hop(version: str, at: float, room: str) -> tuple[str, float, str, str, str, str]:
    return version, at, room, "name", "what", "{}"


def test_a_version_waits_from_hop_to_hop() -> None:
    trace = [
        hop("old", 1.0, "bucket"), hop("old", 1.5, "rule"),
        hop("new", 10.0, "bucket"), hop("new", 11.0, "rule"), hop("new", 11.5, "topic"),
        hop("new", 13.5, "queue"), hop("new", 20.0, "function"),
    ]  # fmt: skip
    assert waiting(trace[::-1], "new", until=14.0) == {"rule": 1.0, "topic": 0.5, "queue": 2.0, "function": 0.5}


def test_what_came_another_way_waited_at_no_hop() -> None:
    assert waiting([], "v", until=1.0) == {}
    assert waiting([hop("v", 3.0, "queue")], "v", until=4.0) == {}


def test_a_clock_that_was_set_back_makes_no_time_negative() -> None:
    trace = [hop("v", 10.0, "bucket"), hop("v", 5.0, "rule")]
    assert waiting(trace[::-1], "v", until=4.0) == {"rule": 0.0, "function": 0.0}


def test_stages_come_in_their_order_and_shares_add_up() -> None:
    profile = Profile()
    profile.add("orders", "a.csv", {"commit": 0.3, "parse": 0.1, "rule": 0.0})
    profile.add("orders", "b.csv", {"parse": 0.5, "rule": 0.1})
    profile.add("another", "c.csv", {"write": 2.0})
    found = profile.stages()
    assert [(stage.transform, stage.stage, stage.files) for stage in found] == [
        ("another", "write", 1), ("orders", "rule", 2), ("orders", "parse", 2), ("orders", "commit", 1),
    ]  # fmt: skip
    assert sum(stage.share for stage in found if stage.transform == "orders") == pytest.approx(1.0)
    parse = found[2]
    assert (parse.slowest, parse.most) == ("b.csv", 0.5)
    assert parse.total == pytest.approx(0.6)


def test_files_that_took_no_time_have_no_share() -> None:
    profile = Profile()
    profile.add("t", "k", dict.fromkeys(HOPS, 0.0))
    assert {(stage.share, stage.p50, stage.most) for stage in profile.stages()} == {(0.0, 0.0, 0.0)}


@given(st.lists(st.floats(1e-5, 1e4), min_size=1), st.sampled_from([0.5, 0.99]))
def test_quantiles_are_right_to_within_a_twentieth(times: list[float], share: float) -> None:
    profile = Profile()
    for seconds in times:
        profile.add("t", "k", {"parse": seconds})
    (stage,) = profile.stages()
    exact = next(value for rank, value in enumerate(sorted(times), 1) if rank >= share * len(times) - 1e-9)
    assert (stage.p50 if share == 0.5 else stage.p99) == pytest.approx(exact, rel=0.05)
    assert stage.p50 <= stage.p99 <= stage.most
