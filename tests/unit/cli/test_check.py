"""``silversmith check``, as a person or a program calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from silversmith.cli.application import call


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    returncode: int
    stdout: str
    stderr: str


Check = Callable[..., Done]


@pytest.fixture
def silversmith(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: Done(call(["check", *arguments]), *capsys.readouterr())


def test_good_files(silversmith: Check, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("stadt\nZürich\nKöln\n".encode("latin-1"))
    done = silversmith("a.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("a.csv  silver: 2 rows; csv (")
    assert "encoding 'latin-1', confidence 0.9" in done.stdout


def test_cleaned_names_and_doubts_are_reported(silversmith: Check, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("order\u200b; price \nx;1.234;\ny;2.500;\n")
    report = silversmith("a.csv").stdout
    assert "renamed {'order': 'order\\u200b', 'price': ' price '}" in report
    assert "trailing 1" in report
    assert 'price: 1.234 may be 1234; if so: Csv(decimal_comma=True, thousands=".")' in report.replace("\n", " ")
    assert 'Csv(thousands="")' in report


def test_a_marker_is_passed_over(silversmith: Check, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "_SUCCESS").touch()
    done = silversmith("f")
    assert (done.returncode, done.stdout) == (
        0,
        "f/_SUCCESS  passed over: it stands for a folder or a job, and is no data\n",
    )


def test_bad_files_say_what_where_and_what_to_do(silversmith: Check, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1,\n2")
    (tmp_path / "b.csv").write_text("a,b\n1,2\n3\n")
    done = silversmith(".")
    assert done.returncode == 1
    assert done.stderr == ""
    first, *rest = done.stdout.splitlines()
    assert first == "a.json  quarantine: UnreadableJson"
    assert "line 2" in done.stdout
    assert "RFC 8259" in done.stdout
    assert rest[-3:] == [
        "b.csv  silver: 1 row, 1 row rejected; csv (separator ',', quote '\"', encoding 'utf-8', confidence 1.0)",
        "  row 2: line 3: has 1 field, the header has 2",
        "2 checks: 1 silver (1 partial), 1 quarantine",
    ]


EXACT = ["file", "outcome", "rows", "rejected", "error", "format", "dialect"]


def test_json_is_an_object_on_a_line_for_each_file(silversmith: Check, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a;b\n1;2\n3\n4;5\n")
    (tmp_path / "b.json").write_text('{"a":1,}')
    done = silversmith("a.csv", "b.json", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    good, bad = map(json.loads, done.stdout.splitlines())
    assert list(good) == list(bad) == EXACT
    assert {name: good[name] for name in EXACT[:-1]} == {
        "file": "a.csv", "outcome": "silver", "rows": 2, "rejected": 1, "error": None, "format": "csv",
    }  # fmt: skip
    assert good["dialect"]["separator"] == ";"
    assert (bad["outcome"], bad["rows"], bad["rejected"], bad["format"]) == ("quarantine", 0, 0, "json")
    assert (bad["error"]["code"], bad["error"]["place"]["line"]) == ("UnreadableJson", 1)
    assert all(bad["error"][name] for name in ("message", "hint"))


def test_with_a_pipeline(silversmith: Check, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(
        "from silversmith import Pipeline\n"
        "pipeline = Pipeline('p')\n"
        "@pipeline.transform('*.csv')\n"
        "def rows(rows):\n"
        "    return rows\n"
    )
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.json").write_text("[]")
    done = silversmith("a.csv", "b.json", "--pipeline", "pipeline.py")
    assert done.returncode == 1
    assert "a.csv  (rows, key a.csv)  silver: 1 row; csv" in done.stdout
    assert "b.json  unmatched: NoTransform" in done.stdout
    done = silversmith("a.csv", "b.json", "--pipeline", "pipeline.py", "--json")
    good, bad = map(json.loads, done.stdout.splitlines())
    assert good == {**good, "file": "a.csv", "outcome": "silver", "rows": 1, "transform": "rows", "key": "a.csv"}
    assert (bad["outcome"], bad["error"]["code"]) == ("unmatched", "NoTransform")


SHOP = """
import polars as pl
from silversmith import Contract, Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv", contract=Contract({"id": pl.Int64}))
def orders(rows):
    return rows

