"""Commands, called in process over the module's pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from silversmith.cli.application import call as call_command

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Call:
    """Calls a command in a folder with the module's ``PIPELINE``: its exit code, standard output and standard error."""
    (tmp_path / "pipeline.py").write_text(request.module.PIPELINE)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = call_command(arguments)
        out, errors = capsys.readouterr()
        return code, out, errors

    return run
