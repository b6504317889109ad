"""IAM as AWS evaluates it, as far as the template's policies go, and stores that ask it before every access."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from silversmith.errors import AccessDenied, SilversmithError
from silversmith.stores import Head, Put, Source, Store


class UnsupportedPolicy(SilversmithError):
    """A policy says something that is not understood here. It is never taken as an Allow."""


class Verdict(StrEnum):
    """What one policy says of one request."""

    ALLOWED = "allowed"
    DENIED = "denied"  #: by a statement with Effect Deny, which no other policy can outweigh
    SILENT = "silent"  #: no statement applies: denied unless another policy allows it


Test = Callable[[str], bool]


@dataclass(frozen=True)
class Condition:
    """One key of a condition block, in lower case. ``absent`` is the answer for a request that has no such key."""

    key: str
    holds: Test
    absent: bool

    def met(self, context: Mapping[str, str]) -> bool:
        value = context.get(self.key)
        return self.absent if value is None else self.holds(value)


@dataclass(frozen=True)
class Statement:
    """One statement, compiled. ``principals`` None: it is an identity's policy, which speaks of its own identity."""

    sid: str
    allow: bool
    action: Test
    resource: Test
    principals: frozenset[str] | None
    conditions: tuple[Condition, ...]

    def applies(self, action: str, principal: str | None, context: Mapping[str, str]) -> bool:
        """Whether it applies to a request on any of its resources."""
        return (
            self.action(action)
            and _includes(self.principals, principal)
            and all(condition.met(context) for condition in self.conditions)
        )


@dataclass(frozen=True)
class Policy:
    """The statements of one or several policy documents. ``name`` is the logical id under which to change them.

    Made by :meth:`parse`. It can be pickled: a worker process gets it and compiles it again.
    """

    name: str
    documents: tuple[Mapping[str, Any], ...]
    statements: tuple[Statement, ...] = field(compare=False, repr=False)

    @staticmethod
    def parse(name: str, *documents: Mapping[str, Any]) -> Policy:
        """Compile policy documents, all of their values resolved.

        Raises:
            UnsupportedPolicy: an operator, principal or element that is not understood here.
        """
        found = [
            _statement(name, statement) for document in documents for statement in _list(document.get("Statement", []))
        ]
        return Policy(name, documents, tuple(found))

    def __reduce__(self) -> tuple[Callable[..., Policy], tuple[Any, ...]]:
        return Policy.parse, (self.name, *self.documents)

    def verdict(
        self, action: str, resource: str, *, principal: str | None = None, context: Mapping[str, str] | None = None
    ) -> Verdict:
        """What this policy says of ``principal`` (a service's name or an ARN) doing ``action`` on ``resource``.

        The names of ``context`` are in any case. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
        """
        return self.on(action, principal=principal, context=context)(resource)

    def on(
        self, action: str, *, principal: str | None = None, context: Mapping[str, str] | None = None
    ) -> Callable[[str], Verdict]:
        """:meth:`verdict` by the resource: for who asks of many, all that does not depend on it is decided once."""
        given = {key.lower(): value for key, value in context.items()} if context else {}
        applying = [found for found in self.statements if found.applies(action, principal, given)]
        denied = _any([found.resource for found in applying if not found.allow])
        allowed = _any([found.resource for found in applying if found.allow])

        def verdict(resource: str) -> Verdict:
            if denied(resource):
                return Verdict.DENIED
            return Verdict.ALLOWED if allowed(resource) else Verdict.SILENT

        return verdict

    def allows(
        self, action: str, resource: str, *, principal: str | None = None, context: Mapping[str, str] | None = None
    ) -> bool:
        """Whether this policy alone allows it."""
        return self.verdict(action, resource, principal=principal, context=context) is Verdict.ALLOWED


