"""Which packages go into the bundle, in which versions: the user's own lock or requirements decide.

docs/decisions/0022-what-is-in-a-bundle.md
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from silversmith.aws.errors import BundleError

#: Lambda's Python runtime has them, urllib3 for botocore. https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html
IN_RUNTIME = frozenset({"boto3", "botocore", "urllib3"})

#: Seconds for one call of uv that reads a lock file.
TIMEOUT = 120

_PINNED = re.compile(r"[A-Za-z0-9._-]+==")

#: A file or an address of Silversmith itself, which is in the bundle as files: ``./dist/silversmith-0.1.0-…whl``.
_SILVERSMITH = re.compile(r"\S*[/\\]silversmith(?:-\d\S*\.whl|\.git|@|#|\s|$)")

_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


@dataclass(frozen=True)
class Requirements:
    """``lines`` are what to install and ``constraints`` the versions to take, as in requirements files.

    ``origin`` is where they come from, for a person.
    """

    lines: tuple[str, ...]
    constraints: tuple[str, ...]
    origin: str


def normal(name: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(imported: Iterable[str]) -> set[str]:
    """The installed distributions that provide top-level modules; a name that nothing provides is left out."""
    provided = metadata.packages_distributions()
    return {normal(distribution) for name in imported for distribution in provided.get(name, ())}


def closure(names: Iterable[str]) -> set[str]:
    """These installed distributions and all that they require, extras aside."""
    found: set[str] = set()
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform, or an older Python
        found.add(name)
        waiting += [normal(_name_of(line)) for line in requires if "extra ==" not in line]
    return found


def collect(
    project: Path, handler: set[str], users: set[str], *, uv: str | None, extra: Iterable[str] = ()
) -> Requirements:
    """What to install for a project.

    Args:
        project: the folder of the pipeline. Its ``uv.lock``, or that of a folder above; else its
            ``requirements.txt``; else the versions that are installed here.
        handler: the distributions that the handler imports.
        users: the distributions that the user's own modules import.
        uv: the program ``uv``, which reads lock files.
        extra: more requirements, as they would stand in a requirements file.

    Raises:
        BundleError: a lock file cannot be read.
    """
    for folder in (project, *project.parents):
        lock, file = folder / "uv.lock", folder / "requirements.txt"
        if lock.is_file():
            found = _locked(folder, handler, uv)
        elif file.is_file():
            found = _listed(file, handler, users)
        elif (folder / "poetry.lock").is_file():
            raise BundleError(
                f"{folder / 'poetry.lock'} cannot be read here: write a requirements.txt beside it, with "
                "`poetry export -o requirements.txt`"
            )
        elif (folder / ".git").exists() or (folder / "pyproject.toml").is_file():
            break  # what is further up is another project's
        else:
            continue
        return Requirements((*found.lines, *extra), found.constraints, found.origin)
    pins = tuple(_pin(name) for name in sorted((handler | users) - IN_RUNTIME - {"silversmith"}))
    return Requirements((*pins, *extra), (), "what is installed here")


def for_other_pythons() -> set[str]:
    """The distributions that Silversmith requires, but not of this Python or on this machine: so none is installed.

    Whoever bundles for another Python may need them; their conditions go along with them.
    """
    return {name for name in _required() if _version(name) is None}


def _required() -> dict[str, str]:
    """What Silversmith requires, by name: the line, with its condition."""
    return {normal(_name_of(line)): line for line in metadata.requires("silversmith") or () if "extra ==" not in line}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _pin(name: str) -> str:
    """A distribution in the version that is installed here, on the condition on which Silversmith requires it."""
    wanted, _, condition = _required().get(name, name).partition(";")
    version = _version(name)
    return _conditional(f"{name}=={version}" if version else wanted.strip(), condition)


def _conditional(wanted: str, condition: str) -> str:
    return f"{wanted}; {condition.strip()}" if condition.strip() else wanted


def _locked(folder: Path, handler: set[str], uv: str | None) -> Requirements:
    """The project's own dependencies without Silversmith and what only it needs, and beside them the handler's."""
    if uv is None:
        raise BundleError(
            f"{folder / 'uv.lock'} needs uv to be read: install it (`pip install uv`), or take the lock file away and "
            "write a requirements.txt"
        )
    command = [uv, "export", "--frozen", "--no-dev", "--no-emit-workspace", "--no-header", "--no-annotate", "--quiet"]
    # A path or an address cannot be a constraint, and is in no need of one.
    whole = tuple(line for line in _export(command, folder) if _PINNED.match(line))
    own = tuple(_absolute(line, folder) for line in _export([*command, "--prune", "silversmith"], folder))
    mentioned = {normal(_name_of(line)) for line in own}
    missing = [
        _conditional(name, _required().get(name, "").partition(";")[2])
        for name in sorted(handler - IN_RUNTIME)
        if name not in mentioned
    ]
    return Requirements((*own, *missing), whole, str(folder / "uv.lock"))


def _export(command: list[str], folder: Path) -> tuple[str, ...]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)  # noqa: S603
    if done.returncode:
        raise BundleError(f"{folder / 'uv.lock'} cannot be read: {done.stderr.strip()}")
    return tuple(_logical(done.stdout))


def _listed(file: Path, handler: set[str], users: set[str]) -> Requirements:
    """A requirements file without what is there for Silversmith's commands only, as after ``pip freeze``."""
    only_commands = (
        closure({"silversmith"}) - closure(handler - IN_RUNTIME) - closure(users - IN_RUNTIME - {"silversmith"})
    )
    kept = [
        line
        for line in _flat(file)
        if normal(_name_of(line)) not in only_commands | {"silversmith"} and not _SILVERSMITH.match(line)
    ]
    mentioned = {normal(_name_of(line)) for line in kept}
    pins = [_pin(name) for name in sorted(handler - IN_RUNTIME) if name not in mentioned]
    return Requirements((*kept, *pins), (), str(file))


def _flat(file: Path) -> list[str]:
    """The lines of a requirements file and of those that it includes; paths in them made absolute."""
    lines: list[str] = []
    for line in _logical(file.read_text("utf-8")):
        option, _, value = line.partition(" ")
        if option in {"-r", "--requirement"}:
            lines += _flat(file.parent / value.strip())
        elif option in {"-e", "--editable"} or (line.startswith(".") and not _is_wheel(line)):
            continue  # the user's own code: it goes in as files
        else:
            lines.append(_absolute(line, file.parent))
    return lines


def _is_wheel(line: str) -> bool:
    return line.partition(" ")[0].endswith(".whl")


def _absolute(line: str, folder: Path) -> str:
    """A requirement that is a path from ``folder``, as one from anywhere."""
    place, *rest = line.split(" ", 1)
    return " ".join([str(folder.joinpath(place).resolve()), *rest]) if line.startswith(".") else line


def _logical(text: str) -> list[str]:
    """Lines with what is continued put together, without comments and empty ones."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for raw in joined.splitlines() if (line := re.sub(r"(^|\s)#.*$", "", raw).strip())]


def _name_of(line: str) -> str:
    """The distribution's name in a requirement; empty for an option."""
    found = _NAME.match(line)
    return found.group(1) if found else ""
