"""The programs that Silversmith is measured beside, each in an environment of its own under ``.venv-bench``.

    python -m bench.peers [NAME ...]        install them now, and say which cannot be had here

Versions are pinned, so that a table means the same next month. A peer that cannot be installed, or that does not run on
this machine, stays in the table with the reason: it is never left out in silence.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from silversmith.aws.packages import find_uv

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".venv-bench"

#: Seconds that an installation may take: Spark alone is 450 MB.
PATIENCE = 900


class NotAvailable(Exception):
    """This peer cannot be had, or does not run, on this machine; the message says why, in a few words."""


@dataclass(frozen=True)
class Peer:
    """Pinned packages; the first is the peer itself. ``needs`` is a program that the machine must have."""

    name: str
    packages: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""

    @property
    def label(self) -> str:
        """Its name and version, as tables show it."""
        package, _, version = self.packages[0].partition("==")
        return f"{package.partition('[')[0]} {version}"

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin/python"

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    def install(self) -> None:
        """Install the packages, unless these versions are there already.

        Raises:
            NotAvailable: with the last line of what the installer said.
        """
        if self.needs and shutil.which(self.needs) is None:
            raise NotAvailable(f"needs {self.needs}, which this machine does not have")
        ready, packages = self.folder / "ready", "\n".join(self.packages)
        if ready.exists() and ready.read_text() == packages:
            return
        uv = find_uv()
        if uv is None:
            raise NotAvailable("uv is not installed: `make setup` does it")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(exist_ok=True)
        _call([uv, "venv", "--quiet", "--python", sys.executable, str(self.folder)])
        _call([uv, "pip", "install", "--quiet", "--python", str(self.python), *self.packages])
        ready.write_text(packages)

    def variables(self) -> dict[str, str]:
        """The environment that its processes get: this one's, without what points Python elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return {**kept, "PATH": f"{self.folder / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}", **self.environment}


def _call(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise NotAvailable(f"not installed within {PATIENCE} s") from None
    if done.returncode:
        said = [line.strip(" │╰─▶") for line in done.stderr.splitlines() if line.strip()]
        raise NotAvailable(f"cannot be installed: {said[-1] if said else f'exit code {done.returncode}'}")


#: The newest of each that Python 3.11 takes. No package brings a Java with all the modules that Spark asks for.
PEERS = {
    peer.name: peer
    for peer in (
        Peer("ministack", ("ministack==1.5.33", "boto3==1.43.106", "awswrangler==3.17.1")),
        Peer("pyspark", ("pyspark==4.3.0",), needs="java"),
        Peer("dlt", ("dlt[filesystem,parquet]==1.31.0",), {"RUNTIME__DLTHUB_TELEMETRY": "false"}),
        Peer("dlt_delta", ("dlt[filesystem,deltalake]==1.31.0",), {"RUNTIME__DLTHUB_TELEMETRY": "false"}),
        Peer("pathway", ("pathway==0.33.0",)),
        Peer("duckdb", ("duckdb==2.0.0",)),
        Peer("pandas", ("pandas==3.1.1", "pyarrow==26.0.1")),
        Peer("pyarrow", ("pyarrow==26.0.1",)),
        Peer("litequeue", ("litequeue==0.9",)),
        Peer("persist-queue", ("persist-queue==1.1.0",)),
        Peer("huey", ("huey==3.5.4",)),
        Peer("tpchgen-cli", ("tpchgen-cli==4.0.0",)),
    )
}


def main() -> None:
    """Install the peers, one after the other, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)} (default: all)")
    names = parser.parse_args().names or list(PEERS)
    for name in names:
        began = time.monotonic()
        try:
            PEERS[name].install()
        except NotAvailable as error:
            print(f"{PEERS[name].label:24}{error}", flush=True)
        else:
            print(f"{PEERS[name].label:24}ready ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
