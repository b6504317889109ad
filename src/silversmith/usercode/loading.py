"""Import the module that a user names on the command line, fresh each time, and explain what is wrong with it.

Errors of the user's code carry the user's own frames, without those of Silversmith, Polars and the import machinery.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import linecache
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import polars as pl

from silversmith.errors import DefinitionError
from silversmith.usercode.sources import library

#: The user's modules that earlier imports brought in: they are forgotten before the next, so that edits take effect.
_brought: set[str] = set()


@dataclass(frozen=True)
class Target:
    """What ``path/to/file.py:attribute`` or ``package.module:attribute`` names.

    ``root`` is the folder that must be on ``sys.path``; ``attribute`` is empty where none is named.
    """

    text: str
    root: Path
    module: str
    attribute: str


def parse(target: str) -> Target:
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
        return Target(target, Path.cwd(), place, attribute)
    return _of_file(target, Path(place), attribute)


def _of_file(target: str, place: Path, attribute: str) -> Target:
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
    module = ".".join(names)
    if path.suffix != ".py" or "." in path.stem:
        raise DefinitionError(f"{place} cannot be imported: a module's file is named like pipeline.py, with one dot")
    if names[0] in sys.stdlib_module_names or names[0] == "silversmith" or _is_taken(names[0], root):
        raise DefinitionError(f"{place} hides the installed module {names[0]!r}; give the file another name")
    return Target(target, root, module, attribute)


def _is_taken(name: str, root: Path) -> bool:
    """Whether an installed package has that name: with ``root`` first on the path, nobody could import it any more."""
    elsewhere = [path for path in sys.path if Path(path or ".").resolve() != root]
    spec = importlib.machinery.PathFinder.find_spec(name, elsewhere)
    return spec is not None and spec.origin is not None and library(name, spec.origin)


def import_fresh(target: Target) -> ModuleType:
    """Import the module anew, and with it the modules of the user's that an earlier call imported.

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
    except DefinitionError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (target.module == error.name or target.module.startswith(f"{error.name}.")):
            raise DefinitionError(
                f"there is no module {target.module!r} in {target.root} or among the installed packages"
            ) from None
        raise DefinitionError(_explain(target, error)) from error
    except (Exception, SystemExit) as error:
        raise DefinitionError(_explain(target, error)) from error
    finally:
        sys.dont_write_bytecode = bytecode
        _brought.update(name for name in set(sys.modules) - before if _is_users(name))


def imported_files() -> list[Path]:
    """The files of the user's modules that the last import brought in: when one changes, the definition may have."""
    found = {getattr(sys.modules.get(name), "__file__", None) for name in _brought}
    return sorted(Path(file) for file in found if file)


def _is_users(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    return isinstance(file, str) and not library(name, file)


def _has_no_file(name: str) -> bool:
    """Whether it is a package without ``__init__.py``: it remembers a list of folders, maybe of another root."""
    module = sys.modules.get(name)
    return getattr(module, "__file__", None) is None and hasattr(module, "__path__")


def _forget(target: Target) -> None:
    top = target.module.partition(".")[0]
    named = {name for name in sys.modules if name.partition(".")[0] == top}
    mine = {name for name in named if _is_users(name) or _has_no_file(name)}
    for name in _brought | mine:
        sys.modules.pop(name, None)
    _brought.clear()


def _explain(target: Target, error: BaseException) -> str:
    """The error with the lines of the user's code that led to it, without those of the machinery of import."""
    here = str(Path(__file__).parents[1])
    trace = traceback.TracebackException.from_exception(error, limit=-50)
    frames = [frame for frame in trace.stack if not frame.filename.startswith((here, "<frozen importlib"))]
    frames = [frame for frame in frames if frame.filename != importlib.__file__]
    lines = [*traceback.StackSummary.from_list(frames).format(), *trace.format_exception_only()]
    return f"{target.text} cannot be imported:\n\n" + "".join(lines).rstrip()


#: Of a user's traceback, the innermost frames that are kept.
FRAMES = 12

#: Frames of Silversmith's and Polars' own, which are of no use to who looks for a bug of theirs.
_FOREIGN = (str(Path(__file__).parents[1]), str(Path(pl.__file__).parent))


def user_traceback(who: str, error: BaseException) -> str:
    """The error of the user's code as text: ``who`` failed, the user's frames with the innermost last, the error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_FOREIGN)]
    lines = traceback.format_list(frames[-FRAMES:]) + traceback.format_exception_only(error)
    return f"{who} failed:\n{''.join(lines).rstrip()}"
