"""The ends of logs."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from silversmith.page.live import END, LINE, LINES, log_end
from tests.unit.page.conftest import Visitor


def test_output_of_functions(visitor: Visitor) -> None:
    assert "Nothing was printed" in visitor.get("/logs")
    log = visitor.bench.folder.logs / "functions.log"
    log.write_text("hello <b>world</b>\u202e\x1b[2J\nanother line\n")
    text = visitor.get("/logs")
    assert "hello &lt;b&gt;world&lt;/b&gt;\\u202e\\x1b[2J" in text
    assert "another line" in text
    assert "another line" not in visitor.get("/logs?q=hello")
    assert "No line holds this" in visitor.get("/logs?q=nothing")


def test_only_the_logs_of_the_lake_are_shown(visitor: Visitor) -> None:
    (visitor.bench.folder.logs / "functions.log").write_text("of functions\n")
    (visitor.bench.folder.logs / "page.log").write_text("of the page\n")
    assert "of the page" in visitor.get("/logs?of=page")
    for name in ("../journal.db", "/etc/passwd", "x"):
        assert "of functions" in visitor.get(f"/logs?of={name}")
    visitor.client.cookies.clear()
    visitor.get("/logs", 403)


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(200_000)) + "x" * 5000 + "\n")
    end = log_end(log)
    assert len(end.lines) == LINES
    assert end.lines[-2] == "line 199999"
    assert len(end.lines[-1]) == LINE
    assert not end.is_whole
    assert end.size > END
    assert log_end(tmp_path / "none").size == 0


@given(content=st.binary(max_size=200))
def test_any_bytes_are_lines(tmp_path_factory: object, content: bytes) -> None:
    log = tmp_path_factory.mktemp("logs") / "log"  # type: ignore[attr-defined]
    log.write_bytes(content)
    end = log_end(log)
    assert end.size == len(content)
    assert all("\n" not in line for line in end.lines)
