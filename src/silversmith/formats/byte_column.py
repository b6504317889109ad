"""Bytes as a column of small integers, not copied: Polars has no other way for that than the Arrow C data interface.

A structure in memory says where the bytes are. Whoever takes it calls ``release`` when they are no longer needed, in
any thread; until then they are kept.

https://arrow.apache.org/docs/format/CDataInterface.html
https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
"""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int64, c_void_p

import polars as pl


class _Schema(ctypes.Structure):
    _fields_ = (
        ("format", c_char_p),
        ("name", c_char_p),
        ("metadata", c_char_p),
        ("flags", c_int64),
        ("n_children", c_int64),
        ("children", c_void_p),
        ("dictionary", c_void_p),
        ("release", c_void_p),
        ("private_data", c_void_p),
    )


class _Array(ctypes.Structure):
    _fields_ = (
        ("length", c_int64),
        ("null_count", c_int64),
        ("offset", c_int64),
        ("n_buffers", c_int64),
        ("n_children", c_int64),
        ("buffers", ctypes.POINTER(c_void_p)),
        ("children", c_void_p),
        ("dictionary", c_void_p),
        ("release", c_void_p),
        ("private_data", c_void_p),
    )


_UINT8 = b"C"

#: What has been handed out and not been released, by the address that is its ``private_data``.
_held: dict[int, tuple[object, ...]] = {}


def _release_schema(address: int) -> None:
    _Schema.from_address(address).release = None


def _release_array(address: int) -> None:
    array = _Array.from_address(address)  # what was handed out may have been moved: this is where it is now
    array.release = None
    _held.pop(array.private_data, None)


_callback = ctypes.CFUNCTYPE(None, c_void_p)
_RELEASE_SCHEMA, _RELEASE_ARRAY = _callback(_release_schema), _callback(_release_array)


_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, (c_void_p, c_char_p, c_void_p)


class _Bytes:
    """Bytes for whoever asks for an Arrow array of them, once."""

    def __init__(self, data: bytes) -> None:
        self._schema = _Schema(format=_UINT8, name=b"", release=_address(_RELEASE_SCHEMA))
        self._buffers = (c_void_p * 2)(None, _address(c_char_p(data)))  # none are null, so there is no bitmap
        self._array = _Array(length=len(data), n_buffers=2, buffers=self._buffers, release=_address(_RELEASE_ARRAY))
        self._data = data

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        del requested_schema  # those who ask have to take what there is
        place = ctypes.addressof(self._array)
        self._array.private_data = place
        _held[place] = (self._array, self._buffers, self._data)
        schema = _capsule(ctypes.addressof(self._schema), b"arrow_schema", None)
        return schema, _capsule(place, b"arrow_array", None)


def _address(pointer: object) -> int | None:
    return ctypes.cast(pointer, c_void_p).value  # type: ignore[arg-type]


def byte_column(data: bytes) -> pl.Series:
    """The bytes as numbers from 0 to 255."""
    return pl.Series(_Bytes(data))
