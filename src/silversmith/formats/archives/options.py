"""The option of readers that says how archives are read."""

from __future__ import annotations

from dataclasses import dataclass

from silversmith.errors import DefinitionError
from silversmith.formats.arrow import Arrow
from silversmith.formats.avro import Avro
from silversmith.formats.csv import Csv
from silversmith.formats.custom import CustomReader
from silversmith.formats.excel import Excel
from silversmith.formats.json import Json
from silversmith.formats.lines import FixedWidth, Lines
from silversmith.formats.parquet import Parquet
from silversmith.formats.regex import Fields, Regex
from silversmith.formats.xml import Xml
from silversmith.keypatterns import InvalidPattern, KeyPattern

#: How one file is read.
FileReader = Csv | Json | Parquet | Avro | Arrow | Excel | Xml | FixedWidth | Lines | Regex | Fields | CustomReader


@dataclass(frozen=True)
class Archive:
    """How to read archives (zip, tar): which members, and each of them how.

    Args:
        members: a pattern of names, where ``*`` is any run of characters; other members are not read. None: all.
        reader: how to read each member, such as ``Csv(separator=";")``; None: inferred from its bytes and its name.

    Raises:
        DefinitionError: a value cannot be.
    """

    members: str | None = None
    reader: FileReader | None = None

    def __post_init__(self) -> None:
        if isinstance(self.reader, Archive):
            raise DefinitionError("Archive(reader=Archive(…)): archives in archives are not read")
        if self.reader is not None and not isinstance(self.reader, FileReader):
            raise DefinitionError(f"Archive(reader={self.reader!r}): give a reader, such as Csv()")
        if self.members is not None:
            try:
                KeyPattern.parse(self.members)
            except (InvalidPattern, TypeError, AttributeError) as error:
                raise DefinitionError(f"Archive(members={self.members!r}): {error}") from None
