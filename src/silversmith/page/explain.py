"""The explanation of an error code, as ``silversmith explain`` and the pages of the docs have it: it works offline."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from silversmith.operations.explain import explanations
from silversmith.page.context import ViewContext


async def explain(request: Request) -> Response:
    """``/explain/{code}``"""
    context = ViewContext.of(request)
    explanation = explanations().get(request.path_params["code"])
    if explanation is None:
        raise HTTPException(404)
    return context.answer(request, "explain.html", {"title": explanation.code, "explained": explanation.to_dict()})
