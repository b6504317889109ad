"""What is found out of this machine, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from silversmith import Deployment, Pipeline
from silversmith.aws.account import Account
from silversmith.local.intrinsics import Template
from silversmith.operations import doctor_facts as look
from silversmith.operations.doctor import Clock, Concurrency, Watching, numbers
from silversmith.reconcile.hops import Hops
from silversmith.template import compile as compile_template


def test_packages_are_those_that_silversmith_requires() -> None:
    found = {package.name: package for package in look.packages()}
    assert found["silversmith"].version
    assert (found["polars"].least, found["cyclopts"].least) == ("2.1", "4")
    assert all(numbers(package.version or "") >= numbers(package.least) for package in found.values())
    assert "pytest" not in found


def test_folders_are_counted_but_not_links(tmp_path: Path) -> None:
    limits, bronze = tmp_path / "inotify", tmp_path / "bronze"
    limits.mkdir()
    (limits / "max_user_watches").write_text("100\n")
    assert look.watching(bronze, limits) is None, "a limit is not told"
    (limits / "max_queued_events").write_text("200\n")
    assert look.watching(bronze, limits) == Watching(1, 100, 200)
    (bronze / "a/b").mkdir(parents=True)
    (bronze / "c").symlink_to(tmp_path)
    assert look.watching(bronze, limits) == Watching(3, 100, 200)


def test_the_newest_file(tmp_path: Path) -> None:
    assert look.clock(tmp_path / "nothing", 5.0) == Clock(5.0, None)
    (tmp_path / "a").mkdir()
    for name, changed in (("a/old", 100), ("a/new", 300), ("middle", 200)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (changed, changed))
    assert look.clock(tmp_path, 5.0) == Clock(5.0, 300.0, "a/new")


def test_a_disk_that_works(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    assert look.disk(lake / "below").free > 0
    found = look.file_system(lake)
    assert (found.place, found.broken, found.apart) == (str(tmp_path), {}, ())
    assert list(tmp_path.iterdir()) == [], "no lake is made, and nothing is left"
    (lake / "dl-bronze-layer").mkdir(parents=True)
    assert look.file_system(lake).place == str(lake)
    assert [path.name for path in lake.iterdir()] == ["dl-bronze-layer"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_where_nothing_can_be_written() -> None:
    """/proc is a folder in which nobody may make one, not even root."""
    found = look.file_system(Path("/proc/self"))
    assert list(found.broken) == ["write"]


def test_the_limit_of_open_files_is_this_processs() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        assert look.open_files() == 200
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


def test_the_hops_of_a_stack_are_those_that_its_reconciler_checks() -> None:
    pipeline = Pipeline("shop")
    pipeline.sql("orders/*.csv", "SELECT * FROM rows", name="orders")
    pipeline.sql("*", "SELECT * FROM rows", name="every_thing")
    template = compile_template(pipeline, deployment=Deployment(alarm_email="ops@example.com"))
    resolved = Template(template, account="123456789012", region="eu-central-1")
    event = json.loads(resolved.value(template["Resources"]["Schedule"]["Properties"]["Target"]["Input"]))
    account = Account("123456789012", "eu-central-1", lambda _: CloudFormation(template, resolved))
    assert look.hops(account, "shop") == Hops.of(event["hops"], "dl-bronze-layer")
    assert {each.filter is None for each in Hops.of(event["hops"], "").subscriptions} == {True, False}


def test_what_the_transforms_may_come_to_together_and_what_the_account_allows() -> None:
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
        assert look.concurrency(pipeline, options, functions) == Concurrency(127, 20, 1000)
        found = look.concurrency(pipeline, options, functions)
    assert (found.limit, "AccessDenied" in found.problem) == (None, True)
