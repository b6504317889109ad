"""The code that Lambda runs: a small zip with the pipeline and Silversmith's handler, a large one with the packages.

The packages are a layer, so that a change of the pipeline uploads a few hundred kilobytes. Both zips are the same
bytes for the same input. The function that makes the tables has two of its own, for Polars and Delta Lake do not fit
one bundle. docs/decisions/0022-what-is-in-a-bundle.md
"""

from __future__ import annotations

import ast
import hashlib
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import decode_source
from pathlib import Path, PurePosixPath

import silversmith
from silversmith.aws.account import BundleError
from silversmith.aws.packages import (
    IN_RUNTIME,
    Runtime,
    collect,
    distributions,
    find_uv,
    for_other_pythons,
    install,
    only,
    require_uv,
)
from silversmith.pipeline import Located
from silversmith.pipeline.needs import LOCAL_FILE
from silversmith.tables.spec import GoldSpec
from silversmith.template.tables import SPEC
from silversmith.usercode.analysis import INSTALLED, parse_module

#: The modules that the template's functions call, and that of the tables' function.
ENTRIES = ("silversmith.function.handler", "silversmith.reconcile.handler")
TABLES_ENTRY = "silversmith.tables.handler"

#: Packages that are left out unless they are asked for: a view's query is parsed once, and not on Lambda; OpenLineage
#: is an option.
_NOT_THERE = frozenset({"sqlglot", "openlineage"})

#: Where Lambda's Python looks for packages in a layer.
#: https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
LAYER = "python/lib/python{}/site-packages/"

#: The most bytes that function and layer may have, unzipped.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_BYTES = 250 * 1024 * 1024

#: Packages that come with boto3.
_WITH_SDK = frozenset({"s3transfer", "jmespath", "dateutil", "six", "urllib3", "awslambdaric", "snapshot_restore_py"})

#: Never of use on Lambda: caches, stubs and sources of compiled modules.
_USELESS_SUFFIXES = frozenset({".pyc", ".pyo", ".pyi", ".pyx", ".pxd", ".c", ".cpp", ".h", ".hpp", ".a", ".orig"})
_USELESS_FOLDERS = frozenset({"__pycache__", "tests"})

#: The files of an installed package that importlib.metadata and the fingerprint of transforms read.
_METADATA = frozenset({"METADATA", "RECORD", "entry_points.txt", "top_level.txt"})

#: The earliest time that a zip can hold.
_TIME = (1980, 1, 1, 0, 0, 0)

#: Files by their path in the zip, which has ``/``.
Tree = Mapping[str, Path]


@dataclass(frozen=True)
class Bundle:
    """The files of a bundle: those of the function and those of the packages.

    ``origin`` says where the versions of the packages come from.
    """

    function: Tree
    packages: Tree
    runtime: Runtime
    origin: str

    @property
    def layer(self) -> Tree:
        """The packages, at the paths that they have in a layer."""
        return {LAYER.format(self.runtime.python) + name: path for name, path in self.packages.items()}

    @cached_property
    def layer_digest(self) -> str:
        """Of the layer's content."""
        return digest(self.layer)

    @cached_property
    def function_digest(self) -> str:
        """Of all the code, the layer's too: with other packages it is another function."""
        return digest({**self.layer, **self.function})

    @cached_property
    def shares(self) -> list[Share]:
        """The packages with their sizes, unzipped, the largest first."""
        return shares([self.function, self.packages])

    @property
    def size(self) -> int:
        """Bytes, unzipped: Lambda counts function and layer together."""
        return sum(share.size for share in self.shares)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``function.zip`` and ``layer.zip`` into a folder, and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        function, layer = folder / "function.zip", folder / "layer.zip"
        pack(self.function, function)
        pack(self.layer, layer)
        return function, layer

    def write_whole(self, path: Path) -> None:
        """Write one zip with everything, for a function without a layer."""
        path.parent.mkdir(parents=True, exist_ok=True)
        pack({**self.packages, **self.function}, path)


