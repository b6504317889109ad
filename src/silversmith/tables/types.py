"""The types of gold's columns: from silver's recorded schema to what every engine reads, and the cast of the values.

A type is what Delta Lake calls it: ``"long"``, ``"string"``, ``"timestamp"`` (UTC), ``"timestamp_ntz"`` …, or a
:class:`Decimal`, :class:`List` or :class:`Struct`. None is the type of a column in which nobody has seen a value yet.
A value is cast exactly or refused. docs/tables.md lists what becomes of what.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arro3.core import (
    Array,
    DataType,
    Field,
    RecordBatch,
    Schema,
    list_array,
    list_flatten,
    list_offsets,
    struct_array,
    struct_field,
)

from silversmith.errors import DataError, Place
from silversmith.tables.spec import ETAG, FILE


@dataclass(frozen=True)
class Decimal:
    """``precision`` digits in all, ``scale`` of them after the point."""

    precision: int
    scale: int


@dataclass(frozen=True)
class List:
    """A list of values of one type."""

    inner: Type


@dataclass(frozen=True)
class Struct:
    """Named fields in their order."""

    fields: tuple[tuple[str, Type], ...]


Type = str | Decimal | List | Struct | None

#: The columns of a table in their order.
Columns = Mapping[str, Type]

_INTEGERS = ("byte", "short", "integer", "long")
_FLOATS = ("float", "double")

#: How many digits the largest value of a type has.
_DIGITS = {"byte": 3, "short": 5, "integer": 10, "long": 19}

#: Silver's types that are their name alone.
_RECORDED: dict[str, Type] = {
    "Int8": "byte",
    "Int16": "short",
    "Int32": "integer",
    "Int64": "long",
    "Int128": Decimal(38, 0),
    "UInt8": "short",
    "UInt16": "integer",
    "UInt32": "long",
    "UInt64": Decimal(20, 0),
    "Float16": "float",
    "Float32": "float",
    "Float64": "double",
    "Boolean": "boolean",
    "String": "string",
    "Binary": "binary",
    "Date": "date",
    "Time": "string",
    "Null": None,
    "Categorical": "string",
}

_ARROW = {
    "byte": DataType.int8(),
    "short": DataType.int16(),
    "integer": DataType.int32(),
    "long": DataType.int64(),
    "float": DataType.float32(),
    "double": DataType.float64(),
    "boolean": DataType.bool(),
    "string": DataType.string(),
    "binary": DataType.binary(),
    "date": DataType.date32(),
    "timestamp": DataType.timestamp("us", tz="UTC"),
    "timestamp_ntz": DataType.timestamp("us"),
}


class SchemaRefused(DataError):
    """Silver's columns cannot be those of a table, or a value has no like in the table's type."""


# -- from silver's recorded schema


def recorded_columns(document: bytes) -> dict[str, Type]:
    """The columns that a table of a transform's silver has, from the schema document beside silver.

    As :meth:`silversmith.schemas.Document.everything` has it: the columns that any of the silver may have, whichever
    code made it; of types that do not go together, the one that was begun last counts.

    Raises:
        SchemaRefused: the document cannot be read, or its columns cannot be a table's.
    """
    columns: dict[str, Type] = {}
    try:
        schemas = json.loads(document)["schemas"]
        for schema in reversed(schemas):
            for name, text in schema["columns"].items():
                recorded = parse_recorded(text)
                columns[name] = _or_first(columns[name], recorded) if name in columns else recorded
        if _INT128.search(texts := json.dumps(schemas)) and _DURATION.search(texts):
            # where the reader must not see Arrow's schema it does not see the unit either: commit.py
            raise ValueError("a Duration of ms or ns beside an Int128 cannot be read: make it Duration('us')")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SchemaRefused(
            "UnreadableSchema",
            f"the recorded schema of silver cannot be a table's: {error}",
            hint="docs/tables.md lists the types that a table can have: cast the column in the transform, and run "
            "`silversmith reconcile --changed`, which makes silver and its schema again",
        ) from None
    require_names(columns)
    require_fields(columns.values())
    return columns


_INT128, _DURATION = re.compile(r"\bInt128\b"), re.compile(r"Duration\(time_unit='(ms|ns)'\)")


def _or_first(first: Type, second: Type) -> Type:
    both = join(first, second)
    return first if both is None else both


def parse_recorded(text: str) -> Type:
    """The type of gold for a type of silver as the schema document writes it. Names are looked up, nothing is run.

    Raises:
        ValueError: the text says no type.
    """
    try:
        return _recorded(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError, KeyError, IndexError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is no type that a table can have") from error


def _recorded(node: ast.expr) -> Type:  # noqa: PLR0911 -- a table of types
    if isinstance(node, ast.Name):
        return _RECORDED[node.id]
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise TypeError(ast.dump(node))
    options = {str(item.arg): item.value for item in node.keywords}
    match node.func.id:
        case "List":
            return List(_recorded(node.args[0]))
        case "Array":
            shape = ast.literal_eval(options["shape"] if "shape" in options else node.args[1])
            array = _recorded(node.args[0])
            for _ in shape if isinstance(shape, tuple) else (shape,):
                array = List(array)
            return array
        case "Struct":
            fields = node.args[0]
            if not isinstance(fields, ast.Dict):
                raise TypeError(ast.dump(fields))
            names = [str(ast.literal_eval(key)) for key in fields.keys if key is not None]
            return Struct(tuple(zip(names, map(_recorded, fields.values), strict=True)))
        case "Decimal":
            return Decimal(ast.literal_eval(options["precision"]) or 38, ast.literal_eval(options["scale"]))
        case "Datetime":
            return "timestamp" if ast.literal_eval(options["time_zone"]) else "timestamp_ntz"
        case name:
            return {"Duration": "long", "Enum": "string"}[name]


#: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#writer-requirements-for-addcdcfile
_RESERVED = frozenset({"_change_type", "_commit_version", "_commit_timestamp"})


def require_names(columns: Iterable[str], *, own: bool = True) -> None:
    """
    Args:
        columns: the names of the columns.
        own: whether the table has the columns ``_file`` and ``_etag`` beside these.

    Raises:
        SchemaRefused: two names differ only by case, or a name is one of Silversmith's own or of Delta Lake's.
    """
    seen = {name: f"Silversmith's own {name}" for name in (FILE, ETAG)} if own else {}
    for name in columns:
        lowered = name.lower()
        if lowered in _RESERVED:
            raise SchemaRefused(
                "ReservedColumn",
                f'the column "{name}" has a name that Delta Lake keeps for its change data feed',
                hint="rename it in the transform, such as with rows.rename({…}), or in a view's query with AS",
                place=Place(column=name),
            )
        if lowered in seen:
            raise SchemaRefused(
                "AmbiguousColumn",
                f'the column "{name}" and {seen[lowered]} differ only by case, and most engines that read tables take '
                "them for one",
                hint="rename one of them in the transform, such as with rows.rename({…})",
                place=Place(column=name),
            )
        seen[lowered] = f'"{name}"'


def require_fields(kinds: Iterable[Type]) -> None:
    """
    Raises:
        SchemaRefused: two fields of a struct differ only by case.
    """
    for kind in kinds:
        if isinstance(kind, List):
            require_fields([kind.inner])
        elif isinstance(kind, Struct):
            require_names([name for name, _ in kind.fields], own=False)
            require_fields(field for _, field in kind.fields)


# -- the algebra


def join(first: Type, second: Type) -> Type:
    """The least type that holds the values of both exactly; None where there is none, or both are None."""
    if first == second or first is None or second is None:
        return second if first is None else first
    for names in (_INTEGERS, _FLOATS):
        if first in names and second in names:
            return names[max(names.index(str(first)), names.index(str(second)))]
    if isinstance(first, List) and isinstance(second, List):
        inner = join(first.inner, second.inner)
        return List(inner) if inner is not None or first.inner is second.inner is None else None
    if isinstance(first, Struct) and isinstance(second, Struct):
        return _joined_struct(first, second)
    return _joined_decimal(first, second)


def _joined_struct(first: Struct, second: Struct) -> Type:
    fields, others = dict(first.fields), dict(second.fields)
    joined: dict[str, Type] = {}
    for name in {**fields, **others}:
        known = [field for field in (fields.get(name), others.get(name)) if field is not None]
        joined[name] = join(known[0], known[-1]) if known else None
        if known and joined[name] is None:
            return None
    return Struct(tuple(joined.items()))


def _joined_decimal(first: Type, second: Type) -> Type:
    decimals = [_as_decimal(first), _as_decimal(second)]
    if not isinstance(first, Decimal) and not isinstance(second, Decimal):
        return None
    if decimals[0] is None or decimals[1] is None:
        return None
    scale = max(decimal.scale for decimal in decimals if decimal)
    whole = max(decimal.precision - decimal.scale for decimal in decimals if decimal)
    return Decimal(whole + scale, scale) if whole + scale <= 38 else None


def _as_decimal(kind: Type) -> Decimal | None:
    if isinstance(kind, Decimal):
        return kind
    return Decimal(_DIGITS[kind], 0) if isinstance(kind, str) and kind in _DIGITS else None


def settled(kind: Type) -> Type:
    """The type with text where no value has been seen."""
    if isinstance(kind, List):
        return List(settled(kind.inner))
    if isinstance(kind, Struct):
        return Struct(tuple((name, settled(field)) for name, field in kind.fields))
    return "string" if kind is None else kind


# -- to and from Arrow


def to_arrow(kind: Type) -> DataType:
    """The Arrow type of a settled type."""
    if isinstance(kind, Decimal):
        return DataType.decimal128(kind.precision, kind.scale)
    if isinstance(kind, List):
        return DataType.list(Field("element", to_arrow(kind.inner)))
    if isinstance(kind, Struct):
        return DataType.struct([Field(name, to_arrow(field)) for name, field in kind.fields])
    return _ARROW["string" if kind is None else kind]


def to_schema(columns: Columns) -> Schema:
    """The Arrow schema of settled columns."""
    return Schema([Field(name, to_arrow(kind)) for name, kind in columns.items()])


def from_arrow(arrow: DataType) -> Type:  # noqa: C901, PLR0911, PLR0912 -- a table of types, one line each
    """The type of gold for an Arrow type.

    Raises:
        ValueError: gold has none.
    """
    for kind, exact in _ARROW.items():
        if arrow == exact:
            return kind
    if DataType.is_null(arrow):
        return None
    if DataType.is_dictionary(arrow):
        return from_arrow(_required(arrow.value_type))
    if DataType.is_list(arrow) or DataType.is_large_list(arrow) or DataType.is_fixed_size_list(arrow):
        return List(from_arrow(_required(arrow.value_type)))
    if DataType.is_struct(arrow):
        return Struct(tuple((field.name, from_arrow(field.type)) for field in arrow.fields))
    if DataType.is_decimal(arrow):
        return _decimal_of(arrow)
    if DataType.is_timestamp(arrow):
        return "timestamp" if arrow.tz else "timestamp_ntz"
    if DataType.is_duration(arrow):
        return "long"
    if DataType.is_large_string(arrow) or DataType.is_string_view(arrow) or DataType.is_time(arrow):
        return "string"
    if DataType.is_large_binary(arrow) or DataType.is_binary_view(arrow) or DataType.is_fixed_size_binary(arrow):
        return "binary"
    if DataType.is_date(arrow):
        return "date"
    unsigned = {8: "short", 16: "integer", 32: "long", 64: Decimal(20, 0)}
    if DataType.is_unsigned_integer(arrow):
        return unsigned[_required(arrow.bit_width)]
    if DataType.is_float16(arrow):
        return "float"
    raise ValueError(f"{_shown(arrow)} has no like in a table")


def _decimal_of(arrow: DataType) -> Decimal:
    precision, scale = _shown(arrow).partition("(")[2].rstrip(")").split(",")
    if int(precision) > 38:
        raise ValueError(f"{_shown(arrow)} has more than 38 digits")
    return Decimal(int(precision), int(scale))


def _shown(arrow: DataType) -> str:
    return repr(arrow).strip().removeprefix("arro3.core.DataType<").removesuffix(">")


def _required(value: Any) -> Any:
    assert value is not None
    return value


# -- the values


def fitted(batch: RecordBatch, columns: Columns, others: Mapping[str, Array] | None = None) -> RecordBatch:
    """A batch with these settled columns, each value cast exactly. Columns that the batch lacks are null.

    ``others`` are columns that the batch lacks, of these very types.

    Raises:
        SchemaRefused: a value has no like, or the batch has a column that is not among these.
    """
    there = set(batch.schema.names)
    others = others or {}
    if unknown := there - set(columns):
        name = min(unknown)
        raise SchemaRefused(
            "UnknownColumn",
            f'silver has the column "{name}", which its recorded schema does not have',
            hint="the next file that this transform makes records it; if this lasts, run `silversmith reconcile "
            "--changed`",
            place=Place(column=name),
        )
    arrays = []
    for name, kind in columns.items():
        if name in others:
            arrays.append(others[name])
        elif name in there:
            arrays.append(_column(name, batch.column(name), kind))
        else:
            arrays.append(_nulls(kind, batch.num_rows))
    return RecordBatch.from_arrays(arrays, schema=to_schema(columns))


class _Inexact(Exception):
    """A value has no like in the other type."""


def _column(name: str, array: Array, kind: Type) -> Array:
    try:
        return cast(array, kind)
    except _Inexact:
        reason = f"has values that are not exact as {described(kind)}"
    except Exception as error:  # noqa: BLE001 -- arro3 raises plain exceptions where Arrow has no such cast
        reason = f"cannot be {described(kind)}: {error}"
    raise SchemaRefused(
        "InexactColumn",
        f'the column "{name}" of silver is {_shown(array.type)} and {reason}',
        hint="docs/tables.md lists what is exact; cast the column in the transform, or run `silversmith reconcile "
        "--changed` where older code made this silver",
        place=Place(column=name),
    )


def described(kind: Type) -> str:
    """A type in words, as ``DESCRIBE`` has it."""
    if isinstance(kind, Decimal):
        return f"decimal({kind.precision},{kind.scale})"
    if isinstance(kind, List):
        return f"array<{described(kind.inner)}>"
    if isinstance(kind, Struct):
        return "struct<" + ",".join(f"{name}:{described(field)}" for name, field in kind.fields) + ">"
    return kind or "string"


def cast(array: Array, kind: Type) -> Array:  # noqa: PLR0911 -- a table of types
    """An array in another settled type, exactly."""
    arrow = to_arrow(kind)
    if array.type == arrow and _shown(array.type) == _shown(arrow):  # == does not see what a list calls its values
        return array
    if DataType.is_null(array.type):
        return _nulls(kind, len(array))
    if DataType.is_dictionary(array.type):
        return cast(array.cast(_required(array.type.value_type)), kind)
    if isinstance(kind, Struct):
        return _cast_struct(array, kind)
    if isinstance(kind, List):
        return _cast_list(array, kind)
    if DataType.is_fixed_size_binary(array.type) and isinstance(kind, Decimal):
        return _from_int128(array, kind)
    if DataType.is_duration(array.type):
        return _exactly(_exactly(array, DataType.duration("us")), DataType.int64())
    return _exactly(array, arrow)


def _exactly(array: Array, arrow: DataType) -> Array:
    """A cast that gives the array back when it is undone."""
    converted = array.cast(arrow)
    is_exact = converted.null_count == array.null_count
    if is_exact and not _is_lossless(array.type, arrow):
        is_exact = converted.cast(array.type) == array.cast(
            array.type
        )  # both without the name of a field, as == wants it
    if not is_exact:
        raise _Inexact
    return converted


def _is_lossless(source: DataType, target: DataType) -> bool:
    """Whether a cast of this kind can only fail by making nulls: it need not be undone for proof."""
    if DataType.is_float16(source) or DataType.is_float32(source):
        return DataType.is_floating(target)
    if DataType.is_integer(source):
        return DataType.is_integer(target) or DataType.is_decimal(target)
    texts = (DataType.string(), DataType.large_string(), DataType.string_view())
    return source in texts and target in texts


def _cast_struct(array: Array, kind: Struct) -> Array:
    if not DataType.is_struct(array.type):
        raise _Inexact
    names = [field.name for field in array.type.fields]
    if set(names) - {name for name, _ in kind.fields}:
        raise _Inexact
    children = [
        cast(struct_field(array, [names.index(name)]), field) if name in names else _nulls(field, len(array))
        for name, field in kind.fields
    ]
    fields = [Field(name, to_arrow(field)) for name, field in kind.fields]
    return struct_array(children, fields=fields, mask=_null_mask(array))


def _cast_list(array: Array, kind: List) -> Array:
    source = array.type
    if not (DataType.is_list(source) or DataType.is_large_list(source) or DataType.is_fixed_size_list(source)):
        raise _Inexact
    plain = array.cast(DataType.list(Field("element", _required(source.value_type))))
    inner = cast(list_flatten(plain), kind.inner)
    return list_array(list_offsets(plain), inner, type=to_arrow(kind), mask=_null_mask(array))


def _from_int128(array: Array, kind: Decimal) -> Array:
    """Parquet has no such integer: Polars writes 16 bytes, the lowest first."""
    values = array.to_pylist()
    numbers = [None if value is None else int.from_bytes(value, "little", signed=True) for value in values]
    if any(number is not None and abs(number) >= 10**kind.precision for number in numbers):
        raise _Inexact
    return Array([None if number is None else str(number) for number in numbers], DataType.string()).cast(
        to_arrow(kind)
    )


def _null_mask(array: Array) -> Array | None:
    if not array.null_count:
        return None
    return Array([value is None for value in array.to_pylist()], DataType.bool())


def _nulls(kind: Type, length: int) -> Array:
    if isinstance(kind, Struct):
        fields = [Field(name, to_arrow(field)) for name, field in kind.fields]
        children = [_nulls(field, length) for _, field in kind.fields]
        return struct_array(children, fields=fields, mask=Array([True] * length, DataType.bool()))
    if isinstance(kind, List):
        offsets = Array([0] * (length + 1), DataType.int32())
        return list_array(
            offsets, _nulls(kind.inner, 0), type=to_arrow(kind), mask=Array([True] * length, DataType.bool())
        )
    return Array([None] * length, DataType.string()).cast(to_arrow(kind))


def repeated(texts: Sequence[str], times: Sequence[int]) -> Array:
    """A column of text that has each value so many times."""
    indices = [index for index, count in enumerate(times) for _ in range(count)]
    return Array(texts, DataType.string()).take(Array(indices, DataType.uint32()))
