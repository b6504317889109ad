"""What is judged of a machine, at each limit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from silversmith.operations.doctor import (
    Account,
    Clock,
    Concurrency,
    Disk,
    Facts,
    FileSystem,
    Package,
    State,
    Watching,
    judge,
    numbers,
)

GOOD = Facts(
    python=(3, 13, 1),
    packages=(Package("silversmith", "0.1.0", ""), Package("polars", "2.1.0", "2.1")),
    pipeline="shop, transforms: orders",
    watching=Watching(folders=12, watches=65_536, queued=16_384),
    disk=Disk(free=50_000_000_000, inodes=1_000_000),
    file_system=FileSystem("/data", {}),
    clock=Clock(1_767_355_200.0, 1_767_355_199.0, "orders/1.csv"),
    open_files=1024,
    account=Account("123456789012", "eu-central-1"),
    concurrency=Concurrency(wanted=200, reserved=20, limit=1000),
    has_installer=True,
)


def test_all_is_well() -> None:
    report = judge(GOOD)
    assert report.healthy
    assert {finding.state for finding in report.findings} == {State.OK}
    assert len(report.findings) == 11
    assert json.loads(json.dumps(report.to_dict()))["checks"][0] == {
        "name": "python", "state": "ok", "found": "3.13.1", "do": "",
    }  # fmt: skip


def test_what_was_not_looked_at_is_not_judged() -> None:
    report = judge(Facts(GOOD.python, GOOD.packages, GOOD.pipeline))
    assert [finding.name for finding in report.findings] == ["python", "packages", "pipeline"]


@pytest.mark.parametrize(
    ("changed", "check", "state", "told"),
    [
        ({"concurrency": Concurrency(1000, 900, 1000)}, "concurrency", "ok", "up to 1,000 invocations at once"),
        ({"concurrency": Concurrency(1001, 0, 1000)}, "concurrency", "warn", "Lambda refuses some"),
        ({"concurrency": Concurrency(901, 901, 1000)}, "concurrency", "fail", "100 must not be reserved"),
        ({"concurrency": Concurrency(100, 0, 10)}, "concurrency", "warn", "the account allows 10"),
        ({"concurrency": Concurrency(100, 0, None, "denied")}, "concurrency", "warn", "could not be asked: denied"),
        ({"python": (3, 10, 9)}, "python", "fail", "needs Python 3.11 or newer"),
        ({"python": (3, 11, 0)}, "python", "ok", ""),
        ({"packages": (Package("boto3", None, "1.40"),)}, "packages", "fail", "boto3: not installed"),
        (
            {"packages": (Package("boto3", "1.39.9", "1.40"),)},
            "packages",
            "fail",
            "pip install --upgrade 'boto3>=1.40'",
        ),
        ({"packages": (Package("boto3", "1.40", "1.40.0"),)}, "packages", "ok", ""),
        ({"pipeline": None, "pipeline_problem": "no file"}, "pipeline", "fail", "no file"),
        ({"account": Account(problem="there are no AWS credentials")}, "account", "fail", "no AWS credentials"),
        ({"has_installer": False}, "uv", "warn", "pip install uv"),
        ({"file_system": FileSystem("/nfs", {"flock": "No locks"})}, "file system", "fail", "/nfs: flock: No locks"),
        ({"file_system": FileSystem("/a", {}, ("silver",))}, "file system", "fail", "file system than /a: silver"),
        ({"disk": Disk(99_999_999, None)}, "disk", "fail", "make room"),
        ({"disk": Disk(100_000_000, None)}, "disk", "warn", "make room soon"),
        ({"disk": Disk(2_000_000_000, None)}, "disk", "ok", ""),
        ({"disk": Disk(9_000_000_000, 9_999)}, "disk", "warn", "only 9,999 more files"),
        ({"watching": Watching(1001, 1000, 16_384)}, "inotify", "fail", "max_user_watches=1048576"),
        ({"watching": Watching(1000, 1000, 16_384)}, "inotify", "warn", "max_user_watches=1048576"),
        ({"watching": Watching(800, 1000, 16_384)}, "inotify", "ok", ""),
        ({"watching": Watching(3_000_000, 1000, 16_384)}, "inotify", "fail", "max_user_watches=8388608"),
        ({"watching": Watching(1, 1000, 16_383)}, "inotify", "warn", "max_queued_events=16384"),
        ({"open_files": 255}, "open files", "fail", "ulimit -n 1024"),
        ({"open_files": 256}, "open files", "warn", "ulimit -n 1024"),
        ({"clock": Clock(1000.0, 1060.0, "a")}, "clock", "ok", ""),
        ({"clock": Clock(1000.0, 1061.0, "a.csv")}, "clock", "warn", "a.csv is of 61 s later"),
        ({"clock": Clock(1000.0, None)}, "clock", "ok", "1970-01-01 00:16:40 UTC"),
    ],
)
def test_each_limit(changed: dict[str, object], check: str, state: str, told: str) -> None:
    report = judge(replace(GOOD, **changed))  # type: ignore[arg-type]
    (found,) = [finding for finding in report.findings if finding.name == check]
    assert found.state == state
    assert told in f"{found.found} {found.do}"
    assert bool(found.do) == (state != "ok"), "what is wrong can be mended, what is right needs nothing"
    assert report.healthy == (state != "fail")
    assert [finding.name for finding in report.findings if finding.state != "ok"] == ([] if state == "ok" else [check])


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.1.0", (2, 1)), ("2.1", (2, 1)), ("3.0.0rc1", (3,)), ("1.40.2.post1", (1, 40, 2)), ("", ()), ("dev", ())],
)
def test_the_numbers_of_a_version(version: str, expected: tuple[int, ...]) -> None:
    assert numbers(version) == expected
