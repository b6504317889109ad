"""The history of a table is erased: no file of gold has a byte of it, and who commits or reads beside it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith.errors import SilversmithError
from silversmith.operations.versions import ERASED, ErasedHistory, GoldFiles, erase_history
from silversmith.stores.local import LocalStore
from silversmith.tables.commit import bring
from silversmith.tables.delta import RETENTION
from silversmith.tables.format import GoldFailed
from silversmith.tables.spec import TableSpec, ViewSpec
from silversmith.tables.upkeep import keep
from silversmith.tables.views import Difference, Refresh, compare, refresh
from tests.unit.tables.kit import TRANSFORM, GoldBench, nothing
from tests.unit.tables.test_commit import Killed, kill_at, once

PEOPLE = ViewSpec(
    "people", "select who, count(*) as n from orders group by who", ("orders",), ("who",), {"orders": (('"who"',),)}
)


@pytest.fixture
def bench(tmp_path: Path) -> GoldBench:
    return GoldBench(tmp_path)


def files_of(bench: GoldBench) -> GoldFiles:
    root = bench.root / "gold"
    store = LocalStore(root, scratch=bench.root / "scratch", locks=bench.root / "locks", foreign_writers=True)
    return GoldFiles(store, str(root))


def erase(
    bench: GoldBench, *files: str, name: str = "orders", step: Callable[[str], None] = nothing
) -> ErasedHistory | None:
    chosen = files or None
    return erase_history(name, chosen, gold=bench.gold, place=files_of(bench), step=step)


def everything(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each path below a folder, and all that it says: its name, its bytes, and the values of Parquet files."""
    for path in sorted(folder.rglob("*")):
        said = str(path.relative_to(folder))
        if path.is_file():
            content = path.read_bytes()
            said += content.decode("latin-1")
            if content[:4] == b"PAR1":
                said += repr(pl.read_parquet(content).rows())
        yield path, said


def saying(word: str, folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path, said in everything(folder) if word in said]


@pytest.mark.parametrize("partition_by", [pytest.param((), marks=pytest.mark.full), ("who",)])
def test_no_file_of_gold_says_anything_of_rows_that_are_erased(bench: GoldBench, partition_by: tuple[str, ...]) -> None:
    table = TableSpec("orders", TRANSFORM, partition_by=partition_by)
    gold = bench.root / "gold"
    person = bench.put("of-jane.csv", {"who": ["jane", "x"], "v": ["secret", "secret 2"]})
    bench.bring(person, table=table)
    bench.bring(bench.put("b.csv", {"who": ["x"], "v": ["y"]}), table=table)
    refresh([PEOPLE], bench.gold, step=nothing)
    for number in range(22):  # there is a checkpoint, too
        bench.bring(bench.put("c.csv", {"who": ["x"], "v": [str(number)]}), table=table)
    refresh([PEOPLE], bench.gold, step=nothing)
    bench.delete("of-jane.csv")
    bench.bring(person, table=table)
    refresh([PEOPLE], bench.gold, step=nothing)
    assert all(saying(word, gold) for word in ("jane", "secret"))
    erased = erase(bench, "of-jane.csv")
    assert erased is not None
    assert erased.data_files
    assert erased.log_files > 20
    erase(bench, name="people")
    assert not any(saying(word, gold) for word in ("jane", "secret"))
    assert bench.rows() == [("b.csv", "x", "y"), ("c.csv", "x", "21")]
    assert bench.table("people").rows() == [("x", 2)]
    assert bench.snapshot().table.metadata().configuration[RETENTION] == "interval 7 days"
    bench.bring(bench.put("d.csv", {"who": ["new"], "v": ["z"]}), table=table)
    assert refresh([PEOPLE], bench.gold, step=nothing) == {"people": Refresh.GROUPS}
    assert compare(PEOPLE, bench.gold) == Difference(0, 0)


def test_older_versions_are_refused_and_not_read_as_empty(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"who": ["x"], "v": ["1"]}))
    opened = bench.snapshot()
    person = bench.put("p.csv", {"who": ["jane"], "v": ["secret"]})
    bench.bring(person)
    with_person = bench.snapshot()
    bench.delete("p.csv")
    bench.bring(person)
    erased = erase(bench, "p.csv")
    assert erased is not None
    for version in range(erased.version):
        with pytest.raises(SilversmithError):
            bench.gold.read("orders", version)
    assert opened.etags(["a.csv"]), "who had opened an older version goes on with the files that held no such rows"
    with pytest.raises(GoldFailed):
        with_person.etags(["p.csv"])


def test_a_view_that_lagged_behind_is_computed_as_a_whole(bench: GoldBench) -> None:
    """The changes since then are gone from the log: nobody may take what is left of it for all of them."""
    bench.bring(bench.put("a.csv", {"who": ["x"], "v": ["1"]}))
    refresh([PEOPLE], bench.gold, step=nothing)
    person = bench.put("p.csv", {"who": ["jane"], "v": ["secret"]})
    bench.bring(person)
    bench.bring(bench.put("b.csv", {"who": ["y"], "v": ["2"]}))
    bench.delete("p.csv")
    bench.bring(person)
    erase(bench, "p.csv")
    assert refresh([PEOPLE], bench.gold, step=nothing) == {"people": Refresh.WHOLE}
    assert sorted(bench.table("people").rows()) == [("x", 1), ("y", 1)]


