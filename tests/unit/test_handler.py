"""A batch of messages: what is done, in which order, what is reported, and what goes back to the queue when."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson
import polars as pl
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.errors import AccessDenied, DataError, DefinitionError
from silversmith.events import ObjectEvent, object_created
from silversmith.function.batch import MOST_UNDER_WAY
from silversmith.function.handler import IO_THREADS, Handler, build
from silversmith.function.outcome import Report
from silversmith.lineage import error_key, silver_key
from silversmith.pipeline import Transform
from silversmith.runtime.queue import DELETED_AT_ONCE, ERROR_CODE, MESSAGE_ID, SystemUnavailable
from silversmith.stores import IN_MEMORY, Lake
from tests.unit.shop import Shop

GOOD = b"x\n1\n2\n"


class Killed(BaseException):
    """The end of the function, and nobody in it is asked."""


@dataclass
class Bench:
    """A handler over a lake, a context whose time passes as the transform says, and the handler's reports.

    ``deeds``: what happens to the file whose first ``x`` is this number.
    """

    shop: Shop
    total: float = 300_000
    left: float = 300_000
    deeds: dict[int, Callable[[], object]] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    began: list[str] = field(default_factory=list)
    released: list[tuple[str, float]] = field(default_factory=list)
    acknowledged: list[list[str]] = field(default_factory=list)
    buried: list[tuple[str, str]] = field(default_factory=list)
    raised: SystemUnavailable | None = None
    queue_works: bool = True
    io_threads: int = 0
    group_size: int = 1
    counts_receives: bool = False
    transform: Transform = field(init=False)

    def __post_init__(self) -> None:
        self.transform = self._transform()

    def get_remaining_time_in_millis(self) -> int:
        return int(self.left)

    def spend(self, milliseconds: float) -> None:
        self.left -= milliseconds

    def die(self) -> None:
        """A transform cannot end the function without going too far; so it ends at its next request."""
        killed: Any = Killed()
        self.shop.silver.failures = [("put", killed)]

    def _transform(self) -> Transform:
        pipeline, deeds = Pipeline("shop"), self.deeds

        @pipeline.transform("orders/*.csv", name="orders")
        def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
            deeds.get(rows.collect()["x"][0], lambda: None)()
            return rows

        return pipeline.find("orders")

    def _release(self, receipt: str, seconds: float) -> None:
        self.released.append((receipt, seconds))
        if not self.queue_works:
            raise OSError("the queue is away")

    def _bury(self, record: Mapping[str, Any], error: Mapping[str, Any]) -> None:
        if not self.queue_works:
            raise OSError("the queue is away")
        self.buried.append((record["messageId"], error["code"]))

    def _acknowledge(self, receipts: list[str]) -> None:
        self.acknowledged.append(receipts)
        if not self.queue_works:
            raise OSError("the queue is away")

    def handle(self, *records: dict[str, Any]) -> list[str]:
        """The ids of the messages that are reported as failed."""
        handler = Handler(
            self.transform,
            bucket="bronze",
            lake=Lake(self.shop.bronze, self.shop.silver, self.shop.quarantine),
            scratch=self.shop.folder / "scratch",
            began=self.began.append,
            ended=self.reports.append,
            release=self._release,
            move_to_dlq=self._bury,
            acknowledge=self._acknowledge,
            now=lambda: self.shop.now,
            io_threads=self.io_threads,
            group_size=self.group_size,
            counts_receives=self.counts_receives,
        )
        self.raised = None
        try:
            response = handler({"Records": list(records)}, self)
        except SystemUnavailable as error:
            self.raised, response = error, error.response
        assert list(response) == ["batchItemFailures"]
        return [item["itemIdentifier"] for item in response["batchItemFailures"]]

    def land(self, number: int) -> str:
        key = f"orders/{number}.csv"
        self.shop.bronze.put(key, f"x\n{number}\n".encode())
        return key

    def messages(self, *numbers: int, receives: int = 1) -> list[dict[str, Any]]:
        """One message for each file that holds this number."""
        return [record(str(number), event_body(self.land(number)), receives) for number in numbers]

    def silver(self) -> list[str]:
        return [head.key for head in self.shop.silver.list("orders/")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Shop(tmp_path))


def event_body(key: str, bucket: str = "bronze") -> str:
    return object_created(ObjectEvent(bucket, key), reason="PutObject").decode()


def small(key: str) -> str:
    """As AWS tells of it, with its size: such a message may be under way beside others."""
    return object_created(ObjectEvent("bronze", key, size=10), reason="PutObject").decode()


def record(message: str, body: str, receives: int = 1) -> dict[str, Any]:
    """A record as Lambda passes it on. https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html"""
    return {
        "messageId": message,
        "receiptHandle": f"receipt of {message}",
        "body": body,
        "attributes": {"ApproximateReceiveCount": str(receives)},
    }


def fail(error: BaseException) -> Callable[[], None]:
    def deed() -> None:
        raise error

    return deed


def test_all_goes_well(bench: Bench) -> None:
    assert bench.handle(*bench.messages(1, 2, 3)) == []
    assert bench.silver() == [silver_key("orders", f"orders/{number}.csv") for number in (1, 2, 3)]
    assert bench.began == [report.message_id for report in bench.reports] == ["1", "2", "3"]
    assert [report.to_dict()["verdict"] for report in bench.reports] == ["committed"] * 3
    assert (bench.released, bench.acknowledged) == ([], [])


def test_an_empty_batch(bench: Bench) -> None:
    assert bench.handle() == []


def test_one_failure_is_reported_and_its_neighbours_are_done(bench: Bench) -> None:
    bench.deeds[2] = fail(KeyError("no such thing"))
    assert bench.handle(*bench.messages(1, 2, 3)) == ["2"]
    assert len(bench.silver()) == 2
    assert bench.released == [("receipt of 2", 1.0)]
    actual = bench.reports[1].to_dict()
    assert (actual["verdict"], actual["failed"], actual["key"], actual["retry_in"]) == (
        "failed",
        True,
        "orders/2.csv",
        1.0,
    )
    assert actual["error"]["code"] == "TransformError"
    assert "KeyError: 'no such thing'" in actual["error"]["message"]
    assert "test_handler.py" in actual["error"]["message"]
    assert json.loads(json.dumps(actual)) == actual


@pytest.mark.parametrize("error", [ValueError("half \ud800 a pair"), DataError("\ud800", "half \ud800 a pair")])
def test_an_error_that_no_utf_8_can_hold_is_recorded_all_the_same(bench: Bench, error: Exception) -> None:
    bench.deeds[2] = fail(error)
    bench.handle(*bench.messages(1, 2))
    document = orjson.loads(orjson.dumps(bench.reports[1].to_dict()))
    assert "half \\ud800 a pair" in document["error"]["message"]


def test_a_panic_of_polars_is_one_messages_failure(bench: Bench) -> None:
    panic: Any = pl.exceptions.PanicException
    bench.shop.silver.failures = [("head", panic("index out of bounds"))]
    assert bench.handle(*bench.messages(1, 2)) == ["1"]
    assert bench.reports[0].error == {"code": "PanicException", "message": "PanicException: index out of bounds"}


def test_the_systems_fault_has_its_own_words(bench: Bench) -> None:
    bench.shop.silver.failures = [("put", AccessDenied("no policy allows it")), ("put", OSError(28, "No space left"))]
    assert bench.handle(*bench.messages(1, 2, 3)) == ["1", "2"]
    assert [report.error for report in bench.reports] == [
        {"code": "AccessDenied", "message": "no policy allows it"},
        {"code": "ENOSPC", "message": "OSError: [Errno 28] No space left"},
        None,
    ]


@pytest.mark.parametrize("receives", [(1, 2, 3, 4, 5), (1, 3, 4, 9, 30)])  # however often the system failed in between
def test_messages_that_the_code_fails_come_back_later_each_time_and_die_at_last(
    bench: Bench, receives: Sequence[int]
) -> None:
    bench.deeds[1] = fail(ValueError("no"))
    for number in receives[:-1]:
        assert bench.handle(*bench.messages(1, receives=number)) == ["1"]
        assert bench.raised is None, "it is the code's fault"
    assert bench.released == [("receipt of 1", seconds) for seconds in (1.0, 4.0, 16.0, 64.0)]
    assert bench.buried == []
    assert bench.handle(*bench.messages(1, receives=receives[-1])) == []
    assert bench.buried == [("1", "TransformError")]
    assert bench.reports[-1].dead


def test_data_at_fault_is_no_failure(bench: Bench) -> None:
    bench.deeds[1] = fail(DataError("TooOld", "this file is too old"))
    assert bench.handle(*bench.messages(1, 2)) == []
    actual = bench.reports[0].to_dict()
    assert (actual["verdict"], actual["error"]["code"]) == ("quarantined", "TooOld")
    assert bench.shop.quarantine.head(error_key("orders", "orders/1.csv")) is not None


@pytest.mark.parametrize("body", ["", "no JSON", "[]", "{}", '{"detail": {}}', "\ud800", '{"Message": "{}"}'])
def test_invalid_events_are_dead_at_once(bench: Bench, body: str) -> None:
    assert bench.handle(record("odd", body), *bench.messages(1)) == []
    assert (bench.released, bench.buried) == ([], [("odd", "NotAnEvent")])
    assert bench.reports[0].error is not None
    assert bench.reports[0].error["code"] == "NotAnEvent"
    assert len(bench.silver()) == 1


@pytest.mark.parametrize(
    "body",
    [
        event_body("elsewhere/1.csv"),
        event_body("orders/1.json"),
        event_body("orders/1.csv", bucket="another"),
        '{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "bronze"}',
        '{"Records": []}',
    ],
)
def test_events_of_no_transform_are_dropped(bench: Bench, body: str) -> None:
    assert bench.handle(record("unwanted", body)) == []
    assert bench.reports[0].to_dict()["verdict"] == "dropped"
    assert bench.silver() == []


def notification(*keys: str) -> str:
    """One S3 notification may tell of several objects."""
    entries = [{"s3": {"bucket": {"name": "bronze"}, "object": {"key": key}}} for key in keys]
    return json.dumps({"Records": entries})


def test_several_objects_in_one_message(bench: Bench) -> None:
    keys = [bench.land(number) for number in (1, 2, 3)]
    assert bench.handle(record("m", notification(*keys, "unwanted.csv"))) == []
    assert len(bench.silver()) == 3
    actual = bench.reports[0].to_dict()
    assert (actual["verdict"], actual["rows_read"], actual["rows_written"]) == ("committed", 3, 3)


@pytest.mark.parametrize("order", [(1, 2, 9), (9, 1, 2), (1, 9, 2)])
def test_the_worst_of_several_outcomes_is_reported(bench: Bench, order: tuple[int, ...]) -> None:
    bench.deeds[1] = fail(DataError("TooOld", "this file is too old"))
    bench.land(1), bench.land(2)  # and 9 is gone
    bench.handle(record("m", notification(*(f"orders/{number}.csv" for number in order))))
    actual = bench.reports[0].to_dict()
    assert (actual["verdict"], actual["key"], actual["rows_written"]) == ("quarantined", "orders/1.csv", 1)


def test_one_of_several_objects_fails_the_message_and_names_itself(bench: Bench) -> None:
    bench.deeds[2] = fail(ValueError("no"))
    body = notification(*(bench.land(number) for number in (1, 2, 3)))
    assert bench.handle(record("m", body)) == ["m"]
    assert bench.reports[0].key == "orders/2.csv"
    bench.deeds.clear()
    assert bench.handle(record("m", body, 2)) == []
    assert [outcome.verdict for outcome in bench.reports[1].outcomes] == ["duplicate", "committed", "committed"]


def test_time_that_runs_out_hands_the_rest_back_untouched(bench: Bench) -> None:
    for number in range(10):
        bench.deeds[number] = lambda: bench.spend(60_000)
    failed = bench.handle(*bench.messages(*range(10)))
    assert len(bench.began) == 4, "the fifth would end at the very end"
    assert sorted(failed + bench.began) == [str(number) for number in range(10)]
    assert bench.released == [(f"receipt of {message}", 0.0) for message in failed]
    assert len(bench.reports) == 4, "what was not begun is not reported to have ended"


@pytest.mark.parametrize(("last", "failed"), [(90_000, []), (90_001, ["2"])])
def test_a_tenth_of_the_time_is_kept_free(bench: Bench, last: int, failed: list[str]) -> None:
    """After the first the order turns; then there is time for one more as long as the longest, or just not."""
    bench.deeds.update({1: lambda: bench.spend(90_000), 3: lambda: bench.spend(last)})
    assert bench.handle(*bench.messages(1, 2, 3)) == failed


def test_the_first_message_is_always_tried(bench: Bench) -> None:
    bench.left = 10
    bench.deeds[1] = lambda: bench.spend(9)
    assert bench.handle(*bench.messages(1, 2)) == ["2"]
    assert len(bench.silver()) == 1


def test_messages_received_before_come_last(bench: Bench) -> None:
    bench.handle(*bench.messages(1, receives=3), *bench.messages(2), *bench.messages(3, receives=2), *bench.messages(4))
    assert bench.began == ["2", "4", "3", "1"]


def test_finished_messages_are_acknowledged_before_a_suspect_begins(bench: Bench) -> None:
    bench.deeds.update({3: fail(ValueError("no")), 5: bench.die})
    records = [*bench.messages(4, receives=2), *bench.messages(5, receives=3), *bench.messages(1, 2, 3)]
    with pytest.raises(Killed):
        bench.handle(*records)
    assert bench.began == ["1", "2", "3", "4", "5"]
    assert bench.acknowledged == [["receipt of 1", "receipt of 2"], ["receipt of 4"]], "all that succeeded, once"
    assert bench.released == [("receipt of 3", 1.0)]


def test_acknowledged_messages_are_no_failures(bench: Bench) -> None:
    bench.deeds[2] = fail(ValueError("no"))
    assert bench.handle(*bench.messages(1), *bench.messages(2, 3, receives=2)) == ["2"]
    assert bench.acknowledged[0] == ["receipt of 1"]


def test_a_queue_that_does_not_answer_fails_no_batch(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.queue_works = False
    bench.deeds[1] = fail(ValueError("no"))
    assert bench.handle(*bench.messages(1, 2), *bench.messages(3, receives=2)) == ["1"]
    assert len(bench.silver()) == 2
    assert [entry.levelname for entry in caplog.records] == ["WARNING"] * 2


@pytest.fixture(params=["threads", "group"])
def sided(request: pytest.FixtureRequest, bench: Bench) -> Bench:
    """A handler with several messages under way: as it is over S3, and as it is over folders."""
    if request.param == "threads":
        bench.io_threads = 4
    else:
        bench.group_size = 3
    return bench


def beside(bench: Bench, *numbers: int) -> list[dict[str, Any]]:
    return [record(str(number), small(bench.land(number))) for number in numbers]


def test_messages_side_by_side_are_each_reported(sided: Bench) -> None:
    """One fails, one is at fault, one is gone; each message ends once, and what follows does not suffer."""
    records = beside(sided, *range(20))
    sided.deeds.update({3: fail(KeyError("no")), 5: fail(DataError("TooOld", "this file is too old"))})
    sided.shop.bronze.delete("orders/7.csv")
    assert sided.handle(*records, *beside(sided, 20)) == ["3"]
    assert sorted(int(report.message_id) for report in sided.reports) == list(range(21))
    actual = {report.message_id: report.to_dict()["verdict"] for report in sided.reports}
    assert {actual.pop("3"), actual.pop("5"), actual.pop("7")} == {"failed", "quarantined", "gone"}
    assert set(actual.values()) == {"committed"}
    assert len(sided.silver()) == 18
    assert sided.released == [("receipt of 3", 1.0)]


def test_transforms_run_one_at_a_time_and_in_the_thread_of_the_batch(sided: Bench) -> None:
    records = beside(sided, *range(12))
    at_work, threads = threading.Lock(), set[int]()

    def deed() -> None:
        assert at_work.acquire(blocking=False)
        threads.add(threading.get_ident())
        at_work.release()

    sided.deeds.update(dict.fromkeys(range(12), deed))
    assert sided.handle(*records) == []
    assert threads == {threading.get_ident()}


def test_side_by_side_what_has_no_time_goes_back_untouched(sided: Bench) -> None:
    records = beside(sided, *range(10))
    sided.deeds.update({number: lambda: sided.spend(60_000) for number in range(10)})
    failed = sided.handle(*records)
    assert 1 <= len(sided.began) <= 4, "the fifth would end at the very end"
    assert sorted(failed + sided.began) == [str(number) for number in range(10)]
    assert sided.left >= 0.1 * sided.total
    assert sorted(report.message_id for report in sided.reports) == sorted(sided.began)
    assert sorted(sided.released) == sorted((f"receipt of {message}", 0.0) for message in failed)


class Watched:
    """A store that counts how many objects are open at once, and what is headed."""

    def __init__(self, store: Any) -> None:
        self.most_open = 0
        self.headed: list[str] = []
        self._store = store
        self._open = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def head(self, key: str) -> Any:
        self.headed.append(key)
        return self._store.head(key)

    @contextmanager
    def open(self, key: str) -> Iterator[Any]:
        with self._lock:
            self._open += 1
            self.most_open = max(self.most_open, self._open)
        try:
            with self._store.open(key) as source:
                yield source
        finally:
            with self._lock:
                self._open -= 1


def test_so_many_bytes_are_under_way_at_once(bench: Bench) -> None:
    bench.io_threads = IO_THREADS
    bench.shop.bronze = watched = cast("Any", Watched(bench.shop.bronze))
    large = [
        object_created(ObjectEvent("bronze", bench.land(n), size=IN_MEMORY), reason="x").decode() for n in range(9)
    ]
    assert bench.handle(*(record(str(number), body) for number, body in enumerate(large))) == []
    assert 1 <= watched.most_open <= MOST_UNDER_WAY // IN_MEMORY < IO_THREADS


@pytest.mark.parametrize(
    ("counts", "receives", "headed"),
    [
        (True, 1, {"error.json"}),
        (True, 2, {"error.json", "failed.json", "rejected.parquet"}),
        (False, 1, {"error.json", "rejected.parquet"}),
    ],
)
def test_rejected_rows_are_looked_for_where_a_worker_may_have_left_them(
    bench: Bench, counts: bool, receives: int, headed: set[str]
) -> None:
    """A message that comes back was received before, if the queue counts that; then there may be failed tries, too."""
    bench.counts_receives = counts
    bench.shop.quarantine = watched = cast("Any", Watched(bench.shop.quarantine))
    assert bench.handle(record("1", small(bench.land(1)), receives)) == []
    endings = {key.removeprefix(silver_key("orders", "orders/1.csv").removesuffix("parquet")) for key in watched.headed}
    assert endings == headed


def test_suspects_and_large_files_are_alone(sided: Bench) -> None:
    """A suspect begins when all others are done and acknowledged."""
    records = beside(sided, *range(6))
    suspects = [record("s", small(sided.land(50)), 2), record("t", small(sided.land(51)), 3)]
    large = record(
        "l", object_created(ObjectEvent("bronze", sided.land(60), size=1 << 30), reason="PutObject").decode()
    )
    assert sided.handle(*suspects, large, *records) == []
    assert sided.began[-2:] == ["s", "t"]
    assert sided.acknowledged == [[f"receipt of {m}" for m in _ids(sided)[:7]], ["receipt of s"]]


def _ids(bench: Bench) -> list[str]:
    return [report.message_id for report in bench.reports]


def test_copies_of_one_message_do_not_compete(sided: Bench) -> None:
    (first,) = beside(sided, 1)
    copies = [{**first, "messageId": f"copy {number}"} for number in range(5)]
    assert sided.handle(*copies) == []
    assert sided.began[:1] == ["copy 0"]
    assert [report.to_dict()["verdict"] for report in sided.reports] == ["committed"] + ["duplicate"] * 4


def test_a_function_that_ends_in_the_middle_ends(sided: Bench) -> None:
    records = beside(sided, *range(8))
    killed: Any = Killed()
    sided.shop.silver.failures = [("put", killed)]
    with pytest.raises(Killed):
        sided.handle(*records)
    assert len(sided.reports) < 8


def test_together_each_message_ends_by_its_own_put(bench: Bench) -> None:
    """Another worker was faster with one of them, the disk is full for another: the rest go on."""
    bench.group_size = 5
    records = beside(bench, *range(5))
    overwrite, key = bench.shop.silver.put, silver_key("orders", "orders/1.csv")
    bench.deeds[2] = lambda: overwrite(key, b"somebody else's")
    bench.shop.silver.refused[silver_key("orders", "orders/3.csv")] = OSError(errno.ENOSPC, "no space")
    assert bench.handle(*records) == ["3"]
    actual = {report.message_id: report.to_dict() for report in bench.reports}
    assert {name: report["verdict"] for name, report in actual.items()} == {
        **dict.fromkeys("0124", "committed"), "3": "failed"
    }  # fmt: skip
    assert actual["3"]["error"]["code"] == "ENOSPC"
    assert bench.shop.silver.read(key) != b"somebody else's", "it was of no bytes of bronze, so it was made anew"
    assert bench.shop.silver.groups == [5, 1], "all together, then the one that was made anew"


def test_together_or_alone_silver_is_the_same(tmp_path: Path) -> None:
    actual = []
    for together in (1, 4):
        bench = Bench(Shop(tmp_path / str(together)), group_size=together)
        assert bench.handle(*beside(bench, *range(6))) == []
        actual.append({key: bench.shop.silver.read(key) for key in bench.silver()})
        stages = [outcome.stages for report in bench.reports for outcome in report.outcomes]
        assert all(seconds["write"] > 0 for seconds in stages)
    assert len(actual[0]) == 6
    assert actual[0] == actual[1]


def test_together_no_more_wait_than_shall(bench: Bench) -> None:
    bench.group_size = 3
    seen: list[int] = []
    bench.deeds.update(dict.fromkeys(range(8), lambda: seen.append(len(bench.reports))))
    assert bench.handle(*beside(bench, *range(8))) == []
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6]
    assert _ids(bench) == [str(number) for number in range(8)]


def order(records: Sequence[dict[str, Any]], each: float = 0, total: float = 300_000) -> list[str]:
    """In which order a handler begins these messages, of which each takes so long. They are about nothing."""
    began: list[str] = []

    class Clock:
        def get_remaining_time_in_millis(self) -> int:
            return int(total - each * len(began))

    pipeline, nothing = Pipeline("p"), cast("Any", None)
    pipeline.transform("*", name="t")(lambda rows: rows)
    handler = Handler(
        pipeline.find("t"), bucket="b", lake=Lake(nothing, nothing, nothing), scratch=Path(), began=began.append
    )
    handler({"Records": records}, Clock())
    return began


@given(st.lists(st.uuids().map(str), min_size=10, max_size=10, unique=True), st.integers(0, 9))
def test_neighbours_of_a_poisonous_message_get_past_it(names: list[str], which: int) -> None:
    """Ten messages come together, again and again, and one kills the function: it is not always the first."""
    before = set()
    for receives in range(2, 6):
        begun = order([record(name, event_body("x"), receives) for name in names])
        assert sorted(begun) == sorted(names)
        before |= set(begun[: begun.index(names[which])])
    event(f"{len(before)} of 9 get past it")
    assert before, "these are acknowledged before it begins"


def test_a_backlog_of_slow_files_is_worked_off_before_the_queue_gives_up() -> None:
    """In each batch of ten there is time for four, or the first five: nearly all are tried within five receives."""
    chance = random.Random(7)
    receives = dict.fromkeys(map(str, range(500)), 0)
    late = 0
    while receives:
        batch = chance.sample(sorted(receives), min(10, len(receives)))
        for name in batch:
            receives[name] += 1
        for name in order([record(name, event_body("x"), receives[name]) for name in batch], each=54_000):
            late += receives.pop(name) > 5
    assert late < 15


@dataclass
class Sqs:
    """SQS, as far as a handler calls it."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def change_message_visibility(self, **arguments: object) -> None:
        self.calls.append(("change_message_visibility", arguments))

    def send_message(self, **arguments: object) -> None:
        self.calls.append(("send_message", arguments))

    def delete_message_batch(self, **arguments: object) -> dict[str, Any]:
        self.calls.append(("delete_message_batch", arguments))
        return {"Failed": [{"Id": "0"}]}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "shop.py").write_text(
        'from silversmith import Pipeline\npipeline = Pipeline("shop")\n\n'
        '@pipeline.transform("*.csv")\ndef orders(rows):\n    return rows\n'
    )
    return {
        "SILVERSMITH_PIPELINE": f"{tmp_path}/shop.py:pipeline",
        "SILVERSMITH_STACK": "test-shop",
        "SILVERSMITH_TRANSFORM": "orders",
        "SILVERSMITH_BRONZE": "b",
        "SILVERSMITH_SILVER": "s",
        "SILVERSMITH_QUARANTINE": "q",
        "SILVERSMITH_QUEUE": "https://sqs.example/orders",
        "SILVERSMITH_DLQ": "https://sqs.example/orders_DLQ",
    }