@pipeline.transform("sales/*.csv", lookups=["names.csv"])
def sales(rows, context):
    return rows.join(context.read("names.csv"), on="id")

@pipeline.transform("broken/*.csv")
def broken(rows):
    return rows.with_columns(total=pl.col("nothing") * 2)
"""


@pytest.fixture
def shop(silversmith: Check, tmp_path: Path) -> Path:
    """A project, and files outside of it."""
    (tmp_path / "pipeline.py").write_text(SHOP)
    for name, text in {
        "in/orders/1.csv": "id\n1\n",
        "in/sales/1.csv": "id\n1\n",
        "in/ref/names.csv": "id,name\n1,Ada\n",
        "in/broken/1.csv": "id\n1\n",
        "in/broken/2.csv": "id\n2\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_pipeline_is_pipeline_py_and_the_key_is_an_end_of_the_path(silversmith: Check, shop: Path) -> None:
    for path in ("in/orders/1.csv", str(shop / "in/orders/1.csv")):
        done = silversmith(path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{path}  (orders, key orders/1.csv)  silver: 1 row; csv")
    assert "(orders" not in silversmith("in/orders/1.csv", "--plain").stdout


@pytest.mark.full
def test_the_key_and_the_transform_can_be_named(silversmith: Check, shop: Path) -> None:
    (shop / "x.csv").write_text("id\n1\nx\n")
    done = silversmith("x.csv")
    assert done.returncode == 1
    assert "--key" in done.stdout
    assert "orders/*.csv" in done.stdout
    assert "x.csv  (orders, key orders/7.csv)  silver: 1 row, 1 row rejected" in (
        silversmith("x.csv", "--key", "orders/7.csv").stdout
    )
    assert "x.csv  (orders, key x.csv, which orders/*.csv does not match)  silver: 1 row" in (
        silversmith("x.csv", "--transform", "orders").stdout
    )
    for arguments in (
        ("x.csv", "in", "--key", "a"),
        ("x.csv", "--transform", "odrers"),
        ("x.csv", "--plain", "--transform", "orders"),
    ):
        assert silversmith(*arguments).returncode == 2, arguments


@pytest.mark.full
def test_a_lookup_is_taken_from_the_files(silversmith: Check, shop: Path) -> None:
    done = silversmith("in/sales")
    assert done.returncode == 1
    assert "failed: LookupMissing" in done.stdout
    assert "name it among the files" in done.stdout
    done = silversmith("in/sales", "in/ref")
    assert (done.returncode, done.stderr) == (0, "")
    assert "in/sales/1.csv  (sales, key sales/1.csv)  silver: 1 row" in done.stdout
    assert "in/ref/names.csv  lookup of sales: names.csv" in done.stdout
    lookup = json.loads(silversmith("in/sales", "in/ref", "--json").stdout.splitlines()[1])
    assert (lookup["outcome"], lookup["lookup_of"]) == ("lookup", ["sales"])


def test_a_bug_is_not_called_quarantine_and_is_shown_once(silversmith: Check, shop: Path) -> None:
    done = silversmith("in/broken")
    assert done.returncode == 1
    assert "quarantine" not in done.stdout
    first, what, *_, second, total = done.stdout.splitlines()
    assert first == "in/broken/1.csv  (broken, key broken/1.csv)  failed: TransformError"
    assert what.startswith("  pipeline.py:15 in broken(): ColumnNotFoundError: unable to find column")
    assert second.endswith("failed: TransformError, as in/broken/1.csv")
    assert total == "2 checks: 2 failed"
    assert "context stack" not in done.stdout


def test_wrong_calls(silversmith: Check, tmp_path: Path) -> None:
    for arguments in ((), ("nowhere.csv",), ("--pipeline", "nowhere.py", "."), (str(tmp_path),), ("--nonsense",)):
        done = silversmith(*arguments)
        assert done.returncode == 2, arguments
        assert done.stdout == ""
        assert "Traceback" not in done.stderr


def test_hostile_names_are_shown_escaped(silversmith: Check, tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J\n.csv").write_text("a\n1\n")
    done = silversmith(".")
    assert done.stdout.startswith("a\\x1b[2J\\n.csv  silver")
