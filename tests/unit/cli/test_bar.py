"""Bars are for terminals; what they say of rates."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from silversmith.cli.screen import progress_bar, rate


def test_piped_output_has_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("files", 10) as advance:
        advance(10)
    assert capsys.readouterr() == ("", "")


def test_a_rate_says_how_far_it_is_where_the_end_is_not_known() -> None:
    assert rate(1200, 4.0, "keys", total=None) == "1,200 keys, 300/s, 4.0 s"
    assert rate(10, 2.0, "files", total=20) == "5/s files"
    assert rate(0, None, "keys", total=None) == "0 keys, 0/s, -"


def in_a_terminal(code: str, folder: Path, **environment: str) -> str:
    """The output of code in a terminal."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", **environment}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # on Linux that is how a terminal ends
            break
        if not part:
            break
        output += part
    os.close(ours)
    assert process.wait(60) == 0, output
    return output.decode()


CODE = """
from silversmith.cli.screen import progress_bar
from silversmith.cli.screen import say
with progress_bar("files", 4) as advance:
    for number in range(4):
        say(f"file {number}")
        advance(1)
"""


def test_a_terminal_sees_it_below_what_is_said(tmp_path: Path) -> None:
    shown = in_a_terminal(CODE, tmp_path, NO_COLOR="")
    assert "4/4" in shown
    assert "/s files" in shown
    assert [f"file {number}" in shown for number in range(4)] == [True] * 4
    assert "\x1b[" in shown


def test_no_color_means_no_bar_and_no_escape(tmp_path: Path) -> None:
    shown = in_a_terminal(CODE, tmp_path, NO_COLOR="1")
    assert shown.replace("\r", "") == "file 0\nfile 1\nfile 2\nfile 3\n"


KEY = "very/long/pattern/of/keys/that/is/longer/than/a/terminal/is/wide/*.csv.gz"

TABLE = f"""
from silversmith.cli.screen import say_table
say_table([("orders", "{KEY}", "1,234,567")], header=("transform", "pattern", "done"), right=[2])
"""


def test_tables_fit_the_terminal_and_lose_nothing(tmp_path: Path) -> None:
    lines = in_a_terminal(TABLE, tmp_path, NO_COLOR="1", COLUMNS="40").replace("\r", "").splitlines()
    assert all(cell_len(line) <= 40 for line in lines)
    start, end = lines[0].index("pattern"), lines[0].index("done") - len("1,234,567") + len("done")
    assert lines[1].endswith("1,234,567")
    assert "".join(line[start:end].strip() for line in lines[1:]) == KEY


def test_lines_are_drawn_above_the_bar(tmp_path: Path) -> None:
    code = """
from silversmith.cli.screen import progress_bar, say, warn
with progress_bar("files", 20) as advance:
    for number in range(20):
        say(f"file {number} is there")
        advance(1)
"""
    shown = in_a_terminal(code, tmp_path)
    for number in range(20):
        assert f"\x1b[2Kfile {number} is there\r\n" in shown, "the bar is erased before each line, and drawn after it"
