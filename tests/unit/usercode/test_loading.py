"""Importing what the user names: fresh each time, and plain about what is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from silversmith.errors import DefinitionError
from silversmith.usercode.loading import import_fresh, parse


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder that is the current one; ``sys.path`` is as before afterwards."""
    path_before, folder_before = sys.path[:], Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path.resolve()
    os.chdir(folder_before)
    sys.path[:] = path_before


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("target", "module", "attribute", "root"),
    [
        ("jobs/nightly.py", "nightly", "", "jobs"),
        ("jobs/nightly.py:lake", "nightly", "lake", "jobs"),
        ("src/acme/lake/jobs.py:lake", "acme.lake.jobs", "lake", "src"),
        ("src/acme/__init__.py", "acme", "", "src"),
        ("acme.lake:pipeline", "acme.lake", "pipeline", ""),
        ("acme.lake", "acme.lake", "", ""),
        ("jobs/dash-ed.py", "dash-ed", "", "jobs"),
    ],
)
def test_a_target_names_a_module_an_attribute_and_the_folder_to_import_from(
    folder: Path, target: str, module: str, attribute: str, root: str
) -> None:
    for name in ("jobs/nightly.py", "jobs/dash-ed.py", "src/acme/lake/jobs.py"):
        write(folder / name)
    for name in ("src/acme/lake/__init__.py", "src/acme/__init__.py"):
        write(folder / name)
    result = parse(target)
    assert (result.module, result.attribute, result.root) == (module, attribute, folder / root)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nothing.py", "no file nothing.py"),
        ("./folder", "is a folder"),
        ("folder/a.b.py", "named like pipeline.py"),
        ("folder/notes/text", "no file"),
        ("folder/json.py", "hides the installed module 'json'"),
        ("folder/silversmith.py", "hides the installed module 'silversmith'"),
        ("folder/orjson.py", "hides the installed module 'orjson'"),
        ("folder/good.py:not a name", "'not a name' is no name"),
        (":pipeline", "names no file"),
        ("", "names no file"),
    ],
)
def test_invalid_targets_are_explained(folder: Path, target: str, says: str) -> None:
    for name in ("a.b.py", "json.py", "silversmith.py", "orjson.py", "good.py"):
        write(folder / "folder" / name)
    with pytest.raises(DefinitionError, match=says.replace(".", r"\.")):
        parse(target)


def test_each_import_is_fresh_and_so_are_the_user_s_modules_behind_it(folder: Path) -> None:
    write(folder / "main_job.py", "from part import VALUE\nfrom package.inner import OTHER\nseen = []\n")
    write(folder / "part.py", "VALUE = 1\n")
    write(folder / "package/__init__.py")
    write(folder / "package/inner.py", "OTHER = 1\n")
    first = import_fresh(parse("main_job.py"))
    write(folder / "part.py", "VALUE = 2\n")
    write(folder / "package/inner.py", "OTHER = 2\n")
    second = import_fresh(parse("main_job.py"))
    assert (first.VALUE, first.OTHER, second.VALUE, second.OTHER) == (1, 1, 2, 2)
    assert first.seen is not second.seen
    assert sys.modules["main_job"] is second
    assert not list(folder.rglob("__pycache__"))


def test_installed_packages_stay_as_they_are(folder: Path) -> None:
    import orjson

    write(folder / "main_job.py", "import orjson, json\n")
    result = import_fresh(parse("main_job.py"))
    assert import_fresh(parse("main_job.py")).orjson is result.orjson is orjson


def test_two_folders_with_modules_of_the_same_name_do_not_mix(folder: Path) -> None:
    for name in ("one", "two"):
        write(folder / name / "main_job.py", "from part import VALUE\n")
        write(folder / name / "part.py", f"VALUE = {name!r}\n")
    for name in ("one", "two", "one"):
        module = import_fresh(parse(f"{name}/main_job.py"))
        assert name == module.VALUE


def test_a_module_may_be_named_from_the_current_folder(folder: Path) -> None:
    write(folder / "acme/__init__.py")
    write(folder / "acme/lake.py", "VALUE = 1\n")
    assert import_fresh(parse("acme.lake:pipeline")).VALUE == 1


def test_a_folder_without_init_that_was_imported_from_elsewhere_does_not_hide_it(folder: Path, tmp_path: Path) -> None:
    sys.modules["acme"] = ModuleType("acme")
    sys.modules["acme"].__path__ = [str(tmp_path / "elsewhere/acme")]
    write(folder / "acme/__init__.py")
    write(folder / "acme/lake.py", "VALUE = 1\n")
    assert import_fresh(parse("acme.lake:pipeline")).VALUE == 1


@pytest.mark.parametrize("target", ["absent", "acme.absent", "acme.absent:pipeline"])
def test_a_module_that_is_not_there_is_explained(folder: Path, target: str) -> None:
    write(folder / "acme/__init__.py")
    with pytest.raises(DefinitionError, match=r"there is no module '(acme\.)?absent'"):
        import_fresh(parse(target))


FAILING = """
def deeper():
    raise ValueError("bad luck")

deeper()
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FAILING, ["line 5", "deeper()", "line 3", "ValueError: bad luck"]),
        ("def broken(:\n", ["SyntaxError", "def broken(:", "line 1"]),
        ("import absent_library\n", ["ModuleNotFoundError", "absent_library", "line 1"]),
        ("raise SystemExit(3)\n", ["SystemExit: 3"]),
    ],
)
def test_the_user_s_own_error_is_shown_without_the_machinery(folder: Path, text: str, says: list[str]) -> None:
    write(folder / "main_job.py", text)
    with pytest.raises(DefinitionError, match=r"main_job\.py cannot be imported") as raised:
        import_fresh(parse("main_job.py"))
    for word in says:
        assert word in str(raised.value)
    assert "importlib" not in str(raised.value)
    assert "loading.py" not in str(raised.value)


def test_definition_errors_of_the_user_stay_as_they_are(folder: Path) -> None:
    write(
        folder / "main_job.py", "from silversmith.errors import DefinitionError\nraise DefinitionError('as I said')\n"
    )
    with pytest.raises(DefinitionError, match=r"^as I said$"):
        import_fresh(parse("main_job.py"))
