"""CSV: small files by Python's csv module, large ones by blocks; nothing is shifted, nothing is lost."""

from silversmith.formats.csv.blocks import CsvStream, Part
from silversmith.formats.csv.dialect import Csv, looks_separated
from silversmith.formats.csv.reader import chosen, described, read, stream_of

__all__ = ["Csv", "CsvStream", "Part", "chosen", "described", "looks_separated", "read", "stream_of"]
