"""The page over a real lake, asked as a browser asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from silversmith import Pipeline
from silversmith.page.application import application
from silversmith.page.auth import csrf_token
from silversmith.page.backend import LocalBackend
from silversmith.page.context import ViewContext
from silversmith.page.recent import Watch
from tests.unit.conftest import Bench

TOKEN, HOST = "secret", "http://127.0.0.1"

DEFINED = '''
import polars as pl
from silversmith import Contract, Pipeline
pipeline = Pipeline("shop")
contract = Contract({"id": pl.Int64, "total": pl.Int64}, {"total is positive": pl.col("total") > 0}, required=["id"])
@pipeline.transform("orders/*.csv", contract=contract, max_receive_count=2)
def orders(rows: pl.LazyFrame) -> pl.LazyFrame:
    """What was ordered."""
    if 666 in rows.collect()["id"]:
        raise RuntimeError("666 is no order")
    return rows
pipeline.sql("sql/*.csv", "select id from rows", name="ids")
'''


class Visitor:
    """A browser that has the token's cookie by default."""

    def __init__(self, bench: Bench, place: LocalBackend) -> None:
        self.bench, self.place = bench, place
        self.watch = Watch(place, clock=lambda: bench.now)
        self.client = TestClient(
            application(place, self.watch, token=TOKEN, cookie="c"), base_url=HOST, follow_redirects=False
        )
        self.client.cookies.set("c", TOKEN)
        self.csrf = csrf_token(TOKEN)
        self.context = ViewContext(place, self.watch, self.csrf)

    def get(self, path: str, status: int = 200) -> str:
        self.watch.look()
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.text

    def post(self, path: str, status: int = 303, *, origin: str = HOST, **fields: str) -> str:
        data = {"csrf": self.csrf, **fields}
        answer = self.client.post(path, data=data, headers={"origin": origin})
        assert answer.status_code == status, answer.text
        return answer.text


@pytest.fixture
def visitor(tmp_path: Path, make: Callable[[Pipeline], Bench]) -> Iterator[Visitor]:
    (tmp_path / "pipeline.py").write_text(DEFINED)
    from silversmith.pipeline import load

    bench = make(load(str(tmp_path / "pipeline.py")))
    result = Visitor(bench, LocalBackend(bench.folder, str(tmp_path / "pipeline.py")))
    with result.client:
        yield result
    bench.journal.close()
