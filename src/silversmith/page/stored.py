"""The last files where nothing remembers them, as on AWS: by when their silver was written."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType

from silversmith.lineage import silver_key
from silversmith.operations.target import Target
from silversmith.page.seen import Seen, fits
from silversmith.pipeline import Pipeline
from silversmith.stores import Head

#: So many objects of each transform's silver are listed: ten requests.
LISTED = 10_000

#: What the name of a silver object ends in.
SILVER = ".parquet"


def stored(
    pipeline: Pipeline, target: Target, most: int, *, wanted: Mapping[str, str] = MappingProxyType({})
) -> list[Seen]:
    """The newest silver objects, among the first :data:`LISTED` of each transform, the last one first. ``wanted`` as
    :func:`fits`."""
    found = []
    for transform in pipeline.transforms:
        if wanted.get("transform") in {None, "", transform.name}:
            heads = islice(target.lake.silver.list(f"{transform.name}/"), LISTED)
            every = (_seen(transform.name, head) for head in heads if head.key.endswith(SILVER))
            found += heapq.nlargest(most, (seen for seen in every if fits(seen, wanted)), key=lambda seen: seen.at)
    return sorted(found, key=lambda seen: -seen.at)[:most]


def _seen(transform: str, head: Head) -> Seen:
    return Seen(
        number=0,
        key=bronze_key(transform, head.key),
        version="",
        transform=transform,
        outcome="committed",
        at=head.modified.timestamp(),
        rows=None,
        rejected=None,
        size=None,
        attempt=None,
        code="",
        legs=(),
        total=None,
    )


def bronze_key(transform: str, silver: str) -> str:
    """The bronze key of a silver object by its name; empty where that was cut short, and does not tell."""
    key = silver.removeprefix(f"{transform}/").removesuffix(SILVER)
    return key if silver_key(transform, key) == silver else ""
