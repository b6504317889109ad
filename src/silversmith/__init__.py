"""Files land in bronze. Silversmith makes them silver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silversmith.errors import DataError, DefinitionError

if TYPE_CHECKING:
    from silversmith.contract import Contract
    from silversmith.formats import (
        Archive,
        Arrow,
        Avro,
        Csv,
        CustomReader,
        Excel,
        Fields,
        FixedWidth,
        Json,
        Lines,
        Parquet,
        Regex,
        Xml,
    )
    from silversmith.pipeline import Pipeline
    from silversmith.pipeline.deployment import Deployment, ObjectLock, Vpc
    from silversmith.pipeline.lookups import Context, reject
    from silversmith.pipeline.needs import Secret
    from silversmith.pipeline.writers import CustomWriter

__all__ = [
    "Archive",
    "Arrow",
    "Avro",
    "Context",
    "Contract",
    "Csv",
    "CustomReader",
    "CustomWriter",
    "DataError",
    "DefinitionError",
    "Deployment",
    "Excel",
    "Fields",
    "FixedWidth",
    "Json",
    "Lines",
    "ObjectLock",
    "Parquet",
    "Pipeline",
    "Regex",
    "Secret",
    "Vpc",
    "Xml",
    "reject",
]

#: Where the names are that need Polars: what does without it (most of the local engine) starts without it.
_LATE = {
    "Archive": "silversmith.formats",
    "Arrow": "silversmith.formats",
    "Avro": "silversmith.formats",
    "Context": "silversmith.pipeline.lookups",
    "Contract": "silversmith.contract",
    "Csv": "silversmith.formats",
    "CustomReader": "silversmith.formats",
    "CustomWriter": "silversmith.pipeline.writers",
    "Deployment": "silversmith.pipeline.deployment",
    "Excel": "silversmith.formats",
    "Fields": "silversmith.formats",
    "FixedWidth": "silversmith.formats",
    "Json": "silversmith.formats",
    "Lines": "silversmith.formats",
    "ObjectLock": "silversmith.pipeline.deployment",
    "Parquet": "silversmith.formats",
    "Pipeline": "silversmith.pipeline",
    "Regex": "silversmith.formats",
    "Secret": "silversmith.pipeline.needs",
    "Vpc": "silversmith.pipeline.deployment",
    "Xml": "silversmith.formats",
    "reject": "silversmith.pipeline.lookups",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