def build(
    located: Located,
    work: Path,
    *,
    runtime: Runtime | None = None,
    include: Sequence[str] = (),
    extra: Sequence[str] = (),
    most_bytes: int = MOST_BYTES,
    has_layers: bool = False,
) -> Bundle:
    """Gather all that a pipeline needs on Lambda.

    Args:
        located: the pipeline and where it is, from :func:`silversmith.pipeline.locate`.
        work: an empty folder for the packages; the bundle refers to files in it.
        runtime: Lambda's machine and Python, by default arm64 and Python 3.13.
        include: patterns of more files below the pipeline's folder: ``"lookup/*.csv"``.
        extra: more requirements: ``"fastexcel"``, ``"boto3==1.42.*"``.
        most_bytes: the most that the bundle may have unzipped.
        has_layers: whether the functions have layers of the user's, which may bring what is imported.

    Raises:
        BundleError: a package cannot be had, an import would fail on Lambda, or the bundle is larger than Lambda takes.
    """
    target = runtime or Runtime()
    root = Path(silversmith.__file__).parents[1]
    users = _needs_of(located)
    handlers = needs([*ENTRIES, *sorted(users.of_silversmith)], [root])
    function = {path.relative_to(root).as_posix(): path for path in handlers.files.values()}
    function |= _users_files(located.root, users) | _included(located.root, include)
    uv = require_uv(find_uv())
    requirements = collect(
        located.root,
        distributions(_packages(handlers)) | for_other_pythons(),
        distributions(_packages(users)),
        uv=uv,
        extra=extra,
    )
    install(requirements, work, target, uv=uv)
    trim(work)
    packages = files(work)
    if not has_layers:
        _check_imports(users, packages, requirements.origin)
    bundle = Bundle(function, packages, target, requirements.origin)
    check_size(bundle.shares, most_bytes)
    return bundle


def build_tables(
    spec: GoldSpec,
    project: Path,
    work: Path,
    *,
    runtime: Runtime | None = None,
    extra: Sequence[str] = (),
    most_bytes: int = MOST_BYTES,
) -> Bundle:
    """Gather all that the function needs which makes the tables: nothing of the user's but what ``spec`` says.

    Args:
        spec: the tables and views.
        project: the pipeline's folder, whose lock file or requirements decide on the versions.
        work: an empty folder; the bundle refers to files in it.
        runtime: as :func:`build` has it.
        extra: the names of more packages.
        most_bytes: likewise.

    Raises:
        BundleError: as :func:`build`.
    """
    target = runtime or Runtime()
    root = Path(silversmith.__file__).parents[1]
    modules = needs([TABLES_ENTRY], [root], late=False)
    work.mkdir(parents=True, exist_ok=True)
    declared, packages = work / SPEC, work / "packages"
    declared.write_text(spec.to_json(), "utf-8")
    function = {path.relative_to(root).as_posix(): path for path in modules.files.values()}
    uv = require_uv(find_uv())
    requirements = only(project, {*distributions(_packages(modules)), *extra}, uv=uv)
    install(requirements, packages, target, uv=uv)
    trim(packages)
    bundle = Bundle({**function, SPEC: declared}, files(packages), target, requirements.origin)
    check_size(bundle.shares, most_bytes)
    return bundle


def _packages(modules: Needs) -> set[str]:
    return modules.outside - sys.stdlib_module_names - _NOT_THERE - {"silversmith"}


def _needs_of(located: Located) -> Needs:
    module = located.reference.partition(":")[0]
    modules = needs([module], [located.root])
    if module not in modules.files:
        raise BundleError(
            f"the module {module!r} is not below {located.root}: name the pipeline by its file, path/to/pipeline.py"
        )
    return modules


def _users_files(root: Path, users: Needs) -> dict[str, Path]:
    """A module by itself; of a package all its files, for it may read data that lies in it."""
    chosen: dict[str, Path] = {}
    for name, path in users.files.items():
        top = name.partition(".")[0]
        if (root / top).is_dir() and path.is_relative_to(root / top):
            chosen |= {name: file for name, file in files(root / top, f"{top}/").items() if _is_code(name)}
        else:
            chosen[path.relative_to(root).as_posix()] = path
    return chosen


def _is_code(name: str) -> bool:
    parts = name.split("/")
    hidden = any(part.startswith(".") for part in parts)
    return not hidden and not _USELESS_FOLDERS & set(parts) and not name.endswith(".pyc")


