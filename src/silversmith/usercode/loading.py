"""Loading the user's code: the module that a command names, fresh each time, and what installed packages offer.

Errors of the user's code carry the user's own frames, without those of Silversmith, Polars and the import machinery.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import linecache
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from silversmith.errors import DefinitionError
from silversmith.usercode.analysis import is_library

#: The user's modules that earlier imports brought in: they are forgotten before the next, so that edits take effect.
_imported: set[str] = set()


@dataclass(frozen=True)
class ImportTarget:
    """The module that ``path/to/file.py:attribute`` or ``package.module:attribute`` names.

    ``root`` is the folder that must be on ``sys.path``; ``attribute`` is empty where none is named.
    """

    text: str
    root: Path
    module: str
    attribute: str


def parse(target: str) -> ImportTarget:
    """Find out which module a target names, without importing it.

    Raises:
        DefinitionError: there is no such file, or its name cannot be a module's.
    """
    place, _, attribute = target.partition(":")
    if attribute and not attribute.isidentifier():
        raise DefinitionError(f"{target!r}: {attribute!r} is no name; write file.py:name or package.module:name")
    if not place:
        raise DefinitionError(f"{target!r} names no file; write file.py or package.module:name")
    if not place.endswith(".py") and not set("/\\") & set(place):
        return ImportTarget(target, Path.cwd(), place, attribute)
    return _file_target(target, Path(place), attribute)


def _file_target(target: str, place: Path, attribute: str) -> ImportTarget:
    if place.is_dir():
        raise DefinitionError(f"{place} is a folder; name the file in it: {place / 'pipeline.py'}")
    if not place.is_file():
        raise DefinitionError(f"there is no file {place} (seen from {Path.cwd()}); `silversmith init` makes one")
    path = place.resolve()
    names = [] if path.stem == "__init__" else [path.stem]
    root = path.parent
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    if path.suffix != ".py" or "." in path.stem:
        raise DefinitionError(f"{place} cannot be imported: a module's file is named like pipeline.py, with one dot")
    if names[0] in sys.stdlib_module_names or names[0] == "silversmith" or _is_taken(names[0], root):
        raise DefinitionError(f"{place} hides the installed module {names[0]!r}; give the file another name")
    return ImportTarget(target, root, ".".join(names), attribute)


def _is_taken(name: str, root: Path) -> bool:
    """Whether an installed package has that name: with ``root`` first on the path, nobody could import it any more."""
    elsewhere = [path for path in sys.path if Path(path or ".").resolve() != root]
    spec = importlib.machinery.PathFinder.find_spec(name, elsewhere)
    return spec is not None and spec.origin is not None and is_library(name, spec.origin)


def import_fresh(target: ImportTarget) -> ModuleType:
    """Import the module anew, and with it the user's modules that an earlier call imported.

    Raises:
        DefinitionError: it cannot be imported; with the traceback of the user's own code.
    """
    _forget(target)
    importlib.invalidate_caches()
    linecache.checkcache()
    root = str(target.root)
    sys.path[:] = [root, *(path for path in sys.path if path != root)]
    before = set(sys.modules)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it is compared by whole seconds only
    try:
        return importlib.import_module(target.module)
    except DefinitionError as error:
        raise DefinitionError(_with_place(error)) from None
    except ModuleNotFoundError as error:
        if error.name and (target.module == error.name or target.module.startswith(f"{error.name}.")):
            raise DefinitionError(
                f"there is no module {target.module!r} in {target.root} or among the installed packages"
            ) from None
        raise DefinitionError(user_traceback(target.text, error, "cannot be imported")) from error
    except (Exception, SystemExit) as error:
        raise DefinitionError(user_traceback(target.text, error, "cannot be imported")) from error
    finally:
        sys.dont_write_bytecode = bytecode
        _imported.update(name for name in set(sys.modules) - before if _is_users(name))


#: The beginning of an error that names its place.
_PLACE = re.compile(r"[^\n]*\.py:[0-9]+: ")


def _with_place(error: DefinitionError) -> str:
    """The text of an error of ours after file and line of the user's code: of a contract or reader that cannot be."""
    text = str(error)
    others = *_NOT_USERS, "<string>"  # what a dataclass makes of itself
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(others)]
    if not theirs or theirs[-1] is frames[-1] or _PLACE.match(text):
        return text
    path, folder = Path(theirs[-1].filename), Path.cwd()
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    return f"{shown}:{theirs[-1].lineno}: {text}"


