"""Every command, called as the shell would call it, over a lake that a real engine has run over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Call

PIPELINE = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

contract = Contract(schema={"id": pl.Int64}, rules={"id is positive": pl.col("id") > 0})

@pipeline.transform("orders/*.csv", contract=contract, max_receive_count=1)
def orders(rows):
    if rows.collect()["id"].to_list() == [13]:
        raise RuntimeError("thirteen")
    return rows
"""


def document(result: tuple[int, str, str]) -> Any:
    return json.loads(result[1])


def land(folder: Path, name: str, text: str) -> None:
    path = folder / "lake/dl-bronze-layer/orders" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_day_with_the_commands(call: Call, tmp_path: Path) -> None:
    land(tmp_path, "good.csv", "id\n1\n2\n")
    land(tmp_path, "partly.csv", "id\n1\n-2\nx\n")
    land(tmp_path, "broken.csv", "name\nx\n")
    land(tmp_path, "unlucky.csv", "id\n13\n")
    code, out, _ = call("run", "--until-idle", "--workers", "1", "--json")
    report = json.loads(out)
    assert code == 1
    assert {name: report[name] for name in ("found", "done", "rejected", "quarantined", "dead", "failed_files")} == {
        "found": 4,
        "done": 2,
        "rejected": 2,
        "quarantined": 1,
        "dead": 1,
        "failed_files": 2,
    }
    _statuses(call)
    _traces(call)
    _failures(call)
    _corrected(call, tmp_path)


def _statuses(call: Call) -> None:
    (transform,) = document(call("status", "--json"))["transforms"]
    assert (transform["name"], transform["done"], transform["dead"], transform["quarantined"]) == ("orders", 2, 1, 1)
    code, out, _ = call("status")
    assert code == 0
    assert "no engine runs" in out


def _traces(call: Call) -> None:
    good = document(call("trace", "orders/good.csv", "--json"))
    assert [step["room"] for step in good["versions"][0]["steps"]] == ["bucket", "rule", "topic", "queue", "function"]
    assert good["transforms"][0]["state"] == "current"
    assert good["transforms"][0]["silver"]["lineage"]["rows_written"] == 2
    broken = document(call("trace", "orders/broken.csv", "--json"))["transforms"][0]
    assert (broken["state"], broken["error"]["code"]) == ("quarantined", "MissingColumn")
    code, _, errors = call("trace", "orders/god.csv")
    assert code == 1
    assert "orders/good.csv" in errors


def _failures(call: Call) -> None:
    failures = document(call("failures", "pipeline.py", "--json"))
    assert [item["key"] for item in failures["quarantined"]] == ["orders/broken.csv"]
    assert [(item["key"], item["kind"]) for item in failures["dead"]] == [("orders/unlucky.csv", "queue")]
    assert "thirteen" in failures["dead"][0]["error"]["message"]
    (rejected,) = document(call("failures", "--rejected", "--json"))["rejected"]
    assert (rejected["key"], rejected["rows"], rejected["rows_read"]) == ("orders/partly.csv", 2, 3)
    code, out, _ = call("failures", "--key", "nothing/*")
    assert (code, "broken" in out) == (0, False)


def _corrected(call: Call, folder: Path) -> None:
    (folder / "pipeline.py").write_text(PIPELINE.replace("[13]", "[14]"))
    land(folder, "broken.csv", "id\n1\n")
    assert document(call("redrive", "--dry-run", "--json"))["found"] == 2
    assert document(call("redrive", "--json"))["sent"] == 2
    assert call("run", "--until-idle", "--workers", "1")[0] == 0
    failures = document(call("failures", "--json"))
    assert (failures["quarantined_total"], failures["dead_total"]) == (0, 0)
    unlucky = document(call("trace", "orders/unlucky.csv", "--json"))
    assert len(unlucky["versions"]) == 1, "what was redriven is still the same version"


