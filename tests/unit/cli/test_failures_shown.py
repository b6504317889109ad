"""What ``silversmith failures`` prints of many failures: a part of them, and counts of all."""

from __future__ import annotations

import pytest

from silversmith.cli.inspect import MOST_COUNTS, _show_failures, _show_rejected
from silversmith.operations.failures import ErrorDocument, FailureCount, Failures, RejectedFiles

DOCUMENT = ErrorDocument(
    "orders", "orders/a.csv", "MissingColumn", "no column total", "Add it.", "2026-11-30T12:00:00+00:00",
    "e", "", 9, 1, "d",
)  # fmt: skip


def test_counts_of_all_follow_the_shown_ones(capsys: pytest.CaptureFixture[str]) -> None:
    counts = [
        FailureCount("orders", "quarantined", "MissingColumn", "2026-11-30", 999_000),
        FailureCount("orders", "given_up", "TransformError", "2026-11-29", 1_000),
    ]
    _show_failures(Failures([DOCUMENT], 1_000_000, [], 0, 1_796_040_000.0, counts))
    assert capsys.readouterr().out == (
        "1,000,000 files in quarantine\n"
        "  orders/a.csv  (orders, 0.0 s ago)\n"
        "    MissingColumn: no column total\n"
        "    Add it.\n"
        "    more: silversmith explain MissingColumn\n"
        "  … and 999,999 more; see them with --limit, --transform or --key\n"
        "\n"
        "  day         transform  code              files\n"
        "  2026-11-30  orders     MissingColumn   999,000\n"
        "  2026-11-29  orders     TransformError    1,000\n"
        "\n"
    )


def test_many_counts_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    counts = [FailureCount("orders", "quarantined", f"Code{number}", "", 2) for number in range(MOST_COUNTS + 2)]
    _show_failures(Failures([DOCUMENT], 64, [], 0, 0.0, counts))
    out = capsys.readouterr().out
    assert f"Code{MOST_COUNTS - 1} " in out
    assert f"Code{MOST_COUNTS} " not in out
    assert "… and 2 more; --json has all of them" in out


def test_what_was_not_looked_through_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    _show_failures(Failures([DOCUMENT], 100, [], 0, 0.0, more=True))
    said = capsys.readouterr()
    assert said.out.startswith("at least 100 files in quarantine\n")
    assert "Pipeline(lineage=True)" in said.err
    _show_failures(Failures([], 0, [], 0, 0.0, more=True))
    assert capsys.readouterr().out == "no failure among the objects that were looked at\n"
    _show_rejected(RejectedFiles([], 7, more=True))
    assert "Pipeline(lineage=True)" in capsys.readouterr().err
