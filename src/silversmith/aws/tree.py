"""A folder as it goes into a zip: trimmed, measured, and the same bytes for the same content."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from silversmith.aws.errors import BundleError

#: Of all that a function consists of, unzipped, in bytes.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_BYTES = 250 * 1024 * 1024

#: Never of use on Lambda: caches, stubs and sources of what is compiled.
_SUFFIXES = frozenset({".pyc", ".pyo", ".pyi", ".pyx", ".pxd", ".c", ".cpp", ".h", ".hpp", ".a", ".orig"})
_FOLDERS = frozenset({"__pycache__", "tests"})

#: What importlib.metadata and the fingerprint of transforms read of an installed package.
_METADATA = frozenset({"METADATA", "RECORD", "entry_points.txt", "top_level.txt"})

#: The earliest time that a zip can tell.
_TIME = (1980, 1, 1, 0, 0, 0)

#: Files by their path in the zip, which has ``/``.
Tree = Mapping[str, Path]


def files(root: Path, below: str = "") -> dict[str, Path]:
    """Every file of a folder by its path, with ``below`` before it."""
    found = (path for path in root.rglob("*") if path.is_file())
    return {f"{below}{path.relative_to(root).as_posix()}": path for path in found}


def trim(root: Path) -> None:
    """Remove from a folder of installed packages what no function needs, and have their records say so."""
    for name in ("bin", "Scripts", ".lock"):
        _remove(root / name)
    for path in sorted(root.rglob("*"), reverse=True):
        if _is_waste(path.relative_to(root), is_folder=path.is_dir()):
            _remove(path)
    for record in sorted(root.glob("*.dist-info/RECORD")):
        _rewrite(root, record)


def _is_waste(path: Path, *, is_folder: bool) -> bool:
    if path.parts[0].endswith(".dist-info") and len(path.parts) > 1:
        return len(path.parts) > 2 or is_folder or path.name not in _METADATA
    if is_folder:
        return path.name in _FOLDERS
    return path.suffix in _SUFFIXES or path.name == "py.typed"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _rewrite(root: Path, record: Path) -> None:
    """Only which files there are: no sizes, and nothing of where and by what they were installed."""
    names = (line.rpartition(",")[0].rpartition(",")[0].strip('"') for line in record.read_text("utf-8").splitlines())
    kept = sorted(name for name in names if name and not name.startswith("..") and (root / name).is_file())
    record.write_text("".join(f"{name},,\n" for name in kept), "utf-8")


def digest(tree: Tree) -> str:
    """Of the content, whatever packs it: 32 hex digits."""
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
        _pack(tree, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _pack(tree: Tree, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, path in sorted(tree.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as packed:
                shutil.copyfileobj(source, packed, 1024 * 1024)


@dataclass(frozen=True)
class Share:
    """What one package takes, in bytes."""

    name: str
    size: int


def shares(trees: Iterable[Tree]) -> list[Share]:
    """What takes how much, the largest first."""
    sizes: Counter[str] = Counter()
    for name, size in _sizes(trees):
        sizes[_package(name)] += size
    return [Share(name, size) for name, size in sizes.most_common()]


def _sizes(trees: Iterable[Tree]) -> Iterator[tuple[str, int]]:
    for tree in trees:
        for name, path in tree.items():
            yield name, path.stat().st_size


def _package(name: str) -> str:
    parts = PurePosixPath(name).parts
    below = parts[parts.index("site-packages") + 1 :] if "site-packages" in parts else parts
    return below[0]


def check_size(found: list[Share], most: int = MOST_BYTES) -> None:
    """Refuse what Lambda would, and say what is large.

    Raises:
        BundleError: it is too large.
    """
    size = sum(share.size for share in found)
    if size <= most:
        return
    largest = "\n".join(f"  {share.size / 2**20:8.1f} MiB  {share.name}" for share in found[:8])
    raise BundleError(
        f"the bundle has {size / 2**20:.1f} MiB unzipped, and Lambda takes {most / 2**20:.0f} at most. The largest:\n"
        f"{largest}\nTake out what the transforms do not need: out of the requirements, or of the pipeline's folder."
    )
