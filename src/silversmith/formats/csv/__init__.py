"""CSV: small files by Python's csv module, large ones by blocks; nothing is shifted, nothing is lost."""

from silversmith.formats.csv.blocks import CsvStream, Part, Parts
from silversmith.formats.csv.dialect import Csv, looks_separated
from silversmith.formats.csv.reader import described, read, select, stream_of

__all__ = ["Csv", "CsvStream", "Part", "Parts", "described", "looks_separated", "read", "select", "stream_of"]
