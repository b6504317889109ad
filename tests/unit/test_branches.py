"""Rounds that are split into branches: over real folders and a real table, with invocations that a test orders."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from silversmith import Pipeline
from silversmith.reconcile.handler import BRANCHES, Reconciler
from silversmith.reconcile.lease import LEASE, Lease, Phase, branch_key, lease_key
from silversmith.runtime.queue import BUSY, NotSent
from tests.unit.test_difference import Bench
from tests.unit.test_reconciler import Full, Sent, Timer
from tests.unit.test_round_by_difference import Cut

KEY = lease_key("shop_Reconciler")
NAMES = [f"in/{number:02}.csv" for number in range(12)]
CUTS = ["in/02.csv", "in/05.csv", "in/08.csv"]
ENOUGH = 200


def shop() -> Pipeline:
    pipeline = Pipeline("shop", lineage=True)
    pipeline.sql("in/*", "SELECT * FROM rows", name="orders")
    return pipeline


class Refused(Exception):
    """Lambda did not take an invocation."""


@dataclass
class Function:
    """The function over a bench, and its invocations of itself that nobody has done yet."""

    bench: Bench
    now: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(hours=2))
    orders: Sent = field(default_factory=Sent)
    tables: Sent = field(default_factory=Sent)
    again: list[dict[str, Any]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    measured: list[tuple[str, int]] = field(default_factory=list)
    refuses: int = 0
    cuts: list[str] = field(default_factory=lambda: [*CUTS])

    def invoke(self, event: dict[str, Any] | None = None, *, looks: int = 1_000_000) -> dict[str, Any]:
        queues = {"orders": self.orders, "tables": self.tables}
        reconciler = Reconciler(
            shop(),
            bucket="dl-bronze-layer",
            lake=self.bench.lake,
            lease=KEY,
            queue=queues.__getitem__,
            again=self._again,
            measure=lambda values: self.measured.extend(values.items()),
            now=lambda: self.now,
            log=self.log.append,
            rows=lambda: Cut(self.bench.rows(), self.cuts),
            listers=1,
            branch_rows=5,
        )
        request = {"queues": {"orders": "orders"}, "tables": "tables", "round": "first", "step": 0}
        return reconciler(event or request, Timer(looks))

    def _again(self, event: dict[str, Any]) -> None:
        if self.refuses:
            self.refuses -= 1
            raise Refused
        self.again.append(event)

    def drain(self, *, looks: int = 1_000_000) -> None:
        """Everything on its way arrives, once."""
        for _ in range(ENOUGH):
            if not self.again:
                return
            self.invoke(self.again.pop(0), looks=looks)
        raise AssertionError("it never ends")

    @property
    def phase(self) -> Phase:
        return self.lease().phase

    def lease(self) -> Lease:
        lease = Lease.from_json(self.bench.lake.quarantine.read(KEY) or b"")
        assert lease is not None
        return lease


@pytest.fixture
def function(tmp_path: Path) -> Function:
    """Twelve files with their silver and lineage, of which bronze holds other bytes now."""
    bench = Bench(tmp_path, shop().transforms[0])
    for name in NAMES:
        bench.land(name)
        bench.silvered(name)
    bench.follow()
    for name in NAMES:
        bench.land(name, b"other bytes")
    return Function(bench)


def test_each_branch_has_its_share_and_the_last_one_sums_up(function: Function) -> None:
    assert function.invoke() == {"done": False}
    assert [event["branch"] for event in function.again] == [0, 1, 2]
    assert function.phase == "split"
    for event in [*function.again[:2]]:
        assert function.invoke(event) == {"done": False}
    assert function.phase == "split"
    assert function.invoke(function.again[2]) == {"done": True}
    assert function.phase == "done"
    assert sorted(function.orders.keys) == NAMES
    shares = [line["checked"] for line in function.log if "branch" in line]
    assert len(shares) == 3
    assert sum(shares) == 12
    assert function.log[-1] == {
        "transform": "orders", "after": "", "checked": 12, "sent": 12, "orphaned": 0, "proven": 12, "missing": 0,
    }  # fmt: skip
    assert function.measured == [("Unfinished", 0), ("Missing", 0)]
    mark = function.lease().memory["orders"]
    assert mark["proven"]


def test_a_branch_goes_on_in_further_invocations(function: Function) -> None:
    function.cuts = [f"in/{number:02}.csv" for number in range(1, 11)]
    function.invoke()
    steps = 0
    while function.again:
        function.invoke(function.again.pop(0), looks=0)
        steps += 1
    assert steps == 11, "one for each range"
    assert function.phase == "done"
    assert sorted(function.orders.keys) == NAMES
    assert function.log[-1]["checked"] == 12


@pytest.mark.full
def test_a_small_lineage_is_not_split(function: Function, tmp_path: Path) -> None:
    small = Bench(tmp_path / "small", shop().transforms[0])
    small.land("in/a.csv")
    function.bench = small
    assert function.invoke() == {"done": True}
    assert function.again == []


@pytest.mark.full
def test_so_many_branches_and_no_more(function: Function) -> None:
    function.cuts = [f"in/{number:02}.csv" for number in range(11)]
    wide = Reconciler(
        shop(), bucket="b", lake=function.bench.lake, lease=KEY, queue=lambda _: function.orders, again=function._again,
        now=lambda: function.now, rows=lambda: Cut(function.bench.rows(), function.cuts), listers=1, branch_rows=1,
    )  # fmt: skip
    wide({"queues": {"orders": "orders"}, "round": "first"}, Timer(1))
    assert len(function.again) == BRANCHES


def test_invocations_that_come_twice_do_nothing(function: Function) -> None:
    function.invoke()
    events = [*function.again]
    function.again.clear()
    for event in events:
        function.invoke(event)
        assert "refused" in function.invoke(event)
    assert "refused" in function.invoke()
    assert sorted(function.orders.keys) == NAMES
    assert function.again == []
    assert [name for name, _ in function.measured] == ["Unfinished", "Missing"]


def test_a_branch_that_lambda_refused_is_begun_by_the_next_try(function: Function) -> None:
    function.refuses = 2
    for _ in range(2):
        with pytest.raises(Refused):
            function.invoke()
    assert "refused" in function.invoke()
    assert [event["branch"] for event in function.again] == [0, 1, 2]
    function.drain()
    assert function.phase == "done"
    assert sorted(function.orders.keys) == NAMES


@pytest.mark.full
def test_a_branch_that_failed_may_be_tried_again(function: Function) -> None:
    function.invoke()
    orders, function.orders = function.orders, Full()
    first, *others = function.again
    with pytest.raises(NotSent):
        function.invoke(first)
    function.orders = orders
    for event in (*others, first):
        function.invoke(event)
    assert function.phase == "done"
    assert sorted(orders.keys) == NAMES


def test_a_sum_that_failed_is_made_by_the_branch_when_it_is_tried_again(function: Function) -> None:
    function.invoke()
    *others, last = function.again
    for event in others:
        function.invoke(event)
    log = function.log
    function.log = Unwritable()
    with pytest.raises(OSError, match="no room"):
        function.invoke(last)
    function.log = log
    assert "refused" in function.invoke(last)
    assert function.phase == "done"
    assert [value for name, value in function.measured if name == "Missing"] == [0]


class Unwritable(list[dict[str, Any]]):
    """A log that does not take the sum."""

    def append(self, line: dict[str, Any]) -> None:
        if "missing" in line:
            raise OSError("no room")


def test_a_round_whose_branch_was_lost_is_done_by_the_next_one_which_says_so(function: Function) -> None:
    function.invoke()
    lost = function.again.pop(1)
    function.drain()
    assert function.phase == "split"
    assert "refused" in function.invoke({"queues": {"orders": "orders"}, "round": "second", "step": 0})
    function.now += LEASE + timedelta(seconds=1)
    function.orders.bodies.clear()
    function.invoke({"queues": {"orders": "orders"}, "round": "third", "step": 0})
    assert "refused" in function.invoke(lost), "it comes late"
    function.drain()
    assert function.phase == "done"
    assert function.lease().round == "third"
    assert sorted(function.orders.keys) == NAMES
    assert [value for name, value in function.measured if name == "Unfinished"] == [0, 1]


@pytest.mark.full
def test_branches_do_not_let_the_lease_of_their_round_expire(function: Function) -> None:
    function.cuts = [f"in/{number:02}.csv" for number in range(1, 11)]
    function.invoke()
    began = function.now
    while function.again:
        function.now += timedelta(minutes=5)
        function.invoke(function.again.pop(0), looks=0)
        if function.phase != "done":
            assert "refused" in function.invoke({"queues": {"orders": "orders"}, "round": "other", "step": 0})
    assert function.phase == "done"
    assert function.now - began > LEASE


@pytest.mark.full
@pytest.mark.parametrize("body", [None, b"", b"no JSON"])
def test_a_branch_whose_lease_is_gone_does_nothing(function: Function, body: bytes | None) -> None:
    function.invoke()
    key = branch_key(KEY, 1)
    if body is None:
        function.bench.lake.quarantine.delete(key)
    else:
        function.bench.lake.quarantine.put(key, body)
    assert function.invoke(function.again[1]) == {"refused": "there is no lease"}
    assert function.orders.keys == []
    assert "refused" in function.invoke({**function.again[1], "branch": 7})


@pytest.mark.full
def test_a_wish_is_done_after_a_round_that_was_split(function: Function) -> None:
    function.invoke()
    wish = {"queues": {"orders": "orders"}, "round": "wish", "follow": True, "step": 0}
    assert "follows" in function.invoke(wish)["refused"]
    function.drain()
    assert function.lease().round == "wish"
    assert function.phase == "done"


@pytest.mark.full
def test_a_busy_transform_is_left_out_of_every_branch(function: Function) -> None:
    function.orders.backlog = BUSY + 1
    assert function.invoke() == {"done": False}
    function.drain()
    assert function.orders.keys == []
    assert function.phase == "done"
    assert "orders" not in function.lease().memory
