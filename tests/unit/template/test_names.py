"""Names never collide, and none depends on what else is declared."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from silversmith import Deployment, Pipeline
from silversmith.pipeline.limits import pipeline_name, transform_name
from silversmith.template import compile as compile_template
from silversmith.template.plan import logical, physical


def ids() -> list[str]:
    """The logical ids of a stack with everything, with one transform and one table called ``zz``."""
    pipeline = Pipeline("sales")
    pipeline.sql("*", "SELECT * FROM rows", name="zz")
    pipeline.table("zz", of="zz")
    options = Deployment(customer_key=True, alarm_email="lake@example.com", alarm_bad_share=0.1, snap_start=True)
    return list(compile_template(pipeline, deployment=options)["Resources"])


#: The ends of the logical ids of a transform and of a table. None may be the end of another, nor of a logical id of the
#: pipeline's own: so two ids are equal only if both the name and the kind are.
KINDS = [name.removeprefix("Zz") for name in ids() if name.startswith("Zz")]

#: The logical ids that belong to neither.
OWN = [
    *(name for name in ids() if not name.startswith("Zz")),
    *("Rule2", "Rule10", "SilverRule2", "PolicyOfReconciler2"),
]

transforms = st.from_regex(r"[a-z][a-z0-9_-]{0,39}", fullmatch=True)
likely = st.lists(
    st.sampled_from(["a", "b", "1", "queue", "dlq", "subscription", "rule", "x3"]), min_size=1, max_size=3
)
tricky = st.tuples(st.sampled_from(["_", "-", "__", ""]), likely).map(lambda pair: "q" + pair[0].join(pair[1]))
pipelines = st.from_regex(r"[a-z][a-z0-9-]{0,39}", fullmatch=True)


@given(transforms | tricky, st.sampled_from(KINDS), transforms | tricky, st.sampled_from(KINDS))
@example("a-b", "Queue", "a_b", "Queue")
@example("a-b", "Queue", "ab", "Queue")
@example("a1", "Queue", "a-1", "Queue")
@example("a", "QueueDLQ", "a_queue", "QueueDLQ")
@example("a", "SubscriptionDLQ", "a_subscription", "QueueDLQ")
def test_logical_ids_are_different_for_different_things(one: str, kind: str, other: str, other_kind: str) -> None:
    ids = logical(one, kind), logical(other, other_kind)
    assert (ids[0] == ids[1]) is ((one, kind) == (other, other_kind))
    for name in ids:
        assert re.fullmatch(r"[A-Za-z0-9]{1,255}", name)
        assert name not in OWN


def test_no_kind_is_the_end_of_another_or_of_what_is_the_pipeline_s() -> None:
    assert {"Queue", "Function", "Alias", "RejectedAlarm", "GlueTable"} <= {*KINDS}
    assert {"BronzeBucket", "Key", "AlarmEmail", "ReconcilerDLQ", "QueueOfTables", "Tables"} <= {*OWN}
    for kind in KINDS:
        assert [name for name in (*KINDS, *OWN) if name.endswith(kind)] == [kind]


def test_logical_ids_are_readable() -> None:
    assert logical("late_flights", "Queue") == "LateFlightsQueue"
    assert logical("orders", "Function") == "OrdersFunction"
    assert logical("late-flights", "Queue").startswith("LateFlights")


@given(
    st.tuples(pipelines, transforms, st.sampled_from(["", "DLQ", "SubscriptionDLQ"])),
    st.tuples(
        pipelines,
        transforms | st.just(""),
        st.sampled_from(
            [
                *("DLQ", "SubscriptionDLQ", "RuleDLQ", "Topic", "Alarms", "Reconciler", "Schedules"),
                *("SilverTopic", "SilverRuleDLQ", "Tables", "TablesDLQ", "TablesSubscriptionDLQ"),
            ]
        ),
    ),
)
def test_physical_names_are_different_and_short_enough(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    names = physical(*one), physical(*other)
    assert (names[0] == names[1]) is (one == other)
    if not pipeline_name(one[0]) and not transform_name(one[0], one[1]):
        assert len(physical(one[0], one[1])) <= 64
        assert len(physical(one[0], one[1], "SubscriptionDLQ")) <= 80
