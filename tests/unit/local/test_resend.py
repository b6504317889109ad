"""The engine's own reconciliation: a few keys a step, and no file of bronze is read for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import orjson
import polars as pl
import pytest

from silversmith import Contract, Pipeline
from silversmith.lineage import error_key, silver_key
from silversmith.local import resend
from silversmith.local.resend import Rounds
from silversmith.local.services.bucket import DOUBTFUL, Landed
from silversmith.stores import Head, Lake
from silversmith.stores.local import LocalStore

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

    Make = Callable[[Pipeline], Bench]


def shop(bug: str = "") -> Pipeline:
    pipeline = Pipeline("shop")

    @pipeline.transform("orders/*.csv", contract=Contract(schema={"x": pl.Int64}))
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    @pipeline.transform("buggy/*.csv")
    def buggy(rows: pl.LazyFrame) -> pl.LazyFrame:
        raise RuntimeError(bug)

    return pipeline


class Unread(LocalStore):
    """A folder that may be listed and glanced at; whoever reads a file is caught."""

    def head(self, key: str) -> Head | None:
        assert self.glance(key) is None, f"{key} was read"
        return None


class Counted(LocalStore):
    """A folder that counts how many objects were headed."""

    headed = 0

    def head(self, key: str) -> Head | None:
        self.headed += 1
        return super().head(key)


def store(kind: type[LocalStore], bench: Bench, name: str, *, foreign: bool) -> LocalStore:
    folder = bench.folder
    return kind(folder.bucket(name), scratch=folder.scratch, locks=folder.locks, foreign_writers=foreign)


def rounds(
    bench: Bench,
    *,
    most: int = 50,
    silver: LocalStore | None = None,
    since: float = float("inf"),
    changed: bool = False,
) -> Rounds:
    bronze = store(Unread, bench, "dl-bronze-layer", foreign=True)
    lake = Lake(bronze, silver or bench.lake.silver, bench.lake.quarantine)
    places = resend.routes(bench.stack)
    return Rounds(
        bench.pipeline, lake, bronze, bench.journal, places, since=since, every=3600, most=most, changed=changed
    )


def whole(rounds: Rounds, now: float) -> int:
    """Take steps until a round has ended. How many were sent."""
    before, sent = rounds.finished, 0
    while rounds.finished == before:
        sent += rounds.step(now)
    return sent


KEYS = [f"orders/{number:02}.csv" for number in range(20)]


def test_a_round_repairs_what_events_missed(make: Make) -> None:
    bench = make(shop())
    bench.land(*KEYS)
    assert bench.lose("id % 2 = 0") == 10
    bench.work()
    result = rounds(bench, most=3)
    assert whole(result, bench.now) == 10
    bench.work()
    assert all(bench.silver("orders", key) is not None for key in KEYS)
    assert whole(rounds(bench), bench.now) == 0


def test_a_step_looks_at_a_few_keys(make: Make) -> None:
    bench = make(shop())
    bench.land(*KEYS)
    bench.work()
    silver = store(Counted, bench, "dl-silver-layer", foreign=False)
    assert isinstance(silver, Counted)
    result = rounds(bench, most=3, silver=silver)
    headed = []
    while not result.finished:
        result.step(bench.now)
        headed.append(silver.headed)
        assert result.busy != bool(result.finished)
    steps = [after - before for before, after in zip([0, *headed], headed, strict=False)]
    assert (max(steps), sum(steps)) == (3, 20)


def test_the_first_round_believes_what_was_done_since_the_engine_began_and_no_other_does(make: Make) -> None:
    bench = make(shop("a bug"))
    bench.land(*KEYS[:5])
    bench.work()
    bench.now += 10
    bench.land(*KEYS[5:], "buggy/a.csv")
    bench.land("orders/broken.csv", text="y\n1\n")
    bench.work()
    silver = store(Counted, bench, "dl-silver-layer", foreign=False)
    assert isinstance(silver, Counted)
    result = rounds(bench, silver=silver, since=bench.now - 1)
    assert whole(result, bench.now) == 0
    assert silver.headed == 5, "those that were done before"
    assert whole(result, bench.now + 3600) == 0
    assert silver.headed == 5 + 20


def test_outcomes_of_an_older_version_are_not_trusted(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    bench.land("orders/a.csv", text="x\n2\n")
    bench.lose()
    assert whole(rounds(bench, since=bench.now - 1), bench.now) == 1


def test_outcomes_from_a_clock_ahead_are_not_trusted(make: Make) -> None:
    """``since`` is not before the journal's last word."""
    bench = make(shop())
    bench.now += 5000
    bench.land("orders/a.csv")
    bench.work()
    (bench.folder.bucket("dl-silver-layer") / "orders/orders/a.csv.parquet").unlink()
    newest, *_ = bench.journal.rows("newest_time")[0]
    assert whole(rounds(bench, since=newest), bench.now) == 1