def check(
    policies: Iterable[Policy],
    action: str,
    resource: str,
    *,
    principal: str,
    context: Mapping[str, str] | None = None,
) -> None:
    """Let a request of one account pass: some policy of its identity or of the resource allows it and none denies it.

    Raises:
        AccessDenied: with the logical id of the policy to change.
    """
    asked = list(policies)
    allowed = False
    for policy in asked:
        verdict = policy.verdict(action, resource, principal=principal, context=context)
        if verdict is Verdict.DENIED:
            raise AccessDenied(
                f"{principal} may not {action} on {resource}: a Deny statement of {policy.name} forbids it"
            )
        allowed = allowed or verdict is Verdict.ALLOWED
    if not allowed:
        names = " or ".join(policy.name for policy in asked) or "any policy"
        raise AccessDenied(
            f"{principal} may not {action} on {resource}: no statement of {names} in the template allows it"
        )


_ELEMENTS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "Condition"}


def _statement(policy: str, statement: Mapping[str, Any]) -> Statement:
    unknown = sorted(set(statement) - _ELEMENTS)
    if unknown:
        raise UnsupportedPolicy(f"{policy}: a statement has {', '.join(unknown)}, which is not understood here")
    effect = statement.get("Effect")
    if effect not in {"Allow", "Deny"}:
        raise UnsupportedPolicy(f"{policy}: a statement's Effect is {effect!r}, neither Allow nor Deny")
    conditions = tuple(
        _condition(policy, operator, key, [str(value) for value in _list(values)])
        for operator, block in statement.get("Condition", {}).items()
        for key, values in block.items()
    )
    return Statement(
        sid=str(statement.get("Sid", "")),
        allow=effect == "Allow",
        action=_either(policy, statement, "Action", _action),
        resource=_either(policy, statement, "Resource", _arn),
        principals=_principals(policy, statement["Principal"]) if "Principal" in statement else None,
        conditions=conditions,
    )


def _either(policy: str, statement: Mapping[str, Any], name: str, compiled: Callable[[str], Test]) -> Test:
    """The test of an element or of its opposite: ``Action`` or ``NotAction``."""
    given = [form for form in (name, f"Not{name}") if form in statement]
    if len(given) != 1:
        raise UnsupportedPolicy(f"{policy}: a statement must have one of {name} and Not{name}")
    tests = [compiled(pattern) for pattern in _list(statement[given[0]])]
    return _any(tests) if given[0] == name else _none(tests)


