"""Hypothesis strategies that make files from a contract. Hypothesis must be installed.

>>> @given(files(contract, "csv"))
... def test_any_good_file_becomes_silver(content: bytes) -> None:
...     run(pipeline, {"orders/1.csv": content}).assert_clean()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
from hypothesis import assume
from hypothesis import strategies as st

from silversmith import Contract
from silversmith.formats.table import ROW
from silversmith.testing.comparing import CHARACTERS, Bounds, Values, of_type
from silversmith.testing.running import encode_frame

__all__ = ["files", "frames"]

#: So many rows more than the fewest are made.
_MORE = 10

#: What a text file cannot hold, or not so that it is read as the same.
_NOT_IN_CSV = (pl.List, pl.Array, pl.Struct, pl.Binary, pl.Duration)
_NOT_IN_JSON = (pl.Binary, pl.Duration)

Row = dict[str, Any]


def frames(
    contract: Contract, *, rows: tuple[int, int] | None = None, columns: Mapping[str, Values] | None = None
) -> st.SearchStrategy[pl.DataFrame]:
    """Frames of which every row keeps the contract.

    What it says of a file's age (``fresh``) and of columns that are not in its schema is not looked at.

    Args:
        contract: with a schema.
        rows: the fewest and the most rows; by default as the contract's ``rows`` say, and about ten.
        columns: strategies for the values of columns, where the column's type says too little: a rule that few values
            keep would let few rows through.

    Raises:
        ValueError: the contract has no schema, or a column a type that no strategy is known for.
    """
    fewest, most = rows or _size(contract)
    row = _row(contract, columns or {})
    return st.lists(row, min_size=fewest, max_size=most).map(lambda found: _kept(contract, found, fewest))


def files(
    contract: Contract,
    format: str = "csv",  # noqa: A002 -- what else would a caller call it
    *,
    broken: bool = False,
    rows: tuple[int, int] | None = None,
    columns: Mapping[str, Values] | None = None,
) -> st.SearchStrategy[bytes]:
    """Files whose rows keep the contract.

    Args:
        contract: with a schema.
        format: ``csv``, ``ndjson``, ``json`` or ``parquet``.
        broken: among the rows is at least one that breaks the contract, in one of the ways that there are: a null that
            may not be, a value out of its range, a text that is no number (in CSV), a row that is there twice …
        rows: as of :func:`frames`; of the rows that keep the contract.
        columns: as of :func:`frames`.

    Raises:
        ValueError: as :func:`frames`; or the format does not hold a column's type, or nothing can break the contract.
    """
    _refuse_types(contract, format)
    fewest, most = _size(contract)
    if format in {"json", "ndjson"}:  # without a row they have no columns either
        fewest = max(1, fewest)
    good = frames(contract, rows=rows or (fewest, most), columns=columns)
    if not broken:
        return good.map(lambda frame: encode_frame(frame, format))
    ways = _ways(contract, format)
    if not ways:
        raise ValueError("no row of such a file could break this contract")
    spoilt = st.tuples(good, _row(contract, columns or {}), st.one_of(ways))
    return spoilt.map(lambda found: encode_frame(_spoilt(contract, *found), format))


def _size(contract: Contract) -> tuple[int, int]:
    fewest, most = contract.expectations.rows
    fewest = fewest or 0
    return fewest, fewest + _MORE if most is None else min(most, fewest + _MORE)


def _row(contract: Contract, columns: Mapping[str, Values]) -> st.SearchStrategy[Row]:
    if not contract.schema:
        raise ValueError("the contract has no schema: nobody knows which columns a file of it has")
    return st.fixed_dictionaries(
        {name: columns[name] if name in columns else _cells(contract, name) for name in contract.schema}
    )


def _cells(contract: Contract, name: str) -> Values:
    """Values of a column that keep what the contract demands of its cells."""
    kind = contract.schema[name]
    allowed, pattern, bounds = None, None, Bounds()
    for demand in contract.demands:
        if demand.column != name:
            continue
        value = _constant(demand.holds)
        if isinstance(value, pl.Series):
            allowed = value.drop_nulls().to_list()
        elif isinstance(value, str):
            pattern = value.removeprefix("^(?:").removesuffix(")$")
        elif demand.text.startswith("is below"):
            bounds = Bounds(value, bounds.high)
        else:
            bounds = Bounds(bounds.low, value)
    if allowed is not None:
        found: Values = st.sampled_from(allowed)
    elif pattern is not None:
        found = st.from_regex(pattern, fullmatch=True, alphabet=CHARACTERS).filter(lambda text: text == text.strip())
    else:
        found = of_type(kind, bounds)
    return found if name in contract.required else st.none() | found


def _constant(holds: pl.Expr) -> Any:
    """What a cell is compared with: of the two sides of the comparison, the one that names no column."""
    (side,) = [one for one in holds.meta.pop() if not one.meta.root_names()]
    return pl.select(side).item()


def _frame(contract: Contract, rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(contract.schema), orient="row")


def _split(contract: Contract, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    return contract.split(frame.with_row_index(ROW, 1))


def _kept(contract: Contract, rows: list[Row], fewest: int) -> pl.DataFrame:
    """The rows that keep the contract, by its own word: rules and unique columns are among it."""
    good, _ = _split(contract, _frame(contract, rows))
    assume(good.height >= fewest)
    return good


#: How a row is spoilt: the column and what becomes of its value; a column None: the row is there twice.
Spoiling = tuple[str | None, Any]


def _ways(contract: Contract, form: str) -> list[st.SearchStrategy[Spoiling]]:
    needed = [name for name in contract.required if name not in contract.defaults]
    ways: list[st.SearchStrategy[Spoiling]] = [st.just((name, None)) for name in needed]
    for demand in contract.demands:
        name, kind = demand.column, contract.schema[demand.column]
        ways.append(of_type(kind).filter(_breaks(name, kind, demand.holds)).map(_spoiling(name)))
    for rule in contract.rules.values():
        named = [name for name in rule.meta.root_names() if name in contract.schema]
        ways += [of_type(contract.schema[name]).map(_spoiling(name)) for name in named]
    if form == "csv":
        ways += [st.just((name, "?!")) for name, kind in contract.schema.items() if not _takes_any_text(kind)]
    if contract.unique:
        ways.append(st.just((None, None)))
    return ways


def _takes_any_text(kind: pl.DataType) -> bool:
    return kind.base_type() in {pl.String, pl.Categorical}


def _spoiling(name: str) -> Callable[[Any], Spoiling]:
    return lambda value: (name, value)


def _breaks(name: str, kind: pl.DataType, holds: pl.Expr) -> Callable[[Any], bool]:
    return lambda value: not pl.DataFrame({name: [value]}, schema={name: kind}).select(holds).item()


def _spoilt(contract: Contract, good: pl.DataFrame, row: Row, spoiling: Spoiling) -> pl.DataFrame:
    """The good rows, and in the end one that is spoilt. Not every way of spoiling works with every row."""
    name, value = spoiling
    if name is None:
        frame = pl.concat([good, good.tail(1)])
    elif value == "?!" and contract.schema[name] != pl.String:
        last = _frame(contract, [row | {name: None}]).with_columns(pl.lit(value, dtype=pl.String).alias(name))
        frame = pl.concat([good.with_columns(pl.col(name).cast(pl.String)), last])
    else:
        frame = pl.concat([good, _frame(contract, [row | {name: value}])])
    _, rejected = _split(contract, frame)
    assume(rejected is not None)
    return frame


def _refuse_types(contract: Contract, form: str) -> None:
    unfit = {"csv": _NOT_IN_CSV, "ndjson": _NOT_IN_JSON, "json": _NOT_IN_JSON}.get(form, ())
    for name, kind in contract.schema.items():
        if isinstance(kind, unfit):
            raise ValueError(f'column "{name}": a {form} file holds no {kind}; try format="parquet"')
