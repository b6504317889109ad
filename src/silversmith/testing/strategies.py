"""Hypothesis strategies that make files from a contract. Hypothesis must be installed.

>>> @given(files(contract, "csv"))
... def test_any_good_file_becomes_silver(content: bytes) -> None:
...     run(pipeline, {"orders/1.csv": content}).assert_clean()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Any

import polars as pl
from hypothesis import assume
from hypothesis import strategies as st
from polars.testing.parametric import column, dataframes
from polars.testing.parametric.strategies.data import data

from silversmith import Contract
from silversmith.formats.table import ROW
from silversmith.testing.running import encode_frame

__all__ = ["files", "frames"]

Values = st.SearchStrategy[Any]

#: A frame has up to so many rows more than the fewest.
_MORE = 10

#: The types that a format does not hold, or not so that they are read back unchanged.
_NOT_IN_JSON = (pl.Binary, pl.Duration)
_UNFIT = {"csv": (pl.List, pl.Array, pl.Struct, *_NOT_IN_JSON), "ndjson": _NOT_IN_JSON, "json": _NOT_IN_JSON}

#: Letters, digits, signs and blanks of many scripts; some of them need quotes in a CSV file.
_CHARACTERS = st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"))

#: Decimals have at most 38 digits, more than Python's default context.
_DIGITS = Context(prec=60)

#: Times that every format writes and every time unit holds, by type.
_TIMES: Mapping[Any, tuple[Any, Any]] = {
    pl.Date: (date(1700, 1, 1), date(2200, 12, 31)),
    pl.Datetime: (datetime(1700, 1, 1), datetime(2200, 12, 31)),  # noqa: DTZ001 -- Polars adds the column's zone
    pl.Time: (time.min, time.max),
    pl.Duration: (timedelta(days=-30_000), timedelta(days=30_000)),
}


def frames(
    contract: Contract, *, rows: tuple[int, int] | None = None, columns: Mapping[str, Values] | None = None
) -> st.SearchStrategy[pl.DataFrame]:
    """Frames whose rows all fulfil the contract.

    The contract's ``fresh`` and columns outside its schema are ignored.

    Args:
        contract: with a schema.
        rows: the fewest and the most rows; by default the contract's ``rows``, and about ten.
        columns: strategies for the values of columns, for rules that few values of the column's type fulfil.

    Raises:
        ValueError: the contract has no schema.
    """
    fewest, most = rows or _size(contract)

    def good(frame: pl.DataFrame) -> pl.DataFrame:
        kept, _ = _split(contract, frame)
        assume(kept.height >= fewest)
        return kept

    return _unchecked(contract, fewest, most, columns or {}).map(good)


def files(
    contract: Contract,
    format: str = "csv",  # noqa: A002 -- what else would a caller call it
    *,
    broken: bool = False,
    rows: tuple[int, int] | None = None,
    columns: Mapping[str, Values] | None = None,
) -> st.SearchStrategy[bytes]:
    """Files whose rows fulfil the contract.

    Args:
        contract: with a schema.
        format: ``csv``, ``ndjson``, ``json`` or ``parquet``.
        broken: one more row breaks the contract: a null, a value out of range, a text that is no number (in CSV), a
            duplicate …
        rows: see :func:`frames`; counts the good rows.
        columns: see :func:`frames`.

    Raises:
        ValueError: see :func:`frames`; or the format does not hold a column's type, or nothing can break the contract.
    """
    for name, dtype in contract.schema.items():
        if isinstance(dtype, _UNFIT.get(format, ())):
            raise ValueError(f'column "{name}": a {format} file holds no {dtype}; try format="parquet"')
    fewest, most = _size(contract)
    if format in {"json", "ndjson"}:  # without a row they have no columns either
        fewest = max(1, fewest)
    good = frames(contract, rows=rows or (fewest, most), columns=columns)
    if not broken:
        return good.map(lambda frame: encode_frame(_written(contract, frame, format, is_good=True), format))
    breaches = _breaches(contract, format)
    if not breaches:
        raise ValueError("no row of such a file could break this contract")
    one_row = _unchecked(contract, 1, 1, columns or {})

    def bad(parts: tuple[pl.DataFrame, pl.DataFrame, Breach]) -> bytes:
        frame = _append(contract, *parts)
        _, rejected = _split(contract, frame)
        assume(rejected is not None)  # not every breach breaks every row
        return encode_frame(_written(contract, frame, format), format)

    return st.tuples(good, one_row, st.one_of(breaches)).map(bad)


def _written(contract: Contract, frame: pl.DataFrame, form: str, *, is_good: bool = False) -> pl.DataFrame:
    """The frame in which text is as the contract's formats write it, which may lose seconds or centuries."""
    if form == "parquet" or not contract.formats:
        return frame
    texts = frame.with_columns(
        notation.written(pl.col(name)) for name, notation in contract.formats.items() if frame[name].dtype != pl.String
    )
    assume(not is_good or _split(contract, texts)[1] is None)
    return texts


def _size(contract: Contract) -> tuple[int, int]:
    fewest, most = contract.expectations.rows
    fewest = fewest or 0
    return fewest, fewest + _MORE if most is None else min(most, fewest + _MORE)