def _any(tests: Sequence[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)


def _none(tests: Sequence[Test]) -> Test:
    return lambda value: not any(test(value) for test in tests)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _action(pattern: str) -> Test:
    """Actions ignore case. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html"""
    return _glob(pattern, re.IGNORECASE)


def _arn(pattern: str) -> Test:
    """The six parts of an ARN are compared one by one, so that no wildcard reaches past a colon into the next part.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html
    """
    if pattern == "*":
        return lambda _: True
    parts = pattern.split(":", 5)
    tests = [_glob(part) for part in parts]
    *beginning, _ = parts
    if len(parts) == 6 and not re.search(r"[*?$]", "".join(beginning)):
        begins, last = ":".join(beginning) + ":", tests[-1]
        return lambda arn: arn.startswith(begins) and last(arn[len(begins) :])

    def same(arn: str) -> bool:
        found = arn.split(":", 5)
        return len(found) == len(tests) and all(test(part) for test, part in zip(tests, found, strict=True))

    return same


_TOKENS = re.compile(r"\$\{([^}]*)\}|[*?]|[^*?$]+|\$")


@lru_cache(maxsize=1024)
def _glob(pattern: str, flags: int = 0) -> Test:
    """``*`` is any run of characters, ``?`` any one; ``${*}``, ``${?}`` and ``${$}`` are those characters themselves.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """
    expression = ""
    for token in _TOKENS.finditer(pattern):
        text = token.group()
        if token.group(1) is not None:
            if token.group(1) not in {"*", "?", "$"}:
                raise UnsupportedPolicy(f"the policy variable {text} in {pattern!r} is not understood here")
            expression += re.escape(token.group(1))
        else:
            expression += {"*": ".*", "?": "."}.get(text, re.escape(text))
    if expression == re.escape(pattern) and not flags:
        return pattern.__eq__
    matches = re.compile(expression, flags | re.DOTALL).fullmatch
    return lambda value: matches(value) is not None


def _principals(policy: str, principal: Any) -> frozenset[str]:
    """Service names, ARNs, account numbers, or ``*`` for anybody."""
    if principal == "*":
        return frozenset("*")
    if not isinstance(principal, Mapping) or not set(principal) <= {"Service", "AWS"}:
        raise UnsupportedPolicy(f"{policy}: the principal {principal!r} is not understood here")
    return frozenset(str(value) for values in principal.values() for value in _list(values))


def _includes(principals: frozenset[str] | None, principal: str | None) -> bool:
    if principals is None or "*" in principals:
        return True
    if principal is None:
        return False
    if principal in principals:
        return True
    account = principal.split(":")[4] if principal.startswith("arn:") else ""
    return bool(account) and any(
        name == account or (name.startswith("arn:") and name.endswith(f"::{account}:root")) for name in principals
    )


def _equal(value: str) -> Test:
    return value.__eq__


def _bool(value: str) -> Test:
    return lambda found: found.lower() == value.lower()


#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
_OPERATORS: Mapping[str, Callable[[str], Test]] = {
    "StringEquals": _equal,
    "StringLike": _glob,
    "ArnEquals": _arn,
    "ArnLike": _arn,
    "Bool": _bool,
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def _condition(policy: str, operator: str, key: str, values: Sequence[str]) -> Condition:
    """A missing key fails an operator, satisfies its negation, and satisfies any operator with ``IfExists``."""
    plain = operator.removesuffix("IfExists")
    negated = plain in _NEGATED
    compiled = _OPERATORS.get(_NEGATED.get(plain, plain))
    if compiled is None:
        raise UnsupportedPolicy(f"{policy}: the condition operator {operator} is not understood here")
    tests = [compiled(value) for value in values]
    return Condition(key.lower(), _none(tests) if negated else _any(tests), absent=negated or plain != operator)


#: Raises AccessDenied unless the action (``s3:GetObject``) is allowed on the resource (an ARN).
Check = Callable[[str, str], None]


class GuardedStore:
    """A :class:`~silversmith.stores.Store` whose every call is checked first, under the actions that S3 would check.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html

    Args:
        store: what does the work.
        arn: the bucket's ARN.
        check: raises AccessDenied for what no policy allows.
    """

    def __init__(self, store: Store, *, arn: str, check: Check) -> None:
        self._store = store
        self._arn = arn
        self._check = check

    def _object(self, action: str, key: str) -> None:
        self._check(action, f"{self._arn}/{key}")

    def _missing(self) -> None:
        """S3 tells that there is no such object only to those who may list the bucket; others get 403."""
        self._check("s3:ListBucket", self._arn)

    def _comparing(self, key: str, if_match: str | None) -> None:
        """To compare an object's etag is to read it; whether there is one at all, who writes it may know.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-delete-enforce.html
        """
        if if_match is not None:
            self._object("s3:GetObject", key)

    def head(self, key: str) -> Head | None:
        self._object("s3:GetObject", key)
        found = self._store.head(key)
        if found is None:
            self._missing()
        return found

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        self._object("s3:GetObject", key)
        with self._store.open(key) as source:
            if source is None:
                self._missing()
            yield source

    def verify(self, source: Source) -> None:
        self._store.verify(source)

    def read(self, key: str) -> bytes | None:
        self._object("s3:GetObject", key)
        found = self._store.read(key)
        if found is None:
            self._missing()
        return found

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        self._object("s3:PutObject", key)
        self._comparing(key, if_match)
        return self._store.put(key, body, metadata=metadata, if_match=if_match, if_none_match=if_none_match)

    def put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        refusals = [self._refusal(put) for put in puts]
        allowed = [put for put, refusal in zip(puts, refusals, strict=True) if refusal is None]
        made = iter(self._store.put_all(allowed))
        return [next(made) if refusal is None else refusal for refusal in refusals]

    def _refusal(self, put: Put) -> AccessDenied | None:
        try:
            self._object("s3:PutObject", put.key)
            self._comparing(put.key, put.if_match)
        except AccessDenied as error:
            return error
        return None

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._object("s3:DeleteObject", key)
        self._comparing(key, if_match)
        self._store.delete(key, if_match=if_match)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        self._missing()
        return self._store.list(prefix, start_after=start_after)
