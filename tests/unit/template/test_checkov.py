"""checkov finds in the golden templates what .checkov.yaml explains, and nothing else.

It is not among our dependencies, because it pins many of its own: `make checkov` makes an environment for it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
CHECKOV = os.environ.get("SILVERSMITH_CHECKOV", "")

#: What even a template with every option on does not pass.
ALWAYS = {"CKV_AWS_115", "CKV_AWS_116", "CKV_AWS_18", "CKV_AWS_21"}

pytestmark = pytest.mark.skipif(not CHECKOV, reason="SILVERSMITH_CHECKOV names no checkov: call `make checkov`")


def failed(*files: Path) -> set[str]:
    ran = subprocess.run(
        [CHECKOV, "--framework", "cloudformation", "--skip-download", "--compact", "--output", "json"]
        + [word for file in files for word in ("--file", str(file))],
        capture_output=True,
        text=True,
        check=False,
        cwd=GOLDEN,
    )
    report = json.loads(ran.stdout)
    assert report["summary"]["resource_count"] > 0
    assert report["summary"]["parsing_errors"] == 0
    return {check["check_id"] for check in report["results"]["failed_checks"]}


def test_failing_checks_are_the_explained_ones() -> None:
    explained = set(re.findall(r"^  - (CKV\w+)$", (ROOT / ".checkov.yaml").read_text(), re.MULTILINE))
    assert failed(*sorted(GOLDEN.glob("*.json"))) == explained


def test_with_everything_on_little_is_left() -> None:
    assert failed(GOLDEN / "strict.json") == ALWAYS
