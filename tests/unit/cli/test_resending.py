"""The commands that send again: what they print, what they send, and what they say when they are called wrongly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from silversmith.cli.application import call
from silversmith.local.lake import LakeLock
from silversmith.pipeline import Pipeline, load

if TYPE_CHECKING:
    from tests.unit.conftest import Bench

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv", contract=Contract(schema={"x": pl.Int64}))
def orders(rows):
    return rows

@pipeline.transform("buggy/*.csv", max_receive_count=1)
def buggy(rows):
    raise RuntimeError("a bug")
"""


DAY = 86_400


@pytest.fixture
def bench(tmp_path: Path, make: Callable[[Pipeline], Bench]) -> Bench:
    """A lake in which one file is done, one lost, one in quarantine, one in a dead-letter queue, and one an orphan."""
    (tmp_path / "shop_pipeline.py").write_text(PIPELINE)
    result = make(load(str(tmp_path / "shop_pipeline.py")))
    result.now = time.time() - 10 * DAY
    result.land("orders/done.csv", "orders/gone.csv", "buggy/a.csv")
    result.land("orders/bad.csv", text="y\n1\n")
    result.work()
    result.lake.bronze.delete("orders/gone.csv")
    result.land("orders/lost.csv")
    result.lose()
    return result


class Command:
    """Calls the command line over a bench."""

    def __init__(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        self._options = [f"--lake={bench.folder.path}"]
        self._pipeline = str(bench.folder.path.parent / "shop_pipeline.py")
        self._capsys = capsys
        self.err = ""

    def __call__(self, name: str, *arguments: str, code: int = 0) -> str:
        named = [self._pipeline] if name == "reconcile" else [f"--pipeline={self._pipeline}"]
        exit_code = call([name, *arguments, *named, *self._options])
        captured = self._capsys.readouterr()
        self.err = captured.err
        assert exit_code == code, captured
        return captured.out

    def json(self, name: str, *arguments: str) -> Any:
        return json.loads(self(name, *arguments, "--json"))


@pytest.fixture
def command(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(bench, capsys)


BEFORE = {"shop_buggy_DLQ": 1}


def test_reconcile_names_what_it_sends(bench: Bench, command: Command) -> None:
    out = command("reconcile")
    assert "missing   orders  orders/lost.csv  (sent)\n" in out
    assert "missing   buggy  buggy/a.csv  (a message of it exists already)\n" in out
    assert "orphaned  orders  orders/gone.csv  (orders/orders/gone.csv.parquet)\n" in out
    assert "5 keys looked at, 1 sent\n" in out
    assert "silversmith redrive" in out
    assert "no engine runs" in command.err
    assert bench.depths() == {**BEFORE, "shop_orders": 1}


def test_reconcile_as_json(bench: Bench, command: Command) -> None:
    report = command.json("reconcile", "--dry-run", "--limit=1")
    assert (report["dry_run"], report["checked"], report["sent"]) == (True, 5, 0)
    assert (report["found"], report["waiting"], report["orphaned"]) == (1, 1, 1)
    assert report["kinds"] == {"missing": 2, "orphaned": 1}
    assert [(item["key"], item["kind"], item["what"]) for item in report["keys"]] == [
        ("orders/lost.csv", "missing", "found")
    ]
    assert bench.depths() == BEFORE


def test_reconcile_of_one_transform(command: Command) -> None:
    assert command.json("reconcile", "--transform=buggy")["checked"] == 1
    command("reconcile", "--transform=other", code=2)
    assert "has no transform 'other'" in command.err


def test_redrive_names_what_it_tries_again(bench: Bench, command: Command) -> None:
    out = command("redrive")
    assert "orders/bad.csv  (orders, quarantine: MissingColumn" in out
    assert "buggy/a.csv  (buggy, queue: TransformError" in out
    assert "2 failures tried again\n" in out
    assert "no engine runs" in command.err
    assert bench.depths() == {"shop_orders": 1, "shop_buggy": 1}


def test_redrive_as_json(bench: Bench, command: Command) -> None:
    report = command.json("redrive", "--dry-run", "--key=buggy/*")
    assert (report["found"], report["sent"], report["lost"]) == (1, 0, 0)
    assert [(item["key"], item["where"], item["code"]) for item in report["failures"]] == [
        ("buggy/a.csv", "queue", "TransformError")
    ]
    assert bench.depths() == BEFORE


@pytest.mark.parametrize(
    ("option", "number"),
    [
        ("--transform=orders", 1),
        ("--error=missingcolumn", 1),
        ("--limit=1", 1),
        ("--older-than=1d", 2),
        ("--newer-than=1d", 0),
    ],
)
def test_redrive_chooses(command: Command, option: str, number: int) -> None:
    """All of it failed ten days ago."""
    assert command.json("redrive", "--dry-run", option)["found"] == number


def test_redrive_with_nothing_to_do(command: Command) -> None:
    assert command("redrive", "--error=NoSuchError") == "nothing failed that these options choose\n"


def test_replay_names_what_it_sends(bench: Bench, command: Command) -> None:
    out = command("replay", "orders/d*")
    assert out.splitlines()[:2] == ["orders/done.csv  (orders)", "1 file sent"]
    assert "--force" in out
    assert bench.depths() == {**BEFORE, "shop_orders": 1}
    assert [report.outcomes[0].verdict for report in bench.work()] == ["duplicate"]


def test_replay_with_force_makes_silver_again(bench: Bench, command: Command) -> None:
    before = bench.lineage("orders", "orders/done.csv")
    out = command("replay", "orders/done.csv", "--force")
    assert "--force" not in out
    bench.now += 10 * DAY + 60
    assert [report.outcomes[0].verdict for report in bench.work()] == ["committed"]
    assert bench.lineage("orders", "orders/done.csv").committed_at > before.committed_at


def test_replay_as_json(bench: Bench, command: Command) -> None:
    report = command.json("replay", "orders/*", "--dry-run")
    assert (report["found"], report["sent"]) == (3, 0)
    assert [item["key"] for item in report["keys"]] == ["orders/bad.csv", "orders/done.csv", "orders/lost.csv"]
    assert command.json("replay", "orders/*", "--changed")["found"] == 0
    assert command.json("replay", "orders/*", "--since=1h")["found"] == 3
    assert command.json("replay", "orders/*", "--until=1h")["found"] == 0
    assert bench.depths() == {**BEFORE, "shop_orders": 3}


def test_what_goes_on_sends_the_rest(bench: Bench, command: Command) -> None:
    report = command.json("replay", "orders/*", "--after=orders/orders/bad.csv", "--rate=1000")
    assert [item["key"] for item in report["keys"]] == ["orders/done.csv", "orders/lost.csv"]
    assert (report["stopped"], report["again"]) == ("", "")
    assert bench.depths() == {**BEFORE, "shop_orders": 2}
    assert command.json("redrive", "--after=orders/orders/bad.csv", "--dry-run")["found"] == 1, "the dead message"
    report = command.json("reconcile", "--after=orders/orders/done.csv", "--dry-run")
    assert [item["key"] for item in report["keys"]][:1] == ["orders/lost.csv"]


def test_replay_of_nothing(command: Command) -> None:
    assert command("replay", "nothing/*") == ""
    assert "there is no such file" in command.err


def test_an_engine_that_runs_will_do_it(bench: Bench, command: Command) -> None:
    lock = LakeLock(bench.folder)
    try:
        command("reconcile")
    finally:
        lock.release()
    assert command.err == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["redrive", "--older-than=soon"], "--older-than 'soon' is no time"),
        (["redrive", "--key=a?"], "--key: "),
        (["replay", "**"], "PATTERN: "),
        (["replay", "*", "--since=noon"], "--since 'noon' is no time"),
        (["replay"], "PATTERN"),
        (["reconcile", "--limit=-1"], "--limit"),
        (["replay", "*", "--rate=0"], "--rate"),
        (["redrive", "--max-failures=2"], "--max-failures"),
        (["redrive", "--after=orders"], "--after 'orders' is no place to go on from"),
        (["replay", "*", "--after=other/a.csv"], "the transform other, which the pipeline has not"),
        (["reconcile", "--transform=buggy", "--after=orders/a.csv"], "--transform names another one"),
    ],
)
def test_wrong_calls(command: Command, arguments: list[str], says: str) -> None:
    command(*arguments, code=2)
    assert says in command.err


def test_a_lake_in_which_no_engine_ever_ran(bench: Bench, command: Command) -> None:
    bench.journal.close()
    for path in bench.folder.state.glob("journal.db*"):
        path.unlink()
    command("reconcile", code=2)
    assert "it finds every file in bronze by itself" in command.err
    report = command.json("reconcile", "--dry-run")
    assert (report["found"], report["given_up"]) == (1, 1), "the code failed on the other one"
    report = command.json("reconcile", "--dry-run", "--dead")
    assert (report["found"], report["given_up"]) == (2, 0)
    assert "1 of them are left alone" in command("reconcile", "--dry-run")
