"""What a deployment would change, as lines for a person. Pure.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-updating-stacks-changesets.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Effect(StrEnum):
    """What happens to a resource."""

    ADD = "add"
    ADOPT = "adopt"  #: it is there already, and becomes the stack's
    CHANGE = "change"
    REPLACE = "replace"  #: a new one is made, and the old one deleted
    PERHAPS_REPLACE = "perhaps replace"  #: only AWS will know, when it does it
    DELETE = "delete"
    LET_GO = "let go"  #: it stays, and is not the stack's any more


_SIGNS = {
    Effect.ADD: "+",
    Effect.ADOPT: "+",
    Effect.CHANGE: "~",
    Effect.REPLACE: "!",
    Effect.PERHAPS_REPLACE: "!",
    Effect.DELETE: "-",
    Effect.LET_GO: "-",
}

#: Replaced as a matter of course, with nothing to lose: each is one state of the code.
_MADE_ANEW = frozenset({"AWS::Lambda::LayerVersion", "AWS::Lambda::Version"})

_LONGEST = 100


@dataclass(frozen=True)
class Change:
    """One resource. ``details`` are its properties that change; ``name`` is its physical name, where it has one yet."""

    effect: Effect
    logical: str
    kind: str
    name: str = ""
    details: tuple[str, ...] = ()

    @property
    def loses(self) -> bool:
        """Whether something that exists is, or may be, deleted by it."""
        harmful = self.effect in {Effect.REPLACE, Effect.PERHAPS_REPLACE, Effect.DELETE}
        return harmful and self.kind not in _MADE_ANEW

    def lines(self) -> list[str]:
        """The resource, and below it what of it changes."""
        name = f" {self.name}" if self.name else ""
        warning = "   ← what it holds is lost" if self.loses else ""
        first = f"{_SIGNS[self.effect]} {self.effect}: {self.logical} ({self.kind}){name}{warning}"
        return [first, *(f"    {detail}" for detail in self.details)]


@dataclass(frozen=True)
class Diff:
    """All changes, what loses something first. Empty: nothing to do."""

    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.changes)

    @property
    def losses(self) -> tuple[Change, ...]:
        """What a person should be asked about."""
        return tuple(change for change in self.changes if change.loses)

    def lines(self) -> list[str]:
        """For a person."""
        if not self.changes:
            return ["nothing changes"]
        return [line for change in self.changes for line in change.lines()]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"changes": [{**vars(each), "effect": each.effect.value, "loses": each.loses} for each in self.changes]}


def of_new(template: Mapping[str, Any]) -> Diff:
    """Everything of the template is new."""
    resources = template["Resources"].items()
    return Diff(tuple(Change(Effect.ADD, logical, resource["Type"]) for logical, resource in resources))


def of_change_set(
    changes: Iterable[Mapping[str, Any]],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    parameters: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
) -> Diff:
    """What CloudFormation said, with what differs between the templates.

    Args:
        changes: ``Changes`` of DescribeChangeSet, all pages.
        old: the template that is deployed.
        new: the one that would be.
        parameters: the values of the parameters, before and after.
    """
    found = []
    for each in changes:
        change = each.get("ResourceChange")
        if change:
            logical = change["LogicalResourceId"]
            before = _resource(old, logical, parameters[0])
            after = _resource(new, logical, parameters[1])
            found.append(_change(change, before, after))
    return Diff(tuple(sorted(found, key=lambda change: (not change.loses, change.logical))))


def _change(change: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    effect = _effect(change, before)
    details = (
        tuple(_details(change, before.get("Properties", {}), after.get("Properties", {})))
        if effect in {Effect.CHANGE, Effect.REPLACE, Effect.PERHAPS_REPLACE}
        else ()
    )
    return Change(
        effect, change["LogicalResourceId"], change["ResourceType"], change.get("PhysicalResourceId") or "", details
    )


def _effect(change: Mapping[str, Any], before: Mapping[str, Any]) -> Effect:
    action = change["Action"]
    if action == "Remove":
        kept = change.get("PolicyAction", before.get("DeletionPolicy")) in {"Retain", "RetainExceptOnCreate"}
        return Effect.LET_GO if kept else Effect.DELETE
    if action in {"Add", "Import"}:
        return Effect.ADD if action == "Add" else Effect.ADOPT
    if action == "Dynamic":
        return Effect.PERHAPS_REPLACE
    replacement = change.get("Replacement", "False")
    return {"True": Effect.REPLACE, "Conditional": Effect.PERHAPS_REPLACE}.get(replacement, Effect.CHANGE)


def _details(change: Mapping[str, Any], before: Any, after: Any) -> Iterator[str]:
    recreating = {
        detail["Target"].get("Name")
        for detail in change.get("Details", ())
        if detail.get("Target", {}).get("RequiresRecreation", "Never") != "Never"
    }
    seen = False
    for path, one, other in differences(before, after):
        seen = True
        why = " (needs a new one)" if path.partition(".")[0] in recreating else ""
        yield f"{path}: {_shown(one)} → {_shown(other)}{why}"
    if not seen:
        sources = sorted({detail["CausingEntity"] for detail in change.get("Details", ()) if "CausingEntity" in detail})
        yield f"because of {', '.join(sources)}" if sources else "a value that it refers to changes"


_NOTHING = object()


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two values differ: the path, as ``Environment.Variables.X`` or ``Tags[0]``, and what is there in each."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            below = f"{path}.{name}" if path else str(name)
            yield from differences(before.get(name, _NOTHING), after.get(name, _NOTHING), below)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{path}[{at}]")
    elif before != after or type(before) is not type(after):
        yield path, before, after


def _shown(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _resource(template: Mapping[str, Any], logical: str, parameters: Mapping[str, str]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _filled(template.get("Resources", {}).get(logical, {}), parameters)
    return found


def _filled(value: Any, parameters: Mapping[str, str]) -> Any:
    """With the values of parameters in the place of references to them."""
    if isinstance(value, Mapping):
        if set(value) == {"Ref"} and value["Ref"] in parameters:
            return parameters[value["Ref"]]
        return {name: _filled(inner, parameters) for name, inner in value.items()}
    return [_filled(inner, parameters) for inner in value] if isinstance(value, list) else value
