"""The content of a bundle. Without a network: installed packages are tested in test_lambda.py."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

import silversmith
from silversmith import Deployment
from silversmith.aws import bundle as bundles
from silversmith.aws.account import BundleError
from silversmith.aws.bundle import ENTRIES, TABLES_ENTRY, Bundle, _included, build, needs
from silversmith.aws.packages import Requirements, Runtime, closure, collect, install, only, require_uv
from silversmith.pipeline import locate

PIPELINE = """
from silversmith import Pipeline
pipeline = Pipeline("sales")
@pipeline.transform("sales/*.csv")
def sales(rows):
    return rows
"""


def test_the_bundle_holds_nothing_of_the_commands() -> None:
    result = needs(ENTRIES, [Path(silversmith.__file__).parents[1]])
    parts = {name.split(".")[1] for name in result.files if "." in name}
    assert {f"silversmith.{module}" for module in ("function.handler", "reconcile.handler", "function.process")} <= {
        *result.files
    }
    assert {"function", "reconcile", "pipeline", "usercode", "stores", "formats"} <= parts
    assert "silversmith.formats.excel.calamine_process" in result.files  # it runs as a script
    assert not {"cli", "local", "template", "aws", "operations", "page", "testing"} & parts
    assert {"polars", "orjson", "boto3", "python_calamine", "olefile"} <= result.outside
    assert not {"rich", "cyclopts", "troposphere", "watchdog", "psutil"} & result.outside


def test_the_logs_are_in_the_bundle_of_pipelines_that_read_some(tmp_path: Path) -> None:
    root = Path(silversmith.__file__).parents[1]
    (tmp_path / "a.py").write_text("from silversmith.logs import alb\n")
    (tmp_path / "b.py").write_text("import os\nfrom silversmith import Pipeline, logs\n")
    (tmp_path / "c.py").write_text("from silversmith import Pipeline\n")
    for module, has_logs in (("a", True), ("b", True), ("c", False)):
        users = needs([module], [tmp_path])
        handlers = needs([*ENTRIES, *users.of_silversmith], [root])
        assert ("silversmith.logs" in handlers.files) == has_logs
        assert bundles._packages(handlers) == bundles._packages(needs(ENTRIES, [root]))


def test_the_tables_and_the_transforms_need_each_other_s_packages_never() -> None:
    root = Path(silversmith.__file__).parents[1]
    transforms, tables = needs(ENTRIES, [root]), needs([TABLES_ENTRY], [root], late=False)
    assert {"deltalake", "arro3", "orjson", "boto3"} <= bundles._packages(tables)
    assert not {"polars", "sqlglot", "python_calamine"} & bundles._packages(tables)
    assert not {"deltalake", "arro3", "sqlglot"} & bundles._packages(transforms)
    parts = {name.split(".")[1] for name in tables.files if "." in name}
    assert {"tables", "stores", "lineage", "events", "errors"} <= parts
    assert not {"function", "formats", "contract", "pipeline", "usercode", "patterns"} & parts


def test_the_tables_packages_have_the_projects_versions_and_nothing_else_of_it(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "deltalake==1.6.0 --hash=sha256:ab\npandas==2.0\nwrapt==1.16 --hash=sha256:cd\n"
    )
    result = only(tmp_path, {"deltalake", "orjson", "boto3"}, uv="uv")
    assert result.lines[0] == "deltalake==1.6.0"
    assert [line.partition("==")[0] for line in result.lines] == ["deltalake", "orjson"]
    assert "wrapt==1.16" in result.constraints
    assert result.origin == str(tmp_path / "requirements.txt")


def test_the_tables_packages_have_the_versions_of_the_lock_file(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text("")
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'deltalake==1.6.0 --hash=sha256:ab'\necho 'polars==2.1.0'\n")
    uv.chmod(0o755)
    result = only(tmp_path, {"deltalake"}, uv=str(uv))
    assert (result.lines, result.constraints) == (("deltalake==1.6.0",), ("deltalake==1.6.0", "polars==2.1.0"))


def test_packages_of_tables_are_not_bundled_with_transforms(tmp_path: Path) -> None:
    """As after `pip freeze`: Delta Lake would not fit beside Polars."""
    (tmp_path / "requirements.txt").write_text("deltalake==1.6.0\narro3-core==0.9\nsqlglot==30.0\nhumanize==4\n")
    assert collect(tmp_path, set(), set(), uv="uv").lines == ("humanize==4",)
    assert collect(tmp_path, set(), {"sqlglot"}, uv="uv").lines == ("sqlglot==30.0", "humanize==4")


def test_imports_are_followed_and_distinguished(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import b, polars as pl\nfrom p import q\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import never\n"
        "try:\n    import perhaps\nexcept ImportError:\n    pass\n"
        "def f():\n    import late\n    import_module('d')\n"
    )
    (tmp_path / "b.py").write_text("")
    (tmp_path / "d.py").write_text("")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "__init__.py").write_text("")
    (tmp_path / "p" / "q.py").write_text("from . import r\n")
    (tmp_path / "p" / "r.py").write_text("")
    result = needs(["a"], [tmp_path])
    assert {"a", "b", "d", "p", "p.q", "p.r"} <= set(result.files)
    assert {"polars", "perhaps", "late"} <= result.outside
    assert "never" not in result.outside
    assert result.certain["polars"] == "a.py:1"
    assert not {"perhaps", "late"} & set(result.certain)


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_installed_beside_others_only_silversmith_is_its_own(tmp_path: Path, folder: str) -> None:
    """As after `pip install silversmith`: Polars is in the same folder, and still a package to be had for Lambda."""
    checkout = Path(silversmith.__file__).parents[1]
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "silversmith").symlink_to(checkout / "silversmith")
    for name in ("polars", "orjson", "boto3"):
        (tmp_path / folder / name).mkdir()
        (tmp_path / folder / name / "__init__.py").write_text("import something_of_its_own")
    (tmp_path / folder / "backports" / "zstd").mkdir(parents=True)
    (tmp_path / folder / "backports" / "zstd" / "zstd.py").write_text("")
    installed, here = needs(ENTRIES, [tmp_path / folder]), needs(ENTRIES, [checkout])
    assert set(installed.files) == set(here.files)
    assert installed.outside == here.outside


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """As an installer leaves them."""
    root = tmp_path / "packages"
    for name in (
        "big/__init__.py",
        "big/core.so",
        "big/core.pyi",
        "big/py.typed",
        "big/tests/test_it.py",
        "big/__pycache__/x.pyc",
        "bin/tool",
        "big-1.dist-info/METADATA",
        "big-1.dist-info/INSTALLER",
        "big-1.dist-info/licenses/LICENSE",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    record = "big/core.so,sha256=x,5\n../bin/tool,sha256=y,5\nbig/__init__.py,,\nbig/core.pyi,,\n"
    (root / "big-1.dist-info/RECORD").write_text(record)
    return root


def test_useless_files_are_trimmed_and_the_record_says_so(packages: Path) -> None:
    bundles.trim(packages)
    names = ["big-1.dist-info/METADATA", "big-1.dist-info/RECORD", "big/__init__.py", "big/core.so"]
    assert sorted(bundles.files(packages)) == names
    assert (packages / "big-1.dist-info/RECORD").read_text() == "big/__init__.py,,\nbig/core.so,,\n"


def test_the_same_files_make_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.zip", tmp_path / "2.zip"
    result = bundles.files(packages)
    bundles.pack(result, first)
    for path in result.values():
        path.chmod(0o600)
        path.touch()
    bundles.pack(dict(reversed(result.items())), second)
    assert first.read_bytes() == second.read_bytes()
    assert bundles.digest(result) == bundles.digest(dict(reversed(result.items())))
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == sorted(result)


def test_a_change_of_content_or_of_name_is_another_digest(packages: Path) -> None:
    result = bundles.files(packages)
    before = bundles.digest(result)
    (packages / "big/core.so").write_bytes(b"12346")
    after = bundles.digest(result)
    assert len({before, after, bundles.digest(bundles.files(packages, "x/"))}) == 3


def test_too_large_says_what_is_large(packages: Path) -> None:
    (packages / "big/core.so").write_bytes(bytes(3 * 2**20))
    shares = bundles.shares([bundles.files(packages)])
    bundles.check_size(shares, sum(share.size for share in shares))
    with pytest.raises(BundleError, match=r"Lambda takes 0 at most. The largest:\n +3.0 MiB  big\n"):
        bundles.check_size(shares, 10)


def test_the_layer_is_where_lambda_looks_and_code_changes_leave_it(packages: Path, tmp_path: Path) -> None:
    code = tmp_path / "pipeline.py"
    code.write_text("1")
    runtime = Runtime("x86_64", "3.13")
    first = Bundle({"pipeline.py": code}, bundles.files(packages), runtime, "")
    assert "python/lib/python3.13/site-packages/big/core.so" in first.layer
    digests = first.layer_digest, first.function_digest
    code.write_text("2")
    second = Bundle({"pipeline.py": code}, bundles.files(packages), runtime, "")
    assert second.layer_digest == digests[0]
    assert second.function_digest != digests[1]
    (packages / "big/core.so").write_bytes(b"9")
    third = Bundle({"pipeline.py": code}, bundles.files(packages), runtime, "")
    assert len({third.function_digest, second.function_digest}) == 2


def test_requirements_keep_the_users_and_drop_the_commands(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("duckdb==1.0\n")
    (tmp_path / "requirements.txt").write_text(
        "# frozen\npolars==2.1.0 \\\n    --hash=sha256:abc\nwatchdog==6.0.0  # via silversmith\nsilversmith==0.1.0\n"
        "boto3==1.40\n-e .\n-r more.txt\n--index-url https://example.com/simple\ncyclopts==4\n"
    )
    # cyclopts is one of Silversmith's own, too; but the pipeline imports it.
    result = collect(tmp_path, {"polars", "boto3"}, {"cyclopts"}, uv="uv", extra=["x==1"])
    assert result.origin == str(tmp_path / "requirements.txt")
    assert list(result.lines) == [
        "polars==2.1.0 --hash=sha256:abc",
        "duckdb==1.0",
        "--index-url https://example.com/simple",
        "cyclopts==4",
        "x==1",
    ]


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("silversmith", False),
        ("Silversmith[excel]>=0.1", False),
        ("silversmith @ file:///builds/silversmith-0.1.0-py3-none-any.whl", False),
        ("/builds/silversmith-0.1.0-py3-none-any.whl", False),
        ("./dist/silversmith-0.1.0-py3-none-any.whl", False),
        ("git+https://example.com/lake/silversmith.git@v1", False),
        ("git+https://example.com/lake/silversmith", False),
        ("https://example.com/silversmith-0.1.0-py3-none-any.whl --hash=sha256:ab", False),
        ("-e ../silversmith", False),
        ("silversmith-plugins==2", True),
        ("/home/silversmith/lookup-1.0-py3-none-any.whl", True),
        ("--find-links /builds", True),
    ],
)
def test_silversmith_is_never_installed_wherever_it_is_from(tmp_path: Path, line: str, kept: bool) -> None:
    """It goes in as the files that run here: it may be on no package index, and brings more than a function needs."""
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    assert collect(tmp_path, set(), set(), uv="uv").lines == ((line,) if kept else ())


def test_a_wheel_of_the_users_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("./wheels/lookup-1.0-py3-none-any.whl --hash=sha256:ab\n./src\n")
    wheel = tmp_path / "wheels/lookup-1.0-py3-none-any.whl"
    assert collect(tmp_path, set(), set(), uv="uv").lines == (f"{wheel} --hash=sha256:ab",)


@pytest.mark.parametrize("source", ["../dist/silversmith-0.1.0-py3-none-any.whl", "-e ../silversmith"])
def test_a_lock_file_may_have_silversmith_from_a_file_or_a_checkout(tmp_path: Path, source: str) -> None:
    """uv writes a path, which is no constraint, and which would lead nowhere from another folder."""
    (tmp_path / "uv.lock").write_text("")
    uv = tmp_path / "uv"
    uv.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--prune*) ;; *) echo "{source}"; echo "orjson==3.11.0 ; python_version > \'3\'";; esac\n'
        'echo "polars==2.1.0 --hash=sha256:ab"\necho "../lookup-1.0-py3-none-any.whl"\n'
    )
    uv.chmod(0o755)
    result = collect(tmp_path, {"polars", "orjson"}, set(), uv=str(uv))
    wheel = tmp_path.parent / "lookup-1.0-py3-none-any.whl"
    assert result.lines == ("polars==2.1.0 --hash=sha256:ab", str(wheel), "orjson")
    assert result.constraints == ("orjson==3.11.0 ; python_version > '3'", "polars==2.1.0 --hash=sha256:ab")


def test_boto3_is_the_locked_one_where_it_is_asked_for(tmp_path: Path) -> None:
    """Else Lambda's own, which AWS updates, is used."""
    (tmp_path / "uv.lock").write_text("")
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\ncase \"$*\" in *--prune*) ;; *) echo 'boto3==1.42.7';; esac\n")
    uv.chmod(0o755)
    result = collect(tmp_path, {"boto3"}, set(), uv=str(uv), extra=Deployment(requirements=("boto3",)).requirements)
    assert (result.lines, result.constraints) == (("boto3",), ("boto3==1.42.7",))
    assert collect(tmp_path, {"boto3"}, set(), uv=str(uv)).lines == ()


