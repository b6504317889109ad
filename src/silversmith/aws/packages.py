"""The packages of a bundle: which, in which versions, and their installation for Lambda's machine.

The user's own lock file or requirements decide on the versions. Only wheels are installed: nothing is built.
docs/decisions/0021-uv-resolves-for-another-machine.md
docs/decisions/0022-what-is-in-a-bundle.md
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from silversmith.aws.account import BundleError

#: Lambda's Python runtime has them, urllib3 for botocore, and the hooks of snapshots. https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html
IN_RUNTIME = frozenset({"boto3", "botocore", "urllib3", "snapshot-restore-py"})

#: Seconds for one call of uv that reads a lock file.
EXPORT_TIMEOUT = 120

#: Seconds for an installation.
INSTALL_TIMEOUT = 600

#: Lambda's Python 3.12 and later run on Amazon Linux 2023, which has glibc 2.34.
#: https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html
GLIBC = "2_34"

_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}

#: A file or an address of Silversmith itself, which is in the bundle as files: ``./dist/silversmith-0.1.0-…whl``.
_SILVERSMITH = re.compile(r"\S*[/\\]silversmith(?:-\d\S*\.whl|\.git|@|#|\s|$)")

_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


@dataclass(frozen=True)
class Runtime:
    """The machine and Python of a Lambda function: ``architecture`` is ``arm64`` or ``x86_64``, ``python`` like
    ``3.13``."""

    architecture: str = "arm64"
    python: str = "3.13"

    def __post_init__(self) -> None:
        if self.architecture not in _MACHINES:
            raise BundleError(f'Lambda has no architecture {self.architecture!r}: take "arm64" or "x86_64"')

    @property
    def platform(self) -> str:
        """The platform in uv's words."""
        return f"{_MACHINES[self.architecture]}-manylinux_{GLIBC}"


@dataclass(frozen=True)
class Requirements:
    """Lines of requirements files: ``lines`` to install, ``constraints`` for the versions.

    ``origin`` says to a person where the versions come from.
    """

    lines: tuple[str, ...]
    constraints: tuple[str, ...]
    origin: str


def find_uv() -> str | None:
    """The program uv: beside this Python, or on the path."""
    beside = shutil.which("uv", path=str(Path(sys.executable).parent))
    return beside or shutil.which("uv")


def require_uv(uv: str | None) -> str:
    """
    Raises:
        BundleError: there is no uv.
    """
    if uv is None:
        raise BundleError("uv picks the packages for Lambda's machine, and is not here: install it, `pip install uv`")
    return uv


def distributions(imported: Iterable[str]) -> set[str]:
    """The installed distributions that provide top-level modules; a module that none provides is left out."""
    provided = metadata.packages_distributions()
    return {_normalized(distribution) for name in imported for distribution in provided.get(name, ())}


