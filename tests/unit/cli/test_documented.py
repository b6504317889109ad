"""Every field of every JSON document, and every command, is in docs/cli.md."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from silversmith.cli.application import COMMANDS
from silversmith.local.engine import Progress
from silversmith.operations.doctor import Diagnosis
from silversmith.operations.erase import ErasePlan, EraseReport, InTables
from silversmith.operations.estimate import Burst, Estimate, Functions, Limit
from silversmith.operations.failures import ErrorDocument, FailureCount, RejectedFile, RejectedRow
from silversmith.operations.preview import FilePreview, Preview
from silversmith.operations.reports import (
    Bronze,
    ChainStatus,
    CodeSchema,
    SchemaHistory,
    Silver,
    SilverCounts,
    Status,
    Step,
    TablesQueue,
    Trace,
    TransformStatus,
    TransformTrace,
    Version,
)
from silversmith.operations.send import PutResult
from silversmith.operations.tables import Column, InLineage, InTable, TableReport, Upkeep
from silversmith.operations.target import DeadKind, DeadMessage, LastOutcome, Lately
from silversmith.operations.versions import ErasedHistory, StoredVersion, Undeleted
from silversmith.schemas import Entry

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/cli.md").read_text("utf-8")

DOCUMENTS = {
    "run": (Progress, Lately),
    "put": (PutResult,),
    "schema": (SchemaHistory, CodeSchema, Entry),
    "status": (Status, ChainStatus, TransformStatus, SilverCounts, TablesQueue),
    "trace": (Trace, Bronze, Version, Step, TransformTrace, Silver, LastOutcome, InTable, InLineage),
    "failures": (ErrorDocument, FailureCount, DeadMessage, RejectedFile, RejectedRow),
    "preview": (FilePreview, Preview),
    "query": (Column,),
    "tables": (TableReport, Upkeep),
    "estimate": (Estimate, Burst, Functions, Limit),
    "erase": (EraseReport, ErasePlan, StoredVersion, Undeleted, ErasedHistory, InTables),
    "doctor": (Diagnosis,),
}


@pytest.mark.parametrize(("command", "document"), [(name, kind) for name, kinds in DOCUMENTS.items() for kind in kinds])
def test_every_field_is_documented(command: str, document: type) -> None:
    paragraph = re.search(rf"^\*\*{command}\*\* —(.*?)\n\n", PAGE, re.DOTALL | re.MULTILINE)
    assert paragraph
    named = set(re.findall(r"`(\w+)`", paragraph[1]))
    assert {field.name for field in fields(document)} - named == set()


def test_every_command_is_documented() -> None:
    assert {command.name for command in COMMANDS} <= set(re.findall(r"^\| `([\w-]+)", PAGE, re.MULTILINE))


def test_every_kind_and_state_is_documented() -> None:
    operations = (ROOT / "docs/operations.md").read_text("utf-8")
    for state in ("current", "stale", "outdated", "missing", "quarantined", "orphaned", "foreign", "gone"):
        assert f"| `{state}` |" in operations
    assert all(f"`{kind.value}`" in PAGE for kind in DeadKind)
