"""The linter of bodies finds what it is for, and nothing in the code as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.lint_bodies import lint, main

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "text",
    [
        'with response["Body"] as body: pass',
        'with client.get_object(Bucket="b", Key="k")["Body"] as body: pass',
        'with response.get("Body") as body: pass',
        'with open("f") as file, response["Body"] as body: pass',
        'body = response["Body"]\nwith body: pass',
        'if body := response["Body"]:\n    with body: pass',
        'stack.enter_context(response["Body"])',
        'response["Body"]._raw_stream.read()',
        'for piece in response["Body"]: pass',
        'data = b"".join(piece for piece in response["Body"])',
        'body = response["Body"]\nfor piece in body: pass',
        'for piece in response["Body"].iter_chunks(10): pass',
        'body: Any = response["Body"]\nbody.read(10)',
        'response["Body"].read(amt=10)',
    ],
)
def test_code_that_reads_past_the_checks_is_reported(text: str) -> None:
    (result,) = lint(f"\n{text}\n")
    assert result[0] in {2, 3}
    assert "pieces()" in result[1]


@pytest.mark.parametrize(
    "text",
    [
        'data = response["Body"].read()',
        'data = b"".join(pieces(response["Body"], response["ContentLength"]))',
        'with closing(response["Body"]) as body: pass',
        'event = json.loads(message["Body"])',
        'with open("f") as body:\n    body.read(10)',
    ],
)
def test_code_that_compares_lengths_is_left_alone(text: str) -> None:
    assert list(lint(text)) == []


def test_the_code_reads_bodies_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / folder) for folder in ("src", "bench", "examples")]) == 0
    assert capsys.readouterr().out == ""


def test_each_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.py"
    file.write_text('import x\n\nwith x.get()["Body"] as body: pass\n')
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{file}:3: as a context manager a body is the raw stream: use pieces()\n"
    assert main([str(tmp_path / "none")]) == 1, "a folder without files is a mistake in the call"