def closure(names: Iterable[str]) -> set[str]:
    """These installed distributions and all that they require, without extras."""
    required: set[str] = set()
    waiting = [_normalized(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in required:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform, or an older Python
        required.add(name)
        waiting += [_name_of(line) for line in requirements if "extra ==" not in line]
    return required


def for_other_pythons() -> set[str]:
    """The distributions that Silversmith requires only for another Python or machine: they are not installed here.

    A bundle for another Python may need them, under their conditions.
    """
    return {name for name in _own_requirements() if _version(name) is None}


def collect(project: Path, handler: set[str], users: set[str], *, uv: str, extra: Iterable[str] = ()) -> Requirements:
    """The requirements of a project's bundle.

    Args:
        project: the folder of the pipeline. Its ``uv.lock``, or that of a folder above, decides; else its
            ``requirements.txt``; else the versions that are installed here.
        handler: the distributions that the handler imports.
        users: the distributions that the user's own modules import.
        uv: the program ``uv``, which reads lock files.
        extra: more requirements, as they would stand in a requirements file.

    Raises:
        BundleError: a lock file cannot be read.
    """
    requirements = _from_project(project, handler, users, uv)
    if requirements is None:
        pins = tuple(_pin(name) for name in sorted((handler | users) - IN_RUNTIME - {"silversmith"}))
        requirements = Requirements(pins, (), "what is installed here")
    return replace(requirements, lines=(*requirements.lines, *extra))


def only(project: Path, names: set[str], *, uv: str) -> Requirements:
    """The requirements of a bundle with these distributions and what they require, in the versions that the project's
    lock file or requirements say. Arguments and errors as of :func:`collect`."""
    versions = _from_project(project, names, set(), uv)
    if versions is None:
        return collect(project, names, set(), uv=uv)
    pinned = {
        _name_of(line): line
        for line in (*versions.constraints, *versions.lines)
        if re.match(r"[A-Za-z0-9._-]+\s*==", line)
    }
    lines = (_without_hashes(pinned[name]) if name in pinned else _pin(name) for name in sorted(names - IN_RUNTIME))
    constraints = (_without_hashes(line) for line in pinned.values())
    return Requirements(tuple(lines), tuple(constraints), versions.origin)


def _without_hashes(line: str) -> str:
    """With the hash of one requirement, all that it requires would need one."""
    return line.partition(" --hash")[0].strip()


def _from_project(project: Path, handler: set[str], users: set[str], uv: str) -> Requirements | None:
    for folder in (project, *project.parents):
        if (folder / "uv.lock").is_file():
            return _from_lock(folder, handler, uv)
        if (folder / "requirements.txt").is_file():
            return _from_requirements(folder / "requirements.txt", handler, users)
        if (folder / "poetry.lock").is_file():
            raise BundleError(
                f"{folder / 'poetry.lock'} cannot be read here: write a requirements.txt beside it, with "
                "`poetry export -o requirements.txt`"
            )
        if (folder / ".git").exists() or (folder / "pyproject.toml").is_file():
            break  # the folders above are another project's
    return None


def _from_lock(folder: Path, handler: set[str], uv: str) -> Requirements:
    """The project's own dependencies without Silversmith and what only it needs, and beside them the handler's."""
    command = [uv, "export", "--frozen", "--no-dev", "--no-emit-workspace", "--no-header", "--no-annotate", "--quiet"]
    # A path or an address cannot be a constraint, and is in no need of one.
    constraints = tuple(line for line in _export(command, folder) if re.match(r"[A-Za-z0-9._-]+==", line))
    own = tuple(_absolute(line, folder) for line in _export([*command, "--prune", "silversmith"], folder))
    conditions = {name: line.partition(";")[2] for name, line in _own_requirements().items()}
    missing = handler - IN_RUNTIME - {_name_of(line) for line in own}
    added = (_conditional(name, conditions.get(name, "")) for name in sorted(missing))
    return Requirements((*own, *added), constraints, str(folder / "uv.lock"))


def _export(command: list[str], folder: Path) -> list[str]:
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, capture_output=True, text=True, timeout=EXPORT_TIMEOUT, check=False
    )
    if done.returncode:
        raise BundleError(f"{folder / 'uv.lock'} cannot be read: {done.stderr.strip()}")
    return _logical_lines(done.stdout)


def _from_requirements(file: Path, handler: set[str], users: set[str]) -> Requirements:
    """A requirements file without what is there for Silversmith's commands only, as after ``pip freeze``."""
    needed = closure(handler - IN_RUNTIME) | closure(users - IN_RUNTIME - {"silversmith"})
    dropped = (closure({"silversmith"} | _of_extra("tables")) - needed) | {"silversmith"}
    kept = [line for line in _flat(file) if _name_of(line) not in dropped and not _SILVERSMITH.match(line)]
    pins = [_pin(name) for name in sorted(handler - IN_RUNTIME - {_name_of(line) for line in kept})]
    return Requirements((*kept, *pins), (), str(file))


def _flat(file: Path) -> list[str]:
    """The lines of a requirements file and of those that it includes; paths in them made absolute."""
    lines: list[str] = []
    for line in _logical_lines(file.read_text("utf-8")):
        option, _, value = line.partition(" ")
        if option in {"-r", "--requirement"}:
            lines += _flat(file.parent / value.strip())
        elif option in {"-e", "--editable"} or (line.startswith(".") and not option.endswith(".whl")):
            continue  # the user's own code: it goes in as files
        else:
            lines.append(_absolute(line, file.parent))
    return lines


def _logical_lines(text: str) -> list[str]:
    """Lines with their continuations, without comments and empty lines."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for raw in joined.splitlines() if (line := re.sub(r"(^|\s)#.*$", "", raw).strip())]


def _absolute(line: str, folder: Path) -> str:
    """A requirement that is a path seen from ``folder``, as one seen from anywhere."""
    path, *rest = line.split(" ", 1)
    return " ".join([str(folder.joinpath(path).resolve()), *rest]) if line.startswith(".") else line


def _name_of(line: str) -> str:
    """The normalized name of the distribution in a requirement; empty for an option."""
    name = _NAME.match(line)
    return _normalized(name.group(1)) if name else ""


def _normalized(name: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()


def _own_requirements() -> dict[str, str]:
    """The requirements of Silversmith by name: the line, with its condition."""
    return {_name_of(line): line for line in metadata.requires("silversmith") or () if "extra ==" not in line}


def _of_extra(extra: str) -> set[str]:
    """The distributions that Silversmith requires with one of its extras."""
    pattern = re.compile(rf"extra == ['\"]{extra}['\"]")
    return {_name_of(line) for line in metadata.requires("silversmith") or () if pattern.search(line)}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _pin(name: str) -> str:
    """A distribution in the version that is installed here, on the condition on which Silversmith requires it."""
    requirement, _, condition = _own_requirements().get(name, name).partition(";")
    version = _version(name)
    return _conditional(f"{name}=={version}" if version else requirement.strip(), condition)


def _conditional(requirement: str, condition: str) -> str:
    return f"{requirement}; {condition.strip()}" if condition.strip() else requirement


def install(
    requirements: Requirements, target: Path, runtime: Runtime, *, uv: str, timeout: float = INSTALL_TIMEOUT
) -> None:
    """Install into the folder ``target``, for any machine.

    Raises:
        BundleError: a package cannot be had for that machine, or it took too long.
    """
    options = ["--python-platform", runtime.platform, "--python-version", runtime.python]
    program = [uv, "pip", "install", "--quiet", "--link-mode", "copy", *options, "--python", sys.executable]
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "requirements.txt"), Path(folder, "constraints.txt")
        for file, lines in zip(files, (requirements.lines, requirements.constraints), strict=True):
            file.write_text("\n".join(lines) + "\n", "utf-8")
        common = ["-r", str(files[0]), "-c", str(files[1]), "--target", str(target), "--only-binary", ":all:"]
        try:
            done = subprocess.run(  # noqa: S603
                [*program, *common], capture_output=True, text=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise BundleError(
                f"installing took longer than {timeout:.0f} s: is the package index within reach?"
            ) from None
    if done.returncode:
        output = "\n".join((done.stderr or done.stdout).strip().splitlines()[-20:])
        raise BundleError(
            f"the packages of {requirements.origin} cannot be installed for Lambda's Python {runtime.python} on "
            f"{runtime.architecture}:\n\n{output}\n\nA package without a wheel for it cannot be used there: see "
            "whether another version has one, or the other architecture."
        )
