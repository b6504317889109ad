"""Shared by all benchmarks: a process measured with its children, contenders who take turns, and the machine's name."""

from __future__ import annotations

import compileall
import contextlib
import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from bench.peers import NotAvailable

#: How often memory is looked at, in seconds. The peak of a single process comes from the kernel and misses nothing.
LOOK = 0.02


@dataclass(frozen=True)
class Measured:
    """One run. ``seconds`` is all of it; ``working`` what the job itself says it took, without its start; ``peak`` the
    resident memory in bytes of the process and its children together; ``said`` what it printed as JSON at the end."""

    seconds: float
    working: float
    peak: int = 0
    cpu: float = 0.0
    said: Mapping[str, Any] = field(default_factory=dict)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = 3600,
) -> Measured:
    """Run a program to its end, and measure it. What it imports is compiled, as an installer would have left it.

    Raises:
        NotAvailable: it failed, or took longer than ``timeout`` seconds; with the last line that it said.
    """
    compiled()
    environment = {**(os.environ if environment is None else environment)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    out, err = cwd / "bench.out", cwd / "bench.err"
    with out.open("w") as stdout, err.open("w") as stderr:
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, env=environment, stdout=stdout, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
        watched = Watched(process.pid)
        timer = threading.Timer(timeout, _end, [process.pid])
        timer.start()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = max(watched.close(), used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    if process.returncode:
        why = f"longer than {timeout:.0f} s" if seconds >= timeout else _last_line(err) or _last_line(out)
        raise NotAvailable(f"failed: {why[:160]}")
    said = _document(out)
    return Measured(seconds, said.get("seconds", seconds), peak, used.ru_utime + used.ru_stime, said)


@cache
def compiled() -> None:
    """Compile Silversmith once, which an editable installation has not done."""
    for package in importlib.import_module("silversmith").__path__:
        compileall.compile_dir(package, quiet=2)


class Watched:
    """The peak memory of a process and its children, which a thread measures repeatedly."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._over = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._pid)
            while not self._over.wait(LOOK):
                memory = 0
                for each in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        memory += each.memory_info().rss
                self._peak = max(self._peak, memory)

    def close(self) -> int:
        self._over.set()
        self._thread.join()
        return self._peak


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, 9)


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _document(path: Path) -> dict[str, Any]:
    """The JSON object that a job prints in its last line, if it does."""
    with contextlib.suppress(ValueError):
        document = json.loads(_last_line(path))
        return document if isinstance(document, dict) else {}
    return {}


@dataclass
class Contender:
    """One side of a comparison: its label, one run of it, and the results of its runs."""

    label: str
    once: Callable[[], Measured]
    runs: list[Measured] = field(default_factory=list)
    missing: str = ""

    def median(self, what: str) -> float:
        """Of ``seconds``, ``working``, ``peak`` or ``cpu``; infinite where there was no run."""
        return statistics.median(getattr(run, what) for run in self.runs) if self.runs else float("inf")


def in_turns(contenders: Sequence[Contender], runs: int) -> None:
    """Everyone once, then everyone again: a noisy machine disturbs all alike. Who cannot run is not asked again."""
    for turn in range(runs):
        for contender in contenders:
            if contender.missing:
                continue
            progress(f"run {turn + 1} of {runs}: {contender.label}")
            try:
                contender.runs.append(contender.once())
            except NotAvailable as error:
                contender.missing = str(error)
    progress("")


def progress(text: str) -> None:
    """One line that the next replaces, where a person looks on."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def machine() -> str:
    """The processor, cores, memory, system, versions and the day, in one line; no name of the machine."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}; Python "
        f"{platform.python_version()}, Polars {version('polars')}; {datetime.now(UTC):%Y-%m-%d}, load {load:.1f}"
    )


def cpu_seconds() -> float:
    """CPU time of this process, all threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of all is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
