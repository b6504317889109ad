"""The commands that deploy: what they show and ask, and how they end."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from silversmith.aws.account import Account
from silversmith.aws.artefacts import Artefacts
from silversmith.aws.bundle import Bundle
from silversmith.aws.deploy import Release, status
from silversmith.aws.packages import Runtime
from silversmith.cli import deploy as bundling
from silversmith.cli.application import FAILED, WRONG_CALL, call
from silversmith.cli.deploy import DataDeletion, deploy_release, destroy_stack, diff_release
from silversmith.operations import WrongCall

#: Moto leaves files open.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

Capture = pytest.CaptureFixture[str]

PIPELINE = """
from silversmith import Deployment, Pipeline
pipeline = Pipeline("sales")
pipeline.sql("sales/*.csv", "SELECT * FROM rows", name="sales")
test = Deployment(prefix="test")
deployment = Deployment()
"""


def no_pause(_: float) -> None:
    """Moto is done at once."""


def smaller(release: Release) -> Release:
    """Without a queue that it had."""
    template = json.loads(json.dumps(release.template))
    del template["Resources"]["SalesQueueDLQ"]
    del template["Resources"]["SalesQueue"]["Properties"]["RedrivePolicy"]
    return replace(release, template=template)


def deployed(release: Release, account: Account, capsys: Capture) -> None:
    assert deploy_release(release, account, yes=False, json=False, pause=no_pause) == 0
    capsys.readouterr()


def with_outputs(account: Account) -> Account:
    """Moto tells no outputs of a stack that a change set made."""
    outputs = [{"OutputKey": "BronzeBucketName", "OutputValue": "dl-bronze-layer"}]

    def client(service: str) -> Any:
        aws_client = account.client(service)
        aws_client.meta.events.register(
            "after-call.cloudformation.DescribeStacks",
            lambda parsed, **_: [stack.update(Outputs=outputs) for stack in parsed.get("Stacks", ())] and None,
        )
        return aws_client

    return replace(account, client=client)


def test_a_first_deployment_is_shown_as_it_happens(account: Account, small_release: Release, capsys: Capture) -> None:
    assert deploy_release(small_release, with_outputs(account), yes=False, json=False, pause=no_pause) == 0
    out, errors = capsys.readouterr()
    assert "+ add: SalesQueue (AWS::SQS::Queue)" in out
    assert "CREATE_COMPLETE" in out
    assert "sales is CREATE_COMPLETE" in out
    assert "  BronzeBucketName  dl-bronze-layer" in out
    assert errors == ""
    assert deploy_release(small_release, account, yes=False, json=False, pause=no_pause) == 0
    assert "sales is as it should be: nothing was to be done" in capsys.readouterr().out


def test_one_document_and_nothing_else(account: Account, small_release: Release, capsys: Capture) -> None:
    assert deploy_release(small_release, with_outputs(account), yes=False, json=True, pause=no_pause) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["stack"], document["account"], document["region"]) == ("sales", "123456789012", "eu-central-1")
    assert (document["deployed"], document["changed"], document["status"]) == (True, True, "CREATE_COMPLETE")
    assert ("add", "SalesQueue") in [(change["effect"], change["logical"]) for change in document["changes"]]
    assert document["outputs"] == {"BronzeBucketName": "dl-bronze-layer"}
    assert diff_release(smaller(small_release), account, json=True, pause=no_pause) == 0
    document = json.loads(capsys.readouterr().out)
    assert [change["logical"] for change in document["changes"] if change["loses"]] == ["SalesQueueDLQ"]


def change_sets(account: Account) -> list[str]:
    client = account.client("cloudformation").list_change_sets(StackName="sales")["Summaries"]
    return [each["ChangeSetName"] for each in client]


def test_changes_that_lose_data_are_not_made_without_a_person_to_confirm(
    account: Account, small_release: Release, capsys: Capture
) -> None:
    deployed(small_release, account, capsys)
    before = change_sets(account)
    question = r"1 resource .*: SalesQueueDLQ \(its messages are lost\)\. .*say yes with --yes"
    with pytest.raises(WrongCall, match=f"this is no terminal: {question}"):
        deploy_release(smaller(small_release), account, yes=False, json=False, pause=no_pause)
    assert "- delete: SalesQueueDLQ (AWS::SQS::Queue)" in capsys.readouterr().out
    assert change_sets(account) == before
    with pytest.raises(WrongCall):
        deploy_release(smaller(small_release), account, yes=False, json=True, pause=no_pause)
    out, errors = capsys.readouterr()
    assert out == ""
    assert "- delete: SalesQueueDLQ (AWS::SQS::Queue)" in errors
    assert deploy_release(smaller(small_release), account, yes=True, json=False, pause=no_pause) == 0
    assert "sales is UPDATE_COMPLETE" in capsys.readouterr().out


def test_a_diff_says_what_a_deployment_would_do(account: Account, small_release: Release, capsys: Capture) -> None:
    assert diff_release(small_release, account, json=False, pause=no_pause) == 0
    assert f"{len(small_release.template['Resources'])} changes\n" in capsys.readouterr().out
    deployed(small_release, account, capsys)
    assert diff_release(small_release, account, json=False, pause=no_pause) == 0
    assert capsys.readouterr().out == "nothing changes\n"
    assert diff_release(smaller(small_release), account, json=False, pause=no_pause) == 0
    out = capsys.readouterr().out
    assert out.startswith("- delete: SalesQueueDLQ (AWS::SQS::Queue)")
    assert ", 1 loss\n" in out


def test_a_user_who_interrupts_reads_that_aws_goes_on(
    account: Account, small_release: Release, capsys: Capture
) -> None:
    def client(service: str) -> Any:
        aws_client = account.client(service)

        def interrupt(**_: Any) -> None:
            raise KeyboardInterrupt

        aws_client.meta.events.register("after-call.cloudformation.ExecuteChangeSet", interrupt)
        return aws_client

    with pytest.raises(KeyboardInterrupt):
        deploy_release(small_release, replace(account, client=client), yes=True, json=False, pause=no_pause)
    assert "AWS goes on with sales by itself" in capsys.readouterr().err
    assert status("sales", account) is not None


def data(*named: str, asked: bool = True) -> DataDeletion:
    return DataDeletion(asked, frozenset(named))


def test_destroy_asks_and_keeps_the_data(account: Account, small_release: Release, capsys: Capture) -> None:
    deployed(small_release, account, capsys)
    sqs = account.client("sqs")
    for name in ("sales_sales", "sales_sales", "sales_sales_DLQ"):
        sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"], MessageBody="x")
    with pytest.raises(WrongCall, match=r"no terminal: Destroy sales in the account 123456789012, eu-central-1\?"):
        destroy_stack("sales", account, data(asked=False), yes=False, json=False, pause=no_pause)
    assert status("sales", account) is not None
    out = capsys.readouterr().out
    assert "3 messages in its queues would be lost: sales_sales (2), sales_sales_DLQ (1)\n  files that stay" in out
    assert destroy_stack("sales", account, data(asked=False), yes=True, json=False, pause=no_pause) == 0
    out = capsys.readouterr().out
    assert "  - SalesQueue (AWS::SQS::Queue)" in out
    assert "sales is destroyed\n  kept: dl-bronze-layer\n" in out
    assert destroy_stack("sales", account, data(asked=False), yes=False, json=False, pause=no_pause) == 0
    assert "there is no stack sales in the account 123456789012" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (data(), "name what is to be deleted, with all that is in it: --bucket dl-bronze-layer --bucket"),
        (data("dl-bronze-layer", asked=False), "add --delete-data"),
        (data("dl-gold-layer"), "the stack sales has no bucket 'dl-gold-layer'; it has: dl-bronze-layer, dl-"),
    ],
)
def test_the_data_to_delete_must_be_clear_before_anything_is_deleted(
    account: Account, small_release: Release, capsys: Capture, asked: DataDeletion, says: str
) -> None:
    deployed(small_release, account, capsys)
    with pytest.raises(WrongCall, match=says):
        destroy_stack("sales", account, asked, yes=True, json=False, pause=no_pause)
    assert status("sales", account) is not None


def test_data_is_deleted_where_it_is_named(account: Account, small_release: Release, capsys: Capture) -> None:
    deployed(small_release, account, capsys)
    account.client("s3").put_object(Bucket="dl-bronze-layer", Key="a", Body=b"1")
    assert destroy_stack("sales", account, data("dl-bronze-layer"), yes=True, json=True, pause=no_pause) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["destroyed"], document["deleted"]) == (True, ["dl-bronze-layer"])
    assert document["kept"] == ["dl-quarantine-layer", "dl-silver-layer"]
    left = {bucket["Name"] for bucket in account.client("s3").list_buckets()["Buckets"]}
    assert left >= {"dl-quarantine-layer", "dl-silver-layer"}
    assert "dl-bronze-layer" not in left


def on_a_terminal(script: str, types: str) -> str:
    """The output of a script while somebody types on a terminal, which shows the script's questions."""
    master, terminal = pty.openpty()
    try:
        os.write(master, types.encode())
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdin=terminal,
            stderr=terminal,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
    finally:
        os.close(terminal)
        os.close(master)
    return done.stdout.strip()


