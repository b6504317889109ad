"""Engines, workers and commands are killed at random moments while files arrive and are overwritten in place.

Some versions are broken, and with some the transform has a bug: those end in quarantine and in a dead-letter queue. The
short form runs with the tests; ``make crash`` runs the long one (``SILVERSMITH_CRASH_FILES``, ``_KILLS``,
``_SEED``).
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import psutil

from tests.crash.conftest import BROKEN, UNLUCKY, kill

if TYPE_CHECKING:
    from tests.crash.conftest import Crashable

FILES = int(os.environ.get("SILVERSMITH_CRASH_FILES", "300"))
KILLS = int(os.environ.get("SILVERSMITH_CRASH_KILLS", "4"))
SEED = int(os.environ.get("SILVERSMITH_CRASH_SEED", "1"))


def test_kill_nine_at_random_moments(crashable: Crashable) -> None:
    draw = random.Random(SEED)
    stop = threading.Event()
    writer = threading.Thread(target=_write, args=(crashable, random.Random(SEED + 1), stop))
    writer.start()
    workers_killed = commands_killed = 0
    try:
        for _ in range(KILLS):
            process = crashable.start(until_idle=False, workers=2)
            workers_killed += _let_live(crashable, process.pid, draw)
            command = crashable.command(draw.choice(["redrive", "reconcile"]))
            time.sleep(draw.uniform(0.2, 2))
            commands_killed += command.poll() is None
            for each in draw.sample([process, command], 2):
                kill(each)
    finally:
        stop.set()
        writer.join()
    done = _committed(crashable)
    assert done, "or nobody lived long enough for anything to be lost"
    for number in range(FILES):  # every key exists at the end, whatever the writer got to
        if not (crashable.bronze / _key(number)).exists():
            crashable.drop(_key(number), [number])
    crashable.finish(fails=True)
    crashable.output("redrive")  # who was killed three times over a good file has given up on it
    crashable.finish(fails=True)
    result = crashable.check()
    print(
        f"{KILLS} engines, {workers_killed} workers and {commands_killed} commands killed, "
        f"{done:,} objects done between them, {FILES:,} keys, seed {SEED}: {result}"
    )
    crashable.define(unlucky=None)
    for number in range(FILES):
        if (path := crashable.bronze / _key(number)).read_text() == BROKEN:
            path.write_text(f'[{{"id": {number}}}]')
    crashable.output("redrive")
    crashable.finish()
    result = crashable.check(unlucky=None)
    assert not result.quarantined
    assert not result.dead
    print(f"the bug and the broken files mended, redriven: {result}")


def _key(number: int) -> str:
    return f"{'abc'[number % 3]}/{number}.json"


def _write(crashable: Crashable, draw: random.Random, stop: threading.Event) -> None:
    """New files and new versions, as fast as it goes, of very different length so that torn reads would show."""
    while not stop.is_set():
        number = draw.randrange(FILES)
        ids = [draw.randrange(1100) for _ in range(draw.choice([0, 1, 3, 2000]))] or [number]
        kind = draw.randrange(20)
        if kind == 0:
            crashable.write(_key(number), BROKEN)
        else:
            crashable.drop(_key(number), [*ids, UNLUCKY] if kind == 1 else ids)
        stop.wait(0.002)


def _committed(crashable: Crashable) -> int:
    """The number of silver objects in the journal."""
    if not crashable.lake.journal.exists():
        return 0
    with closing(sqlite3.connect(f"file:{crashable.lake.journal}?mode=ro", uri=True)) as journal:
        try:
            result = journal.execute("SELECT value FROM counters WHERE name = 'function.committed'").fetchone()
        except sqlite3.OperationalError:  # there is a file, and no table yet
            return 0
    return int(result[0]) if result else 0


def _let_live(crashable: Crashable, pid: int, draw: random.Random) -> int:
    """A few seconds of life, in which its workers die, too. How many did.

    One life in four ends while it begins. The others count from their first silver, so that a busy machine makes none
    of them too short to do harm.
    """
    killed, before = 0, _committed(crashable)
    begins = draw.random() < 0.75
    end = time.monotonic() + (90 if begins else draw.uniform(0.3, 4))
    while time.monotonic() < end:
        time.sleep(draw.uniform(0.05, 0.5))
        if begins and _committed(crashable) > before:
            begins, end = False, time.monotonic() + draw.uniform(0.3, 4)
        try:
            workers = [child for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]
            if workers and not begins and draw.random() < 0.5:
                draw.choice(workers).kill()
                killed += 1
        except psutil.NoSuchProcess:
            continue
    return killed
