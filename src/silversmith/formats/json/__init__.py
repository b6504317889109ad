"""JSON: one document, documents one after the other, or one on each line (NDJSON)."""

from silversmith.formats.json.reader import Json, read, read_lines

__all__ = ["Json", "read", "read_lines"]
