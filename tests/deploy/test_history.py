"""The files of before that a new transform would take are counted and asked about; its first deploy stays its first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from silversmith import Pipeline
from silversmith.aws.account import Account
from silversmith.aws.deploy import Release, deploy, diff, status, with_first_deploys, with_layers
from silversmith.aws.stack import Diff, History, of_new
from silversmith.aws.transforms import histories
from silversmith.cli import deploy as command
from silversmith.operations import WrongCall
from silversmith.template import compile as compile_template
from tests.deploy.conftest import moto_template

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def shop(since: Any = None) -> Pipeline:
    pipeline = Pipeline("sales")
    pipeline.sql("sales/*.csv", "SELECT * FROM rows", name="sales", since=since)
    return pipeline


def of(release: Release, pipeline: Pipeline) -> Release:
    template = moto_template(with_layers(compile_template(pipeline), "sales"))
    return replace(release, template=template, transforms=pipeline.transforms)


@pytest.fixture
def bronze(account: Account) -> Account:
    s3 = account.client("s3")
    s3.create_bucket(Bucket="dl-bronze-layer", CreateBucketConfiguration={"LocationConstraint": account.region})
    for key in ("sales/1.csv", "sales/2.csv", "sales/3.txt", "sales/_SUCCESS", "other/4.csv"):
        s3.put_object(Bucket="dl-bronze-layer", Key=key, Body=b"id\n1\n")
    return account


def counted(pipeline: Pipeline, account: Account, **options: Any) -> tuple[History, ...]:
    template = compile_template(pipeline)
    return histories(of_new(template), template, pipeline.transforms, account, **options)


def test_the_files_that_a_new_transform_would_take_are_counted(bronze: Account) -> None:
    assert counted(shop(), bronze) == (History("sales", 2, 10, is_whole=True),)
    assert counted(shop(), bronze, most=1) == (History("sales", 1, 5, is_whole=False),)
    assert counted(shop("2199-01-01"), bronze) == ()
    assert counted(shop("2000-01-01"), bronze) == (History("sales", 2, 10, is_whole=True),)
    assert counted(shop("deploy"), bronze) == ()
    assert counted(shop(), bronze, bronze="another-bucket") == ()


def test_nothing_is_counted_of_transforms_that_are_there_or_have_no_rounds(bronze: Account) -> None:
    template = compile_template(shop())
    assert histories(Diff(()), template, shop().transforms, bronze) == ()
    del template["Resources"]["Reconciler"]
    assert histories(of_new(template), template, shop().transforms, bronze) == ()


def test_diff_shows_files_dollars_and_hours(
    bronze: Account, small_release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.diff_release(small_release, bronze, json=False, pause=lambda _: None) == 0
    out = capsys.readouterr().out
    assert "sales is new, and takes 2 files of before (10 B): about $0.00 and" in out
    assert 'since="deploy" has a transform leave them alone' in out
    assert diff(small_release, bronze).to_dict()["history"] == [
        {"transform": "sales", "files": 2, "size": 10, "is_whole": True}
    ]


def test_a_long_history_is_asked_about(small_release: Release) -> None:
    few, many = History("sales", 100_000, 10**9, is_whole=True), History("sales", 1_000_000, 10**10, is_whole=True)
    assert command._question(Diff((), (few,)), small_release) == ""
    question = command._question(Diff((), (few, many)), small_release)
    assert question.startswith("sales is new, and takes 1,000,000 files of before (10.0 GB): about $")
    assert question.endswith(". Do it?")
    unknown = command._question(Diff((), (replace(few, is_whole=False),)), small_release)
    assert unknown.startswith("sales is new, and takes at least 100,000 files of before (1.0 GB): at least $")


def test_nobody_is_there_to_agree_to_a_long_history(
    bronze: Account, small_release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a reconciler's round nothing would take them: the question comes before the stack is made."""

    def confirm(diff: Diff) -> bool:
        many = replace(diff, histories=(History("sales", 10**8, 10**12, is_whole=False),))
        return command.agreed(command._question(many, small_release), yes=False)

    with pytest.raises(WrongCall, match="sales is new, and takes at least 100,000,000 files of before"):
        deploy(small_release, bronze, confirm=confirm, pause=lambda _: None)
    assert status("sales", bronze) is None


def test_the_first_deploy_of_a_transform_stays_its_first(account: Account, small_release: Release) -> None:
    release = of(small_release, shop("deploy"))

    def run(release: Release, at: datetime) -> str:
        done = deploy(release, account, confirm=lambda _: True, pause=lambda _: None, now=lambda: at)
        assert done.state is not None
        return done.state.parameters.get("SalesFirstDeploy", "")

    assert run(release, NOON) == "2026-11-30T12:00:00+00:00"
    code = replace(release, parameters={**release.parameters, "CodeKey": "sales/2.zip"})
    assert run(code, NOON + timedelta(days=1)) == "2026-11-30T12:00:00+00:00"
    assert not diff(code, account)
    state = status("sales", account)
    assert with_first_deploys(small_release, state, NOON).parameters == small_release.parameters
