"""The pattern tester: which transforms take a key or an event, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from silversmith.events import NotAnEvent, ObjectEvent, object_created, unwrap
from silversmith.page.context import ViewContext
from silversmith.patterns import compile_pattern
from silversmith.patterns.keys import KeyPattern
from silversmith.pipeline import Pipeline, Transform
from silversmith.stores.keys import InvalidKey, check
from silversmith.template.events import event_patterns


@dataclass(frozen=True)
class Answer:
    """Whether a transform takes it; ``why`` not, one reason a line."""

    transform: str
    pattern: str
    takes: bool
    why: Sequence[str]


@dataclass(frozen=True)
class Tried:
    """One key or event, and what each transform makes of it."""

    key: str
    is_event: bool
    answers: Sequence[Answer]


class NothingToTry(ValueError):
    """What was pasted is neither a key nor an event. The text says why."""


def tried(text: str, pipeline: Pipeline) -> list[Tried]:
    """Try what somebody pasted: a JSON object is an event, anything else a key.

    Raises:
        NothingToTry: it can be neither.
    """
    text = text.strip("\r\n")
    if not text.strip():
        raise NothingToTry("Paste a key, such as orders/may.csv, or an event as JSON.")
    if not text.lstrip().startswith("{"):
        return [_of_key(text, pipeline)]
    try:
        events = unwrap(text)
        whole = orjson.loads(text)
    except (NotAnEvent, orjson.JSONDecodeError) as error:
        raise NothingToTry(str(error)) from None
    if not events:
        raise NothingToTry("S3 sends this to try the notification out. It tells of no object, and is dropped.")
    is_raw = "detail" in whole
    return [_of_event(event, whole if is_raw else _as_event(event), pipeline) for event in events]


def _of_key(key: str, pipeline: Pipeline) -> Tried:
    try:
        check(key)
    except InvalidKey as error:
        raise NothingToTry(str(error)) from None
    event = ObjectEvent(pipeline.bronze, key)
    return Tried(key, False, [_answer(transform, pipeline, key, _as_event(event)) for transform in pipeline.transforms])


def _of_event(event: ObjectEvent, whole: Mapping[str, Any], pipeline: Pipeline) -> Tried:
    return Tried(event.key, True, [_answer(transform, pipeline, event.key, whole) for transform in pipeline.transforms])


def _as_event(event: ObjectEvent) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(object_created(event, reason="PutObject"))
    if event.deleted:
        body["detail-type"] = "Object Deleted"
    return body


def _answer(transform: Transform, pipeline: Pipeline, key: str, event: Mapping[str, Any]) -> Answer:
    """By the event pattern of a rule for this transform alone: what EventBridge would decide by."""
    pattern = event_patterns(pipeline.bronze, [transform.pattern])[0]
    takes = compile_pattern(pattern).matches(event)
    why = [] if takes else list(_reasons(pattern, event, transform.pattern, key))
    return Answer(transform.name, transform.pattern.text, takes, why)


def _reasons(pattern: Mapping[str, Any], event: Mapping[str, Any], keys: KeyPattern, key: str) -> Iterator[str]:
    for path, leaf in _leaves(pattern):
        if compile_pattern(_nested(path, leaf)).matches(event):
            continue
        if path == ("detail", "object", "key"):
            yield why_not(keys, key)
        else:
            value = orjson.dumps(_at(event, path)).decode()
            yield f"{'.'.join(path)} is {value}, and the rule wants {' or '.join(map(_told, leaf))}"


def why_not(pattern: KeyPattern, key: str) -> str:
    """Where a key that does not match leaves the pattern."""
    pieces = pattern.pieces
    if len(pieces) == 1:
        return f"the key is not {pieces[0]}, and the pattern has no *"
    if not key.startswith(pieces[0]):
        return f"the key does not begin with {pieces[0]}"
    at = len(pieces[0])
    for piece in pieces[1:-1]:
        index = key.find(piece, at)
        if index < 0:
            return f"after {key[:at]} there is no {piece} in the key"
        at = index + len(piece)
    if not key.endswith(pieces[-1]):
        return f"the key does not end with {pieces[-1]}"
    return f"after {key[:at]} there is no room for {pieces[-1]} at the end"


def _leaves(pattern: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    for name, value in pattern.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _nested(path: Sequence[str], leaf: Any) -> dict[str, Any]:
    for name in reversed(path):
        leaf = {name: leaf}
    return dict(leaf)


def _at(event: Any, path: Sequence[str]) -> Any:
    for name in path:
        event = event.get(name) if isinstance(event, Mapping) else None
    return event


def _told(condition: Any) -> str:
    return str(orjson.dumps(condition).decode())


async def patterns(request: Request) -> Response:
    """``/patterns``: a key in the URL (``?text=``), or what was pasted into the form."""
    context = ViewContext.of(request)
    fields = await context.form(request) if request.method == "POST" else request.query_params
    text = fields.get("text", "")
    problem, attempts = "", list[Tried]()
    if text:
        try:
            attempts = tried(text, context.backend.pipeline)
        except NothingToTry as error:
            problem = str(error)
    values = {"title": "Pattern tester", "text": text, "tried": attempts, "problem": problem}
    return context.answer(request, "patterns.html", values)