def test_failures_are_named_by_cause(call: Call, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        land(tmp_path, f"{name}.csv", "id\n13\n")
    code, out, _ = call("run", "--until-idle", "--workers", "1")
    assert code == 1
    assert "and 2 other files  (orders)" in out
    assert "pipeline.py:12 in orders(): RuntimeError: thirteen" in out
    _, out, _ = call("failures")
    assert out.count("RuntimeError: thirteen") == 1
    assert "and so did 2 other files: orders/" in out


def test_a_strict_run_fails_where_a_row_was_rejected(call: Call, tmp_path: Path) -> None:
    land(tmp_path, "partly.csv", "id\n1\n-2\n")
    assert call("run", "--until-idle", "--workers", "1", "--strict")[0] == 1
    assert call("run", "--until-idle", "--workers", "1", "--strict")[0] == 0, "nothing is new"


def test_put_copies_files_and_folders_and_says_who_takes_them(call: Call, tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/a.csv").write_text("id\n1\n")
    (tmp_path / "in/deep/b.csv").write_text("id\n2\n")
    uploads = document(call("put", "in", "--prefix", "orders", "--json"))["put"]
    assert [(item["key"], item["transforms"]) for item in uploads] == [
        ("orders/a.csv", ["orders"]),
        ("orders/deep/b.csv", ["orders"]),
    ]
    assert (tmp_path / "lake/dl-bronze-layer/orders/deep/b.csv").read_text() == "id\n2\n"
    code, _, errors = call("put", "in/a.csv", "--key", "elsewhere.csv")
    assert code == 0
    assert "elsewhere.csv" in errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("put", "missing.csv"), "missing.csv"),
        (("put", "pipeline.py", "pipeline.py", "--key", "k"), "--key"),
        (("put", "pipeline.py", "--key", "x" * 1025), "1,024"),
        (("run", "nowhere.py"), "nowhere.py"),
        (("run", "--workers", "0"), "workers"),
        (("run", "--untl-idle"), "--until-idle"),
        (("rum",), "run"),
        (("replay", "**", "--lake", "lake"), "*"),
        (("trace",), "KEY"),
    ],
)
def test_a_wrong_call_is_exit_code_2_and_says_what_to_do(call: Call, arguments: tuple[str, ...], says: str) -> None:
    code, out, errors = call(*arguments)
    assert (code, out) == (2, "")
    assert says in errors


def test_a_definition_that_cannot_work_says_where(call: Call, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE.replace("orders/*.csv", "orders/**.csv"))
    code, _, errors = call("run", "--until-idle")
    assert code == 2
    assert "pipeline.py" in errors
    assert "line 9" in errors or ":9" in errors


def test_the_template_is_json_and_goes_to_a_file(call: Call, tmp_path: Path) -> None:
    printed = document(call("template"))
    assert call("template", "pipeline.py", "--output", "t.json")[0] == 0
    assert json.loads((tmp_path / "t.json").read_text()) == printed
    assert "AWS::Lambda::Function" in {resource["Type"] for resource in printed["Resources"].values()}


def test_the_template_is_that_of_the_deployment_that_is_named(call: Call, tmp_path: Path) -> None:
    stages = (
        "from silversmith import Deployment\nprint('noise')\ntest = Deployment(prefix='test')\nlive = Deployment()\n"
    )
    (tmp_path / "pipeline.py").write_text(PIPELINE + stages)
    names = [
        document(call("template", *option))["Resources"]["Topic"]["Properties"]["TopicName"]
        for option in (("--deployment", "test"), ("--deployment", "live"))
    ]
    assert names == ["test-shop_Topic", "shop_Topic"]
    for option, says in (((), "say which deployment"), (("--deployment", "prod"), "there are: test, live")):
        code, out, errors = call("template", *option)
        assert (code, out) == (2, "")
        assert says in errors


def test_functions_get_the_place_of_the_pipeline(call: Call, tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(PIPELINE)
    function = document(call("template", "jobs.py"))["Resources"]["OrdersFunction"]["Properties"]
    assert function["Environment"]["Variables"]["SILVERSMITH_PIPELINE"] == "jobs:pipeline"


def test_no_escape_reaches_a_pipe_and_hostile_names_are_shown_escaped(call: Call, tmp_path: Path) -> None:
    land(tmp_path, "evil\x1b[2J[red]\u202e.csv", "id\n1\n")
    outputs = [
        call("run", "--until-idle", "--workers", "1"),
        call("trace", "orders/evil\x1b[2J[red]\u202e.csv"),
        call("status"),
    ]
    for code, out, errors in outputs:
        assert code == 0
        assert "\x1b" not in out + errors
        assert "\u202e" not in out + errors
    assert "[red]" in outputs[1][1]


def test_before_the_first_run_there_is_nothing_and_it_says_so(call: Call) -> None:
    assert "no lake" in call("status")[2]
    assert call("put", "pipeline.py", "--key", "orders/a.csv")[0] == 0
    assert "no engine ever ran" in call("status")[1]
    assert document(call("failures", "--json"))["quarantined_total"] == 0
