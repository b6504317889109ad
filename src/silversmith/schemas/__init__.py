"""The schema of a transform's silver: recorded beside it, so that what another file changes is widened or refused.

docs/decisions/0031-schema-drift.md
"""

from silversmith.schemas.document import Document, Entry, Schema, schema_key
from silversmith.schemas.fitting import Changed, Fitted, fit, fit_by_types
from silversmith.schemas.recorded import Owner, Recorded, Schemas

__all__ = [
    "Changed",
    "Document",
    "Entry",
    "Fitted",
    "Owner",
    "Recorded",
    "Schema",
    "Schemas",
    "fit",
    "fit_by_types",
    "schema_key",
]
