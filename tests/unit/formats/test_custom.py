"""Readers that others write: good ones, and every way in which one can misbehave."""

from __future__ import annotations

import gzip
import io
import linecache
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith import Archive, Contract, CustomReader, DataError, DefinitionError, Pipeline
from silversmith.formats import custom
from silversmith.testing import run
from silversmith.testing.result import Result

SCHEMA = {"n": pl.UInt16}


@dataclass(frozen=True)
class Pairs:
    """Numbers of two bytes each; ``at_once`` in a frame."""

    at_once: int = 1000
    name: str = "pairs"

    def read(self, file: BinaryIO) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame(schema=SCHEMA)
        while block := file.read(2 * self.at_once):
            if len(block) % 2:
                raise DataError("HalfPair", "the file ends within a pair", hint="fetch it again")
            numbers = [int.from_bytes(block[at : at + 2], "big") for at in range(0, len(block), 2)]
            yield pl.DataFrame({"n": numbers}, schema=SCHEMA)


@dataclass(frozen=True)
class Says:
    """Reads whatever a test says."""

    what: Callable[[BinaryIO], Any]
    name: str = "says"

    def read(self, file: BinaryIO) -> Iterable[pl.DataFrame]:
        frames: Iterable[pl.DataFrame] = self.what(file)
        return frames


def result(reader: Any, content: bytes = b"\0\1\0\2", key: str = "a.bin", contract: Contract | None = None) -> Result:
    pipeline = Pipeline("p")
    pipeline.transform("*", name="t", reader=reader, contract=contract)(lambda rows: rows)
    return run(pipeline, {key: content})


def failure(what: Callable[[BinaryIO], Any]) -> str:
    outcome = result(Says(what))
    assert not outcome.silver
    assert not outcome.errors
    error = outcome.failures["t", "a.bin"]
    assert error["code"] == "TransformError"
    return str(error["message"])


@given(st.lists(st.integers(0, 2**16 - 1), max_size=50), st.integers(1, 7))
def test_its_frames_are_silver_whatever_their_size(numbers: list[int], at_once: int) -> None:
    content = b"".join(number.to_bytes(2, "big") for number in numbers)
    outcome = result(Pairs(at_once), content)
    assert outcome.silver["t", "a.bin"]["n"].to_list() == numbers
    assert outcome.lineage["t", "a.bin"].format == "pairs"


def test_rows_are_numbered_for_the_contract() -> None:
    outcome = result(Pairs(1), b"\0\1\0\2\0\3", contract=Contract(schema=SCHEMA, rules={"odd": pl.col("n") % 2 == 1}))
    outcome.assert_rejected("t", "a.bin", {2: "odd"})


def test_packed_files_and_members_of_archives_come_unpacked() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a", b"\0\1")
        archive.writestr("b", b"\0\2")
    assert result(Pairs(), gzip.compress(b"\0\1")).silver["t", "a.bin"]["n"].to_list() == [1]
    assert result(Pairs(), packed.getvalue()).silver["t", "a.bin"]["n"].to_list() == [1, 2]
    assert result(Archive(members="b", reader=Pairs()), packed.getvalue()).silver["t", "a.bin"]["n"].to_list() == [2]


def test_its_data_error_quarantines_the_file() -> None:
    outcome = result(Pairs(), b"\0\1\0")
    outcome.assert_error("t", "a.bin", "HalfPair")
    assert outcome.errors["t", "a.bin"]["error"]["hint"] == "fetch it again"


def broken(file: BinaryIO) -> Iterator[pl.DataFrame]:
    yield pl.DataFrame(schema=SCHEMA)
    raise KeyError("nowhere")


def test_any_other_exception_is_its_own_bug_with_its_traceback() -> None:
    message = failure(broken)
    assert "the reader 'says' failed" in message
    assert "KeyError: 'nowhere'" in message
    assert "test_custom.py" in message
    assert "silversmith/formats" not in message


