"""Two pipelines over one silver, both the first: in whatever order their steps fall, one has it all."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from silversmith.errors import NotOurs
from silversmith.events import ObjectEvent
from silversmith.function.outcome import Outcome
from silversmith.function.process import Contended, run
from silversmith.function.task import Task
from silversmith.lineage import Lineage, silver_key
from silversmith.pipeline.lookups import Lookups
from silversmith.schemas import Document, Owner, Schemas, schema_key
from silversmith.stores import Lake
from tests.examples import examples
from tests.unit.interleavings.conftest import BROKEN, CONTENTS, GOOD, KEY, REJECTS, TRANSFORMS, MemoryStore, Message
from tests.unit.interleavings.conftest import Worker as Turns

NOON = datetime(2026, 1, 1, tzinfo=UTC)


class Listed(MemoryStore):
    """With its objects in order, too."""

    def list(self, prefix: str = "", *, start_after: str = "") -> Any:
        self._ask("list", prefix)
        actual = (self._head(key) for key in sorted(self.objects) if key.startswith(prefix) and key > start_after)
        return iter([head for head in actual if head is not None])


@dataclass
class Street:
    """Each shop has a bronze bucket of its own; silver and quarantine are both shops'."""

    refused: list[str] = field(default_factory=list)
    workers: list[Turns] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.silver, self.quarantine = Listed("silver", self._turn), Listed("quarantine", self._turn)

    def _turn(self, request: str) -> None:
        worker = threading.current_thread()
        assert isinstance(worker, Turns)
        worker.pause(request)

    def worker(self, name: str, content: bytes) -> Turns:
        bronze = Listed("bronze", self._turn)
        bronze.objects[KEY] = content, {}
        lake = Lake(bronze, self.silver, self.quarantine)
        schemas = Schemas(self.silver, "t", Owner(name, "silver", "quarantine") if name else None)

        def work() -> Outcome:
            try:
                transform, scratch = TRANSFORMS["old"], Path("/nowhere")
                lookups = Lookups(bronze, transform.lookups, scratch, name=transform.name)
                event = ObjectEvent("bronze", KEY)
                return run(Task(event, transform, lake, scratch, lookups, schemas, now=lambda: NOON))
            except NotOurs as error:
                self.refused.append(name)
                raise Contended(str(error)) from error

        worker = Turns(name, Message(KEY), work)
        self.workers.append(worker)
        return worker

    def play(self, choices: bytes) -> None:
        """Each byte says who goes on next; when there are no more, one after the other does."""
        for choice in choices:
            busy = [worker for worker in self.workers if not worker.finished]
            if busy:
                busy[choice % len(busy)].step()
        for worker in self.workers:
            while not worker.finished:
                worker.step()


contents = st.sampled_from([GOOD, REJECTS, BROKEN])


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=80), contents, contents, st.none() | contents)
def test_one_owner_has_all_objects(choices: bytes, one: bytes, two: bytes, before: bytes | None) -> None:
    street = Street()
    if before is not None:  # made by a Silversmith that knew of no owners
        street.worker("", before)
        street.play(b"")
    shops = {"one": one, "two": two}
    for name, content in shops.items():
        street.worker(name, content)
    street.play(choices)
    owner = Document.from_json("t", street.silver.objects[schema_key("t")][0]).owner
    (loser,) = shops.keys() - {owner}
    assert street.refused == [loser]
    created = street.silver.objects.get(silver_key("t", KEY))
    expected = CONTENTS[shops[owner]]["old"]
    if expected is None:
        assert before is not None or created is None
        (body,) = (body for key, (body, _) in street.quarantine.objects.items() if key.endswith(".error.json"))
        assert json.loads(body)["owner"] == owner
        return
    assert created is not None
    lineage = Lineage.from_metadata(created[1])
    assert lineage is not None
    assert lineage.owner in {owner, ""}
    assert pl.read_parquet(io.BytesIO(created[0])).rows() == expected[0]
    makers = [Lineage.from_metadata(metadata) for _, metadata in street.quarantine.objects.values()]
    assert all(actual is not None and actual.owner in {owner, ""} for actual in makers)
