"""``silversmith infer``, as a person or a program calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from silversmith.cli.application import call
from silversmith.operations.check import NO_TRANSFORM, Job, plan
from silversmith.pipeline import load


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.csv"
    path.write_text("id,name\n1,x\n2,y\n")
    return path


def test_it_is_printed(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["infer", "a.csv"]) == 0
    out, errors = capsys.readouterr()
    assert errors == ""
    names: dict[str, object] = {}
    exec(compile(out, "a", "exec"), names)
    assert "contract" in names


def test_it_is_written_and_never_over_what_is_there(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["infer", "a.csv", "--output", "orders.py", "--name", "orders"]) == 0
    out, errors = capsys.readouterr()
    assert (out, errors) == ("", "silversmith: wrote orders.py; it is a pipeline\n")
    written = Path("orders.py").read_text()
    assert "orders = Contract(" in written
    assert call(["infer", "a.csv", "--output", "orders.py"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert Path("orders.py").read_text() == written


def test_as_json(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["infer", "a.csv", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(column["name"], column["type"]) for column in document["columns"]] == [("id", "Int64"), ("name", "String")]
    assert document["files"][0] == {**document["files"][0], "file": "a.csv", "rows": 2, "malformed": 0, "format": "csv"}
    assert document["written"] is None
    assert "contract = Contract(" in document["source"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "requires an argument"),
        (("nowhere.csv",), 2, "does not exist"),
        (("a.csv", "--name", "class"), 2, "no name of a variable"),
        (("a.csv", "--name", "a b"), 2, "no name of a variable"),
        (("bad.json",), 1, "UnreadableJson"),
    ],
)
def test_invalid_arguments_are_refused(
    sample: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    Path("bad.json").write_text("{")
    assert call(["infer", *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_file_that_no_transform_takes_keeps_its_name_and_one_row_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.py").write_text(
        "from silversmith import Pipeline\n"
        "pipeline = Pipeline('p')\n"
        "pipeline.transform('orders/*.csv', name='orders')(lambda rows: rows)\n"
    )
    (tmp_path / "new.tsv").write_text("a\tb\n1\t2\n")
    assert call(["infer", "new.tsv", "--pipeline", "pipeline.py"]) == 0
    out = capsys.readouterr().out
    assert "# The sample: 1 row. " in out
    assert "# - new.tsv: 1 row; csv (" in out
    (job,) = plan([Path("new.tsv")], load("pipeline.py"))
    assert job == Job(str(Path("new.tsv")), "new.tsv", NO_TRANSFORM)
