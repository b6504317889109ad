"""Files that landed before a transform's ``since`` are left alone, wherever they come from."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Pipeline
from silversmith.errors import DefinitionError
from silversmith.events import ObjectEvent, object_created, unwrap
from silversmith.lineage import Decision
from silversmith.local.lake import LakeFolder
from silversmith.pipeline import with_moments
from silversmith.pipeline.since import iso, moment_of, normalized
from silversmith.reconcile.compare import look
from silversmith.template import compile as compile_template

YEAR_1900 = datetime(1900, 1, 1, tzinfo=UTC).replace(tzinfo=None)
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def shop(since: Any = None, name: str = "orders") -> Pipeline:
    pipeline = Pipeline("shop")

    @pipeline.transform("orders/*.csv", name=name, since=since)
    def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    return pipeline


@pytest.mark.parametrize(
    ("since", "text"),
    [
        (None, ""),
        ("deploy", "deploy"),
        (date(2026, 12, 1), "2026-12-01T00:00:00+00:00"),
        (datetime(2026, 12, 1, 6, tzinfo=UTC).replace(tzinfo=None), "2026-12-01T06:00:00+00:00"),
        ("2026-12-01", "2026-12-01T00:00:00+00:00"),
        ("2026-12-01T06:00+01:00", "2026-12-01T05:00:00+00:00"),
        ("2026-12-01T06:00Z", "2026-12-01T06:00:00+00:00"),
    ],
)
def test_a_time_is_a_date_a_datetime_or_a_text(since: Any, text: str) -> None:
    assert shop(since).find("orders").since == text


@pytest.mark.parametrize("since", ["yesterday", "", 5, True, "2026-13-01"])
def test_what_is_no_time_is_refused_where_it_is_declared(since: Any) -> None:
    with pytest.raises(DefinitionError, match=r"test_since.py:\d+: since=.* is no time: give a date"):
        shop(since)


@given(st.datetimes(min_value=YEAR_1900, max_value=YEAR_1900.replace(year=2200), timezones=st.just(UTC)))
def test_a_time_stays_the_same_to_the_second(moment: datetime) -> None:
    text = normalized(moment)
    assert moment_of(text) == moment.replace(microsecond=0)
    assert normalized(text) == text


def test_it_is_no_part_of_the_fingerprint() -> None:
    assert shop().find("orders").fingerprint == shop("deploy").find("orders").fingerprint


def test_until_the_first_deploy_is_known_every_file_is_too_old() -> None:
    transform = shop("deploy").find("orders")
    assert transform.is_before_since(NOON)
    known = with_moments(shop("deploy"), {"orders": iso(NOON)}).find("orders")
    assert [known.is_before_since(NOON + timedelta(seconds=each)) for each in (-1, 0, 1)] == [True, False, False]
    assert not shop().find("orders").is_before_since(NOON)
    assert with_moments(shop("2026-12-01"), {"orders": iso(NOON)}).find("orders").since.startswith("2026-12-01")


def test_an_event_says_that_this_very_key_is_wanted() -> None:
    event = ObjectEvent("bronze", "k", whenever=True, made_after="2026-01-01T00:00:00.000+00:00")
    assert unwrap(object_created(event, reason="replay")) == [event]
    assert b"silversmith" not in object_created(ObjectEvent("bronze", "k"), reason="replay")


def test_the_template_has_the_time_or_asks_for_it() -> None:
    plain = compile_template(shop())
    assert "SILVERSMITH_SINCE" not in json.dumps(plain)
    fixed = compile_template(shop("2026-12-01"))
    environment = fixed["Resources"]["OrdersFunction"]["Properties"]["Environment"]["Variables"]
    assert environment["SILVERSMITH_SINCE"] == "2026-12-01T00:00:00+00:00"
    assert set(fixed["Parameters"]) == set(plain["Parameters"])
    assert fixed["Outputs"]["OrdersSince"]["Value"] == "2026-12-01T00:00:00+00:00"
    first = compile_template(shop("deploy"))
    reference = {"Ref": "OrdersFirstDeploy"}
    assert set(first["Parameters"]) - set(plain["Parameters"]) == {"OrdersFirstDeploy"}
    assert (
        first["Resources"]["OrdersFunction"]["Properties"]["Environment"]["Variables"]["SILVERSMITH_SINCE"] == reference
    )
    assert first["Outputs"]["OrdersSince"]["Value"] == reference
    schedule = first["Resources"]["Schedule"]["Properties"]["Target"]["Input"]["Fn::Sub"]
    assert json.loads(schedule)["since"] == {"orders": "${OrdersFirstDeploy}"}


def test_a_lake_keeps_when_a_transform_first_ran(tmp_path: Path) -> None:
    folder = LakeFolder(tmp_path)
    folder.create()
    pipeline = shop("deploy")
    assert folder.first_runs(pipeline) == {}
    assert folder.first_runs(pipeline, now=NOON) == {"orders": iso(NOON)}
    assert folder.first_runs(pipeline, now=NOON + timedelta(days=1)) == {"orders": iso(NOON)}
    assert folder.first_runs(shop("deploy", name="later"), now=NOON + timedelta(days=1)) == {
        "later": iso(NOON + timedelta(days=1))
    }
    assert folder.first_runs(pipeline) == {"orders": iso(NOON)}
    assert folder.first_runs(shop("2026-12-01"), now=NOON) == {}


def landed(folder: LakeFolder, key: str, at: datetime) -> None:
    path = folder.bucket("dl-bronze-layer") / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("id\n1\n")
    os.utime(path, (at.timestamp(), at.timestamp()))


def test_a_comparison_leaves_older_files_alone_and_counts_them(tmp_path: Path) -> None:
    folder = LakeFolder(tmp_path)
    folder.create("dl-bronze-layer", "dl-silver-layer", "dl-quarantine-layer")
    landed(folder, "orders/old.csv", NOON - timedelta(seconds=1))
    landed(folder, "orders/new.csv", NOON)
    pipeline = shop(NOON)
    looked = list(look(pipeline.find("orders"), folder.stores(pipeline)))
    kinds = {each.finding.key: each.finding.kind for each in looked if each.finding is not None}
    assert kinds == {"orders/old.csv": Decision.BEFORE_SINCE, "orders/new.csv": Decision.MISSING}
    assert [each.finding.is_to_be_sent for each in looked if each.finding is not None].count(True) == 1
