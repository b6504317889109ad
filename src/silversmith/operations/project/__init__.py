"""A new pipeline project, written into a folder: from ``common/`` and either ``orders/`` or one of the examples.

The templates are projects that run as they are: what is filled in is only the project's name, wherever the template's
own name stands, and an ending that makes the names of its buckets unique.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from silversmith.operations import WrongCall
from silversmith.pipeline import limits

_HERE = Path(__file__).parent

#: The examples of a checkout; in an installed package they lie beside ``orders/``.
_CHECKOUT = _HERE.parents[3] / "examples"

#: What there is to begin with: the name, its folder, and what it shows.
EXAMPLES: Mapping[str, tuple[str, str]] = {
    "messy-csv": ("messy_csv", "CSV exports that are not as they should be, and contracts for them"),
    "music-api": ("music_api", "nested JSON of an API, flattened into two silver tables"),
    "meter-readings": ("meter_readings", "a binary format by a custom reader, joined with a lookup"),
    "aws-logs": ("aws_logs", "the logs that AWS writes by itself, as typed tables"),
}

#: What every project gets.
_COMMON = ("pyproject.toml", "gitignore", "github/workflows/ci.yml")

#: In a wheel no name begins with a dot: a ``.gitignore`` there would say what goes into the wheel.
_DOTTED = {"gitignore": ".gitignore", "github": ".github"}

#: The name that stands in ``common/`` and ``orders/``; in an example, it is the example's.
_OURS = "my-project"

#: What running a project leaves in its folder.
SKIPPED = frozenset({"__pycache__", "lake", ".pytest_cache", ".hypothesis"})


@dataclass(frozen=True)
class ProjectPlan:
    """The files to write: the project's ``name``, its ``folder``, and each file's bytes by its path in there."""

    name: str
    folder: Path
    files: Mapping[str, bytes]


def plan(folder: Path, example: str | None, *, ending: str) -> ProjectPlan:
    """Work out a project without writing anything.

    Args:
        folder: where it goes; its name becomes the project's.
        example: one of :data:`EXAMPLES`, or None for the plain beginning.
        ending: what makes the names of the buckets unique in all of AWS: up to 8 lower-case letters and digits.

    Raises:
        WrongCall: there is no such example.
    """
    if example is not None and example not in EXAMPLES:
        known = "; ".join(f"{name} ({about})" for name, (_, about) in EXAMPLES.items())
        raise WrongCall(f"there is no example {example!r}; there are: {known}")
    name = name_of(folder)
    template = _HERE / "orders" if example is None else _example(EXAMPLES[example][0])
    sources = {path: _HERE / "common" / path for path in _COMMON}
    sources |= {path.relative_to(template).as_posix(): path for path in _below(template)}
    theirs = example or _OURS
    return ProjectPlan(
        name, folder, {_dotted(path): _filled(source, theirs, name, ending) for path, source in sources.items()}
    )


def name_of(folder: Path) -> str:
    """A name for the pipeline from that of its folder, such as CloudFormation takes.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cfn-using-console-create-stack-parameters.html
    """
    words = re.findall(r"[a-z0-9]+", folder.resolve().name.lower())
    name = re.sub(r"^[^a-z]+", "", "-".join(words))[:40].strip("-")
    return name if name and not limits.pipeline_name(name) else "pipeline"


def write(project: ProjectPlan) -> Sequence[Path]:
    """Write the project's files, and say which.

    Raises:
        WrongCall: one of them is there already; then none is written.
        OSError: the disk does not allow it.
    """
    paths = {project.folder / path: content for path, content in project.files.items()}
    there = [str(path) for path in paths if path.exists() or path.is_symlink()]
    if there:
        raise WrongCall(
            f"{', '.join(there)} {'is' if len(there) == 1 else 'are'} there already, and nothing is overwritten: name "
            "another folder, or move what is there"
        )
    for path, content in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    return list(paths)


def _example(name: str) -> Path:
    installed = _HERE / name
    return installed if installed.is_dir() else _CHECKOUT / name


def _below(template: Path) -> list[Path]:
    files = (path for path in template.rglob("*") if path.is_file())
    return sorted(path for path in files if not SKIPPED & set(path.relative_to(template).parts))


def _dotted(path: str) -> str:
    first, *rest = PurePosixPath(path).parts
    return "/".join([_DOTTED.get(first, first), *rest])


def _filled(source: Path, theirs: str, name: str, ending: str) -> bytes:
    content = source.read_bytes()
    if source.suffix not in {".py", ".toml", ".md"}:
        return content
    text = re.sub(rf"\b{theirs}-(bronze|silver|quarantine|gold)\b", rf"{name}-\1-{ending}", content.decode())
    return re.sub(rf"\b{_OURS}\b|\b{theirs}\b", name, text).encode()
