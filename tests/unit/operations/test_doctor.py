"""Judgements about a machine, at each limit; its measurements, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import resource
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from silversmith import Context, Deployment, Pipeline, Secret
from silversmith.aws.account import Account
from silversmith.errors import AccessDenied
from silversmith.local.stack import Template
from silversmith.operations import doctor
from silversmith.operations.doctor import (
    Diagnosis,
    State,
    check_clock,
    check_concurrency,
    check_disk,
    check_file_system,
    check_inotify,
    check_installer,
    check_open_files,
    check_owners,
    check_packages,
    check_pipeline,
    check_python,
    version_numbers,
)
from silversmith.reconcile.hops import Hops
from silversmith.reconcile.lease import Lease, Phase, branch_key, lease_key
from silversmith.stores.local import LocalStore
from silversmith.template import compile as compile_template

SHOP = Pipeline("shop")
SHOP.sql("orders/*.csv", "SELECT * FROM rows", name="orders")


@pytest.mark.parametrize(
    ("finding", "state", "text"),
    [
        (check_concurrency(200, 20, 1000), "ok", "up to 200 invocations at once; the account allows 1,000"),
        (check_concurrency(1000, 900, 1000), "ok", "up to 1,000 invocations at once"),
        (check_concurrency(1001, 0, 1000), "warn", "Lambda refuses some"),
        (check_concurrency(901, 901, 1000), "fail", "100 must not be reserved"),
        (check_concurrency(100, 0, 10), "warn", "the account allows 10"),
        (check_concurrency(100, 0, None, "denied"), "warn", "could not be asked: denied"),
        (check_python((3, 10, 9)), "fail", "needs Python 3.11 or newer"),
        (check_python((3, 11, 0)), "ok", "3.11.0"),
        (check_packages({"boto3": (None, "1.40")}), "fail", "boto3: not installed"),
        (check_packages({"boto3": ("1.39.9", "1.40")}), "fail", "pip install --upgrade 'boto3>=1.40'"),
        (check_packages({"boto3": ("1.40", "1.40.0"), "own": ("0.1", "")}), "ok", "boto3 1.40, own 0.1"),
        (check_pipeline(SHOP, ""), "ok", "shop, transforms: orders"),
        (check_pipeline(None, "no file"), "fail", "no file"),
        (check_installer(True), "ok", "bundles can be made for Lambda's machines"),
        (check_installer(False), "warn", "pip install uv"),
        (check_owners({}), "ok", "no other pipeline has it"),
        (check_owners({"orders": "shop2"}), "fail", "orders: it is shop2's"),
        (check_file_system("/data", {}), "ok", "/data: rename, fsync and flock work"),
        (check_file_system("/nfs", {"flock": "No locks"}), "fail", "/nfs: flock: No locks"),
        (check_file_system("/a", {}, ("silver",)), "fail", "file system than /a: silver"),
        (check_disk(99_999_999, None), "fail", "make room"),
        (check_disk(100_000_000, None), "warn", "make room soon"),
        (check_disk(2_000_000_000, None), "ok", "2.0 GB free"),
        (check_disk(9_000_000_000, 9_999), "warn", "only 9,999 more files"),
        (check_inotify(1001, 1000, 16_384), "fail", "max_user_watches=1048576"),
        (check_inotify(1000, 1000, 16_384), "warn", "max_user_watches=1048576"),
        (check_inotify(800, 1000, 16_384), "ok", "800 of 1,000 that may be watched"),
        (check_inotify(3_000_000, 1000, 16_384), "fail", "max_user_watches=8388608"),
        (check_inotify(1, 1000, 16_383), "warn", "max_queued_events=16384"),
        (check_open_files(255), "fail", "ulimit -n 1024"),
        (check_open_files(256), "warn", "ulimit -n 1024"),
        (check_open_files(1024), "ok", "1,024 may be open at once"),
        (check_clock(1000.0, 1060.0, "a"), "ok", "1970-01-01 00:16:40 UTC"),
        (check_clock(1000.0, 1061.0, "a.csv"), "warn", "a.csv is of 61 s later"),
        (check_clock(1000.0, None), "ok", "1970-01-01 00:16:40 UTC"),
    ],
)
def test_each_limit(finding: Diagnosis, state: str, text: str) -> None:
    assert finding.state == state
    assert text in f"{finding.found} {finding.do}"
    assert bool(finding.do) == (state != "ok"), "what is wrong can be mended, what is right needs nothing"
    assert doctor.is_healthy([check_python((3, 13, 1)), finding]) == (state != "fail")


def test_the_document() -> None:
    assert json.loads(json.dumps(doctor.document([check_python((3, 13, 1))]))) == {
        "healthy": True,
        "checks": [{"name": "python", "state": "ok", "found": "3.13.1", "do": ""}],
    }


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.1.0", (2, 1)), ("2.1", (2, 1)), ("3.0.0rc1", (3,)), ("1.40.2.post1", (1, 40, 2)), ("", ()), ("dev", ())],
)
def test_the_numbers_of_a_version(version: str, expected: tuple[int, ...]) -> None:
    assert version_numbers(version) == expected


def test_packages_are_those_that_silversmith_requires() -> None:
    packages = doctor.packages()
    assert packages["silversmith"][0]
    assert (packages["polars"][1], packages["cyclopts"][1]) == ("2.1", "5.4")
    assert doctor.check_packages(packages).state is State.OK
    assert "pytest" not in packages


def test_folders_are_counted_but_not_links(tmp_path: Path) -> None:
    limits, bronze = tmp_path / "inotify", tmp_path / "bronze"
    limits.mkdir()
    (limits / "max_user_watches").write_text("100\n")
    assert doctor.inotify_limits(bronze, limits) is None, "a limit is not told"
    (limits / "max_queued_events").write_text("200\n")
    assert doctor.inotify_limits(bronze, limits) == (1, 100, 200)
    (bronze / "a/b").mkdir(parents=True)
    (bronze / "c").symlink_to(tmp_path)
    assert doctor.inotify_limits(bronze, limits) == (3, 100, 200)


def test_the_newest_file(tmp_path: Path) -> None:
    assert doctor.newest_file(tmp_path / "nothing") == (None, "")
    (tmp_path / "a").mkdir()
    for name, changed in (("a/old", 100), ("a/new", 300), ("middle", 200)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (changed, changed))
    assert doctor.newest_file(tmp_path) == (300.0, "a/new")


def test_a_disk_that_works(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    assert doctor.free_space(lake / "below")[0] > 0
    assert doctor.try_file_system(lake) == (str(tmp_path), {}, ())
    assert list(tmp_path.iterdir()) == [], "no lake is made, and nothing is left"
    (lake / "dl-bronze-layer").mkdir(parents=True)
    assert doctor.try_file_system(lake)[0] == str(lake)
    assert [path.name for path in lake.iterdir()] == ["dl-bronze-layer"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_a_folder_that_is_not_writable() -> None:
    """/proc is a folder in which nobody may make one, not even root."""
    _, broken, _ = doctor.try_file_system(Path("/proc/self"))
    assert list(broken) == ["write"]


def test_the_limit_of_open_files_is_this_processs() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        assert doctor.open_files() == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class CloudFormation:
    """A stack of a template, whose resources have the ids that a Ref gives."""

    def __init__(self, template: dict[str, Any], resolved: Template) -> None:
        self._template = template
        self._resolved = resolved

    def describe_stacks(self, **_: str) -> dict[str, Any]:
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in self._resolved.outputs().items()]
        stack = {"StackId": "id", "StackName": "shop", "StackStatus": "CREATE_COMPLETE", "CreationTime": None}
        return {"Stacks": [{**stack, "Outputs": outputs}]}

    def get_template(self, **_: str) -> dict[str, Any]:
        return {"TemplateBody": self._template}

    def get_paginator(self, _: str) -> CloudFormation:
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        ids = ((name, self._resolved.value({"Ref": name})) for name in self._template["Resources"])
        return [{"StackResourceSummaries": [{"LogicalResourceId": name, "PhysicalResourceId": it} for name, it in ids]}]


@pytest.mark.parametrize("has_tables", [False, True])
def test_the_hops_of_a_stack_are_those_that_its_reconciler_checks(has_tables: bool) -> None:
    pipeline = Pipeline("shop")
    pipeline.sql("orders/*.csv", "SELECT * FROM rows", name="orders")
    pipeline.sql("*", "SELECT * FROM rows", name="every_thing")
    if has_tables:
        pipeline.table("orders", of="orders")
    template = compile_template(pipeline, deployment=Deployment(alarm_email="ops@example.com"))
    resolved = Template(template, account="123456789012", region="eu-central-1")
    event = json.loads(resolved.value(template["Resources"]["Schedule"]["Properties"]["Target"]["Input"]))
    account = Account("123456789012", "eu-central-1", lambda _: CloudFormation(template, resolved))
    stages = [Hops.of(hops) for hops in event["hops"]]
    assert doctor.deployed_hops(account, "shop") == stages
    assert {each.filter is None for each in stages[0].subscriptions} == {True, False}
    assert [(hops.bucket, *map(len, (hops.rules, hops.subscriptions, hops.mappings))) for hops in stages] == [
        ("dl-bronze-layer", 1, 2, 2),
        ("dl-silver-layer", 1, 1, 1),
    ][: len(stages)]
    assert len(stages) == 1 + has_tables


def test_a_round_that_stands_still_is_told(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "quarantine", scratch=tmp_path, locks=tmp_path / "locks", foreign_writers=False)
    key = lease_key("shop_Reconciler")
    now = datetime(2026, 1, 2, tzinfo=UTC)

    def told(body: bytes) -> tuple[State, str]:
        store.put(key, body)
        finding = doctor.round_check(store, key, now)
        return finding.state, finding.found

    def lease(phase: Phase, minutes: int, **progress: int) -> bytes:
        return Lease("noon", 1, phase, "", now + timedelta(minutes=minutes), progress).to_json()

    assert doctor.round_check(store, key, now).found == "no round yet"
    assert told(b"no lease") == (State.OK, "no round yet")
    assert told(lease(Phase.DONE, -500)) == (State.OK, "the last round was completed")
    assert told(lease(Phase.RUNNING, 1)) == (State.OK, "a round is going on: it is at its step 1")
    assert told(lease(Phase.WAITING, -1)) == (State.WARN, "the last round was not completed: it is at its step 1")
    assert told(lease(Phase.FAILED, 1))[0] == State.WARN
    for number, name in enumerate(("noon", "noon", "before")):
        done = Lease(name, 0, Phase.DONE, "", now).to_json()
        store.put(branch_key(key, number), done)
    assert told(lease(Phase.SPLIT, 1, branches=4)) == (State.OK, "a round is going on: 2 of 4 branches are through")
    assert told(lease(Phase.SPLIT, -1, branches=4)) == (
        State.WARN,
        "the last round was not completed: 2 of 4 branches are through",
    )


def test_concurrency_of_all_transforms_and_of_the_account() -> None:
    pipeline = Pipeline("shop")
    pipeline.sql("a/*", "SELECT * FROM rows", name="by_default")
    pipeline.sql("b/*", "SELECT * FROM rows", name="bounded", maximum_concurrency=7)
    pipeline.sql("c/*", "SELECT * FROM rows", name="reserved")
    options = Deployment(reserved_concurrency={"reserved": 20})
    functions = boto3.client("lambda", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(functions) as stubber:
        limits = {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000}
        stubber.add_response("get_account_settings", {"AccountLimit": limits})
        stubber.add_client_error("get_account_settings", "AccessDeniedException", "no")
        assert doctor.concurrency(pipeline, options, functions) == check_concurrency(127, 20, 1000)
        finding = doctor.concurrency(pipeline, options, functions)
    assert (finding.state, "AccessDenied" in finding.found) == (State.WARN, True)


def test_a_secret_that_may_not_be_seen_is_a_warning() -> None:
    pipeline = Pipeline("shop")

    @pipeline.transform("*.csv", secrets={"token": Secret(secret="shop/token")})
    def orders(rows: Any, context: Context) -> Any:
        return rows

    def refused(name: str, secret: Secret) -> str:
        raise AccessDenied(f"{name} in {secret.secret}: AWS refused DescribeSecret")

    (finding,) = doctor.check_secrets(pipeline.transforms, refused)
    assert (finding.state, finding.found) == ("warn", "orders: token in shop/token: AWS refused DescribeSecret")
    assert finding.do.endswith("let who runs this call secretsmanager:DescribeSecret on it")
    assert doctor.check_secrets([], refused) == []
