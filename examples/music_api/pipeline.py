"""Pages of albums as a music service's API returns them, nested three deep, flattened into two silver tables.

Both transforms take the same files: each page fans out into one silver object of albums and one of tracks.
"""

import polars as pl

from silversmith import Contract, Deployment, Json, Pipeline

pipeline = Pipeline("music-api")

deployment = Deployment(
    bronze="music-api-bronze",
    silver="music-api-silver",
    quarantine="music-api-quarantine",
)

album = Contract(
    schema={
        "id": pl.String,
        "name": pl.String,
        "album_type": pl.String,
        "release_date": pl.String,
        "total_tracks": pl.Int32,
    },
    required=["id", "name"],
    unique=["id"],
    allowed={"album_type": ["album", "single", "compilation"]},
    patterns={"release_date": "[0-9]{4}(-[0-9]{2}){0,2}"},  # the year is known always, the day not
    rules={
        # what is nested is left as the API sends it, which may add fields to it any day; a page without it is refused
        "has artists": pl.col("artists").is_not_null(),
        "has tracks": pl.col("tracks").struct.field("items").is_not_null(),
    },
)

page = Json(pointer="/albums/items")


@pipeline.transform("albums/*.json", contract=album, reader=page)
def albums(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row an album. Of a day that is not known in full, the first that it can be."""
    released = pl.col("release_date")
    return rows.select(
        pl.col("id").alias("album_id"),
        "name",
        "album_type",
        names(pl.col("artists")).alias("artists"),
        (released + pl.lit("-01-01").str.slice(released.str.len_chars() - 4)).str.to_date().alias("released"),
        "total_tracks",
    )


@pipeline.transform("albums/*.json", contract=album, reader=page)
def tracks(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row a track of an album."""
    track = pl.col("track").struct
    return (
        rows.select(pl.col("id").alias("album_id"), pl.col("tracks").struct.field("items").alias("track"))
        .explode("track")
        .drop_nulls("track")  # of albums without tracks
        .select(
            "album_id",
            track.field("id").alias("track_id"),
            track.field("name"),
            track.field("track_number").alias("number"),
            track.field("explicit"),
            names(track.field("artists")).alias("artists"),
            (track.field("duration_ms") / 1000).alias("seconds"),
        )
    )


def names(artists: pl.Expr) -> pl.Expr:
    """The names in a list of artists, as one text."""
    return artists.list.eval(pl.element().struct.field("name")).list.join(", ")