@pytest.mark.parametrize(("types", "agrees"), [("y\n", True), ("YES\n", True), ("\n", False), ("no\n", False)])
def test_a_person_is_asked(types: str, agrees: bool) -> None:
    script = "from silversmith.cli.deploy import agreed; print(agreed('Do it?', yes=False))"
    assert on_a_terminal(script, types) == str(agrees)


@pytest.mark.parametrize(("types", "agrees"), [("dl-bronze-layer\n", True), ("y\n", False)])
def test_a_buckets_name_is_typed(types: str, agrees: bool) -> None:
    script = "from silversmith.cli.deploy import DataDeletion as D; print(D(True).confirm('dl-bronze-layer'))"
    assert on_a_terminal(script, types) == str(agrees)


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    code, package = tmp_path / "pipeline.py", tmp_path / "package.py"
    code.write_text(PIPELINE)
    package.write_text("#")
    packages = {f"package{number}/__init__.py": package for number in range(9)}
    return Bundle({"pipeline.py": code}, packages, Runtime(), "requirements.txt")


def test_a_bundle_is_written_whole_or_in_two(tiny: Bundle, tmp_path: Path, capsys: Capture) -> None:
    tiny.write_whole(tmp_path / "dist/bundle.zip")
    split = tiny.write(tmp_path / "split")
    assert [path.name for path in split] == ["function.zip", "layer.zip"]
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["bundle.zip", "function.zip", "layer.zip"]
    bundling.show_bundle(tiny, split)
    out = capsys.readouterr().out
    assert "for Lambda's Python 3.13 on arm64; versions: requirements.txt" in out
    assert "  … and 2 smaller ones" in out
    assert "0.0 MiB unzipped, of 250 that Lambda takes" in out
    assert f"written: {tmp_path / 'split/layer.zip'}" in out
    result = bundling.bundle_document(tiny, split)
    assert result["size"] == sum(package["size"] for package in result["packages"])
    assert [Path(each["path"]).name for each in result["written"]] == ["function.zip", "layer.zip"]


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return str(tmp_path / "pipeline.py")