class Leisure:
    aws_request_id = ""

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


def test_on_aws_it_is_made_of_its_environment(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sqs = Sqs()
    handler = build(environment, s3=None, sqs=lambda: sqs)
    unwanted = [record(str(number), event_body("1.json", "b")) for number in range(DELETED_AT_ONCE + 2)]
    inputs = {
        "trace": {"stringValue": "t1", "dataType": "String"},
        "bin": {"binaryValue": "eA==", "dataType": "Binary"},
    }
    odd = {**record("odd", "?", 2), "messageAttributes": inputs}
    assert handler({"Records": [odd, *unwanted]}, Leisure()) == {"batchItemFailures": []}
    queue = environment["SILVERSMITH_QUEUE"]
    deleted = [call for name, call in sqs.calls if name == "delete_message_batch"]
    assert [call["QueueUrl"] for call in deleted] == [queue, queue]
    assert [len(call["Entries"]) for call in deleted] == [DELETED_AT_ONCE, 2]
    assert all(len({entry["Id"] for entry in call["Entries"]}) == len(call["Entries"]) for call in deleted)
    assert [entry["ReceiptHandle"] for call in deleted for entry in call["Entries"]] == [
        f"receipt of {number}" for number in range(DELETED_AT_ONCE + 2)
    ]
    attributes = {ERROR_CODE: "NotAnEvent", MESSAGE_ID: "odd", "trace": "t1"}
    assert sqs.calls[-1] == (
        "send_message",
        {
            "QueueUrl": environment["SILVERSMITH_DLQ"],
            "MessageBody": "?",
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        },
    )
    told_of = [vars(entry) for entry in caplog.records]
    assert [entry["levelname"] for entry in told_of] == ["INFO"] * (DELETED_AT_ONCE + 2) + ["ERROR"]
    assert told_of[-1]["message_id"] == "odd"
    assert told_of[-1]["error"]["code"] == "NotAnEvent"


def test_an_environment_that_names_no_transform(environment: dict[str, str]) -> None:
    with pytest.raises(DefinitionError, match="no transform 'other'"):
        build({**environment, "SILVERSMITH_TRANSFORM": "other"}, s3=None, sqs=Sqs)


@pytest.mark.parametrize("metrics", ["on", pytest.param("off", marks=pytest.mark.full)])
def test_on_lambda_all_is_json_lines_on_standard_output(environment: dict[str, str], metrics: str) -> None:
    """In a process of its own, because a process has one root logger. There is no S3, so that every file fails."""
    key = "a\n\u2028\x1b[31m{}.csv"
    body = json.dumps({"detail": {"bucket": {"name": "b"}, "object": {"key": key}}})
    code = f"""
import contextlib, os
from silversmith.function import handler
from silversmith.runtime.telemetry import set_up
from tests.unit.test_handler import Leisure, Sqs, record

set_up()
function = handler.build(os.environ, s3=None, sqs=Sqs)
Leisure.aws_request_id = "request-1"
with contextlib.suppress(handler.SystemUnavailable):
    function({{"Records": [record("1", {body!r})]}}, Leisure())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment, "SILVERSMITH_METRICS": metrics},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (failed,) = [line for line in lines if line.get("verdict") == "failed"]
    assert (failed["key"], failed["level"], failed["requestId"]) == (key, "ERROR", "request-1")
    assert (failed["message_id"], failed["transform"]) == ("1", "orders")
    counted = [line for line in lines if "_aws" in line]
    assert [(line["Pipeline"], line["FilesFailed"]) for line in counted] == [("test-shop", 1)] * (metrics == "on")
