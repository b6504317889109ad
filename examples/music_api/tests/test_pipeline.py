"""Each page becomes two tables."""

from datetime import date
from pathlib import Path

import polars as pl

from silversmith.testing import Files
from silversmith.testing.plugin import Run

DATA = Path(__file__).parent.parent / "data"
PAGES: Files = {f"albums/{name}.json": DATA / f"albums/{name}.json" for name in ("page-1", "page-2")}


def test_albums(pipeline_run: Run) -> None:
    result = pipeline_run(PAGES)
    result.assert_silver(
        "albums",
        "albums/page-1.json",
        pl.DataFrame(
            {
                "album_id": ["al01", "al02"],
                "name": ["Night Trains", "Fjörd & Sky"],
                "album_type": ["album", "single"],
                "artists": ["The Sleepers", "Nordlys, DJ Quartz"],
                "released": [date(1973, 3, 1), date(2021, 11, 1)],
                "total_tracks": [3, 1],
            }
        ),
        types=False,
    )
    result.assert_rejected("albums", "albums/page-1.json", {3: "demo"})
    assert result.silver["albums", "albums/page-2.json"]["released"].to_list() == [date(1999, 1, 1), date(2005, 6, 17)]


def test_tracks(pipeline_run: Run) -> None:
    result = pipeline_run(PAGES)
    result.assert_silver(
        "tracks",
        "albums/page-2.json",
        pl.DataFrame(
            {
                "album_id": ["al04", "al04"],
                "track_id": ["t041", "t042"],
                "name": ["Crane Song", "Low Tide"],
                "number": [1, 2],
                "explicit": [False, False],
                "artists": ["Harbour Five", "Mara Quay"],
                "seconds": [150.0, 305.4],
            }
        ),
        types=False,
    )
    assert result.silver["tracks", "albums/page-1.json"]["artists"].to_list() == [
        "The Sleepers",
        "The Sleepers, Ines Vale",
        "The Sleepers",
        "Nordlys, DJ Quartz",
    ]


def test_an_answer_that_is_an_error(pipeline_run: Run) -> None:
    """What the API says when it has had enough must not become an empty table."""
    result = pipeline_run({"albums/page-3.json": {"error": {"status": 429, "message": "API rate limit exceeded"}}})
    assert ("albums", "albums/page-3.json") in result.errors
    assert not result.silver
