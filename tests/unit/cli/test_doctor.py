"""``silversmith doctor``, called as the shell would call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from silversmith.cli.application import call

Call = Callable[..., tuple[int, str]]

LOCAL = ["python", "packages", "pipeline", "file system", "disk", "inotify", "open files", "clock"]


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.py").write_text(
        'from silversmith import Pipeline\npipeline = Pipeline("shop")\n\n'
        '@pipeline.transform("*.csv")\ndef orders(rows):\n    return rows\n'
    )

    def run(*arguments: str) -> tuple[int, str]:
        code = call(["doctor", *arguments])
        return code, capsys.readouterr().out

    return run


def test_this_machine_is_well(doctor: Call, tmp_path: Path) -> None:
    code, out = doctor("--json")
    report = json.loads(out)
    assert (code, report["healthy"]) == (0, True)
    assert set(LOCAL) - {"inotify"} <= {check["name"] for check in report["checks"]} <= set(LOCAL)
    assert report["checks"][2]["found"] == "shop, transforms: orders"
    assert {path.name for path in tmp_path.iterdir()} == {"pipeline.py"}, "it makes no lake"


def test_an_invalid_pipeline_fails_and_the_rest_is_checked(doctor: Call) -> None:
    code, out = doctor("missing.py")
    assert code == 1
    assert "fail  pipeline: there is no file missing.py" in out
    assert "→ correct it, or name another with --pipeline" in out
    assert "rename, fsync and flock work" in out


def test_the_account(doctor: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "secret"), ("REGION", "eu-central-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        code, out = doctor("--target", "aws", "--json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert list(checks) == ["python", "packages", "pipeline", "account", "uv", "concurrency", "silver", "chain"]
    assert (code, checks["account"]["found"]) == (0, "123456789012 in eu-central-1")


def test_no_account(doctor: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    code, out = doctor("--target", "aws")
    assert code == 1
    assert "fail  account: there is no AWS region: set AWS_REGION" in out
    assert "→ name the region, and run `silversmith doctor` again" in out
    assert "sign in" not in out


def test_options_that_exclude_each_other(doctor: Call) -> None:
    assert doctor("--endpoint-url", "http://localhost:1")[0] == 2


SECRETS = """
from silversmith import Deployment, Pipeline, Secret

pipeline = Pipeline("shop")
test = Deployment(prefix="test")
places = {
    "token": Secret(parameter="/{stack}/token"),
    "api": Secret(secret="{stack}/api"),
    "gone": Secret(parameter="/{stack}/gone"),
    "old": Secret(secret="{stack}/old"),
}

@pipeline.transform("*.csv", secrets=places)
def orders(rows, context):
    return rows
"""


def test_the_secrets_of_a_stack_are_there_or_named(
    doctor: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pipeline.py").write_text(SECRETS)
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "secret"), ("REGION", "eu-central-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        parameters, secrets = (boto3.client(name, region_name="eu-central-1") for name in ("ssm", "secretsmanager"))
        parameters.put_parameter(Name="/test-shop/token", Value="t0p", Type="SecureString")
        for name in ("api", "old"):
            secrets.create_secret(Name=f"test-shop/{name}", SecretString="t0p")
        secrets.delete_secret(SecretId="test-shop/old")
        code, out = doctor("--target", "aws", "--deployment", "test")
        assert code == 1
        gone, old = (line for line in out.splitlines() if "secrets:" in line)
        assert gone.startswith("fail  secrets: orders: the secret 'gone' is not there: /test-shop/gone in ssm. Put it")
        assert gone.endswith("aws ssm put-parameter --type SecureString --name /test-shop/gone --value …")
        assert old.startswith(
            "fail  secrets: orders: the secret 'old' (test-shop/old in Secrets Manager) is marked for"
        )
        assert old.endswith("Take that back: aws secretsmanager restore-secret --secret-id test-shop/old")
        secrets.restore_secret(SecretId="test-shop/old")
        parameters.put_parameter(Name="/test-shop/gone", Value="t0p", Type="String")
        code, out = doctor("--target", "aws", "--deployment", "test")
        assert code == 0
        assert "ok    secrets: 4 secrets of the transforms: there" in out


def test_the_stand_ins_of_secrets_on_this_machine(
    doctor: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pipeline.py").write_text(SECRETS)
    (tmp_path / ".secrets.env").write_text("api=a\ngone=b\nold=c\n")
    code, out = doctor()
    assert code == 1
    assert (
        f"fail  secrets: orders: the secret 'token' has no value on this machine: write token=… into {tmp_path}" in out
    )
    monkeypatch.setenv("SILVERSMITH_SECRET_TOKEN", "d")
    assert "ok    secrets: 4 secrets of the transforms: there" in doctor()[1]