def imported_files() -> list[Path]:
    """The files of the user's modules that the last import brought in: when one changes, the definition may have."""
    files = {getattr(sys.modules.get(name), "__file__", None) for name in _imported}
    return sorted(Path(file) for file in files if file)


def _is_users(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    return isinstance(file, str) and not is_library(name, file)


def _is_namespace(name: str) -> bool:
    """Whether it is a package without ``__init__.py``: it remembers a list of folders, maybe of another root."""
    module = sys.modules.get(name)
    return getattr(module, "__file__", None) is None and hasattr(module, "__path__")


def _forget(target: ImportTarget) -> None:
    top = target.module.partition(".")[0]
    named = {name for name in sys.modules if name.partition(".")[0] == top}
    for name in _imported | {name for name in named if _is_users(name) or _is_namespace(name)}:
        sys.modules.pop(name, None)
    _imported.clear()


#: How many of the innermost frames of a user's traceback are kept.
FRAMES = 12

#: Frames of Silversmith, Polars and the import machinery do not help a person to find a bug in their own code.
_NOT_USERS = (
    *(str(Path(__file__).parents[1]), str(Path(pl.__file__).parent)),
    *("<frozen importlib", str(importlib.__file__)),
)


def user_traceback(
    who: str, error: BaseException, verb: str = "failed", *, function: Callable[..., object] | None = None
) -> str:
    """The error of the user's code as text: ``who`` failed, the user's frames with the innermost last, the error.

    Where no frame is theirs, because Polars ran a plan that their ``function`` had returned, that is named.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_USERS)]
    code = getattr(function, "__code__", None)
    if not frames and code is not None and not code.co_filename.startswith(_NOT_USERS):
        plan = "(the plan that it returned failed when Polars ran it)"
        frames = [traceback.FrameSummary(code.co_filename, code.co_firstlineno, code.co_name, line=plan)]
    lines = traceback.format_list(frames[-FRAMES:]) + traceback.format_exception_only(error)
    return f"{who} {verb}:\n{''.join(lines).rstrip()}"


def load_plugin(group: str, name: str, problem_of: Callable[[object], str]) -> Any:
    """The object that an installed package offers in a group; of a class, an object made without arguments.

    https://packaging.python.org/en/latest/specifications/entry-points/

    Args:
        group: ``silversmith.readers`` or ``silversmith.writers``.
        name: of the entry point.
        problem_of: says why an object does not belong to the group; empty where it does.

    Raises:
        DefinitionError: no package offers that name, several do, or the object cannot be loaded or does not belong to
            the group.
    """
    kind = group.rpartition(".")[2].removesuffix("s")
    points = entry_points(group=group)
    matching = {point.value: point for point in points if point.name == name}
    if not matching:
        names = ", ".join(sorted({point.name for point in points})) or "none"
        raise DefinitionError(
            f"no installed package offers a {kind} {name!r}; there are: {names}. Install the package that has it, or "
            f"give the {kind} itself: an object, not its name"
        )
    if len(matching) > 1:
        raise DefinitionError(
            f"several installed packages offer a {kind} {name!r}: {', '.join(sorted(matching))}. Remove all but one, "
            f"or give the {kind} itself"
        )
    (point,) = matching.values()
    label = f"the {kind} {name!r}, {point.value} of an installed package,"
    try:
        plugin = point.load()
        plugin = plugin() if isinstance(plugin, type) else plugin
    except Exception as error:
        raise DefinitionError(f"{label} cannot be loaded: {type(error).__name__}: {error}") from error
    if problem := problem_of(plugin):
        raise DefinitionError(f"{label} is none: {problem}")
    return plugin


def plugin_problem(value: object, method: str, signature: str) -> str:
    """Why an object lacks a valid name or the method; empty where it has both."""
    if isinstance(value, type):
        return f"it is the class {value.__name__}; give an object: {value.__name__}()"
    if not callable(getattr(value, method, None)):
        return f"{type(value).__name__} has no method {signature}"
    name = getattr(value, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", name):
        return f"its name is {name!r}; it must be lower-case letters, digits and '-', at most 40, a letter first"
    return ""
