"""The owner of silver: of two pipelines with a transform of the same name over the same bucket, one is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silversmith.errors import NotOurs, PreconditionFailed
from silversmith.events import ObjectEvent
from silversmith.function.outcome import Verdict
from silversmith.function.retries import count_failure
from silversmith.function.task import Task
from silversmith.lineage import error_key, failed_key, rejected_key
from silversmith.pipeline.lookups import Lookups
from silversmith.schemas import Document, Owner, Schemas, schema_key
from silversmith.schemas.recorded import document_owner, object_owner, others, require_ours, take_over
from silversmith.stores import Lake
from tests.unit.shop import BROKEN, GOOD, KEY, MIXED, ORDERS, Shop

SHOP, OTHER = (Owner(name, "silver", "quarantine") for name in ("shop", "other"))
NEWER = b"id,total\n7,7\n"


@pytest.fixture(params=[1, 3], ids=["first receive", "later receive"])
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Shop:
    return Shop(tmp_path, receives=request.param)


def of(shop: Shop, owner: Owner | None) -> Schemas:
    """As a worker of this owner has it that was just started; None: of a Silversmith that knew of no owners."""
    return Schemas(shop.silver, "orders", owner)


def recorded(shop: Shop) -> Document:
    return of(shop, None).look().document


def everything(shop: Shop) -> dict[str, bytes]:
    return {
        f"{name}/{head.key}": store.read(head.key) or b""
        for name, store in (("silver", shop.silver), ("quarantine", shop.quarantine))
        for head in store.list()
    }


def test_the_first_pipeline_owns_silver(shop: Shop) -> None:
    shop.process(GOOD, schemas=of(shop, SHOP))
    assert (recorded(shop).owner, shop.lineage().owner) == ("shop", "shop")
    assert object_owner(shop.silver, shop.head()) == "shop"


@pytest.mark.parametrize("content", [GOOD, MIXED, BROKEN, NEWER])
@pytest.mark.parametrize("first", [GOOD, MIXED, BROKEN])
def test_another_pipeline_is_refused_and_nothing_is_written(shop: Shop, first: bytes, content: bytes) -> None:
    shop.process(first, schemas=of(shop, SHOP))
    before = everything(shop)
    with pytest.raises(NotOurs) as refused:
        shop.process(content, schemas=of(shop, OTHER))
    assert everything(shop) == before
    text = str(refused.value)
    assert text.startswith(f"silver/{schema_key('orders')} belongs to the pipeline shop, and this is other")
    assert "Rename one of the transforms" in text
    assert "silversmith take-over" in text


def test_a_bronze_object_that_is_gone_is_refused_too(shop: Shop) -> None:
    shop.process(BROKEN, schemas=of(shop, SHOP))
    shop.bronze.delete(KEY)
    with pytest.raises(NotOurs):
        shop.process(schemas=of(shop, OTHER))
    assert shop.error() is not None


def test_an_object_says_it_where_the_document_is_lost(shop: Shop) -> None:
    shop.process(GOOD, schemas=of(shop, SHOP))
    shop.silver.delete(schema_key("orders"))
    before = everything(shop)
    with pytest.raises(NotOurs, match=r"silver/orders/orders/may\.csv\.parquet belongs to the pipeline shop"):
        shop.process(NEWER, schemas=of(shop, OTHER))
    assert everything(shop) == before


def test_an_object_says_it_though_the_document_is_ours(shop: Shop) -> None:
    shop.process(GOOD, schemas=of(shop, SHOP))
    shop.silver.put(schema_key("orders"), Document("orders", owner="other").to_json())
    before = everything(shop)
    with pytest.raises(NotOurs, match=r"silver/orders/orders/may\.csv\.parquet belongs"):
        shop.process(NEWER, schemas=of(shop, OTHER))
    assert everything(shop) == before


@pytest.mark.parametrize("content", [MIXED, BROKEN])
def test_a_quarantine_of_two_pipelines(tmp_path: Path, content: bytes) -> None:
    """With buckets of their own for silver, they have no schema document in common."""
    one, two = Shop(tmp_path / "one"), Shop(tmp_path / "two")
    two.quarantine = one.quarantine
    one.process(content, schemas=of(one, SHOP))
    before = everything(one)
    with pytest.raises(NotOurs, match=r"quarantine/orders/orders/may\.csv\.(error\.json|rejected\.parquet) belongs"):
        two.process(content, schemas=of(two, OTHER))
    assert everything(one) == before
    two.process(GOOD, schemas=of(two, OTHER))
    assert everything(one) == before, "what is the other's is not cleared away"
    one.process(GOOD, schemas=of(one, SHOP))
    assert one.error() is None
    assert one.rejected() is None


def test_silver_of_before_is_the_first_owners(shop: Shop) -> None:
    shop.process(MIXED, schemas=of(shop, None))
    assert (recorded(shop).owner, shop.lineage().owner) == ("", "")
    history = recorded(shop).history
    assert shop.process(schemas=of(shop, SHOP)).verdict is Verdict.DUPLICATE
    assert (recorded(shop).owner, recorded(shop).history) == ("shop", history)
    with pytest.raises(NotOurs):
        shop.process(NEWER, schemas=of(shop, OTHER))
    assert shop.process(NEWER, schemas=of(shop, SHOP)).verdict is Verdict.COMMITTED


def test_two_first_owners(shop: Shop) -> None:
    """Both have seen that it is nobody's."""
    one, two = of(shop, SHOP), of(shop, OTHER)
    one.look()
    two.look()
    two.own()
    with pytest.raises(PreconditionFailed):
        one.own()
    with pytest.raises(NotOurs):
        one.own()
    assert recorded(shop).owner == "other"


