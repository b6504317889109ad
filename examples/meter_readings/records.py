"""The binary files of electricity meters: a header of 8 bytes, then readings of 16 bytes each, all big-endian.

header    4 bytes "MTR1", then the number of readings as an unsigned integer of 4 bytes
reading   meter      4 bytes   unsigned: the meter's number
          at         4 bytes   unsigned: seconds since 1970, UTC
          watthours  6 bytes   unsigned: the counter
          status     2 bytes   bits: 1 tampered with, 2 battery low
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import polars as pl

from silversmith import DataError

MAGIC = b"MTR1"
HEADER, READING = 8, 16
SCHEMA = {
    "meter": pl.UInt32(),
    "at": pl.Datetime("us", "UTC"),
    "watthours": pl.UInt64(),
    "tampered": pl.Boolean(),
    "battery_low": pl.Boolean(),
}


@dataclass(frozen=True)
class MeterReadings:
    """Reads them, ``readings`` at a time: memory does not grow with the file."""

    readings: int = 100_000
    name: str = "meter-readings"

    def read(self, file: BinaryIO) -> Iterator[pl.DataFrame]:
        announced = _announced(file.read(HEADER))
        found = 0
        yield pl.DataFrame(schema=SCHEMA)
        while block := file.read(READING * self.readings):
            if len(block) % READING:
                number = found + len(block) // READING + 1
                raise DataError(
                    "TruncatedReadings",
                    f"the file ends within reading {number}, after {len(block) % READING} of its {READING} bytes",
                    hint="it was cut off on its way: fetch it from the meter again",
                )
            found += len(block) // READING
            yield _frame(block)
        if found != announced:
            raise DataError(
                "MissingReadings",
                f"the header announces {announced:,} readings, and the file has {found:,}",
                hint="it was cut off on its way: fetch it from the meter again",
            )


def _announced(header: bytes) -> int:
    if len(header) < HEADER or not header.startswith(MAGIC):
        raise DataError(
            "NoMeterFile",
            f"the file begins with {header[:4]!r}, and one of a meter with {MAGIC!r}",
            hint="look at what wrote it",
        )
    return int.from_bytes(header[4:], "big")


def _frame(block: bytes) -> pl.DataFrame:
    """Column by column rather than record by record: Polars cuts and decodes the bytes itself."""
    whole = pl.Series([block[at : at + READING] for at in range(0, len(block), READING)], dtype=pl.Binary)
    records = pl.DataFrame({"record": whole})
    status = _number(14, 2)
    return records.select(
        meter=_number(0, 4).cast(pl.UInt32),
        at=pl.from_epoch(_number(4, 4), "s").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        watthours=_number(8, 6).cast(pl.UInt64),
        tampered=status & 1 == 1,
        battery_low=status & 2 == 2,
    )


def _number(start: int, length: int) -> pl.Expr:
    """A big-endian number within each record. Polars decodes 8 bytes, so the missing ones are put before it."""
    zeros = pl.lit(bytes(8 - length), dtype=pl.Binary)
    padded = (zeros.bin.encode("hex") + pl.col("record").bin.slice(start, length).bin.encode("hex")).str.decode("hex")
    return padded.bin.reinterpret(dtype=pl.Int64, endianness="big")
