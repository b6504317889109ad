"""A number that outlives the process that wrote it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from silversmith.local.invocation import NOWHERE, Position

WRITER = """
import os, signal, sys
from pathlib import Path
from silversmith.local.invocation import Position

place = Position(Path(sys.argv[1]), new=False)
for number in range(7):
    place.value = number
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_data_of_a_killed_process_is_read(tmp_path: Path) -> None:
    path = tmp_path / "place"
    place = Position(path, new=True)
    assert place.value == NOWHERE
    done = subprocess.run([sys.executable, "-c", WRITER, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert place.value == 6
    assert not list(tmp_path.iterdir())
