"""The size budget counts what it says, and sees a circle of imports wherever the import stands."""

from __future__ import annotations

from pathlib import Path

from tools.budget import LIMITS, cycles, measure, modules, reached


def package(source: Path, **files: str) -> Path:
    for name, text in {"__init__": "", **files}.items():
        path = source / "silversmith" / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return source


def test_a_circle_is_seen_through_lazy_and_typing_only_imports(tmp_path: Path) -> None:
    source = package(
        tmp_path,
        first="def act():\n    from silversmith.second import thing\n",
        second="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from silversmith import third\n",
        third="import silversmith.first\n",
        apart="from silversmith.first import act\n",
    )
    assert cycles(modules(source)) == [["silversmith.first", "silversmith.second", "silversmith.third"]]


def test_a_bundle_holds_what_its_entry_points_reach(tmp_path: Path) -> None:
    source = package(
        tmp_path,
        cli="from silversmith.function.handler import handler\n",
        **{
            "function.handler": "from silversmith.stores.s3 import S3\n",
            "reconcile.handler": "",
            "stores.__init__": "X = 1\n",
            "stores.s3": "import os\n\nS3 = os\n",
        },
    )
    graph = modules(source)
    assert reached(graph, ["silversmith.function.handler"]) == {
        "silversmith",
        "silversmith.function.handler",
        "silversmith.stores",
        "silversmith.stores.s3",
    }
    measured = measure(source)
    assert measured["lines in a bundle"] == 1 + 1 + 3
    assert (measured["modules"], measured["files at the top"], measured["folders at the top"]) == (6, 2, 3)


def test_every_number_has_a_limit(tmp_path: Path) -> None:
    source = package(tmp_path, **{"function.handler": "", "reconcile.handler": ""})
    assert measure(source).keys() == LIMITS.keys()