def test_the_secrets_of_this_machine_are_in_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    (tmp_path / ".secrets.env").write_text("token=abc\n")
    (tmp_path / "rates.json").write_text("{}")
    located = locate(str(tmp_path / "pipeline.py"))
    assert set(_included(located.root, ["*"])) == {"pipeline.py", "rates.json"}


def test_without_requirements_it_is_what_was_tried_here(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    result = collect(tmp_path, {"orjson", "boto3"}, set(), uv="uv")
    assert [line.partition("==")[0] for line in result.lines] == ["orjson"]
    assert result.origin == "what is installed here"


def test_a_requirement_of_another_python_keeps_its_condition(tmp_path: Path) -> None:
    """Zstandard is in the standard library from Python 3.14 on; Lambda may have an older one than this machine."""
    (tmp_path / ".git").mkdir()
    (line,) = collect(tmp_path, {"backports-zstd"}, set(), uv="uv").lines
    assert re.fullmatch(r"backports-zstd(==|>=)[\d.]+; python_version < '3.14'", line)


def test_a_lock_file_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "poetry.lock").write_text("")
    with pytest.raises(BundleError, match="poetry export"):
        collect(tmp_path, set(), set(), uv="uv")


def test_without_uv_it_says_how_to_get_it() -> None:
    with pytest.raises(BundleError, match="pip install uv"):
        require_uv(None)


