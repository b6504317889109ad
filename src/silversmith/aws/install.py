"""Installs packages for Lambda's machine into a folder, whatever machine this is. Wheels only: nothing is built.

docs/decisions/0021-uv-resolves-for-another-machine.md
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from silversmith.aws.errors import BundleError
from silversmith.aws.requirements import Requirements

#: Seconds until an installation is given up.
TIMEOUT = 600

#: Lambda's Python 3.12 and later run on Amazon Linux 2023, which has glibc 2.34.
#: https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html
GLIBC = "2_34"

_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}


@dataclass(frozen=True)
class Runtime:
    """What Lambda runs the bundle on: ``architecture`` is ``arm64`` or ``x86_64``, ``python`` like ``3.13``."""

    architecture: str = "arm64"
    python: str = "3.13"

    def __post_init__(self) -> None:
        if self.architecture not in _MACHINES:
            raise BundleError(f'Lambda has no architecture {self.architecture!r}: take "arm64" or "x86_64"')

    @property
    def platform(self) -> str:
        """As uv calls it."""
        return f"{_MACHINES[self.architecture]}-manylinux_{GLIBC}"

    @property
    def is_here(self) -> bool:
        """Whether this very Python could run the bundle."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        machine = platform.machine().lower() in {self.architecture, _MACHINES[self.architecture]}
        return version == self.python and sys.platform == "linux" and machine


def find_uv() -> str | None:
    """The program uv: beside this Python, or on the path."""
    beside = shutil.which("uv", path=str(Path(sys.executable).parent))
    return beside or shutil.which("uv")


def install(wanted: Requirements, target: Path, runtime: Runtime, *, uv: str | None, timeout: float = TIMEOUT) -> None:
    """Install into the folder ``target``.

    With uv for any machine. With pip only for a machine and Python like this: pip answers conditions in requirements,
    such as ``; python_version < "3.12"``, for itself and not for the target.

    Raises:
        BundleError: something cannot be had for that machine; there is no uv where it is needed; it took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements, constraints = Path(folder, "requirements.txt"), Path(folder, "constraints.txt")
        requirements.write_text("\n".join(wanted.lines) + "\n", "utf-8")
        constraints.write_text("\n".join(wanted.constraints) + "\n", "utf-8")
        common = ["-r", str(requirements), "-c", str(constraints), "--target", str(target), "--only-binary", ":all:"]
        _run([*_program(runtime, uv), *common], wanted, runtime, timeout)


def _program(runtime: Runtime, uv: str | None) -> list[str]:
    if uv is not None:
        where = ["--python-platform", runtime.platform, "--python-version", runtime.python, "--python", sys.executable]
        return [uv, "pip", "install", "--quiet", "--link-mode", "copy", *where]
    if runtime.is_here:
        return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    raise BundleError(
        f"packages for Lambda's Python {runtime.python} on {runtime.architecture} are not those for this machine, and "
        "only uv can pick them from here: install it with `pip install uv`"
    )


def _run(command: Sequence[str], wanted: Requirements, runtime: Runtime, timeout: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise BundleError(f"installing took longer than {timeout:.0f} s: is the package index within reach?") from None
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-20:])
        raise BundleError(
            f"the packages of {wanted.origin} cannot be installed for Lambda's Python {runtime.python} on "
            f"{runtime.architecture}:\n\n{said}\n\nA package without a wheel for it cannot be used there: see whether "
            "another version has one, or the other architecture."
        )
