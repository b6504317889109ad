"""JSON: one document, documents one after the other, or one on each line (NDJSON)."""

from silversmith.formats.json.document import Json

__all__ = ["Json"]
