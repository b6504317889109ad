"""Every log entry is one line of JSON with the whole message."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.runtime.telemetry import JsonLines, request, set_up


def written(**attributes: Any) -> dict[str, Any]:
    line = JsonLines().format(logging.makeLogRecord({"name": "shop", "levelname": "INFO", **attributes}))
    assert line.isascii()
    assert line.isprintable()
    document: dict[str, Any] = json.loads(line)
    return document


@given(st.text(), st.text())
def test_no_key_breaks_a_line(message: str, key: str) -> None:
    line = written(msg="%s", args=(message,), key=key)
    assert (line["message"], line["key"]) == (message, key)


@given(st.dictionaries(st.text(min_size=1), st.none() | st.text() | st.lists(st.integers())))
def test_extra_stands_beside_and_never_in_the_place_of_ours(extra: dict[str, Any]) -> None:
    mine = {"msg": "m", "args": (), "created": 0.0, "levelname": "INFO", "name": "shop", "exc_info": None}
    line = written(**{**{f"x{name}": value for name, value in extra.items()}, **mine, "logger": "x", "level": "x"})
    assert (line["logger"], line["level"], line["timestamp"]) == ("shop", "INFO", "1970-01-01T00:00:00.000+00:00")
    assert {f"x{name}" for name in extra} <= line.keys()


def test_an_error_with_its_traceback_is_still_one_line() -> None:
    try:
        raise ValueError("a\nb\u2028\x1b[31m")
    except ValueError:
        line = written(msg="failed", exc_info=sys.exc_info())
    assert line["errorType"] == "ValueError"
    assert line["errorMessage"] == "a\nb\u2028\x1b[31m"
    assert any("test_lines.py" in part for part in line["stackTrace"])


def test_arguments_that_do_not_fit_are_logged_rather_than_raised() -> None:
    assert written(msg="%d files", args=("some",))["message"].startswith("%d files (TypeError")


def test_the_request_is_the_invocation_s() -> None:
    assert "requestId" not in written(msg="before")
    with request(SimpleNamespace(aws_request_id="4f-1")):
        assert written(msg="in")["requestId"] == "4f-1"
    assert "requestId" not in written(msg="after")


def test_values_that_are_no_json_are_logged_as_text() -> None:
    assert written(msg="m", where={1})["where"] == "{1}"


def test_lambda_s_own_handler_goes(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.Logger("root")
    root.addHandler(logging.StreamHandler(sys.stderr))
    set_up({"SILVERSMITH_LOG_LEVEL": "debug"}, root)
    root.debug("hello\nworld")
    out, err = capsys.readouterr()
    assert json.loads(out)["message"] == "hello\nworld"
    assert out.count("\n") == 1
    assert not err


@pytest.mark.parametrize("level", ["", "LOUD"])
def test_the_level_is_info_by_default(level: str) -> None:
    root = logging.Logger("root")
    set_up({"SILVERSMITH_LOG_LEVEL": level}, root)
    assert root.level == logging.INFO


def test_the_handler_brings_nothing_of_what_is_only_for_laptops() -> None:
    """A cold start pays for every import."""
    names = "opentelemetry prometheus_client rich cyclopts sqlite3 watchdog troposphere silversmith.operations"
    ours = "silversmith.function.handler, silversmith.reconcile.handler"
    code = f"import sys, {ours}; print(*set({names.split()}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
