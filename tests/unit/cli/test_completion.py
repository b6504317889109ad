"""Completions of a shell, as its script asks for them."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from silversmith.cli.application import application
from tests.unit.cli.conftest import Call

PIPELINE = """
from silversmith import Pipeline

pipeline = Pipeline("shop")

@pipeline.transform("orders/*.csv")
def orders(rows):
    return rows

@pipeline.transform("sales/*.csv")
def sales(rows):
    return rows

pipeline.table("orders", of=orders)
"""


def candidates(call: Call, *words: str) -> list[str]:
    """Without their descriptions."""
    code, out, _ = call("__complete", *words)
    assert code == 0
    return [line.partition("\t")[0] for line in out.splitlines() if line.strip() not in {"", "begin"}]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    for key in ("orders/a.csv", "orders/b.csv", "sales/a.csv"):
        path = tmp_path / "lake/dl-bronze-layer" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "lake"


def test_keys(call: Call, lake: Path) -> None:
    assert candidates(call, "trace", "orders/") == ["orders/a.csv", "orders/b.csv"]
    assert candidates(call, "failures", "--key", "s") == ["sales/a.csv"]
    lake.rename(lake.with_name("other"))
    assert candidates(call, "preview", "") == []
    assert candidates(call, "preview", "--lake", "other", "sa") == ["sales/a.csv"]
    assert candidates(call, "preview", "--lake", "other", "--target", "aws", "sa") == []


def test_transforms_and_tables(call: Call) -> None:
    for words in (("schema", ""), ("redrive", "--transform", ""), ("replay", "*", "--transform", "")):
        assert candidates(call, *words) == ["orders", "sales"]
    assert candidates(call, "tables", "optimize", "") == ["orders"]


def test_pipelines(call: Call, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/nightly.py").touch()
    (tmp_path / "notes.txt").touch()
    assert candidates(call, "run", "") == ["jobs/", "pipeline.py"]
    assert candidates(call, "trace", "--pipeline", "jobs/") == ["jobs/nightly.py"]


def test_a_pipeline_that_cannot_be_loaded_completes_nothing(call: Call, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text("1 / 0")
    assert candidates(call, "schema", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script_that_asks(shell: str) -> None:
    script = application().generate_completion(shell=shell)  # type: ignore[arg-type]
    assert "__complete" in script
    assert "reconcile" in script


def install(folder: Path) -> None:
    """The command as a program of this folder."""
    (folder / "silversmith").write_text(f'#!/bin/sh\nexec {sys.executable} -m silversmith.cli "$@"\n')
    (folder / "silversmith").chmod(0o755)


@pytest.mark.full
@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")
def test_fish_completes(call: Call, lake: Path, tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "script").write_text(application().generate_completion(shell="fish"))
    asked = ("trace orders/", "rec", "replay x --transform s")
    program = "; ".join(["source script", *(f'complete -C "silversmith {words}"' for words in asked)])
    done = subprocess.run(
        ["fish", "--no-config", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )  # fmt: skip
    lines = [line.partition("\t")[0] for line in done.stdout.splitlines() if line.strip()]
    assert lines == ["orders/a.csv", "orders/b.csv", "reconcile", "sales"], done.stderr


@pytest.mark.full
@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh here")
def test_zsh_completes(call: Call, lake: Path, tmp_path: Path) -> None:
    """Zsh completes for a person at a terminal alone. Its script lies where and as cyclopts installs it."""
    install(tmp_path)
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions/_cyclopts_silversmith").write_text(application().generate_completion(shell="zsh"))
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        environment = {"TERM": "dumb", "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        os.execvpe("zsh", ["zsh", "-f", "-i"], environment)

    def expect(text: str) -> None:
        seen = b""
        with contextlib.suppress(OSError):  # Linux says so when the shell has ended
            while text.encode() not in seen:
                piece = os.read(terminal, 65536)
                seen += piece
                if not piece:
                    break
        assert text.encode() in seen, seen

    try:
        os.write(terminal, b"fpath=($PWD/functions $fpath); autoload -U compinit; compinit -u -D; print SET''UP\n")
        expect("SETUP")
        for typed, completed in (("rec", "reconcile "), ("trace sal", "sales/a.csv "), ("schema s", "schema sales ")):
            os.write(terminal, f"silversmith {typed}\t".encode())
            expect(completed)
            os.write(terminal, b"\x15")  # Ctrl-U: an empty line again
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


@pytest.mark.full
def test_bash_completes(call: Call, lake: Path, tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "script").write_text(application().generate_completion(shell="bash"))
    program = f"""
        PATH={tmp_path}:$PATH; source ./script
        function=$(complete -p silversmith | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        COMP_WORDS=(silversmith trace orders/); COMP_CWORD=2; $function; echo "${{COMPREPLY[@]}}"
        COMP_WORDS=(silversmith rec); COMP_CWORD=1; $function; echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.splitlines() == ["orders/a.csv orders/b.csv", "reconcile"], done.stderr