def two_kinds(file: BinaryIO) -> Iterator[pl.DataFrame]:
    yield pl.DataFrame({"a": [1]})
    yield pl.DataFrame({"a": ["x"]})


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda file: iter(()), "yielded nothing"),
        (lambda file: pl.DataFrame({"a": [1]}), "`yield frame`"),
        (lambda file: None, "returned NoneType"),
        (lambda file: [pl.LazyFrame({"a": [1]})], "yielded LazyFrame, as number 1"),
        (lambda file: [{"a": 1}], "yielded dict"),
        (lambda file: [pl.DataFrame()], "without columns"),
        (lambda file: [pl.DataFrame({"a": [object()]})], "Python objects"),
        (two_kinds, "number 2 has {a: String}, the first has {a: Int64}"),
        (lambda file: sys.exit(3), "SystemExit: 3"),
    ],
)
def test_an_error_says_how_a_reader_misbehaves(what: Callable[[BinaryIO], Any], says: str) -> None:
    assert says in failure(what)


def test_names_that_no_column_may_have_are_the_files_fault() -> None:
    result(Says(lambda file: [pl.DataFrame({"__row__": [1]})])).assert_error("t", "a.bin", "ReservedColumn")


class Nameless:
    def read(self, file: BinaryIO) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame(schema=SCHEMA)


@pytest.mark.parametrize(
    ("reader", "says"),
    [
        (Pairs, "give an object: Pairs()"),
        (Nameless(), "its name is None"),
        (Pairs(name="Pairs!"), "lower-case letters"),
        (7, "int has no method read(file)"),
        ("pairs", "no installed package offers a reader 'pairs'"),
    ],
)
def test_an_invalid_reader_is_refused_at_its_declaration(reader: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=r"test_custom\.py") as raised:
        result(reader)
    assert says in str(raised.value)


def test_the_protocol_is_what_is_documented() -> None:
    assert isinstance(Pairs(), CustomReader)
    assert not isinstance(Nameless(), CustomReader)


# --- entry points -----------------------------------------------------------------------------------------------------


CODE = """
from dataclasses import dataclass
import polars as pl

FACTOR = {factor}

@dataclass(frozen=True)
class Bytes:
    name: str = "bytes"

    def read(self, file):
        yield pl.DataFrame({{"n": [FACTOR * byte for byte in file.read()]}}, schema={{"n": pl.Int64}})
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package with entry points, as ``pip`` would, into a folder of its own."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def install(points: str, *, name: str = "bytes-of-ours", factor: int = 1) -> None:
        monkeypatch.delitem(sys.modules, "bytes_of_ours", raising=False)
        (site / "bytes_of_ours.py").write_text(CODE.format(factor=factor))
        linecache.checkcache()
        info = site / f"{name.replace('-', '_')}-1.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[{custom.GROUP}]\n{points}\n")

    return install


def fingerprint(reader: Any) -> str:
    pipeline = Pipeline("p")
    pipeline.transform("*", name="t", reader=reader)(lambda rows: rows)
    return pipeline.find("t").fingerprint


def test_a_packages_reader_goes_by_its_name(installed: Callable[..., None]) -> None:
    installed("raw = bytes_of_ours:Bytes")
    assert result("raw", b"\1\2").silver["t", "a.bin"]["n"].to_list() == [1, 2]


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ("raw = bytes_of_ours:Nothing", "cannot be loaded: AttributeError"),
        ("raw = bytes_of_ours:FACTOR", "int has no method read"),
        ("other = bytes_of_ours:Bytes", "there are: other"),
    ],
)
def test_a_package_that_offers_no_reader(installed: Callable[..., None], points: str, says: str) -> None:
    installed(points)
    with pytest.raises(DefinitionError) as raised:
        result("raw")
    assert says in str(raised.value)


def test_two_packages_of_one_name(installed: Callable[..., None]) -> None:
    installed("raw = bytes_of_ours:Bytes")
    installed("raw = bytes_of_ours:Bytes2", name="another")
    with pytest.raises(DefinitionError, match="several installed packages"):
        result("raw")


def test_a_readers_code_and_options_are_in_the_fingerprint(installed: Callable[..., None]) -> None:
    assert fingerprint(Pairs()) == fingerprint(Pairs())
    assert len({fingerprint(Pairs()), fingerprint(Pairs(7)), fingerprint(None)}) == 3
    installed("raw = bytes_of_ours:Bytes")
    before = fingerprint("raw")
    installed("raw = bytes_of_ours:Bytes")
    assert fingerprint("raw") == before
    installed("raw = bytes_of_ours:Bytes", factor=200)
    assert fingerprint("raw") != before