def test_the_closure_has_what_is_required_but_for_extras() -> None:
    result = closure({"boto3"})
    assert {"boto3", "botocore", "s3transfer", "urllib3"} <= result
    assert "awscrt" not in result


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(BundleError, match='"arm64" or "x86_64"'):
        Runtime("arm")


def test_a_failed_installation_is_reported_in_the_installers_words(tmp_path: Path) -> None:
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\necho 'no wheel for thing' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(BundleError, match=r"(?s)packages of the lock cannot be installed.*arm64.*no wheel for thing"):
        install(Requirements(("thing",), (), "the lock"), tmp_path / "t", Runtime(), uv=str(program))


def test_code_that_would_fail_on_lambda_is_reported_here(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".git").mkdir()
    (project / "nowhere_to_be_had.py").write_text("")
    (project / "pipeline.py").write_text(f"import nowhere_to_be_had\n{PIPELINE}")
    located = locate(str(project / "pipeline.py"))
    (project / "nowhere_to_be_had.py").unlink()
    with pytest.raises(
        BundleError, match=r"pipeline.py:1 imports nowhere_to_be_had\nNothing in what is installed here"
    ):
        build(located, tmp_path / "work", runtime=Runtime())


@pytest.mark.parametrize("pattern", ["../secret", "/etc/passwd", "nothing/*.csv"])
def test_more_files_come_from_the_pipelines_folder_only(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    with pytest.raises(BundleError, match=r"must be below|no file in"):
        build(locate(str(tmp_path / "pipeline.py")), tmp_path / "work", include=[pattern])