def _included(root: Path, patterns: Sequence[str]) -> dict[str, Path]:
    chosen: dict[str, Path] = {}
    for pattern in patterns:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise BundleError(f"{pattern!r} must be below {root}, the pipeline's folder")
        matching = [path for path in root.glob(pattern) if path.is_file() and path.name != LOCAL_FILE]
        if not matching:
            raise BundleError(f"no file in {root} matches {pattern!r}")
        chosen |= {path.relative_to(root).as_posix(): path for path in matching}
    return chosen


def _check_imports(users: Needs, packages: Tree, origin: str) -> None:
    """A module that cannot be imported would make every invocation fail."""
    available = {name.partition("/")[0].partition(".")[0] for name in packages}
    available |= {"silversmith", *sys.stdlib_module_names, *IN_RUNTIME, *_WITH_SDK}
    missing = {name: place for name, place in users.certain.items() if name not in available}
    if missing:
        lines = "\n".join(f"  {place} imports {name}" for name, place in sorted(missing.items()))
        raise BundleError(f"this would fail on Lambda:\n{lines}\nNothing in {origin} brings it: add the package there.")


@dataclass
class Needs:
    """The modules that some modules need. ``files`` lie below the roots, by dotted name; ``outside`` are the top-level
    names of the others.

    ``certain`` are those of ``outside`` without which the import of a module fails, with the place that imports them.
    ``of_silversmith`` are the names below ``silversmith`` that others import: the handlers may not need them.
    """

    files: dict[str, Path] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    certain: dict[str, str] = field(default_factory=dict)
    of_silversmith: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Import:
    name: str
    line: int
    certain: bool = False


def needs(modules: Iterable[str], roots: Iterable[Path], *, late: bool = True) -> Needs:
    """All modules that these ones need, themselves too, by reading: nothing is run.

    Imports inside functions count as well; those under ``if TYPE_CHECKING`` do not. A root may be a folder where
    packages are installed. Only the packages of ``modules`` are looked for in it: those beside them are made for this
    machine, and have more files than those that are imported. Without ``late``, what a table of modules names or
    ``import_module`` does not count: so Silversmith's own names for users bring nothing.

    Raises:
        SyntaxError: a module is no Python.
    """
    needed = Needs()
    waiting = [*modules]
    own = {name.partition(".")[0] for name in waiting}
    all_roots = [*roots]
    users_roots = [root for root in all_roots if root.name not in INSTALLED]
    while waiting:
        name = waiting.pop()
        file = _locate(name, all_roots if name.partition(".")[0] in own else users_roots)
        if name in needed.files or file is None:
            continue
        needed.files[name] = file
        module = parse_module(name, str(file), decode_source(file.read_bytes()))
        for imported in _imports(module.tree, certain=True, late=late):
            top = imported.name.partition(".")[0]
            places = all_roots if top in own else users_roots
            parts = imported.name.split(".")  # importing a.b.c imports a and a.b, too
            inside = [part for end in range(len(parts)) if _locate(part := ".".join(parts[: end + 1]), places)]
            waiting += inside
            if not inside and not _is_namespace(top, places):
                needed.outside.add(top)
                needed.of_silversmith |= {imported.name} if imported.name.startswith("silversmith.") else set()
                if imported.certain:
                    needed.certain.setdefault(top, f"{file.name}:{imported.line}")
    return needed


def _locate(name: str, roots: Iterable[Path]) -> Path | None:
    """The file of a module below one of the roots."""
    for root in roots:
        path = root.joinpath(*name.split("."))
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def _is_namespace(name: str, roots: Iterable[Path]) -> bool:
    """Whether it is a package without ``__init__.py``."""
    return any((root / name).is_dir() and next((root / name).rglob("*.py"), None) for root in roots)


