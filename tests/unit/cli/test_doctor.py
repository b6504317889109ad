"""``silversmith doctor``, called as the shell would call it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

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
    assert list(checks) == ["python", "packages", "pipeline", "account", "concurrency", "uv", "silver", "chain"]
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