def test_a_committer_that_had_read_the_rows_before_brings_none_back(bench: GoldBench) -> None:
    """Its data file, which no version has, is deleted by the next pass."""
    gold = bench.root / "gold"
    bench.bring(bench.put("a.csv", {"who": ["x"], "v": ["1"]}))
    person = bench.put("p.csv", {"who": ["jane"], "v": ["secret"]})

    def overtaken() -> None:
        bench.delete("p.csv")
        bring(TableSpec("orders", TRANSFORM), [person], silver=bench.silver, gold=bench.gold, step=nothing)
        erase(bench, "p.csv")

    bench.bring(person, step=once("tables.read", overtaken))
    assert bench.rows() == [("a.csv", "x", "1")]
    erase(bench, "p.csv")
    assert saying("secret", gold) == []


@pytest.mark.parametrize("name", ["erase.closed", "erase.data", "erase.checkpoint", "erase.log"])
def test_it_is_killed_at_any_step_and_called_again(name: str, bench: GoldBench) -> None:
    person = bench.put("p.csv", {"who": ["jane", "x"], "v": ["secret", "secret"]})
    bench.bring(bench.put("a.csv", {"who": ["x"], "v": ["1"]}), person)
    bench.put("p.csv", {"who": ["jane"], "v": ["secret"]})
    bench.bring(person)
    bench.delete("p.csv")
    bench.bring(person)
    with pytest.raises(Killed):
        erase(bench, "p.csv", step=kill_at(name))
    assert bench.rows() == [("a.csv", "x", "1")]
    bench.bring(bench.put("b.csv", {"who": ["y"], "v": ["2"]}))
    erase(bench, "p.csv")
    assert saying("secret", bench.root / "gold") == []
    assert bench.rows() == [("a.csv", "x", "1"), ("b.csv", "y", "2")]


def test_commits_and_compactions_between_its_steps_are_not_harmed(bench: GoldBench) -> None:
    for number in range(3):
        bench.bring(bench.put(f"{number}.csv", {"who": ["x"], "v": [str(number)]}))
    person = bench.put("p.csv", {"who": ["jane"], "v": ["secret"]})
    bench.bring(person)
    bench.delete("p.csv")
    bench.bring(person)
    disturbed: list[str] = []

    def disturb(name: str) -> None:
        if disturbed.count(name) < 2:
            disturbed.append(name)
            bench.bring(bench.put(f"{len(disturbed)}-more.csv", {"who": ["y"], "v": ["2"]}))
            keep("orders", bench.gold, now=0.0, force=True, step=nothing)

    erase(bench, "p.csv", step=disturb)
    assert len(disturbed) > 4
    assert len(bench.rows()) == 3 + len(disturbed)
    erase(bench, "p.csv")
    assert saying("secret", bench.root / "gold") == []
    assert len(bench.rows()) == 3 + len(disturbed)


def test_a_table_that_lacks_a_data_file_is_left_alone(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"who": ["x"], "v": ["1"]}))
    (bench.root / "gold/orders" / next(iter(bench.snapshot().paths))).unlink()
    with pytest.raises(GoldFailed, match="tables rebuild orders"):
        erase(bench, "a.csv")


def test_what_cannot_be_read_is_deleted(bench: GoldBench) -> None:
    bench.bring(bench.put("a.csv", {"who": ["x"], "v": ["1"]}))
    torn = bench.root / "gold/orders/part-torn.parquet"
    torn.write_bytes(b"PAR1 secret")
    other = bench.root / "gold/orders/_delta_log/_commit_torn.json.tmp"
    other.write_text('{"add":{"stats":"secret"}}')
    erase(bench, "p.csv")
    assert (torn.exists(), other.exists()) == (False, False)


def test_there_is_no_table(bench: GoldBench) -> None:
    assert erase(bench, "a.csv") is None


def test_a_name_of_a_partition_may_be_any_text(tmp_path: Path) -> None:
    """The names of its files are those of the log, whatever is in them."""

    @settings(max_examples=15)
    @given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4, unique=True))
    def check(names: list[str]) -> None:
        from tempfile import mkdtemp

        bench = GoldBench(Path(mkdtemp(dir=tmp_path)))
        table = TableSpec("orders", TRANSFORM, partition_by=("who",))
        brought = bench.bring(bench.put("a.csv", {"who": names, "v": ["1"] * len(names)}), table=table)
        if brought.failed:
            return
        bench.bring(bench.put("a.csv", {"who": names, "v": ["2"] * len(names)}), table=table)
        erased = erase(bench, "a.csv")
        assert erased is not None
        assert len(erased.data_files) == 2 * len(names)  # the older ones, and the changes
        assert sorted(bench.table()["v"].to_list()) == ["2"] * len(names)

    check()


def test_the_mark_of_an_erased_commit_is_no_action_of_a_table() -> None:
    assert b'"add"' not in ERASED
