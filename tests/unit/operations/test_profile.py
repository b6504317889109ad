"""Files' times added up by stage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.operations.profile import QUEUED, Profile
from silversmith.operations.target import Hop


def test_a_hop_through_a_function_has_the_wait_in_the_queue_and_the_stages() -> None:
    profile = Profile()
    detail = {"transform": "orders", "queued": 0.5, "stages": {"parse": 0.1}}
    profile.add_hop("a.csv", Hop("v", 9.0, "function", "shop_orders", "committed", detail))
    profile.add_hop("a.csv", Hop("v", 9.0, "queue", "shop_orders", "queued", {}))
    profile.add_hop("a.csv", Hop("v", 9.0, "function", "shop_orders", "filtered", {}))
    assert [(stage.transform, stage.stage, stage.total) for stage in profile.stages()] == [
        ("orders", QUEUED, 0.5), ("orders", "parse", 0.1),
    ]  # fmt: skip


def test_stages_come_in_their_order_and_shares_add_up() -> None:
    profile = Profile()
    profile.add("orders", "a.csv", {"commit": 0.3, "parse": 0.1, QUEUED: 0.0})
    profile.add("orders", "b.csv", {"parse": 0.5, QUEUED: 0.1})
    profile.add("another", "c.csv", {"write": 2.0})
    stages = profile.stages()
    assert [(stage.transform, stage.stage, stage.files) for stage in stages] == [
        ("another", "write", 1), ("orders", QUEUED, 2), ("orders", "parse", 2), ("orders", "commit", 1),
    ]  # fmt: skip
    assert sum(stage.share for stage in stages if stage.transform == "orders") == pytest.approx(1.0)
    parse = stages[2]
    assert (parse.slowest, parse.most) == ("b.csv", 0.5)
    assert parse.total == pytest.approx(0.6)


def test_files_that_took_no_time_have_no_share() -> None:
    profile = Profile()
    profile.add("t", "k", {QUEUED: 0.0, "parse": 0.0})
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
