"""The code that Lambda runs: a small zip with the pipeline and Silversmith's handler, a large one with the packages.

The packages are a layer, so that a change of the pipeline uploads a few hundred kilobytes. Both zips are the same
bytes for the same input. docs/decisions/0022-what-is-in-a-bundle.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import silversmith
from silversmith.aws import tree
from silversmith.aws.errors import BundleError
from silversmith.aws.install import Runtime, find_uv, install
from silversmith.aws.requirements import IN_RUNTIME, collect, distributions, for_other_pythons
from silversmith.pipeline import Located
from silversmith.usercode.imports import Needs, needs

#: What the template's functions call.
ENTRIES = ("silversmith.function.handler", "silversmith.reconcile.handler")

#: Where Lambda's Python looks for packages in a layer.
#: https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
LAYER = "python/lib/python{}/site-packages/"

#: What comes with boto3.
_WITH_SDK = frozenset({"s3transfer", "jmespath", "dateutil", "six", "urllib3", "awslambdaric", "snapshot_restore_py"})


@dataclass(frozen=True)
class Bundle:
    """What was gathered. ``function`` and ``packages`` are files by their path in a zip; ``origin`` is where the
    versions of the packages come from."""

    function: tree.Tree
    packages: tree.Tree
    runtime: Runtime
    origin: str

    @property
    def layer(self) -> tree.Tree:
        """The packages where a layer has them."""
        return {LAYER.format(self.runtime.python) + name: path for name, path in self.packages.items()}

    @property
    def whole(self) -> tree.Tree:
        """Everything for one zip without a layer."""
        return {**self.packages, **self.function}

    @cached_property
    def layer_digest(self) -> str:
        """Of the layer's content."""
        return tree.digest(self.layer)

    @cached_property
    def function_digest(self) -> str:
        """Of all the code, the layer too: so that other packages make it another function."""
        return tree.digest({**self.layer, **self.function})

    @cached_property
    def shares(self) -> list[tree.Share]:
        """What takes how much, unzipped, the largest first."""
        return tree.shares([self.function, self.packages])

    @property
    def size(self) -> int:
        """Bytes, unzipped: Lambda counts function and layer together."""
        return sum(share.size for share in self.shares)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``function.zip`` and ``layer.zip`` into a folder, and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        function, layer = folder / "function.zip", folder / "layer.zip"
        tree.pack(self.function, function)
        tree.pack(self.layer, layer)
        return function, layer

    def write_whole(self, path: Path) -> None:
        """Write one zip with everything."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tree.pack(self.whole, path)


def build(
    located: Located,
    work: Path,
    *,
    runtime: Runtime | None = None,
    include: Sequence[str] = (),
    extra: Sequence[str] = (),
    most_bytes: int = tree.MOST_BYTES,
) -> Bundle:
    """Gather what a pipeline needs on Lambda.

    Args:
        located: the pipeline and where it is, from :func:`silversmith.pipeline.locate`.
        work: an empty folder for the packages; the bundle refers to files in it.
        runtime: Lambda's machine and Python, by default arm64 and Python 3.13.
        include: patterns of more files below the pipeline's folder: ``"lookup/*.csv"``.
        extra: more requirements: ``"fastexcel"``, ``"boto3==1.42.*"``.
        most_bytes: the most that the bundle may have unzipped.

    Raises:
        BundleError: a package cannot be had, an import would fail on Lambda, or it is larger than Lambda takes.
    """
    target = runtime or Runtime()
    mine = needs(ENTRIES, [Path(silversmith.__file__).parents[1]])
    function = {f"{name}": path for name, path in _ours(mine)}
    users = _needs_of(located)
    function |= _users_files(located.root, users) | _included(located.root, include)
    wanted = collect(
        located.root,
        distributions(_packages(mine)) | for_other_pythons(),
        distributions(_packages(users)),
        uv=find_uv(),
        extra=extra,
    )
    install(wanted, work, target, uv=find_uv())
    tree.trim(work)
    packages = tree.files(work)
    _check_imports(users, packages, wanted.origin)
    bundle = Bundle(function, packages, target, wanted.origin)
    tree.check_size(bundle.shares, most_bytes)
    return bundle


def _packages(found: Needs) -> set[str]:
    return found.outside - sys.stdlib_module_names - {"silversmith"}


def _ours(mine: Needs) -> Iterable[tuple[str, Path]]:
    root = Path(silversmith.__file__).parents[1]
    for path in mine.files.values():
        yield path.relative_to(root).as_posix(), path


def _needs_of(located: Located) -> Needs:
    module = located.reference.partition(":")[0]
    found = needs([module], [located.root])
    if module not in found.files:
        raise BundleError(
            f"the module {module!r} is not below {located.root}: name the pipeline by its file, path/to/pipeline.py"
        )
    return found


def _users_files(root: Path, users: Needs) -> dict[str, Path]:
    """A module by itself; of a package all its files, for it may read data that lies in it."""
    found: dict[str, Path] = {}
    for name, path in users.files.items():
        top = name.partition(".")[0]
        if (root / top).is_dir() and path.is_relative_to(root / top):
            found |= {name: file for name, file in tree.files(root / top, f"{top}/").items() if _is_code(name)}
        else:
            found[path.relative_to(root).as_posix()] = path
    return found


def _is_code(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and not {"__pycache__", "tests"} & set(parts) and not name.endswith(".pyc")


def _included(root: Path, patterns: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for pattern in patterns:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise BundleError(f"{pattern!r} must be below {root}, the pipeline's folder")
        matching = [path for path in root.glob(pattern) if path.is_file()]
        if not matching:
            raise BundleError(f"no file in {root} matches {pattern!r}")
        found |= {path.relative_to(root).as_posix(): path for path in matching}
    return found


def _check_imports(users: Needs, packages: tree.Tree, origin: str) -> None:
    """What cannot be imported would make every invocation fail: so it is said now."""
    there = {name.partition("/")[0].partition(".")[0] for name in packages}
    there |= {"silversmith", *sys.stdlib_module_names, *IN_RUNTIME, *_WITH_SDK}
    missing = {name: place for name, place in users.certain.items() if name not in there}
    if missing:
        told = "\n".join(f"  {place} imports {name}" for name, place in sorted(missing.items()))
        raise BundleError(f"this would fail on Lambda:\n{told}\nNothing in {origin} brings it: add the package there.")