def test_many_first_owners_at_once(shop: Shop) -> None:
    def own(number: int) -> bool:
        schemas = of(shop, Owner(f"shop-{number % 4}", "silver", "quarantine"))
        while True:
            try:
                schemas.own()
            except PreconditionFailed:
                continue
            except NotOurs:
                return False
            return True

    with ThreadPoolExecutor(8) as pool:
        owners = {number % 4 for number, is_owner in enumerate(pool.map(own, range(32))) if is_owner}
    assert {f"shop-{number}" for number in owners} == {recorded(shop).owner}


def test_the_owner_costs_no_request_but_the_first(shop: Shop) -> None:
    worker = of(shop, SHOP)
    shop.process(GOOD, schemas=worker)
    worker.look_again()
    shop.silver.calls.clear()
    shop.process(NEWER, key="b.csv", schemas=worker)
    silver = ["head"] if shop.receives > 1 else []
    assert shop.silver.calls == ["head", *silver, "put"], "the document, which is read for the schema; silver; the put"


@pytest.mark.parametrize("content", [GOOD, MIXED, BROKEN])
def test_taken_over(shop: Shop, content: bytes) -> None:
    shop.process(content, schemas=of(shop, SHOP))
    assert list(others(shop.silver, shop.quarantine, "orders", OTHER)) == ["shop"]
    assert take_over(shop.silver, shop.quarantine, "orders", OTHER) == ("shop",)
    assert (recorded(shop).owner, recorded(shop).former) == ("other", ("shop",))
    assert take_over(shop.silver, shop.quarantine, "orders", OTHER) == ()
    require_ours(OTHER, shop.silver, shop.quarantine, [ORDERS.name])
    shop.now += timedelta(seconds=1)
    expected = Verdict.QUARANTINED if content == BROKEN else Verdict.DUPLICATE
    assert shop.process(schemas=of(shop, OTHER)).verdict is expected, "what it has made is as good as ours"
    assert shop.process(NEWER, schemas=of(shop, OTHER)).verdict is Verdict.COMMITTED
    assert shop.lineage().owner == "other"
    assert (shop.error(), shop.rejected()) == (None, None)
    with pytest.raises(NotOurs):
        shop.process(schemas=of(shop, SHOP))


