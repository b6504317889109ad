"""The flights' pipeline, by the test kit."""

import polars as pl

from silversmith.testing.plugin import Run

HEADER = "year,month,day,carrier,flight,tailnum,origin,dest,dep_delay,arr_delay,air_time,distance,time_hour,hour\n"
GOOD = "2013,1,1,UA,1545,N14228,EWR,IAH,2,11,180,1400,2013-01-01T10:00:00Z,5\n"


def test_flights_get_their_speed_and_carriers_their_delay(pipeline_run: Run) -> None:
    key = "flights/2013-01.csv"
    result = pipeline_run({key: HEADER + GOOD + GOOD.replace(",11,", ",NA,")})
    result.assert_clean()
    flights = result.silver["flights", key]
    assert flights["speed"].round(1).to_list() == [466.7, 466.7]
    assert "hour" not in flights.columns
    delays = pl.DataFrame({"carrier": ["UA"], "flights": [2], "mean_delay": [11.0]})
    result.assert_silver("delays", key, delays, types=False)


def test_spoilt_rows_are_rejected_by_both(pipeline_run: Run) -> None:
    key = "flights/2013-01.csv"
    far, back, elsewhere = GOOD.replace("1400", "far"), GOOD.replace("1400", "-1400"), GOOD.replace("EWR", "BOS")
    result = pipeline_run({key: HEADER + GOOD + far + back + elsewhere})
    for transform in ("flights", "delays"):
        reasons = {2: '"far" is not Int32', 3: "distance is positive", 4: "leaves from New York"}
        result.assert_rejected(transform, key, reasons)
        assert result.lineage[transform, key].rows_read == 4


def test_weather_and_planes_and_airports(pipeline_run: Run) -> None:
    hour = {"origin": "JFK", "time_hour": "2013-01-01T06:00:00Z", "temp": 212.0}
    airport = {"faa": "JFK", "name": "Kennedy", "lat": 40.6, "lon": -73.8, "tzone": "America/New_York", "alt": 13}
    planes = pl.DataFrame({"tailnum": ["N1", "N2"], "manufacturer": ["AIRBUS", None]})
    result = pipeline_run(
        {
            "weather/JFK.ndjson": [hour, hour | {"temp": 50.0}],
            "airports/all.json": [airport],
            "planes/all.parquet": planes,
        }
    )
    assert result.silver["weather", "weather/JFK.ndjson"]["celsius"].to_list() == [10.0]
    result.assert_rejected("weather", "weather/JFK.ndjson", {1: "temperature in Fahrenheit"})
    assert result.silver["airports", "airports/all.json"].columns == ["faa", "name", "lat", "lon", "tzone"]
    assert result.silver["planes", "planes/all.parquet"]["tailnum"].to_list() == ["N1"]
