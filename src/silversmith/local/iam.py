"""IAM as AWS evaluates it, for the elements that the template's policies use, and stores that it guards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from silversmith.errors import AccessDenied, SilversmithError
from silversmith.stores import Head, Put, Source, Store


class UnsupportedPolicy(SilversmithError):
    """A policy has an element that is not understood here. It is never taken as an Allow."""


class PolicyVerdict(StrEnum):
    """One policy's answer to one request."""

    ALLOWED = "allowed"
    DENIED = "denied"  #: by a statement with Effect Deny, which no other policy can outweigh
    SILENT = "silent"  #: no statement applies: denied unless another policy allows it


Test = Callable[[str], bool]

#: Raises AccessDenied unless the action (``s3:GetObject``) is allowed on the resource (an ARN).
Check = Callable[[str, str], None]


#: Whether a condition is met by the context of a request, whose names are in lower case.
Condition = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True)
class Statement:
    """One statement, compiled. ``principals`` is None in the policy of an identity, which is its principal."""

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
            and all(condition(context) for condition in self.conditions)
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
        statements = [
            _statement(name, statement) for document in documents for statement in _list(document.get("Statement", []))
        ]
        return Policy(name, documents, tuple(statements))

    def __reduce__(self) -> tuple[Callable[..., Policy], tuple[Any, ...]]:
        return Policy.parse, (self.name, *self.documents)

    def verdicts(
        self, action: str, *, principal: str | None = None, context: Mapping[str, str] | None = None
    ) -> Callable[[str], PolicyVerdict]:
        """By the resource, what this policy says of ``principal`` (a service's name or an ARN) doing ``action``.

        All that does not depend on the resource is decided once. The names of ``context`` are in any case.
        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
        """
        keys = {key.lower(): value for key, value in (context or {}).items()}
        applying = [statement for statement in self.statements if statement.applies(action, principal, keys)]
        denied = _any([statement.resource for statement in applying if not statement.allow])
        allowed = _any([statement.resource for statement in applying if statement.allow])

        def verdict(resource: str) -> PolicyVerdict:
            if denied(resource):
                return PolicyVerdict.DENIED
            return PolicyVerdict.ALLOWED if allowed(resource) else PolicyVerdict.SILENT

        return verdict

    def allows(
        self, action: str, resource: str, *, principal: str | None = None, context: Mapping[str, str] | None = None
    ) -> bool:
        """Whether this policy alone allows it."""
        return self.verdicts(action, principal=principal, context=context)(resource) is PolicyVerdict.ALLOWED


def checker(policies: Iterable[Policy], *, principal: str, context: Mapping[str, str] | None = None) -> Check:
    """A check of the requests of one principal within its account: some policy of its identity or of the resource must
    allow a request, and none may deny it. Its AccessDenied names the logical id of the policy to change."""
    policies = tuple(policies)

    @cache
    def verdicts_of(action: str) -> list[Callable[[str], PolicyVerdict]]:
        return [policy.verdicts(action, principal=principal, context=context) for policy in policies]

    def check(action: str, resource: str) -> None:
        verdicts = [verdict(resource) for verdict in verdicts_of(action)]
        if PolicyVerdict.DENIED in verdicts:
            policy = policies[verdicts.index(PolicyVerdict.DENIED)]
            reason = f"a Deny statement of {policy.name} forbids it"
        elif PolicyVerdict.ALLOWED not in verdicts:
            names = " or ".join(policy.name for policy in policies) or "any policy"
            reason = f"no statement of {names} in the template allows it"
        else:
            return
        raise AccessDenied(f"{principal} may not {action} on {resource}: {reason}")

    return check


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
        allow=effect == "Allow",
        action=_either(policy, statement, "Action", _action),
        resource=_either(policy, statement, "Resource", _arn),
        principals=_principals(policy, statement["Principal"]) if "Principal" in statement else None,
        conditions=conditions,
    )


def _either(policy: str, statement: Mapping[str, Any], name: str, compiled: Callable[[str], Test]) -> Test:
    """The test of an element or of its opposite: ``Action`` or ``NotAction``."""
    forms = [form for form in (name, f"Not{name}") if form in statement]
    if len(forms) != 1:
        raise UnsupportedPolicy(f"{policy}: a statement must have one of {name} and Not{name}")
    tests = [compiled(pattern) for pattern in _list(statement[forms[0]])]
    return _any(tests) if forms[0] == name else _none(tests)


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

    def matches(arn: str) -> bool:
        others = arn.split(":", 5)
        return len(others) == len(tests) and all(test(part) for test, part in zip(tests, others, strict=True))

    return matches


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


#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
_OPERATORS: Mapping[str, Callable[[str], Test]] = {
    "StringEquals": lambda value: value.__eq__,
    "StringLike": _glob,
    "ArnEquals": _arn,
    "ArnLike": _arn,
    "Bool": lambda value: lambda actual: actual.lower() == value.lower(),
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
    holds, absent = _none(tests) if negated else _any(tests), negated or plain != operator

    def met(context: Mapping[str, str]) -> bool:
        value = context.get(key.lower())
        return absent if value is None else holds(value)

    return met


class GuardedStore:
    """A :class:`~silversmith.stores.Store` that checks each call first, under the actions that S3 would check.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html

    Args:
        store: the one that is guarded.
        arn: the bucket's ARN.
        check: raises AccessDenied for a request that no policy allows.
    """

    def __init__(self, store: Store, *, arn: str, check: Check) -> None:
        self._store = store
        self._arn = arn
        self._check = check

    def _require(self, action: str, key: str) -> None:
        self._check(action, f"{self._arn}/{key}")

    def _require_list(self) -> None:
        """S3 answers 404 for a missing object only to a caller that may list the bucket; others get 403."""
        self._check("s3:ListBucket", self._arn)

    def _require_compare(self, key: str, if_match: str | None) -> None:
        """A condition on an object's etag needs the right to read it; a condition that there is none does not.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-delete-enforce.html
        """
        if if_match is not None:
            self._require("s3:GetObject", key)

    def head(self, key: str) -> Head | None:
        self._require("s3:GetObject", key)
        head = self._store.head(key)
        if head is None:
            self._require_list()
        return head

    @contextmanager
    def open(self, key: str) -> Iterator[Source | None]:
        self._require("s3:GetObject", key)
        with self._store.open(key) as source:
            if source is None:
                self._require_list()
            yield source

    def verify(self, source: Source) -> None:
        self._store.verify(source)

    def read(self, key: str) -> bytes | None:
        self._require("s3:GetObject", key)
        body = self._store.read(key)
        if body is None:
            self._require_list()
        return body

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        self._require("s3:PutObject", key)
        self._require_compare(key, if_match)
        return self._store.put(key, body, metadata=metadata, if_match=if_match, if_none_match=if_none_match)

    def put_all(self, puts: Sequence[Put]) -> list[str | Exception]:
        refusals = [self._refusal(put) for put in puts]
        allowed = [put for put, refusal in zip(puts, refusals, strict=True) if refusal is None]
        results = iter(self._store.put_all(allowed))
        return [next(results) if refusal is None else refusal for refusal in refusals]

    def _refusal(self, put: Put) -> AccessDenied | None:
        try:
            self._require("s3:PutObject", put.key)
            self._require_compare(put.key, put.if_match)
        except AccessDenied as error:
            return error
        return None

    def delete(self, key: str, *, if_match: str | None = None) -> None:
        self._require("s3:DeleteObject", key)
        self._require_compare(key, if_match)
        self._store.delete(key, if_match=if_match)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[Head]:
        self._require_list()
        return self._store.list(prefix, start_after=start_after)
