"""The user's own function over the compiled template: the way to all that no option is for."""

from __future__ import annotations

import json
from typing import Any

from silversmith.errors import DefinitionError
from silversmith.pipeline.deployment import Patch
from silversmith.usercode.loading import user_traceback

_SECTIONS = ("Parameters", "Resources", "Outputs")


def patched(template: dict[str, Any], patch: Patch) -> dict[str, Any]:
    """The template after the patch: what it returns, or the template itself, which it may edit.

    Raises:
        DefinitionError: it raised, or what it made is no template.
    """
    name = getattr(patch, "__qualname__", repr(patch))
    try:
        answer = patch(template)
    except Exception as error:
        raise DefinitionError(user_traceback(f"the patch {name}", error, "failed")) from error
    result = template if answer is None else answer
    if problem := _problem(result):
        raise DefinitionError(
            f"the patch {name} makes no template: {problem}. It gets the template as a dictionary, and edits it or "
            "returns another one"
        )
    plain: dict[str, Any] = json.loads(json.dumps(result))
    return plain


def _problem(template: object) -> str:
    if not isinstance(template, dict):
        return f"it returned {type(template).__name__}"
    try:
        json.dumps(template, allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"it is no JSON: {error}"
    for section in _SECTIONS:
        if not isinstance(template.get(section, {}), dict):
            return f"{section} is {type(template[section]).__name__}, no dictionary"
    for logical, resource in template.get("Resources", {}).items():
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            return f'the resource {logical} has no Type: {{"Type": "AWS::…", "Properties": {{…}}}}'
        if not isinstance(resource.get("Properties", {}), dict):
            return f"the Properties of the resource {logical} are no dictionary"
    return "" if template.get("Resources") else "it has no Resources"