def test_the_next_round_begins_when_it_is_due(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.lose()
    result = rounds(bench)
    assert whole(result, bench.now) == 1
    assert [result.step(bench.now + later) for later in (0, 1, 3599.9)] == [0, 0, 0]
    assert (result.finished, result.busy) == (1, False)
    bench.work()
    bench.land("orders/b.csv")
    bench.lose()
    assert whole(result, bench.now + 3600) == 1
    assert result.finished == 2


@pytest.mark.parametrize("state", ["never noticed", "changed since"])
def test_a_file_that_the_bucket_room_does_not_know_as_it_is_is_left_alone(make: Make, state: str) -> None:
    bench = make(shop())
    path = bench.folder.bucket("dl-bronze-layer") / "orders/a.csv"
    if state == "changed since":
        bench.land("orders/a.csv")
        bench.lose()
    path.parent.mkdir(exist_ok=True)
    path.write_text("x\n1\n2\n3\n")
    assert whole(rounds(bench), bench.now) == 0
    bench.notice("orders/a.csv")
    bench.lose()
    assert whole(rounds(bench), bench.now) == 1


def test_a_doubtful_identity_is_good_enough(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.lose()
    bronze = store(LocalStore, bench, "dl-bronze-layer", foreign=True)
    glance = bronze.glance("orders/a.csv")
    assert glance is not None
    bench.services.bucket.notice([Landed("orders/a.csv", glance.identity + DOUBTFUL, "etag", glance.size)])
    bench.lose()
    assert whole(rounds(bench), bench.now) == 1


def test_failed_files_are_not_tried_again_by_themselves(make: Make) -> None:
    bench = make(shop("a bug"))
    bench.land("orders/broken.csv", text="y\n1\n")
    bench.land("buggy/a.csv")
    bench.work()
    assert bench.depths() == {"shop_buggy_DLQ": 1}
    assert whole(rounds(bench), bench.now) == 0
    assert bench.depths() == {"shop_buggy_DLQ": 1}


def other_code() -> Pipeline:
    pipeline = Pipeline("shop")

    @pipeline.transform("orders/*.csv", contract=Contract(schema={"x": pl.Int64}))
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.with_columns(y=1)

    return pipeline


def test_silver_of_older_code_is_counted_and_made_again_only_where_that_is_asked_for(make: Make) -> None:
    bench = make(shop())
    bench.land(*KEYS[:6])
    bench.work()
    bench.use(other_code())
    result = rounds(bench)
    assert (whole(result, bench.now), result.outdated) == (0, 6)
    bench.lake.silver.delete(silver_key("orders", KEYS[0]))
    assert (whole(result, bench.now + 3600), result.outdated) == (1, 5), "each round counts for itself"
    asked = rounds(bench, changed=True)
    assert (whole(asked, bench.now), asked.outdated) == (5, 0), "the one that was sent has a message"


def test_silver_that_the_new_code_cannot_replace_is_not_called_outdated(make: Make) -> None:
    bench = make(shop())
    bench.land(KEYS[0])
    bench.work()
    code = other_code().find("orders").fingerprint
    silver = bench.lake.silver.head(silver_key("orders", KEYS[0]))
    assert silver is not None
    etag = silver.metadata["bronze-etag"]
    document = {"transform": "orders", "bronze": {"key": KEYS[0], "etag": etag, "version": ""}, "fingerprint": code}
    bench.lake.quarantine.put(error_key("orders", KEYS[0]), orjson.dumps(document))
    bench.use(other_code())
    result = rounds(bench)
    assert (whole(result, bench.now), result.outdated) == (0, 0)


def test_silver_without_bronze_is_left(make: Make) -> None:
    bench = make(shop())
    bench.land("orders/a.csv")
    bench.work()
    (bench.folder.bucket("dl-bronze-layer") / "orders/a.csv").unlink()
    assert whole(rounds(bench), bench.now) == 0
    assert bench.silver("orders", "orders/a.csv") is not None
