"""Names of columns in JSON that nobody could see are cleaned, as far as that takes nothing from another column."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from silversmith.formats import ROW, Table, read
from silversmith.formats.table import clean_name
from silversmith.stores import Source
from tests.examples import examples

Opener = Callable[..., Source]
BOTH = pytest.mark.parametrize("name", ["a.json", "a.ndjson"])


def of(in_memory: Opener, name: str, record: dict[str, int], **declared: pl.DataType) -> Table:
    return _read(in_memory, name, record, declared)


def _read(in_memory: Opener, name: str, record: dict[str, int], declared: Mapping[str, pl.DataType]) -> Table:
    data = orjson.dumps(record)
    return read(in_memory(data if name == "a.ndjson" else b"[" + data + b"]", name), declared=declared)


@BOTH
def test_signs_that_nobody_sees(in_memory: Opener, name: str) -> None:
    table = of(in_memory, name, {"\ufeffid": 1, " a\u00a0b ": 2, "c": 3}, id=pl.Int64())
    assert table.rows.drop(ROW).collect().to_dicts() == [{"id": 1, "a b": 2, "c": 3}]
    assert table.dialect["renamed"] == {"id": "\ufeffid", "a b": " a\u00a0b "}


@BOTH
@pytest.mark.parametrize("record", [{"a": 1, "a ": 2}, {" a": 1, "a ": 2}, {"\u200b": 1}])
def test_a_name_that_another_column_has_is_not_given(in_memory: Opener, name: str, record: dict[str, int]) -> None:
    table = of(in_memory, name, record)
    assert table.rows.drop(ROW).collect().to_dicts() == [record]
    assert "renamed" not in table.dialect


@BOTH
def test_a_name_that_the_contract_has_stays(in_memory: Opener, name: str) -> None:
    table = _read(in_memory, name, {"a ": 1}, {"a ": pl.Int64()})
    assert table.rows.drop(ROW).collect().to_dicts() == [{"a ": 1}]


@given(names=st.sets(st.text(alphabet="ab \u200b\u00a0", min_size=1, max_size=3), min_size=1, max_size=5))
@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_column_is_lost(in_memory: Opener, names: set[str]) -> None:
    record = {name: number for number, name in enumerate(sorted(names))}
    (row,) = of(in_memory, "a.json", record).rows.drop(ROW).collect().to_dicts()
    assert list(row.values()) == list(record.values())
    assert all(label in (name, clean_name(name)) for label, name in zip(row, record, strict=True))
