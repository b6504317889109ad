"""The page beside an engine: a process of its own that ends with it."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from silversmith.local.lake import LakeFolder
from silversmith.page.process import PageProcess, listen
from tests.unit.page.conftest import DEFINED


def start(tmp_path: Path) -> PageProcess:
    (tmp_path / "pipeline.py").write_text(DEFINED)
    return PageProcess(LakeFolder(tmp_path / "lake"), str(tmp_path / "pipeline.py"), listen(0), "token")


@pytest.mark.full
def test_it_serves_and_ends(tmp_path: Path) -> None:
    with start(tmp_path) as beside:
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert b"no engine runs" in opener.open(beside.url, timeout=60).read()
        assert os.getpriority(os.PRIO_PROCESS, beside.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10
        began = time.monotonic()
    assert time.monotonic() - began < 10
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(beside.url, timeout=5)
    assert (tmp_path / "lake/.silversmith/logs/page.log").read_text() == ""


def test_its_death_is_nobody_s_concern(tmp_path: Path) -> None:
    with start(tmp_path) as beside:
        os.kill(beside.pid, signal.SIGKILL)