def _split(contract: Contract, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    return contract.split(frame.with_row_index(ROW, 1))


def _unchecked(
    contract: Contract, fewest: int, most: int, columns: Mapping[str, Values]
) -> st.SearchStrategy[pl.DataFrame]:
    """Frames with the contract's schema; rules and unique columns are not regarded yet."""
    if not contract.schema:
        raise ValueError("the contract has no schema: nobody knows which columns a file of it has")
    cells = [
        column(name, dtype, strategy=columns[name] if name in columns else _cells(contract, name))
        for name, dtype in contract.schema.items()
    ]
    return dataframes(cells, min_size=fewest, max_size=most, allow_chunks=False)


def _cells(contract: Contract, name: str) -> Values:
    """Values that fulfil the contract's demands on the cells of a column."""
    low = high = None
    values: Values | None = None
    for demand in contract.demands:
        if demand.column != name:
            continue
        constant = _constant(demand.holds)
        if isinstance(constant, pl.Series):
            values = st.sampled_from(constant.drop_nulls().to_list())
        elif isinstance(constant, str):
            pattern = constant.removeprefix("^(?:").removesuffix(")$")
            texts = st.from_regex(pattern, fullmatch=True, alphabet=_CHARACTERS)
            values = texts.filter(lambda text: text == text.strip())
        elif demand.text.startswith("is below"):
            low = constant
        else:
            high = constant
    values = values if values is not None else of_type(contract.schema[name], low, high)
    return values if name in contract.required else st.none() | values


def _constant(holds: pl.Expr) -> Any:
    """The constant of a comparison: the side that names no column."""
    (side,) = [side for side in holds.meta.pop() if not side.meta.root_names()]
    return pl.select(side).item()


def of_type(dtype: Any, low: Any = None, high: Any = None) -> Values:
    """Values of a type, none of them null, from ``low`` to ``high``.

    They are Polars' own (``polars.testing.parametric``), but for bounds, for times (see :data:`_TIMES`) and for texts:
    a blank text is null in a CSV file.
    """
    kind = dtype.base_type()
    if kind in {pl.String, pl.Categorical}:
        return st.text(_CHARACTERS, max_size=12).map(str.strip).filter(bool)
    if kind in _TIMES:
        ends = [_TIMES[kind][at] if end is None else end for at, end in enumerate((low, high))]
        first, last = pl.Series(ends, dtype=dtype).to_physical()
        return st.integers(first, last).map(lambda number: pl.Series([number]).cast(dtype).item())
    if low is None and high is None:
        return data(dtype, allow_nan=False, allow_infinity=False)
    if dtype.is_integer():
        least, greatest = pl.select(dtype.min().alias("least"), dtype.max().alias("greatest")).row(0)
        return st.integers(least if low is None else low, greatest if high is None else high)
    if kind == pl.Decimal:
        most = 10 ** (dtype.precision or 38) - 1
        ends = [
            default if end is None else int(Decimal(end).scaleb(dtype.scale, _DIGITS))
            for end, default in ((low, -most), (high, most))
        ]
        numbers = st.integers(*ends)
        return numbers.map(lambda number: Decimal(number).scaleb(-dtype.scale, _DIGITS))
    bounds = pl.Series([low, high], dtype=dtype)  # the bounds as floats of this width
    values = st.floats(*bounds, width=32 if kind == pl.Float32 else 64, allow_nan=False, allow_infinity=False)
    return values.filter(lambda value: (low is None or value >= low) and (high is None or value <= high))


#: How to break a row: a column and its bad value; without a column, a duplicate of the last row.
Breach = tuple[str | None, Any]

#: A text that is neither number, time nor boolean.
_NO_NUMBER = "?!"


def _breaches(contract: Contract, form: str) -> list[st.SearchStrategy[Breach]]:
    required = [name for name in contract.required if name not in contract.defaults]
    breaches: list[st.SearchStrategy[Breach]] = [st.just((name, None)) for name in required]
    for demand in contract.demands:
        name, dtype = demand.column, contract.schema[demand.column]
        breaches.append(of_type(dtype).filter(_breaks(name, dtype, demand.holds)).map(_breach_of(name)))
    for rule in contract.rules.values():
        names = [name for name in rule.meta.root_names() if name in contract.schema]
        breaches += [of_type(contract.schema[name]).map(_breach_of(name)) for name in names]
    if form == "csv":
        texts = {pl.String, pl.Categorical}
        others = [name for name, dtype in contract.schema.items() if dtype.base_type() not in texts]
        breaches += [st.just((name, _NO_NUMBER)) for name in others]
    if contract.unique:
        breaches.append(st.just((None, None)))
    return breaches


def _breach_of(name: str) -> Callable[[Any], Breach]:
    return lambda value: (name, value)


def _breaks(name: str, dtype: pl.DataType, holds: pl.Expr) -> Callable[[Any], bool]:
    return lambda value: not pl.DataFrame({name: [value]}, schema={name: dtype}).select(holds).item()


def _append(contract: Contract, good: pl.DataFrame, row: pl.DataFrame, breach: Breach) -> pl.DataFrame:
    """The good rows, and at the end the broken one."""
    name, value = breach
    if name is None:
        return pl.concat([good, good.tail(1)])
    if value == _NO_NUMBER and good.schema[name] != pl.String:
        notation = contract.formats.get(name)
        texts = notation.written(pl.col(name)) if notation is not None else pl.col(name).cast(pl.String)
        good = good.with_columns(texts)
    return pl.concat([good, row.with_columns(pl.Series(name, [value], good.schema[name]))])
