"""Ten thousand files in the list, and scrolling through all of them without a stutter."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from silversmith.local.journal import Journal
from silversmith.local.lake import LakeFolder
from silversmith.local.services import hop_row, write
from silversmith.page.application import serve
from silversmith.page.backend import LocalBackend
from silversmith.page.process import listen, url

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FILES = 10_000

PIPELINE = """
from silversmith import Pipeline
pipeline = Pipeline("many")
@pipeline.transform("*.csv")
def rows(rows):
    return rows
"""

#: Scroll to the end, and on as pieces come, noting how long each frame took, until nothing older is left.
SCROLL = """async () => {
  const frames = [];
  let before = performance.now();
  for (let still = 0; still < 40;) {
    scrollBy(0, 2500);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - before);
    before = now;
    still = document.querySelector("[data-older]") ? 0 : still + 1;
  }
  const slow = (some) => some.sort((a, b) => a - b)[Math.floor(some.length * 0.95)];
  const half = frames.length >> 1;
  const [early, late] = [slow(frames.slice(0, half)), slow(frames.slice(half))];
  frames.sort((a, b) => a - b);
  const lengths = [...document.querySelectorAll(".piece")].map((piece) => (piece.kept ?? piece.children).length);
  return {rows: lengths.reduce((sum, length) => sum + length, 0),
          held: document.querySelectorAll(".row").length, median: frames[frames.length >> 1],
          early, late, slowest: frames.at(-1), frames: frames.length};
}"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    place = LocalBackend(LakeFolder(tmp_path / "lake"), str(tmp_path / "pipeline.py"))
    journal = Journal(tmp_path / "lake/.silversmith/journal.db")
    with journal.transaction():
        hops = [
            hop_row(f"{number:05}.csv", "v", at=1e9 + number + late, room=room, name=name, what=what,
                 detail={"rows_written": 3, "rows_rejected": 0, "attempt": 1})
            for number in range(FILES)
            for late, room, name, what in (
                (0.0, "bucket", "dl-bronze-layer", "created"), (0.1, "queue", "many_rows", "queued"),
                (0.5, "function", "many_rows", "committed"),
            )
        ]  # fmt: skip
        write(journal, hops=hops)
    journal.close()
    ends: list[Callable[[], None]] = []
    listening: socket.socket = listen(0)
    thread = threading.Thread(target=serve, args=(place, listening, "t"), kwargs={"began": ends.append})
    thread.start()
    yield url(listening, "t")
    ends[0]()
    thread.join(30)
    listening.close()


def test_ten_thousand_files(browser: Browser, address: str) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        tab = context.new_page()
        tab.route("**/files?*piece=1*", lambda route: route.abort(), times=1)  # a lost connection ends no list
        tab.goto(address.replace("/?", "/files?"))
        tab.wait_for_selector(".row")
        measured = tab.evaluate(SCROLL)
        print(measured)
    assert measured["rows"] == FILES
    assert measured["held"] < FILES / 10
    assert measured["median"] < 50, measured
    assert measured["late"] < 100 + 2 * measured["early"], "the list gets slower the longer it is"
