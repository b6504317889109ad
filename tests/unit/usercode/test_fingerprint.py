"""Changes that a fingerprint shows, and those that it ignores."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Csv, Json, Parquet
from silversmith.usercode.analysis import fingerprint
from silversmith.usercode.loading import import_fresh, parse

Project = Callable[..., str]

MAIN = """
import math
import cleaning
from cleaning import fix as repair

LIMIT = 3
TABLE = {"a": 1}
TABLE["b"] = 2

class Rounder:
    digits = 2

    def round(self, value):
        return round(value, self.digits)

def helper(value):
    return value + LIMIT

def unrelated(value):
    return value - 1

def transform(rows):
    value = helper(repair(rows))
    return cleaning.tidy(TABLE, Rounder().round(math.floor(value)))
"""

CLEANING = """
WORDS = ("x", "y")

def fix(value):
    return deeper(value)

def deeper(value):
    return (value, WORDS)

def tidy(*values):
    return values

def unused():
    return None
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Writes files, imports the first afresh, and gives the fingerprint of its ``transform``."""
    path_before = sys.path[:]

    def fingerprint_of(folder: str = "project", name: str = "transform", **files: str) -> str:
        for module, text in files.items():
            path = tmp_path / folder / (module.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        first = next(iter(files)).replace("__", "/")
        imported = import_fresh(parse(str(tmp_path / folder / f"{first}.py")))
        return fingerprint(getattr(imported, name))

    yield fingerprint_of
    sys.path[:] = path_before


def both(project: Project, main: str, cleaning: str = CLEANING) -> str:
    return project(main_job=main, cleaning=cleaning)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    return value + LIMIT", "    # a remark\n\n    return (value  +\n        LIMIT)"),
        ("def helper(value):", 'def helper(value: "int") -> "int":\n    """What it does."""'),
        ('{"a": 1}', "{'a': 0x1}"),
        ("return value - 1", "return value - 2"),
        ("LIMIT = 3", "OTHER = 4\nLIMIT = 3"),
        ("def transform(rows):", '@declare.transform("x/*", memory=512)\ndef transform(rows):\n    "Says what."'),
        ("def transform(rows):", "def transform(rows):\n    'one'\n    'two'"),
        ("import math", "from typing import Any\nimport math"),
        ("    value = helper", "    unrelated = 1\n    value = helper"),
    ],
)
def test_changes_without_meaning_keep_the_fingerprint(project: Project, old: str, new: str) -> None:
    declare = "class declare:\n    def transform(*_, **__):\n        return lambda function: function\n"
    assert old in MAIN
    if "unrelated = 1" in new:  # a local name that a function of the module has, too: still not that function
        old_main = MAIN.replace(old, new)
        assert both(project, old_main) == both(project, old_main.replace("value - 1", "value - 2"))
        return
    assert both(project, declare + MAIN) == both(project, declare + MAIN.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("helper(repair(rows))", "repair(helper(rows))"),
        ("return value + LIMIT", "return value - LIMIT"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("LIMIT = 3", "LIMIT = True"),
        ('{"a": 1}', '{"a": 1, "c": 3}'),
        ('TABLE["b"] = 2', 'TABLE["b"] = 3'),
        ('TABLE["b"] = 2', ""),
        ("digits = 2", "digits = 3"),
        ("round(value, self.digits)", "round(value)"),
        ("math.floor", "math.ceil"),
        ("import math", "import cmath as math"),
        ("from cleaning import fix as repair", "from cleaning import tidy as repair"),
        ("cleaning.tidy", "cleaning.deeper"),
        ("def transform(rows):", "def transform(rows, more=1):"),
        ("def helper", "@wrapped\ndef helper"),
    ],
)
def test_changes_of_meaning_change_it(project: Project, old: str, new: str) -> None:
    wrapped = "def wrapped(function):\n    return lambda value: function(value) * 2\n"
    assert old in MAIN
    assert both(project, wrapped + MAIN) != both(project, (wrapped + MAIN).replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("return deeper(value)", "return deeper(deeper(value))", False),
        ("return (value, WORDS)", "return [value, WORDS]", False),
        ('("x", "y")', '("x", "z")', False),
        ("return values", "return values[::-1]", False),
        ("return None", "return 1", True),
        ("WORDS =", "MORE = 1\nWORDS =", True),
    ],
)
def test_other_modules_of_the_user_are_followed(project: Project, old: str, new: str, same: bool) -> None:
    assert old in CLEANING
    assert (both(project, MAIN) == both(project, MAIN, CLEANING.replace(old, new))) is same


USES = "def transform(rows):\n    return "
WAYS = {
    "import acme.clean\n": "acme.clean.fix(rows)",
    "import acme.clean as c\n": "c.fix(rows)",
    "from acme import clean\n": "clean.fix(rows)",
    "from acme import clean as washing\n": "[each(rows) for each in vars(washing)]",
    "from acme.clean import fix\n": "fix(rows)",
    "from acme.clean import *\n": "fix(rows)",
    "try:\n    from acme.clean import fix\nexcept ImportError:\n    fix = None\n": "fix(rows)",
    "from acme.clean import fix as wash\nALL = [wash]\n": "[each(rows) for each in ALL]",
    "from acme.clean import Fixer\n": "Fixer().apply(rows)",
    "\n": "rows\n    from acme.clean import fix\n    fix(rows)",
}

CLEAN = """
from .deep import STEP