def test_taken_over_and_back(shop: Shop) -> None:
    shop.process(GOOD, schemas=of(shop, SHOP))
    for owner in (OTHER, SHOP, OTHER):
        take_over(shop.silver, shop.quarantine, "orders", owner)
        assert shop.process(schemas=of(shop, owner)).verdict is Verdict.DUPLICATE
    assert recorded(shop).former == ("shop",)


def test_silver_whose_document_is_lost_is_taken_over(shop: Shop) -> None:
    shop.process(MIXED, schemas=of(shop, SHOP))
    shop.silver.delete(schema_key("orders"))
    assert take_over(shop.silver, shop.quarantine, "orders", OTHER) == ("shop",)
    assert shop.process(NEWER, schemas=of(shop, OTHER)).verdict is Verdict.COMMITTED


def test_a_take_over_that_is_too_late_says_so(shop: Shop) -> None:
    shop.process(GOOD, schemas=of(shop, SHOP))
    shop.silver.failures.append(("put", PreconditionFailed("somebody was first")))
    with pytest.raises(PreconditionFailed):
        take_over(shop.silver, shop.quarantine, "orders", OTHER)
    assert recorded(shop).owner == "shop"


def test_buckets_that_are_not_there_are_nobodys() -> None:
    assert others(None, None, "orders", SHOP) == {}


names = st.text(max_size=8)


@given(names, st.lists(names).map(tuple))
def test_a_document_keeps_its_owner(owner: str, former: tuple[str, ...]) -> None:
    document = Document("orders", owner=owner, former=former)
    assert Document.from_json("orders", document.to_json()) == document
    damaged = json.loads(document.to_json())
    del damaged["schemas"]
    assert Document.from_json("orders", json.dumps(damaged).encode()) == document


@given(
    st.dictionaries(
        st.sampled_from(["owner", "former", "schemas", "history"]), st.none() | names | st.lists(names | st.none())
    )
)
def test_a_strange_document_is_no_error(content: dict[str, object]) -> None:
    result = Document.from_json("orders", json.dumps(content).encode())
    assert isinstance(result.owner, str)
    assert all(isinstance(name, str) for name in result.former)


@given(
    st.binary()
    | st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_a_strange_error_document_is_nobodys(body: bytes) -> None:
    assert isinstance(document_owner(body), str)


@given(names, names, st.lists(names).map(tuple))
def test_owners_whose_objects_may_be_replaced(owner: str, name: str, former: tuple[str, ...]) -> None:
    owners = replace(Document("orders"), owner=owner, former=former).owners(name)
    assert owners == ({"", name, *former} if owner in {"", name} else frozenset())


def test_documents_in_quarantine_name_their_owner(shop: Shop) -> None:
    shop.process(BROKEN, schemas=of(shop, SHOP))
    assert quarantined_by(shop, error_key("orders", KEY)) == "shop"
    shop.process(MIXED, schemas=of(shop, SHOP))
    assert quarantined_by(shop, rejected_key("orders", KEY)) == "shop"


def test_the_count_of_failed_tries_says_its_owner_and_is_nobody_else_s(shop: Shop) -> None:
    shop.bronze.put(KEY, GOOD)

    def task(owner: Owner) -> Task:
        lake = Lake(shop.bronze, shop.silver, shop.quarantine)
        lookups, schemas = Lookups(shop.bronze, ORDERS.lookups, shop.folder, name=ORDERS.name), of(shop, owner)
        return Task(ObjectEvent("bronze", KEY), ORDERS, lake, shop.folder, lookups, schemas, message_id="m")

    error = {"code": "TransformError", "message": "a bug"}
    assert [count_failure(task(SHOP), error), count_failure(task(SHOP), error)] == [1, 2]
    assert quarantined_by(shop, failed_key("orders", KEY)) == "shop"
    before = everything(shop)
    with pytest.raises(NotOurs, match="belongs to the pipeline shop, and this is other"):
        count_failure(task(OTHER), error)
    assert everything(shop) == before
    assert list(others(shop.silver, shop.quarantine, "orders", OTHER)) == ["shop"]


def quarantined_by(shop: Shop, key: str) -> str:
    head = shop.quarantine.head(key)
    assert head is not None
    return object_owner(shop.quarantine, head)