@pytest.mark.parametrize("command", ["bundle", "deploy", "diff", "destroy"])
def test_a_deployment_is_chosen_by_its_name(pipeline: str, capsys: Capture, command: str) -> None:
    assert call([command, pipeline, "--deployment", "prod"]) == WRONG_CALL
    assert "there is no deployment 'prod' in the pipeline's module; there are: test, deployment" in (
        capsys.readouterr().err
    )


def test_one_file_or_two(pipeline: str, capsys: Capture) -> None:
    assert call(["bundle", pipeline, "--output", "a.zip", "--split", "b"]) == WRONG_CALL
    assert "--output writes one file, --split two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "more", "says"),
    [("deploy", {}, "set AWS_REGION"), ("destroy", {"AWS_REGION": "eu-central-1"}, "set AWS_PROFILE")],
)
def test_the_error_without_an_account_says_how_to_get_one(
    pipeline: str, command: str, more: dict[str, str], says: str
) -> None:
    bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, **bare, **more}
    done = subprocess.run(
        [sys.executable, "-m", "silversmith.cli", command, pipeline],
        env={**nowhere, "AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == FAILED, done.stderr
    assert says in done.stderr


def test_the_stack_has_the_name_of_the_deployment(pipeline: str, aws: Any, capsys: Capture) -> None:
    environment = {**os.environ, **aws.environment}
    done = subprocess.run(
        [sys.executable, "-m", "silversmith.cli", "destroy", pipeline, "--deployment", "test"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout == "there is no stack test-sales in the account 123456789012, us-east-1: nothing was to be done\n"
    )


def test_the_layer_is_uploaded_once(account: Account, small_release: Release, capsys: Capture) -> None:
    deployed(small_release, account, capsys)
    assert Artefacts(account).has("layers/1.zip")
    changed = replace(small_release, parameters={**small_release.parameters, "CodeKey": "sales/2.zip"})
    assert deploy_release(changed, account, yes=False, json=False, pause=no_pause) == 0
    out = capsys.readouterr().out
    assert "the packages have not changed\nuploading the code" in out
    assert "sales is UPDATE_COMPLETE" in out