class Fixer:
    def apply(self, rows):
        return fix(rows)

def fix(rows):
    return rows + STEP
"""


INSIDE = CLEAN.replace("from .deep import STEP\n", "").replace(
    "    return rows +", "    from .deep import STEP\n    return rows +"
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("package", ["", "from . import clean\n"])
@pytest.mark.parametrize("clean", [CLEAN, INSIDE])
def test_every_way_to_import_is_followed(project: Project, way: str, package: str, clean: str) -> None:
    files = {
        "main_job": f"{way}{USES}{WAYS[way]}\n",
        "acme____init__": package,
        "acme__clean": clean,
        "acme__deep": "STEP = 1\n",
    }
    first = project(**files)
    assert first == project(**files)
    assert first != project(**files | {"acme__clean": clean.replace("rows + STEP", "rows - STEP")})
    assert first != project(**files | {"acme__deep": "STEP = 2\n"})


def test_a_package_of_the_user_may_be_a_namespace(project: Project) -> None:
    files = {"main_job": "import acme.clean\ndef transform(rows):\n    return acme.clean.fix(rows)\n"}
    first = project(**files, acme__clean="def fix(rows):\n    return rows\n")
    assert first != project(**files, acme__clean="def fix(rows):\n    return rows + 1\n")


LIBRARY = "import lib\nfrom lib.deep import thing\ndef transform(rows):\n    return lib.go(thing(rows))\n"


def test_installed_packages_are_not_followed_wherever_they_lie(project: Project, tmp_path: Path) -> None:
    """On a laptop they are in site-packages, in a Lambda bundle beside the user's code: the fingerprint is the same."""
    library = {"lib____init__": "def go(rows):\n    return rows\n", "lib__deep": "def thing(rows):\n    return rows\n"}
    installed = tmp_path / "venv/site-packages"
    (installed / "lib").mkdir(parents=True)
    (installed / "lib/__init__.py").write_text(library["lib____init__"])
    (installed / "lib/deep.py").write_text(library["lib__deep"])
    sys.path.append(str(installed))
    on_a_laptop = project("laptop", main_job=LIBRARY)
    (installed / "lib/deep.py").write_text("def thing(rows):\n    return rows + 1\n")
    assert project("laptop", main_job=LIBRARY) == on_a_laptop

    sys.path.remove(str(installed))
    for name in [name for name in sys.modules if name.partition(".")[0] == "lib"]:
        del sys.modules[name]
    record = tmp_path / "bundle/lib-1.0.dist-info/RECORD"
    record.parent.mkdir(parents=True)
    record.write_text("lib/__init__.py,sha256=x,1\nlib/deep.py,,\nlib-1.0.dist-info/RECORD,,\n")
    in_a_bundle = project(
        "bundle", main_job=LIBRARY, lib____init__=library["lib____init__"], lib__deep=library["lib__deep"]
    )
    assert in_a_bundle == on_a_laptop


FACTORY = """
def make(threshold, step=None):
    def transform(rows):
        return rows + threshold + (step(rows) if step else 0)
    return transform

def one(rows):
    return 1

def two(rows):
    return 2

low, high = make(1), make(2)
with_one, with_two, again = make(1, one), make(1, two), make(1, one)
"""


def test_values_of_a_closure_count(project: Project) -> None:
    actual = {name: project(name=name, main_job=FACTORY) for name in ("low", "high", "with_one", "with_two", "again")}
    assert actual["with_one"] == actual["again"]
    assert len(set(actual.values())) == 4
    assert actual["with_one"] != project(name="with_one", main_job=FACTORY.replace("return 1", "return 3"))
    assert actual["low"] == project(name="low", main_job=FACTORY.replace("return 1", "return 3"))


