"""The transforms: their code, their contract, how the schema of their silver became what it is."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from silversmith.page import declared
from silversmith.page.desk import Desk
from silversmith.schemas import Schemas


async def transforms(request: Request) -> Response:
    """``/transforms``"""
    desk = Desk.of(request)
    return desk.answer(request, "transforms.html", {"title": "Transforms"})


async def transform(request: Request) -> Response:
    """``/transforms/{name}``"""
    desk = Desk.of(request)
    name = request.path_params["name"]
    found = next((each for each in desk.place.pipeline.transforms if each.name == name), None)
    if found is None:
        raise HTTPException(404)
    document = await desk.ask(lambda _, target: Schemas(target.lake.silver, name).look().document)
    contract = found.contract
    values = {
        "title": name,
        "transform": found,
        "deployed": desk.place.deployed,
        "code": declared.code(found),
        "columns": declared.columns(contract) if contract else [],
        "rules": [(rule, str(expr)) for rule, expr in contract.rules.items()] if contract else [],
        "expectations": declared.expectations(contract) if contract else [],
        "options": declared.options(found),
        "schema": document.of(found.fingerprint),
        "history": list(reversed(document.history)),
    }
    return desk.answer(request, "transform.html", values)
