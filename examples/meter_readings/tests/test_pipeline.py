"""What becomes of good files, cut-off ones, and of readings that are not to be trusted."""

from datetime import UTC, datetime
from pathlib import Path

from silversmith.testing.plugin import Run

METERS = "meter,customer,tariff\n7,Ada,night\n8,Bob,day\n"
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def reading(meter: int, *, hours: int = 0, watthours: int = 1500, status: int = 0) -> bytes:
    seconds = int(AT.timestamp()) + 3600 * hours
    return b"".join(
        number.to_bytes(size, "big") for number, size in ((meter, 4), (seconds, 4), (watthours, 6), (status, 2))
    )


def file(*readings: bytes, announced: int | None = None) -> bytes:
    count = len(readings) if announced is None else announced
    return b"MTR1" + count.to_bytes(4, "big") + b"".join(readings)


def test_readings_have_their_customer(pipeline_run: Run) -> None:
    content = file(reading(8), reading(7, status=2), reading(9, watthours=2**40))
    result = pipeline_run({"lookup/meters.csv": METERS, "meters/a.mtr": content})
    silver = result.silver["readings", "meters/a.mtr"]
    assert silver["meter"].to_list() == [7, 8, 9]
    assert silver["customer"].to_list() == ["Ada", "Bob", None]
    assert silver["kilowatthours"].to_list() == [1.5, 1.5, 2**40 / 1000]
    assert silver["battery_low"].to_list() == [True, False, False]
    assert silver["at"].to_list() == [AT] * 3
    assert result.lineage["readings", "meters/a.mtr"].format == "meter-readings"
    result.assert_clean()


def test_a_meter_that_was_tampered_with(pipeline_run: Run) -> None:
    content = file(reading(7), reading(7, hours=1, status=1))
    result = pipeline_run({"lookup/meters.csv": METERS, "meters/a.mtr": content})
    result.assert_rejected("readings", "meters/a.mtr", {2: "tampered"})


def test_a_file_that_was_cut_off(pipeline_run: Run) -> None:
    whole = file(reading(7), reading(8))
    files = {f"meters/{name}.mtr": content for name, content in (("a", whole[:-1]), ("b", whole[:-16]), ("c", b"MT"))}
    result = pipeline_run({"lookup/meters.csv": METERS, **files})
    result.assert_error("readings", "meters/a.mtr", "TruncatedReadings")
    result.assert_error("readings", "meters/b.mtr", "MissingReadings")
    result.assert_error("readings", "meters/c.mtr", "NoMeterFile")


def test_a_file_without_readings(pipeline_run: Run) -> None:
    result = pipeline_run({"lookup/meters.csv": METERS, "meters/a.mtr": file()})
    assert result.silver["readings", "meters/a.mtr"].height == 0


def test_a_meter_that_changes_hands(pipeline_run: Run) -> None:
    """The lookup is a part of what silver is made of: when it changes, the file is made anew."""
    landing = {"lookup/meters.csv": METERS, "meters/a.mtr": file(reading(7))}
    result = pipeline_run(landing, {**landing, "lookup/meters.csv": METERS.replace("Ada", "Eve")})
    assert result.silver["readings", "meters/a.mtr"]["customer"].to_list() == ["Eve"]


def test_the_sample_data(pipeline_run: Run) -> None:
    data = Path(__file__).parent.parent / "data"
    keys = ("lookup/meters.csv", "meters/2026-01-31.mtr")
    assert pipeline_run({key: data / key for key in keys}).silver["readings", "meters/2026-01-31.mtr"].height == 47