SHAPES = """
import functools
import operator

def scaled(rows, factor=1, *, offset=0):
    return rows * factor + offset

def loud(function):
    @functools.wraps(function)
    def inner(rows):
        print(rows)
        return function(rows)
    return inner

class Step:
    def __init__(self, size):
        self.size = size
    def __call__(self, rows):
        return rows + self.size
    def method(self, rows):
        return rows - self.size

@loud
def wrapped(rows):
    return rows

twice = functools.partial(scaled, factor=2)
thrice = functools.partial(scaled, factor=3)
small, large = Step(1), Step(2)
bound = Step(1).method
first = lambda rows: rows
second = lambda rows: rows + 1
negate = operator.neg
itself = [1]
itself.append(itself)

def endless(rows, seen=itself):
    return endless(rows)
"""


def test_every_shape_of_function_has_its_own(project: Project) -> None:
    names = ["scaled", "wrapped", "twice", "thrice", "small", "large", "bound", "first", "second", "negate", "endless"]
    actual = {name: project(name=name, main_job=SHAPES) for name in names}
    assert len(set(actual.values())) == len(names)
    changes = {
        ("wrapped",): ("print(rows)", "print(rows, rows)"),
        ("scaled", "twice", "thrice"): ("rows * factor + offset", "rows * factor - offset"),
        ("small", "large", "bound"): ("rows + self.size", "rows * self.size"),
        ("first",): ("lambda rows: rows\n", "lambda rows: [rows]\n"),
    }
    for touched, (old, new) in changes.items():
        assert old in SHAPES
        changed = {name: project(name=name, main_job=SHAPES.replace(old, new)) for name in names}
        assert {name for name in names if changed[name] != actual[name]} == set(touched)


STABLE = """
from __future__ import annotations
import re

PATTERN = re.compile(r"\\d+")

def transform(rows, *, factor: float = 0.1):
    \"\"\"Doc.\"\"\"
    match rows:
        case {"a": [first, *rest], **more} if more:
            return f"{first!r:>{len(rest)}} {PATTERN.pattern}"
        case _:
            pass
    try:
        return [x async for x in rows] if 0 else {**rows, "b": (yielded := 1j)}
    except* ValueError as error:
        raise TypeError from error
""".replace("[x async for x in rows] if 0 else ", "")


def test_it_is_the_same_in_every_process_and_version_of_python(project: Project, tmp_path: Path) -> None:
    expected = "50c8e94fa990ca862d072874422b8dd9"
    assert project(main_job=STABLE) == expected
    code = (
        "import sys; from silversmith.usercode.loading import *;"
        "from silversmith.usercode.analysis import fingerprint;"
        "print(fingerprint(import_fresh(parse(sys.argv[1])).transform))"
    )
    for seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "project/main_job.py")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.strip() == expected


def test_parts_count_and_sets_have_no_order() -> None:
    def transform(rows: object) -> object:
        return rows

    plain = fingerprint(transform)
    assert fingerprint(transform, None) != plain
    assert fingerprint(transform, "contract 1") != fingerprint(transform, "contract 2")
    assert fingerprint(transform, {"b", "a"}) == fingerprint(transform, {"a", "b"})
    assert fingerprint(transform, 1) != fingerprint(transform, True)


def test_functions_without_source_count_by_their_bytecode() -> None:
    def typed(text: str) -> Any:
        names: dict[str, Any] = {"__name__": "nowhere"}
        exec(compile(text, "<typed>", "exec"), names)
        return names["transform"]

    source = "def transform(rows):\n    return rows + 1"
    assert fingerprint(typed(source)) == fingerprint(typed(source))
    assert fingerprint(typed(source)) != fingerprint(typed(source.replace("1", "2")))
    assert fingerprint(typed(source)) != fingerprint(functools.partial(typed(source)))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(values, values)
def test_values_of_the_same_look_and_only_those_are_the_same(one: object, other: object) -> None:
    assert (fingerprint(one) == fingerprint(other)) is (repr(one) == repr(other))


def test_an_option_of_a_later_version_changes_nothing_until_it_is_used() -> None:
    """The digests are those of before there were these options: an upgrade must not make all silver outdated."""
    before = {
        Csv(): "d6deb57ff4d1838d432fa1d0898b7d4b",
        Json(): "64c2783810f3f3407b82e7f5bae5d59c",
        Parquet(): "45877b76c3252c248e0a632199bf2956",
    }
    assert {reader: fingerprint(None, reader) for reader in before} == before
    used = [Csv(infer=False), Json(columns={"a": "/a"}), Json(null_values=["-"]), Parquet(null_values=["-"])]
    assert not {fingerprint(None, reader) for reader in used} & set(before.values())
