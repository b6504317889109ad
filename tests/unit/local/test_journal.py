"""The journal: its transactions, its schema's versions, its query plans, and what becomes of a damaged file."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith.local import journal as module
from silversmith.local import stack as stacks
from silversmith.local.journal import Journal, JournalTooNew, JournalTooOld, open_or_rebuild, queries
from silversmith.local.services import ServiceMessage, hop_row, write
from silversmith.local.services.queue import QueueService

SCHEMA = tuple(
    resources.files("silversmith.local").joinpath(file).read_text("utf-8") for file in module.MIGRATIONS
)  # fmt: skip
NEXT = """
-- A version that there is not yet; with a trigger, in which there are semicolons.
ALTER TABLE objects ADD COLUMN owner TEXT NOT NULL DEFAULT 'nobody';
CREATE TRIGGER objects_noticed AFTER INSERT ON objects BEGIN
    INSERT INTO counters (name, value) VALUES ('noticed', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1;
END;
"""


def send(journal: Journal, number: int) -> None:
    """A message, its hop and a counter, in one transaction: they belong together."""
    with journal.transaction():
        post = ServiceMessage("topic", "queue", "subscription", f"key-{number}", "v", b"{}" * 100, 0.0)
        QueueService(journal, stacks.QueueResource("queue", "arn:queue")).accept([post], 0.0)
        journal.count("sent")


def seen(journal: Journal) -> tuple[int, int, int]:
    """The same number three times, if no transaction was torn."""
    messages = QueueService(journal, stacks.QueueResource("queue", "arn:queue")).receive(10_000, 1.0)
    hops = sum(len(journal.rows("hops", key=message.key)) for message in messages)
    return len(messages), hops, journal.counter("sent")


def pragma(path: Path, name: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_committed_rows_are_there_for_the_next_engine(tmp_path: Path) -> None:
    path = tmp_path / "a?b%c#d.db"
    with closing(Journal(path)) as journal:
        send(journal, 1)
    with closing(Journal(path)) as journal:
        assert seen(journal) == (1, 1, 1)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert (pragma(path, "journal_mode"), pragma(path, "auto_vacuum")) == ("wal", 2)
    assert pragma(path, "user_version") == len(module.MIGRATIONS) == len(SCHEMA)


def test_an_exception_undoes_the_whole_transaction(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        with pytest.raises(KeyboardInterrupt), journal.transaction():
            journal.count("a")
            raise KeyboardInterrupt
        with pytest.raises(sqlite3.OperationalError), journal.transaction():
            journal.count("a")
            with journal.transaction():
                pass
        assert journal.counter("a") == 0


def test_counters_add_up(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        journal.count("a")
        journal.count("a", 41)
        journal.change("set_counter", name="b", value=7)
        assert (journal.counter("a"), journal.counter("b"), journal.counter("c")) == (42, 7, 0)


def test_a_reader_sees_committed_rows_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as writer, closing(Journal(path, readonly=True)) as reader:
        with writer.transaction():
            writer.count("a")
            assert reader.counter("a") == 0
        assert reader.counter("a") == 1
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.count("a")


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        Journal(tmp_path / "journal.db", readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_several_may_be_the_first_to_open_it(tmp_path: Path) -> None:
    path, ready, errors = tmp_path / "journal.db", threading.Barrier(4), list[BaseException]()

    def open_and_count() -> None:
        try:
            ready.wait()
            with closing(Journal(path)) as journal:
                journal.count("opened")
        except BaseException as error:  # noqa: BLE001 -- told to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=open_and_count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with closing(Journal(path)) as journal:
        assert journal.counter("opened") == 4


def test_an_older_journal_is_brought_up_to_date_with_all_that_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        send(journal, 1)
    with closing(Journal(path, migrations=(*SCHEMA, NEXT))) as journal:
        assert seen(journal) == (1, 1, 1)
        values = {"identity": "1", "etag": "e", "version": "v", "sequencer": "0", "size": 1}
        journal.change("put_object", bucket="b", key="k", **values)
        assert journal.counter("noticed") == 1
    assert pragma(path, "user_version") == len(SCHEMA) + 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT owner FROM objects").fetchall() == [("nobody",)]


@pytest.mark.parametrize("version", range(1, len(SCHEMA) + 1))
def test_from_every_version_the_way_leads_to_the_same_schema(tmp_path: Path, version: int) -> None:
    def schema(path: Path) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()

    Journal(tmp_path / "old.db", migrations=SCHEMA[:version]).close()
    Journal(tmp_path / "old.db").close()
    Journal(tmp_path / "new.db").close()
    assert schema(tmp_path / "old.db") == schema(tmp_path / "new.db")


def test_a_migration_that_fails_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        send(journal, 1)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        Journal(path, migrations=(*SCHEMA, NEXT + "DROP TABLE missing;"))
    with closing(Journal(path)) as journal:
        assert seen(journal) == (1, 1, 1)
        assert journal.damage() == ""


def test_an_upgrade_that_is_killed_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    """It is killed at its last instruction before the commit. The next engine upgrades again and has every message."""
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        send(journal, 1)
    script = (
        "import sys; from pathlib import Path; from silversmith.local.journal import Journal\n"
        "Journal(Path(sys.argv[1]), migrations=sys.argv[2:])"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, str(path), *SCHEMA, NEXT],
        env={**os.environ, "SILVERSMITH_FAULT": "journal.migrated"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert pragma(path, "user_version") == len(SCHEMA)
    with closing(Journal(path, migrations=(*SCHEMA, NEXT))) as journal:
        assert seen(journal) == (1, 1, 1)
        assert journal.damage() == ""
    assert pragma(path, "user_version") == len(SCHEMA) + 1


def test_a_script_must_end() -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(ValueError, match="has no end"):
        Journal(Path(folder) / "journal.db", migrations=("CREATE TABLE a (b); CREATE TABLE c (d)",))


def test_a_newer_journal_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path, migrations=(*SCHEMA, NEXT)).close()
    messages: list[str] = []
    attempts: list[Callable[[], Journal]] = [
        lambda: Journal(path),
        lambda: Journal(path, readonly=True),
        lambda: open_or_rebuild(path, warn=messages.append),
    ]
    for attempt in attempts:
        with pytest.raises(JournalTooNew, match=r"Upgrade Silversmith, or move the file away"):
            attempt()
    assert messages == []
    Journal(path, migrations=(*SCHEMA, NEXT)).close()


def test_a_reader_of_an_older_journal_gets_advice(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path).close()
    with pytest.raises(JournalTooOld, match="Start `silversmith run` once"):
        Journal(path, readonly=True, migrations=(*SCHEMA, NEXT))


#: Scans that are meant: by statement, the table, and why that costs little.
SCANS = {
    "counters": "counters",  # a few dozen rows
    "on_the_way": "outbox",  # emptied in every turn of the engine
    "in_outbox_for": "outbox",
    "queues_in_use": "queues",  # a few dozen rows
    "count_depths": "queues",  # and their messages by an index; once at the start
    "newest_time": "hops",  # from the last one, and no further
    "last_commit": "hops",  # backward, once for each transform at the start of a run with alarms
    "move_messages": "messages",  # only when somebody sets the clock
    "move_outbox": "outbox",
    "all_messages": "messages",  # only when somebody erases a key
    "all_on_the_way": "outbox",
    "outcome_transforms": "outcomes",
    "oldest_hops": "hops",  # in the order of their numbers, and no further than its LIMIT
}
TABLES = {"objects", "outbox", "queues", "messages", "hops", "outcomes", "counters", "tallies"}


@pytest.mark.parametrize("name", sorted(queries()))
def test_no_statement_looks_through_a_whole_table_or_sorts(tmp_path: Path, name: str) -> None:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        plan = journal.plan(name)
    scanned = {match.group(1) for step in plan if (match := re.match(r"SCAN (\w+)", step))} & TABLES
    assert scanned == {SCANS[name]} if name in SCANS else not scanned
    assert not [step for step in plan if "TEMP B-TREE" in step]


#: A statement is run by its name, and other things have the same names: ``event.get("hops")`` runs none.
RUN = re.compile(r"\b_?(?:rows|row|change|change_many)\(\s*\"(\w+)\"")


def test_every_statement_is_used() -> None:
    sources = Path(module.__file__).parents[1].rglob("*.py")
    run = {name for path in sources for name in RUN.findall(path.read_text("utf-8"))}
    assert set(queries()) - run == {"hops", "failed_outcomes"}, "these two are for tests only"


def test_statements_that_change_the_number_of_messages_are_run_in_one_file(tmp_path: Path) -> None:
    """There the number is kept: nowhere else must a message be added, removed, or moved."""
    change = re.compile(
        r"INSERT INTO messages|DELETE FROM messages|UPDATE messages SET[^;]*?\bqueue = .*?WHERE", re.DOTALL
    )
    changing = {name for name, statement in queries().items() if change.search(statement)}
    assert changing == {
        "send",
        "send_dead",
        "move_to_dlq",
        "delete",
        "expire",
        "redrive",
        "take_dead",
        "forget_message",
    }
    folder = Path(module.__file__).parents[1]
    for path in folder.rglob("*.py"):
        by_journal = set(RUN.findall(path.read_text("utf-8")))
        assert path == folder / "local/services/queue.py" or not by_journal & changing, path


def test_pages_that_are_freed_are_not_written_once_more(tmp_path: Path) -> None:
    """Debian's SQLite would overwrite what is deleted with zeros, and so write every freed page to the log."""
    with closing(Counting(tmp_path / "journal.db")) as journal:
        assert journal.pragma("secure_delete") == 0


class Counting(Journal):
    """A journal that counts the steps of SQLite's machine: what a statement costs, whatever the computer does."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.steps = 0
        self._db.set_progress_handler(self._tick, 1)

    def _tick(self) -> int:
        self.steps += 1
        return 0

    def pragma(self, name: str) -> Any:
        return self._db.execute(f"PRAGMA {name}").fetchone()[0]


def cost(journal: Counting, work: Callable[[], object]) -> int:
    before = journal.steps
    work()
    return journal.steps - before


def test_send_receive_delete_and_trace_cost_the_same_however_much_is_stored(tmp_path: Path) -> None:
    journal = Counting(tmp_path / "journal.db")
    queue = QueueService(journal, stacks.QueueResource("queue", "arn:queue"))

    def delete() -> None:
        (messages,) = queue.receive(1, 1.0)
        with journal.transaction():
            assert queue.delete([messages.receipt]) == 1

    work: dict[str, Callable[[], object]] = {
        "send": lambda: send(journal, 0),
        "receive": lambda: queue.receive(10, 1.0),
        "depth": lambda: queue.depth(1e9),
        "delete": delete,
        "trace": lambda: journal.rows("recent_hops", key="key-7", most=100),
    }
    costs = []
    for stored in (100, 3000):
        for number in range(queue.depth(0)[0], stored):
            send(journal, number + 1)
        work["trace"]()
        costs.append({name: cost(journal, step) for name, step in work.items()})
    journal.close()
    for name, (few, many) in {name: (costs[0][name], costs[1][name]) for name in work}.items():
        assert many <= few * 1.1 + 10, f"{name}: {few} steps, then {many}"


@contextmanager
def killed(folder: Path, *, checkpoint_after: int | None = None, sent: int = 30) -> Iterator[Path]:
    """The files of a journal as a killed process leaves them, copied to a folder of their own."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name) / "alive.db"
        with closing(Journal(path)) as journal:
            for number in range(sent):
                send(journal, number)
                if number == checkpoint_after:
                    with closing(sqlite3.connect(path)) as connection:
                        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            left = Path(name) / "journal.db"
            for side in ("", "-wal"):
                shutil.copyfile(f"{path}{side}", f"{left}{side}")
        yield left


def works(path: Path, lines: list[str]) -> tuple[int, int, int]:
    """The journal opens and is sound; what it holds is whole transactions; and it takes new ones."""
    with closing(open_or_rebuild(path, warn=lines.append)) as journal:
        assert journal.damage() == ""
        result = seen(journal)
        assert len(set(result)) == 1, f"a torn transaction: {result}"
        send(journal, 1000)
        assert journal.counter("sent") == result[0] + 1
    return result


share = st.floats(0, 1)
LIGHT = settings(max_examples=25, deadline=None)


@LIGHT
@given(share)
def test_any_truncation_of_the_log_leaves_whole_transactions(cut: float) -> None:
    with tempfile.TemporaryDirectory() as folder, killed(Path(folder)) as path:
        log = Path(f"{path}-wal")
        whole = log.stat().st_size
        with log.open("r+b") as file:
            file.truncate(int(whole * cut))
        messages: list[str] = []
        sent, _, _ = works(path, messages)
        assert messages == []
        assert sent == 30 if cut == 1 else sent <= 30


@LIGHT
@given(share, st.integers(0, 29))
def test_a_truncation_after_a_checkpoint_leaves_whole_transactions_too(cut: float, checkpoint: int) -> None:
    """The file may then be newer than what is left of the log: such a mixture must not be taken for sound."""
    with tempfile.TemporaryDirectory() as folder, killed(Path(folder), checkpoint_after=checkpoint) as path:
        log = Path(f"{path}-wal")
        with log.open("r+b") as file:
            file.truncate(int(log.stat().st_size * cut))
        with closing(open_or_rebuild(path, warn=lambda _: None)) as journal:
            assert journal.damage() == ""
            send(journal, 1000)


@LIGHT
@given(share, st.binary(min_size=1, max_size=64))
def test_garbage_in_the_log_leaves_whole_transactions(place: float, garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, killed(Path(folder)) as path:
        log = Path(f"{path}-wal")
        with log.open("r+b") as file:
            file.seek(int(log.stat().st_size * place))
            file.write(garbage)
        works(path, [])


@LIGHT
@given(st.integers(0, 40), st.booleans(), st.booleans())
def test_a_page_of_zeros_is_noticed_and_a_new_journal_begun(page: int, clean: bool, short: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, killed(Path(folder), checkpoint_after=29) as path:
        if clean:
            Path(f"{path}-wal").unlink()
        size = path.stat().st_size
        offset = page * 4096 % size
        with path.open("r+b") as file:
            if short:
                file.truncate(offset)
            else:
                file.seek(offset)
                file.write(bytes(4096))
        messages: list[str] = []
        sent, _, _ = works(path, messages)
        assert sent in {0, 30}
        assert bool(messages) <= (sent == 0)
        assert path.with_name("journal.db.damaged").exists() == bool(messages)


def test_a_file_that_is_no_journal_is_moved_aside_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    messages: list[str] = []
    for text in ("no database at all, but long enough to be one\n" * 99, "another\n" * 999):
        path.write_text(text)
        with closing(open_or_rebuild(path, warn=messages.append)) as journal:
            send(journal, 1)
        assert (tmp_path / "journal.db.damaged").read_text() == text
    assert sorted(file.name for file in tmp_path.iterdir()) == ["journal.db", "journal.db.damaged"]
    assert len(messages) == 2
    assert "not a database" in messages[0]
    assert str(tmp_path / "journal.db.damaged") in messages[0]
    assert "rebuilt from the buckets" in messages[0]


def test_a_journal_without_one_of_its_tables_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        send(journal, 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE queues")
    messages: list[str] = []
    assert works(path, messages) == (0, 0, 0)
    assert "no such table: " in messages[0]


def test_a_journal_that_is_sound_is_only_opened(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        send(journal, 1)
    messages: list[str] = []
    assert works(path, messages) == (1, 1, 1)
    assert messages == []


def test_other_errors_are_not_taken_for_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.mkdir()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        open_or_rebuild(path, warn=lambda _: None)
    assert [file.name for file in tmp_path.iterdir()] == ["journal.db"]


def test_free_pages_are_given_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        with journal.transaction():
            write(journal, hops=[hop_row(f"k{n}", "v", at=n, room="r", name="n", what="w") for n in range(5000)])
        journal.change("oldest_hops", before=1e9, most=5000)
        total, free = journal.pages()
        assert free > total / 2
        assert journal.shrink(10) == free - 10
        assert journal.shrink(10_000) == 0
        assert journal.pages()[0] < total / 2
