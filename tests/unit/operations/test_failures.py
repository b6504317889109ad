"""Failures are listed from quarantine and the dead-letter queues, whoever gave up, and only the chosen ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from silversmith import DefinitionError
from silversmith.local import stack as stacks
from silversmith.local.services import ServiceMessage
from silversmith.local.services.queue import QueueService
from silversmith.operations.failures import Failures, Query, failures, rejected
from silversmith.operations.target import DeadKind
from silversmith.patterns import KeyPattern
from tests.unit.operations.conftest import BAD, GOOD, HARMFUL, PARTLY

if TYPE_CHECKING:
    from silversmith.operations.local import LocalTarget
    from tests.unit.conftest import Bench


DEAD = "arn:aws:sqs:us-east-1:000000000000:shop_orders_DLQ"


def look(bench: Bench, target: LocalTarget, expected: Query | None = None) -> Failures:
    return failures(bench.pipeline, target, expected or Query(), now=bench.now)


def give_up(bench: Bench, key: str, *, source: str, queue_arn: str) -> None:
    """A file lands, and ``source`` cannot deliver its event."""
    bench.land(key, text=GOOD)
    (messages,) = [ServiceMessage(*row) for row in bench.journal.rows("due", now=bench.now, most=99) if row[3] == key]
    bench.lose(f"id = {messages.id}")
    with bench.journal.transaction():
        bench.services.queues[queue_arn].accept_dead(
            messages._replace(delivery=source), bench.now, source=source, reason="no policy allows it"
        )


def test_nothing_failed(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/a.csv", text=GOOD)
    bench.work()
    assert look(bench, target) == Failures([], 0, [], 0, bench.now)


def test_a_file_in_quarantine_is_listed_with_its_reason_and_age(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/c.csv", text=BAD)
    bench.work()
    bench.now += 90
    report = look(bench, target)
    (document,) = report.quarantined
    assert (document.transform, document.key, document.code) == ("orders", "orders/c.csv", "MissingColumn")
    assert report.to_dict()["quarantined"][0]["age_seconds"] == 90
    assert report.quarantined_total == 1


def test_quarantine_is_the_truth_and_the_journal_only_a_hint(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/c.csv", text=BAD)
    bench.work()
    bench.lake.quarantine.delete("orders/orders/c.csv.error.json")
    assert look(bench, target).quarantined_total == 0


def test_a_dead_message_is_listed_with_the_functions_error(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/d.csv", text=HARMFUL)
    bench.work()
    (dead,) = look(bench, target).dead
    assert (dead.kind, dead.transform, dead.key, dead.attempts) == (DeadKind.QUEUE, "orders", "orders/d.csv", 2)
    assert dead.error is not None
    assert "666 is no order" in dead.error["message"]
    assert dead.reason == "the function gave up on it: TransformError"


def test_expired_dead_messages_are_listed_all_the_same(bench: Bench, target: LocalTarget) -> None:
    """A dead-letter queue keeps a message for 14 days, and a journal may be lost."""
    bench.land("orders/d.csv", text=HARMFUL)
    bench.land("orders/e.csv", text=HARMFUL)
    bench.work()
    assert (look(bench, target).quarantined_total, look(bench, target).dead_total) == (0, 2)
    for row in bench.journal.rows("dead_messages", queue=DEAD, after=0, most=9):
        with bench.journal.transaction():
            bench.journal.rows("take_dead", message_id=row[1])
    report = look(bench, target)
    assert (report.quarantined_total, report.dead_total) == (2, 0)
    assert [(each.key, each.code, each.attempt) for each in report.quarantined] == [
        ("orders/d.csv", "TransformError", 2), ("orders/e.csv", "TransformError", 2)
    ]  # fmt: skip
    assert "reconcile --dead" in report.quarantined[0].hint
    assert look(bench, target, Query(pattern=KeyPattern.parse("*d.csv"))).quarantined_total == 1
    bench.land("orders/e.csv", text=GOOD)
    bench.work()
    assert [each.key for each in look(bench, target).quarantined] == ["orders/d.csv"]


def test_the_error_is_of_the_version_that_died_also_when_a_newer_one_became_silver(
    bench: Bench, target: LocalTarget
) -> None:
    bench.land("orders/d.csv", text=HARMFUL)
    bench.work()
    bench.land("orders/d.csv", text=GOOD)
    bench.work()
    (dead,) = look(bench, target).dead
    assert dead.error is not None
    assert "666 is no order" in dead.error["message"]


def test_dead_messages_of_rules_and_subscriptions_are_listed(bench: Bench, target: LocalTarget) -> None:
    rule = bench.stack.rules[0]
    rule_queue = rule.dead_letter_arn
    subscription = next(actual for actual in bench.stack.subscriptions if "orders" in actual.queue_arn)
    assert rule_queue
    assert subscription.dead_letter_arn
    give_up(bench, "orders/r.csv", source=rule.arn, queue_arn=rule_queue)
    give_up(bench, "orders/s.csv", source=subscription.arn, queue_arn=subscription.dead_letter_arn)
    actual = {dead.key: dead for dead in look(bench, target).dead}
    by_rule, by_subscription = actual["orders/r.csv"], actual["orders/s.csv"]
    assert (by_rule.kind, by_rule.transform, by_rule.source) == (DeadKind.RULE, None, rule.name)
    assert (by_subscription.kind, by_subscription.transform) == (DeadKind.SUBSCRIPTION, "orders")
    assert by_rule.reason == by_subscription.reason == "no policy allows it"
    assert (by_rule.attempts, by_rule.error) == (None, None)


def test_failures_of_removed_transforms_are_listed(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/d.csv", text=HARMFUL)
    bench.work()
    with bench.journal.transaction():
        gone = QueueService(
            bench.journal, stacks.QueueResource("old_DLQ", "arn:aws:sqs:us-east-1:000000000000:old_DLQ")
        )
        post = ServiceMessage("", "", "", "old.csv", "", b"{}", bench.now)
        gone.accept_dead(post, bench.now, source="arn:aws:sqs:us-east-1:000000000000:old", reason="it was long ago")
    actual = {dead.key: dead for dead in look(bench, target).dead}
    assert set(actual) == {"orders/d.csv", "old.csv"}
    assert (actual["old.csv"].kind, actual["old.csv"].source) == (DeadKind.UNKNOWN, "old")
    assert actual["old.csv"].queue == "old_DLQ"


def test_one_transform_is_asked_for(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/c.csv", text=BAD)
    bench.land("orders/d.csv", text=HARMFUL)
    bench.land("broken.csv", text='a,b\n"1,2\n')
    bench.work()
    orders = look(bench, target, Query(transform="orders"))
    assert ([actual.key for actual in orders.quarantined], orders.dead_total) == (["orders/c.csv"], 1)
    copies = look(bench, target, Query(transform="copies"))
    assert ([actual.key for actual in copies.quarantined], copies.dead_total) == (["broken.csv"], 0)


def test_dead_messages_of_a_rule_belong_to_every_matching_transform(bench: Bench, target: LocalTarget) -> None:
    rule = bench.stack.rules[0]
    queue = rule.dead_letter_arn
    assert queue
    give_up(bench, "elsewhere.csv", source=rule.arn, queue_arn=queue)
    assert look(bench, target, Query(transform="copies")).dead_total == 1
    assert look(bench, target, Query(transform="orders")).dead_total == 0


def test_an_unknown_transform_is_an_error_that_names_those_there_are(bench: Bench, target: LocalTarget) -> None:
    with pytest.raises(DefinitionError, match="'order'; it has: orders, copies"):
        look(bench, target, Query(transform="order"))


def test_keys_that_match_are_asked_for(bench: Bench, target: LocalTarget) -> None:
    long = "orders/" + "k" * 1000 + ".csv"
    for key in ("orders/1.csv", "orders/2.csv", long):
        bench.lake.bronze.put(key, BAD.encode())
        bench.notice(key)
    bench.work()
    assert look(bench, target).quarantined_total == 3
    report = look(bench, target, Query(pattern=KeyPattern.parse("orders/*k.csv")))
    assert [document.key for document in report.quarantined] == [long]


def test_only_the_requested_number_is_shown_but_all_are_counted(bench: Bench, target: LocalTarget) -> None:
    for number in range(5):
        bench.land(f"orders/{number}.csv", text=BAD if number < 3 else HARMFUL)
    bench.work()
    report = look(bench, target, Query(most=2))
    assert (len(report.quarantined), report.quarantined_total) == (2, 3)
    assert (len(report.dead), report.dead_total) == (2, 2)
    assert look(bench, target, Query(most=1)).dead_total == 2


def test_a_strangers_document_is_listed_too(bench: Bench, target: LocalTarget) -> None:
    bench.lake.quarantine.put("orders/orders/x.csv.error.json", b"scribble")
    (report,) = look(bench, target).quarantined
    assert (report.code, report.key) == ("UnreadableDocument", "orders/x.csv")


def test_rejected_rows_are_listed_by_file(bench: Bench, target: LocalTarget) -> None:
    for key in ("a", "b"):
        bench.land(f"orders/{key}.csv", text=PARTLY)
    bench.land("orders/c.csv", text=BAD)
    bench.work()
    result = rejected(bench.pipeline, target, Query(most=1))
    assert (len(result.files), result.total) == (1, 2)
    assert (result.files[0].key, result.files[0].transform, result.files[0].rows) == ("orders/a.csv", "orders", 2)
    only = rejected(bench.pipeline, target, Query(pattern=KeyPattern.parse("*b.csv")))
    assert [file.key for file in only.files] == ["orders/b.csv"]
    assert rejected(bench.pipeline, target, Query(transform="copies")).total == 0


def test_it_can_be_printed_as_json(bench: Bench, target: LocalTarget) -> None:
    for key, text in {"b": PARTLY, "c": BAD, "d": HARMFUL}.items():
        bench.land(f"orders/{key}.csv", text=text)
    bench.work()
    document = json.loads(json.dumps(look(bench, target).to_dict()))
    assert document["dead"][0]["kind"] == "queue"
    assert document["dead"][0]["dead_at"].endswith("+00:00")
    assert json.loads(json.dumps(rejected(bench.pipeline, target, Query()).to_dict()))["rejected_total"] == 1


def test_lately_names_what_failed_since(bench: Bench, target: LocalTarget) -> None:
    bench.land("orders/old.csv", text=BAD)
    bench.land("orders/older.csv", text=HARMFUL)
    bench.work()
    bench.now += 10
    since = bench.now
    bench.land("orders/c.csv", text=BAD)
    bench.land("orders/d.csv", text=HARMFUL)
    bench.work()
    result = target.lately(since, 10)
    assert [(item.key, item.code) for item in result] == [
        ("orders/c.csv", "MissingColumn"),
        ("orders/d.csv", "TransformError"),
    ]
    assert len(target.lately(0, 3)) == 3