def _imports(node: ast.AST, *, certain: bool, late: bool) -> Iterator[_Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (_Import(alias.name, child.lineno, certain) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield _Import(child.module or "", child.lineno, certain)
            # each may be a module of its own
            yield from (_Import(f"{child.module}.{alias.name}", child.lineno) for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imports(ast.Module(child.orelse, []), certain=certain, late=late)
        else:
            if late:
                yield from (_Import(name, getattr(child, "lineno", 0)) for name in _late_imports(child))
            deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Try | ast.If)
            yield from _imports(child, certain=certain and not deferred, late=late)


def _late_imports(node: ast.AST) -> list[str]:
    """``import_module("x")``, or a table of modules that are imported late: ``{"Csv": "silversmith.formats"}``."""
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        values = node.args[:1] if called == "import_module" else []
    elif isinstance(node, ast.Dict | ast.Tuple):
        values = node.values if isinstance(node, ast.Dict) else node.elts
    else:
        return []
    names = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    is_table = len(names) == len(values) and all(name.startswith("silversmith.") for name in names)
    return names if isinstance(node, ast.Call) or is_table else []


def files(root: Path, below: str = "") -> dict[str, Path]:
    """Every file of a folder by its path, with ``below`` before it."""
    return {f"{below}{path.relative_to(root).as_posix()}": path for path in root.rglob("*") if path.is_file()}


def trim(root: Path) -> None:
    """Remove from a folder of installed packages all that no function needs, and adapt the packages' records."""
    for name in ("bin", "Scripts", ".lock"):
        _remove(root / name)
    for path in sorted(root.rglob("*"), reverse=True):
        if _is_useless(path.relative_to(root), is_folder=path.is_dir()):
            _remove(path)
    for record in sorted(root.glob("*.dist-info/RECORD")):
        # Only which files there are: no sizes, and nothing of where and by what they were installed.
        lines = record.read_text("utf-8").splitlines()
        names = (line.rpartition(",")[0].rpartition(",")[0].strip('"') for line in lines)
        kept = sorted(name for name in names if name and not name.startswith("..") and (root / name).is_file())
        record.write_text("".join(f"{name},,\n" for name in kept), "utf-8")


def _is_useless(path: Path, *, is_folder: bool) -> bool:
    if path.parts[0].endswith(".dist-info") and len(path.parts) > 1:
        return len(path.parts) > 2 or is_folder or path.name not in _METADATA
    if is_folder:
        return path.name in _USELESS_FOLDERS
    return path.suffix in _USELESS_SUFFIXES or path.name == "py.typed"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def digest(tree: Tree) -> str:
    """32 hex digits for the content of files, however they are packed."""
    whole = hashlib.sha256()
    for name, path in sorted(tree.items()):
        with path.open("rb") as file:
            inner = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{inner} {name}\n".encode())
    return whole.hexdigest()[:32]


def pack(tree: Tree, target: Path) -> None:
    """Write a zip: sorted, without times, owners or modes of this machine. Whole, or not at all."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, path in sorted(tree.items()):
                entry = zipfile.ZipInfo(name, _TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.create_system = 3
                entry.external_attr = 0o100644 << 16
                entry.file_size = path.stat().st_size
                with path.open("rb") as source, archive.open(entry, "w") as packed:
                    shutil.copyfileobj(source, packed, 1024 * 1024)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


@dataclass(frozen=True)
class Share:
    """A package and its size in bytes."""

    name: str
    size: int


def shares(trees: Iterable[Tree]) -> list[Share]:
    """The packages in some trees with their sizes, the largest first."""
    sizes: Counter[str] = Counter()
    for tree in trees:
        for name, path in tree.items():
            parts = PurePosixPath(name).parts
            sizes[parts[parts.index("site-packages") + 1] if "site-packages" in parts else parts[0]] += (
                path.stat().st_size
            )
    return [Share(name, size) for name, size in sizes.most_common()]


def check_size(packages: Sequence[Share], most: int = MOST_BYTES) -> None:
    """Refuse a bundle that Lambda would refuse, and say what is large in it.

    Raises:
        BundleError: it is too large.
    """
    size = sum(share.size for share in packages)
    if size <= most:
        return
    largest = "\n".join(f"  {share.size / 2**20:8.1f} MiB  {share.name}" for share in packages[:8])
    raise BundleError(
        f"the bundle has {size / 2**20:.1f} MiB unzipped, and Lambda takes {most / 2**20:.0f} at most. The largest:\n"
        f"{largest}\nTake out what the transforms do not need: out of the requirements, or of the pipeline's folder."
    )
