"""Alarms of local runs: when a condition is true, that each change is sent once, and what a dead channel costs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.local.journal import Journal
from silversmith.local.lake import LakeFolder
from silversmith.operations.alarms import STEP, Alarms, Judge, Undelivered, local_conditions, watching
from silversmith.operations.target import MOST_PENDING, AlarmState, Delivery, Hop
from silversmith.pipeline.deployment import Deployment

DAY = 86_400.0


def committed(at: float, *, written: int = 100, rejected: int = 0) -> Hop:
    detail = {"transform": "orders", "rows_written": written, "rows_rejected": rejected}
    return Hop("v", at, "function", "shop_orders", "committed", detail)


def quarantined(at: float) -> Hop:
    return Hop("v", at, "function", "shop_orders", "quarantined", {"transform": "orders"})


def true(condition: str, *hops: Hop, now: float, last: float | None = None) -> str:
    """The sentence of one condition; empty where it is not true."""
    judge = Judge([condition], {"orders": last}, began=0.0)
    for hop in hops:
        judge.add_hop("orders/a.csv", hop)
    return judge.true(now).get(("orders", condition), "")


def test_one_bad_file_or_row_is_enough_for_five_minutes() -> None:
    assert true("quarantine", quarantined(1000), now=1010) == (
        "1 file went to quarantine within 5 minutes: see `silversmith failures`"
    )
    assert true("quarantine", quarantined(1000), quarantined(1001), now=1010).startswith("2 files went")
    assert true("rejected", committed(1000, rejected=1), now=1010) == (
        "1 row was rejected within 5 minutes: see `silversmith failures --rejected`"
    )
    assert true("rejected", committed(1000), now=1010) == ""
    assert true("quarantine", quarantined(1000), now=1000 + 300 + 2 * STEP) == ""


def test_a_share_is_of_an_hour_and_must_be_exceeded() -> None:
    assert true("rejected>5%", committed(1000, written=95, rejected=5), now=1010) == ""
    text = true("rejected>5%", committed(1000, written=94, rejected=6), now=1010)
    assert text == "6 of 100 rows were rejected within an hour: see `silversmith failures --rejected`"
    assert true("rejected>5%", committed(1000, written=94, rejected=6), now=1000 + 3600 + 2 * STEP) == ""
    good = [committed(1000)] * 19
    assert true("quarantine>5%", *good, quarantined(1000), now=1010) == ""
    assert true("quarantine>5%", *good[:-1], quarantined(1000), now=1010).startswith("1 of 19 files went to quarantine")


def test_silence_counts_from_the_last_silver_or_from_when_it_was_first_looked_for() -> None:
    assert true("silent>24h", now=DAY) == ""
    assert true("silent>24h", now=DAY + 1) == "no new silver for 24 h"
    assert true("silent>2d", now=2 * DAY + 1, last=DAY) == ""
    assert true("silent>24h", committed(DAY), now=2 * DAY) == ""
    assert true("silent>24h", quarantined(2 * DAY), now=2 * DAY) == "no new silver for 2 d"


@given(
    st.lists(st.tuples(st.integers(0, 2 * 3600), st.booleans(), st.integers(0, 50), st.integers(0, 50)), max_size=30),
    st.integers(3600, 3 * 3600),
)
def test_the_window_is_what_adding_up_gives(events: list[tuple[int, bool, int, int]], now: int) -> None:
    events = sorted(event for event in events if event[0] <= now)
    judge = Judge(["rejected>5%", "quarantine"], {"orders": None}, began=0.0)
    for at, is_good, written, rejected in events:
        judge.add_hop("k", committed(at, written=written, rejected=rejected) if is_good else quarantined(at))
        judge.true(at)
    rows = [(w, r) for at, is_good, w, r in events if is_good and now - at // STEP * STEP < 3600 + STEP]
    bad = sum(rejected for _, rejected in rows)
    is_true = bad > 0.05 * (bad + sum(written for written, _ in rows))
    assert (("orders", "rejected>5%") in judge.true(now)) == is_true
    is_quarantined = any(not is_good and now - at // STEP * STEP < 300 + STEP for at, is_good, _, _ in events)
    assert (("orders", "quarantine") in judge.true(now)) == is_quarantined


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Fake:
    """A channel that fails as often as it is told, and the conditions that are true."""

    problems: list[Undelivered] = field(default_factory=list)
    notices: list[Mapping[str, Any]] = field(default_factory=list)
    conditions: dict[tuple[str, str], str] = field(default_factory=dict)
    name: str = "webhook example.com"

    def send(self, notice: Mapping[str, Any]) -> None:
        if self.problems:
            raise self.problems.pop(0)
        self.notices.append(notice)

    @property
    def states(self) -> list[list[str]]:
        return [[change["state"] for change in notice["changes"]] for notice in self.notices]


RAISED = {("orders", "rejected>5%"): "6 of 100 rows were rejected"}


def step(alarms: Alarms, fake: Fake, *, last: bool = False) -> None:
    alarms.judge(fake.conditions)
    alarms.deliver(last=last)


def test_each_change_is_sent_once_and_a_raised_alarm_stays_for_five_minutes() -> None:
    clock, fake = Clock(), Fake(conditions=dict(RAISED))
    alarms = Alarms(AlarmState(), [fake], "shop", clock=clock)
    for _ in range(3):
        step(alarms, fake)
    assert fake.states == [["alarm"]]
    assert fake.notices[0]["text"] == "shop: orders rejected>5%: alarm: 6 of 100 rows were rejected"
    fake.conditions.clear()
    clock.now += 120
    step(alarms, fake)
    assert fake.states == [["alarm"]]
    clock.now += 200
    step(alarms, fake)
    step(alarms, fake)
    assert fake.states == [["alarm"], ["resolved"]]
    assert alarms.state.alarms == []


def test_a_channel_gets_one_notice_a_minute_with_all_that_changed() -> None:
    clock, fake = Clock(), Fake(conditions=dict(RAISED))
    alarms = Alarms(AlarmState(), [fake], "shop", clock=clock)
    step(alarms, fake)
    for name in ("a", "b", "c"):
        fake.conditions[name, "quarantine"] = "1 file"
        clock.now += 5
        step(alarms, fake)
    assert fake.states == [["alarm"]]
    clock.now += 60
    step(alarms, fake)
    assert fake.states == [["alarm"], ["alarm"] * 3]


def test_a_dead_channel_is_tried_less_and_less_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    dead = Fake([Undelivered("it answered 404") for _ in range(100)], conditions=dict(RAISED))
    well = Fake(name="command mail", conditions=dict(RAISED))
    alarms = Alarms(AlarmState(), [dead, well], "shop", clock=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            step(alarms, dead)
            clock.now += 5
    assert 100 - len(dead.problems) == 22, "5, 10, 20 … and then every 300 seconds, for 5,000"
    assert [record.message for record in caplog.records] == [
        "alarms do not reach the webhook example.com, and are sent again: it answered 404"
    ]
    delivery = alarms.state.channels["webhook example.com"]
    assert (delivery.problem, len(delivery.pending), delivery.since[:4]) == ("it answered 404", 1, "1970")
    assert well.states == [["alarm"]]
    dead.problems.clear()
    clock.now += 300
    step(alarms, dead)
    assert (dead.states, alarms.state.channels["webhook example.com"]) == ([["alarm"]], Delivery())


def test_a_channel_that_asks_for_time_has_it() -> None:
    clock, fake = Clock(), Fake([Undelivered("it answered 429", 1000.0)], conditions=dict(RAISED))
    alarms = Alarms(AlarmState(), [fake], "shop", clock=clock)
    step(alarms, fake)
    clock.now += 999
    step(alarms, fake)
    assert fake.states == []
    clock.now += 1
    step(alarms, fake)
    assert fake.states == [["alarm"]]


def test_the_last_step_of_a_run_waits_for_nothing() -> None:
    fake = Fake(conditions=dict(RAISED))
    alarms = Alarms(AlarmState(), [fake], "shop", clock=Clock())
    step(alarms, fake)
    fake.conditions["orders", "quarantine"] = "1 file"
    step(alarms, fake, last=True)
    assert fake.states == [["alarm"], ["alarm"]]


def test_what_a_dead_channel_lacks_is_bounded() -> None:
    clock, fake = Clock(), Fake([Undelivered("dead")] * 1000)
    alarms = Alarms(AlarmState(), [fake], "shop", clock=clock)
    for number in range(MOST_PENDING + 7):
        fake.conditions = {("orders", str(number)): "x"}
        alarms.judge(fake.conditions)
    fake.problems.clear()
    alarms.deliver()
    assert fake.notices[0]["text"].startswith("shop: 7 older changes could not be sent\n")
    assert len(fake.notices[0]["changes"]) == MOST_PENDING


def test_the_state_is_whole_after_a_run_and_no_nonsense_ends_one(tmp_path: Path) -> None:
    path = tmp_path / "alarms.json"
    clock, fake = Clock(), Fake([Undelivered("dead")], conditions=dict(RAISED))
    alarms = Alarms(AlarmState("1970-01-01T00:00:00+00:00"), [fake], "shop", clock=clock)
    step(alarms, fake)
    alarms.state.write(path)
    again = AlarmState.read(path)
    assert again == alarms.state
    later = Alarms(again, [fake], "shop", clock=clock)
    step(later, fake)
    assert fake.states == [["alarm"]], "the alarm was raised already, and is only delivered"
    for text in ("", "null", "[]", '{"alarms": 1}', '{"began": "", "alarms": [{"x": 1}], "channels": {}}', "\x00"):
        path.write_text(text)
        assert AlarmState.read(path) == AlarmState()


def test_a_channel_that_is_named_no_more_is_forgotten() -> None:
    state = AlarmState(channels={"webhook old": Delivery(problem="dead")})
    assert list(Alarms(state, [Fake()], "shop").state.channels) == ["webhook example.com"]


def test_the_deployment_of_the_module_has_the_conditions() -> None:
    chosen = Deployment(alarm_on=("quarantine",))
    assert local_conditions({"deployment": chosen}) == ("quarantine",)
    assert local_conditions({"live": chosen}, "live") == ("quarantine",)
    assert local_conditions({"live": chosen}) == ()
    assert local_conditions({"pipeline": Pipeline("shop")}) == ()


def test_a_lake_without_a_journal_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), watching(LakeFolder(tmp_path), "shop", ["orders"], ["quarantine"], []):
        pass
    assert "the alarms of this run ended" in caplog.text


def test_the_last_commit_is_looked_up_in_the_journal(tmp_path: Path) -> None:
    folder, fake, clock = LakeFolder(tmp_path), Fake(), Clock()
    folder.create()
    journal = Journal(folder.journal)
    for at in (clock.now - DAY - 10, clock.now - DAY - 5):
        row = ("orders/a.csv", "v", at, "function", "shop_orders", "committed", "{}", None)
        journal.change_many("hop", [row])
    with watching(folder, "shop", ["orders", "late"], ["silent>24h"], [fake], clock=clock):
        pass
    journal.close()
    assert [change["text"] for notice in fake.notices for change in notice["changes"]] == ["no new silver for 24 h"]
